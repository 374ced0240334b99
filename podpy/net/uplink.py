"""The way out of the shared namespace, and the ports that lead in.

One helper program (:mod:`.carriers`) serves the tap device of the namespace.
The device, its address and the routes by it stand by themselves, so a helper
that dies is replaced without anybody noticing but those who talked through it.
The helper lives for as long as anybody holds its life line, the end of a pipe
of which each container's supervisor has a copy: it outlives the network
supervisor, whose successor takes it over with the ports it forwards.

A published port has a leg for each address it listens on: what the helper
cannot forward is relayed (:mod:`.forward`).
"""

from __future__ import annotations

import _signal
import _socket
import os
import select
import time
from contextlib import suppress

from podpy import config, files
from podpy.errors import HostError, PodpyError
from podpy.kernel import netlink, process
from podpy.kernel.loop import IN
from podpy.model import PortMapping, ProcessIdentity
from podpy.net import carriers, slirp
from podpy.net.forward import Forwarder
from podpy.net.helper import locate
from podpy.net.legs import Legs
from podpy.net.neighbours import Neighbours
from podpy.records import from_dict, record, to_dict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from podpy.kernel.loop import Loop
    from podpy.net.carriers import Carrier
    from podpy.net.helper import Helper
    from podpy.net.inner import Inner

RECORD = "uplink.json"
_SHORT = 2.0  # seconds: a helper that lived for less has not proved itself
_PATIENCE = 3  # as many of them are replaced at once, the next after a pause
_PAUSE = 1.0
_KILL = 2


@record
class _Record:
    """Which helper serves the device, for the supervisor after us."""

    kind: str
    settings: slirp.Settings
    process: ProcessIdentity
    _nested = {"settings": slirp.Settings, "process": ProcessIdentity}


class Uplink:
    """The uplink and every published port.

    ``up`` is called whenever the uplink is there, for the first time or again.
    ``mtu``, ``gateways`` and ``index``, the device's, hold from :meth:`start` on.
    """

    def __init__(
        self, directory: str, loop: Loop, inner: Inner, up: Callable[[], None] = lambda: None
    ) -> None:
        self.index = 0
        self.exit_fd = -1
        self._directory = directory
        self._loop = loop
        self._inner = inner
        self._up = up
        self._carrier: Carrier | None = None
        self._neighbours: Neighbours | None = None
        self._helper: Helper | None = None  # one that is not ready yet
        self._pid = 0
        self._pidfd = -1
        self._since = 0.0
        self._deaths = 0
        self._failure: PodpyError | None = None
        self._legs = Legs(loop, inner, Forwarder(loop, inner))

    @property
    def mtu(self) -> int:
        return self._carrier.settings.mtu if self._carrier else slirp.MTU

    @property
    def gateways(self) -> tuple[str, ...]:
        """By which the networks reach the world, one for each family that the uplink has."""
        if not (self._carrier and self.index):
            return ()
        gateway = self._carrier.settings.gateway
        return (gateway, carriers.GATEWAY6) if self._carrier.has_ipv6 else (gateway,)

    # --- the helper's life ---------------------------------------------------

    def start(self, life_line: int = -1) -> None:
        """Begin; with a predecessor's life line (ours from now on) take over what it left.

        Does not wait, and does not fail: :meth:`wait` tells.
        """
        left = self._left() if life_line >= 0 else None
        if life_line < 0:
            self._end_stale()
            end, life_line = os.pipe2(os.O_CLOEXEC)
            os.close(end)  # whoever needs it can open it by the other one
        self.exit_fd = life_line
        try:
            if left is None:
                self._carrier = self._choose()
            else:
                self._carrier = carriers.revive(left.kind, left.settings, self._directory)
            self._make_device(self._carrier)
            self._legs.forwarding = self._carrier.forwarding
            if not (left and self._adopt(left)):
                self._spawn()
            self._configure_device(self._carrier)  # while the helper gets ready
        except (PodpyError, OSError) as error:
            self._failure = _told(error)

    def wait(self) -> None:
        """Return when the uplink is there; :class:`HostError` when it cannot be."""
        if self._failure is not None and self._pidfd < 0 and self._helper is None:
            self._start_again()
        if self._helper is not None:
            self._arrive()
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Give up the uplink; it ends unless somebody else holds its life line."""
        self._legs.close()
        if self._neighbours is not None:
            self._neighbours.close()
        if self._pidfd >= 0:
            self._forget_process()
        if self.exit_fd >= 0:
            os.close(self.exit_fd)
            self.exit_fd = -1

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
        if address6 and self._neighbours is not None:
            self._neighbours.addresses.add(_socket.inet_pton(_socket.AF_INET6, address6))

    def unreach(self, address6: str) -> None:
        if address6 and self._neighbours is not None:
            self._neighbours.addresses.discard(_socket.inet_pton(_socket.AF_INET6, address6))

    @property
    def pid(self) -> int:
        """The helper's; 0 while there is none."""
        return self._pid

    @property
    def facts(self) -> dict[str, object]:
        """For people who ask what is running: the program, its pid, what it lacks."""
        return {
            "program": self._carrier.name if self._carrier else "",
            "pid": self._pid,
            "mtu": self.mtu,
            "failure": self._failure.message if self._failure else "",
        }

    def _choose(self) -> Carrier:
        configured = config.load()
        host = netlink.Route.open()
        try:
            busy = host.subnets()
        finally:
            host.close()
        kind = configured.network.default_rootless_network_cmd
        options = configured.engine.network_cmd_options
        return carriers.choose(kind, options, self._directory, busy)

    def _make_device(self, carrier: Carrier) -> None:
        locate(carrier.name, "slirp4netns" if carrier.name == "pasta" else "pasta")
        self._inner.make_tap(carriers.DEVICE)
        self.index = self._inner.route.index(carriers.DEVICE)

    def _configure_device(self, carrier: Carrier) -> None:
        """Its addresses, the routes by it; what stands already stays."""
        inner, route = self._inner, self._inner.route
        # The helper's router advertisements would bring a prefix of its own.
        try:
            for sysctl in ("accept_ra", "accept_dad", "disable_ipv6"):
                inner.sysctl(f"ipv6/conf/{carriers.DEVICE}/{sysctl}", "0")
        except OSError:  # a kernel without IPv6
            carrier.has_ipv6 = False
        route.set_mtu(self.index, carrier.settings.mtu)
        with suppress(FileExistsError):
            prefix = int(carrier.settings.cidr.partition("/")[2])
            route.add_address(self.index, carrier.settings.address, prefix)
        if carrier.has_ipv6 and carrier.address6:
            with suppress(FileExistsError):
                route.add_address(self.index, carrier.address6, carriers.PREFIX6)
        route.set_up(self.index)
        carrier.prepare(inner)
        for gateway in self.gateways:
            with suppress(FileExistsError):
                everything = "::/0" if ":" in gateway else "0.0.0.0/0"
                route.add_route(everything, gateway=gateway, index=self.index)
        if carrier.has_ipv6 and not carrier.address6:
            self._neighbours = Neighbours(self._loop, inner, carriers.DEVICE)

    def _spawn(self) -> None:
        assert self._carrier is not None
        self._since = time.monotonic()
        try:
            self._helper = self._carrier.start(self._inner, self.exit_fd)
        except (PodpyError, OSError) as error:
            self._failure = _told(error)
            return
        self._loop.watch(self._helper.ready_fd, IN, lambda _fd, _events: self._arrive())

    def _arrive(self) -> None:
        """The helper has said that it is ready, or is waited for."""
        helper, self._helper = self._helper, None
        assert helper is not None and self._carrier is not None
        self._loop.forget(helper.ready_fd)
        try:
            helper.wait_ready()
        except HostError as error:
            self._failure = error
            self._loop.later(_PAUSE, self._start_again, key=self)
            return
        self._failure = None
        who = process.identity(helper.pid)
        self._watch_process(helper.pid, os.pidfd_open(helper.pid))
        self._write_record(who)
        self._legs.forward_again()
        self._up()

    def _watch_process(self, pid: int, pidfd: int) -> None:
        self._pid, self._pidfd = pid, pidfd
        self._loop.watch(pidfd, IN, lambda _fd, _events: self._died())

    def _forget_process(self) -> None:
        self._loop.forget(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1
        with suppress(ChildProcessError):  # adopted: its parent is another
            os.waitpid(self._pid, os.WNOHANG)

    def _died(self) -> None:
        self._forget_process()
        self._legs.lose()
        self._deaths = self._deaths + 1 if time.monotonic() - self._since < _SHORT else 1
        if self._deaths > _PATIENCE:
            self._failure = HostError("the uplink of the bridge networks has ended")
            self._loop.later(_PAUSE, self._start_again, key=self)
        else:
            self._spawn()

    def _start_again(self) -> None:
        self._loop.cancel(self)
        if self._carrier is None or not self.index:
            line, self.exit_fd = self.exit_fd, -1
            self._failure = None
            self.start(line)
        elif self._helper is None and self._pidfd < 0:
            self._failure = None
            self._spawn()

    # --- takeover ------------------------------------------------------------

    def _record_path(self) -> str:
        return f"{self._directory}/{RECORD}"

    def _write_record(self, who: ProcessIdentity) -> None:
        assert self._carrier is not None
        left = _Record(kind=self._carrier.name, settings=self._carrier.settings, process=who)
        with suppress(OSError):  # a full disk: there will be no takeover, that is all
            files.write_json(self._record_path(), to_dict(left))

    def _left(self) -> _Record | None:
        """What the supervisor before us has written of its helper."""
        try:
            return from_dict(_Record, files.read_json(self._record_path()))
        except (OSError, PodpyError, TypeError, KeyError):
            return None

    def _adopt(self, left: _Record) -> bool:
        """Go on with a helper that lives; False when there is none."""
        assert self._carrier is not None
        pidfd = process.open_pidfd(left.process)
        if pidfd < 0:
            return False
        forwarding = self._carrier.forwarding
        try:
            self._legs.found(forwarding.listed() if forwarding else {})
        except (OSError, KeyError, ValueError):  # it does not answer: it is of no use
            _end(pidfd)
            return False
        self._watch_process(left.process.pid, pidfd)
        return True

    def _end_stale(self) -> None:
        """End the helper of a namespace that nobody holds any more, for it may hold ports."""
        left = self._left()
        if left is not None and (pidfd := process.open_pidfd(left.process)) >= 0:
            _end(pidfd)
        files.unlink(self._record_path())


def _end(pidfd: int) -> None:
    """Kill a helper, and wait until its ports are free."""
    try:
        with suppress(ProcessLookupError):
            _signal.pidfd_send_signal(pidfd, _signal.SIGKILL)
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.poll(_KILL * 1000)
    finally:
        os.close(pidfd)


def _told(error: PodpyError | OSError) -> PodpyError:
    if isinstance(error, PodpyError):
        return error
    return HostError(f"the uplink of the bridge networks: {error.strerror or error}")
