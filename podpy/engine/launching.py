"""Starting a container under its lock, alone or with the caller as its terminal."""

from __future__ import annotations

import _socket
import os
import time

from podpy import files
from podpy.engine import holding, starting
from podpy.engine.handed import Handed
from podpy.errors import NotFound, PodpyError, StateError
from podpy.kernel import process
from podpy.model import Status
from podpy.records import replace
from podpy.storage import containers, states

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podpy.engine.context import Context
    from podpy.model import Container, ContainerRecord, ContainerState
    from podpy.paths import Store

_NOTHING = Handed()


def launch(
    ctx: Context,
    record: ContainerRecord,
    *,
    client_fd: int = -1,
    client_wants: bytes = b"ioe",
    detached: bool = True,
    handed: Handed = _NOTHING,
) -> bool:
    """Start a container; False when it runs already.

    ``client_fd`` is the supervisor's end of an attach socket, closed here, and
    ``client_wants`` what the other end gets (see :mod:`podpy.runtime.frames`);
    ``handed`` are the caller's descriptors for the command, which stay open here.
    """
    store = ctx.store
    try:
        with holding.hold(store, record):
            state = _ready(store, record)
            if state.status.is_live:
                return False
            if not record.remove:
                containers.set_wanted(store, record.id, "running")
            given, client_fd = client_fd, -1
            try:
                starting.start(
                    ctx, record, client_fd=given, client_wants=client_wants, detached=detached,
                    handed=handed,
                )  # fmt: skip
            except PodpyError as error:
                _note_failure(store, record, state, error)
                raise
    finally:
        if client_fd >= 0:
            os.close(client_fd)
    _note_pid(store, record)
    if record.network.kind == "bridge":
        from podpy.engine import naming

        naming.started(ctx, record)
    return True


def attached(
    ctx: Context,
    record: ContainerRecord,
    *,
    wants: bytes = b"ioe",
    sig_proxy: bool = True,
    detach_keys: str = "",
    handed: Handed = _NOTHING,
) -> int | None:
    """Start a container and be its terminal; its exit code, None when the user detached.

    The descriptors of ``handed`` are closed here once its command has them.
    """
    from podpy.runtime import attach, terminal

    terminal.parse_keys(detach_keys)  # a mistake in them is said before anything runs
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    fd = ours.detach()
    try:
        client_fd = theirs.detach()
        if not launch(
            ctx, record, client_fd=client_fd, client_wants=wants, detached=False, handed=handed
        ):
            raise StateError(
                f"container {record.name}: is running", hint=f"`podpy attach {record.name}`"
            )
    except BaseException:
        os.close(fd)
        raise
    handed.let_go()
    result = attach.client(
        fd,
        tty=record.tty,
        stdin=record.interactive and b"i" in wants,
        detach_keys=detach_keys or record.detach_keys,
        sig_proxy=sig_proxy,
    )
    if result.detached or result.exit_code is not None:
        return result.exit_code
    return _code_without_supervisor(ctx.store, record)


def _code_without_supervisor(store: Store, record: ContainerRecord) -> int:
    """The supervisor was killed: end what it left, in its place."""
    from podpy.engine import ending

    state = ending.settle(store, record)
    return state.exit_code if state is not None else 128 + ending.SIGKILL


def _ready(store: Store, record: ContainerRecord) -> ContainerState:
    """The state to start from, once an end that is under way is over."""
    state = containers.read(store, record.id).state
    if state.status == Status.PAUSED:
        raise StateError(
            f"container {record.name}: is paused", hint=f"`podpy unpause {record.name}`"
        )
    if state.status == Status.STOPPING:
        from podpy.engine import ending

        settled = ending.settle(store, record, is_held=True)
        if settled is None:
            raise NotFound(f"container {record.name}: was removed at its end (--rm)")
        state = settled
    if not state.status.is_live:
        _await_supervisor(state)
    return state


def _await_supervisor(state: ContainerState) -> None:
    """The last run's supervisor may still unmount and reap."""
    with process.Pidfd(state.supervisor) as supervisor:
        if supervisor:
            from podpy.engine import ending

            supervisor.ended(ending.SETTLE)


def _note_failure(
    store: Store, record: ContainerRecord, before: ContainerState, error: PodpyError
) -> None:
    """A start that failed is an end: the code docker reports, and why."""
    from podpy.engine import ending

    now = time.time()
    state = replace(
        before, status=Status.EXITED, exit_code=error.exit_code, error=error.message,
        init=None, supervisor=None, started=before.started or now, finished=now,
    )  # fmt: skip
    ending.write_state(store, record, state)


def _note_pid(store: Store, record: ContainerRecord) -> None:
    if not record.pidfile:
        return
    state = states.read(store, record.id)
    if state.init is not None:
        files.write_atomic(record.pidfile, f"{state.init.pid}\n", mode=0o644)


def listen_for_exit(store: Store, container: Container) -> int:
    """A connection on which the supervisor will say the exit code; -1 where nobody would."""
    from podpy.runtime import attach

    if not container.state.status.is_live:
        return -1
    try:
        return attach.connect(
            store.container_run(container.record.id), "", container.state.supervisor
        )
    except StateError:
        return -1


def await_exit(store: Store, container: Container, connection: int) -> int:
    """Block until a container does not run; its exit code.

    The supervisor itself says it on ``connection`` (of :func:`listen_for_exit`),
    which is closed: after ``--rm`` there is no state to read.
    """
    from podpy.runtime import attach

    if not container.state.status.is_live:
        return container.state.exit_code
    code = None
    if connection >= 0:
        try:
            code = attach.wait(connection)
        finally:
            os.close(connection)
    return _code_without_supervisor(store, container.record) if code is None else code
