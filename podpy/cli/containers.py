"""Verbs over containers that neither list nor run anything."""

from __future__ import annotations

from podpy.cli import output
from podpy.cli.outcomes import confirm, report, report_prune

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podpy.cli import options as opt
    from podpy.engine.context import Context


def stop(
    ctx: Context,
    *,
    names: opt.Containers = (),
    seconds: opt.StopSeconds = "",
    signal: opt.StopSignal = "",
    every: opt.All = False,
    latest: opt.Latest = False,
    ignore: opt.Ignore = False,
    filters: opt.Filters = (),
    cidfile: opt.CidFiles = (),
) -> int:
    """Stop containers: ask, wait, then kill."""
    from podpy.engine import lifecycle

    outcomes = lifecycle.stop(
        ctx, names, time=seconds, signal=signal, all=every, latest=latest, ignore=ignore,
        filters=filters, cidfile=cidfile,
    )  # fmt: skip
    return report("stop", outcomes)


def kill(
    ctx: Context,
    *,
    names: opt.Containers = (),
    signal: opt.KillSignal = "KILL",
    every: opt.All = False,
    latest: opt.Latest = False,
    cidfile: opt.CidFiles = (),
) -> int:
    """Send a signal to containers."""
    from podpy.engine import lifecycle

    return report(
        "kill", lifecycle.kill(ctx, names, signal=signal, all=every, latest=latest, cidfile=cidfile)
    )


def restart(
    ctx: Context,
    *,
    names: opt.Containers = (),
    seconds: opt.StopSeconds = "",
    signal: opt.StopSignal = "",
    every: opt.All = False,
    latest: opt.Latest = False,
    running: opt.OnlyRunning = False,
    filters: opt.Filters = (),
    cidfile: opt.CidFiles = (),
) -> int:
    """Stop containers and start them again."""
    from podpy.engine import lifecycle

    outcomes = lifecycle.restart(
        ctx, names, time=seconds, signal=signal, all=every, latest=latest, running=running,
        filters=filters, cidfile=cidfile,
    )  # fmt: skip
    return report("restart", outcomes)


def pause(
    ctx: Context,
    *,
    names: opt.Containers = (),
    every: opt.All = False,
    latest: opt.Latest = False,
    filters: opt.Filters = (),
    cidfile: opt.CidFiles = (),
) -> int:
    """Freeze all processes of containers."""
    from podpy.engine import lifecycle

    outcomes = lifecycle.pause(
        ctx, names, all=every, latest=latest, filters=filters, cidfile=cidfile
    )
    return report("pause", outcomes)


def unpause(
    ctx: Context,
    *,
    names: opt.Containers = (),
    every: opt.All = False,
    latest: opt.Latest = False,
    filters: opt.Filters = (),
    cidfile: opt.CidFiles = (),
) -> int:
    """Let the processes of paused containers go on."""
    from podpy.engine import lifecycle

    outcomes = lifecycle.unpause(
        ctx, names, all=every, latest=latest, filters=filters, cidfile=cidfile
    )
    return report("unpause", outcomes)


def rm(
    ctx: Context,
    *,
    names: opt.Containers = (),
    force: opt.Force = False,
    volumes: opt.RemoveVolumes = False,
    every: opt.All = False,
    latest: opt.Latest = False,
    ignore: opt.Ignore = False,
    seconds: opt.StopSeconds = "",
    depend: opt.Depend = False,
    filters: opt.LongFilters = (),
    cidfile: opt.CidFiles = (),
) -> int:
    """Remove containers."""
    from podpy.engine import lifecycle

    outcomes = lifecycle.remove(
        ctx, names, force=force, volumes=volumes, all=every, latest=latest, ignore=ignore,
        time=seconds, depend=depend, filters=filters, cidfile=cidfile,
    )  # fmt: skip
    return report("rm", outcomes, removal=True, force=force)


def wait(
    ctx: Context,
    *,
    names: opt.Containers = (),
    condition: opt.Condition = (),
    interval: opt.Interval = "",
    ignore: opt.IgnoreLong = False,
    latest: opt.Latest = False,
) -> None:
    """Wait until containers stop and print their exit codes."""
    from podpy.engine import lifecycle

    codes = lifecycle.wait(
        ctx, names, condition=condition, interval=interval, ignore=ignore, latest=latest
    )
    for code in codes:
        output.line(str(code))


def rename(ctx: Context, *, name: opt.Container, new_name: opt.ContainerName) -> None:
    """Give a container another name."""
    from podpy.engine import containers

    containers.rename(ctx, name, new_name)


def top(ctx: Context, *, name: opt.Container, columns: opt.TopColumns = ()) -> None:
    """Show the processes of a container."""
    from podpy.engine import listing

    headings, *rows = listing.top(ctx, name, columns)
    output.table(headings, rows)


def port(
    ctx: Context,
    *,
    name: opt.Container = "",
    wanted: opt.ContainerPort = "",
    every: opt.All = False,
    latest: opt.Latest = False,
) -> None:
    """Show the published ports of a container."""
    from podpy.engine import listing

    # Standard output is docker's, for scripts; whose clients are masked is said beside it.
    for published in listing.port(ctx, name, wanted, all=every, latest=latest):
        output.line(published.text)
        if published.masked:
            output.warning(f"{published.text}: source masked: clients come from another address")


def prune(ctx: Context, *, force: opt.NoQuestion = False, filters: opt.LongFilters = ()) -> int:
    """Remove all containers that do not run."""
    from podpy.engine import lifecycle

    if not confirm("This will remove all stopped containers.", force=force):
        return 1
    return report_prune("prune", "Deleted Containers:", lifecycle.prune(ctx, filters=filters))


def exists(ctx: Context, *, name: opt.Container) -> int:
    """Tell by the exit code whether a container exists: 0 or 1."""
    from podpy.engine import listing
    from podpy.errors import NotFound

    try:
        listing.resolve(ctx, name)
    except NotFound:
        return 1
    return 0
