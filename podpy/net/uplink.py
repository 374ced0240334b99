"""The ways out of the shared namespace, and the ports that lead in.

The helper of the uplink (:mod:`.line`, :mod:`.carriers`) lives for as long as
anybody holds its life line, the end of a pipe of which each container's
supervisor has a copy: it outlives the network supervisor, whose successor
takes it over with the ports it forwards.

A published port has a leg for each address it listens on (:mod:`.legs`): what
the helper cannot forward is relayed (:mod:`.forward`).

A second helper leads to the host's loopback, once a network is to have that.
"""

from __future__ import annotations

import _socket
import os

from podpy import config
from podpy.errors import PodpyError, suppress
from podpy.kernel import netlink
from podpy.net import carriers, line, slirp
from podpy.net.forward import Forwarder
from podpy.net.legs import Legs
from podpy.net.line import Left, Line
from podpy.net.neighbours import Neighbours
from podpy.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from podpy.kernel.loop import Loop
    from podpy.net.carriers import Carrier
    from podpy.net.inner import Inner
    from podpy.netmodel import PortMapping


@record
class HostAccess:
    """Where the host's loopback is: ``address``, in a ``subnet`` on the device ``index``."""

    address: str
    subnet: str
    index: int


class Uplink:
    """The uplink and every published port.

    ``up`` is called whenever the uplink is there, for the first time or again.
    ``mtu``, ``gateways`` and ``index``, the device's, hold from :meth:`start` on.
    """

    def __init__(
        self, directory: str, loop: Loop, inner: Inner, up: Callable[[], None] = lambda: None
    ) -> None:
        self.exit_fd = -1
        self._directory = directory
        self._loop = loop
        self._inner = inner
        self._up = up
        self._line: Line | None = None
        self._host_line: Line | None = None
        self._neighbours: Neighbours | None = None
        self._behind: set[bytes] = set()  # the IPv6 addresses of containers
        self._failure: PodpyError | None = None
        self._legs = Legs(loop, inner, Forwarder(loop, inner), self._replace)

    @property
    def index(self) -> int:
        return self._line.index if self._line else 0

    @property
    def mtu(self) -> int:
        return self._line.carrier.settings.mtu if self._line else slirp.MTU

    @property
    def gateways(self) -> tuple[str, ...]:
        """By which the networks reach the world, one for each family that the uplink has."""
        if not (self._line and self._line.index):
            return ()
        gateway = self._line.carrier.settings.gateway
        return (gateway, carriers.GATEWAY6) if self._line.carrier.has_ipv6 else (gateway,)

    @property
    def hidden(self) -> tuple[str, ...]:
        """The subnets of the world that it cannot reach."""
        return self._line.carrier.hidden if self._line and self._line.carrier.has_ipv6 else ()

    @property
    def pid(self) -> int:
        """The helper's process; 0 while there is none."""
        return self._line.pid if self._line else 0

    # --- beginning and end ---------------------------------------------------

    def start(self, life_line: int = -1) -> None:
        """Begin; with a predecessor's life line (ours from now on) take over what it left.

        Does not wait, and does not fail: :meth:`wait` tells.
        """
        if life_line < 0:
            for device in line.RECORDS:
                line.end_stale(self._record(device))
            end, life_line = os.pipe2(os.O_CLOEXEC)
            os.close(end)  # whoever needs it can open it by the other one
        self.exit_fd = life_line
        left = line.left(self._record(carriers.DEVICE))
        try:
            carrier = self._choose() if left is None else self._revive(left)
        except (PodpyError, OSError) as error:
            self._failure = line.told(error)
            return
        self._failure = None
        place = self._record(carriers.DEVICE)
        self._line = Line(
            self._loop,
            self._inner,
            carrier,
            place,
            life_line,
            up=self._arrived,
            down=self._legs.lose,
        )
        self._legs.forwarding = carrier.forwarding
        self._line.start(left)
        if left is not None and self._line.pid and carrier.forwarding:
            self._legs.found(carrier.forwarding.listed())
        try:
            self._lead_out(carrier)
        except OSError as error:  # tried again when it is waited for
            self._line.failure = line.told(error)

    def wait(self) -> None:
        """Return when the uplink is there; :class:`HostError` when it cannot be."""
        if self._line is None:
            self.start(self.exit_fd)
        if self._line is None:
            assert self._failure is not None
            raise self._failure
        self._line.wait()

    def renew(self) -> None:
        """Exchange the helpers: what they had in our directory was deleted."""
        for each in (self._line, self._host_line):
            if each is not None:
                each.replace()

    def close(self) -> None:
        """Give up the uplink; it ends unless somebody else holds its life line."""
        self._legs.close()
        if self._neighbours is not None:
            self._neighbours.close()
        for each in (self._line, self._host_line):
            if each is not None:
                each.close()
        if self.exit_fd >= 0:
            os.close(self.exit_fd)
            self.exit_fd = -1

    def _record(self, device: str) -> str:
        return f"{self._directory}/{line.RECORDS[device]}"

    def _choose(self) -> Carrier:
        configured = config.load()
        kind = configured.network.default_rootless_network_cmd
        options = configured.engine.network_cmd_options
        return carriers.choose(kind, options, self._directory, _busy_subnets())

    def _revive(self, left: Left) -> Carrier:
        return carriers.revive(left.kind, left.settings, self._directory)

    def _arrived(self) -> None:
        """The uplink is there: it can forward ports, and networks can be led to it."""
        assert self._line is not None
        self._lead_out(self._line.carrier)
        self._legs.forward_again()
        self._up()

    def _replace(self) -> None:
        if self._line is not None:
            self._line.replace()

    def _lead_out(self, carrier: Carrier) -> None:
        """The namespace's own way out, and answers for who is behind it."""
        for gateway in self.gateways:
            with suppress(FileExistsError):
                everything = "::/0" if ":" in gateway else "0.0.0.0/0"
                self._inner.route.add_route(everything, gateway=gateway, index=self.index)
        if self.index and carrier.wants_neighbours and self._neighbours is None:
            self._neighbours = Neighbours(self._loop, self._inner, carrier.device, self._behind)

    # --- what the containers want of it --------------------------------------

    def publish(
        self, container: str, address: str, address6: str, mappings: Iterable[PortMapping], *,
        again: bool = False,
    ) -> tuple[PortMapping, ...]:  # fmt: skip
        """Publish a container's ports; one mapping for each leg, with its final number.

        ``Conflict`` for a port that somebody has, and then none is published.
        ``again`` for what was published before: it cannot fail, a port that is
        taken is tried for until it is free.
        """
        if again:
            return self._legs.restore(container, (address, address6), mappings)
        wanted = tuple(mappings)
        if wanted:
            self.wait()
        return self._legs.publish(container, (address, address6), wanted)

    def withdraw(self, container: str) -> None:
        """Free a container's ports, before this returns."""
        self._legs.withdraw(container)

    def reach(self, address6: str) -> None:
        """An IPv6 address is behind the uplink from now on; an empty one is none."""
        if address6:
            self._behind.add(_socket.inet_pton(_socket.AF_INET6, address6))

    def unreach(self, address6: str) -> None:
        if address6:
            self._behind.discard(_socket.inet_pton(_socket.AF_INET6, address6))

    # --- the host's loopback -------------------------------------------------

    def reach_host(self) -> HostAccess:
        """The way to the host's loopback; opened with the first call.

        Only who has a route to it gets there.  :class:`HostError` when there is
        no program for it.
        """
        if self._host_line is None:
            place = self._record(carriers.HOST_DEVICE)
            left = line.left(place)
            if left is None:
                busy = _busy_subnets()
                if self._line is not None:
                    busy.append(self._line.carrier.settings.cidr)
                carrier: Carrier = carriers.host_access(self._directory, busy)
            else:
                carrier = carriers.Host(self._directory, left.settings)
            self._host_line = Line(self._loop, self._inner, carrier, place, self.exit_fd)
            self._host_line.start(left)
        self._host_line.wait()
        settings = self._host_line.carrier.settings
        return HostAccess(
            address=settings.gateway, subnet=settings.cidr, index=self._host_line.index
        )


def _busy_subnets() -> list[str]:
    """What the host reaches without its default route."""
    host = netlink.Route.open()
    try:
        return host.subnets()
    finally:
        host.close()
