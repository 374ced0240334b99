"""Where questions come in: UDP, and TCP for clients that want it (RFC 7766).

A TCP client may send several questions over one connection and gets the answers as
they come.  Clients are bounded in number and in time: each has five seconds for a
question and for taking an answer, so many unanswered questions, and an address so
many connections.  What does not look like a question ends the connection.
"""

from __future__ import annotations

import _socket
import errno
import time
from _struct import pack, unpack

from podpy.errors import suppress
from podpy.kernel import libc
from podpy.kernel.loop import IN, OUT
from podpy.net import dnswire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from podpy.kernel.loop import Loop

    # Takes a question, the asker's address, what takes the answer, and whether by TCP.
    Reply = Callable[[bytes], None]
    Ask = Callable[[bytes, str, Reply, bool], None]

PATIENCE = 5.0
_AT_ONCE = 1024  # datagrams read before others have their turn
_SHARE = 128  # of them, those of one asker that are answered
_PENANCE = 1.0  # seconds for which one with more is not heard
_PER_ADDRESS = 8
_CLIENTS = 128
_UNANSWERED = 16
_LONGEST = 4096  # no question is nearly as long
_BUFFER = 1 << 16
_MOST_MUTED = 256
_SWEEP = 1.0
_SO_DETACH_FILTER = 27
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06  # bpf(4): ldw, jeq, ret
_NETWORK_HEADER = 0xFFF00000  # SKF_NET_OFF: offsets from there


class Datagrams:
    """A socket that takes questions by UDP."""

    def __init__(self, loop: Loop, socket: _socket.socket, ask: Ask) -> None:
        self.socket = socket
        self._loop = loop
        self._ask = ask
        self._muted: set[str] = set()
        self._filter()  # a supervisor before us may have left one
        socket.setblocking(False)
        loop.watch(socket.fileno(), IN, self._hear)

    def close(self) -> None:
        self._loop.cancel(self)
        self._loop.forget(self.socket.fileno())
        self.socket.close()

    def _hear(self, _fd: int, _events: int) -> None:
        """Take what has come, and answer each asker's up to a share.

        Who asks without end fills the socket, where the questions of the others are
        lost: the kernel drops his for a while.
        """
        counts: dict[str, int] = {}
        heard = []
        try:
            for _ in range(_AT_ONCE):
                packet, source = self.socket.recvfrom(_LONGEST)
                address = str(source[0]).partition("%")[0]
                counts[address] = count = counts.get(address, 0) + 1
                if count <= _SHARE:
                    heard.append((packet, address, source))
        except OSError:
            pass
        if flooding := {address for address, count in counts.items() if count > _SHARE}:
            self._mute(flooding)
        for packet, address, source in heard:
            self._ask(packet, address, _Sender(self.socket, source), False)

    def _mute(self, addresses: set[str]) -> None:
        if len(self._muted) < _MOST_MUTED:
            self._muted |= addresses
        self._filter()
        self._loop.later(_PENANCE, self._unmute, self)

    def _unmute(self) -> None:
        self._muted.clear()
        self._filter()

    def _filter(self) -> None:
        with suppress(OSError):  # there is none to take away
            if self._muted:
                libc.attach_filter(self.socket.fileno(), _dropping(self._muted))
            else:
                self.socket.setsockopt(_socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


def _dropping(addresses: Iterable[str]) -> bytes:
    """Classic BPF that drops what comes from one of the addresses, all of one family."""
    program = b""
    for address in addresses:
        is_v6 = ":" in address
        family, at = (_socket.AF_INET6, 8) if is_v6 else (_socket.AF_INET, 12)
        words = unpack(f">{4 if is_v6 else 1}I", _socket.inet_pton(family, address))
        left = 2 * len(words)  # instructions up to the one that drops
        for number, word in enumerate(words):
            left -= 2
            program += pack("=HBBI", _LOAD, 0, 0, _NETWORK_HEADER + at + 4 * number)
            program += pack("=HBBI", _JUMP_IF_EQUAL, 0, left + 1, word)
        program += pack("=HBBI", _RETURN, 0, 0, 0)
    return program + pack("=HBBI", _RETURN, 0, 0, 0xFFFFFFFF)


class _Sender:
    """What takes the answer to one datagram."""

    __slots__ = ("_socket", "_target")

    def __init__(self, socket: _socket.socket, target: tuple[Any, ...]) -> None:
        self._socket = socket
        self._target = target

    def __call__(self, packet: bytes) -> None:
        if not packet:
            return
        try:
            self._socket.sendto(packet, self._target)
        except OSError:
            pass  # who asked has gone, or asks faster than he listens: UDP may lose it


class Listener:
    """A listening socket and its clients."""

    def __init__(self, loop: Loop, socket: _socket.socket, ask: Ask) -> None:
        self.socket = socket
        self.loop = loop
        self.ask = ask
        self._clients: set[Client] = set()
        socket.setblocking(False)
        loop.watch(socket.fileno(), IN, self._accept)

    def close(self) -> None:
        for client in list(self._clients):
            client.close()
        self.loop.cancel(self)
        self.loop.cancel(self.socket)
        self.loop.forget(self.socket.fileno())
        self.socket.close()

    def leave(self, client: Client) -> None:
        self._clients.discard(client)

    def _accept(self, _fd: int, _events: int) -> None:
        try:
            fd, source = self.socket._accept()  # type: ignore[attr-defined]  # accept()'s core
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                fd = self.socket.fileno()
                self.loop.pause(fd)  # the client would be announced for as long as it waits
                self.loop.later(_SWEEP, lambda: self.loop.change(fd, IN), self.socket)
            return
        made = _socket.socket(fileno=fd)
        address = str(source[0])
        same = sum(client.address == address for client in self._clients)
        if same >= _PER_ADDRESS or len(self._clients) >= _CLIENTS:
            made.close()
            return
        made.setblocking(False)
        # Else the kernel keeps megabytes for who asks and does not listen.
        made.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF, _BUFFER)
        if not self._clients:
            self.loop.later(_SWEEP, self._sweep, self)
        self._clients.add(Client(self, made, address))

    def _sweep(self) -> None:
        now = time.monotonic()
        for client in list(self._clients):
            if client.deadline < now:
                client.close()
        if self._clients:
            self.loop.later(_SWEEP, self._sweep, self)


class Client:
    """One connection."""

    def __init__(self, listener: Listener, made: _socket.socket, address: str) -> None:
        self.address = address
        self.deadline = time.monotonic() + PATIENCE
        self._listener = listener
        self._socket: _socket.socket | None = made
        self._received = b""
        self._unsent = b""
        self._unanswered = 0
        self._ended = False  # it will ask nothing more
        self._asking = False
        listener.loop.watch(made.fileno(), IN, self._handle)

    def close(self) -> None:
        if self._socket is not None:
            self._listener.loop.forget(self._socket.fileno())
            self._socket.close()
            self._socket = None
            self._listener.leave(self)

    def _handle(self, _fd: int, events: int) -> None:
        assert self._socket is not None
        if events & ~(IN | OUT):
            self.close()  # there is nobody left who could read an answer
            return
        try:
            if events & OUT:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
            if events & IN:
                data = self._socket.recv(_LONGEST)
                self._received += data
                self._ended = not data
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        self._go_on()

    def _go_on(self) -> None:
        """Ask what has been received; then wait for what there is to wait for."""
        self._asking = True
        while self._socket is not None and not self._is_busy() and self._ask_next():
            pass
        self._asking = False
        if self._socket is None:
            return
        if self._ended and not self._unanswered and not self._unsent:
            self.close()
            return
        mask = (0 if self._is_busy() or self._ended else IN) | (OUT if self._unsent else 0)
        self._listener.loop.change(self._socket.fileno(), mask)

    def _ask_next(self) -> bool:
        """Ask the next question; False when it has not arrived as a whole."""
        received = self._received
        if len(received) < 2:
            return False
        size = int.from_bytes(received[:2], "big")
        if not dnswire.HEADER <= size <= _LONGEST:
            self.close()
            return False
        if len(received) < 2 + size:
            return False
        self._received = received[2 + size :]
        self._unanswered += 1
        self.deadline = time.monotonic() + PATIENCE
        self._listener.ask(received[2 : 2 + size], self.address, self._answer, True)
        return True

    def _is_busy(self) -> bool:
        return bool(self._unsent) or self._unanswered >= _UNANSWERED

    def _answer(self, packet: bytes) -> None:
        """Send an answer; an empty one stands for none."""
        self._unanswered -= 1
        if self._socket is None:
            return
        if packet:
            self._unsent += len(packet).to_bytes(2, "big") + packet
            self.deadline = time.monotonic() + PATIENCE
            try:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
            except BlockingIOError:
                pass
            except OSError:
                self.close()
                return
        if not self._asking:
            self._go_on()
