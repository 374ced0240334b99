"""Joining a running container: the processes of ``exec``.

    P                      J                        E
    fork ────────────────► not dumpable
                           cgroup, setns(pidfd)
                           fork ──────────────────► session, user, terminal
    wait ◄─ FORKED, exit                            drop, execve
    wait for E

P is the command itself and stays on the host.  J enters every namespace of the
container in one call and forks E, which the pid namespace needs; when J is gone
E is P's child (P is a subreaper), so P reaps it, and passes signals on.  E has
P's own standard streams: nothing is copied, unless a terminal is asked for.

From before ``setns`` until ``execve`` J and E are not dumpable and hold no
descriptor but their channel: a process of the container can neither trace them
(CVE-2016-9962) nor find a way out through ``/proc/PID/fd`` (CVE-2024-21626).
What they run with comes from the container's record; the container's first
process is only asked for its namespaces.
"""

from __future__ import annotations

import _signal
import errno
import os

from podpy import files
from podpy.errors import HostError, LaunchError, PodpyError, StateError
from podpy.kernel import libc, process
from podpy.model import ProcessIdentity
from podpy.records import record
from podpy.runtime import channel, init, placement, users
from podpy.runtime.channel import Channel
from podpy.runtime.spec import Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

#: Signals that P passes on to E.  Those a terminal makes go to E's whole process group.
FORWARDED = (
    _signal.SIGHUP,
    _signal.SIGINT,
    _signal.SIGQUIT,
    _signal.SIGTERM,
    _signal.SIGUSR1,
    _signal.SIGUSR2,
    _signal.SIGALRM,
    _signal.SIGWINCH,
)
_OF_TERMINALS = (_signal.SIGINT, _signal.SIGQUIT, _signal.SIGHUP)


@record
class Entry:
    """One process to be run in a container.

    ``first`` is the container's first process, ``namespaces`` the ``CLONE_NEW*``
    flags of what it does not share with the host.  ``stdio`` are descriptors of
    ours for the payload; with ``tty`` it gets a new terminal instead.
    ``cgroup`` is the directory of the container's cgroup, empty when it has none.
    """

    first: ProcessIdentity
    namespaces: int
    process: Process
    cgroup: str = ""
    stdio: tuple[int, int, int] = (0, 1, 2)
    tty: bool = False


@record
class Session:
    """A process that runs in a container: its pid here, and its terminal's master or -1."""

    pid: int
    terminal: int = -1


def start(entry: Entry, resize: Callable[[int], None] = lambda master: None) -> Session:
    """Run ``entry`` and return when it has been executed; raises why it was not.

    The caller must be single-threaded.  Every signal of :data:`FORWARDED` and
    SIGCHLD is blocked from here on; ``resize`` gives a new terminal its size
    before the payload sees it.
    """
    first = process.open_pidfd(entry.first)
    if first < 0:
        raise StateError("the container has stopped")
    libc.prctl(libc.PR_SET_CHILD_SUBREAPER, 1)
    _signal.pthread_sigmask(_signal.SIG_BLOCK, (*FORWARDED, _signal.SIGCHLD))
    ours, theirs = Channel.pair()
    with ours:
        joiner = _fork_joiner(entry, lambda: _join(entry, first, theirs))
        theirs.close()
        os.close(first)
        return _follow(ours, joiner, resize)


def _fork_joiner(entry: Entry, joiner: Callable[[], int]) -> int:
    """Fork J, born in the container's cgroup: moving it there would take the kernel 5 to 15 ms.

    A container that has made cgroups of its own (systemd does) may leave none
    but inner ones that can hold processes: then the one of its first process is taken.
    """
    if not entry.cgroup:
        return process.fork_child(joiner)
    try:
        return _fork_into(entry, joiner)
    except PermissionError:
        if not placement.approach(entry.cgroup):
            raise HostError(
                f"enter the container's cgroup {entry.cgroup}: it is of another subtree than ours",
                hint="run podpy in the session, or the delegated cgroup, that it was started in",
            ) from None
    return _fork_into(entry, joiner)


def _fork_into(entry: Entry, joiner: Callable[[], int]) -> int:
    for path in (entry.cgroup, _cgroup_of(entry.first.pid)):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            return process.fork_child(joiner, cgroup_fd=fd)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
        finally:
            os.close(fd)
    raise HostError(f"enter the container's cgroup {entry.cgroup}: it takes no processes")


def _cgroup_of(pid: int) -> str:
    from podpy.kernel import cgroup

    text = files.read_bytes(f"/proc/{pid}/cgroup").decode()
    return f"{cgroup.mount_point()}{cgroup.own_path(text)}"


def _follow(ours: Channel, joiner: int, resize: Callable[[int], None]) -> Session:
    """Listen to J and E until the channel closes, which ``execve`` does."""
    pid = terminal = -1
    failure: PodpyError | None = None
    while True:
        word, details, fds = ours.receive()
        if word == channel.FORKED:
            pid = int(details[0])
        elif word == channel.PTY and len(fds) == 1:
            (terminal,) = fds
            resize(terminal)
            ours.send(channel.GO)
        elif word == channel.FAILED:
            failure = channel.revive(details)
        else:
            break
    os.waitpid(joiner, 0)
    if failure is None and pid < 0:
        failure = LaunchError("join the container: its processes were killed")
    if failure is not None:
        if pid >= 0:
            os.waitpid(pid, 0)
        raise failure
    return Session(pid=pid, terminal=terminal)


def wait(pid: int) -> int:
    """Pass signals on to E until it ends; its exit code, or 128 + n."""
    expected = (*FORWARDED, _signal.SIGCHLD)
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return process.exit_code(status)
        number = _signal.sigwait(expected)
        if number != _signal.SIGCHLD:
            forward(pid, number)


def forward(pid: int, number: int) -> None:
    """Send a signal to E.  It is our child and not yet waited for: the pid is still its own."""
    try:
        if number in _OF_TERMINALS:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass  # it ends at this moment, or has become somebody we may not signal


# --- J -----------------------------------------------------------------------


def _join(entry: Entry, first: int, inner: Channel) -> int:
    steps = init.Steps()
    try:
        libc.prctl(libc.PR_SET_DUMPABLE, 0)
        kept = (0, 1, 2, *entry.process.preserved, *entry.stdio, first, inner.fileno())
        process.close_others(kept)
        steps("join the container's namespaces")
        libc.setns(first, entry.namespaces)
        os.close(first)
        _become_root()
        steps("join a session keyring")
        init.join_keyring()
        steps("fork")
        pid = process.fork_child(lambda: _run(entry, inner))
        inner.send(channel.FORKED, pid)
    except BaseException as error:
        inner.fail(steps.current, error)
        return 125
    return 0


def _become_root() -> None:
    """Be the container's root to begin with; a map without root leaves us who we are."""
    for change in (os.setresgid, os.setresuid):
        try:
            change(0, 0, 0)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
    # Changing ids sets "dumpable" to what fs.suid_dumpable says.
    libc.prctl(libc.PR_SET_DUMPABLE, 0)


# --- E -----------------------------------------------------------------------


def _run(entry: Entry, inner: Channel) -> int:
    steps = init.Steps()
    try:
        os.setsid()
        root = os.open("/", libc.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        steps(f"find user {entry.process.user or 'root'}")
        who = users.resolve(root, entry.process.user, entry.process.groups)
        stdio = entry.stdio
        if entry.tty:
            steps("open a terminal")
            slave = init.open_terminal(root, inner)
            inner.expect(channel.GO)
            stdio = (slave, slave, slave)
        os.close(root)
        init.execute(entry.process, who, stdio, steps, tty=entry.tty)
    except BaseException as error:
        inner.fail(steps.current, error)
    return 125
