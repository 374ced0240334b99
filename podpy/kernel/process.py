"""Processes: who they are, whether they live, and the one way to start a helper."""

from __future__ import annotations

import _signal
import errno
import os

from podpy import paths
from podpy.errors import HostError, StateError
from podpy.model import ProcessIdentity
from podpy.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

_SYSTEM_DIRECTORIES = ("/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/bin")
_boot_id = ""


def current_boot() -> str:
    """This boot's id, read once."""
    global _boot_id
    if not _boot_id:
        _boot_id = paths.boot_id()
    return _boot_id


def start_time(pid: int) -> int:
    """Field 22 of ``/proc/PID/stat`` (clock ticks since boot); -1 when there is no such process.

    The second field, the command's name, may hold spaces and parentheses:
    fields are counted from the last ``)``.
    """
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        return -1
    try:
        text = os.read(fd, 4096)
    except ProcessLookupError:
        return -1
    finally:
        os.close(fd)
    fields = text[text.rindex(b")") + 2 :].split()
    if fields[0] in (b"Z", b"X"):
        return -1
    return int(fields[19])


def identity(pid: int | None = None) -> ProcessIdentity:
    """The identity of a living process, the caller by default."""
    number = os.getpid() if pid is None else pid
    return ProcessIdentity(boot_id=current_boot(), pid=number, start=start_time(number))


def is_alive(who: ProcessIdentity | None) -> bool:
    """True while that very process runs: same boot, same pid, same start time.

    A zombie counts as dead: it runs nothing any more.
    """
    if who is None or who.pid <= 0 or who.boot_id != current_boot():
        return False
    return start_time(who.pid) == who.start


def open_pidfd(who: ProcessIdentity | None) -> int:
    """A pidfd of exactly that process, or -1.

    Opened first and compared afterwards: a pid that is reused in between
    gives another start time, and the descriptor is closed.
    """
    if who is None or who.pid <= 0 or who.boot_id != current_boot():
        return -1
    try:
        fd = os.pidfd_open(who.pid)
    except OSError:
        return -1
    if start_time(who.pid) != who.start:
        os.close(fd)
        return -1
    return fd


class Pidfd:
    """A hold on exactly one process, for a ``with`` block; false when that process is gone.

    Whatever is sent reaches that process or nobody.
    """

    def __init__(self, who: ProcessIdentity | None) -> None:
        self._who = who
        self._fd = open_pidfd(who)

    def __bool__(self) -> bool:
        return self._fd >= 0

    def __enter__(self) -> Pidfd:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def send(self, number: int) -> bool:
        """Send a signal; False when the process is gone."""
        if self._who is None or self._fd < 0:
            return False
        try:
            _signal.pidfd_send_signal(self._fd, number)
        except ProcessLookupError:
            return False
        except PermissionError:
            raise StateError(f"process {self._who.pid}: may not be signalled by you") from None
        return True

    def ended(self, seconds: float) -> bool:
        """Whether the process ends within that time (below 0: wait for ever)."""
        if self._fd < 0:
            return True
        import select

        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return bool(poll.poll(None if seconds < 0 else seconds * 1000))


def find_program(name: str, directories: str = "") -> str:
    """The absolute path of a helper program, or an empty string.

    ``$PATH`` first, then the system's directories: ``newuidmap`` and
    ``slirp4netns`` are often in ``/usr/sbin`` or left out of a cron job's path.
    """
    search = directories or os.environ.get("PATH", "")
    for directory in (*search.split(":"), *_SYSTEM_DIRECTORIES):
        path = f"{directory}/{name}"
        if directory.startswith("/") and os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    return ""


def spawn(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    files: Mapping[int, int] | None = None,
) -> int:
    """Start a helper by ``posix_spawn`` and return its pid.

    ``files`` maps the helper's descriptors to ours.  All signals get their
    default action and none is blocked: Python ignores SIGPIPE and SIGXFSZ, and
    pasta dies of an ignored SIGPIPE.
    """
    actions = [(os.POSIX_SPAWN_DUP2, ours, theirs) for theirs, ours in (files or {}).items()]
    return os.posix_spawn(
        argv[0],
        list(argv),
        dict(os.environ) if environment is None else dict(environment),
        file_actions=actions,
        setsigmask=(),
        setsigdef=range(1, 32),
    )


def default_signals() -> None:
    """Give every ignored signal its default action and block none, for a program to come.

    ``execve`` resets handlers by itself but keeps what is ignored, and Python
    ignores SIGPIPE and SIGXFSZ.
    """
    for number in range(1, _signal.NSIG):
        if _signal.getsignal(number) == _signal.SIG_IGN:
            _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())


def die_with(pidfd: int) -> None:
    """Have the kernel kill this process when its parent dies, which ``pidfd`` names.

    A change of ids or a setuid program undoes it: said last before ``execve``.
    The parent may have died just before; then this process ends here.
    """
    from podpy.kernel import libc  # imports ctypes

    libc.prctl(libc.PR_SET_PDEATHSIG, _signal.SIGKILL)
    if _is_readable(pidfd):
        os._exit(128 + _signal.SIGKILL)


def _is_readable(fd: int) -> bool:
    import select

    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


def set_title(name: str, title: str) -> None:
    """What ``top`` and ``ps`` show of this process, which was forked from another command.

    ``name`` has at most 15 characters; ``title`` is cut to the length of the
    command line that it replaces.
    """
    from podpy.kernel import libc  # imports ctypes

    with open("/proc/self/stat", "rb") as status:
        fields = status.read().rpartition(b")")[2].split()
    first, last = int(fields[45]), int(fields[46])  # arg_start and arg_end of proc_pid_stat(5)
    with open("/proc/self/comm", "w") as comm:
        comm.write(name)
    if first < last:
        libc.overwrite_arguments(first, last, title)


def forget_environment(kept: Collection[str]) -> None:
    """Drop all variables but these, for us, our children and who reads ``/proc/PID/environ``."""
    from podpy.kernel import libc  # imports ctypes

    with open("/proc/self/stat", "rb") as status:
        fields = status.read().rpartition(b")")[2].split()
    first, last = int(fields[47]), int(fields[48])  # env_start and env_end of proc_pid_stat(5)
    for name, value in list(os.environ.items()):
        del os.environ[name]
        if name in kept:
            os.environ[name] = value  # in memory of its own
    if first < last:
        libc.overwrite_arguments(first, last, "")


def close_others(kept: Iterable[int], *, first: int = 0) -> None:
    """Close every descriptor from ``first`` on but ``kept``."""
    from podpy.kernel import libc  # imports ctypes

    for fd in sorted(set(kept)):
        if first < fd:
            libc.close_range(first, fd - 1)
        first = fd + 1
    libc.close_range(first)


def fork_child(function: Callable[[], int | None], *, cgroup_fd: int = -1) -> int:
    """Fork a child that runs ``function`` and exits with what it returns; return its pid.

    ``cgroup_fd`` is the directory of the cgroup where the child shall be born.

    The one place that calls ``os._exit``: no child of podpy ever unwinds into
    its parent's code.  A ``PodpyError`` or ``OSError`` that ``function`` lets
    through becomes one line on stderr and status 125.
    """
    pid, is_placed = _fork(cgroup_fd)
    if pid:
        return pid
    status = 125
    try:
        if not is_placed:
            _enter(cgroup_fd)
        status = function() or 0
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 125
    except BaseException as error:  # the child must not return into its parent's frames
        _report(error)
    finally:
        os._exit(status)


def _fork(cgroup_fd: int) -> tuple[int, bool]:
    """Fork; the pid, and whether the child is in its cgroup already.

    The seccomp profile of an outer container may not know clone3(2).
    """
    if cgroup_fd < 0:
        return os.fork(), True
    from podpy.kernel import libc  # imports ctypes, which commands that only read do without

    try:
        return libc.fork_into_cgroup(cgroup_fd), True
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM):
            raise
    return os.fork(), False


def _enter(cgroup_fd: int) -> None:
    fd = os.open("cgroup.procs", os.O_WRONLY | os.O_CLOEXEC, dir_fd=cgroup_fd)
    os.write(fd, b"0")
    os.close(fd)


def _report(error: BaseException) -> None:
    text = getattr(error, "message", "") or f"{type(error).__name__}: {error}"
    try:
        os.write(2, f"Error: {text}\n".encode(errors="replace"))
    except OSError:
        pass


def wait(pid: int) -> int:
    """Wait for a child; its exit code, or 128 + n when signal n killed it."""
    _, status = os.waitpid(pid, 0)
    return exit_code(status)


def exit_code(status: int) -> int:
    """The shell's exit code for a ``waitpid`` status: the code, or 128 + the signal."""
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


@record
class Completed:
    """A helper program that has ended: exit code and all that it wrote."""

    code: int
    stdout: bytes
    stderr: bytes


def run(
    argv: Sequence[str],
    *,
    input: bytes | None = None,
    environment: Mapping[str, str] | None = None,
    timeout: float | None = None,
) -> Completed:
    """Run a helper to its end with captured output (cold paths only: imports ``subprocess``)."""
    import subprocess

    try:
        done = subprocess.run(
            list(argv),
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            env=None if environment is None else dict(environment),
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError:
        raise HostError(f"run {argv[0]}: no such program") from None
    except subprocess.TimeoutExpired:
        raise HostError(f"run {argv[0]}: no answer within {timeout:g} seconds") from None
    code = 128 - done.returncode if done.returncode < 0 else done.returncode
    return Completed(code=code, stdout=done.stdout, stderr=done.stderr)
