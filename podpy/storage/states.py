"""The state of a container: who writes it, and what is true when somebody was killed.

::

                  state.json RUNNING                    state.json EXITED
    (created) ────────────────────────► running ────────────────────────► exited
        ▲          by S, before GO      │  ▲          by S, after           │
        │                        freeze │  │ thaw     clean-up              │ start:
     create:                  (cgroup)  ▼  │                                │ a new S
     rename of                         paused                               │ writes
     the directory                                                          ▼ RUNNING

S, the supervisor, is the only writer while it lives.  Each arrow is one write;
what a kill leaves before and after it:

==================  ========================================  =====================
write               killed before                             killed after
==================  ========================================  =====================
container.json      nothing but a reservation and staging     created
(``rename``)
state.json RUNNING  created: the payload has not run, because  running: GO is next;
                    it waits for GO                           without S the payload
                                                              reads the end of its
                                                              channel and exits
cgroup.freeze       running                                   paused: it is read
                                                              from the cgroup
state.json EXITED   both dead: exited, 137, "its supervisor   exited
                    was killed"; pid 1 alive: stopping
rename to ``tmp/``  exited, and known by its id               gone; the tree is
                                                              swept later
==================  ========================================  =====================

Wanted state (``wanted.json``) is what the user asked for last and is written by
the commands, never by S.
"""

from __future__ import annotations

from podpy import files
from podpy.errors import StoreError
from podpy.kernel import process
from podpy.model import ContainerState, Status
from podpy.records import from_dict, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podpy.paths import Store


def read(store: Store, container_id: str) -> ContainerState:
    """What the container does now: what its supervisor wrote, checked against the processes."""
    path = f"{store.container(container_id)}/state.json"
    try:
        values = files.read_json(path)
    except FileNotFoundError:
        return ContainerState(status=Status.CREATED)
    try:
        state = from_dict(ContainerState, values)
    except (AttributeError, TypeError, ValueError) as error:
        raise StoreError(f"{path}: {error}") from None
    return verified(state) if state.status.is_live else state


def known(store: Store, container_id: str) -> ContainerState:
    """The same; of a damaged file that the container has ended, for all we know."""
    try:
        return read(store, container_id)
    except StoreError as error:
        return ContainerState(status=Status.EXITED, error=error.message)


def verified(state: ContainerState) -> ContainerState:
    """A live state, corrected by who is alive.

    ================  ===========================  ============================
    written           pid 1 / supervisor           true state
    ================  ===========================  ============================
    running           alive / alive                running, or paused when its
                                                   cgroup is frozen
    running           alive / dead                 stopping: nobody would see
                                                   its end; the next writer
                                                   kills it
    running           dead / alive                 stopping: its end is about
                                                   to be written
    running           dead / dead, other boot      exited, with 137
    ================  ===========================  ============================
    """
    init = process.is_alive(state.init)
    supervisor = process.is_alive(state.supervisor)
    if init and supervisor:
        return replace(state, status=Status.PAUSED) if _is_frozen(state.cgroup) else state
    if init or supervisor:
        return replace(state, status=Status.STOPPING)
    reason = "its supervisor was killed"
    if state.init is not None and state.init.boot_id != process.current_boot():
        reason = "the host was restarted"
    return replace(
        state,
        status=Status.EXITED,
        exit_code=137,
        finished=state.finished or state.started,
        error=state.error or reason,
    )


def _is_frozen(cgroup: str) -> bool:
    if not cgroup:
        return False
    from podpy.kernel import cgroup as groups

    return groups.is_frozen(cgroup)
