"""Every process a test starts, directly or through five forks, is known and ends.

The test process is a child subreaper: whatever loses its parent becomes our
child, so "what is left" is simply our descendants.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from pathlib import Path
from typing import NamedTuple

from support.polling import eventually

PR_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


class Process(NamedTuple):
    """A process that cannot be taken for a later one with its number."""

    pid: int
    start: int

    def alive(self) -> bool:
        return (stat := _stat(self.pid)) is not None and stat[2] == self.start and stat[0] != "Z"

    def describe(self) -> str:
        try:
            words = Path(f"/proc/{self.pid}/cmdline").read_text(errors="replace").split("\0")
            name = Path(f"/proc/{self.pid}/comm").read_text().strip()
        except OSError:
            return f"{self.pid} (gone)"
        shown = " ".join(word for word in words if "\n" not in word)  # no script of `python3 -c`
        return f"{self.pid} ({name}) {shown[:200]}"


def _stat(pid: int) -> tuple[str, int, int] | None:
    """State, parent and start time of a process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()
    return fields[0], int(fields[1]), int(fields[19])


def process(pid: int) -> Process:
    stat = _stat(pid)
    return Process(pid, stat[2] if stat else -1)


def descendants(root: int | None = None) -> set[Process]:
    """All living descendants of a process (ourselves by default), zombies left out."""
    table: dict[int, list[tuple[int, str, int]]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (stat := _stat(int(name))):
            table.setdefault(stat[1], []).append((int(name), stat[0], stat[2]))
    found: set[Process] = set()
    queue = [root or os.getpid()]
    while queue:
        for pid, state, start in table.get(queue.pop(), []):
            queue.append(pid)
            if state != "Z":
                found.add(Process(pid, start))
    return found


def reap() -> None:
    """Collect adopted zombies; children that ``subprocess`` waits for are left to it."""
    awaited = {child.pid for child in getattr(subprocess, "_active", [])} | _awaited
    me = os.getpid()
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) in awaited:
            continue
        stat = _stat(int(name))
        if stat and stat[0] == "Z" and stat[1] == me:
            try:
                os.waitpid(int(name), os.WNOHANG)
            except ChildProcessError:
                pass


_awaited: set[int] = set()


def popen(*args, **kwargs) -> subprocess.Popen:  # type: ignore[no-untyped-def,type-arg]
    """``subprocess.Popen`` whose exit status :func:`reap` will not take away."""
    child = subprocess.Popen(*args, **kwargs)
    _awaited.add(child.pid)
    return child


_session: set[Process] = set()


def keep(pid: int) -> None:
    """A process of the whole session is no test's leftover, nor is anything that it starts."""
    _session.add(process(pid))


class Watch:
    """What ran before the test, so that what it left can be told apart."""

    def __init__(self) -> None:
        become_subreaper()
        self._before = descendants()
        self._allowed: set[Process] = set()

    def allow(self, pid: int) -> None:
        """A process that may outlive the test, with all that it starts."""
        self._allowed.add(process(pid))

    def left(self) -> set[Process]:
        """Processes that this test started and that still run."""
        reap()
        allowed = self._allowed | _session
        exempt = set(self._before) | allowed
        for root in allowed:
            exempt |= descendants(root.pid)
        return descendants() - exempt

    def expect_none(self, timeout: float = 5.0) -> None:
        """Fail when something still runs after ``timeout``; kill it first."""
        try:
            eventually(lambda: not self.left(), timeout=timeout)
        except AssertionError:
            left = self.left()
            shown = "\n".join(f"  {each.describe()}" for each in sorted(left))
            self.kill()
            if left:
                raise AssertionError(f"processes are left:\n{shown}") from None

    def kill(self) -> None:
        """End everything this test started, by pid, until nothing is left."""
        for _ in range(50):
            left = self.left()
            if not left:
                return
            for each in left:
                if each.alive():
                    try:
                        os.kill(each.pid, signal.SIGKILL)
                    except (ProcessLookupError, PermissionError):
                        pass  # it ended by itself, or its parent namespace's init takes it along
            try:
                eventually(lambda: not self.left(), timeout=0.2)
            except AssertionError:
                continue
