"""Asking other name servers, and nobody but those that were configured.

Each attempt has a socket of its own, connected to the server: a port chosen by the
kernel, a number chosen at random, and only that server's answers are heard.  A
server that says nothing for a second is not waited for: the next one is asked,
and the first that answers, be it late, wins.  After four attempts there is no
answer, which is before any client gives up.  Servers that were silent are asked
last for a while.
"""

from __future__ import annotations

import _socket
import errno
import os
import time

from podpy.kernel.loop import IN, OUT
from podpy.net import addressing, dnswire, resolv

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from podpy.kernel.loop import Loop

    Done = Callable[[bytes | None], None]
    # Makes a socket from which a server can be reached, of a family and a kind.
    Opener = Callable[[str, int, int], _socket.socket]

PATIENCE = 1.0  # seconds that a server has before the next one is asked
ATTEMPTS = 4
_AVOIDED = 30.0  # seconds for which a silent server is asked last
_PENDING = 512  # questions at a time: half of the usual limit of open files
_LARGEST = 65535
_NO_ANSWER = (dnswire.SERVFAIL, dnswire.NOTIMP, dnswire.REFUSED)


def open_here(_server: str, family: int, kind: int) -> _socket.socket:
    """A socket of the namespace this process lives in."""
    return _socket.socket(family, kind | _socket.SOCK_CLOEXEC)


class HostResolvers:
    """The host's name servers and search domains, as resolv.conf(5) names them now."""

    def __init__(self, path: str = resolv.RESOLV_CONF) -> None:
        self._path = path
        self._seen: tuple[int, ...] | None = None
        self._found: tuple[tuple[str, ...], tuple[str, ...]] = (), ()

    def current(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Servers and search domains; none where the file is missing or names none."""
        try:
            found = os.stat(self._path)
            seen = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)
            if seen != self._seen:
                with open(self._path, "rb") as file:
                    text = file.read().decode(errors="replace")
                servers, search, _ = resolv.parse_resolv_conf(text)
                self._found = tuple(filter(_is_server, servers)), search
                self._seen = seen
        except OSError:
            self._found, self._seen = ((), ()), None
        return self._found


def _is_server(text: str) -> bool:
    return resolv.is_address(text.partition("%")[0])


class Upstream:
    """Questions on their way to other servers; at most so many at a time."""

    def __init__(self, loop: Loop, port: int = 53) -> None:
        self.loop = loop
        self.port = port
        self._avoided: dict[str, float] = {}
        # When each inquiry goes on to its next server: in order, as all wait equally long.
        self._waiting: dict[Inquiry, float] = {}

    def ask(
        self,
        question: dnswire.Question,
        servers: Sequence[str],
        done: Done,
        opener: Opener = open_here,
    ) -> None:
        """Ask the servers in turn; ``done`` gets the answer, or None when there is none.

        A question that came by TCP is asked by TCP.  The answer is what the server
        sent, byte for byte, under the number of the question.
        """
        if not servers or len(self._waiting) >= _PENDING:
            done(None)
            return
        Inquiry(self, question, self._ordered(servers), done, opener).advance()

    @property
    def is_crowded(self) -> bool:
        """Whether half of the room is taken: the rest is for those who ask little."""
        return len(self._waiting) >= _PENDING // 2

    def close(self) -> None:
        """Give up everything that is under way, silently."""
        for inquiry in list(self._waiting):
            inquiry.close()
        self._waiting.clear()
        self.loop.cancel(self)

    def _ordered(self, servers: Sequence[str]) -> list[str]:
        if not self._avoided:
            return list(servers)
        now = time.monotonic()
        return sorted(servers, key=lambda server: self._avoided.get(server, 0.0) > now)

    def blame(self, server: str) -> None:
        """A server did not answer in time, or is not there."""
        self._avoided[server] = time.monotonic() + _AVOIDED

    def praise(self, server: str) -> None:
        if self._avoided:
            self._avoided.pop(server, None)

    def wait(self, inquiry: Inquiry) -> None:
        """Let an inquiry go on after a second."""
        self._waiting.pop(inquiry, None)
        self._waiting[inquiry] = time.monotonic() + PATIENCE
        if len(self._waiting) == 1:
            self.loop.later(PATIENCE, self._expire, self)

    def forget(self, inquiry: Inquiry) -> None:
        self._waiting.pop(inquiry, None)

    def _expire(self) -> None:
        now = time.monotonic()
        for inquiry, when in list(self._waiting.items()):
            if when > now:
                break
            if inquiry in self._waiting:
                inquiry.lapse()
        if self._waiting:
            first = next(iter(self._waiting.values()))
            self.loop.later(max(first - now, 0.0), self._expire, self)


class Inquiry:
    """One question and the attempts to have it answered."""

    __slots__ = ("_attempts", "_done", "_left", "_opener", "_refusal", "_upstream", "question")

    def __init__(
        self,
        upstream: Upstream,
        question: dnswire.Question,
        servers: Sequence[str],
        done: Done,
        opener: Opener,
    ) -> None:
        self.question = question
        self._upstream = upstream
        self._left = (list(servers) * ATTEMPTS)[:ATTEMPTS]
        self._done = done
        self._opener = opener
        self._attempts: list[Datagram | Stream] = []
        self._refusal: bytes | None = None

    def advance(self) -> None:
        """Ask the next server; with none left, wait for those that were asked, or end."""
        make = Stream if self.question.stream else Datagram
        while self._left:
            server = self._left.pop(0)
            try:
                attempt = make(self, server, self._upstream, self._opener)
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE):
                    self._upstream.blame(server)
                self._strike(server)
            else:
                self._attempts.append(attempt)
                break
        if self._attempts:
            self._upstream.wait(self)
        else:
            self._finish(self._refusal)

    def lapse(self) -> None:
        """A second is over: who has not answered is late."""
        self._upstream.blame(self._attempts[-1].server)
        if self._left:
            self.advance()
        else:
            self._finish(self._refusal)

    def failed(self, attempt: Datagram | Stream) -> None:
        """A server cannot be reached at all."""
        self._upstream.blame(attempt.server)
        self._abandon(attempt)

    def answered(self, attempt: Datagram | Stream, packet: bytes) -> None:
        """A server answered; if it only refused, another one may know better."""
        self._upstream.praise(attempt.server)
        packet = self.question.packet[:2] + packet[2:]
        if dnswire.code(packet) in _NO_ANSWER:
            self._refusal = packet
            self._abandon(attempt)
        else:
            self._finish(packet)

    def close(self) -> None:
        for attempt in self._attempts:
            attempt.close()
        self._attempts.clear()

    def _abandon(self, attempt: Datagram | Stream) -> None:
        latest = attempt is self._attempts[-1]
        self._attempts.remove(attempt)
        attempt.close()
        self._strike(attempt.server)
        if latest or not self._attempts:
            self.advance()

    def _strike(self, server: str) -> None:
        self._left = [each for each in self._left if each != server]

    def _finish(self, packet: bytes | None) -> None:
        self._upstream.forget(self)
        self.close()
        self._done(packet)


class Datagram:
    """One attempt by UDP."""

    __slots__ = ("_inquiry", "_loop", "_number", "_socket", "server")

    def __init__(self, inquiry: Inquiry, server: str, upstream: Upstream, opener: Opener) -> None:
        """``OSError`` when the server cannot be asked."""
        self.server = server
        self._inquiry = inquiry
        self._loop = upstream.loop
        self._number = os.urandom(2)
        self._socket = _connected(server, upstream.port, _socket.SOCK_DGRAM, opener)
        try:
            self._socket.send(self._number + inquiry.question.packet[2:])
        except OSError:
            self._socket.close()
            raise
        self._loop.watch(self._socket.fileno(), IN, self._hear)

    def _hear(self, _fd: int, _events: int) -> None:
        try:
            packet = self._socket.recv(_LARGEST)
        except BlockingIOError:
            return
        except OSError:
            self._inquiry.failed(self)  # nobody listens there, or there is no way
            return
        if dnswire.answers(self._inquiry.question, self._number, packet):
            self._inquiry.answered(self, packet)

    def close(self) -> None:
        self._loop.forget(self._socket.fileno())
        self._socket.close()


class Stream:
    """One attempt by TCP."""

    __slots__ = ("_inquiry", "_loop", "_number", "_received", "_socket", "server")

    def __init__(self, inquiry: Inquiry, server: str, upstream: Upstream, opener: Opener) -> None:
        """``OSError`` when the server cannot be asked."""
        self.server = server
        self._inquiry = inquiry
        self._loop = upstream.loop
        self._number = os.urandom(2)
        self._received = b""
        self._socket = _connected(server, upstream.port, _socket.SOCK_STREAM, opener)
        self._loop.watch(self._socket.fileno(), OUT, self._connect)

    def _connect(self, fd: int, _events: int) -> None:
        question = self._number + self._inquiry.question.packet[2:]
        framed = len(question).to_bytes(2, "big") + question
        try:
            sent = self._socket.send(framed)  # which reports what became of the connection
        except OSError:
            sent = 0
        if sent < len(framed):  # a new connection takes far more at once
            self._inquiry.failed(self)
            return
        self._loop.forget(fd)
        self._loop.watch(fd, IN, self._hear)

    def _hear(self, _fd: int, _events: int) -> None:
        try:
            data = self._socket.recv(_LARGEST)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._received += data
        size = int.from_bytes(self._received[:2], "big")
        packet = self._received[2 : 2 + size]
        if data and (len(self._received) < 2 or len(packet) < size):
            return
        if data and dnswire.answers(self._inquiry.question, self._number, packet):
            self._inquiry.answered(self, packet)
        else:
            self._inquiry.failed(self)

    def close(self) -> None:
        self._loop.forget(self._socket.fileno())
        self._socket.close()


def _connected(server: str, port: int, kind: int, opener: Opener) -> _socket.socket:
    """A socket on its way to a server; it does not block."""
    address, _, scope = server.partition("%")
    target: tuple[str, int] | tuple[str, int, int, int] = (address, port)
    if scope:
        link = int(scope) if scope.isdecimal() else _socket.if_nametoindex(scope)
        target = (address, port, 0, link)
    made = opener(server, addressing.family(address), kind)
    try:
        made.setblocking(False)
        problem = made.connect_ex(target)
        if problem not in (0, errno.EINPROGRESS):
            raise OSError(problem, os.strerror(problem))
    except OSError:
        made.close()
        raise
    return made
