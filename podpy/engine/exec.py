"""``exec``: run one more process in a container that runs."""

from __future__ import annotations

import os

from podpy.engine import environment, handed
from podpy.errors import CannotInvoke, StateError, UsageError
from podpy.kernel import libc
from podpy.model import Status
from podpy.records import record, replace
from podpy.runtime import join, payload
from podpy.runtime.shield import Shield
from podpy.storage import containers, events

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podpy.engine.context import Context
    from podpy.engine.handed import Handed
    from podpy.model import Container, ContainerRecord
    from podpy.runtime.spec import Process


@record
class ExecOptions:
    """The options of ``exec``, one field each, as the user gave them."""

    command: tuple[str, ...]
    detach: bool = False
    detach_keys: str | None = None
    interactive: bool = False
    tty: bool = False
    env: tuple[str, ...] = ()
    env_file: tuple[str, ...] = ()
    user: str = ""
    workdir: str = ""
    privileged: bool = False
    preserve_fds: str = ""
    preserve_fd: tuple[str, ...] = ()


def exec(ctx: Context, name: str, options: ExecOptions) -> int:
    """Run a command in the container ``name``; its exit code, or 0 when it is left alone.

    With ``detach`` the answer comes as soon as the command runs.
    """
    given = _handed(options)
    container = containers.resolve(ctx.store, name)
    if container.record.links:
        from podpy.engine import links

        made = links.with_present(ctx.store, container.record)
        container = replace(container, record=made)
    entry = _entry(container, options, given)
    events.container(ctx.store, container.record, "exec_start", execCommand=options.command[0])
    code = _run(container, options, entry, given)
    if not options.detach:
        events.container(ctx.store, container.record, "exec_die", exitCode=str(code))
    return code


def _run(container: Container, options: ExecOptions, entry: join.Entry, given: Handed) -> int:
    if not (options.tty or options.detach):
        with Shield(entry.stdio) as shield:
            session = join.start(replace(entry, stdio=shield.stdio))
            given.let_go()
            shield.release()
            return join.wait(session.pid)
    from podpy.runtime import sessions

    if options.detach:
        sessions.detach(entry)
        return 0
    keys = options.detach_keys
    if keys is None:
        keys = container.record.detach_keys
    return sessions.run(entry, stdin=options.interactive, detach_keys=keys)


def _entry(container: Container, options: ExecOptions, given: Handed) -> join.Entry:
    made, state = container.record, container.state
    if state.status == Status.PAUSED:
        raise CannotInvoke(
            f"container {made.name} is paused, unpause the container before exec",
            hint=f"`podpy unpause {made.name}`",
        )
    if not state.status.can_exec() or state.init is None:
        raise CannotInvoke(
            f"container {made.name} is not running ({state.status}): can only create exec sessions"
            " on running containers: container state improper",
            hint=f"start it first: `podpy start {made.name}`",
        )
    may_set_groups = _may_set_groups(state.init.pid)
    return join.Entry(
        first=state.init,
        namespaces=_namespaces(made),
        process=given.give(_process(made, options, may_set_groups)),
        cgroup=state.cgroup,
        stdio=_stdio(options),
        tty=options.tty,
    )


def _process(made: ContainerRecord, options: ExecOptions, may_set_groups: bool) -> Process:
    if not options.command:
        raise UsageError("exec: no command given")
    process = payload.process_of(made, may_set_groups=may_set_groups)
    if options.privileged:
        process = payload.privileged(process, made)
    return replace(
        process,
        argv=options.command,
        env=_environment(made, options),
        cwd=_working_dir(made, options.workdir),
        user=options.user or made.user,
    )


def _environment(made: ContainerRecord, options: ExecOptions) -> tuple[str, ...]:
    found = dict(entry.split("=", 1) for entry in made.env if "=" in entry)
    if options.tty:
        found.setdefault("TERM", "xterm")
    host = environment.of_host()
    environment.apply_files(found, options.env_file, host)
    environment.apply(found, options.env, host)
    return tuple(f"{name}={value}" for name, value in found.items())


def _working_dir(made: ContainerRecord, workdir: str) -> str:
    if workdir and not workdir.startswith("/"):
        raise UsageError(f"--workdir: {workdir!r} is not an absolute path")
    return workdir or made.working_dir


def _namespaces(made: ContainerRecord) -> int:
    """The namespaces that the container does not share with the host."""
    flags = libc.CLONE_NEWUSER | libc.CLONE_NEWNS
    for mode, flag in (
        (made.network.kind, libc.CLONE_NEWNET),
        (made.pid_mode, libc.CLONE_NEWPID),
        (made.ipc_mode, libc.CLONE_NEWIPC),
        (made.uts_mode, libc.CLONE_NEWUTS),
        (made.cgroup_mode, libc.CLONE_NEWCGROUP),
    ):
        if mode != "host":
            flags |= flag
    return flags


def _may_set_groups(pid: int) -> bool:
    """Whether the user namespace of a process lets setgroups(2) be called."""
    try:
        fd = os.open(f"/proc/{pid}/setgroups", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise StateError("the container has stopped") from None
    try:
        return os.read(fd, 16).strip() != b"deny"
    finally:
        os.close(fd)


def _stdio(options: ExecOptions) -> tuple[int, int, int]:
    """Our own streams; the host's ``/dev/null`` where the payload gets none."""
    if options.interactive and not options.detach:
        return 0, 1, 2
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    return (null, null, null) if options.detach else (null, 1, 2)


def _handed(options: ExecOptions) -> Handed:
    """The caller's descriptors; where a session keeps none of them, asking for it is a mistake."""
    given = handed.take(options.preserve_fds, options.preserve_fd)
    if given.descriptors and (options.detach or options.tty):
        raise UsageError(
            "descriptors (--preserve-fds, LISTEN_FDS) cannot be combined with --detach or --tty"
        )
    return given
