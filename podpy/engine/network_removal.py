"""``network rm`` and ``network prune``."""

from __future__ import annotations

from podpy.engine import lifecycle, network_listing, networks
from podpy.engine.context import Outcome
from podpy.errors import Conflict, NotFound, PodpyError, StoreError, UsageError
from podpy.netmodel import Network
from podpy.storage import events
from podpy.storage import networks as stored

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from podpy.engine.context import Context
    from podpy.model import Container

_PRUNE_FILTERS = ("until", "label", "label!")


def remove(
    ctx: Context, names: Iterable[str], *, force: bool = False, time: str = ""
) -> tuple[Outcome, ...]:
    """Remove networks that no container is on.

    With ``force`` the containers that are on one go, too, as podman has it, and
    a missing network is no error, as docker has it.
    """
    return tuple(_outcome(ctx, name, force, time) for name in names)


def _outcome(ctx: Context, name: str, force: bool, time: str) -> Outcome:
    try:
        removed = _remove(ctx, name, force, time)
    except PodpyError as error:
        return Outcome(name=name, error=error)
    return Outcome(name=name, id=removed)


def _remove(ctx: Context, text: str, force: bool, time: str) -> str:
    """Remove one network; its name."""
    network = _found(ctx, text, force)
    name = network.name
    if not force:
        networks.check_records(ctx)
    if using := networks.users(ctx).get(name):
        if not force:
            raise in_use(name, using)
        _remove_containers(ctx, using, time)
    _unlink(ctx, name)
    events.network(ctx.store, network, "destroy")
    return name


def _found(ctx: Context, text: str, force: bool) -> Network:
    """The network to remove; of a damaged one its name is known, and goes with ``force``."""
    if text in networks.MODES:
        raise UsageError(f"network {text} is a mode of containers and cannot be removed")
    try:
        network = networks.find(ctx, text)
    except StoreError:
        if not force:
            raise
        network = Network(name=text, id="", created=0.0)
    if network.name == networks.default_name(ctx):
        raise UsageError(
            f"default network {network.name} cannot be removed: it is pre-defined",
            hint="another one can be the default: containers.conf, network.default_network",
        )
    return network


def in_use(name: str, using: Sequence[Container]) -> Conflict:
    shown = ", ".join(container.record.name for container in using)
    return Conflict(
        f"network {name} has associated containers with it: {shown}: network is being used",
        hint=f"`podpy network rm -f {name}` removes them as well",
    )


def _remove_containers(ctx: Context, using: Iterable[Container], time: str) -> None:
    ids = [container.record.id for container in using]
    done = lifecycle.remove(ctx, ids, force=True, ignore=True, depend=True, time=time or "10")
    for outcome in done:
        if outcome.error is not None and not isinstance(outcome.error, NotFound):
            raise outcome.error


def _unlink(ctx: Context, name: str) -> None:
    """Remove the record unless a container has come to it since its users were asked for."""
    with stored.lock(ctx.store):
        if using := networks.users(ctx).get(name):
            raise in_use(name, using)
        stored.remove(ctx.store, name)


def prune(ctx: Context, *, filters: Sequence[str] = ()) -> tuple[Outcome, ...]:
    """Remove every network that no container is on, but for the default one."""
    networks.check_records(ctx)
    used = networks.users(ctx)
    rows = network_listing.select(ctx, network_listing.list(ctx), filters, _PRUNE_FILTERS)
    return tuple(
        _outcome(ctx, row.network.name, False, "")
        for row in rows
        if row.network.id and not row.builtin and row.network.name not in used
    )
