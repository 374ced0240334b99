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
from podpy.kernel import libc, process, userns
from podpy.model import ContainerState, ProcessIdentity, Status
from podpy.netmodel import Endpoint, PortMapping
from podpy.records import record, replace, to_dict
from podpy.runtime import channel, init, placement, supervisor
from podpy.runtime.channel import Channel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from podpy.runtime.spec import Plan


class Network:
    """What S does about the network while I mounts: the interface of a helper's driver.

    ``host`` and ``none`` need nothing of it; :mod:`podpy.runtime.network` has
    the drivers.
    """

    def plug(self, netns: int, route: int) -> None:
        """Ask for interfaces in a new network namespace; does not wait.

        Called for plans that are ``bridged``, before anything else, with a
        descriptor of the namespace and an rtnetlink socket of it.
        """

    def start(self, pid: int, namespaces: tuple[str, ...] = ()) -> None:
        """Start the helper on the namespaces of process ``pid``; does not wait.

        ``namespaces`` are paths of its user and network namespace where it is
        not dumpable; they are good until :meth:`wait` is over.
        """

    def wait(self) -> tuple[PortMapping, ...]:
        """Block until packets flow; every published port with its final number."""
        return ()

    def stop(self) -> None:
        """Undo :meth:`start`."""

    def endpoints(self) -> tuple[Endpoint, ...]:
        """What a container on bridge networks has got; known after :meth:`wait`."""
        return ()

    def facts(self) -> dict[str, Any]:
        """What the supervisor must know.

        ``helpers`` (pids), ``keep`` (descriptors), and for bridge networks ``link``.
        """
        return {"helpers": [], "keep": []}


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


class _Streams:
    """The payload's standard streams: the ends that S keeps and those that I gets."""

    def __init__(self, plan: Plan, passthrough: bool) -> None:
        self.stdin = self.stdout = self.stderr = -1
        self.payload = (-1, -1, -1)
        if plan.tty:
            return
        if passthrough:
            self.payload = (0, 1, 2)
            return
        if plan.interactive:
            payload_in, self.stdin = os.pipe()
        else:
            payload_in = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        self.stdout, payload_out = os.pipe()
        self.stderr, payload_err = os.pipe()
        self.payload = (payload_in, payload_out, payload_err)

    def close_payload_ends(self) -> None:
        for fd in self.payload:
            if fd > 2:
                os.close(fd)

    def take_terminal(self, master: int) -> None:
        self.stdin = self.stdout = self.stderr = master


def _start_payload(order: Order) -> dict[str, Any]:
    """Everything from the fork of M to the payload's ``execve``; the task for the supervisor."""
    place = placement.begin(
        order.task["id"],
        name=order.task["name"],
        parent=order.cgroup_parent,
        wanted=order.cgroup_manager,
    )
    streams = _Streams(order.plan, order.task["log"]["driver"] == "passthrough")
    network = order.network or Network()
    inner, theirs = Channel.pair()
    with inner:
        try:
            order = _placed(order, place.finish())
            maker = _fork_maker(order, inner, theirs, streams)
            state = _accompany(order, inner, maker, streams, network)
        except BaseException:
            # The end of the channel ends M and I; then nothing is left but zombies.
            inner.close()
            network.stop()
            _reap_all()
            place.abandon()
            raise
    who = state.init
    assert who is not None
    return {
        **order.task,
        **network.facts(),
        "init_pid": who.pid,
        "init_start": who.start,
        "init_pidfd": process.open_pidfd(who),
        "stdin_fd": streams.stdin,
        "stdout_fd": streams.stdout,
        "stderr_fd": streams.stderr,
        "state": to_dict(state),
        "state_written": True,
    }


def _placed(order: Order, cgroup: str) -> Order:
    """The order with the container's cgroup in what S and the readers are told."""
    return replace(
        order,
        state=replace(order.state, cgroup=cgroup),
        task={**order.task, "cgroup": cgroup},
    )


def _fork_maker(order: Order, inner: Channel, theirs: Channel, streams: _Streams) -> int:
    """Fork M, born in the container's cgroup where there is one."""
    path = order.task["cgroup"]
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    cgroup_fd = os.open(path, flags) if path else -1
    maker = process.fork_child(
        lambda: _run_maker(order, inner, theirs, streams), cgroup_fd=cgroup_fd
    )
    if path:
        os.close(cgroup_fd)
    theirs.close()
    streams.close_payload_ends()
    # What the payload was handed is the payload's alone: a socket that it closes must be closed.
    for fd in order.plan.process.preserved:
        os.close(fd)
    return maker


def _run_maker(order: Order, inner: Channel, theirs: Channel, streams: _Streams) -> int:
    inner.close()
    for fd in (streams.stdin, streams.stdout, streams.stderr):
        if fd >= 0:
            os.close(fd)
    return init.make_container(order.plan, theirs, streams.payload)


def _accompany(
    order: Order, inner: Channel, maker: int, streams: _Streams, network: Network
) -> ContainerState:
    """S's side of the conversation, up to the silence that means ``execve``."""
    handed = inner.expect_descriptors(channel.UNSHARED)
    if order.plan.namespaces.user == "new":
        userns.write_maps(maker, order.plan.id_map)
    inner.send(channel.MAPPED)
    if order.plan.bridged:
        network.plug(*handed)
    pid = _forked(inner, maker)
    network.start(pid, tuple(f"/proc/{os.getpid()}/fd/{fd}" for fd in handed))
    who = process.identity(pid)
    os.waitpid(maker, 0)
    if order.plan.tty:
        streams.take_terminal(inner.expect_descriptor(channel.PTY))
    inner.expect(channel.READY)
    ports = network.wait()
    state = _running(order, who, ports, network.endpoints())
    if not order.plan.bridged:
        for fd in handed:
            os.close(fd)
    if order.before_go:
        order.before_go()
    files.write_json(f"{order.directory}/state.json", to_dict(state))
    inner.send(channel.GO)
    word, details, _ = inner.receive()
    if word == channel.FAILED:
        raise channel.revive(details)
    return state


def _forked(inner: Channel, maker: int) -> int:
    """The pid of I.  M may be killed when it has forked I and not yet said so."""
    pidfd = os.pidfd_open(maker)
    try:
        return int(inner.expect(channel.FORKED, sender=pidfd)[0])
    finally:
        os.close(pidfd)


def _running(
    order: Order,
    who: ProcessIdentity,
    ports: tuple[PortMapping, ...],
    endpoints: tuple[Endpoint, ...],
) -> ContainerState:
    first = next((each.address for each in endpoints if each.address), order.state.address)
    return replace(
        order.state,
        status=Status.RUNNING,
        init=who,
        supervisor=process.identity(),
        started=time.time(),
        ports=ports,
        address=first,
        networks=endpoints,
    )


def _reap_all() -> None:
    try:
        while True:
            os.waitpid(-1, 0)
    except ChildProcessError:
        return
