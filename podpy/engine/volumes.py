"""Named volumes: made, listed, shown, removed."""

from __future__ import annotations

import builtins
import time

from podpy.engine import values
from podpy.engine.context import Outcome
from podpy.errors import Conflict, NotFound, PodpyError, StoreError, UsageError
from podpy.records import replace
from podpy.storage import containers, events
from podpy.storage import volumes as stored

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from podpy.engine.context import Context
    from podpy.model import Volume

    Users = Mapping[str, builtins.list[str]]


def create(
    ctx: Context,
    name: str = "",
    *,
    driver: str = "local",
    labels: Iterable[str] = (),
    options: Iterable[str] = (),
) -> str:
    """Make a volume and return its name (random when none is given).

    One of that name that exists is taken as it is, as docker documents it.
    """
    ctx.store.prepare()
    if driver not in ("", "local"):
        raise UsageError(f"volume driver {driver!r} is not supported", hint="local")
    for option in options:
        raise UsageError(
            f"volume option {option!r}: an ordinary user cannot mount devices",
            hint="bind the directory into the container with -v",
        )
    chosen = name or containers.new_id()
    pairs = values.pairs(labels, "--label", bare=True)
    try:
        stored.create(ctx.store, chosen, labels=pairs, anonymous=not name)
    except Conflict:
        if not stored.exists(ctx.store, chosen):
            raise
    else:
        events.write(ctx.store, "volume", "create", chosen, name=chosen, driver="local")
    return chosen


def exists(ctx: Context, name: str) -> bool:
    return stored.exists(ctx.store, name)


def list(ctx: Context, *, filters: Sequence[str] = ()) -> tuple[Volume, ...]:
    """All volumes that match, by name."""
    found = sorted(stored.every(ctx.store), key=lambda volume: volume.name)
    return tuple(_matching(ctx, found, filters))


def inspect(ctx: Context, name: str) -> dict[str, Any]:
    """A volume in the shape that docker and podman share."""
    from podpy.engine.values import instant

    volume = stored.read(ctx.store, name)
    return {
        "Name": volume.name,
        "Driver": "local",
        "Mountpoint": stored.data_path(ctx.store, volume.name),
        "CreatedAt": instant(volume.created),
        "Labels": dict(volume.labels),
        "Scope": "local",
        "Options": dict(volume.options),
        "Anonymous": volume.anonymous,
        "MountCount": len(_users(ctx).get(volume.name, ())),
    }


def remove(
    ctx: Context, names: Iterable[str] = (), *, force: bool = False, all: bool = False
) -> tuple[Outcome, ...]:
    """Remove volumes that no container uses; with ``force``, a missing one is no error."""
    chosen = [volume.name for volume in stored.every(ctx.store)] if all else [*names]
    if not chosen and not all:
        raise UsageError("you must provide at least one volume name")
    _check_records(ctx)
    users = _users(ctx)
    return tuple(_remove(ctx, name, users, force) for name in chosen)


def _remove(ctx: Context, name: str, users: Users, force: bool) -> Outcome:
    try:
        if using := users.get(name):
            raise Conflict(
                f"volume {name} is being used by the following container(s): {', '.join(using)}:"
                " volume is in use",
                hint="remove them first: `podpy rm`",
            )
        stored.remove(ctx.store, name)
        events.write(ctx.store, "volume", "destroy", name, name=name, driver="local")
    except NotFound as error:
        return Outcome(name=name, error=None if force else error)
    except PodpyError as error:
        return Outcome(name=name, error=error)
    return Outcome(name=name, id=name)


def prune(ctx: Context, *, all: bool = False, filters: Sequence[str] = ()) -> tuple[Outcome, ...]:
    """Remove the anonymous volumes (``all``: every volume) that no container uses."""
    _check_records(ctx)
    users = _users(ctx)
    found = [v for v in stored.every(ctx.store) if (all or v.anonymous) and not users.get(v.name)]
    from podpy.storage import usage

    done = []
    for volume in _matching(ctx, found, filters):
        size = usage.tree(volume.mountpoint)
        outcome = _remove(ctx, volume.name, users, True)
        done.append(replace(outcome, freed=0 if outcome.error else size))
    return tuple(done)


def _check_records(ctx: Context) -> None:
    """Nobody knows which volumes a container of a damaged record mounts: none may go."""
    for container in containers.every(ctx.store):
        if container.problem:
            name = container.record.name
            raise StoreError(
                f"volumes: container {name} may use them: {container.problem}",
                hint=f"`podpy rm -f {name}` removes it",
            )


def _users(ctx: Context) -> Users:
    """Volume name → the names of the containers that mount it."""
    found: dict[str, builtins.list[str]] = {}
    for container in containers.every(ctx.store):
        for mount in container.record.mounts:
            if mount.type == "volume":
                found.setdefault(mount.source, []).append(container.record.name)
    return found


# --- filters -----------------------------------------------------------------


def _matching(
    ctx: Context, found: Iterable[Volume], filters: Sequence[str]
) -> builtins.list[Volume]:
    wanted = values.filters(filters, ("name", "label", "label!", "dangling", "driver", "scope",
                                      "anonymous", "until"))  # fmt: skip
    tests = [[_test(ctx, key, value) for value in given] for key, given in wanted.items()]
    return [v for v in found if all(any(test(v) for test in any_of) for any_of in tests)]


def _test(ctx: Context, key: str, value: str) -> Callable[[Volume], bool]:
    from podpy.engine import matching

    if key == "name":
        matches = matching.pattern(value)
        return lambda v: matches(v.name)
    if key in ("label", "label!"):
        return lambda v: values.label_matches(dict(v.labels), value) == (key == "label")
    if key in ("driver", "scope"):
        return lambda _: value == "local"
    if key == "until":
        before = values.moment(value, "--filter until", time.time())
        return lambda v: v.created < before
    wanted = values.boolean(value, f"--filter {key}")
    if key == "anonymous":
        return lambda v: v.anonymous == wanted
    users = _users(ctx)
    return lambda v: (not users.get(v.name)) == wanted
