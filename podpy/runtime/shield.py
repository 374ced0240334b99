"""Streams that a container must not be given themselves: files and terminals of the host.

``exec`` hands its own standard streams to the payload.  For a pipe that is
all it gets; but a file or a terminal can be opened anew through
``/proc/self/fd``, with more rights: what was only redirected from could be
written, what was only appended to be read or emptied, and keystrokes be read
for as long as any process of the container lives.  Such streams get a pipe
instead, and a child that copies.
"""

from __future__ import annotations

import _signal
import os
import select
import stat

from podpy import files
from podpy.kernel import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_CHUNK = 1 << 16
#: The terminal sends these to everybody in the foreground; the last output must still arrive.
_OF_TERMINALS = (_signal.SIGINT, _signal.SIGQUIT, _signal.SIGTSTP)


class Shield:
    """The streams to give instead of ``stdio``; a context manager around the payload's life.

    Enter it before signals are blocked, and :meth:`release` the streams when the
    payload has them.  Leaving it waits until what the payload has written is
    where it belongs.
    """

    def __init__(self, stdio: tuple[int, int, int]) -> None:
        self.stdio = stdio
        self._given: list[int] = []
        self._copier = -1
        self._life = -1

    def __enter__(self) -> Shield:
        exposed = [number for number, fd in enumerate(self.stdio) if is_reopenable(fd)]
        if exposed:
            self._start_copying(exposed)
        return self

    def _start_copying(self, exposed: list[int]) -> None:
        stdio, pairs = list(self.stdio), {}
        theirs = []
        for number in exposed:
            reading, writing = os.pipe()
            given, kept = (reading, writing) if number == 0 else (writing, reading)
            source, target = (stdio[0], kept) if number == 0 else (kept, stdio[number])
            pairs[source] = target
            stdio[number] = given
            theirs.append(kept)
            self._given.append(given)
        life, self._life = os.pipe()
        ours = (*self._given, self._life)
        self._copier = process.fork_child(lambda: _Copier(pairs, life).run(ours))
        for fd in (*theirs, life):
            os.close(fd)
        self.stdio = (stdio[0], stdio[1], stdio[2])

    def release(self) -> None:
        """Close our copies of what the payload has, so that its end is an end."""
        while self._given:
            os.close(self._given.pop())

    def __exit__(self, *exc: object) -> None:
        self.release()
        if self._copier >= 0:
            os.close(self._life)
            os.waitpid(self._copier, 0)


def is_reopenable(fd: int) -> bool:
    """A file or a terminal: what ``/proc/self/fd`` would open with other rights."""
    try:
        return stat.S_ISREG(os.fstat(fd).st_mode) or os.isatty(fd)
    except OSError:
        return False  # closed by the caller


class _Copier:
    """The child: copies until the outputs have ended.

    When ``life`` ends, the payload has ended, or podpy: what was written lies
    in the pipes and is copied, nothing more is waited for.
    """

    def __init__(self, pairs: dict[int, int], life: int) -> None:
        self._targets = pairs
        self._life = life
        self._is_over = False
        self._poll = select.poll()

    def run(self, close: Iterable[int]) -> int:
        for fd in close:
            os.close(fd)
        for number in _OF_TERMINALS:
            _signal.signal(number, _signal.SIG_IGN)
        for source in (*self._targets, self._life):
            self._poll.register(source, select.POLLIN)
        while self._targets:
            ready = [fd for fd, _ in self._poll.poll(0 if self._is_over else None)]
            if self._is_over and not ready:
                break
            for fd in ready:
                self._attend(fd)
        return 0

    def _attend(self, fd: int) -> None:
        if fd == self._life:
            self._is_over = True
            self._poll.unregister(fd)
            if 0 in self._targets:
                self._end(0)
        elif fd in self._targets and not self._pass_on(fd):
            self._end(fd)

    def _pass_on(self, source: int) -> bool:
        """Copy what is there; False at the end of the stream or of the one who reads it."""
        try:
            data = os.read(source, _CHUNK)
            files.write_all(self._targets[source], data)
        except OSError:
            return False
        return bool(data)

    def _end(self, source: int) -> None:
        self._poll.unregister(source)
        os.close(self._targets.pop(source))
        if source != 0:
            os.close(source)
