"""``exec -t``: a terminal between the user's and a process in the container."""

from __future__ import annotations

import _signal
import os

from podpy.kernel import process
from podpy.runtime import join, terminal
from podpy.runtime.join import Entry

#: What ends a program at a terminal from outside; keys come through the terminal itself.
_ENDING = (_signal.SIGHUP, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGTERM)


def run(entry: Entry, *, stdin: bool, detach: bool, detach_keys: str) -> int:
    """Run ``entry`` at a new terminal; its exit code, or 0 when it was left alone."""
    terminal.parse_keys(detach_keys)  # a mistake in them is said before anything runs
    session = join.start(entry, _resize)
    if detach:
        _leave(session.terminal)
        return 0
    child = os.pidfd_open(session.pid)
    for number in _ENDING:
        _signal.signal(number, lambda number, _: join.forward(session.pid, number))
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, (*join.FORWARDED, _signal.SIGCHLD))
    source = 0 if stdin else -1
    if terminal.relay(session.terminal, source, 1, detach_keys, child):
        _leave(session.terminal)
        return 0
    os.close(session.terminal)  # a payload that outlives its terminal is told so by SIGHUP
    return process.wait(session.pid)


def _resize(master: int) -> None:
    for fd in (0, 1, 2):
        rows, columns = terminal.window_size(fd)
        if rows and columns:
            terminal.set_window_size(master, rows, columns)
            return


def _leave(master: int) -> None:
    """Leave a process behind that holds the terminal and reads what is written to it.

    Without one the payload would be hung up; a terminal that nobody reads
    would stop it as soon as its buffer is full.
    """
    process.fork_child(lambda: _hold(master))
    os.close(master)


def _hold(master: int) -> int:
    os.setsid()
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    try:
        while os.read(master, terminal.CHUNK):
            pass
    except OSError:
        pass  # EIO: the last holder of the other side is gone
    return 0
