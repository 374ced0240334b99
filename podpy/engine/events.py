"""``events``: what happened, and what happens."""

from __future__ import annotations

import time

from podpy.engine import values
from podpy.errors import UsageError
from podpy.storage import events as stored

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from podpy.engine.context import Context
    from podpy.storage.events import Event

    Test = Callable[[Event], bool]

_PAUSE = 0.1  # seconds between two looks at the file
_SECOND = 1_000_000_000
_OBJECTS = ("container", "image", "network", "volume")
#: podman's words for what docker calls otherwise.
_SYNONYMS = {
    "died": ("die",),
    "exec": ("exec_start",),
    "exec_died": ("exec_die",),
    "remove": ("remove", "destroy", "delete"),
}
_FILTERS = (*_OBJECTS, "event", "label", "type", "scope")


def stream(
    ctx: Context,
    *,
    since: str = "",
    until: str = "",
    filters: Sequence[str] = (),
    follow: bool = True,
) -> Iterator[Event]:
    """Events, oldest first.

    Those of the past are asked for by ``since``, ``until`` or by not following;
    it ends at ``until``, or with what there is when it does not follow.
    """
    now = time.time()
    first = values.moment(since, "--since", now) * _SECOND if since else 0
    last = values.moment(until, "--until", now) * _SECOND if until else 0
    matches = _test(filters)
    reader = stored.Reader(ctx.store, past=bool(since or until or not follow))
    try:
        while True:
            is_over = not follow or (last and time.time_ns() > last)
            for event in reader.read():
                if first <= event.time and not (last and event.time > last) and matches(event):
                    yield event
            if is_over:
                return
            time.sleep(_PAUSE)
    finally:
        reader.close()


# --- filters -----------------------------------------------------------------


def _test(filters: Sequence[str]) -> Test:
    """Any value of a key, every key; all labels."""
    wanted = values.filters(filters, _FILTERS)
    tests = [
        (all if key == "label" else any, [_one(key, value) for value in given])
        for key, given in wanted.items()
    ]
    return lambda event: all(join(test(event) for test in many) for join, many in tests)


def _one(key: str, value: str) -> Test:
    if key == "event":
        words = _SYNONYMS.get(value, (value,))
        return lambda event: event.action in words
    if key == "label":
        return lambda event: values.label_matches(dict(event.attributes), value)
    if key == "type":
        return lambda event: event.type == value
    if key == "scope":
        if value not in ("local", "swarm"):
            raise UsageError(f"--filter: invalid scope {value!r}", hint="local")
        return lambda _event: value == "local"
    return lambda event: _is_about(event, key, value)


def _is_about(event: Event, kind: str, value: str) -> bool:
    """An object by name or beginning of its id; an image also by the containers made of it."""
    attributes = event.attributes
    if event.type == kind:
        return _is_called(attributes.get("name", ""), value) or event.id.startswith(value)
    if kind == "image" and event.type == "container":
        return _is_called(attributes.get("image", ""), value)
    about = attributes.get(kind, "")
    return bool(about) and about.startswith(value)


def _is_called(name: str, value: str) -> bool:
    """A name as it is, or an image's short one, with its tag or without."""
    short = name.removeprefix("docker.io/library/").removeprefix("localhost/")
    return value in (name, short, short.partition(":")[0])
