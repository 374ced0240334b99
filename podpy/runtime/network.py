"""How a container's network is brought up: the drivers that launch calls, and what they imply.

:func:`outlook` says before anything runs what a container on a network will
see; the hosts file and resolv.conf are made of it.  :func:`driver` gives the
object by which S starts the helper while the container's root is mounted (the
letters are those of :mod:`.launch`); for bridge networks it is :class:`Bridge`.
Host ports are taken in S, after M was forked: a copy of a held UDP socket in
any other process would keep the helper from binding its port.
"""

from __future__ import annotations

import os

from podpy.errors import Conflict
from podpy.model import ContainerRecord
from podpy.net import birth, client, ports, resolv, slirp
from podpy.netmodel import Endpoint, NetworkMode, PortMapping
from podpy.records import from_dict, record, replace, to_dict
from podpy.runtime.birth import Network

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from podpy.net import pasta
    from podpy.net.client import Registration
    from podpy.net.helper import Helper
    from podpy.net.loopback import Relay
    from podpy.net.ports import Holder

    Ports = tuple[PortMapping, ...]


class _Helped(Network):
    """A network made by a helper program, with its published ports."""

    def __init__(self, wanted: Ports, *, directory: str, holder: Holder):
        self._wanted = wanted
        self._directory = directory
        self._holder = holder
        self._assignment = ports.Assignment()
        self._started: list[Helper | Relay] = []
        self._pid = 0
        self._namespaces: tuple[str, ...] = ()

    def start(self, pid: int, namespaces: tuple[str, ...] = ()) -> None:
        self._pid, self._namespaces = pid, namespaces
        self._assignment = ports.assign(self._wanted, holder=self._holder)

    def _relay(self, address: str) -> Ports:
        """The last step: what the helper cannot do for clients on the host's loopback."""
        self._assignment.close()
        if local := ports.need_relay(self._assignment.mappings):
            from podpy.net import loopback

            user, net = self._namespaces or (f"/proc/{self._pid}/ns/{k}" for k in ("user", "net"))
            self._started.append(loopback.start((user, net), address, local, holder=self._holder))
        return self._assignment.mappings

    def _for_helper(self) -> Ports:
        return tuple(m for m in self._assignment.mappings if not ports.is_loopback_udp(m))

    def stop(self) -> None:
        self._assignment.close()
        for each in self._started:
            each.stop()

    def dismiss(self) -> tuple[int, ...]:
        self._assignment.close()
        return tuple(each.dismiss() for each in self._started)

    def facts(self) -> dict[str, Any]:
        return {
            "helpers": [each.pid for each in self._started],
            "keep": [each.exit_fd for each in self._started if each.exit_fd >= 0],
        }


class Slirp(_Helped):
    """slirp4netns; ports are published through its API socket once it runs."""

    def __init__(self, settings: slirp.Settings, wanted: Ports, *, directory: str, holder: Holder):
        slirp.check_publishable(wanted)
        super().__init__(wanted, directory=directory, holder=holder)
        self._settings = settings

    def start(self, pid: int, namespaces: tuple[str, ...] = ()) -> None:
        super().start(pid, namespaces)
        api_socket = f"{self._directory}/slirp.sock" if self._wanted else ""
        if api_socket:
            # The container's root makes the socket, and may be neither the caller nor mapped from
            # it (nomap, auto).  The directory above is the caller's alone.
            os.chmod(self._directory, 0o733)
        self._helper = slirp.start(
            pid, self._settings, api_socket=api_socket, namespaces=namespaces
        )
        self._started.append(self._helper)

    def wait(self) -> Ports:
        self._helper.wait_ready()
        os.chmod(self._directory, 0o700)
        self._assignment.hand_over()
        for mapping in self._for_helper():
            slirp.publish(self._helper.api_socket, mapping, holder=self._holder)
        return self._relay(self._settings.address)


class Pasta(_Helped):
    """pasta; it binds the published ports as it starts."""

    def __init__(self, settings: pasta.Settings, wanted: Ports, *, directory: str, holder: Holder):
        super().__init__(wanted, directory=directory, holder=holder)
        self._settings = settings

    def start(self, pid: int, namespaces: tuple[str, ...] = ()) -> None:
        from podpy.net import pasta

        super().start(pid, namespaces)
        self._assignment.hand_over()
        self._helper = pasta.start(
            pid,
            self._settings,
            self._for_helper(),
            directory=self._directory,
            namespaces=namespaces,
        )
        self._started.append(self._helper)

    def wait(self) -> Ports:
        from podpy.net import pasta

        pasta.wait_ready(self._helper, self._assignment.mappings, holder=self._holder)
        return self._relay(_pasta_outlook(self._settings).address)


class Bridge(Network):
    """Interfaces on bridge networks, given by the network supervisor.

    ``place`` is where the network supervisor lives; ``told`` the container's registration;
    ``arrived`` is called with the endpoints before the payload starts; ``holder`` may name
    the container that has a used port.
    """

    def __init__(
        self, place: str, told: Registration, arrived: Callable[[tuple[Endpoint, ...]], None],
        holder: Holder,
    ) -> None:  # fmt: skip
        self._place = place
        self._told = told
        self._arrived = arrived
        self._holder = holder
        self._talk: client.Conversation | None = None
        self._link: dict[str, Any] = {}
        self._endpoints: tuple[Endpoint, ...] = ()

    def plug(self, netns: int, route: int) -> None:
        self._link = {"netns": netns, "route": route}
        self._talk = client.Conversation(self._place, birth.ensure)
        packet = {"do": "attach", "registration": to_dict(self._told)}
        self._talk.send(packet, (netns, route))

    def wait(self) -> Ports:
        assert self._talk is not None
        try:
            answer, fds = self._talk.receive()
        except Conflict as error:
            wanted = (from_dict(PortMapping, each) for each in self._told.ports)
            raise ports.blame(error, wanted, self._holder) from None
        self._endpoints = tuple(from_dict(Endpoint, each) for each in answer["endpoints"])
        self._link.update(
            channel=self._talk.detach(),
            pins=fds,
            resume=answer["resume"].encode(),
            place=self._place,
        )
        self._arrived(self._endpoints)
        return tuple(from_dict(PortMapping, each) for each in answer["ports"])

    def endpoints(self) -> tuple[Endpoint, ...]:
        return self._endpoints

    def stop(self) -> None:
        if self._talk is not None:
            self._talk.close()  # the end of the connection is the end of the lease

    def facts(self) -> dict[str, Any]:
        return {"helpers": [], "keep": [], "link": self._link}


def driver(mode: NetworkMode, wanted: Ports, *, directory: str, holder: Holder) -> Network | None:
    """The driver for a network mode; None where no helper is needed.

    ``wanted`` are the ports to publish, ``directory`` is the container's run
    directory, ``holder`` may name the container that has a used port.
    """
    if mode.kind == "slirp4netns":
        settings = slirp.parse_options(mode.options)
        return Slirp(settings, wanted, directory=directory, holder=holder)
    if mode.kind == "pasta":
        from podpy.net import pasta

        forwards = _resolver_is_on_loopback()
        copied = replace(pasta.parse_options(mode.options), forwards=forwards)
        return Pasta(copied, wanted, directory=directory, holder=holder)
    return None


@record
class Outlook:
    """What a container can know of its network before it starts.

    ``address`` is its own, ``gateway`` the one by which it reaches the host
    (both may be empty), ``forwarder`` that of a resolver which the helper
    provides; ``host_access`` says that the host's loopback is open to it.
    """

    address: str = ""
    gateway: str = ""
    forwarder: str = ""
    host_access: bool = False


def outlook(mode: NetworkMode) -> Outlook:
    """The outlook of a network mode; raises :class:`UsageError` for bad options."""
    if mode.kind == "slirp4netns":
        return _slirp_outlook(slirp.parse_options(mode.options))
    if mode.kind == "pasta":
        from podpy.net import pasta

        return _pasta_outlook(pasta.parse_options(mode.options))
    if mode.kind == "bridge":
        # A service of the host is reached by the host's own address; its loopback is closed.
        return Outlook(gateway=resolv.host_address())
    if mode.kind == "host":
        return Outlook(address=resolv.host_address(), gateway="127.0.0.1", host_access=True)
    return Outlook()


def _slirp_outlook(settings: slirp.Settings) -> Outlook:
    """Without the loopback, services on the host's own address can still be reached."""
    open_loopback = settings.allow_host_loopback
    return Outlook(
        address=settings.address,
        gateway=settings.gateway if open_loopback else resolv.host_address(),
        forwarder=settings.resolver,
        host_access=open_loopback,
    )


def _pasta_outlook(settings: pasta.Settings) -> Outlook:
    """The container has the host's address: the host itself is behind the gateway, or nowhere.

    pasta forwards DNS over UDP only, so a resolver that can be asked directly is.
    """
    from podpy.net import pasta

    return Outlook(
        address=settings.address or resolv.host_address(),
        gateway=pasta.default_gateway() if settings.map_gateway else "",
        forwarder=settings.resolver if _resolver_is_on_loopback() else "",
        host_access=settings.map_gateway,
    )


def _resolver_is_on_loopback() -> bool:
    """Whether a container can ask the host's first resolver only by way of its helper."""
    servers, _, _ = resolv.parse_resolv_conf(resolv.host_resolv_conf())
    return not servers or servers[0].startswith("127.")


def hosts_text(container: ContainerRecord, hostname: str, base: str | None = None) -> str:
    """The container's ``/etc/hosts``; ``base`` is its beginning where one was named."""
    seen = outlook(container.network)
    on_host = container.network.kind == "host"
    if base is None:
        base = resolv.host_hosts() if on_host else resolv.CLEAN_HOSTS
    return resolv.hosts_file(
        names=resolv.own_names(container, hostname),
        addresses=(seen.address or "127.0.0.1",),
        extra=container.hosts,
        gateway=seen.gateway,
        host_access=seen.host_access,
        base=base,
    )


def resolv_text(container: ContainerRecord) -> str | None:
    """The container's ``/etc/resolv.conf``; None when the image's own stays (``--dns none``)."""
    if not resolv.own_files_wanted(container.dns):
        return None
    seen = outlook(container.network)
    return resolv.resolv_conf(
        resolv.host_resolv_conf(),
        servers=container.dns,
        search=container.dns_search,
        options=container.dns_options,
        forwarder=seen.forwarder,
        host_network=container.network.kind == "host",
        fallback=resolv.systemd_resolv_conf(),
    )
