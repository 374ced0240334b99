"""Verbs that run something and stay with it: ``run``, ``create``, ``start``, ``attach``, ``exec``."""

from __future__ import annotations

from podpy.cli import output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from podpy.cli.options import (
        AllLong, Attach, Command, Container, Containers, Detach, DetachKeys, Env, EnvFiles,
        Filters, Interactive, NoStdin, Privileged, SigProxy, Tty, User, WorkDir,
    )  # fmt: skip
    from podpy.engine.context import Context


def run(ctx: Context, **options: Any) -> int:
    """Create a container from an image and run a command in it."""
    from podpy.engine import containers
    from podpy.engine.options import ContainerOptions

    result = containers.run(ctx, ContainerOptions(**options))
    if options.get("detach"):
        output.line(result.id)
    return result.exit_code or 0


def create(ctx: Context, **options: Any) -> None:
    """Create a container without starting it."""
    from podpy.engine import containers
    from podpy.engine.options import ContainerOptions

    output.line(containers.create(ctx, ContainerOptions(**options)))


def start(
    ctx: Context,
    *,
    names: Containers = (),
    attach: Attach = False,
    interactive: Interactive = False,
    detach_keys: DetachKeys = "",
    sig_proxy: SigProxy = True,
    every: AllLong = False,
    filters: Filters = (),
) -> int:
    """Start containers that exist."""
    from podpy.cli.outcomes import report
    from podpy.engine import lifecycle

    outcomes = lifecycle.start(
        ctx, names, attach=attach, interactive=interactive, detach_keys=detach_keys,
        sig_proxy=sig_proxy, all=every, filters=filters,
    )  # fmt: skip
    return report("start", outcomes)


def attach(
    ctx: Context,
    *,
    name: Container,
    no_stdin: NoStdin = False,
    detach_keys: DetachKeys = "",
    sig_proxy: SigProxy = True,
) -> int:
    """Attach to a container's input, output and exit code."""
    from podpy.engine import streams

    return streams.attach(
        ctx, name, stdin=not no_stdin, detach_keys=detach_keys, sig_proxy=sig_proxy
    )


def exec_(
    ctx: Context,
    *,
    name: Container,
    command: Command,
    detach: Detach = False,
    interactive: Interactive = False,
    tty: Tty = False,
    env: Env = (),
    env_file: EnvFiles = (),
    user: User = "",
    workdir: WorkDir = "",
    privileged: Privileged = False,
    detach_keys: DetachKeys = "",
) -> int:
    """Run a command in a container that runs."""
    from podpy.engine import exec as exec_in
    from podpy.engine.exec import ExecOptions

    options = ExecOptions(
        command=command, detach=detach, interactive=interactive, tty=tty, env=env,
        env_file=env_file, user=user, workdir=workdir, privileged=privileged,
        detach_keys=detach_keys,
    )  # fmt: skip
    return exec_in.exec(ctx, name, options)
