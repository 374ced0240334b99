"""rtnetlink(7) in raw messages: what a container's start needs, and no more.

A message is a 16-byte header, a fixed body, then attributes of a length, a
type and a value, each padded to four bytes.  pyroute2 does all of it and costs
110 ms to import.

A :class:`Route` talks about the network namespace in which its socket was
opened, wherever it is used.  Every message goes to an explicit address, the
kernel's: only then the rights that count are the sender's and not those of
whoever opened the socket.  So the owner of a user namespace configures the
network namespaces that belong to it from outside, through sockets it was given.
"""

from __future__ import annotations

import _socket
import errno
import os
from _struct import calcsize, pack, unpack_from

from podpy.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

NLMSG_ERROR = 2
NLMSG_DONE = 3
NLM_F_REQUEST = 1
NLM_F_ACK = 4
NLM_F_DUMP = 0x300
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400

RTM_NEWLINK = 16
RTM_DELLINK = 17
RTM_GETLINK = 18
RTM_NEWADDR = 20
RTM_NEWROUTE = 24
RTM_DELROUTE = 25
RTM_GETROUTE = 26
RTM_NEWRULE = 32
RTM_DELRULE = 33

IFF_UP = 1
IFLA_ADDRESS = 1
IFLA_IFNAME = 3
IFLA_MTU = 4
IFLA_MASTER = 10
IFLA_LINKINFO = 18
IFLA_NET_NS_FD = 28
IFLA_INFO_KIND = 1
IFLA_INFO_DATA = 2
VETH_INFO_PEER = 1

IFA_ADDRESS = 1
IFA_LOCAL = 2
IFA_BROADCAST = 4
IFA_FLAGS = 8
IFA_F_NODAD = 2

RTA_DST = 1
RTA_OIF = 4
RTA_GATEWAY = 5
RTA_TABLE = 15
RTN_UNICAST = 1
RTN_LOCAL = 2
RTN_UNREACHABLE = 7
RTN_THROW = 9
RT_SCOPE_UNIVERSE = 0
RT_SCOPE_LINK = 253
RT_SCOPE_HOST = 254
RT_TABLE_MAIN = 254
RTPROT_BOOT = 3

FRA_SRC = 2
FRA_IIFNAME = 3
FRA_PRIORITY = 6
FRA_TABLE = 15
FRA_IP_PROTO = 22
FRA_SPORT_RANGE = 23
FR_ACT_TO_TBL = 1
FR_ACT_BLACKHOLE = 6

NLA_F_NESTED = 0x8000
LOOPBACK_INDEX = 1  # the first interface of every network namespace

_HEADER = "=IHHII"  # length, type, flags, sequence, port
_LINK = "=BxHiII"  # family, device type, index, flags, mask of changed flags
_ADDRESS = "=BBBBI"  # family, prefix length, flags, scope, index
_ROUTE = "=BBBBBBBBI"  # family, two prefix lengths, tos, table, protocol, scope, type, flags
_RULE = "=BBBBBBBBI"  # family, two prefix lengths, tos, table, two reserved, action, flags
_HEADER_SIZE = calcsize(_HEADER)
_CREATE = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL
_NONE = bytes(4)
_BITS = {_socket.AF_INET: 32, _socket.AF_INET6: 128}
_GONE = (errno.ENODEV, errno.ENOENT, errno.ESRCH)


@record
class Rule:
    """ip-rule(8): packets of ``family`` that match are routed by ``table``; by 0, they are dropped.

    ``interface`` is the name of the one they came in by, ``source`` an address or
    a subnet, ``protocol`` an IP protocol's number; empty and 0 match everything.
    """

    family: int
    table: int
    priority: int
    interface: str = ""
    source: str = ""
    protocol: int = 0
    source_port: int = 0


@record
class Veth:
    """A veth pair: ``name``, a port of the bridge ``master``; ``peer`` in another namespace.

    ``up``: the near end is up at once.
    """

    name: str
    master: int
    mtu: int
    peer: str
    peer_mac: str
    peer_namespace: int
    up: bool = True


class Route:
    """An rtnetlink socket: the links, addresses, routes and rules of one network namespace.

    Addresses are texts, interfaces are named by index.  Methods that make
    something raise ``FileExistsError`` where it exists already; those that take
    something away bear that it is gone.
    """

    def __init__(self, channel: _socket.socket) -> None:
        self._channel = channel

    @classmethod
    def open(cls) -> Route:
        """A socket about the namespace that this process is in."""
        return cls(open_socket())

    def fileno(self) -> int:
        return self._channel.fileno()

    def close(self) -> None:
        self._channel.close()

    # --- links ---------------------------------------------------------------

    def index(self, name: str) -> int:
        """The index of an interface; 0 where there is none of that name."""
        body = pack(_LINK, _socket.AF_UNSPEC, 0, 0, 0, 0) + _text(IFLA_IFNAME, name)
        try:
            for answer in self._exchange(RTM_GETLINK, NLM_F_ACK, body):
                return int(unpack_from("=BxHi", answer)[2])
        except OSError as error:
            if error.errno not in _GONE:
                raise
        return 0

    def bridge_of(self, index: int) -> bytes:
        """The MAC address of the bridge that an interface is a port of."""
        bridge = unpack_from("=I", self._link(index)[IFLA_MASTER])[0]
        return self._link(bridge)[IFLA_ADDRESS]

    def _link(self, index: int) -> dict[int, bytes]:
        body = pack(_LINK, _socket.AF_UNSPEC, 0, index, 0, 0)
        for answer in self._exchange(RTM_GETLINK, NLM_F_ACK, body):
            return attributes(answer[calcsize(_LINK) :])
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    def add_bridge(self, name: str, mtu: int) -> None:
        """A bridge with an address of its own: else it would have its lowest port's."""
        body = pack(_LINK, _socket.AF_UNSPEC, 0, 0, IFF_UP, IFF_UP)
        body += _text(IFLA_IFNAME, name) + _number(IFLA_MTU, mtu)
        body += attribute(IFLA_ADDRESS, b"\x02\x42" + os.urandom(4))
        body += _nested(IFLA_LINKINFO, _text(IFLA_INFO_KIND, "bridge"))
        self._do(RTM_NEWLINK, _CREATE, body)

    def add_veth(self, veth: Veth) -> None:
        far = pack(_LINK, _socket.AF_UNSPEC, 0, 0, 0, 0)
        far += _text(IFLA_IFNAME, veth.peer) + _number(IFLA_MTU, veth.mtu)
        far += attribute(IFLA_ADDRESS, bytes.fromhex(veth.peer_mac.replace(":", "")))
        far += _number(IFLA_NET_NS_FD, veth.peer_namespace)
        info = _text(IFLA_INFO_KIND, "veth")
        info += _nested(IFLA_INFO_DATA, attribute(VETH_INFO_PEER, far))
        body = pack(_LINK, _socket.AF_UNSPEC, 0, 0, IFF_UP if veth.up else 0, IFF_UP)
        body += _text(IFLA_IFNAME, veth.name) + _number(IFLA_MTU, veth.mtu)
        body += _number(IFLA_MASTER, veth.master)
        self._do(RTM_NEWLINK, _CREATE, body + _nested(IFLA_LINKINFO, info))

    def set_up(self, index: int) -> None:
        self._do(RTM_NEWLINK, NLM_F_ACK, pack(_LINK, _socket.AF_UNSPEC, 0, index, IFF_UP, IFF_UP))

    def set_mtu(self, index: int, mtu: int) -> None:
        body = pack(_LINK, _socket.AF_UNSPEC, 0, index, 0, 0) + _number(IFLA_MTU, mtu)
        self._do(RTM_NEWLINK, NLM_F_ACK, body)

    def remove_link(self, index: int) -> None:
        self._undo(RTM_DELLINK, pack(_LINK, _socket.AF_UNSPEC, 0, index, 0, 0))

    # --- addresses and routes ------------------------------------------------

    def add_address(self, index: int, address: str, prefix: int) -> None:
        """Usable at once: IPv6's duplicate detection would take a second."""
        family, packed = _packed(address)
        body = pack(_ADDRESS, family, prefix, 0, RT_SCOPE_UNIVERSE, index)
        body += attribute(IFA_LOCAL, packed) + attribute(IFA_ADDRESS, packed)
        if family == _socket.AF_INET:
            host_bits = (1 << (32 - prefix)) - 1
            last = (int.from_bytes(packed, "big") | host_bits).to_bytes(4, "big")
            body += attribute(IFA_BROADCAST, last)
        self._do(RTM_NEWADDR, _CREATE, body + _number(IFA_FLAGS, IFA_F_NODAD))

    def add_route(
        self, subnet: str, *, gateway: str = "", index: int = 0, table: int = RT_TABLE_MAIN,
        kind: int = RTN_UNICAST,
    ) -> None:  # fmt: skip
        """``subnet`` in CIDR form (``0.0.0.0/0`` is the default) by a gateway or an interface."""
        self._do(RTM_NEWROUTE, _CREATE, _route(subnet, gateway, index, table, kind))

    def remove_route(self, subnet: str, *, table: int, kind: int) -> None:
        self._undo(RTM_DELROUTE, _route(subnet, "", 0, table, kind))

    def default_gateways(self) -> list[tuple[int, str]]:
        """The default routes: interface index and gateway."""
        found = []
        for prefix, values in self._routes():
            if prefix == 0 and RTA_GATEWAY in values and RTA_OIF in values:
                index = unpack_from("=I", values[RTA_OIF])[0]
                found.append((index, _text_of(values[RTA_GATEWAY])))
        return found

    def subnets(self, index: int = 0) -> list[str]:
        """The destinations of all routes but the default ones, in CIDR form.

        Those by one interface, or by any.
        """
        return [
            f"{_text_of(values[RTA_DST])}/{prefix}"
            for prefix, values in self._routes()
            if RTA_DST in values and index in (0, unpack_from("=I", values.get(RTA_OIF, _NONE))[0])
        ]

    def interface_to(self, address: str) -> str:
        """The name of the interface by which packets for an address leave."""
        family, packed = _packed(address)
        body = pack(_ROUTE, family, _BITS[family], 0, 0, 0, 0, 0, 0, 0)
        for answer in self._exchange(RTM_GETROUTE, NLM_F_ACK, body + attribute(RTA_DST, packed)):
            index = unpack_from("=I", attributes(answer[calcsize(_ROUTE) :])[RTA_OIF])[0]
            return self._link(index)[IFLA_IFNAME].rstrip(b"\0").decode()
        raise OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH))

    def _routes(self) -> Iterator[tuple[int, dict[int, bytes]]]:
        body = pack(_ROUTE, _socket.AF_UNSPEC, 0, 0, 0, 0, 0, 0, 0, 0)
        for answer in self._exchange(RTM_GETROUTE, NLM_F_DUMP, body):
            yield answer[1], attributes(answer[calcsize(_ROUTE) :])

    # --- rules ---------------------------------------------------------------

    def add_rule(self, rule: Rule) -> None:
        self._do(RTM_NEWRULE, _CREATE, _rule(rule))

    def remove_rule(self, rule: Rule) -> None:
        self._undo(RTM_DELRULE, _rule(rule))

    # --- the exchange --------------------------------------------------------

    def _do(self, kind: int, flags: int, body: bytes) -> None:
        for _ in self._exchange(kind, flags, body):
            pass

    def _undo(self, kind: int, body: bytes) -> None:
        try:
            self._do(kind, NLM_F_ACK, body)
        except OSError as error:
            if error.errno not in _GONE:
                raise

    def _exchange(self, kind: int, flags: int, body: bytes) -> Iterator[bytes]:
        """Send one request; the bodies of the answers.  ``OSError`` when the kernel refuses."""
        header = pack(_HEADER, _HEADER_SIZE + len(body), kind, NLM_F_REQUEST | flags, 1, 0)
        self._channel.sendto(header + body, (0, 0))
        found: list[bytes] = []
        while not self._collect(found):
            pass
        yield from found

    def _collect(self, found: list[bytes]) -> bool:
        """Read one datagram of answers; True when it was the last."""
        for answer, content in messages(self._channel.recv(1 << 17)):
            if answer == NLMSG_ERROR:
                fail_on(error_number(content))
                return True
            if answer == NLMSG_DONE:
                return True
            found.append(content)
        return False


def open_socket() -> _socket.socket:
    """An rtnetlink socket about the current namespace, to keep or to pass on.

    It hears the kernel alone: connected to that, it refuses what others in the
    namespace send, who could answer in its place, or fill it until answers get lost.
    """
    made = _socket.socket(
        _socket.AF_NETLINK, _socket.SOCK_RAW | _socket.SOCK_CLOEXEC, _socket.NETLINK_ROUTE
    )
    made.connect((0, 0))
    return made


def set_loopback_up() -> None:
    """Bring ``lo`` of the current network namespace up; it gets its addresses by itself."""
    route = Route.open()
    try:
        route.set_up(LOOPBACK_INDEX)
    finally:
        route.close()


def default_gateways() -> list[tuple[int, str]]:
    """The default routes of the current namespace: interface index and gateway."""
    route = Route.open()
    try:
        return route.default_gateways()
    finally:
        route.close()


# --- bodies ------------------------------------------------------------------


def _route(subnet: str, gateway: str, index: int, table: int, kind: int) -> bytes:
    address, _, prefix = subnet.partition("/")
    family, packed = _packed(address)
    scope = RT_SCOPE_UNIVERSE if gateway or kind == RTN_UNREACHABLE else RT_SCOPE_LINK
    if kind == RTN_LOCAL:
        scope = RT_SCOPE_HOST
    if family == _socket.AF_INET6:
        scope = RT_SCOPE_UNIVERSE
    body = pack(_ROUTE, family, int(prefix), 0, 0, 0, RTPROT_BOOT, scope, kind, 0)
    if int(prefix):
        body += attribute(RTA_DST, packed)
    if gateway:
        body += attribute(RTA_GATEWAY, _packed(gateway)[1])
    if index:
        body += _number(RTA_OIF, index)
    return body + _number(RTA_TABLE, table)


def _rule(rule: Rule) -> bytes:
    source, _, prefix = rule.source.partition("/")
    length = int(prefix) if prefix else _BITS[rule.family] if source else 0
    action = FR_ACT_TO_TBL if rule.table else FR_ACT_BLACKHOLE
    body = pack(_RULE, rule.family, 0, length, 0, 0, 0, 0, action, 0)
    body += _number(FRA_PRIORITY, rule.priority) + _number(FRA_TABLE, rule.table)
    if rule.interface:
        body += _text(FRA_IIFNAME, rule.interface)
    if length:
        body += attribute(FRA_SRC, _packed(source)[1])
    if rule.protocol:
        body += attribute(FRA_IP_PROTO, pack("=B", rule.protocol))
    if rule.source_port:
        body += attribute(FRA_SPORT_RANGE, pack("=HH", rule.source_port, rule.source_port))
    return body


def _packed(address: str) -> tuple[int, bytes]:
    family = _socket.AF_INET6 if ":" in address else _socket.AF_INET
    return family, _socket.inet_pton(family, address)


def _text_of(packed: bytes) -> str:
    family = _socket.AF_INET6 if len(packed) == 16 else _socket.AF_INET
    return _socket.inet_ntop(family, packed)


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute as messages hold it, with its padding."""
    length = 4 + len(value)
    return pack("=HH", length, kind) + value + b"\0" * (_aligned(length) - length)


def _text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, pack("=I", value))


def _nested(kind: int, content: bytes) -> bytes:
    return attribute(kind | NLA_F_NESTED, content)


# --- answers -----------------------------------------------------------------


def messages(datagram: bytes) -> Iterator[tuple[int, bytes]]:
    """The messages of one datagram: type and content."""
    while len(datagram) >= _HEADER_SIZE:
        length, kind, _, _, _ = unpack_from(_HEADER, datagram)
        if length < _HEADER_SIZE:
            raise OSError(errno.EBADMSG, "netlink: a message shorter than its header")
        yield kind, datagram[_HEADER_SIZE:length]
        datagram = datagram[_aligned(length) :]


def error_number(content: bytes) -> int:
    """The errno of an error message; an acknowledgement is one with the number 0."""
    return -int(unpack_from("=i", content)[0])


def fail_on(number: int) -> None:
    """Raise the ``OSError`` of an errno; 0 is none."""
    if number:
        raise OSError(number, f"netlink: {os.strerror(number)}")


def attributes(data: bytes) -> dict[int, bytes]:
    """Attributes by type; of two alike the last."""
    found = {}
    while len(data) >= 4:
        length, kind = unpack_from("=HH", data)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[4:length]
        data = data[_aligned(length) :]
    return found


def _aligned(length: int) -> int:
    return (length + 3) & ~3
