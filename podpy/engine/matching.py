"""The filters of ``ps``, ``container prune`` and of verbs that take ``--filter``."""

from __future__ import annotations

import time

from podpy.engine import values
from podpy.errors import NotFound, PodpyError, UsageError
from podpy.storage import containers, networks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from podpy.engine.context import Context
    from podpy.model import Container

    Test = Callable[[Container], bool]

_REGULAR_EXPRESSION = frozenset(".^$*+?{}[]\\|()")
#: docker's and podman's words for a state → podpy's.
_STATES = {
    "created": "created",
    "configured": "created",
    "initialized": "created",
    "running": "running",
    "paused": "paused",
    "stopping": "stopping",
    "removing": "stopping",
    "exited": "exited",
    "stopped": "exited",
    "dead": "",
    "restarting": "",
    "unknown": "",
}


def select(ctx: Context, found: Iterable[Container], filters: Sequence[str]) -> list[Container]:
    """The containers that match: any value of a key, every key."""
    wanted = values.filters(filters, _TESTS)
    tests = [[_TESTS[key](ctx, value) for value in given] for key, given in wanted.items()]
    return [c for c in found if all(any(test(c) for test in any_of) for any_of in tests)]


def mentions_state(filters: Iterable[str]) -> bool:
    """Whether a filter speaks of states, so that stopped containers must be looked at."""
    return any(text.partition("=")[0] in ("status", "exited") for text in filters)


def select_for_prune(found: Iterable[Container], filters: Sequence[str]) -> list[Container]:
    """``until=`` and ``label=``, ``label!=``."""
    chosen = list(found)
    for key, given in values.filters(filters, ("until", "label", "label!")).items():
        if key == "until":
            before = min(values.moment(text, "--filter until", time.time()) for text in given)
            chosen = [c for c in chosen if c.record.created < before]
        else:
            wanted = key == "label"
            chosen = [c for c in chosen if _has_all_labels(c, given) == wanted]
    return chosen


def _has_all_labels(container: Container, wanted: Iterable[str]) -> bool:
    labels = dict(container.record.labels)
    return all(values.label_matches(labels, text) for text in wanted)


def pattern(text: str) -> Callable[[str], bool]:
    """A test for ``text`` anywhere in a name; a regular expression where it looks like one."""
    if not _REGULAR_EXPRESSION.intersection(text):
        return lambda name: text in name
    import re

    try:
        compiled = re.compile(text)
    except re.error as error:
        raise UsageError(f"--filter: invalid pattern {text!r}: {error}") from None
    return lambda name: compiled.search(name) is not None


# --- one factory per key -----------------------------------------------------


def _id(ctx: Context, value: str) -> Test:
    """Hexadecimal digits begin an id; anything else is a regular expression."""
    lower = value.lower()
    if set("0123456789abcdef").issuperset(lower):
        return lambda c: c.record.id.startswith(lower)
    matches = pattern(value)
    return lambda c: matches(c.record.id)


def _name(ctx: Context, value: str) -> Test:
    # docker keeps names with a slash in front, and so users write it.
    matches = pattern(f"^{value[2:]}" if value.startswith("^/") else value.removeprefix("/"))
    return lambda c: matches(c.record.name)


def _label(ctx: Context, value: str) -> Test:
    return lambda c: values.label_matches(dict(c.record.labels), value)


def _no_label(ctx: Context, value: str) -> Test:
    return lambda c: not values.label_matches(dict(c.record.labels), value)


def _status(ctx: Context, value: str) -> Test:
    if value not in _STATES:
        raise UsageError(f"--filter: invalid status {value!r}", hint=", ".join(sorted(_STATES)))
    wanted = _STATES[value]
    return lambda c: c.status == wanted


def _exited(ctx: Context, value: str) -> Test:
    code = values.integer(value, "--filter exited", lowest=-1)
    return lambda c: c.status == "exited" and c.state.exit_code == code


def _ancestor(ctx: Context, value: str) -> Test:
    from podpy.engine import images

    try:
        image = images.find(ctx, value)
    except NotFound:
        return lambda c: c.record.image_name == value
    layers = image.diff_ids
    return lambda c: (
        c.record.image_id == image.id or (bool(layers) and c.record.layers[: len(layers)] == layers)
    )


def _created_when(ctx: Context, value: str, *, before: bool) -> Test:
    """``before`` and ``since`` name a container; an image that no container bears works as well."""
    try:
        other = containers.resolve(ctx.store, value).record.created
    except PodpyError:
        from podpy.engine import images

        other = images.find(ctx, value).created
    return lambda c: c.record.created < other if before else c.record.created > other


def _volume(ctx: Context, value: str) -> Test:
    return lambda c: any(value in (m.source, m.destination) for m in c.record.mounts)


def _network(ctx: Context, value: str) -> Test:
    """A network by name or the beginning of its id; or a mode, or the container that is joined."""

    def begins(text: str) -> bool:
        return bool(value) and text.startswith(value)

    names = {value, *(each.name for each in networks.every(ctx.store) if begins(each.id))}

    def test(container: Container) -> bool:
        network = container.record.network
        if network.kind != "bridge":
            return value == network.kind or (network.kind == "container" and begins(network.target))
        connected = any(begins(each.network_id) for each in container.state.networks)
        return connected or any(each.network in names for each in container.record.networks)

    return test


def _health(ctx: Context, value: str) -> Test:
    if value not in ("none", "starting", "healthy", "unhealthy"):
        raise UsageError(f"--filter: invalid health {value!r}")
    return lambda c: value == "none" and c.record.healthcheck is None


def _until(ctx: Context, value: str) -> Test:
    before = values.moment(value, "--filter until", time.time())
    return lambda c: c.record.created < before


def _command(ctx: Context, value: str) -> Test:
    return lambda c: bool(c.record.argv) and value == c.record.argv[0]


def _port(ctx: Context, value: str, *, published: bool) -> Test:
    ports, _, protocol = value.partition("/")
    first, _, last = ports.partition("-")
    low = values.integer(first, "--filter", highest=65535)
    high = values.integer(last or first, "--filter", highest=65535)

    def test(container: Container) -> bool:
        record = container.record
        found = [(m.container_port + i, m.protocol) for m in record.ports for i in range(m.count)]
        if not published:
            found += [
                (int(p), kind) for p, _, kind in (t.partition("/") for t in record.exposed_ports)
            ]
        return any(low <= port <= high and kind == (protocol or "tcp") for port, kind in found)

    return test


_TESTS: dict[str, Callable[[Context, str], Test]] = {
    "id": _id,
    "name": _name,
    "label": _label,
    "label!": _no_label,
    "status": _status,
    "exited": _exited,
    "ancestor": _ancestor,
    "before": lambda ctx, value: _created_when(ctx, value, before=True),
    "since": lambda ctx, value: _created_when(ctx, value, before=False),
    "volume": _volume,
    "network": _network,
    "health": _health,
    "until": _until,
    "command": _command,
    "publish": lambda ctx, value: _port(ctx, value, published=True),
    "expose": lambda ctx, value: _port(ctx, value, published=False),
}
