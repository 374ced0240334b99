"""The networks as they stand: segments, the uplink, names and policies, and who is on them.

Everything here is the kernel's or a helper's state; the connections by which
containers come and go are those of :mod:`.bridge`.  The order in which a
container is given its parts matters: its policy stands before its plug, and its
plug before its name.
"""

from __future__ import annotations

from podpy.errors import Conflict, suppress
from podpy.net import allowance, resolv
from podpy.net.dns import Resolver
from podpy.net.egress import Guard
from podpy.net.gateways import Gateways
from podpy.net.segment import Segment, set_default_routes
from podpy.net.uplink import Uplink
from podpy.netmodel import Attachment, Endpoint, Network, PortMapping
from podpy.records import from_dict, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from podpy.kernel.loop import Loop
    from podpy.net.inner import Inner
    from podpy.net.member import Member

_TIDY = 1.0  # seconds until the bridge of a network without containers goes
_SYSCTLS = (
    ("ipv4/ip_forward", "1"),
    ("ipv6/conf/all/forwarding", "1"),
    # A new bridge looks for its containers at once, and not when it has made sure for seconds
    # that nobody else has its link-local address.
    ("ipv6/conf/default/accept_dad", "0"),
)
_QUESTIONS = 10  # sockets of gateways that a container's supervisor keeps at most


class Fabric:
    """All that stands in the shared namespace.

    ``place`` is the supervisor's directory; ``report`` is called with a
    container's id and what its egress policy denied; ``life_line`` keeps an
    uplink that runs already (-1: there is none).
    """

    def __init__(
        self, place: str, loop: Loop, inner: Inner, *, life_line: int,
        report: Callable[[str, Sequence[Any]], None],
    ) -> None:  # fmt: skip
        self.inner = inner
        self._loop = loop
        self._members: dict[str, Member] = {}
        self._segments: dict[str, Segment] = {}
        self._guard = Guard(loop, inner, report)
        self._gateways = Gateways(inner)
        self._resolver = Resolver(loop, self._guard, inside=inner.open)
        for path, value in _SYSCTLS:
            with suppress(OSError):  # a host without IPv6
                inner.sysctl(path, value)
        self._uplink = Uplink(place, loop, inner, self._lead_out)
        self._uplink.start(life_line)

    def pins(self, member: Member) -> tuple[int, ...]:
        """What a container's supervisor holds so that all this outlives us."""
        questions = self._gateways.of(each.network for each in member.endpoints)
        return (self.inner.netns, self._uplink.exit_fd, *questions[:_QUESTIONS])

    def offer(self, questions: Sequence[int]) -> None:
        """The last of its pins, from a supervisor that comes back."""
        self._gateways.offer(questions)

    @property
    def processes(self) -> tuple[int, ...]:
        """The pids that live and end with the network supervisor."""
        return tuple(filter(None, (self.inner.pid, self._uplink.pid)))

    def renew(self) -> None:
        """The directory of our sockets was cleaned: begin those of the uplink anew."""
        self._uplink.renew()

    def expect(self) -> None:
        """Containers are coming back: until all have, no name is said not to exist."""
        self._resolver.hold()

    def settle(self) -> None:
        """Everybody who can come back has."""
        self._gateways.settle()
        self._resolver.release()
        self._guard.sweep()

    # --- containers ----------------------------------------------------------

    def enter(self, member: Member) -> None:
        """Give a new container everything it asks for; :meth:`leave` undoes a part."""
        self._members[member.container] = member
        for network, attachment in member.wanted:
            self._add(member, network, attachment)
        self._set_routes(member)
        wanted = tuple(from_dict(PortMapping, each) for each in member.told.ports)
        member.ports = self._uplink.publish(member.container, *member.reached_at, wanted)

    def restore(self, member: Member, *, is_ours: bool) -> None:
        """Take over what a container has.

        ``is_ours`` says that its plugs are in our namespace; else they are made
        anew, with the same addresses unless somebody else has these by now.
        """
        self._members[member.container] = member
        before = member.endpoints
        for (network, _), endpoint in zip(member.wanted, before, strict=True):
            self._restore_plug(member, network, endpoint, is_ours=is_ours)
        if not is_ours or member.endpoints != before:
            self._set_routes(member)
        self._publish_again(member)

    def last_words(self, member: Member) -> None:
        """Tell the supervisor of a container that has ended what it does not know yet."""
        self._guard.last_words(member.container)

    def leave(self, member: Member) -> None:
        """Free all that a container has; its interfaces go with its namespace."""
        if self._members.get(member.container) is member:
            del self._members[member.container]
        self._uplink.withdraw(member.container)
        self._resolver.names.drop(member.container)
        devices = [member.device(each.interface) for each in member.endpoints]
        if member.egress is not None:
            # Its processes may outlive its supervisor: the rules go after the plugs.
            for device in devices:
                self._unplug(device)
            self._guard.withdraw(member.container)
        for endpoint in member.endpoints:
            self._uplink.unreach(endpoint.address6)
        for segment in self._segments.values():
            segment.release(member.container)
        self._loop.later(_TIDY, lambda: self._tidy(devices), key=("tidy", member.container))

    def connect(self, member: Member, network: Network, attachment: Attachment) -> None:
        """Plug a container that runs into one network more.

        Who asks knows that it is not on that: if it is, a supervisor was killed
        when it had done this and not yet said so.
        """
        known = next((e.network_id for e in member.endpoints if e.network == network.name), None)
        if known == network.id:
            return
        if known is not None:
            raise Conflict(f"container {member.name}: is on a network of the name {network.name}")
        try:
            self._add(member, network, attachment)
        except BaseException:
            self._remove(member, network.name)
            raise
        member.want(network, attachment)
        self._set_routes(member)
        self._publish_again(member)

    def disconnect(self, member: Member, network: str) -> None:
        """Unplug a container that runs from one of its networks."""
        if all(each.network != network for each in member.endpoints):
            return  # as with connect
        member.want(self._segments[network].network, None)
        self._remove(member, network)
        self._set_routes(member)
        self._publish_again(member)

    def reload(self, member: Member) -> None:
        """Make a container's plugs, names and ports anew, with the same addresses."""
        self._uplink.withdraw(member.container)
        self.restore(member, is_ours=False)

    def _add(self, member: Member, network: Network, attachment: Attachment) -> None:
        segment = self._segment(network)
        endpoint = segment.lease(member.container, attachment)
        segment.members.add(member.container)
        endpoint = replace(endpoint, interface=member.free_interface(attachment.interface))
        member.endpoints = (*member.endpoints, endpoint)
        self._plug(member, segment, endpoint)
        self._name(member, endpoint)

    def _plug(self, member: Member, segment: Segment, endpoint: Endpoint) -> None:
        """A policy is in force before the first packet can pass."""
        device = member.device(endpoint.interface)
        segment.plug(endpoint, device, member.netns, up=member.egress is None)
        if member.egress is not None:
            self._guard_plugs(member)
            self.inner.route.set_up(self.inner.route.index(device))
        segment.configure(endpoint, member.route)

    def _remove(self, member: Member, network: str) -> None:
        for endpoint in [e for e in member.endpoints if e.network == network]:
            self._unplug(member.device(endpoint.interface))
            self._uplink.unreach(endpoint.address6)
        member.endpoints = tuple(e for e in member.endpoints if e.network != network)
        self._resolver.names.drop(member.container, network)
        if network in self._segments:
            self._segments[network].release(member.container)
        self._guard_plugs(member)

    def _restore_plug(
        self, member: Member, network: Network, endpoint: Endpoint, *, is_ours: bool
    ) -> None:
        segment = self._segment(network)
        restored = segment.restore(member.container, endpoint)
        segment.members.add(member.container)
        if restored != endpoint:
            is_ours = False
            endpoint = member.move(endpoint, restored)
        if is_ours and self.inner.route.index(member.device(endpoint.interface)):
            self._guard_plugs(member)
        else:
            if stale := member.route.index(endpoint.interface):
                member.route.remove_link(stale)
            self._plug(member, segment, endpoint)
        self._name(member, endpoint)

    def _set_routes(self, member: Member) -> None:
        internal = {s.network.name for s in self._segments.values() if s.network.internal}
        set_default_routes(member.endpoints, internal, member.route)

    def _unplug(self, device: str) -> None:
        """Take a plug away by our end, which its container cannot rename."""
        if index := self.inner.route.index(device):
            self.inner.route.remove_link(index)

    def _guard_plugs(self, member: Member) -> None:
        if member.egress is not None:
            plugs = [(member.device(each.interface), each) for each in member.endpoints]
            hosts = [(each.host, resolv.HOST_NAMES) for each in member.endpoints if each.host]
            policy = allowance.with_hosts(member.egress, hosts)
            self._guard.apply(member.container, plugs, policy, member.denied)

    def _name(self, member: Member, endpoint: Endpoint) -> None:
        self._uplink.reach(endpoint.address6)
        self._resolver.names.put(
            member.container,
            endpoint.network,
            (*member.told.names, *endpoint.aliases),
            endpoint.addresses,
            dns=member.told.dns,
            search=member.told.dns_search,
            links=member.told.links,
        )

    def _publish_again(self, member: Member) -> None:
        member.ports = self._uplink.publish(
            member.container, *member.reached_at, member.ports, again=True
        )

    def rename(self, member: Member, name: str, names: tuple[str, ...]) -> None:
        """A container is called otherwise on all its networks."""
        member.told = replace(member.told, name=name, names=names)
        for endpoint in member.endpoints:
            self._name(member, endpoint)

    # --- networks ------------------------------------------------------------

    def update(self, network: Network) -> None:
        """A network's name servers have changed."""
        segment = self._segments.get(network.name)
        if segment is not None and segment.network.id == network.id:
            segment.network = network
            self._resolver.names.define(network)

    def _segment(self, network: Network) -> Segment:
        known = self._segments.get(network.name)
        if known is not None and known.network.id == network.id:
            return known
        for other in [each for each in self._segments.values() if each.is_in_the_way_of(network)]:
            if other.members:
                raise Conflict(
                    f"network {network.name}: containers are still on network"
                    f" {other.network.name}, which was removed",
                    hint="stop them first",
                )
            self._drop(other.network.name)
        return self._make(network)

    def _make(self, network: Network) -> Segment:
        if not network.internal:
            self._uplink.wait()
        made = Segment(network, self.inner.route, self._uplink.mtu)
        for other in self._segments.values():
            made.keep_from(other)
            other.keep_from(made)
        made.lead_out(self._uplink.gateways, self._uplink.index, self._uplink.hidden)
        if network.host_loopback:
            made.lead_to_host(self._uplink.reach_host())
        self._segments[network.name] = made
        try:
            if network.dns:
                self._resolver.serve(network, self._gateways.open(network))
        except BaseException:
            self._drop(network.name)
            raise
        return made

    def _drop(self, name: str) -> None:
        segment = self._segments.pop(name)
        self._resolver.withdraw(name)
        self._gateways.forget(name)
        segment.remove()
        for other in self._segments.values():
            other.forget(segment)

    def _lead_out(self) -> None:
        """The uplink is there, or there again: every network's way out leads to it."""
        for segment in self._segments.values():
            segment.lead_out(self._uplink.gateways, self._uplink.index, self._uplink.hidden)

    def _tidy(self, devices: Sequence[str]) -> None:
        """Remove plugs whose container lives on without its supervisor, and unused bridges."""
        used = {m.device(e.interface) for m in self._members.values() for e in m.endpoints}
        for device in devices:
            if device not in used:
                self._unplug(device)
        for name in [n for n, segment in self._segments.items() if not segment.members]:
            self._drop(name)
