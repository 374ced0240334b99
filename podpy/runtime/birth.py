"""How a payload comes to be: the conversation with M and I, for whoever will reap the payload.

That is the supervisor of a container (:mod:`.launch`, which has the picture) or
the worker of a build's step (:mod:`.step`).  The caller is a single-threaded
child subreaper in the host's user namespace.
"""

from __future__ import annotations

import os

from podpy.kernel import process, userns
from podpy.model import ProcessIdentity
from podpy.netmodel import Endpoint, PortMapping
from podpy.records import record
from podpy.runtime import channel, init
from podpy.runtime.channel import Channel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any, Protocol

    from podpy.runtime.spec import Plan

    class Recorder(Protocol):
        """Who answers the calls that the plan's filter ``recorder`` stops."""

        def watch(self, init: int) -> None:
            """Learn whose calls: pid of a first process that is in its root and waits for GO."""

        def start(self, listener: int, uid: int, gid: int) -> int:
            """Answer what comes on that descriptor in a child, whose pid is returned.

            The command is to run as that user and group.
            """

        def finish(self) -> None:
            """Wait for that child, after all who could call have ended."""


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

    def dismiss(self) -> tuple[int, ...]:
        """Like :meth:`stop`, but do not wait: the pids that the caller is to reap some time."""
        self.stop()
        return ()

    def endpoints(self) -> tuple[Endpoint, ...]:
        """What a container on bridge networks has got; known after :meth:`wait`."""
        return ()

    def facts(self) -> dict[str, Any]:
        """What the supervisor must know.

        ``helpers`` (pids), ``keep`` (descriptors), and for bridge networks ``link``.
        """
        return {"helpers": [], "keep": []}


class Streams:
    """The payload's standard streams: the ends that we keep and those that I gets."""

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


@record
class Standing:
    """A container in which everything stands and nothing runs yet.

    ``stubs`` is what :mod:`podpy.runtime.stubs` found to have been made for its mounts.
    """

    init: ProcessIdentity
    ports: tuple[PortMapping, ...] = ()
    stubs: str = ""


class Birth:
    """M and I at work; a context manager that ends them all when its block fails.

    ``cgroup`` is the directory of the cgroup where they are born, or empty;
    ``others`` are children that the caller had before.
    """

    def __init__(
        self, plan: Plan, streams: Streams, network: Network, *, cgroup: str,
        others: Collection[int] = (),
    ) -> None:  # fmt: skip
        self._plan = plan
        self._others = others
        self._streams = streams
        self._network = network
        self._inner, theirs = Channel.pair()
        try:
            self._maker = self._fork_maker(theirs, cgroup)
        except BaseException:
            self._end()
            raise

    def __enter__(self) -> Birth:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        if kind is not None:
            self._end()
        self._inner.close()

    def _end(self) -> None:
        # The end of the channel ends M and I; then nothing is left but zombies.
        self._inner.close()
        self._network.stop()
        _reap_all(self._others)

    def _fork_maker(self, theirs: Channel, cgroup: str) -> int:
        """Fork M, born in the container's cgroup where there is one."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        cgroup_fd = os.open(cgroup, flags) if cgroup else -1
        maker = process.fork_child(lambda: self._run_maker(theirs), cgroup_fd=cgroup_fd)
        if cgroup:
            os.close(cgroup_fd)
        theirs.close()
        self._streams.close_payload_ends()
        # What the payload was handed is its alone: a socket that it closes must be closed.
        for fd in self._plan.process.preserved:
            os.close(fd)
        return maker

    def _run_maker(self, theirs: Channel) -> int:
        self._inner.close()
        for fd in (self._streams.stdin, self._streams.stdout, self._streams.stderr):
            if fd >= 0:
                os.close(fd)
        return init.make_container(self._plan, theirs, self._streams.payload)

    def stand(self) -> Standing:
        """Our side of the conversation, up to where only GO is missing."""
        handed = self._inner.expect_descriptors(channel.UNSHARED)
        if self._plan.namespaces.user == "new":
            userns.write_maps(self._maker, self._plan.id_map)
        self._inner.send(channel.MAPPED)
        if self._plan.bridged:
            self._network.plug(*handed)
        pid = self._forked()
        self._network.start(pid, tuple(f"/proc/{os.getpid()}/fd/{fd}" for fd in handed))
        who = process.identity(pid)
        os.waitpid(self._maker, 0)
        if self._plan.tty:
            self._streams.take_terminal(self._inner.expect_descriptor(channel.PTY))
        _, stubs = self._inner.expect(channel.READY)
        ports = self._network.wait()
        if not self._plan.bridged:
            for fd in handed:
                os.close(fd)
        return Standing(init=who, ports=ports, stubs=stubs)

    def _forked(self) -> int:
        """The pid of I.  M may be killed when it has forked I and not yet said so."""
        pidfd = os.pidfd_open(self._maker)
        try:
            return int(self._inner.expect(channel.FORKED, sender=pidfd)[0])
        finally:
            os.close(pidfd)

    def go(self, recorder: Recorder | None = None) -> tuple[int, ...]:
        """Let I execute the command; returns when it has, raises why it could not.

        ``recorder`` is given where the plan has a filter for one; its processes are returned.
        """
        helpers: tuple[int, ...] = ()
        self._inner.send(channel.GO)
        word, details, fds = self._inner.receive()
        if word == channel.LISTENER and recorder:
            helpers = (recorder.start(*fds, *map(int, details)),)
            word, details, _ = self._inner.receive()
        if word == channel.FAILED:
            raise channel.revive(details)
        return helpers


def children() -> tuple[int, ...]:
    """The pids of this process's children."""
    try:
        fd = os.open("/proc/thread-self/children", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        return tuple(pid for pid in map(_number, os.listdir("/proc")) if _is_child(pid))
    with os.fdopen(fd, "rb") as listed:
        return tuple(int(pid) for pid in listed.read().split())


def _number(name: str) -> int:
    return int(name) if name.isdigit() else 0


def _is_child(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as status:
            return int(status.read().rpartition(b")")[2].split()[1]) == os.getpid()
    except OSError:
        return False


def _reap_all(but: Collection[int]) -> None:
    """Wait for every child, now and to come, but those that were there before."""
    try:
        if not but:
            while True:
                os.waitpid(-1, 0)
        while left := [pid for pid in children() if pid not in but]:
            os.waitpid(left[0], 0)
    except ChildProcessError:
        return
