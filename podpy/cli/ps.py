"""``ps``: the list of containers, with docker's and podman's fields."""

from __future__ import annotations

import time

from podpy.cli import output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from podpy.cli import options as opt
    from podpy.engine.context import Context
    from podpy.engine.listing import Row

_COLUMNS = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names")
_SHORT_ID = 12
_SHORT_COMMAND = 20
_SHORT_MOUNT = 15


def ps(
    ctx: Context,
    *,
    show_all: opt.ShowAll = False,
    filters: opt.Filters = (),
    format_: opt.Format = "",
    last: opt.Last = 0,
    latest: opt.ShowLatest = False,
    no_trunc: opt.NoTrunc = False,
    noheading: opt.NoHeading = False,
    quiet: opt.Quiet = False,
    size: opt.Size = False,
    sort: opt.SortContainers = "",
) -> None:
    """List containers."""
    from podpy.engine import listing

    found = listing.containers(
        ctx, all=show_all, filters=filters, last=1 if latest else last, size=size, sort=sort
    )
    shown = fields(no_trunc=no_trunc)
    if quiet and not format_:
        for container in found:
            output.line(shown["ID"](container))
        return
    columns = (*_COLUMNS, "Size") if size else _COLUMNS
    output.Listing(shown, HEADINGS, SHOWN).print(found, columns, format_, headings=not noheading)


# --- fields ------------------------------------------------------------------

HEADINGS = {
    "ID": "CONTAINER ID",
    "RunningFor": "CREATED",
    "CreatedHuman": "CREATED",
    "ImageID": "IMAGE ID",
    "LocalVolumes": "LOCAL VOLUMES",
}
# What `--format json` and `{{json .}}` show: docker's fields.
SHOWN = (
    "Command", "CreatedAt", "ID", "Image", "Labels", "LocalVolumes", "Mounts", "Names", "Networks",
    "Ports", "RunningFor", "Size", "State", "Status",
)  # fmt: skip


def fields(*, no_trunc: bool) -> Mapping[str, Callable[..., Any]]:
    """Every field of a container, docker's names and podman's."""
    return {
        "ID": lambda row: row.record.id if no_trunc else row.record.id[:_SHORT_ID],
        "Image": lambda row: row.record.image_name or row.record.rootfs or row.record.image_id[:12],
        "ImageID": lambda row: row.record.image_id if no_trunc else row.record.image_id[:_SHORT_ID],
        "Command": lambda row: _command(row, no_trunc),
        "Created": lambda row: int(row.record.created),
        "CreatedAt": lambda row: output.timestamp(row.record.created),
        "CreatedHuman": lambda row: output.ago(row.record.created),
        "RunningFor": lambda row: output.ago(row.record.created),
        "StartedAt": lambda row: int(row.state.started),
        "Exited": lambda row: row.status == "exited",
        "ExitedAt": lambda row: int(row.state.finished),
        "ExitCode": lambda row: row.state.exit_code,
        "Pid": lambda row: row.state.init.pid if row.status.is_live and row.state.init else 0,
        "State": lambda row: str(row.status),
        "Status": status,
        "Ports": ports_text,
        "Names": lambda row: row.record.name,
        "Label": lambda row, key: row.record.labels.get(key, ""),
        "Labels": lambda row: ",".join(f"{k}={v}" for k, v in sorted(row.record.labels.items())),
        "Mounts": lambda row: ",".join(_mounts(row, no_trunc)),
        "LocalVolumes": lambda row: str(sum(m.type == "volume" for m in row.record.mounts)),
        "Networks": _networks,
        "Restarts": lambda row: row.state.restarts,
        "AutoRemove": lambda row: row.record.remove,
        "Size": _size,
    }


def _command(row: Row, no_trunc: bool) -> str:
    text = " ".join(row.record.argv)
    return f'"{text if no_trunc else _shorten(text, _SHORT_COMMAND)}"'


def _mounts(row: Row, no_trunc: bool) -> list[str]:
    named = [mount for mount in row.record.mounts if mount.type in ("volume", "bind")]
    texts = [mount.source or mount.destination for mount in named]
    return texts if no_trunc else [_shorten(text, _SHORT_MOUNT) for text in texts]


def _networks(row: Row) -> str:
    """Those it is on or, where it has none to be on, its mode."""
    if row.record.network.kind != "bridge":
        return row.record.network.kind
    return ",".join(each.network for each in row.record.networks)


def _shorten(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _size(row: Row) -> str:
    if row.size is None:
        return "0B"
    return f"{output.size(row.size.rw)} (virtual {output.size(row.size.root_fs)})"


def status(row: Row) -> str:
    """``Up 3 seconds``, ``Exited (0) 2 minutes ago`` as docker says it; ``Damaged`` is ours."""
    state = row.state
    if row.problem:
        return "Damaged"
    if row.status == "created":
        return "Created"
    if row.status == "exited":
        return f"Exited ({state.exit_code}) {output.ago(state.finished)}"
    if row.status == "stopping":
        return "Stopping"
    up = f"Up {output.duration(time.time() - state.started)}"
    return f"{up} (Paused)" if row.status == "paused" else up


# --- ports -------------------------------------------------------------------


def ports_text(row: Row) -> str:
    """``100-101/tcp, 0.0.0.0:8080->80/tcp``, in docker's order; nothing once it has ended.

    Neighbours are one range where they are only exposed, or published under
    their own numbers; every other published port stands alone, at the end.
    """
    if not row.status.is_live:
        return ""
    ranges: dict[tuple[str, str], list[list[int]]] = {}
    single = []
    for inside, host, outside, protocol in sorted(_each_port(row)):
        if host and inside != outside:
            single.append(f"{host}:{outside}->{inside}/{protocol}")
            continue
        known = ranges.setdefault((host, protocol), [])
        if known and inside == known[-1][1] + 1:
            known[-1][1] = inside
        else:
            known.append([inside, inside])
    grouped = [
        _range(host, first, last) + f"/{protocol}"
        for (host, protocol), found in ranges.items()
        for first, last in found
    ]
    return ", ".join(grouped + single)


def _each_port(row: Row) -> set[tuple[int, str, int, str]]:
    """Container port, address, host port and protocol; without an address if only exposed."""
    found = set()
    for mapping in row.state.ports or row.record.ports:
        host = mapping.host_ip or "0.0.0.0"
        host = f"[{host}]" if ":" in host else host
        for step in range(mapping.count):
            inside, outside = mapping.container_port + step, mapping.host_port + step
            found.add((inside, host, outside, mapping.protocol))
    published = {(inside, protocol) for inside, _, _, protocol in found}
    for exposed in row.record.exposed_ports:
        numbers, _, protocol = exposed.partition("/")
        first, _, last = numbers.partition("-")
        for inside in range(int(first), int(last or first) + 1):
            if (inside, protocol or "tcp") not in published:
                found.add((inside, "", 0, protocol or "tcp"))
    return found


def _range(host: str, first: int, last: int) -> str:
    text = str(first) if first == last else f"{first}-{last}"
    return f"{host}:{text}->{text}" if host else text
