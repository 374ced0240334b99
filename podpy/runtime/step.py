"""One command of a build: a container without a supervisor, run to its end by a worker.

    W                        G                   M, I
    cgroup, fork M ────────────────────────────► as for any container (see .launch)
    wait for the network
    GO ────────────────────────────────────────► execve
    fork G ────────────────► watches W
    wait for I, clear away   ends with I

W lives in the host's user namespace and reaps what the command leaves.  The
command never outlives W: the kernel kills it with W, unless it has undone that
(as setuid programs do); then G, which holds nothing but descriptors of W and I, kills it.
"""

from __future__ import annotations

import _signal
import os
import select
import time

from podpy.errors import HostError, suppress
from podpy.kernel import capabilities, cgroup, libc, process
from podpy.records import EMPTY, record, replace
from podpy.runtime import (
    birth,
    placement,
    stubs,  # noqa: F401 - I uses it and imports nothing
)
from podpy.runtime.birth import Birth, Network, Streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from podpy.model import ProcessIdentity
    from podpy.runtime.birth import Recorder
    from podpy.runtime.spec import Plan

_PATIENCE = 10.0  # seconds for fuse-overlayfs to write back what it holds
_SERVER = b"fuse-overlayfs\n"


@record
class Step:
    """What runs and where.

    ``streams`` are descriptors of the command's standard streams; they stay
    the caller's.  ``limits`` are settings of its cgroup, ``cgroup_parent`` and
    ``cgroup_manager`` as for containers.  ``recorder`` goes with a plan that has
    a filter for one.
    """

    id: str
    plan: Plan
    streams: tuple[int, int, int]
    network: Network | None = None
    cgroup_parent: str = ""
    cgroup_manager: str = ""
    limits: Mapping[str, str] = EMPTY
    recorder: Recorder | None = None


@record
class Ended:
    """How it ended: the exit code (128 + n by signal n), and what was made for its mounts.

    ``stubs`` is for :func:`podpy.runtime.stubs.clear`; ``leaving`` are helpers
    that were killed and may not have ended yet.
    """

    code: int
    stubs: str = ""
    leaving: tuple[int, ...] = ()


class _Given(Streams):
    """The caller's own descriptors as the payload's streams."""

    def __init__(self, streams: tuple[int, int, int]) -> None:
        self.stdin = self.stdout = self.stderr = -1
        self.payload = streams

    def close_payload_ends(self) -> None:
        """They are not ours to close."""


def run(step: Step) -> Ended:
    """Run a command to its end; raises why it could not be started.

    The caller is single-threaded and becomes a child subreaper.
    """
    libc.prctl(libc.PR_SET_CHILD_SUBREAPER, 1)
    place = _placement(step)
    tie = os.pidfd_open(os.getpid())
    try:
        directory = place.finish()
        _limit(directory, step.limits)
        plan = replace(step.plan, process=replace(step.plan.process, tie=tie))
        return _run(replace(step, plan=plan), directory)
    finally:
        os.close(tie)
        place.abandon()


def _placement(step: Step) -> placement.Placement:
    """A cgroup of its own where limits need one, or where it costs nothing.

    Asking systemd takes milliseconds; without limits the worker's own will do, unless
    the command has the power to mount it for writing.
    """
    may_mount = step.plan.process.capabilities & capabilities.bits(("CAP_SYS_ADMIN",))
    asked = step.limits or step.cgroup_parent or may_mount
    if not asked and step.cgroup_manager != "cgroupfs" and cgroup.has_user_manager():
        return placement.Placement()
    return placement.begin(
        step.id, name="build", parent=step.cgroup_parent, wanted=step.cgroup_manager
    )


def _limit(directory: str, limits: Mapping[str, str]) -> None:
    if limits and not directory:
        raise HostError(
            f"{' '.join(limits)}: cannot be limited: {cgroup.why_not()}",
            hint="leave the limit out, or have a cgroup delegated to you",
        )
    cgroup.limit(directory, limits)


def _run(step: Step, directory: str) -> Ended:
    network = step.network or Network()
    others = birth.children()
    born = Birth(step.plan, _Given(step.streams), network, cgroup=directory, others=others)
    with born:
        standing = born.stand()
        if step.recorder:
            step.recorder.watch(standing.init.pid)
        recorders = born.go(step.recorder)
        code = _wait(standing.init, step.plan.process.tie, directory)
    leaving = network.dismiss()
    _clear_away(
        shares_pids=not step.plan.namespaces.new & libc.CLONE_NEWPID,
        but=(*others, *leaving, *recorders),
    )
    if step.recorder:
        step.recorder.finish()
    return Ended(code=code, stubs=standing.stubs, leaving=leaving)


def _wait(init: ProcessIdentity, worker: int, directory: str) -> int:
    """The command's exit code; it is killed when we are interrupted."""
    try:
        guard = _Guard(worker, init, directory)
        code = process.wait(init.pid)
    except BaseException:
        with suppress(ProcessLookupError):
            os.kill(init.pid, _signal.SIGKILL)
        raise
    guard.stop()
    return code


class _Guard:
    """A process that outlives W, should W be killed, and then kills what W ran."""

    def __init__(self, worker: int, init: ProcessIdentity, directory: str) -> None:
        watched = process.open_pidfd(init)
        self._pid = process.fork_child(lambda: _guard(worker, watched, directory))
        if watched >= 0:
            os.close(watched)

    def stop(self) -> None:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(self._pid, _signal.SIGKILL)
            os.waitpid(self._pid, 0)


def _guard(worker: int, watched: int, directory: str) -> int:
    if watched < 0:
        return 0
    os.setsid()
    process.close_others((worker, watched))
    poll = select.poll()
    poll.register(worker, select.POLLIN)
    poll.register(watched, select.POLLIN)
    if watched not in dict(poll.poll()):
        with suppress(OSError):
            _signal.pidfd_send_signal(watched, _signal.SIGKILL)
        if directory:
            cgroup.remove(directory)
    return 0


def _clear_away(*, shares_pids: bool, but: Collection[int]) -> None:
    """Wait for what the command left to us.

    With a pid namespace of its own that is nothing but the server of its root
    file system, which ends with the mounts; else what runs on is killed.
    """
    limit = time.monotonic() + _PATIENCE
    while left := [pid for pid in birth.children() if pid not in but]:
        late = time.monotonic() > limit
        for pid in left:
            if late or (shares_pids and not _is_server(pid)):
                with suppress(ProcessLookupError):
                    os.kill(pid, _signal.SIGKILL)
        process.Pidfd(process.identity(left[0])).ended(_PATIENCE)
        os.waitpid(left[0], 0 if late else os.WNOHANG)


def _is_server(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/comm", "rb") as name:
            return name.read() == _SERVER
    except OSError:
        return True
