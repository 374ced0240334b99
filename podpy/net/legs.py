"""Published ports of the containers on bridge networks, each on its legs.

A leg is one host address and port that leads to one address of a container.
``-p 8080:80`` has two, for IPv4 and IPv6.  The helper forwards a leg where it
can; a relay serves the others, and those clients that a helper's leg leaves out.
"""

from __future__ import annotations

import _socket

from podpy.errors import PodpyError
from podpy.net import ports
from podpy.net.carriers import Forward
from podpy.net.forward import Target
from podpy.net.steering import Steering
from podpy.records import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from podpy.kernel.loop import Loop
    from podpy.kernel.netlink import Rule
    from podpy.net.carriers import Forwarding
    from podpy.net.forward import DatagramPort, Forwarder, StreamPort
    from podpy.net.inner import Inner
    from podpy.netmodel import PortMapping

_RETRY = 1.0  # seconds between two tries for a port that somebody took while no helper had it
_TAKEOVER = 5.0  # seconds until what a predecessor published and nobody claims is taken back
_LOOPBACK = "127.0.0.1"


class Leg:
    """One published address: what was asked for, where it leads, who serves it."""

    __slots__ = ("address", "ident", "mapping", "relays", "rule")

    def __init__(self, mapping: PortMapping, address: str) -> None:
        self.mapping = mapping
        self.address = address
        self.ident = -1  # of the helper's forwarding
        self.relays: list[StreamPort | DatagramPort] = []
        self.rule: Rule | None = None

    @property
    def is_served(self) -> bool:
        return self.ident >= 0 or bool(self.relays)


class Legs:
    """All legs, by container.  ``forwarding`` is what the helper can do, set once it is known.

    ``stuck`` is called when the helper lives and does not answer: it is to be replaced.
    """

    def __init__(
        self, loop: Loop, inner: Inner, forwarder: Forwarder, stuck: Callable[[], None]
    ) -> None:
        self.forwarding: Forwarding | None = None
        self._loop = loop
        self._steering = Steering(inner.route)
        self._forwarder = forwarder
        self._stuck = stuck
        self._legs: dict[str, list[Leg]] = {}
        self._found: dict[Forward, int] = {}

    # --- publishing ----------------------------------------------------------

    def publish(
        self, container: str, addresses: tuple[str, str], mappings: Iterable[PortMapping]
    ) -> tuple[PortMapping, ...]:
        """Listen for a container; its ports with their final numbers, one for each leg.

        ``addresses`` are its IPv4 and IPv6 address, each may be empty.  All ports or none.
        """
        self._drop_found()  # whoever has claims has made them
        try:
            for single in dict.fromkeys(s for given in mappings for s in ports.expand(given)):
                mine = self._legs.setdefault(container, [])
                ports.refuse_twice(single, [leg.mapping for leg in mine])
                mine += self._take(single, addresses)
        except BaseException:
            self.withdraw(container)
            raise
        return self._mappings(container)

    def restore(
        self, container: str, addresses: tuple[str, str], mappings: Iterable[PortMapping]
    ) -> tuple[PortMapping, ...]:
        """Publish what was published before, perhaps to other addresses; never fails.

        A port that cannot be had at the moment is tried for again and again.
        """
        wanted = [replace(m, masked=_is_masked(m, _target(m, addresses))) for m in mappings]
        kept = []
        for leg in self._legs.pop(container, []):
            if leg.mapping in wanted and leg.address == _target(leg.mapping, addresses):
                kept.append(leg)
            else:
                self._end(leg)
        known = {leg.mapping for leg in kept}
        kept += [Leg(m, _target(m, addresses)) for m in wanted if m not in known]
        self._legs[container] = kept
        self._serve_all()
        return self._mappings(container)

    def withdraw(self, container: str) -> None:
        """Stop listening for a container; its ports are free when this returns."""
        for leg in self._legs.pop(container, []):
            self._end(leg)

    def _mappings(self, container: str) -> tuple[PortMapping, ...]:
        return tuple(leg.mapping for leg in self._legs.get(container, ()))

    def _take(self, wanted: PortMapping, addresses: tuple[str, str]) -> list[Leg]:
        """The legs of one port, on a number that is free on all of them."""
        ports.refuse_sctp(wanted)
        taken, bound = ports.take(wanted, self._holder)
        made: list[Leg] = []
        try:
            for mapping, sock in zip(taken, bound, strict=True):
                address = _target(mapping, addresses)
                leg = Leg(replace(mapping, masked=_is_masked(mapping, address)), address)
                made.append(leg)
                self._serve(leg, sock)
        except BaseException:
            for leg in made:
                self._end(leg)
            raise
        finally:
            for sock in bound:
                sock.close()
        return made

    def _holder(self, mapping: PortMapping) -> str:
        """The container of ours that has a port."""
        for container, legs in self._legs.items():
            if any(ports.is_same(leg.mapping, mapping) for leg in legs):
                return container[:12]
        return ""

    # --- serving -------------------------------------------------------------

    def _serve(self, leg: Leg, bound: _socket.socket) -> None:
        """Let somebody listen where ``bound`` is bound.

        TCP sockets may stay bound beside the helper's, UDP sockets may not.
        """
        if not leg.address:
            return
        mapping = leg.mapping
        if self.forwarding is None or not self.forwarding.can(mapping, leg.address):
            self._relay(leg, _socket.socket(fileno=_socket.dup(bound.fileno())))
            return
        ports.hand_over(bound)
        try:
            leg.ident = self.forwarding.add(mapping, leg.address)
        except ConnectionError:
            return  # the helper has just ended: its successor is told (forward_again)
        except TimeoutError:
            self._stuck()
            return
        self._relay_loopback(leg)

    def _relay(self, leg: Leg, bound: _socket.socket) -> None:
        same = (":" in leg.mapping.host_ip) == (":" in leg.address)
        is_open = (
            same and leg.mapping.host_ip != "::1" and not leg.mapping.host_ip.startswith("127.")
        )
        if is_open:
            leg.rule = self._steering.add(leg.address, leg.mapping)
        target = Target(address=leg.address, port=leg.mapping.container_port, is_open=is_open)
        serve = (
            self._forwarder.datagrams
            if bound.type == _socket.SOCK_DGRAM
            else self._forwarder.stream
        )
        leg.relays.append(serve(bound, target))

    def _relay_loopback(self, leg: Leg) -> None:
        """Clients on the loopback, to whom the helper's UDP ports do not answer."""
        mapping = leg.mapping
        if mapping.protocol != "udp" or mapping.host_ip not in ports.WILDCARDS:
            return
        # The helper's socket takes SO_REUSEADDR once it is bound.
        local = replace(mapping, host_ip=_LOOPBACK)
        outer = ports.bind_beside(local)
        target = Target(address=leg.address, port=mapping.container_port)
        leg.relays.append(self._forwarder.datagrams(outer, target))

    def _end(self, leg: Leg) -> None:
        for relay in leg.relays:
            relay.close()
        leg.relays.clear()
        if leg.rule is not None:
            self._steering.remove(leg.rule)
            leg.rule = None
        self._unforward(leg.ident)
        leg.ident = -1

    def _unforward(self, ident: int) -> None:
        if ident >= 0 and self.forwarding is not None:
            try:
                self.forwarding.remove(ident)
            except TimeoutError:
                self._stuck()
            except OSError:
                return  # the helper has ended, and its ports with it

    # --- when the helper dies, and when we are new ---------------------------

    def lose(self) -> None:
        """The helper is gone and forwards nothing any more."""
        self._found.clear()
        for leg in self._every():
            if leg.ident >= 0:
                leg.ident = -1
                for relay in leg.relays:
                    relay.close()
                leg.relays.clear()

    def forward_again(self) -> None:
        """The helper is there: publish by it what nobody serves."""
        self._serve_all()

    def found(self, forwards: dict[Forward, int]) -> None:
        """What the helper forwards since before our time; :meth:`restore` claims it."""
        self._found = forwards
        self._loop.later(_TAKEOVER, self._drop_found)

    def _drop_found(self) -> None:
        self._loop.cancel(self._drop_found)
        for ident in self._found.values():
            self._unforward(ident)
        self._found = {}

    def _serve_all(self) -> None:
        missing = False
        for leg in self._every():
            if leg.address and not leg.is_served:
                try:
                    self._serve_again(leg)
                except (PodpyError, OSError):
                    self._end(leg)
                    missing = True
        if missing:
            self._loop.later(_RETRY, self._serve_all)

    def _serve_again(self, leg: Leg) -> None:
        ident = self._found.pop(_forward(leg), -1)
        if ident >= 0:
            leg.ident = ident
            self._relay_loopback(leg)
            return
        bound = ports.bind(leg.mapping, leg.mapping.host_port)
        try:
            self._serve(leg, bound)
        finally:
            bound.close()

    def _every(self) -> Sequence[Leg]:
        return [leg for legs in self._legs.values() for leg in legs]

    def close(self) -> None:
        self._loop.cancel(self._serve_all)
        self._loop.cancel(self._drop_found)
        for container in list(self._legs):
            self.withdraw(container)


def _target(mapping: PortMapping, addresses: tuple[str, str]) -> str:
    """Where a port leads: to the address of its own family, if there is one."""
    v4, v6 = addresses
    return (v6 or v4) if ":" in mapping.host_ip else (v4 or v6)


def _is_masked(mapping: PortMapping, address: str) -> bool:
    """Clients of one family cannot be shown to a container that has the other only."""
    return bool(address) and (":" in mapping.host_ip) != (":" in address)


def _forward(leg: Leg) -> Forward:
    return Forward(
        proto=leg.mapping.protocol,
        host_addr=leg.mapping.host_ip,
        host_port=leg.mapping.host_port,
        guest_addr=leg.address,
        guest_port=leg.mapping.container_port,
    )
