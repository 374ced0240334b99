"""A program on a pseudo-terminal, driven by a test as a person would."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from support import processes


class Terminal:
    """Starts ``argv`` as the foreground job of a new session on a new terminal."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: str | Path | None = None,
        rows: int = 24,
        columns: int = 80,
    ) -> None:
        self._master, slave = pty.openpty()
        self.resize(rows, columns)
        self.process = processes.popen(
            list(argv),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=dict(env),
            cwd=cwd,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self.output = ""
        self._seen = 0

    @property
    def pid(self) -> int:
        return self.process.pid

    def resize(self, rows: int, columns: int) -> None:
        """Change the window's size; the foreground process gets SIGWINCH."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def settings(self) -> list:  # type: ignore[type-arg]
        """``tcgetattr`` of the terminal: raw mode must be undone at the end."""
        return termios.tcgetattr(self._master)

    def send(self, text: str | bytes) -> None:
        data = text.encode() if isinstance(text, str) else text
        while data:
            data = data[os.write(self._master, data) :]

    def expect(self, pattern: str, timeout: float = 10.0) -> re.Match[str]:
        """Read on until ``pattern`` (a regular expression) appears; consume what precedes it."""
        deadline = time.monotonic() + timeout
        while True:
            match = re.compile(pattern, re.S).search(self.output, self._seen)
            if match:
                self._seen = match.end()
                return match
            if not self._read(deadline - time.monotonic()):
                raise AssertionError(
                    f"terminal never showed {pattern!r}; since the last match it showed "
                    f"{self.output[self._seen :]!r}"
                )

    def _read(self, timeout: float) -> bool:
        """Take what there is; False at the end of output or time."""
        if timeout <= 0 or not select.select([self._master], [], [], timeout)[0]:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # EIO: the last process closed the terminal
            return False
        self.output += data.decode(errors="replace")
        return bool(data)

    def wait(self, timeout: float = 10.0) -> int:
        """The exit code, after all output is read."""
        deadline = time.monotonic() + timeout
        while self.process.poll() is None and time.monotonic() < deadline:
            self._read(0.02)
        code = self.process.wait(max(0.1, deadline - time.monotonic()))
        while self._read(0.05):
            pass
        return code

    def close(self) -> None:
        """Hang up, as a closed window does, and end the program if it stays."""
        if self._master >= 0:
            os.close(self._master)
            self._master = -1
        if self.process.poll() is None:
            try:
                self.process.wait(2)
            except Exception:
                self.process.send_signal(signal.SIGKILL)
                self.process.wait(5)
