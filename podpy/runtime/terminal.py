"""Terminals: raw mode, window sizes, detach keys, and a plain pty relay for ``exec -t``."""

from __future__ import annotations

import _signal
import fcntl
import os
import select
import struct

from podpy.errors import UsageError
from podpy.files import write_all
from podpy.kernel.loop import IN, OUT, Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

DETACH_KEYS = "ctrl-p,ctrl-q"
END_OF_FILE = b"\x04"  # what a terminal takes for it, at the beginning of a line
CHUNK = 65536

_CONTROLS = {**{chr(ord("a") + n): n + 1 for n in range(26)}, "@": 0, "[": 27, "\\": 28}
_CONTROLS.update({"]": 29, "^": 30, "_": 31})


def parse_keys(text: str) -> bytes:
    """A detach sequence as the bytes a terminal sends for it; empty disables it.

    Keys are separated by commas: single characters, or ``ctrl-`` and one of
    ``a``-``z @ [ \\ ] ^ _``.
    """
    keys = bytearray()
    for key in text.split(",") if text else ():
        name = key.lower().removeprefix("ctrl-")
        if key.lower().startswith("ctrl-") and name in _CONTROLS:
            keys.append(_CONTROLS[name])
        elif len(key) == 1 and key.isascii():
            keys.append(ord(key))
        else:
            raise UsageError(
                f"invalid detach keys {text!r}: {key!r} is no key",
                hint="give single characters or ctrl-<key>, separated by commas",
            )
    return bytes(keys)


class DetachKeys:
    """Looks for the detach sequence in what is typed.

    What may still become the sequence is held back; when it does not, it is
    passed on with the rest.
    """

    def __init__(self, text: str = DETACH_KEYS) -> None:
        self._keys = parse_keys(text)
        self._held = b""

    def feed(self, typed: bytes) -> tuple[bytes, bool]:
        """The bytes to pass on, and whether the sequence is complete."""
        if not self._keys:
            return typed, False
        data = self._held + typed
        at = data.find(self._keys)
        if at >= 0:
            self._held = b""
            return data[:at], True
        hold = next(
            n for n in range(min(len(self._keys) - 1, len(data)), -1, -1)
            if data.endswith(self._keys[:n])
        )  # fmt: skip
        self._held = data[len(data) - hold :]
        return data[: len(data) - hold], False


def window_size(fd: int) -> tuple[int, int]:
    """Rows and columns of a terminal; zeros where ``fd`` is none."""
    import termios

    try:
        answer = fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8))
    except OSError:
        return 0, 0
    rows, columns, _, _ = struct.unpack("HHHH", answer)
    return rows, columns


def set_window_size(fd: int, rows: int, columns: int) -> None:
    """Tell a pty how large its window is; its foreground process gets SIGWINCH."""
    import termios

    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


class RawMode:
    """A terminal in raw mode for a ``with`` block; any other file is left alone.

    Raw: keys come as typed, without echo, line editing or signals; output is
    passed through unchanged.
    """

    def __init__(self, fd: int, *, wanted: bool = True) -> None:
        self._fd = fd if wanted and os.isatty(fd) else -1
        self._saved: list[Any] = []

    def __enter__(self) -> RawMode:
        if self._fd >= 0:
            import termios

            self._saved = termios.tcgetattr(self._fd)
            termios.tcsetattr(self._fd, termios.TCSADRAIN, _raw(termios.tcgetattr(self._fd)))
        return self

    def __exit__(self, *exc: object) -> None:
        if self._fd >= 0:
            import termios

            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._saved)


def _raw(mode: list[Any]) -> list[Any]:
    import termios as t

    iflag, oflag, cflag, lflag, ispeed, ospeed, cc = mode
    iflag &= ~(t.IGNBRK | t.BRKINT | t.PARMRK | t.ISTRIP | t.INLCR | t.IGNCR | t.ICRNL | t.IXON)
    oflag &= ~t.OPOST
    cflag = cflag & ~(t.CSIZE | t.PARENB) | t.CS8
    lflag &= ~(t.ECHO | t.ECHONL | t.ICANON | t.ISIG | t.IEXTEN)
    cc = list(cc)
    cc[t.VMIN], cc[t.VTIME] = 1, 0
    return [iflag, oflag, cflag, lflag, ispeed, ospeed, cc]


class Signals:
    """Signals as events of a loop, for a ``with`` block; old handlers come back after it."""

    def __init__(self, loop: Loop, numbers: Sequence[int], handler: Callable[[int], None]) -> None:
        self._loop = loop
        self._numbers = numbers
        self._handler = handler
        self._pipe = (-1, -1)
        self._wakeup = -1
        self._saved: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        self._pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._wakeup = _signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        for number in self._numbers:
            self._saved[number] = _signal.signal(number, lambda *_: None)
        self._loop.watch(self._pipe[0], IN, self._on_signals)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._saved.items():
            _signal.signal(number, handler)
        _signal.set_wakeup_fd(self._wakeup)
        self._loop.forget(self._pipe[0])
        for fd in self._pipe:
            os.close(fd)

    def _on_signals(self, fd: int, _events: int) -> None:
        for number in os.read(fd, 256):
            self._handler(number)


def relay(
    master: int,
    stdin: int = 0,
    stdout: int = 1,
    detach_keys: str = DETACH_KEYS,
    child: int = -1,
) -> bool:
    """Copy between the user's terminal and a pty master; True when the user detached.

    It ends with the pty, or with the process of the pidfd ``child``, whoever
    else still holds the pty.  ``stdin`` may be -1 (no input); where it is a
    terminal, it is in raw mode meanwhile and its window size is followed.
    """
    return _Relay(master, stdin, stdout, detach_keys, child).run()


class _Relay:
    """The state of one :func:`relay`."""

    def __init__(self, master: int, stdin: int, stdout: int, keys: str, child: int) -> None:
        self._master = master
        self._stdin = stdin
        self._stdout = stdout
        self._child = child
        self._keys = DetachKeys(keys)
        self._typed = bytearray()
        self._loop = Loop()
        self._over = False
        self._detached = False

    def run(self) -> bool:
        os.set_blocking(self._master, False)
        self._loop.watch(self._master, IN, self._on_master)
        if self._stdin >= 0:
            self._loop.watch(self._stdin, IN, self._on_stdin)
        if self._child >= 0:
            self._loop.watch(self._child, IN, self._on_end)
        self._follow_size()
        with (
            RawMode(self._stdin, wanted=self._stdin >= 0),
            Signals(self._loop, (_signal.SIGWINCH,), lambda _: self._follow_size()),
        ):
            while not (self._over or self._detached):
                self._loop.turn()
        return self._detached

    def _follow_size(self) -> None:
        rows, columns = window_size(self._stdin if self._stdin >= 0 else self._stdout)
        if rows and columns:
            set_window_size(self._master, rows, columns)

    def _on_master(self, _fd: int, events: int) -> None:
        if events & OUT:
            self._push()
        if events & ~OUT and not self._copy():
            self._over = True

    def _copy(self) -> bool:
        """Copy one piece of output; False at the end of the pty."""
        try:
            data = os.read(self._master, CHUNK)
        except BlockingIOError:
            return True
        except OSError:  # EIO: nobody holds the other end
            return False
        write_all(self._stdout, data)
        return bool(data)

    def _on_end(self, _fd: int, _events: int) -> None:
        poll = select.poll()
        poll.register(self._master, IN)
        while not self._over and poll.poll(0) and self._copy():
            pass
        self._over = True

    def _on_stdin(self, fd: int, _events: int) -> None:
        data = os.read(fd, 4096)
        if not data:
            self._loop.forget(fd)
            self._stdin = -1
            self._typed += END_OF_FILE
        else:
            typed, self._detached = self._keys.feed(data)
            self._typed += typed
        self._push()

    def _push(self) -> None:
        """Type what is waiting; while the pty is full, read no more of it."""
        try:
            del self._typed[: os.write(self._master, self._typed)]
        except BlockingIOError:
            pass
        except OSError:
            self._typed.clear()
        self._loop.change(self._master, IN | OUT if self._typed else IN)
        if self._stdin >= 0:
            self._loop.change(self._stdin, 0 if self._typed else IN)
