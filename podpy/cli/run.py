"""Verbs that run something and stay with it: ``run create start attach exec``."""

from __future__ import annotations

from podpy.cli import output
from podpy.engine.progress import Progress
from podpy.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from podpy.cli import options as opt
    from podpy.engine.context import Context


def run(ctx: Context, **options: Any) -> int:
    """Create a container from an image and run a command in it."""
    from podpy.engine import containers
    from podpy.engine.options import ContainerOptions

    result = containers.run(ctx, ContainerOptions(**options), progress=_Later())
    if options.get("detach") or _only_input(options.get("attach", ())):
        output.line(result.id)
    return result.exit_code or 0


def _only_input(streams: Iterable[str]) -> bool:
    """With ``-a stdin`` alone nothing else would tell whose logs to read."""
    return {name.lower() for name in streams} == {"stdin"}


def create(ctx: Context, **options: Any) -> None:
    """Create a container without starting it."""
    from podpy.engine import containers
    from podpy.engine.options import ContainerOptions

    output.line(containers.create(ctx, ContainerOptions(**options), progress=_Later()))


class _Later(Progress):
    """The progress of a pull, whose drawing is imported when there is something to draw."""

    def __getattribute__(self, name: str) -> Any:
        from podpy.cli import progress

        return getattr(progress.current(), name)


def start(
    ctx: Context,
    *,
    names: opt.Containers = (),
    attach: opt.Attach = False,
    interactive: opt.Interactive = False,
    detach_keys: opt.DetachKeys = None,
    sig_proxy: opt.SigProxy = True,
    every: opt.AllLong = False,
    latest: opt.Latest = False,
    filters: opt.Filters = (),
) -> int:
    """Start containers that exist."""
    from podpy.cli.outcomes import report
    from podpy.engine import lifecycle

    if not attach and not interactive:
        return report(
            "start", lifecycle.start(ctx, names, all=every, latest=latest, filters=filters)
        )
    if len(names) != 1 or every or latest or filters:
        raise UsageError("you cannot start and attach multiple containers at once")
    code = lifecycle.start_attached(
        ctx, names[0], interactive=interactive, sig_proxy=sig_proxy, detach_keys=detach_keys or ""
    )
    return code or 0


def attach(
    ctx: Context,
    *,
    name: opt.Container,
    no_stdin: opt.NoStdin = False,
    detach_keys: opt.DetachKeys = None,
    sig_proxy: opt.SigProxy = True,
) -> int:
    """Attach to a container's input, output and exit code."""
    from podpy.engine import streams

    return streams.attach(
        ctx, name, stdin=not no_stdin, detach_keys=detach_keys, sig_proxy=sig_proxy
    )


def exec_(
    ctx: Context,
    *,
    name: opt.Container,
    command: opt.Command,
    detach: opt.Detach = False,
    interactive: opt.Interactive = False,
    tty: opt.Tty = False,
    env: opt.Env = (),
    env_file: opt.EnvFiles = (),
    user: opt.User = "",
    workdir: opt.WorkDir = "",
    privileged: opt.Privileged = False,
    detach_keys: opt.DetachKeys = None,
    preserve_fds: opt.PreserveFds = "",
    preserve_fd: opt.PreserveFd = (),
) -> int:
    """Run a command in a container that runs."""
    from podpy.engine import exec as exec_in
    from podpy.engine.exec import ExecOptions

    options = ExecOptions(
        command=command, detach=detach, interactive=interactive, tty=tty, env=env,
        env_file=env_file, user=user, workdir=workdir, privileged=privileged,
        detach_keys=detach_keys, preserve_fds=preserve_fds, preserve_fd=preserve_fd,
    )  # fmt: skip
    return exec_in.exec(ctx, name, options)
