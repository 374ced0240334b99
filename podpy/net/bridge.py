"""The network supervisor: one process per user, while containers are on bridge networks.

It has two halves.  This one lives in the host's namespaces without a
capability: it owns the user namespaces of the containers and of its inner
child, and so may configure their network namespaces through sockets that were
opened inside and passed out (:mod:`podpy.kernel.netlink`).  The inner child
(:mod:`.inner`) is root of the shared network namespace, where the bridges are.

What it knows it was told: by each container's supervisor, which keeps its
registration and the descriptors that pin everything, and whose connection is
the lease.  When this process is killed the kernel's part stands: bridges,
plugs and the uplink go on.  The supervisors start another one and come back
with what they kept.

Requests are packets with a word in ``do``; the first two come with the
container's network namespace and an rtnetlink socket of it, ``resume`` also with
what was kept: the shared namespace, the uplink's life line, sockets of gateways:

``attach``        a container starts: → ``endpoints ports resume`` and what to keep
``resume``        a container comes back to a new supervisor
``merged``        a pushed change stands in its ``state.json``
``leave``         its pid 1 has ended: closed when everything is free again
``connect disconnect rename reload update``   of commands: → ``done``, once it stands

What is pushed to a container's supervisor is the ``marshal`` of ``{"state": changed
fields, "resume": packet}``, for a program that has no JSON.
"""

from __future__ import annotations

import _socket
import os
import sys

from podpy import files
from podpy.errors import NotFound, PodpyError, UsageError, suppress
from podpy.kernel import cgroup, process
from podpy.kernel.loop import IN, Loop
from podpy.model import ProcessIdentity
from podpy.net import client, dnswire, packets
from podpy.net.fabric import Fabric
from podpy.net.inner import Inner
from podpy.net.member import Member
from podpy.netmodel import Attachment, Network
from podpy.records import from_dict, to_dict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

_LINGER = 3.0  # seconds without a container until the supervisor ends
_RETURN = 1.0  # seconds that the containers of a killed supervisor have to come back
_OWN_SCOPE = 0.5  # seconds until systemd is asked for a scope: nobody waits for it
_LEISURE = 1.0  # seconds until what will be needed is loaded
_MOST_FAULTS, _FORGIVEN = 100, 10.0  # failures to bear, and seconds until they are forgotten
_BREATH = 0.2  # seconds without a new connection when there is no descriptor for one
_WATCH = 3.0  # seconds between two looks at whether our place is still ours

_WORDS = (
    "attach",
    "resume",
    "merged",
    "leave",
    "connect",
    "disconnect",
    "rename",
    "reload",
    "update",
)


def serve(place: str, lock: int, listener: _socket.socket) -> int:
    """Be the network supervisor until nobody needs one; ``lock`` is held meanwhile."""
    Supervisor(place, lock, listener).run()
    return 0


class Supervisor:
    """The host half: its place, its connections, and what is asked of it."""

    def __init__(self, place: str, lock: int, listener: _socket.socket) -> None:
        self._place = place
        self._loop = Loop()
        self._members: dict[str, Member] = {}
        _sweep(place)
        _sweep(f"{place}/members")
        self._expected = _living(f"{place}/members")
        self._deferred: list[Member] = []
        self._fabric: Fabric | None = None
        self._running = True
        self._faults = 0
        self._loop.later(_LEISURE, dnswire.prepare)
        self._settle_down(lock, listener)
        if cgroup.has_user_manager():
            self._loop.later(_OWN_SCOPE, self._move_to_own_scope)
        if self._expected:
            self._loop.later(_RETURN, self._stop_expecting)
        else:
            self._begin(Inner.create())
        self._arm()

    def run(self) -> None:
        while self._running:
            try:
                self._loop.turn()
            except Exception as error:
                self._bear(error)
        os.close(self._lock)

    def _bear(self, error: Exception) -> None:
        """One request has failed as nobody foresaw (no descriptor, no memory): the others go on.

        When it happens again and again a successor may do better.
        """
        self._faults += 1
        if self._faults > _MOST_FAULTS:
            raise error
        print(f"Error: network: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        self._loop.later(_FORGIVEN, self._forgive)

    def _forgive(self) -> None:
        self._faults = 0

    # --- beginning and end ---------------------------------------------------

    def _begin(self, inner: Inner, life_line: int = -1) -> Fabric:
        """Work in a shared namespace, a new one or that of the supervisor before us."""
        made = Fabric(self._place, self._loop, inner, life_line=life_line, report=self._report)
        self._fabric = made
        if self._expected:
            made.expect()
        return made

    def _stop_expecting(self) -> None:
        """Serve newcomers: everybody who can come back has.

        Who has not was ending when we looked; one who comes all the same gets a new mark.
        """
        for container in self._expected:
            files.unlink(f"{self._place}/members/{container}")
        self._expected = set()
        self._loop.cancel(self._stop_expecting)
        if self._fabric is not None:
            self._fabric.settle()
        waiting, self._deferred = self._deferred, []
        for member in waiting:
            self._enter(member)

    def _listen(self, listener: _socket.socket) -> None:
        self._listener = listener
        self._socket = os.stat(f"{self._place}/{client.SOCKET}").st_ino
        self._loop.watch(listener.fileno(), IN, self._accept)

    def _arm(self) -> None:
        if not self._members:
            self._loop.later(_LINGER, self._end_if_idle)

    def _end_if_idle(self) -> None:
        if self._members or self._deferred:
            return
        with suppress(OSError):
            os.unlink(f"{self._place}/{client.SOCKET}")
        self._listener.setblocking(False)
        try:
            late = client.accept(self._listener)
        except OSError:
            self._running = False
            return
        # Somebody came in the last moment: go on, with a socket of the old name.
        self._loop.forget(self._listener.fileno())
        self._listener.close()
        self._listen(client.listen(self._place))
        self._watch(late)
        self._arm()

    def _settle_down(self, lock: int, listener: _socket.socket) -> None:
        """Serve at our place.

        The lock's file says who holds it, for people: podpy believes the lock alone.
        """
        self._lock = lock
        with suppress(OSError):  # a full disk
            os.ftruncate(lock, 0)
            os.pwrite(lock, files.dumps(to_dict(process.identity())).encode() + b"\n", 0)
        self._listen(listener)
        self._loop.later(_WATCH, self._watch_place)

    def _watch_place(self) -> None:
        """Notice when the runtime directory was cleaned under us."""
        try:
            ours = os.stat(f"{self._place}/{client.SOCKET}").st_ino == self._socket
        except OSError:
            ours = False
        if ours:
            self._loop.later(_WATCH, self._watch_place)
        else:
            self._renew_place()

    def _renew_place(self) -> None:
        """Be there again, or end when another supervisor is: the containers come to that one."""
        os.makedirs(self._place, 0o700, exist_ok=True)
        lock = client.take_lock(self._place)
        if lock < 0:
            self._running = False
            return
        os.close(self._lock)
        self._loop.forget(self._listener.fileno())
        self._listener.close()
        self._settle_down(lock, client.listen(self._place))
        for member in self._members.values():
            self._note(member)
        if self._fabric is not None:
            self._fabric.renew()

    def _move_to_own_scope(self) -> None:
        """Live beside the login or the container that happened to start us, not in it."""
        from podpy.kernel import systemd

        ours = [os.getpid(), *(self._fabric.processes if self._fabric else ())]
        with suppress(PodpyError, OSError):  # then we end with whoever started us
            name = f"podpy-network-{os.getpid()}.scope"
            systemd.start_scope(name, ours, description="podpy network supervisor").wait()

    # --- connections ---------------------------------------------------------

    def _accept(self, fd: int, _events: int) -> None:
        try:
            self._watch(client.accept(self._listener))
        except OSError:  # no descriptor is left: it would be announced for as long as it waits
            self._loop.pause(fd)
            self._loop.later(_BREATH, self._go_on_listening)

    def _go_on_listening(self) -> None:
        self._loop.change(self._listener.fileno(), IN)

    def _watch(self, channel: _socket.socket) -> None:
        self._loop.watch(channel.fileno(), IN, lambda _fd, _events: self._hear(channel))

    def _hear(self, channel: _socket.socket) -> None:
        try:
            self._answer(channel)
        except Exception as error:  # whatever it is, its asker waits for an answer
            with suppress(OSError):
                packets.send(channel, client.telling(error))

    def _answer(self, channel: _socket.socket) -> None:
        try:
            packet, fds = packets.receive(channel, _socket.MSG_DONTWAIT)
        except BlockingIOError:
            return  # what was announced was another's, who had the same descriptor
        if packet:
            word = packet.pop("do", "")
            if word not in _WORDS:
                raise UsageError(f"network supervisor: unknown request {word!r}")
            getattr(self, f"_{word}")(channel, fds, **packet)
        else:
            self._part(channel)

    def _part(self, channel: _socket.socket) -> None:
        """A connection has ended; if it was a container's, so has its lease."""
        self._loop.forget(channel.fileno())
        member = _connected_by(channel, self._members.values())
        waiting = _connected_by(channel, self._deferred)
        if member is not None:
            self._release(member)
            member.close()
        elif waiting is not None:
            self._deferred.remove(waiting)
            waiting.close()
        else:
            channel.close()

    # --- containers ----------------------------------------------------------

    def _attach(
        self, channel: _socket.socket, fds: list[int], registration: dict[str, Any]
    ) -> None:
        member = Member(channel, client.registration(registration), fds)
        if self._expected:
            # Those who were here before have their addresses: newcomers choose after them.
            self._deferred.append(member)
        else:
            self._enter(member)

    def _enter(self, member: Member) -> None:
        self._admit(member)
        try:
            fabric = self._fabric or self._begin(Inner.create())
            fabric.enter(member)
        except Exception as error:  # a defect too must leave no lease behind
            self._release(member)
            with suppress(OSError):
                packets.send(member.channel, client.telling(error))
            member.close_namespace()
            return
        answer = {
            "endpoints": list(map(to_dict, member.endpoints)),
            "ports": list(map(to_dict, member.ports)),
            "resume": member.resume(),
        }
        with suppress(OSError):  # who has gone meanwhile is released when that is heard
            packets.send(member.channel, answer, fabric.pins(member))

    def _resume(
        self, channel: _socket.socket, fds: list[int], registration: dict[str, Any]
    ) -> None:
        netns, life_line, *questions = fds[2:]
        fabric = self._fabric or self._begin(Inner.enter(netns), os.dup(life_line))
        is_ours = os.fstat(netns).st_ino == os.fstat(fabric.inner.netns).st_ino
        if is_ours:
            fabric.offer(questions)
            questions = []
        for fd in (netns, life_line, *questions):
            os.close(fd)
        member = Member(channel, client.registration(registration), fds)
        self._admit(member)
        before = member.endpoints
        try:
            fabric.restore(member, is_ours=is_ours)
            if member.endpoints == before:
                member.push(fabric.pins(member))
            else:
                self._push_changes(fabric, member)
        except (PodpyError, OSError) as error:
            # What could not be had again is told, and what it has it keeps.
            member.push(fabric.pins(member), error=client.telling(error)["error"])
        self._expected.discard(member.container)
        if not self._expected:
            self._stop_expecting()

    def _admit(self, member: Member) -> None:
        """Know a container from now on; what it was connected by before is over."""
        if before := self._members.get(member.container):
            self._part(before.channel)
        self._members[member.container] = member
        self._note(member)

    def _note(self, member: Member) -> None:
        """Leave a mark of who holds a lease, for the supervisor after us to wait for."""
        with suppress(OSError):  # a full disk: then it does not wait
            files.make_directory(f"{self._place}/members")
            who = to_dict(process.identity(_peer(member.channel)))
            files.write_json(f"{self._place}/members/{member.container}", who)

    def _release(self, member: Member) -> None:
        if self._members.get(member.container) is member:
            del self._members[member.container]
            with suppress(OSError):
                os.unlink(f"{self._place}/members/{member.container}")
        if self._fabric is not None:
            self._fabric.leave(member)
        self._arm()

    def _leave(self, channel: _socket.socket, _fds: list[int]) -> None:
        member = _connected_by(channel, self._members.values())
        if member is not None and self._fabric is not None:
            self._fabric.last_words(member)
        self._part(channel)

    def _merged(self, channel: _socket.socket, _fds: list[int]) -> None:
        """A container's state says what was pushed: who asked for the change can go on."""
        member = _connected_by(channel, self._members.values())
        if member is not None:
            waiting, member.waiting = member.waiting, []
            for asker in waiting:
                with suppress(OSError):
                    packets.send(asker, {"done": True})

    # --- what commands ask ---------------------------------------------------

    def _known(self, container: str) -> tuple[Fabric, Member]:
        if self._fabric is None or container not in self._members:
            raise NotFound(f"container {container[:12]}: is on no bridge network")
        return self._fabric, self._members[container]

    def _connect(
        self, channel: _socket.socket, _fds: list[int], container: str,
        network: dict[str, Any], attachment: dict[str, Any],
    ) -> None:  # fmt: skip
        fabric, member = self._known(container)
        fabric.connect(member, from_dict(Network, network), from_dict(Attachment, attachment))
        self._push_changes(fabric, member, channel)

    def _disconnect(
        self, channel: _socket.socket, _fds: list[int], container: str, network: str
    ) -> None:
        fabric, member = self._known(container)
        fabric.disconnect(member, network)
        self._push_changes(fabric, member, channel)

    def _rename(
        self, channel: _socket.socket, _fds: list[int], container: str, name: str, names: list[str]
    ) -> None:
        fabric, member = self._known(container)
        fabric.rename(member, name, tuple(names))
        self._push_changes(fabric, member, channel)

    def _push_changes(
        self, fabric: Fabric, member: Member, asker: _socket.socket | None = None
    ) -> None:
        """Push a container's new state; who asked for it is answered when it stands."""
        if asker is not None:
            member.waiting.append(asker)
        member.push(
            fabric.pins(member),
            networks=member.endpoints,
            ports=member.ports if member.endpoints else (),  # for no network they wait
            address=member.reached_at[0],
        )

    def _reload(self, channel: _socket.socket, _fds: list[int], container: str) -> None:
        for each in [container] if container else list(self._members):
            fabric, member = self._known(each)
            fabric.reload(member)
        packets.send(channel, {"done": True})

    def _update(self, channel: _socket.socket, _fds: list[int], network: dict[str, Any]) -> None:
        if self._fabric is not None:
            self._fabric.update(from_dict(Network, network))
        packets.send(channel, {"done": True})

    def _report(self, container: str, denied: Sequence[Any]) -> None:
        """A container tried what its egress policy forbids."""
        if container in self._members:
            self._members[container].refuse(denied)


def _connected_by(channel: _socket.socket, members: Iterable[Member]) -> Member | None:
    """The one whose connection this is."""
    return next((member for member in members if member.channel is channel), None)


def _peer(channel: _socket.socket) -> int:
    """The pid at the other end when it connected."""
    credentials = channel.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
    return int.from_bytes(credentials[:4], "little")


def _sweep(directory: str) -> None:
    """Remove what a supervisor before us was writing when it was killed; we hold the lock."""
    with suppress(FileNotFoundError):
        for name in os.listdir(directory):
            if name.startswith(".") and name.endswith(".tmp"):
                files.unlink(f"{directory}/{name}")


def _living(directory: str) -> set[str]:
    """The containers that a supervisor before us served and whose own supervisors live.

    The marks of the others go: those supervisors have ended while there was none of us.
    """
    found = set()
    for container in files.list_directory(directory):
        try:
            who = from_dict(ProcessIdentity, files.read_json(f"{directory}/{container}"))
        except (OSError, ValueError, PodpyError):
            who = None
        if process.is_alive(who):
            found.add(container)
        else:
            files.unlink(f"{directory}/{container}")
    return found
