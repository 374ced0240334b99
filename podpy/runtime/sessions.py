"""``exec -d`` and ``exec -t``: processes that may outlive the command that started them.

Such a process gets a keeper K, forked from the command before anything else.  K
joins the container, so the process is its child and is collected when it ends:
a zombie without a parent that waits would keep the container's pid namespace,
and so the container, from ending.  With a terminal K hands the master to P,
which relays; when P goes, by the detach keys or killed, K keeps the master open
and reads what is written to it, for a terminal that nobody reads stops whoever
writes to it.  Left alone, K re-executes itself as a program of a few lines.
"""

from __future__ import annotations

import _signal
import os
import select
import sys

from podpy.kernel import process
from podpy.runtime import channel, join, terminal
from podpy.runtime.channel import Channel
from podpy.runtime.join import Entry, Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

EXITED = "exited"  # K → P: the exit code
#: What ends a program at a terminal from outside; keys come through the terminal itself.
_ENDING = (_signal.SIGHUP, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGTERM)

#: Reads a terminal's master (or none) until the process has ended: all that is left of K.
_KEEPER = """
import posix, select, sys
pid, pidfd, master = map(int, sys.argv[1:4])
poll = select.poll()
for fd in (pidfd, master):
    if fd >= 0:
        poll.register(fd, select.POLLIN)
while True:
    ready = {fd for fd, _ in poll.poll()}
    if master in ready:
        try:
            ready -= {master} if posix.read(master, 65536) else set()
        except OSError:
            poll.unregister(master)
    if pidfd in ready:
        break
posix.waitpid(pid, 0)
"""


def detach(entry: Entry) -> None:
    """Run ``entry`` and leave it alone; raises why it could not be run."""
    _, ours = _fork_keeper(entry, lambda master: None, wanted=False)
    with ours:
        ours.expect(channel.STARTED)


def run(entry: Entry, *, stdin: bool, detach_keys: str) -> int:
    """Run ``entry`` at a new terminal; its exit code, or 0 when it was left alone."""
    terminal.parse_keys(detach_keys)  # a mistake in them is said before anything runs
    keeper, ours = _fork_keeper(entry, _resizer(), wanted=True)
    with ours:
        word, details, fds = ours.receive()
        if word != channel.STARTED or len(fds) != 2:
            os.waitpid(keeper, 0)
            raise channel.revive(details)
        master, child = fds
        for number in _ENDING:
            _signal.signal(number, lambda number, _: _send(child, number))
        if terminal.relay(master, 0 if stdin else -1, 1, detach_keys, child):
            return 0
        os.close(master)  # a payload that outlives its terminal is told so by SIGHUP
        code = int(ours.expect(EXITED)[0])
    os.waitpid(keeper, 0)
    return code


def _send(child: int, number: int) -> None:
    try:
        _signal.pidfd_send_signal(child, number)
    except (ProcessLookupError, PermissionError):
        pass  # it ends at this moment, or has become somebody we may not signal


def _resizer() -> Callable[[int], None]:
    """Gives a new terminal the size of ours."""
    sizes = (terminal.window_size(fd) for fd in (0, 1, 2))
    rows, columns = next((size for size in sizes if all(size)), (0, 0))

    def resize(master: int) -> None:
        if rows and columns:
            terminal.set_window_size(master, rows, columns)

    return resize


# --- K -----------------------------------------------------------------------


def _fork_keeper(
    entry: Entry, resize: Callable[[int], None], *, wanted: bool
) -> tuple[int, Channel]:
    """Fork K; ``wanted`` says that P stays to hear how the process ends."""
    ours, theirs = Channel.pair()
    pid = process.fork_child(lambda: _keep(entry, ours, theirs, resize, wanted))
    theirs.close()
    return pid, ours


def _keep(
    entry: Entry, outer: Channel, ours: Channel, resize: Callable[[int], None], wanted: bool
) -> int:
    outer.close()
    os.setsid()
    os.chdir("/")
    _leave_streams(entry.stdio)
    with ours:
        try:
            session = join.start(entry, resize)
        except BaseException as error:
            ours.fail("join the container", error)
            return 125
        child = os.pidfd_open(session.pid)
        fds = (session.terminal, child) if wanted else ()
        ours.send(channel.STARTED, session.pid, fds=fds)
        if wanted and _ended(child, ours):
            if session.terminal >= 0:
                os.close(session.terminal)
            ours.send(EXITED, process.wait(session.pid))
            return 0
    _become_small(session, child)
    return 0


def _leave_streams(kept: tuple[int, ...]) -> None:
    """Let go of the caller's streams: whoever reads them to their end must not wait for K."""
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for fd in {0, 1, 2}.difference(kept):
        os.dup2(null, fd)
    os.close(null)


def _ended(child: int, ours: Channel) -> bool:
    """Wait for the process or for P to go; True when the process has ended."""
    poll = select.poll()
    for fd in (child, ours.fileno()):
        poll.register(fd, select.POLLIN)
    return child in {fd for fd, _ in poll.poll()}


def _become_small(session: Session, child: int) -> None:
    """Free the command's memory; a process of podpy's own, on the host, may execute."""
    for fd in (child, session.terminal):
        if fd >= 0:
            os.set_inheritable(fd, True)
    process.default_signals()
    program = sys.executable or "/proc/self/exe"
    numbers = [str(number) for number in (session.pid, child, session.terminal)]
    os.execve(program, [program, "-IS", "-c", _KEEPER, *numbers], {"LC_ALL": "POSIX"})
