"""One bridge network as it stands in the shared namespace: device, routes, leases, plugs.

Networks are kept apart by policy routing: packets that come in by a bridge are
routed by that bridge's own table, which knows its subnet, the way out by the
uplink (or none) and the other networks as unreachable.  No packet filter is
needed for that, and a container cannot change it: the tables are those of a
namespace in which it has no right.  What comes in with an address of another
network is routed nowhere.
"""

from __future__ import annotations

import os

from podpy.errors import Conflict, suppress
from podpy.kernel import netlink
from podpy.net import ipam
from podpy.net.addressing import EVERYTHING, family, packed
from podpy.netmodel import Attachment, Endpoint
from podpy.records import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from podpy.kernel.netlink import Route
    from podpy.net.uplink import HostAccess
    from podpy.netmodel import Network, Subnet

# A table's number is that of its bridge's interface on top of this: the same after a takeover.
_TABLES = 10000
_PRIORITY = 10000
# A helper that connects to one of these on behalf of a container reaches the host's loopback:
# IPv4 addresses in IPv6 clothes, and "this host".  No router of the world has a use for them.
_THIS_HOST = ("::/96", "::ffff:0:0/96", "0.0.0.0/8")


def _known(subnets: Iterable[str]) -> list[str]:
    """Those of the subnets whose family the kernel knows."""
    has_ipv6 = os.path.exists("/proc/net/if_inet6")
    return [each for each in subnets if has_ipv6 or ":" not in each]


class Segment:
    """The bridge of one network.  Makes the device, or takes over the one that is there."""

    def __init__(self, network: Network, route: Route, mtu: int) -> None:
        self.network = network
        self.mtu = network.mtu or mtu
        self.members: set[str] = set()
        self.host = ""
        self._route = route
        self._leases: dict[str, str] = {}
        self._last: dict[str, str] = {}
        self.index = self._make_device()
        self.table = _TABLES + self.index
        for rule in self._rules():
            with suppress(FileExistsError):
                route.add_rule(rule)
        self._add_own_routes()

    def _make_device(self) -> int:
        name = self.network.interface
        with suppress(FileExistsError):
            self._route.add_bridge(name, self.mtu)
        index = self._route.index(name)
        for subnet in self.network.subnets:
            if subnet.gateway:
                with suppress(FileExistsError):
                    self._route.add_address(index, subnet.gateway, _length(subnet))
        return index

    def _rules(self) -> tuple[netlink.Rule, ...]:
        """What comes from the network's own addresses has a table; nothing else goes anywhere.

        Else a container could speak for one of another network, and the world would
        answer that one.
        """
        own = [(each.subnet, self.table, _PRIORITY) for each in self.network.subnets]
        own += [(everything, 0, _PRIORITY + 1) for everything in _known(EVERYTHING.values())]
        return tuple(
            netlink.Rule(
                family=family(source),
                table=table,
                priority=priority,
                interface=self.network.interface,
                source=source,
            )
            for source, table, priority in own
        )

    def _add_own_routes(self) -> None:
        for subnet in self.network.subnets:
            self._add_route(subnet.subnet, index=self.index)
        closed = (*_THIS_HOST, *(EVERYTHING.values() if self.network.internal else ()))
        for closed_one in _known(closed):
            self._add_route(closed_one, kind=netlink.RTN_UNREACHABLE)

    def _add_route(
        self, subnet: str, *, gateway: str = "", index: int = 0, kind: int = netlink.RTN_UNICAST
    ) -> None:
        with suppress(FileExistsError):
            self._route.add_route(subnet, gateway=gateway, index=index, table=self.table, kind=kind)

    # --- the ways out --------------------------------------------------------

    def lead_out(self, gateways: Iterable[str], index: int, hidden: Iterable[str] = ()) -> None:
        """Route what is for elsewhere by the uplink; called again for each new uplink.

        ``hidden`` are the subnets that it cannot reach.
        """
        if not self.network.internal:
            for gateway in gateways:
                self._add_route(EVERYTHING[family(gateway)], gateway=gateway, index=index)
            for subnet in hidden:
                self._add_route(subnet, kind=netlink.RTN_UNREACHABLE)

    def lead_to_host(self, access: HostAccess) -> None:
        """Route what is for the host's loopback to where that is."""
        self.host = access.address
        self._add_route(access.subnet, index=access.index)

    def keep_from(self, other: Segment) -> None:
        """Make another network unreachable, unless both are open to their neighbours."""
        for subnet in other.network.subnets:
            if self.network.isolate or other.network.isolate:
                self._add_route(subnet.subnet, kind=netlink.RTN_UNREACHABLE)
            else:
                self._add_route(subnet.subnet, index=other.index)

    def remove(self) -> None:
        """Take the bridge away with its rules and routes."""
        for rule in self._rules():
            self._route.remove_rule(rule)
        self._route.remove_link(self.index)  # the routes by it go with it
        self._reopen(_known((*_THIS_HOST, *EVERYTHING.values())))

    def forget(self, other: Segment) -> None:
        """Another network is gone: its subnets may be somebody else's tomorrow."""
        self._reopen(subnet.subnet for subnet in other.network.subnets)

    def _reopen(self, subnets: Iterable[str]) -> None:
        for subnet in subnets:
            self._route.remove_route(subnet, table=self.table, kind=netlink.RTN_UNREACHABLE)

    def is_in_the_way_of(self, network: Network) -> bool:
        """Whether this one has its place: it is then of a network that was removed."""
        own = [ipam.cidr(each.subnet, "subnet") for each in self.network.subnets]
        wanted = [ipam.cidr(each.subnet, "subnet") for each in network.subnets]
        return (
            self.network.name == network.name
            or self.network.interface == network.interface
            or any(mine.overlaps(each) for mine in own for each in wanted)
        )

    # --- leases --------------------------------------------------------------

    def lease(self, container: str, wanted: Attachment) -> Endpoint:
        """Addresses for a container, by its own wish where it has one."""
        given: dict[str, Any] = {}
        for suffix, asked in (("", wanted.ip), ("6", wanted.ip6)):
            fitting = [
                each
                for each in self.network.subnets
                if (":" in each.subnet) == bool(suffix) and (not asked or _holds(each, asked))
            ]
            if fitting:
                subnet, address = self._take(container, fitting, asked)
                given[f"address{suffix}"] = address
                given[f"gateway{suffix}"] = subnet.gateway
                given[f"prefix{suffix}"] = _length(subnet)
        return Endpoint(
            network=self.network.name,
            network_id=self.network.id,
            mac=wanted.mac or _mac(given.get("address") or given["address6"]),
            host=self.host,
            aliases=wanted.aliases,
            **given,
        )

    def _take(self, container: str, subnets: Sequence[Subnet], asked: str) -> tuple[Subnet, str]:
        """The address that is asked for, or else one of the first subnet that has one free."""
        if asked:
            if self._leases.get(asked, container) != container:
                raise Conflict(
                    f"network {self.network.name}: address {asked} is in use by container"
                    f" {self._leases[asked][:12]}",
                    hint="choose another one, or leave --ip out",
                )
            self._leases[asked] = container
            return subnets[0], asked
        subnet, *others = subnets
        try:
            found = ipam.lease(subnet, self._leases, self._last.get(subnet.subnet, ""))
        except Conflict:
            if not others:
                raise
            return self._take(container, others, "")
        self._last[subnet.subnet] = found
        self._leases[found] = container
        return subnet, found

    def restore(self, container: str, endpoint: Endpoint) -> Endpoint:
        """The leases of a container that comes back to a new supervisor.

        Other ones where somebody has its address meanwhile: when the runtime directory
        is deleted there are two supervisors for a moment, who do not know each other.
        """
        own = endpoint.addresses
        if any(self._leases.get(address, container) != container for address in own):
            is_derived = endpoint.mac == _mac(own[0])
            wanted = Attachment(
                network=endpoint.network,
                mac="" if is_derived else endpoint.mac,
                aliases=endpoint.aliases,
            )
            return replace(self.lease(container, wanted), interface=endpoint.interface)
        for subnet in self.network.subnets:
            address = endpoint.address6 if ":" in subnet.subnet else endpoint.address
            if address and _holds(subnet, address):
                self._leases[address] = container
                self._last[subnet.subnet] = address
        return endpoint

    def release(self, container: str) -> None:
        self.members.discard(container)
        for address in [a for a, holder in self._leases.items() if holder == container]:
            del self._leases[address]

    # --- plugs ---------------------------------------------------------------

    def plug(self, endpoint: Endpoint, device: str, netns: int, *, up: bool) -> None:
        """Make a container's interface; a leftover device of that name makes way."""
        veth = netlink.Veth(
            name=device,
            master=self.index,
            mtu=self.mtu,
            up=up,
            peer=endpoint.interface,
            peer_mac=endpoint.mac,
            peer_namespace=netns,
        )
        try:
            self._route.add_veth(veth)
        except FileExistsError:
            self._route.remove_link(self._route.index(device))
            self._route.add_veth(veth)

    def configure(self, endpoint: Endpoint, inside: Route) -> None:
        """Bring a container's interface up, with its addresses and the network's own routes."""
        index = inside.index(endpoint.interface)
        inside.set_up(index)
        if endpoint.address:
            inside.add_address(index, endpoint.address, endpoint.prefix)
        if endpoint.address6:
            inside.add_address(index, endpoint.address6, endpoint.prefix6)
        for subnet, gateway in self.network.routes:
            inside.add_route(subnet, gateway=gateway)


def set_default_routes(endpoints: Iterable[Endpoint], internal: set[str], inside: Route) -> None:
    """A container's way out is its first network that has one, for each family by itself."""
    open_ones = [each for each in endpoints if each.network not in internal]
    for name in ("gateway", "gateway6"):
        for endpoint in open_ones:
            gateway = getattr(endpoint, name)
            if gateway:
                with suppress(FileExistsError):
                    inside.add_route(EVERYTHING[family(gateway)], gateway=gateway)
                break


def _mac(address: str) -> str:
    """A locally administered address made of the IP address: the same lease, the same neighbour."""
    return ":".join(f"{byte:02x}" for byte in b"\x02\x42" + packed(address)[-4:])


def _length(subnet: Subnet) -> int:
    return int(subnet.subnet.partition("/")[2])


def _holds(subnet: Subnet, address: str) -> bool:
    return ipam.cidr(subnet.subnet, "subnet").holds(ipam.address(address, "address")[1])
