"""Starting a container: P forks S, S forks M, M forks I.

    P                 S                       M                      I
    fork ───────────► setsid, subreaper
                      make the cgroup
                      fork into it ─────────► unshare
                      newuidmap ∥ newgidmap ◄─ UNSHARED
                      MAPPED ───────────────► mount the root
                      ask for bridges' plugs
                      network helper        ◄─ FORKED ── fork ─────► mount the rest
                      state.json            ◄──────────── READY ──── pivot, find the user
                      GO ──────────────────────────────────────────► drop, execve
    answer ◄─ STARTED  supervise

``state.json`` names I before I may go on: a kill at any moment leaves either a
container that never ran, or one that every reader sees as running.  If S dies
before GO, I reads the end of its channel and exits.
"""

from __future__ import annotations

import os
import time

from podpy import files
from podpy.errors import PodpyError
from podpy.kernel import libc, process
from podpy.model import ContainerState, Status
from podpy.netmodel import Endpoint
from podpy.records import record, replace, to_dict
from podpy.runtime import channel, placement, supervisor
from podpy.runtime.birth import Birth, Network, Streams
from podpy.runtime.channel import Channel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from podpy.runtime.birth import Standing
    from podpy.runtime.spec import Plan


@record
class Order:
    """All that S needs to start one container and watch it.

    ``task`` is what :func:`podpy.runtime.supervisor.run` takes, without what
    only S can know (pids, descriptors, the cgroup); ``cgroup_parent`` is what
    ``--cgroup-parent`` asks for.  ``before_go`` is called when everything
    stands and the payload has not started.
    """

    plan: Plan
    directory: str
    task: dict[str, Any]
    state: ContainerState
    network: Network | None = None
    cgroup_parent: str = ""
    cgroup_manager: str = ""
    before_go: Callable[[], None] | None = None


def start(order: Order, *, client_fd: int = -1) -> int:
    """Start a container and return the host's pid of its first process.

    The caller must be single-threaded.  ``client_fd`` is S's end of the attach
    socket, closed here.  Raises what failed, wherever it failed.
    """
    ours, theirs = Channel.pair()
    with ours:
        pid = process.fork_child(lambda: _supervise(order, ours, theirs, client_fd))
        theirs.close()
        if client_fd >= 0:
            os.close(client_fd)
        try:
            return int(ours.expect(channel.STARTED)[0])
        except PodpyError:
            os.waitpid(pid, 0)
            raise


# --- S -----------------------------------------------------------------------


def _supervise(order: Order, ours: Channel, outer: Channel, client_fd: int) -> int:
    ours.close()
    os.setsid()
    # What podpy's caller left open is nothing for helpers; a lean supervisor drops it as well.
    libc.close_range(3, flags=libc.CLOSE_RANGE_CLOEXEC)
    libc.prctl(libc.PR_SET_CHILD_SUBREAPER, 1)
    with outer:
        try:
            task = _start_payload(order)
        except BaseException as error:
            outer.fail("start the container", error)
            return 125
        outer.send(channel.STARTED, task["init_pid"])
    task["client_fd"] = client_fd
    supervisor.run(task)
    return 0


def _start_payload(order: Order) -> dict[str, Any]:
    """Everything from the fork of M to the payload's ``execve``; the task for the supervisor."""
    place = placement.begin(
        order.task["id"],
        name=order.task["name"],
        parent=order.cgroup_parent,
        wanted=order.cgroup_manager,
    )
    streams = Streams(order.plan, order.task["log"]["driver"] == "passthrough")
    network = order.network or Network()
    try:
        cgroup = place.finish()
        with Birth(order.plan, streams, network, cgroup=cgroup) as birth:
            standing = birth.stand()
            state = _running(order, standing, network.endpoints(), cgroup)
            if order.before_go:
                order.before_go()
            files.write_json(f"{order.directory}/state.json", to_dict(state))
            birth.go()
    except BaseException:
        place.abandon()
        raise
    return {
        **order.task,
        **network.facts(),
        "cgroup": cgroup,
        "init_pid": standing.init.pid,
        "init_start": standing.init.start,
        "init_pidfd": process.open_pidfd(standing.init),
        "stdin_fd": streams.stdin,
        "stdout_fd": streams.stdout,
        "stderr_fd": streams.stderr,
        "state": to_dict(state),
        "state_written": True,
    }


def _running(
    order: Order, standing: Standing, endpoints: tuple[Endpoint, ...], cgroup: str
) -> ContainerState:
    first = next((each.address for each in endpoints if each.address), order.state.address)
    return replace(
        order.state,
        status=Status.RUNNING,
        init=standing.init,
        supervisor=process.identity(),
        started=time.time(),
        ports=standing.ports,
        address=first,
        networks=endpoints,
        cgroup=cgroup,
    )
