"""What containers tried and their egress policies refused: heard, counted, told.

The packet filter hands the first bytes of a refused packet to an nflog socket
(``linux/netfilter/nfnetlink_log.h``), at most 64 a second for a container;
names come from the resolver.  What a container tries again and again is one
line with a count.
"""

from __future__ import annotations

import _socket
import errno
import time
from _struct import pack, unpack_from

from podpy.kernel import netlink, nftables
from podpy.kernel.loop import IN
from podpy.net import ruleset
from podpy.netmodel import Denial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from podpy.kernel.loop import Loop

    Key = tuple[str, int, str]

MOST = 64  # destinations remembered of one container: the last ones
_PAUSE = 1.0  # seconds between two reports about one container

_PACKET, _CONFIG = 0, 1  # NFULNL_MSG_*
_CFG_CMD, _CFG_MODE, _CFG_THRESHOLD = 1, 2, 5
_CMD_BIND, _COPY_PACKET = 1, 2
_PAYLOAD, _PREFIX = 9, 10
_AT_ONCE = 1  # packets that the kernel collects: a container that ends waits for none
_BUFFER = 1 << 18
_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmp6", 132: "sctp"}
_WITH_PORTS = ("tcp", "udp", "sctp")


class Denials:
    """The refused attempts of all containers; ``report`` gets those of one, at most each second."""

    def __init__(self, loop: Loop, report: Callable[[str, tuple[Denial, ...]], None]) -> None:
        self._loop = loop
        self._report = report
        self._found: dict[str, dict[Key, Denial]] = {}
        self._waiting: set[str] = set()
        self._containers: dict[str, str] = {}
        self._channel: _socket.socket | None = None

    def listen(self, channel: _socket.socket) -> None:
        """Hear what the filters log; ``channel`` is a netfilter socket of their namespace."""
        channel.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVBUF, _BUFFER)
        settings = netlink.attribute(_CFG_CMD, bytes((_CMD_BIND,)))
        settings += netlink.attribute(_CFG_MODE, pack(">IBx", ruleset.LOG_LENGTH, _COPY_PACKET))
        settings += nftables.number(_CFG_THRESHOLD, _AT_ONCE)
        kind = nftables.NFNL_SUBSYS_ULOG << 8 | _CONFIG
        asked = nftables.message(
            kind, netlink.NLM_F_ACK, settings, _socket.AF_UNSPEC, ruleset.LOG_GROUP
        )
        channel.sendto(asked, (0, 0))
        for answer, content in netlink.messages(channel.recv(_BUFFER)):
            if answer == netlink.NLMSG_ERROR:
                netlink.fail_on(netlink.error_number(content))
        channel.setblocking(False)
        self._channel = channel
        self._loop.watch(channel.fileno(), IN, self._on_packets)

    def begin(self, container: str, prefix: str, known: Iterable[Denial] = ()) -> None:
        """Count for a container, on from what it has in its record."""
        self._containers[prefix] = container
        self._found[container] = {(d.destination, d.port, d.protocol): d for d in known}

    def flush(self, container: str) -> None:
        """Tell at once what has not been told: the container is about to go."""
        while self._hear():
            pass
        if container in self._waiting:
            self._loop.cancel(("denials", container))
            self._tell(container)

    def end(self, container: str) -> None:
        self._loop.cancel(("denials", container))
        self._waiting.discard(container)
        self._found.pop(container, None)
        self._containers = {p: c for p, c in self._containers.items() if c != container}

    def add(self, container: str, destination: str, port: int = 0, protocol: str = "") -> None:
        """One attempt more."""
        found = self._found.get(container)
        if found is None:
            return
        key = (destination, port, protocol)
        before = found.pop(key, None)  # the last one goes to the end
        found[key] = Denial(
            destination=destination, port=port, protocol=protocol,
            count=1 + (before.count if before else 0), when=time.time(),
        )  # fmt: skip
        if len(found) > MOST:
            del found[next(iter(found))]
        self._tell_soon(container)

    def _tell_soon(self, container: str) -> None:
        if container not in self._waiting:
            self._waiting.add(container)
            self._loop.later(_PAUSE, lambda: self._tell(container), key=("denials", container))

    def _tell(self, container: str) -> None:
        self._waiting.discard(container)
        self._report(container, tuple(self._found[container].values()))

    def _on_packets(self, _fd: int, _events: int) -> None:
        self._hear()

    def _hear(self) -> bool:
        """Count one datagram's packets; False when there is none."""
        if self._channel is None:
            return False
        try:
            datagram = self._channel.recv(_BUFFER)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno == errno.ENOBUFS:  # more than the socket holds: some are not counted
                return True
            raise
        for kind, content in netlink.messages(datagram):
            if kind == nftables.NFNL_SUBSYS_ULOG << 8 | _PACKET:
                self._count(netlink.attributes(content[4:]))
        return True

    def _count(self, packet: dict[int, bytes]) -> None:
        container = self._containers.get(packet.get(_PREFIX, b"").rstrip(b"\0").decode())
        target = destination(packet.get(_PAYLOAD, b""))
        if container and target:
            self.add(container, *target)


def destination(packet: bytes) -> tuple[str, int, str] | None:
    """Where an IP packet was to go: address, port and protocol; None for what is none."""
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= 20:
        family, number, target, rest = _socket.AF_INET, packet[9], packet[16:20], packet[20:]
    elif version == 6 and len(packet) >= 40:
        family, number, target, rest = _socket.AF_INET6, packet[6], packet[24:40], packet[40:]
    else:
        return None
    name = _PROTOCOLS.get(number, str(number))
    port = unpack_from(">H", rest, 2)[0] if name in _WITH_PORTS and len(rest) >= 4 else 0
    return _socket.inet_ntop(family, target), port, name
