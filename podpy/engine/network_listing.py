"""``network ls``, and the filters that ``network prune`` has as well."""

from __future__ import annotations

import builtins
import time

from podpy.engine import matching, networks, values
from podpy.errors import UsageError
from podpy.netmodel import Network
from podpy.records import record
from podpy.storage import networks as stored

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from podpy.engine.context import Context

    Test = Callable[["Row"], bool]

_FILTERS = ("driver", "id", "label", "label!", "name", "scope", "type", "dangling", "until")
_TYPES = {"builtin": True, "custom": False}


@record
class Row:
    """One line of ``network ls``; ``builtin`` are the default network, ``host`` and ``none``."""

    network: Network
    builtin: bool = False
    _nested = {"network": Network}


def list(ctx: Context, *, filters: Sequence[str] = ()) -> tuple[Row, ...]:
    """All networks that match, by name, with the modes that docker lists beside them.

    One whose record is damaged is shown with the driver ``damaged``, so that it can be removed.
    """
    default = networks.default_name(ctx)
    whole = networks.every(ctx)
    rows = [Row(network=each, builtin=each.name == default) for each in whole]
    for name in {*stored.names(ctx.store)} - {each.name for each in whole}:
        rows.append(Row(network=Network(name=name, id="", created=0.0, driver="damaged")))
    rows += [Row(network=each, builtin=True) for each in networks.modes()]
    chosen = select(ctx, rows, filters, _FILTERS)
    return tuple(sorted(chosen, key=lambda row: row.network.name))


def select(
    ctx: Context, rows: Iterable[Row], filters: Sequence[str], known: Sequence[str]
) -> builtins.list[Row]:
    """The rows that match: any value of a key, every key; ``label!`` means none of its values."""
    wanted = values.filters(filters, known)
    tests = [
        (all if key == "label!" else any, [_test(ctx, key, value) for value in given])
        for key, given in wanted.items()
    ]
    return [row for row in rows if all(join(test(row) for test in many) for join, many in tests)]


def _test(ctx: Context, key: str, value: str) -> Test:
    simple: dict[str, Test] = {
        "driver": lambda row: row.network.driver == value,
        "id": lambda row: row.network.id.startswith(value.lower()),
        "label": lambda row: values.label_matches(dict(row.network.labels), value),
        "label!": lambda row: not values.label_matches(dict(row.network.labels), value),
        "scope": lambda row: value == "local",
    }
    if key in simple:
        return simple[key]
    if key == "name":
        matches = matching.pattern(value)
        return lambda row: matches(row.network.name)
    if key == "type":
        if value not in _TYPES:
            raise UsageError(f"--filter: invalid type {value!r}", hint="builtin or custom")
        return lambda row: row.builtin == _TYPES[value]
    if key == "until":
        before = values.moment(value, "--filter until", time.time())
        return lambda row: row.network.created < before
    dangling = values.boolean(value, "--filter dangling")
    used = networks.users(ctx)
    return lambda row: (not row.builtin and row.network.name not in used) == dangling
