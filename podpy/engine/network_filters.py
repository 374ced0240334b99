"""The filters of ``network ls`` and ``network prune``."""

from __future__ import annotations

import time

from podpy.engine import matching, networks, values
from podpy.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from podpy.engine.context import Context
    from podpy.engine.networks import Row

    Test = Callable[[Row], bool]

_TYPES = {"builtin": True, "custom": False}


def select(
    ctx: Context, rows: Iterable[Row], filters: Sequence[str], known: Sequence[str]
) -> list[Row]:
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
