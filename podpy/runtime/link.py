"""A container's link to the network supervisor (:mod:`podpy.net.bridge`).

That one holds no truth.  What it must know of a container it can be told again
by the container's own supervisor, which runs this, and keeps

    ``netns route``        the container's network namespace, an rtnetlink socket of it
    ``pins``               the shared network namespace, what keeps its uplink alive, and sockets
                           in which questions about names wait while nobody reads them
    ``resume``             the packet that makes a new network supervisor know the container
    ``channel``            the connection to it, or -1; open, it is the container's lease
    ``place start``        its directory, and how one is started (:func:`starter`)

While a container's supervisor lives, none of the kernel's part can go: bridges,
plugs and the uplink stay when the network supervisor is killed.  Then all of
them try to take its lock, one gets it and starts a new one, and all come back
with what they kept.  Holding the lock *is* being the network supervisor, so
there are never two.

What it pushes is merged into ``state.json``, which the container's supervisor
alone writes.  This module runs in a lean one (see :mod:`.lean`): packets to it
are ``marshal``.
"""

from __future__ import annotations

import _socket
import fcntl
import marshal
import posix
import select
import sys
import time

from podpy.kernel import packets
from podpy.kernel.loop import IN
from podpy.runtime import frames, teardown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from podpy.kernel.loop import Loop

#: The word by which podpy's entry point knows that it shall be one; see :func:`starter`.
WORD = "network-supervisor"

_OWN = ("netns", "route")
_MERGED = b'{"do":"merged"}'
_LEAVE = b'{"do":"leave"}'
_HEAD_START = 0.02  # seconds, at most, before a loss is acted on: not all at one instant
_PAUSE = (0.02, 0.05)  # seconds between two attempts to connect: from, to
_LATE_PAUSE = 5.0  # seconds between attempts once it has been said that there is none
_PATIENCE = 30.0  # seconds until that is said
_RESTART = 0.5  # seconds between our first start and the next; then twice as many, and so on
_RESTART_LIMIT = 1.0  # … but never more: several may be killed before one has answered us
_RELEASE = 2.0  # seconds for giving everything free at the end
_LAST_WORDS = 200  # bytes


def starter() -> tuple[list[str], dict[str, str]]:
    """Command line and environment by which this very podpy can be started again.

    Call it in a process that is podpy's command or was forked from it.
    """
    import os  # which a lean supervisor does not know, nor the rest of podpy

    from podpy.net import birth

    before = len(sys.orig_argv) - len(sys.argv[1:])
    own = sys.orig_argv[1:before]
    if own and own[-1] == sys.argv[0] and os.path.exists(own[-1]):
        own[-1] = os.path.abspath(own[-1])  # ./podpy.pyz: it is started from elsewhere
    command = [sys.executable, *own, WORD]
    environment = {name: os.environ[name] for name in birth.ENVIRONMENT if name in os.environ}
    # ``python -m`` looks for modules in the working directory first.  What lies there may be
    # a container's to write by the time this is used.
    home, here = os.path.dirname(sys.modules["podpy"].__path__[0]), os.getcwd()
    trusted = (each for each in sys.path if each and (each == home or each != here))
    environment["PYTHONPATH"] = os.pathsep.join(trusted)
    return command, environment


class Link:
    """``held`` is what the docstring above lists, plain data that outlives a re-execution.

    ``changed`` is called with the fields of the container's state that differ.
    """

    def __init__(
        self, loop: Loop, held: dict[str, Any], changed: Callable[[dict[str, Any]], None]
    ) -> None:
        self._loop = loop
        self._held = held
        self._changed = changed
        self._channel: _socket.socket | None = None
        self._give_up_at = 0.0
        self._start_at = 0.0
        self._restart = _RESTART
        self._reason = "it does not answer"
        if held["channel"] >= 0:
            self._listen(_socket.socket(fileno=held["channel"]))
        else:
            self._lose()

    def descriptors(self) -> list[int]:
        """What a re-executed supervisor must inherit."""
        return descriptors(self._held)

    # --- while it lives ------------------------------------------------------

    def _listen(self, channel: _socket.socket) -> None:
        channel.setblocking(False)
        self._channel = channel
        self._held["channel"] = channel.fileno()
        self._loop.watch(channel.fileno(), IN, self._on_news)

    def _on_news(self, _fd: int, _events: int) -> None:
        try:
            packet, fds = self._receive()
        except BlockingIOError:
            return
        if packet:
            self._merge(packet, fds)
            self._tell(_MERGED)
        else:
            self._lose()

    def _receive(self) -> tuple[bytes, list[int]]:
        """The next packet and its descriptors; an empty one at the end of the connection."""
        assert self._channel is not None
        return packets.receive(self._channel)

    def _merge(self, packet: bytes, fds: list[int]) -> None:
        """Take over what was pushed: state, the packet to come back with, new pins."""
        if packet.startswith(b'{"'):  # JSON tells of an error; marshal does not begin so
            self._complain(f"it refuses: {packet.decode(errors='replace')}")
            return
        try:
            told = marshal.loads(packet)
            state, self._held["resume"] = dict(told["state"]), bytes(told["resume"])
        except (EOFError, ValueError, TypeError, KeyError):
            _close(fds)  # another version's word: no reason to let a container down
            return
        self._restart = _RESTART
        if fds:
            self._close_pins()
            self._held["pins"] = fds
        if self._held.pop("complained", False):
            state["error"] = ""
        if state:
            self._changed(state)

    def _tell(self, packet: bytes, fds: tuple[int, ...] = ()) -> bool:
        """Send a packet without ever waiting; False when it cannot be sent."""
        assert self._channel is not None
        try:
            packets.send(self._channel, packet, fds)
        except OSError:
            return False
        return True

    # --- when it is gone -----------------------------------------------------

    def _lose(self) -> None:
        self._close_channel()
        self._give_up_at = time.monotonic() + _PATIENCE
        self._loop.later(_HEAD_START * _random(), self._search, self)

    def _search(self) -> None:
        """Come back to one that is there, or see that there is one."""
        if self._connect():
            return
        try:
            self._start()
        except OSError as error:
            self._reason = error.strerror or str(error)
        if time.monotonic() < self._give_up_at:
            low, high = _PAUSE
            self._loop.later(low + (high - low) * _random(), self._search, self)
        else:
            self._complain(f"it cannot be started again: {self._reason}{self._last_words()}")
            self._loop.later(_LATE_PAUSE, self._search, self)

    def _connect(self) -> bool:
        try:
            channel = _connected(self._held["place"])
        except OSError:
            return False
        self._listen(channel)
        if self._tell(self._held["resume"], tuple(_kept(self._held))):
            return True
        self._close_channel()
        return False

    def _start(self) -> None:
        """Start one, which inherits its lock; do nothing where another container's link does."""
        now = time.monotonic()
        if now < self._start_at:
            return
        place = self._held["place"]
        frames.make_directories(place)
        lock = posix.open(f"{place}/lock", posix.O_RDWR | posix.O_CREAT | posix.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        else:
            self._start_at = now + self._restart
            self._restart = min(self._restart * 2, _RESTART_LIMIT)
            self._reason = "it ends as soon as it is started"
            self._spawn(place, lock)
        finally:
            posix.close(lock)

    def _spawn(self, place: str, lock: int) -> None:
        command, environment = self._held["start"]
        null = (posix.POSIX_SPAWN_OPEN, 0, "/dev/null", posix.O_RDWR, 0)
        posix.posix_spawn(
            command[0],
            [*command, place, str(lock)],
            environment,
            file_actions=[
                null,
                (posix.POSIX_SPAWN_DUP2, 0, 1),
                (posix.POSIX_SPAWN_DUP2, 0, 2),
                (posix.POSIX_SPAWN_DUP2, lock, lock),
            ],
            setsigmask=(),
            setsigdef=range(1, 32),
        )

    def _last_words(self) -> str:
        """What one that ended has written to a file (:mod:`podpy.net.birth`)."""
        try:
            said = teardown.read_file(f"{self._held['place']}/errors").split(b"\n")
        except OSError:
            return ""
        last = next((line for line in reversed(said) if line.strip()), b"")
        return f": {last[:_LAST_WORDS].decode(errors='replace')}" if last else ""

    def _complain(self, text: str) -> None:
        self._held["complained"] = True
        self._changed({"error": f"network supervisor: {text}"})

    # --- the end -------------------------------------------------------------

    def leave(self) -> None:
        """Pid 1 has ended: have it give free what the container held.  Does not wait."""
        self._loop.cancel(self)
        if self._channel is not None:
            self._loop.forget(self._channel.fileno())
            if not self._tell(_LEAVE):
                self._close_channel()

    def release(self) -> None:
        """Wait until everything is free, which is said by closing, and close the rest."""
        give_up = time.monotonic() + _RELEASE
        while self._channel is not None and (left := give_up - time.monotonic()) > 0:
            poll = select.poll()
            poll.register(self._channel.fileno(), IN)
            if poll.poll(left * 1000):
                packet, fds = self._receive()
                _close(fds)
                if not packet:
                    break
                self._merge(packet, [])
        self._close_channel()
        self._close_pins()
        for name in _OWN:
            posix.close(self._held[name])
            self._held[name] = -1

    def _close_pins(self) -> None:
        _close(self._held["pins"])
        self._held["pins"] = []

    def _close_channel(self) -> None:
        if self._channel is not None:
            self._loop.forget(self._channel.fileno())
            self._channel.close()
            self._channel = None
        self._held["channel"] = -1


def descriptors(held: dict[str, Any]) -> list[int]:
    """The descriptors of a link."""
    return [fd for fd in (*_kept(held), held["channel"]) if fd >= 0]


def _kept(held: dict[str, Any]) -> list[int]:
    """What goes to a new network supervisor, in this order."""
    return [*(held[name] for name in _OWN), *held["pins"]]


def _close(fds: list[int]) -> None:
    for fd in fds:
        posix.close(fd)


def _connected(place: str) -> _socket.socket:
    """A connection, which is not waited for; ``OSError`` where there is nobody."""
    kind = _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK
    directory = posix.open(place, posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    channel = _socket.socket(_socket.AF_UNIX, kind)
    try:
        channel.connect(f"/proc/self/fd/{directory}/socket")
    except BaseException:
        channel.close()
        raise
    finally:
        posix.close(directory)
    return channel


def _random() -> float:
    return posix.urandom(1)[0] / 255
