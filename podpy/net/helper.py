"""What slirp4netns and pasta have in common: started, awaited, heard when they fail."""

from __future__ import annotations

import _signal
import fcntl
import os
import select

from podpy.errors import HostError, UsageError
from podpy.kernel import libc, process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

READY_TIMEOUT = 30.0
_LOG_LIMIT = 16384
_TUN = "/dev/net/tun"


class Helper:
    """A network helper that this process started.

    ``ready_fd`` becomes readable when the network is up (or the helper failed:
    :meth:`wait_ready` tells which).  ``exit_fd``, where it is not -1, keeps
    the helper alive: it ends when the last copy is closed, so it must stay
    open across an ``execve`` of the supervisor and be inherited by nobody else.
    """

    __slots__ = ("_log_fd", "api_socket", "exit_fd", "name", "pid", "ready_fd")

    def __init__(
        self, name: str, pid: int, *, ready_fd: int, log_fd: int, exit_fd: int = -1,
        api_socket: str = "",
    ) -> None:  # fmt: skip
        self.name = name
        self.pid = pid
        self.ready_fd = ready_fd
        self.exit_fd = exit_fd
        self.api_socket = api_socket
        self._log_fd = log_fd

    def wait_ready(self, timeout: float = READY_TIMEOUT) -> None:
        """Return when the container has its network; :class:`HostError` when it will not."""
        pidfd = os.pidfd_open(self.pid)
        try:
            if not self._said_ready(pidfd, timeout):
                raise self._failure()
        except BaseException:
            self.stop()
            raise
        finally:
            os.close(pidfd)
            self._close_pipes()

    def _said_ready(self, pidfd: int, timeout: float) -> bool:
        poll = select.poll()
        poll.register(self.ready_fd, select.POLLIN)
        poll.register(pidfd, select.POLLIN)
        events = dict(poll.poll(timeout * 1000))
        if events.get(self.ready_fd, 0) & select.POLLIN:
            return bool(os.read(self.ready_fd, 64))
        return False

    def stop(self) -> None:
        """End the helper and reap it (20 ms: do it when nobody waits)."""
        try:
            # A child that is reaped already has no pid any more: it may be another process's.
            if os.waitpid(self.pid, os.WNOHANG) == (0, 0):
                os.kill(self.pid, _signal.SIGKILL)
                os.waitpid(self.pid, 0)
        except ChildProcessError:
            pass
        if self.exit_fd >= 0:
            os.close(self.exit_fd)
            self.exit_fd = -1

    def dismiss(self) -> int:
        """Kill the helper and leave it to the caller to reap it some time: its pid."""
        try:
            os.kill(self.pid, _signal.SIGKILL)
        except ProcessLookupError:
            pass
        if self.exit_fd >= 0:
            os.close(self.exit_fd)
            self.exit_fd = -1
        return self.pid

    def _close_pipes(self) -> None:
        for fd in (self.ready_fd, self._log_fd):
            if fd >= 0:
                os.close(fd)
        self.ready_fd = self._log_fd = -1

    def _failure(self) -> HostError:
        lines = [line for line in self._log().splitlines() if line and "WARNING" not in line]
        said = "; ".join(lines[-3:]) or "no answer"
        hint = "other networks: `--network host`, `--network none`"
        if "tun" in said:
            hint = f"{_TUN} must exist and be open to you: as root, chmod 666 {_TUN}; {hint}"
        return HostError(f"network {self.name}: the helper failed: {said}", hint=hint)

    def _log(self) -> str:
        return os.pread(self._log_fd, _LOG_LIMIT, 0).rstrip(b"\0").decode(errors="replace")


def locate(name: str, other: str) -> str:
    """The helper's path, once it is certain that it can work; else :class:`HostError`."""
    program = process.find_program(name)
    if not program:
        raise HostError(
            f"network {name}: the program {name} is not installed",
            hint=f"install {name}, or use `--network {other}`, `host` or `none`",
        )
    if not os.access(_TUN, os.R_OK | os.W_OK):
        raise HostError(
            f"network {name}: {_TUN} is missing or closed to you",
            hint=f"as root: modprobe tun; chmod 666 {_TUN}; or use `--network host` or `none`",
        )
    return program


def open_log() -> int:
    """A memory file for a helper's messages that cannot grow.

    A pipe would have to be read for as long as the helper lives, and a file
    would grow with every message that a container provokes.
    """
    fd = os.memfd_create("helper", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, _LOG_LIMIT)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)
    return fd


def spawn_with_parent(argv: Sequence[str], descriptors: Sequence[int]) -> int:
    """Start a program that the kernel kills when its parent dies; return its pid.

    ``descriptors`` become its 0, 1 and 2.  ``posix_spawn`` cannot set the
    parent-death signal, so this one forks.
    """
    parent = os.getpid()

    def become() -> int:
        libc.prctl(libc.PR_SET_PDEATHSIG, _signal.SIGKILL)
        if os.getppid() != parent:
            return 0
        process.default_signals()
        for number, fd in enumerate(descriptors):
            os.dup2(fd, number)
        os.execv(argv[0], list(argv))

    return process.fork_child(become)


def boolean(key: str, value: str) -> bool:
    """``true`` or ``false`` of a network option."""
    if value not in ("true", "false"):
        raise UsageError(f"invalid value {value!r} of network option {key}", hint="true or false")
    return value == "true"
