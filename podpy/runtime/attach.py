"""The client's side of a supervisor: connect, forward, and tell how it ended."""

from __future__ import annotations

import _signal
import _socket
import os
import select
import sys
import time

from podpy.errors import StateError
from podpy.kernel import process, signals
from podpy.kernel.loop import IN, OUT, Loop
from podpy.records import record
from podpy.runtime import frames, terminal
from podpy.runtime.logreader import Cursor, k8s_runs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podpy.model import ProcessIdentity

_PATIENCE = 2.0  # seconds for a supervisor to renew its socket

# Forwarded to the container.  Not those that tell of the client's own affairs
# (children, pipes, window, terminal) or faults, and none that cannot be caught.
_KEPT = {
    *(_signal.SIGKILL, _signal.SIGSTOP, _signal.SIGCHLD, _signal.SIGPIPE, _signal.SIGURG),
    *(_signal.SIGWINCH, _signal.SIGCONT, _signal.SIGTTIN, _signal.SIGTTOU, _signal.SIGALRM),
    *(_signal.SIGSEGV, _signal.SIGBUS, _signal.SIGFPE, _signal.SIGILL, _signal.SIGTRAP),
    *(_signal.SIGSYS, _signal.SIGPROF, _signal.SIGVTALRM),
}


@record
class AttachResult:
    """How a session ended: with the container (``exit_code``), or without it.

    ``exit_code`` is None when the user detached (``detached``) or when the
    supervisor vanished; then the container's state tells what is known.
    """

    exit_code: int | None = None
    detached: bool = False


def connect(run_directory: str, wants: str = "", supervisor: ProcessIdentity | None = None) -> int:
    """A connection to a container's supervisor, for what ``wants`` says.

    ``i o e`` attach stdin, stdout and stderr, ``w`` follows the log, nothing
    waits for the end (see :mod:`.frames`).  A socket that is missing, because
    somebody cleaned the runtime directory, is asked for: ``supervisor`` makes a
    new one when it is signalled.  :class:`StateError` when nobody answers.
    """
    connection = _try_connect(run_directory)
    if connection is None and supervisor is not None:
        connection = _ask_for_socket(run_directory, supervisor)
    if connection is None:
        raise StateError(f"{run_directory}: no supervisor answers there")
    connection.send(frames.HELLO + wants.encode())
    return connection.detach()


def _try_connect(run_directory: str) -> _socket.socket | None:
    try:
        directory = frames.open_directory(run_directory)
    except FileNotFoundError:
        return None
    connection = frames.open_socket()
    try:
        connection.setblocking(True)
        connection.connect(frames.address(directory))
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    finally:
        os.close(directory)
    return connection


def _ask_for_socket(run_directory: str, supervisor: ProcessIdentity) -> _socket.socket | None:
    with process.Pidfd(supervisor) as pidfd:
        if not pidfd.send(_signal.SIGUSR1):
            return None
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        if (connection := _try_connect(run_directory)) is not None:
            return connection
        time.sleep(0.005)
    return None


def wait(fd: int, timeout: float | None = None) -> int | None:
    """The container's exit code, from a connection; None after ``timeout`` seconds.

    None as well when the supervisor vanishes without a word.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    poll = select.poll()
    poll.register(fd, IN)
    while True:
        left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
        if not poll.poll(None if left is None else left * 1000):
            return None
        frame = os.read(fd, frames.CHUNK + 1)
        if not frame:
            return None
        if frame[:1] == frames.EXITED:
            return int(frame[1:])


def client(
    fd: int,
    *,
    tty: bool,
    stdin: bool,
    detach_keys: str = terminal.DETACH_KEYS,
    sig_proxy: bool = True,
) -> AttachResult:
    """Be the terminal of a container until it ends or the user detaches.

    ``fd`` is the foreground socket that ``run`` made, or a connection with
    ``i``, ``o`` and ``e`` as wanted.  Output goes to descriptors 1 and 2.  With
    ``stdin``, descriptor 0 is forwarded, in raw mode where it is a terminal and
    the container has one (``tty``); the terminal is put back on every way out.
    Detach keys count for containers with a terminal, as in docker.
    """
    session = _Session(fd, stdin, detach_keys if tty else "")
    if tty:
        session.follow_size()
    caught = [_signal.SIGWINCH] if tty else []
    if sig_proxy:
        caught += _forwarded()
    raw = terminal.RawMode(0, wanted=tty and stdin)
    with raw, terminal.Signals(session.loop, caught, session.on_signal):
        return session.run()


def _forwarded() -> list[int]:
    return sorted(set(signals.NUMBERS.values()) - _KEPT)


class _Session:
    """One attached client: frames on one side, descriptors 0, 1 and 2 on the other."""

    def __init__(self, fd: int, stdin: bool, detach_keys: str) -> None:
        self.loop = Loop()
        self._fd = fd
        self._connection = _socket.socket(fileno=os.dup(fd))
        self._connection.setblocking(False)
        self._buffer = bytearray(frames.CHUNK + 1)
        self._view = memoryview(self._buffer)
        self._keys = terminal.DetachKeys(detach_keys)
        self._outgoing: list[bytes] = []
        self._reads_stdin = stdin
        self._log: Cursor | None = None
        self._streams: list[int] = []
        self._result: AttachResult | None = None
        self.loop.watch(fd, IN, self._on_socket)
        if stdin:
            self._watch_stdin()

    def _watch_stdin(self) -> None:
        try:
            self.loop.watch(0, IN, self._on_stdin)
        except OSError:  # closed by the caller: the same as empty
            self._reads_stdin = False
            self._send(frames.STDIN)

    def run(self) -> AttachResult:
        try:
            while self._result is None:
                self.loop.turn()
            return self._result
        finally:
            self._connection.close()
            if self._log:
                self._log.close()

    # --- towards the container -----------------------------------------------

    def follow_size(self) -> None:
        rows, columns = terminal.window_size(0)
        if not rows:
            rows, columns = terminal.window_size(1)
        if rows and columns:
            self._send(frames.SIZE, b"%d %d" % (rows, columns))

    def on_signal(self, number: int) -> None:
        if number == _signal.SIGWINCH:
            self.follow_size()
        else:
            self._send(frames.SIGNAL, b"%d" % number)

    def _on_stdin(self, _fd: int, _events: int) -> None:
        try:
            data = os.read(0, frames.CHUNK)
        except OSError:
            data = b""
        if not data:
            self.loop.forget(0)
            self._reads_stdin = False
            self._send(frames.STDIN)
            return
        typed, detached = self._keys.feed(data)
        if typed:
            self._send(frames.STDIN, typed)
        if detached:
            self._result = AttachResult(detached=True)

    def _send(self, word: bytes, data: bytes = b"") -> None:
        self._outgoing.append(word + data)
        self._flush()

    def _flush(self) -> None:
        """Send what waits; while the supervisor takes no more, read no more input."""
        try:
            while self._outgoing:
                self._connection.send(self._outgoing[0])
                del self._outgoing[0]
        except BlockingIOError:
            pass
        except OSError:
            self._outgoing.clear()  # its last frame, unread yet, says why it is gone
        self.loop.change(self._fd, IN | OUT if self._outgoing else IN)
        if self._reads_stdin:
            if self._outgoing:
                self.loop.pause(0)
            else:
                self.loop.change(0, IN)

    # --- from the container --------------------------------------------------

    def _on_socket(self, _fd: int, events: int) -> None:
        if events & OUT:
            self._flush()
        if events & ~OUT:
            self._receive()

    def _receive(self) -> None:
        try:
            size, ancillary, _, _ = self._connection.recvmsg_into([self._buffer], 24)
        except BlockingIOError:
            return
        except OSError:
            size = 0
        word = bytes(self._view[:1]) if size else b""
        if word == frames.STDOUT:
            _write(1, self._view[1:size])
        elif word == frames.STDERR:
            _write(2, self._view[1:size])
        elif word:
            self._obey(word, bytes(self._view[1:size]), ancillary)
        else:
            self._result = AttachResult()

    def _obey(self, word: bytes, data: bytes, ancillary: list[tuple[int, int, bytes]]) -> None:
        if word == frames.EXITED:
            self._read_log()
            self._result = AttachResult(exit_code=int(data))
        elif word == frames.LAGGED:
            log_fd = int.from_bytes(ancillary[0][2][:4], sys.byteorder)
            offset, wants = data.split(b" ")
            self._log = Cursor(log_fd, int(offset))
            self._streams = [s for s, letter in ((1, b"o"), (2, b"e")) if letter in wants]
        elif word == frames.REFUSED:
            raise StateError(f"the container's supervisor ends this session: {data.decode()}")
        if word in (frames.LAGGED, frames.GREW):
            self._read_log()

    def _read_log(self) -> None:
        """Go on in the log: the supervisor has stopped sending what we were too slow for."""
        if self._log is None:
            return
        for block in self._log.blocks():
            for stream, _, text in k8s_runs(block):
                if stream in self._streams:
                    _write(stream, memoryview(text))


def _write(fd: int, data: memoryview) -> None:
    """Write everything, also to a terminal that somebody made non-blocking."""
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:
            poll = select.poll()
            poll.register(fd, OUT)
            poll.poll()
