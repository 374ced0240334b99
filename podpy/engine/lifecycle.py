"""What changes a container that exists: start, stop, kill, restart, rm, wait, pause …

Each verb answers one :class:`Outcome` per container; one failure does not keep
it from the others.  ``start`` and ``rm`` hold the container's own lock, so that
two of them never work on the same container at once.
"""

from __future__ import annotations

import time as clock

from podpy.engine import ending, handed, holding, launching, selection, values
from podpy.engine.context import Outcome
from podpy.errors import HostError, NotFound, PodpyError, StateError, UsageError
from podpy.kernel import process
from podpy.model import Status
from podpy.records import replace
from podpy.storage import containers, events, states

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from podpy.engine.context import Context
    from podpy.model import Container, ContainerRecord
    from podpy.paths import Store

CONDITIONS = (
    "configured", "created", "exited", "healthy", "initialized", "paused", "removing", "running",
    "stopped", "stopping", "unhealthy", "unknown", "not-running", "removed", "next-exit",
)  # fmt: skip
_FINAL = ("exited", "stopped", "not-running")


# --- stop and kill -----------------------------------------------------------


def stop(
    ctx: Context,
    names: Iterable[str] = (),
    *,
    time: str = "",
    signal: str = "",
    all: bool = False,
    latest: bool = False,
    ignore: bool = False,
    filters: Iterable[str] = (),
    cidfile: Iterable[str] = (),
) -> tuple[Outcome, ...]:
    """Ask, wait, kill.  A container that does not run is stopped already."""
    asked = selection.each(
        ctx, names, all=all, latest=latest, filters=filters, cidfile=cidfile, ignore=ignore
    )
    return selection.outcomes(asked, lambda c: _stop(ctx.store, c, time, signal))


def _stop(store: Store, container: Container, time: str, signal: str) -> None:
    record = container.record
    containers.set_wanted(store, record.id, "stopped")
    if not container.status.can_stop():
        return
    seconds = values.integer(time, "--time", lowest=-1) if time else record.stop_timeout
    ending.stop(container, ending.stop_signal(record, signal), seconds)
    ending.settle(store, record)
    events.container(store, record, "stop")


def kill(
    ctx: Context,
    names: Iterable[str] = (),
    *,
    signal: str = "KILL",
    all: bool = False,
    latest: bool = False,
    cidfile: Iterable[str] = (),
) -> tuple[Outcome, ...]:
    """Send a signal to running containers."""
    from podpy.kernel import signals

    number = signals.number(signal)
    asked = selection.each(ctx, names, all=all, latest=latest, cidfile=cidfile)
    if all:
        asked = ((n, c) for n, c in asked if isinstance(c, PodpyError) or c.status.is_live)
    return selection.outcomes(asked, lambda c: _kill(ctx.store, c, number))


def _kill(store: Store, container: Container, number: int) -> None:
    record = container.record
    if not container.status.is_live:
        raise StateError(
            f"container {record.name}: container is not running (it is {container.status})"
        )
    if number == ending.SIGKILL:
        containers.set_wanted(store, record.id, "stopped")
    if not ending.signal_init(container, number):
        raise StateError(f"container {record.name}: container is not running")
    events.container(store, record, "kill", signal=str(number))
    if number == ending.SIGKILL:
        ending.settle(store, record)


# --- start and restart -------------------------------------------------------


def start(
    ctx: Context,
    names: Iterable[str] = (),
    *,
    all: bool = False,
    latest: bool = False,
    filters: Iterable[str] = (),
) -> tuple[Outcome, ...]:
    """Start containers in the background (see also :func:`start_attached`)."""
    asked = list(selection.each(ctx, names, all=all, latest=latest, filters=filters))
    if all:
        asked = [(n, c) for n, c in asked if isinstance(c, PodpyError) or c.status.can_start()]
    given = handed.take()
    return selection.outcomes(asked, lambda c: launching.launch(ctx, c.record, handed=given))


def start_attached(
    ctx: Context, name: str, *, interactive: bool, sig_proxy: bool = True, detach_keys: str = ""
) -> int | None:
    """Start one container and be its terminal; its exit code, None when the user detached."""
    record = containers.resolve(ctx.store, name).record
    return launching.attached(
        ctx,
        record,
        wants=b"ioe" if interactive else b"oe",
        sig_proxy=sig_proxy,
        detach_keys=detach_keys,
        handed=handed.take(),
    )


def restart(
    ctx: Context,
    names: Iterable[str] = (),
    *,
    time: str = "",
    signal: str = "",
    all: bool = False,
    latest: bool = False,
    running: bool = False,
    filters: Iterable[str] = (),
    cidfile: Iterable[str] = (),
) -> tuple[Outcome, ...]:
    """Stop what runs, then start it; what does not run is just started."""
    asked = list(
        selection.each(ctx, names, all=all or running, latest=latest, filters=filters,
                       cidfile=cidfile)
    )  # fmt: skip
    if running:
        asked = [(n, c) for n, c in asked if isinstance(c, PodpyError) or c.status.is_live]

    def again(container: Container) -> None:
        if container.record.remove and container.status.is_live:
            raise StateError(
                f"container {container.record.name}: --rm would remove it when it stops"
            )
        _stop(ctx.store, container, time, signal)
        launching.launch(ctx, container.record)
        events.container(ctx.store, container.record, "restart")

    return selection.outcomes(asked, again)


# --- remove ------------------------------------------------------------------


def remove(
    ctx: Context,
    names: Iterable[str] = (),
    *,
    force: bool = False,
    volumes: bool = False,
    all: bool = False,
    latest: bool = False,
    ignore: bool = False,
    time: str = "",
    depend: bool = False,
    filters: Iterable[str] = (),
    cidfile: Iterable[str] = (),
) -> tuple[Outcome, ...]:
    """Remove containers; live ones with ``force`` only, killed after ``time`` seconds (0)."""
    asked = selection.each(
        ctx, names, all=all, latest=latest, filters=filters, cidfile=cidfile, ignore=ignore,
        damaged=True,
    )  # fmt: skip

    def one(container: Container) -> None:
        if depend:
            for dependent in _dependents(ctx.store, container.record):
                one(dependent)
        _remove(ctx.store, container, force or depend, volumes, time)

    return selection.outcomes(asked, one)


def _remove(store: Store, container: Container, force: bool, volumes: bool, time: str) -> None:
    record = container.record
    if container.problem and not force:
        raise selection.damaged_error(container)
    ended = container.status == Status.STOPPING and not process.is_alive(container.state.init)
    if ended and ending.settle(store, record) is None:
        return  # --rm removed it
    if container.status.is_live and not ended:
        if not force:
            raise StateError(
                f"cannot remove container {record.name}: container is {container.status}:"
                " stop the container before removing or force remove",
                hint=f"`podpy rm -f {record.name}`",
            )
        containers.set_wanted(store, record.id, "stopped")
        seconds = values.integer(time, "--time", lowest=-1) if time else 0
        number = ending.stop_signal(record, "") if seconds else ending.SIGKILL
        ending.stop(container, number, seconds)
        if ending.settle(store, record) is None:
            return
    try:
        with holding.hold(store, record):
            if states.known(store, record.id).status.is_live:
                raise StateError(f"cannot remove container {record.name}: it was started meanwhile")
            ending.discard(store, record, anonymous_volumes=volumes or record.remove)
    except NotFound:
        return  # removed meanwhile, which is what was asked for


def _dependents(store: Store, record: ContainerRecord) -> list[Container]:
    """The containers that live in namespaces of this one."""
    return [other for other in containers.every(store) if record.id in other.record.lenders]


def prune(ctx: Context, *, filters: Iterable[str] = ()) -> tuple[Outcome, ...]:
    """Remove every container that is not live, and what dead processes left behind."""
    from podpy.engine import matching

    found = [c for c in containers.every(ctx.store) if not c.status.is_live]
    chosen = matching.select_for_prune(found, tuple(filters))
    from podpy.storage import usage

    freed = {c.record.id: usage.tree(f"{ctx.store.container(c.record.id)}/upper") for c in chosen}
    asked = ((container.record.id, container) for container in chosen)
    done = selection.outcomes(asked, lambda c: _remove(ctx.store, c, False, False, ""))
    containers.sweep(ctx.store)
    return tuple(replace(one, freed=0 if one.error else freed[one.id]) for one in done)


# --- wait --------------------------------------------------------------------


def wait(
    ctx: Context,
    names: Iterable[str] = (),
    *,
    condition: Iterable[str] = (),
    interval: str = "",
    ignore: bool = False,
    latest: bool = False,
) -> tuple[int, ...]:
    """Block until each container meets a condition (default: it does not run); exit codes.

    -1 stands for a condition that has no code, and for a container that does
    not exist when ``ignore`` is given.
    """
    wanted = tuple(condition)
    for word in wanted:
        if word not in CONDITIONS:
            raise UsageError(f"--condition: invalid condition {word!r}", hint=", ".join(CONDITIONS))
    nap = _interval(interval)
    final = not wanted or set(wanted) <= set(_FINAL)
    chosen = tuple(item for _, item in selection.each(ctx, names, latest=latest))
    # All are listened to before one is waited for: after --rm nobody else knows the code.
    connections = [_listen(ctx.store, item) if final else -1 for item in chosen]
    codes = []
    for item, connection in zip(chosen, connections):
        if isinstance(item, NotFound) and ignore:
            codes.append(-1)
        elif isinstance(item, PodpyError):
            raise item
        elif final:
            codes.append(launching.await_exit(ctx.store, item, connection))
        else:
            codes.append(_await_condition(ctx.store, item, wanted, nap))
    return tuple(codes)


def _listen(store: Store, item: Container | PodpyError) -> int:
    return -1 if isinstance(item, PodpyError) else launching.listen_for_exit(store, item)


def _interval(text: str) -> float:
    if not text:
        return 0.25
    return float(text) / 1000 if text.isdigit() else values.duration(text, "--interval")


def _await_condition(
    store: Store, container: Container, wanted: tuple[str, ...], nap: float
) -> int:
    while True:
        try:
            now = containers.read(store, container.record.id)
        except NotFound:
            if "removed" in wanted or "removing" in wanted:
                return container.state.exit_code
            raise
        if _meets(now, wanted):
            return now.state.exit_code if now.status == Status.EXITED else -1
        container = now
        clock.sleep(nap)


def _meets(container: Container, wanted: Iterable[str]) -> bool:
    status = str(container.status)
    also = {"exited": ("stopped", "not-running"), "created": ("configured", "not-running")}
    return any(word == status or word in also.get(status, ()) for word in wanted)


# --- pause -------------------------------------------------------------------


def pause(
    ctx: Context,
    names: Iterable[str] = (),
    *,
    all: bool = False,
    latest: bool = False,
    filters: Iterable[str] = (),
    cidfile: Iterable[str] = (),
) -> tuple[Outcome, ...]:
    """Freeze every process of running containers."""
    asked = selection.each(ctx, names, all=all, latest=latest, filters=filters, cidfile=cidfile)
    if all:
        asked = ((n, c) for n, c in asked if isinstance(c, PodpyError) or c.status.can_exec())
    return selection.outcomes(asked, lambda c: _freeze(ctx.store, c, Status.RUNNING))


def unpause(
    ctx: Context,
    names: Iterable[str] = (),
    *,
    all: bool = False,
    latest: bool = False,
    filters: Iterable[str] = (),
    cidfile: Iterable[str] = (),
) -> tuple[Outcome, ...]:
    """Let the processes of paused containers go on."""
    asked = selection.each(ctx, names, all=all, latest=latest, filters=filters, cidfile=cidfile)
    if all:
        asked = ((n, c) for n, c in asked if isinstance(c, PodpyError) or c.status == Status.PAUSED)
    return selection.outcomes(asked, lambda c: _freeze(ctx.store, c, Status.PAUSED))


def _freeze(store: Store, container: Container, needed: Status) -> None:
    from podpy.kernel import cgroup

    name, status = container.record.name, container.status
    verb = "pause" if needed == Status.RUNNING else "unpause"
    if status != needed:
        raise StateError(f"container {name}: is {status}: cannot {verb} it")
    if not container.state.cgroup:
        raise HostError(
            f"container {name}: it has no control group of its own, so it cannot be paused",
            hint="pausing needs cgroup v2 with a subtree that is delegated to you",
        )
    if needed == Status.RUNNING:
        cgroup.freeze(container.state.cgroup)
    else:
        cgroup.thaw(container.state.cgroup)
    events.container(store, container.record, verb)
