"""The resolver of the bridge networks: names of containers, and the way to other servers.

It listens where its sockets were opened, on the gateway addresses inside the shared
network namespace, and asks from the host's.  A question is known by the network it
came by and its source; what no container's address sends is refused.

Decided here, and why:

* Answers about containers are true for the moment: time to live 0, so that nobody
  keeps the address of a container that has gone.
* A name that exists without an address of the wanted family is answered by no records,
  never by "no such name": musl takes that for the whole name.
* Nothing is asked of anybody but the container's own name servers, else the network's,
  else the host's as they are at this moment.  With none: failure at once.
* A container without a way out asks nobody; an unknown name does not exist there.
* The containers' resolv.conf says ``ndots:0`` as docker's does, so that ``db`` comes here
  as ``db`` and not, first, as ``db.example.com``, which would tell the host's servers and
  could be answered by a wildcard.  musl then leaves the search domains out; so they are
  tried here, for names of one label that no container has.  Such a name goes out bare
  only after that, as it does from the host.
* Addresses of podpy's networks are looked up here only; no other server knows them.
"""

from __future__ import annotations

from podpy.kernel.loop import IN
from podpy.net import dnswire, resolv
from podpy.net.dnsserver import Datagrams, Listener
from podpy.net.names import Names, is_name
from podpy.net.upstream import HostResolvers, Upstream, open_here

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable, Iterable, Sequence
    from typing import Protocol

    from podpy.kernel.loop import Loop
    from podpy.net.dnsserver import Reply
    from podpy.net.dnswire import Question
    from podpy.net.names import Asker
    from podpy.net.upstream import Opener
    from podpy.netmodel import Network

    class Policy(Protocol):
        """What the egress policy has to do with names."""

        def concerns(self, container: str) -> bool:
            """Whether a container has a policy at all."""

        def may_ask(self, container: str, name: str) -> bool:
            """Whether a container may have a name looked up outside."""

        def answered(
            self, container: str, name: str, addresses: Sequence[str], ttl: int,
            *, local: bool = False,
        ) -> None:  # fmt: skip
            """A name was found; called before the container hears of it.

            ``local``: it is another container's.
            """


SOCK_STREAM = 1
_PER_CONTAINER = 256  # questions on their way at a time
_OF_RIGHT = 16  # of them, those that a container can have however much others ask
_TURNS = 1024  # shared names whose turn is remembered


class Resolver:
    """Answers the questions of containers on bridge networks.

    What it knows of networks and containers is told to its ``names``.

    ``inside`` opens a socket (family, kind) in the shared network namespace: name
    servers that are containers themselves are asked from there.
    """

    def __init__(
        self,
        loop: Loop,
        egress: Policy | None = None,
        *,
        inside: Callable[[int, int], _socket.socket] | None = None,
        port: int = 53,
        resolv_conf: str = resolv.RESOLV_CONF,
    ) -> None:
        self._loop = loop
        self._egress = egress
        self._inside = inside
        self.names = Names()
        self._host = HostResolvers(resolv_conf)
        self._upstream = Upstream(loop, port)
        self._served: dict[str, list[Datagrams | Listener]] = {}
        self._held = False
        # Whose turn it is to come first, by name and type: programs ask for both families at
        # once, and a count in common would give the same one to every second question.
        self._turns: dict[tuple[str, int], int] = {}
        self._busy: dict[str, int] = {}  # by container: its questions that are on their way

    # --- networks and their members ------------------------------------------

    def serve(self, network: Network, sockets: Iterable[_socket.socket]) -> None:
        """Answer on these sockets, UDP or listening TCP, which belong to the resolver now."""
        self.names.define(network)

        def ask(packet: bytes, address: str, reply: Reply, stream: bool) -> None:
            self.ask(network.name, address, packet, reply, stream)

        for socket in sockets:
            make = Listener if socket.type == SOCK_STREAM else Datagrams
            self._served.setdefault(network.name, []).append(make(self._loop, socket, ask))
            if self._held:
                self._loop.pause(socket.fileno())

    def withdraw(self, network: str) -> None:
        """Answer on a network no more, and forget its names."""
        self.names.undefine(network)
        for served in self._served.pop(network, ()):
            served.close()

    def hold(self) -> None:
        """Leave questions in the sockets until :meth:`release`.

        After a takeover containers register one after the other, and nobody shall hear
        that a name does not exist whose container is about to say so.
        """
        self._held = True
        for socket in self._sockets():
            self._loop.pause(socket.fileno())

    def release(self) -> None:
        self._held = False
        for socket in self._sockets():
            self._loop.change(socket.fileno(), IN)

    def close(self) -> None:
        for network in list(self._served):
            self.withdraw(network)
        self._upstream.close()

    def _sockets(self) -> list[_socket.socket]:
        return [each.socket for served in self._served.values() for each in served]

    # --- questions -----------------------------------------------------------

    def ask(self, network: str, address: str, packet: bytes, reply: Reply, stream: bool) -> None:
        """Answer a question that came by a network from an address.

        ``reply`` is called once, now or within seconds, with the answer; empty for none.
        """
        question = dnswire.read(packet, stream=stream)
        if question is None:
            reply(b"")
            return
        asker = self.names.asker(network, address)
        if question.problem:
            reply(dnswire.empty(question, question.problem))
        elif asker is None or question.klass != dnswire.IN:
            reply(dnswire.empty(question, dnswire.REFUSED))
        elif (known := self._known(asker, network, question)) is not None:
            reply(known)
        else:
            self._forward(asker, network, question, reply)

    def _known(self, asker: Asker, network: str, question: Question) -> bytes | None:
        """The answer about a container; None when the name is nothing of podpy's."""
        if question.kind == dnswire.PTR:
            name = self.names.reverse(asker, network, question.name)
            if name:
                return dnswire.answer(question, (name,))
            if name is not None:
                return dnswire.empty(question, dnswire.NXDOMAIN, own=True)
        found = self.names.lookup(asker, network, question.name)
        if found is None:
            return None
        wanted = self._rotated(question, _of_kind(question.kind, found))
        if not wanted:
            return dnswire.empty(question, dnswire.NOERROR, own=True)
        if self._egress is not None:
            self._egress.answered(asker.container, question.name, wanted, 0, local=True)
        return dnswire.answer(question, wanted)

    def _rotated(self, question: Question, addresses: tuple[str, ...]) -> tuple[str, ...]:
        if len(addresses) < 2:
            return addresses
        if len(self._turns) > _TURNS:
            self._turns.clear()
        turn = self._turns.get((question.name, question.kind), 0)
        self._turns[question.name, question.kind] = turn + 1
        first = turn % len(addresses)
        return addresses[first:] + addresses[:first]

    def _forward(self, asker: Asker, network: str, question: Question, reply: Reply) -> None:
        """Ask other servers, if there is a way and the container may."""
        networks = list(self.names.networks(asker, network))
        hosts, search = self._host.current()
        servers = self._servers(asker, networks, hosts)
        if not servers or not self._has_room(asker.container):
            is_alone = not servers and _are_closed(networks)
            reply(dnswire.empty(question, dnswire.NXDOMAIN if is_alone else dnswire.SERVFAIL))
            return
        policy = self._egress
        if policy is not None and not policy.concerns(asker.container):
            policy = None
        finish = self._counted(asker.container, reply)
        errand = Errand(self._upstream, policy, asker.container, question, finish)
        errand.names = _candidates(question, asker.search or search)
        errand.servers = servers
        errand.opener = lambda *wanted: self._open(asker, *wanted)
        errand.go_on()

    def _servers(
        self, asker: Asker, networks: Sequence[Network], hosts: Sequence[str]
    ) -> Sequence[str]:
        """Whom to ask for a container: its own servers, its networks', or ``hosts``.

        Without a way out, those of them that are containers on its networks.
        """
        chosen = asker.dns or next((each.dns_servers for each in networks if each.dns_servers), ())
        if _are_closed(networks):
            return [each for each in chosen if self.names.reaches(asker, each)]
        return chosen or hosts

    def _has_room(self, container: str) -> bool:
        """Whether a container may have one question more on its way."""
        room = _OF_RIGHT if self._upstream.is_crowded else _PER_CONTAINER
        return self._busy.get(container, 0) < room

    def _counted(self, container: str, reply: Reply) -> Reply:
        """``reply`` for a question that counts as one of its container's until it is answered."""
        self._busy[container] = self._busy.get(container, 0) + 1

        def finish(packet: bytes) -> None:
            self._busy[container] -= 1
            if not self._busy[container]:
                del self._busy[container]
            reply(packet)

        return finish

    def _open(self, asker: Asker, server: str, family: int, kind: int) -> _socket.socket:
        if self._inside is not None and self.names.reaches(asker, server):
            return self._inside(family, kind)
        return open_here(server, family, kind)


class Errand:
    """A question on its way to other servers, under one name after the other.

    ``names`` are those to try; the last is the one that was asked for.
    """

    __slots__ = (
        "_container", "_egress", "_question", "_reply", "_upstream", "names", "opener", "servers",
    )  # fmt: skip

    names: list[str]
    servers: Sequence[str]
    opener: Opener

    def __init__(
        self,
        upstream: Upstream,
        egress: Policy | None,
        container: str,
        question: Question,
        reply: Reply,
    ) -> None:
        self._upstream = upstream
        self._egress = egress
        self._container = container
        self._question = question
        self._reply = reply

    def go_on(self) -> None:
        """Ask for the next name that may be asked for."""
        while self.names:
            name = self.names.pop(0)
            if self._egress is None or self._egress.may_ask(self._container, name):
                self._ask(name)
                return
        self._reply(dnswire.empty(self._question, dnswire.REFUSED))

    def _ask(self, name: str) -> None:
        asked = self._question
        if name != asked.name:
            asked = dnswire.renamed(asked, name)
        self._upstream.ask(
            asked, self.servers, lambda packet: self._heard(asked, packet), self.opener
        )

    def _heard(self, asked: Question, packet: bytes | None) -> None:
        """An answer, byte for byte what the server sent, or None."""
        if packet is None:
            self._reply(dnswire.empty(self._question, dnswire.SERVFAIL))
        elif asked is not self._question and dnswire.code(packet) != dnswire.NOERROR:
            self.go_on()
        else:
            self._reply(self._finished(asked, packet))

    def _finished(self, asked: Question, packet: bytes) -> bytes:
        """What the container is told; its policy hears of the addresses before it does."""
        searched = asked is not self._question
        if self._egress is None and not searched:
            return packet
        try:
            found, ttl = dnswire.addresses(asked, packet)
        except ValueError:
            return dnswire.empty(self._question, dnswire.SERVFAIL)
        if self._egress is not None and found:
            self._egress.answered(self._container, asked.name, found, ttl)
        if not searched:
            return packet
        if dnswire.is_truncated(packet):
            return dnswire.empty(self._question, dnswire.NOERROR, truncated=True)
        if not found:
            return dnswire.empty(self._question, dnswire.NOERROR)
        return dnswire.answer(self._question, found, ttl, own=False)


def _are_closed(networks: Iterable[Network]) -> bool:
    """Whether no way out leads from any of these networks."""
    return all(each.internal for each in networks)


def _of_kind(kind: int, addresses: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the addresses that a question of this type is about."""
    if kind == dnswire.ANY:
        return addresses
    if kind not in (dnswire.A, dnswire.AAAA):
        return ()
    return tuple(each for each in addresses if (":" in each) == (kind == dnswire.AAAA))


def _candidates(question: Question, search: Iterable[str]) -> list[str]:
    """The names to ask for: in the search domains, then as it is.

    As the host's own resolver does for names of one label.
    """
    name = question.name
    wanted = question.kind in (dnswire.A, dnswire.AAAA)
    if not wanted or not name or "." in name or "\\" in name:
        return [name]
    longer = (f"{name}.{domain}" for domain in search)
    return [*(each for each in longer if is_name(each)), name]
