"""Networks in records: what was asked for, what a container got, what it may reach."""

from __future__ import annotations

from podpy.records import EMPTY, record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


@record
class PortMapping:
    """A published port (or ``count`` of them): host address to container port.

    ``host_port`` 0 asks for any free port; with ``choices`` above 1 any free
    one of so many from ``host_port`` on will do.  ``masked``: the container sees
    the clients of this port behind another address than their own.
    """

    container_port: int
    host_port: int = 0
    host_ip: str = ""
    protocol: str = "tcp"
    count: int = 1
    choices: int = 1
    masked: bool = False


@record
class NetworkMode:
    """How a container reaches the network.

    ``kind`` is ``none host slirp4netns pasta bridge container ns``; ``options``
    are what followed the colon, ``target`` is the id of the container that is
    joined, or the path of the namespace.
    """

    kind: str
    options: tuple[str, ...] = ()
    target: str = ""


@record
class Subnet:
    """One subnet of a network: ``subnet`` in CIDR form, its gateway, the leases' range.

    ``first`` and ``last`` bound the addresses that are handed out (``--ip-range``);
    empty means the whole subnet.  ``reserved`` are addresses of things that are no
    containers, by name (``--aux-address``): they are never handed out.
    """

    subnet: str
    gateway: str = ""
    first: str = ""
    last: str = ""
    reserved: Mapping[str, str] = EMPTY


@record
class Network:
    """A bridge network as it was created: ``networks/<name>.json``.

    ``interface`` is the bridge device in the shared namespace, ``mtu`` 0 that
    of the uplink.  ``host_loopback``: it leads to the services of the host's
    loopback as well.  ``publish_on`` is the host's address of ports that name none.
    ``dns_servers`` are asked instead of the host's resolvers; ``routes`` are pairs
    of a destination in CIDR form and a gateway.
    """

    version: int = 1
    name: str
    id: str
    created: float
    driver: str = "bridge"
    interface: str = ""
    subnets: tuple[Subnet, ...] = ()
    ipv6: bool = False
    internal: bool = False
    dns: bool = True
    dns_servers: tuple[str, ...] = ()
    isolate: bool = True
    host_loopback: bool = False
    publish_on: str = ""
    mtu: int = 0
    routes: tuple[tuple[str, str], ...] = ()
    labels: Mapping[str, str] = EMPTY
    options: Mapping[str, str] = EMPTY
    _nested = {"subnets": Subnet}


@record
class Attachment:
    """What was asked for one container on one network; empty means podpy's choice."""

    network: str
    ip: str = ""
    ip6: str = ""
    mac: str = ""
    interface: str = ""
    aliases: tuple[str, ...] = ()


@record
class Endpoint:
    """A running container's interface on a network: what it got.

    ``address`` and ``address6`` have no prefix length; that is ``prefix`` and
    ``prefix6``.  Empty texts where the network has no such family.  ``host`` is
    where the host's loopback is, on networks that lead there.
    """

    network: str
    network_id: str = ""
    interface: str = ""
    mac: str = ""
    address: str = ""
    prefix: int = 0
    gateway: str = ""
    address6: str = ""
    prefix6: int = 0
    gateway6: str = ""
    host: str = ""
    aliases: tuple[str, ...] = ()

    @property
    def addresses(self) -> tuple[str, ...]:
        """Those it has, IPv4 first."""
        return tuple(filter(None, (self.address, self.address6)))


@record
class Egress:
    """What a container may reach outside (``--egress``); everything else is dropped.

    Each rule is a host name, a wildcard domain ``*.example.org``, an address or
    a CIDR, each with ``:PORT`` or without.  No rules: nothing at all.
    """

    rules: tuple[str, ...] = ()


@record
class Denial:
    """Attempts of a container that its egress policy dropped, counted per destination.

    ``destination`` is an address or, for a refused name, the name; ``when`` the
    time of the last one.
    """

    destination: str
    port: int = 0
    protocol: str = ""
    count: int = 1
    when: float = 0.0
