"""Bringing a container to its end: signals, patience, and who cleans up.

Its supervisor cleans up and writes the last state.  Where the supervisor is
dead, whoever ends the container acts in its place.
"""

from __future__ import annotations

import _signal
import time

from podpy import files
from podpy.engine import holding
from podpy.errors import NotFound, StateError
from podpy.kernel import process, signals
from podpy.model import Status
from podpy.records import replace, to_dict
from podpy.storage import containers, events, states

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podpy.model import Container, ContainerRecord, ContainerState, ProcessIdentity
    from podpy.paths import Store

SIGKILL = int(_signal.SIGKILL)
SETTLE = 20.0  # seconds a supervisor may take to clean up before we say that it hangs
_FIRST_NAP, _LONGEST_NAP = 0.001, 0.05


def signal_init(container: Container, number: int) -> bool:
    """Send a signal to the container's first process; False when it is gone."""
    with process.Pidfd(container.state.init) as init:
        return init.send(number)


def stop(container: Container, number: int, seconds: float) -> None:
    """Ask the first process to end; kill it when ``seconds`` are over (below 0: never)."""
    with process.Pidfd(container.state.init) as init:
        if not init:
            return
        thaw(container.state)
        if init.send(number) and not init.ended(seconds):
            init.send(SIGKILL)
            init.ended(SETTLE)


def thaw(state: ContainerState) -> None:
    """A frozen process acts on no signal but SIGKILL."""
    if state.status == Status.PAUSED and state.cgroup:
        from podpy.kernel import cgroup

        cgroup.thaw(state.cgroup)


def settle(
    store: Store, record: ContainerRecord, *, is_held: bool = False
) -> ContainerState | None:
    """Wait until the end of a container stands in its state; None when it is removed.

    Its first process is dead or dying.  With the supervisor dead as well, the
    state is written, and ``--rm`` carried out, here.  ``is_held`` says that the
    caller has the container's lock.  Somebody else may start it meanwhile.
    """
    deadline = time.monotonic() + SETTLE
    nap = _FIRST_NAP
    ending: ProcessIdentity | None = None
    while True:
        try:
            state = containers.read_any(store, record.id).state
        except NotFound:
            return None
        if not state.status.is_live:
            return _finish(store, record, state, is_held)
        ending = ending or state.init
        if state.init != ending:
            return state
        if process.is_alive(state.init) and not process.is_alive(state.supervisor):
            _kill_orphan(state)
        if time.monotonic() > deadline:
            raise StateError(
                f"container {record.name}: its supervisor (pid"
                f" {state.supervisor.pid if state.supervisor else '?'}) does not finish",
                hint="look at that process; killing it is safe",
            )
        time.sleep(nap)
        nap = min(nap * 2, _LONGEST_NAP)


def _kill_orphan(state: ContainerState) -> None:
    with process.Pidfd(state.init) as init:
        if init.send(SIGKILL):
            init.ended(SETTLE)


def _finish(
    store: Store, record: ContainerRecord, state: ContainerState, is_held: bool
) -> ContainerState | None:
    """Do what a dead supervisor left undone, unless the container was started meanwhile."""
    supervised = process.is_alive(state.supervisor)
    if supervised or state.status == Status.CREATED:
        return state
    if is_held:
        return _act_for_supervisor(store, record, state)
    try:
        with holding.hold(store, record):
            state = containers.read_any(store, record.id).state
            if state.status.is_live:
                return state
            return _act_for_supervisor(store, record, state)
    except NotFound:
        return None


def _act_for_supervisor(
    store: Store, record: ContainerRecord, state: ContainerState
) -> ContainerState | None:
    if not state.finished or state.error:
        events.container(store, record, "die", exitCode=str(state.exit_code))
    if record.remove:
        discard(store, record)
        return None
    remove_cgroup(record, state)
    if not state.finished or state.error:
        # Corrected by the reader: make it what is written, too.
        state = replace(state, finished=state.finished or time.time())
        write_state(store, record, state)
    return state


def write_state(store: Store, record: ContainerRecord, state: ContainerState) -> None:
    """Write the state of a container that has no supervisor."""
    path = f"{store.container(record.id)}/state.json"
    try:
        files.write_json(path, to_dict(state))
    except FileNotFoundError:
        return  # removed meanwhile


def discard(store: Store, record: ContainerRecord, *, anonymous_volumes: bool = True) -> None:
    """Remove a container that is not live, with its anonymous volumes."""
    remove_cgroup(record, states.known(store, record.id))
    containers.remove(store, record)
    events.container(store, record, "destroy")
    if anonymous_volumes:
        for mount in record.mounts:
            if mount.type == "volume" and mount.anonymous:
                _remove_volume(store, mount.source)


def remove_cgroup(record: ContainerRecord, state: ContainerState) -> None:
    """Remove the cgroup that a killed supervisor left, and whatever still runs in it.

    One that was made before the state could name it is where cgroups are made.
    """
    from podpy.kernel import cgroup

    above = cgroup.delegated()
    for path in (state.cgroup, f"{above}/podpy-{record.id}" if above else ""):
        if path:
            cgroup.remove(path)


def _remove_volume(store: Store, name: str) -> None:
    from podpy.storage import volumes

    try:
        volumes.remove(store, name)
    except NotFound:
        return


def stop_signal(record: ContainerRecord, given: str) -> int:
    return signals.number(given or record.stop_signal)
