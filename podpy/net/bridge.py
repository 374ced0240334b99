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
the shared namespace and the uplink's life line:

``attach``        a container starts: → ``endpoints ports resume``, the shared
                  namespace, the uplink's life line
``resume``        a container comes back to a new supervisor
``merged``        a pushed change stands in its ``state.json``
``leave``         its pid 1 has ended: closed when everything is free again
``connect disconnect reload update``   of commands: → an empty answer

What is pushed to a container's supervisor is the ``marshal`` of ``{"state": changed
fields, "resume": packet}``, for a program that has no JSON.
"""

from __future__ import annotations

import _signal
import _socket
import os
from contextlib import suppress

from podpy import files
from podpy.errors import Conflict, NotFound, PodpyError
from podpy.kernel import process
from podpy.kernel.loop import IN, Loop
from podpy.model import Attachment, Endpoint, Network, PortMapping, ProcessIdentity
from podpy.net import client, packets
from podpy.net.dns import Resolver
from podpy.net.egress import Egress as Guard
from podpy.net.inner import Inner
from podpy.net.member import Member
from podpy.net.segment import Segment, set_default_routes
from podpy.net.uplink import Uplink
from podpy.records import from_dict, replace, to_dict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

_LINGER = 3.0  # seconds without a container until the supervisor ends
_TIDY = 1.0  # seconds until the bridge of a network without containers goes
_RETURN = 1.0  # seconds that the containers of a killed supervisor have to come back
_WATCH = 3.0  # seconds between two looks at whether our place is still ours
_DNS = 53


def serve(place: str, lock: int, listener: _socket.socket) -> int:
    """Be the network supervisor until nobody needs one; ``lock`` is held meanwhile."""
    supervisor = Supervisor(place, listener)
    _signal.signal(_signal.SIGTERM, lambda *_: supervisor.end())
    try:
        supervisor.run()
    finally:
        os.close(lock)
    return 0


class Supervisor:
    """The host half: every connection, every network, and what happens to them."""

    def __init__(self, place: str, listener: _socket.socket) -> None:
        self._place = place
        self._socket = os.stat(f"{place}/{client.SOCKET}").st_ino
        self._loop = Loop()
        self._listener = listener
        self._members: dict[str, Member] = {}
        self._segments: dict[str, Segment] = {}
        self._expected = _living(f"{place}/members")
        self._deferred: list[Callable[[], None]] = []
        self._inner: Inner | None = None
        self._running = True
        self._loop.watch(listener.fileno(), IN, self._accept)
        self._loop.later(_WATCH, self._watch_place)
        if self._expected:
            self._loop.later(_RETURN, self._stop_expecting)
        else:
            self._begin(Inner.create())
        self._arm()

    def run(self) -> None:
        while self._running:
            self._loop.turn()
        self._loop.forget(self._listener.fileno())

    def end(self) -> None:
        self._running = False

    # --- beginning and end ---------------------------------------------------

    def _begin(self, inner: Inner, life_line: int = -1) -> None:
        """Work in a shared namespace, a new one or that of the supervisor before us."""
        self._inner = inner
        self._guard = Guard(self._loop, inner, self._report)
        self._resolver = Resolver(self._loop, self._guard)
        self._uplink = Uplink(self._place, self._loop, inner, self._lead_out)
        for path in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
            with suppress(OSError):  # a host without IPv6
                inner.sysctl(path, "1")
        self._uplink.start(life_line)

    def _stop_expecting(self) -> None:
        """Serve newcomers: everybody who can come back has."""
        self._expected = set()
        self._loop.cancel(self._stop_expecting)
        if self._inner is None:
            self._begin(Inner.create())
        waiting, self._deferred = self._deferred, []
        for call in waiting:
            call()

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
        self._listener = client.listen(self._place)
        self._socket = os.stat(f"{self._place}/{client.SOCKET}").st_ino
        self._loop.watch(self._listener.fileno(), IN, self._accept)
        self._watch(late)
        self._arm()

    def _watch_place(self) -> None:
        """End when our socket is gone: the runtime directory was cleaned under us.

        The containers' supervisors start another one, where it can be found.
        """
        try:
            ours = os.stat(f"{self._place}/{client.SOCKET}").st_ino == self._socket
        except OSError:
            ours = False
        if ours:
            self._loop.later(_WATCH, self._watch_place)
        else:
            self._running = False

    # --- connections ---------------------------------------------------------

    def _accept(self, _fd: int, _events: int) -> None:
        self._watch(client.accept(self._listener))

    def _watch(self, channel: _socket.socket) -> None:
        self._loop.watch(channel.fileno(), IN, lambda _fd, _events: self._hear(channel))

    def _hear(self, channel: _socket.socket) -> None:
        packet, fds = packets.receive(channel)
        if not packet:
            self._part(channel)
            return
        try:
            self._verb(str(packet.pop("do")))(channel, fds, **packet)
        except Exception as error:  # whatever it is, its asker waits for an answer
            for fd in fds:
                with suppress(OSError):
                    os.close(fd)
            with suppress(OSError):
                packets.send(channel, client.telling(error))

    def _verb(self, word: str) -> Callable[..., None]:
        verbs: dict[str, Callable[..., None]] = {
            "attach": self._attach,
            "resume": self._resume,
            "merged": self._merged,
            "leave": self._leave,
            "connect": self._connect,
            "disconnect": self._disconnect,
            "reload": self._reload,
            "update": self._update,
        }
        return verbs[word]

    def _part(self, channel: _socket.socket) -> None:
        """A connection has ended; if it was a container's, so has its lease."""
        self._loop.forget(channel.fileno())
        member = self._member_of(channel)
        if member is None:
            channel.close()
        else:
            self._release(member)
            member.close()

    def _member_of(self, channel: _socket.socket) -> Member | None:
        return next((m for m in self._members.values() if m.channel is channel), None)

    # --- containers ----------------------------------------------------------

    def _attach(
        self, channel: _socket.socket, fds: list[int], registration: dict[str, Any]
    ) -> None:
        if self._expected:
            # Those who were here before have their addresses: newcomers choose after them.
            self._deferred.append(lambda: self._attach_now(channel, fds, registration))
        else:
            self._attach_now(channel, fds, registration)

    def _attach_now(
        self, channel: _socket.socket, fds: list[int], registration: dict[str, Any]
    ) -> None:
        member = Member(channel, client.registration(registration), fds)
        try:
            self._enter(member)
        except (PodpyError, OSError) as error:
            self._release(member)
            member.route.close()
            os.close(member.netns)
            with suppress(OSError):
                packets.send(channel, client.telling(error))
            return
        answer = {
            "endpoints": list(map(to_dict, member.endpoints)),
            "ports": list(map(to_dict, member.ports)),
            "resume": member.resume(),
        }
        packets.send(channel, answer, self._pins())

    def _pins(self) -> tuple[int, ...]:
        """What a container's supervisor holds so that the kernel's part outlives us."""
        assert self._inner is not None
        return (self._inner.netns, self._uplink.exit_fd)

    def _enter(self, member: Member) -> None:
        """Everything a container needs of its networks, in the order in which it is safe."""
        self._members[member.container] = member
        self._note(member)
        for network, attachment in member.wanted:
            self._add(member, network, attachment)
        self._settle(member)
        wanted = tuple(from_dict(PortMapping, each) for each in member.told.ports)
        member.ports = self._uplink.publish(member.container, *_reached_at(member), wanted)

    def _add(self, member: Member, network: Network, attachment: Attachment) -> None:
        segment = self._segment(network)
        endpoint = segment.lease(member.container, attachment)
        segment.members.add(member.container)
        endpoint = replace(endpoint, interface=member.free_interface(attachment.interface))
        member.endpoints = (*member.endpoints, endpoint)
        self._guard_member(member)
        segment.plug(endpoint, member.device(endpoint.interface), member.netns, member.route)
        self._name(member, endpoint)

    def _settle(self, member: Member) -> None:
        internal = {s.network.name for s in self._segments.values() if s.network.internal}
        set_default_routes(member.endpoints, internal, member.route)

    def _guard_member(self, member: Member) -> None:
        if member.egress is not None:
            plugs = [(member.device(e.interface), e) for e in member.endpoints]
            self._guard.apply(member.container, plugs, member.egress)

    def _name(self, member: Member, endpoint: Endpoint) -> None:
        addresses = tuple(a for a in (endpoint.address, endpoint.address6) if a)
        self._uplink.reach(endpoint.address6)
        self._resolver.put(
            member.container,
            endpoint.network,
            (*member.told.names, *endpoint.aliases),
            addresses,
            member.told.dns,
            member.told.dns_search,
        )

    def _release(self, member: Member) -> None:
        """Free all that a container has; its interfaces go with its namespace."""
        if self._members.get(member.container) is member:
            del self._members[member.container]
        with suppress(OSError):
            os.unlink(f"{self._place}/members/{member.container}")
        self._uplink.withdraw(member.container)
        self._resolver.drop(member.container)
        if member.egress is not None:
            self._guard.withdraw(member.container)
        for endpoint in member.endpoints:
            self._uplink.unreach(endpoint.address6)
        for segment in self._segments.values():
            segment.release(member.container)
        devices = [member.device(each.interface) for each in member.endpoints]
        self._loop.later(_TIDY, lambda: self._tidy(devices), key=("tidy", member.container))
        self._arm()

    def _tidy(self, devices: Sequence[str]) -> None:
        """Remove plugs whose container lives on without its supervisor, and unused bridges."""
        assert self._inner is not None
        used = {m.device(e.interface) for m in self._members.values() for e in m.endpoints}
        for device in devices:
            index = 0 if device in used else self._inner.route.index(device)
            if index:
                self._inner.route.remove_link(index)
        for name in [n for n, segment in self._segments.items() if not segment.members]:
            self._drop_segment(name)

    # --- networks ------------------------------------------------------------

    def _segment(self, network: Network) -> Segment:
        known = self._segments.get(network.name)
        if known is not None and known.network.id != network.id:
            if known.members:
                raise Conflict(
                    f"network {network.name}: containers are still on the network of that name"
                    " that was removed",
                    hint="stop them first",
                )
            self._drop_segment(network.name)
            known = None
        return known or self._make_segment(network)

    def _make_segment(self, network: Network) -> Segment:
        assert self._inner is not None
        if not network.internal:
            self._uplink.wait()
        made = Segment(network, self._inner.route, self._uplink.mtu)
        for other in self._segments.values():
            made.keep_from(other)
            other.keep_from(made)
        made.lead_out(self._uplink.gateways, self._uplink.index)
        self._segments[network.name] = made
        if network.dns:
            self._resolver.serve(network, self._open_resolver_sockets(network))
        return made

    def _open_resolver_sockets(self, network: Network) -> list[_socket.socket]:
        assert self._inner is not None
        opened = []
        for subnet in network.subnets:
            gateway = subnet.gateway
            if not gateway:
                continue
            kind = _socket.AF_INET6 if ":" in gateway else _socket.AF_INET
            for transport, queue in ((_socket.SOCK_DGRAM, 0), (_socket.SOCK_STREAM, 64)):
                opened.append(
                    self._inner.open(
                        kind,
                        transport,
                        device=network.interface,
                        bind=(gateway, _DNS),
                        listen=queue,
                    )
                )
        return opened

    def _drop_segment(self, name: str) -> None:
        segment = self._segments.pop(name)
        self._resolver.withdraw(name)
        segment.remove()
        for other in self._segments.values():
            other.forget(segment)

    def _lead_out(self) -> None:
        """The uplink is there, or there again: every network's way out leads to it."""
        for segment in self._segments.values():
            segment.lead_out(self._uplink.gateways, self._uplink.index)

    # --- coming back ---------------------------------------------------------

    def _resume(
        self, channel: _socket.socket, fds: list[int], registration: dict[str, Any]
    ) -> None:
        netns, life_line = fds[2:4]
        if self._inner is None:
            self._begin(Inner.enter(netns), os.dup(life_line))
        assert self._inner is not None
        member = Member(channel, client.registration(registration), fds)
        is_ours = os.fstat(netns).st_ino == os.fstat(self._inner.netns).st_ino
        os.close(netns)
        os.close(life_line)
        self._members[member.container] = member
        self._note(member)
        for (network, _), endpoint in zip(member.wanted, member.endpoints, strict=True):
            self._restore(member, network, endpoint, is_ours=is_ours)
        if not is_ours:
            self._settle(member)
        member.ports = self._uplink.publish(
            member.container, *_reached_at(member), member.ports, again=True
        )
        member.push(self._pins())
        self._expected.discard(member.container)
        if not self._expected:
            self._stop_expecting()

    def _restore(
        self, member: Member, network: Network, endpoint: Endpoint, *, is_ours: bool
    ) -> None:
        """A plug of the supervisor before us; in another namespace than ours, a new one."""
        assert self._inner is not None
        segment = self._segment(network)
        segment.restore(member.container, endpoint)
        segment.members.add(member.container)
        self._guard_member(member)
        device = member.device(endpoint.interface)
        if not (is_ours and self._inner.route.index(device)):
            if stale := member.route.index(endpoint.interface):
                member.route.remove_link(stale)
            segment.plug(endpoint, device, member.netns, member.route)
        self._name(member, endpoint)

    def _note(self, member: Member) -> None:
        """Leave a mark of who holds a lease, for the supervisor after us to wait for."""
        pid = _peer(member.channel)
        os.makedirs(f"{self._place}/members", 0o700, exist_ok=True)
        with suppress(OSError):
            who = to_dict(process.identity(pid))
            files.write_json(f"{self._place}/members/{member.container}", who)

    # --- what is asked later -------------------------------------------------

    def _merged(self, channel: _socket.socket, _fds: list[int]) -> None:
        member = self._member_of(channel)
        if member is None:
            return
        waiting, member.waiting = member.waiting, []
        for each in waiting:
            with suppress(OSError):
                packets.send(each, {"done": True})

    def _leave(self, channel: _socket.socket, _fds: list[int]) -> None:
        self._part(channel)

    def _member(self, container: str) -> Member:
        if container not in self._members:
            raise NotFound(f"container {container[:12]}: is on no bridge network")
        return self._members[container]

    def _connect(
        self, channel: _socket.socket, _fds: list[int],
        container: str, network: dict[str, Any], attachment: dict[str, Any],
    ) -> None:  # fmt: skip
        member = self._member(container)
        defined, wanted = from_dict(Network, network), from_dict(Attachment, attachment)
        if any(each.network == defined.name for each in member.endpoints):
            raise Conflict(f"container {member.told.name}: is on network {defined.name} already")
        try:
            self._add(member, defined, wanted)
        except BaseException:
            self._remove(member, defined.name)
            raise
        member.want(defined, wanted)
        self._settle(member)
        self._changed(member, channel)

    def _disconnect(
        self, channel: _socket.socket, _fds: list[int], container: str, network: str
    ) -> None:
        member = self._member(container)
        if all(each.network != network for each in member.endpoints):
            raise NotFound(f"container {member.told.name}: is not on network {network}")
        member.want(self._segments[network].network, None)
        self._remove(member, network)
        self._settle(member)
        self._changed(member, channel)

    def _remove(self, member: Member, network: str) -> None:
        for endpoint in [e for e in member.endpoints if e.network == network]:
            if index := member.route.index(endpoint.interface):
                member.route.remove_link(index)
            self._uplink.unreach(endpoint.address6)
        member.endpoints = tuple(e for e in member.endpoints if e.network != network)
        self._resolver.drop(member.container, network)
        if network in self._segments:
            self._segments[network].release(member.container)
        self._guard_member(member)

    def _changed(self, member: Member, asker: _socket.socket) -> None:
        """Push a container's new state; who asked for it is answered when it stands."""
        member.ports = self._uplink.publish(
            member.container, *_reached_at(member), member.ports, again=True
        )
        member.waiting.append(asker)
        member.push(
            networks=member.endpoints,
            ports=member.ports,
            address=_reached_at(member)[0],
        )

    def _reload(self, channel: _socket.socket, _fds: list[int], container: str) -> None:
        """Make plugs, names and ports anew, with the same addresses."""
        members = [self._member(container)] if container else list(self._members.values())
        for member in members:
            for (network, _), endpoint in zip(member.wanted, member.endpoints, strict=True):
                self._restore(member, network, endpoint, is_ours=False)
            self._settle(member)
            self._uplink.withdraw(member.container)
            member.ports = self._uplink.publish(
                member.container, *_reached_at(member), member.ports, again=True
            )
        packets.send(channel, {"done": True})

    def _update(self, channel: _socket.socket, _fds: list[int], network: dict[str, Any]) -> None:
        changed = from_dict(Network, network)
        segment = self._segments.get(changed.name)
        if segment is not None and segment.network.id == changed.id:
            segment.network = changed
            self._resolver.define(changed)
        packets.send(channel, {"done": True})

    def _report(self, container: str, denied: Sequence[Any]) -> None:
        """A container tried what its egress policy forbids."""
        if container in self._members:
            self._members[container].push(denied=tuple(denied))


def _reached_at(member: Member) -> tuple[str, str]:
    """The addresses that published ports lead to: those of the first network that has one."""
    return (
        next((e.address for e in member.endpoints if e.address), ""),
        next((e.address6 for e in member.endpoints if e.address6), ""),
    )


def _peer(channel: _socket.socket) -> int:
    """The pid at the other end when it connected."""
    credentials = channel.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
    return int.from_bytes(credentials[:4], "little")


def _living(directory: str) -> set[str]:
    """The containers that a supervisor before us served and whose own supervisors live."""
    found = set()
    for container in files.list_directory(directory):
        try:
            who = from_dict(ProcessIdentity, files.read_json(f"{directory}/{container}"))
        except (OSError, ValueError, PodpyError):
            continue
        if process.is_alive(who):
            found.add(container)
    return found
