"""``events``: a line for everything that happens, with docker's and podman's fields."""

from __future__ import annotations

import sys
import time

from podpy.cli import output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from podpy.cli import options as opt
    from podpy.engine.context import Context
    from podpy.storage.events import Event

_SECOND = 1_000_000_000
_SHORT_ID = 12


def events(
    ctx: Context,
    *,
    since: opt.SinceEvents = "",
    until: opt.UntilEvents = "",
    filters: opt.Filters = (),
    format_: opt.Format = "",
    no_trunc: opt.NoTruncEvents = True,
    stream: opt.Stream = True,
) -> None:
    """Show what happens to containers, images, networks and volumes."""
    from podpy.engine import events

    show = _shower(format_, no_trunc)
    found = events.stream(ctx, since=since, until=until, filters=filters, follow=stream)
    for event in found:
        show(event)
        sys.stdout.flush()


def _shower(format_: str, no_trunc: bool) -> Callable[[Event], None]:
    if not format_:
        return lambda event: output.line(_text(event, no_trunc))
    from podpy.cli import evaluate, template, values

    tree = template.parse("{{json .}}" if format_ == "json" else output.unescaped(format_))
    return lambda event: output.line(evaluate.render(tree, values.View(event, _FIELDS, _SHOWN)))


def _text(event: Event, no_trunc: bool) -> str:
    """``2026-01-31T13:45:00.123456789Z container start 8af1… (image=busybox, name=web)``."""
    about = ", ".join(f"{key}={value}" for key, value in sorted(event.attributes.items()))
    object_id = event.id if no_trunc else event.id[:_SHORT_ID]
    line = f"{_instant(event.time)} {event.type} {event.action} {object_id}"
    return f"{line} ({about})" if about else line


def _instant(nanoseconds: int) -> str:
    """Local time with nanoseconds (RFC 3339)."""
    whole, rest = divmod(nanoseconds, _SECOND)
    local = time.localtime(whole)
    zone = time.strftime("%z", local)
    shown = "Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:]}"
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', local)}.{rest:09d}{shown}"


def _image(event: Event) -> str:
    key = "name" if event.type == "image" else "image"
    return event.attributes.get(key, "")


# What `--format json` shows, spelled as docker does; templates find fields in any case.
_SHOWN = ("status", "id", "from", "Type", "Action", "Actor", "scope", "time", "timeNano")
_FIELDS: Mapping[str, Callable[..., Any]] = {
    "status": lambda event: event.action,
    "id": lambda event: event.id,
    "from": _image,
    "Type": lambda event: event.type,
    "Action": lambda event: event.action,
    "Actor": lambda event: {"ID": event.id, "Attributes": dict(event.attributes)},
    "scope": lambda _event: "local",
    "time": lambda event: event.time // _SECOND,
    "timeNano": lambda event: event.time,
    "Attributes": lambda event: dict(event.attributes),
    "Name": lambda event: event.attributes.get("name", ""),
    "Image": _image,
    "Network": lambda event: event.attributes.get("name", "") if event.type == "network" else "",
    "ContainerExitCode": lambda event: int(event.attributes.get("exitCode", "0")),
}
