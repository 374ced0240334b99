"""``network connect``, ``disconnect`` and ``reload``: containers that exist, running or not.

What a container is on stands in its record, which is changed under its lock;
a running one is plugged or unplugged by the network supervisor first, which
may refuse (an address that is taken).
"""

from __future__ import annotations

import time

from podpy.engine import attachments, bridging, holding, naming, networks, selection
from podpy.errors import Conflict, HostError, NotFound, PodpyError, StateError, UsageError
from podpy.model import Status
from podpy.net import client, ipam
from podpy.netmodel import Attachment, Network
from podpy.records import record, replace
from podpy.storage import containers, events

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from podpy.engine.context import Context, Outcome
    from podpy.model import Container

_CONNECTED = (Status.RUNNING, Status.PAUSED)
_PATIENCE, _PAUSE = 5.0, 0.02  # seconds


@record
class ConnectOptions:
    """The options of ``network connect`` as they were given."""

    alias: tuple[str, ...] = ()
    ip: str = ""
    ip6: str = ""
    mac_address: str = ""
    link: tuple[str, ...] = ()
    link_local_ip: tuple[str, ...] = ()
    driver_opt: tuple[str, ...] = ()
    gw_priority: str = ""


def connect(ctx: Context, network_name: str, name: str, options: ConnectOptions) -> None:
    """Put a container on one more network, at once when it runs."""
    network = networks.find(ctx, network_name) if network_name not in networks.MODES else None
    if network is None:
        raise UsageError(f"network {network_name}: a container cannot be connected to that mode")
    wanted = _attachment(network, options)
    found = containers.resolve(ctx.store, name)
    with holding.hold(ctx.store, found.record):
        container = containers.read(ctx.store, found.record.id)
        _check_mode(container)
        if network.name in networks.names_of(container):
            raise Conflict(
                f"container {container.record.name} is already connected to network"
                f" {network.name}: network is already connected"
            )
        attachments.check((wanted,), {network.name: network})
        if container.status in _CONNECTED:
            network = networks.settle(ctx, network)
            container_id, place = container.record.id, ctx.store.network_run
            _ask(ctx, lambda: client.connect(place, container_id, network, wanted))
        changed = (*container.record.networks, wanted)
        _record(ctx, container, changed)
        events.network(ctx.store, network, "connect", container=container.record.id)


def _attachment(network: Network, options: ConnectOptions) -> Attachment:
    where = "network connect"
    return Attachment(
        network=network.name,
        ip=attachments.address(options.ip, "--ip") if options.ip else "",
        ip6=attachments.address6(options.ip6, "--ip6") if options.ip6 else "",
        mac=ipam.mac(options.mac_address, "--mac-address") if options.mac_address else "",
        interface=_interface(options),
        aliases=tuple(attachments.alias(text, where) for text in options.alias),
    )


def _interface(options: ConnectOptions) -> str:
    """What docker alone knows: an interface's name is honoured, the rest refused."""
    refused = {
        "link": (options.link, "links are made with the container: podpy run --link; on a network"
                 " containers reach each other by their names"),
        "link_local_ip": (options.link_local_ip, "the addresses on the link are the kernel's"),
        "gw_priority": (options.gw_priority.strip("0"),
                        "the first network of a container has its default route"),
    }  # fmt: skip
    for option, (given, reason) in refused.items():
        if given:
            raise UsageError(f"--{option.replace('_', '-')}: cannot be honoured: {reason}")
    name = ""
    for text in options.driver_opt:
        key, _, name = text.partition("=")
        if key != attachments.INTERFACE_OPTION:
            raise UsageError(
                f"--driver-opt {text!r}: no such option",
                hint=f"{attachments.INTERFACE_OPTION}=eth7",
            )
        attachments.interface(name, "--driver-opt")
    return name


def _check_mode(container: Container) -> None:
    kind = container.record.network.kind
    if kind == "bridge":
        return
    reasons = {
        "host": "it uses the host's own network",
        "container": "it uses another container's network: connect that one",
        "ns": "it uses a network namespace that is not podpy's",
        "none": "it was made to have no network (--network none)",
    }
    reason = reasons.get(kind, "a helper of its own connects it to the host")
    raise UsageError(
        f'container {container.record.name}: "{kind}" is not supported: invalid network mode:'
        f" {reason}",
        hint="make it with --network NAME, where NAME is a network of `podpy network ls`",
    )


def disconnect(ctx: Context, network_name: str, name: str, *, force: bool = False) -> None:
    """Take a container off a network, at once when it runs.

    With ``force`` the container's record is changed whatever the network
    supervisor says.
    """
    found = containers.resolve(ctx.store, name)
    with holding.hold(ctx.store, found.record):
        container = containers.read(ctx.store, found.record.id)
        _check_mode(container)
        network = _connected(ctx, container, network_name)
        if container.status in _CONNECTED:
            container_id, place = container.record.id, ctx.store.network_run
            try:
                _ask(ctx, lambda: client.disconnect(place, container_id, network.name))
            except PodpyError:
                if not force:
                    raise
        left = tuple(each for each in container.record.networks if each.network != network.name)
        _record(ctx, container, left)
        events.network(ctx.store, network, "disconnect", container=container.record.id)


def _connected(ctx: Context, container: Container, text: str) -> Network:
    """A network that the container is on; of one that is gone, its name is known."""
    joined = networks.names_of(container)
    try:
        network = networks.find(ctx, text)
    except NotFound:
        if text not in joined:
            raise
        network = Network(name=text, id="", created=0.0)
    if network.name not in joined:
        raise StateError(
            f"container {container.record.name} is not connected to network {network.name}:"
            " network is not connected",
            hint=f"it is on: {', '.join(joined) or 'none'}",
        )
    return network


def _record(ctx: Context, container: Container, changed: tuple[Attachment, ...]) -> None:
    """Write down what a container is on; a running one's hosts and resolv.conf follow."""
    containers.update(ctx.store, replace(container.record, networks=changed))
    if container.status in _CONNECTED:
        naming.rewrite(ctx, containers.read(ctx.store, container.record.id))


def renamed(ctx: Context, container: Container) -> None:
    """A container has another name: where it runs, that resolves and stands in its hosts file."""
    record = container.record
    if container.status in _CONNECTED and record.network.kind == "bridge":
        place, names = ctx.store.network_run, bridging.names(record)
        _ask(ctx, lambda: client.rename(place, record.id, record.name, names))
        naming.rewrite(ctx, container)


def reload(
    ctx: Context, names: Iterable[str] = (), *, all: bool = False, latest: bool = False
) -> tuple[Outcome, ...]:
    """Make the interfaces, rules, names and ports of running containers anew."""
    asked = selection.each(ctx, names, all=all, latest=latest)
    if all:
        asked = (
            (text, item)
            for text, item in asked
            if isinstance(item, PodpyError)
            or (item.status in _CONNECTED and item.record.network.kind == "bridge")
        )
    return selection.outcomes(asked, lambda container: _reload(ctx, container))


def _reload(ctx: Context, container: Container) -> None:
    if container.status not in _CONNECTED:
        raise StateError(f"container {container.record.name}: container is not running")
    _check_mode(container)
    _ask(ctx, lambda: client.reload(ctx.store.network_run, container.record.id))


def _ask(ctx: Context, request: Callable[[], None]) -> None:
    """Ask the network supervisor about a container that runs, and so must be known to it.

    One that was killed is replaced, and its containers come back, within a
    second: that is waited for.
    """
    give_up = time.monotonic() + _PATIENCE
    while True:
        try:
            if client.is_running(ctx.store.network_run):
                request()
                return
        except NotFound:
            if time.monotonic() > give_up:
                raise
        if time.monotonic() > give_up:
            raise HostError("network supervisor: it does not answer", hint="restart the container")
        time.sleep(_PAUSE)
