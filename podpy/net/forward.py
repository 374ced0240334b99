"""Published ports that the network supervisor relays itself.

TCP goes through here twice as fast as through slirp4netns, which moreover
listens on IPv4 addresses only and does not answer UDP clients on the host's
loopback; pasta's ports cannot be changed once it runs.  So a host port is a
listener in the host's namespace here, and for each client a socket that was
opened inside the shared namespace leads on to the container.

That inner socket is bound to the client's own address (``IP_TRANSPARENT``,
ip(7)), so the container sees who is calling.  Its answers, which are for an
address elsewhere, are turned to this host by a routing rule for that very
port (:mod:`.steering`).  A client on the host's loopback has no address that
could be shown, nor has one of the other family: these appear as the gateway.
"""

from __future__ import annotations

import _socket
import errno
import resource
import time

from podpy.errors import suppress
from podpy.kernel.loop import IN
from podpy.net.streams import Connection
from podpy.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from podpy.kernel.loop import Loop
    from podpy.net.inner import Inner

    Address = tuple[str, int]
    Ancillary = Iterable[tuple[int, int, bytes]]
    Answer = Callable[[bytes], None]

IP_PKTINFO = 8  # ip(7): struct in_pktinfo, an interface and two addresses
IPV6_RECVPKTINFO, IPV6_PKTINFO = 49, 50  # ipv6(7): struct in6_pktinfo, an address, an interface
_QUEUE = 1024
_AT_ONCE = 64  # connections or datagrams taken in one go, before others have their turn
_DATAGRAM = 65535
_SILENCE = 120.0  # seconds without a datagram until a client's socket is given up
_SWEEP = 15.0
_RESERVED = 256  # descriptors for everything else
_PER_CONNECTION = 2
_MOST_CONNECTIONS = 4096
_GREED = 8  # connections that a container can have for each that is left to others
_MOST_CLIENTS = 1024  # of UDP
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


@record
class Target:
    """Where a port leads: an address and port inside; ``is_open`` clients show their own address.

    Not so where the answers are not steered back (:mod:`.steering`).
    """

    address: str
    port: int
    is_open: bool = False

    @property
    def family(self) -> int:
        return _socket.AF_INET6 if ":" in self.address else _socket.AF_INET

    def shows(self, client: str) -> bool:
        """Whether the container can see this client's own address."""
        is_v6 = self.family == _socket.AF_INET6
        return self.is_open and (":" in client) == is_v6 and not _is_local(client)


def _is_local(address: str) -> bool:
    """An address that means something on this host or this link only."""
    if ":" in address:
        return address == "::1" or address.lower().startswith(("fe8", "fe9", "fea", "feb"))
    return address.startswith(("127.", "169.254.", "0."))


class Forwarder:
    """Every relayed port; all within the loop of the network supervisor."""

    def __init__(self, loop: Loop, inner: Inner) -> None:
        self._loop = loop
        self._inner = inner
        self._streams: set[StreamPort] = set()
        self._connections: set[Connection] = set()
        self._counts: dict[str, int] = {}  # of them, by the address they lead to
        self.most_connections = min(_room() // _PER_CONNECTION, _MOST_CONNECTIONS)

    def stream(self, listener: _socket.socket, target: Target) -> StreamPort:
        """Lead a bound TCP socket's clients to ``target``."""
        port = StreamPort(self, listener, target)
        self._streams.add(port)
        return port

    def datagrams(self, outer: _socket.socket, target: Target) -> DatagramPort:
        """Lead what a bound UDP socket receives to ``target``."""
        return DatagramPort(self._loop, self._inner, outer, target)

    # --- what the stream ports share: loop, sockets and the bound on all of them ----------

    def listen(self, port: StreamPort) -> None:
        mask = IN if self._has_room(port) else 0
        self._loop.watch(port.listener.fileno(), mask, lambda _fd, _events: port.accept())

    def drop(self, port: StreamPort) -> None:
        self._streams.discard(port)
        self._loop.forget(port.listener.fileno())

    def _has_room(self, port: StreamPort) -> bool:
        """So many connections as a container has, a part of them must be free for the others."""
        free = self.most_connections - len(self._connections)
        return self._counts.get(port.target.address, 0) < _GREED * free

    def begin(self, client: _socket.socket, who: Address, port: StreamPort) -> bool:
        """Carry one client's connection; False when there is no room for another."""
        address = port.target.address
        try:
            inside = inside_socket(self._inner, _socket.SOCK_STREAM, port.target, who)
        except OSError as error:
            client.close()
            return error.errno not in _EXHAUSTED
        self._counts[address] = self._counts.get(address, 0) + 1
        self._connections.add(
            Connection(self._loop, client, inside, lambda each: self._ended(each, address))
        )
        if self._is_crowded:
            self._listen_where_is_room()
        return self._has_room(port)

    def _ended(self, connection: Connection, address: str) -> None:
        was_crowded = self._is_crowded
        self._connections.discard(connection)
        self._counts[address] -= 1
        if not self._counts[address]:
            del self._counts[address]
        if was_crowded:
            self._listen_where_is_room()

    @property
    def _is_crowded(self) -> bool:
        return len(self._connections) >= self.most_connections // 2

    def _listen_where_is_room(self) -> None:
        for each in self._streams:
            if self._has_room(each):
                self._loop.change(each.listener.fileno(), IN)
            else:
                self._loop.pause(each.listener.fileno())


class StreamPort:
    """A listening TCP socket of the host.  Connections outlive it."""

    def __init__(self, forwarder: Forwarder, listener: _socket.socket, target: Target) -> None:
        self.listener = listener
        self.target = target
        self._forwarder = forwarder
        # For the accepted ones: what they leave in TIME_WAIT must not keep the port from the next.
        listener.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        listener.listen(_QUEUE)
        forwarder.listen(self)

    def accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                fd, who = self.listener._accept()  # type: ignore[attr-defined]  # accept()'s core
            except OSError:
                return
            client = _socket.socket(fileno=fd)
            if not self._forwarder.begin(client, who[:2], self):
                return

    def close(self) -> None:
        self._forwarder.drop(self)
        self.listener.close()


def inside_socket(inner: Inner, kind: int, target: Target, client: Address) -> _socket.socket:
    """A socket of the shared namespace that connects to ``target``, as the client if that can be.

    The client's port is taken as well, where it is free: it may serve another
    connection of the client's, or have served one a minute ago.
    """
    shown = target.shows(client[0])
    failure = errno.EADDRNOTAVAIL
    for port in (client[1], 0) if shown else (0,):
        made = inner.open(target.family, kind, transparent=shown)
        try:
            made.setblocking(False)
            if shown:
                made.bind((client[0], port))
            failure = made.connect_ex((target.address, target.port))
        except OSError as error:
            failure = error.errno or failure
        if failure in (0, errno.EINPROGRESS):
            return made
        made.close()
    raise OSError(failure, "the container cannot be reached")


class DatagramPort:
    """A UDP port of the host, with a socket inside for each client."""

    def __init__(self, loop: Loop, inner: Inner, outer: _socket.socket, target: Target) -> None:
        self._loop = loop
        self._inner = inner
        self._outer = outer
        self._target = target
        self._clients: dict[tuple[Address, bytes], _Client] = {}
        self._is_v6 = outer.family == _socket.AF_INET6
        outer.setblocking(False)
        # From a wildcard the answer must leave with the address that the client wrote to.
        if self._is_v6:
            outer.setsockopt(_socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
        else:
            outer.setsockopt(_socket.IPPROTO_IP, IP_PKTINFO, 1)
        loop.watch(outer.fileno(), IN, lambda _fd, _events: self._inward())

    def close(self) -> None:
        self._loop.cancel(self)
        self._loop.forget(self._outer.fileno())
        self._outer.close()
        for client in self._clients.values():
            client.close()
        self._clients.clear()

    def _inward(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                data, ancillary, _, who = self._outer.recvmsg(_DATAGRAM, 64)
            except OSError:
                return
            local = _reply_address(ancillary, is_v6=self._is_v6)
            client = self._clients.get((who, local)) or self._welcome(who, local)
            if client is not None:
                client.inward(data)

    def _welcome(self, who: Address, local: bytes) -> _Client | None:
        if not self._clients:
            self._loop.later(_SWEEP, self._sweep, key=self)
        while len(self._clients) >= _MOST_CLIENTS:
            eldest = min(self._clients, key=lambda key: self._clients[key].last)
            self._clients.pop(eldest).close()
        try:
            inside = inside_socket(self._inner, _socket.SOCK_DGRAM, self._target, who[:2])
        except OSError:
            return None  # UDP may lose it
        made = _Client(self._loop, inside, lambda data: self._outward(data, who, local))
        self._clients[who, local] = made
        return made

    def _outward(self, data: bytes, who: Address, local: bytes) -> None:
        level = _socket.IPPROTO_IPV6 if self._is_v6 else _socket.IPPROTO_IP
        kind = IPV6_PKTINFO if self._is_v6 else IP_PKTINFO
        with suppress(OSError):
            self._outer.sendmsg([data], [(level, kind, local)] if local else (), 0, who)

    def _sweep(self) -> None:
        """Give up the sockets of clients that were silent for long."""
        now = time.monotonic()
        for key in [k for k, c in self._clients.items() if now - c.last > _SILENCE]:
            self._clients.pop(key).close()
        if self._clients:
            self._loop.later(_SWEEP, self._sweep, key=self)


class _Client:
    """One client of a UDP port: the socket inside by which the container sees it."""

    def __init__(self, loop: Loop, inside: _socket.socket, answer: Answer) -> None:
        self.last = time.monotonic()
        self._loop = loop
        self._inside = inside
        self._answer = answer
        inside.setblocking(False)
        loop.watch(inside.fileno(), IN, lambda _fd, _events: self._outward())

    def inward(self, data: bytes) -> None:
        self.last = time.monotonic()
        with suppress(OSError):  # nobody listens there: the error of the datagram before
            self._inside.send(data)

    def _outward(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                data = self._inside.recv(_DATAGRAM)
            except OSError:
                return
            self.last = time.monotonic()
            self._answer(data)

    def close(self) -> None:
        self._loop.forget(self._inside.fileno())
        self._inside.close()


def _reply_address(ancillary: Ancillary, *, is_v6: bool) -> bytes:
    """The packet information that makes an answer leave by the address a datagram came to."""
    for level, kind, value in ancillary:
        if is_v6 and (level, kind) == (_socket.IPPROTO_IPV6, IPV6_PKTINFO):
            return bytes(value)
        if not is_v6 and (level, kind) == (_socket.IPPROTO_IP, IP_PKTINFO):
            # Received: interface, our address, the header's; sent: interface, our address, none.
            return b"\0\0\0\0" + bytes(value[8:12]) + b"\0\0\0\0"
    return b""


def _room() -> int:
    """How many descriptors may be used, once the limit is as high as it can be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    wanted = _MOST_CONNECTIONS * _PER_CONNECTION + _RESERVED
    return (wanted if soft == resource.RLIM_INFINITY else min(soft, wanted)) - _RESERVED
