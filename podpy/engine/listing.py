"""``ps``, ``port`` and ``top``: containers as they are now.  Reads only, and never locks."""

from __future__ import annotations

from podpy.engine import selection
from podpy.errors import PodpyError, StateError, UsageError
from podpy.model import ContainerRecord, ContainerState, Status
from podpy.records import record
from podpy.storage import containers as stored

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from podpy.engine.context import Context
    from podpy.model import Container
    from podpy.netmodel import PortMapping


@record
class Sizes:
    """Bytes on disk: what the container wrote, and that with its image."""

    rw: int
    root_fs: int


@record
class Row:
    """One line of ``ps``; ``size`` only where it was asked for, ``problem`` of damaged ones."""

    record: ContainerRecord
    state: ContainerState
    size: Sizes | None = None
    problem: str = ""
    _nested = {"record": ContainerRecord, "state": ContainerState, "size": Sizes}

    @property
    def status(self) -> Status:
        return self.state.status


#: What ``--sort`` may name; docker's own order is the newest first.
_ORDERS: dict[str, tuple[Callable[[Row], Any], bool]] = {
    "": (lambda row: row.record.created, True),
    "created": (lambda row: row.record.created, False),
    "id": (lambda row: row.record.id, False),
    "image": (lambda row: row.record.image_name, False),
    "names": (lambda row: row.record.name, False),
    "command": (lambda row: row.record.argv, False),
    "runningfor": (lambda row: row.state.started, True),
    "status": (lambda row: str(row.status), False),
    "size": (lambda row: row.size.rw if row.size else 0, False),
}


def containers(
    ctx: Context,
    *,
    all: bool = False,
    filters: Sequence[str] = (),
    last: int = 0,
    latest: bool = False,
    size: bool = False,
    sort: str = "",
) -> tuple[Row, ...]:
    """The containers to list: the live ones, or all; the ``last`` N whatever their state."""
    if sort not in _ORDERS:
        raise UsageError(f"--sort: invalid field {sort!r}", hint=", ".join(filter(None, _ORDERS)))
    found = list(stored.every(ctx.store))
    count = 1 if latest else last
    everything = all or count > 0
    if filters:
        from podpy.engine import matching

        found = matching.select(ctx, found, filters)
        everything = everything or matching.mentions_state(filters)
    if not everything:
        found = [container for container in found if container.status.is_live]
    if count > 0:
        found = sorted(found, key=lambda c: c.record.created, reverse=True)[:count]
    rows = [_row(ctx, container, size or sort == "size") for container in found]
    key, descending = _ORDERS[sort]
    return tuple(sorted(rows, key=key, reverse=descending))


def _row(ctx: Context, container: Container, size: bool) -> Row:
    return Row(
        record=container.record,
        state=container.state,
        size=sizes(ctx, container) if size else None,
        problem=container.problem,
    )


def sizes(ctx: Context, container: Container) -> Sizes:
    """Measured now, by walking what the container wrote."""
    from podpy.engine import images
    from podpy.storage import usage

    written = usage.tree(f"{ctx.store.container(container.record.id)}/upper")
    try:
        image = images.find(ctx, container.record.image_id).size if container.record.image_id else 0
    except PodpyError:
        image = 0
    return Sizes(rw=written, root_fs=written + image)


def resolve(ctx: Context, name: str) -> Container:
    """The container of a name, an id, or a unique beginning of an id, damaged or not."""
    return stored.resolve_any(ctx.store, name)


# --- port --------------------------------------------------------------------


@record
class PublishedPort:
    """One line of ``port``; ``masked``: the container does not see its clients' addresses."""

    text: str
    masked: bool = False


def port(
    ctx: Context, name: str = "", wanted: str = "", *, all: bool = False, latest: bool = False
) -> tuple[PublishedPort, ...]:
    """``80/tcp -> 0.0.0.0:8080`` per published port; with ``wanted``, only the host's side."""
    from podpy.net import ports

    if all and (name or wanted):
        raise UsageError("a container and --all exclude each other")
    lines = []
    for asked, item in selection.each(ctx, (name,) if name else (), all=all, latest=latest):
        if isinstance(item, PodpyError):
            raise item
        for mapping in _mappings(item):
            inside = f"{mapping.container_port}/{mapping.protocol}"
            host = ports.bound_address(mapping)
            if not wanted:
                prefix = f"{asked[:12]}\t" if all else ""
                host = f"{prefix}{inside} -> {host}"
            elif inside != _with_protocol(wanted):
                continue
            lines.append(PublishedPort(text=host, masked=mapping.masked))
    if wanted and not lines:
        raise UsageError(f"no public port '{wanted}' published for {name}")
    return tuple(lines)


def _with_protocol(text: str) -> str:
    return text if "/" in text else f"{text}/tcp"


def _mappings(container: Container) -> Iterable[PortMapping]:
    from podpy.net import ports

    given = container.state.ports if container.status.is_live else ()
    return [single for mapping in given for single in ports.expand(mapping)]


# --- top ---------------------------------------------------------------------


def top(ctx: Context, name: str, columns: Sequence[str] = ()) -> list[list[str]]:
    """The processes of a running container: a line of titles, then one line each."""
    container = stored.resolve(ctx.store, name)
    if container.status not in (Status.RUNNING, Status.PAUSED):
        raise StateError(f"container {container.record.name}: container is not running")
    from podpy.engine import processes

    return processes.table(container, columns)
