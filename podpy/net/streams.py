"""One TCP connection carried between two sockets, both ways, in the loop.

The bytes are copied: splice(2) by way of pipes was not faster (7 GBit/s either
way, where slirp4netns forwards 3).

Each direction is read only while what was read before could be written: a
slow reader slows its writer down (back-pressure), and nothing piles up here.
An end of file is passed on as such (half-close), a broken connection as one.
"""

from __future__ import annotations

import _socket
from _struct import pack

from podpy.errors import suppress
from podpy.kernel.loop import IN, OUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from podpy.kernel.loop import Loop

_CHUNK = 1 << 17
_ROUNDS = 8  # chunks that one direction may carry before others have their turn
_RESET = pack("=ii", 1, 0)  # SO_LINGER of no time: closing breaks the connection

#: What is on its way between two calls; one for all, for nothing stays in it.
_buffer = memoryview(bytearray(_CHUNK))


class _Flow:
    """One direction of a connection."""

    __slots__ = ("_left", "is_over", "sink", "source")

    def __init__(self, source: _socket.socket, sink: _socket.socket) -> None:
        self.source = source
        self.sink = sink
        self.is_over = False
        self._left = b""

    @property
    def is_stuck(self) -> bool:
        """Waits for the sink rather than for the source."""
        return bool(self._left)

    def carry(self) -> None:
        """Carry what can be carried now.  ``OSError`` when either end is broken."""
        if self._left and not self._write(memoryview(self._left)):
            return
        for _ in range(_ROUNDS):
            try:
                size = self.source.recv_into(_buffer)
            except BlockingIOError:
                return
            if not size:
                self.is_over = True
                self.sink.shutdown(_socket.SHUT_WR)
                return
            if not self._write(_buffer[:size]):
                return

    def _write(self, data: memoryview) -> bool:
        """Write; what the sink does not take is kept.  True when it took all."""
        try:
            sent = self.sink.send(data, _socket.MSG_NOSIGNAL)
        except BlockingIOError:
            sent = 0
        self._left = bytes(data[sent:])
        return not self._left


class Connection:
    """A client's connection and the one inside that continues it, and may still be connecting."""

    def __init__(
        self, loop: Loop, client: _socket.socket, inside: _socket.socket,
        ended: Callable[[Connection], None],
    ) -> None:  # fmt: skip
        self._loop = loop
        self._client = client
        self._inside = inside
        self._ended = ended
        self._inward = _Flow(client, inside)
        self._outward = _Flow(inside, client)
        client.setblocking(False)
        for each in (client, inside):
            each.setsockopt(_socket.SOL_SOCKET, _socket.SO_KEEPALIVE, 1)
            each.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        loop.watch(client.fileno(), 0, self._move)
        loop.pause(client.fileno())
        loop.watch(inside.fileno(), OUT, self._connected)

    def _connected(self, fd: int, _events: int) -> None:
        if self._inside.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR):
            self._break()
            return
        self._loop.watch(fd, IN, self._move)
        self._loop.change(self._client.fileno(), IN)

    def _move(self, fd: int, events: int) -> None:
        is_client = fd == self._client.fileno()
        out, into = self._inward, self._outward
        if not is_client:
            out, into = into, out
        try:
            if events & OUT and into.is_stuck:
                into.carry()
            if events & ~OUT and not out.is_over:
                out.carry()
        except OSError:
            self._break()
            return
        if out.is_over and into.is_over:
            self._close()
        else:
            self._watch(out.source, out, into)
            self._watch(into.source, into, out)

    def _watch(self, end: _socket.socket, out: _Flow, into: _Flow) -> None:
        """Hear of one end what its two flows wait for."""
        mask = IN if not (out.is_over or out.is_stuck) else 0
        if into.is_stuck:
            mask |= OUT
        if mask:
            self._loop.change(end.fileno(), mask)
        else:
            self._loop.pause(end.fileno())

    def _break(self) -> None:
        for each in (self._client, self._inside):
            with suppress(OSError):
                each.setsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, _RESET)
        self._close()

    def _close(self) -> None:
        for each in (self._client, self._inside):
            self._loop.forget(each.fileno())
            each.close()
        self._ended(self)
