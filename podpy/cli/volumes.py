"""Verbs over named volumes."""

from __future__ import annotations

from podpy.cli import output
from podpy.cli.outcomes import confirm, report, report_prune

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from podpy.cli import options as opt
    from podpy.engine.context import Context

# What `--format json` shows: docker's fields, of which some are of Swarm or need `system df`.
_NOT_KNOWN = ("Availability", "Group", "Links", "Size", "Status")
SHOWN = tuple(sorted(("Driver", "Labels", "Mountpoint", "Name", "Scope", *_NOT_KNOWN)))


def create(
    ctx: Context,
    *,
    name: opt.NewVolume = "",
    driver: opt.Driver = "local",
    labels: opt.VolumeLabels = (),
    options: opt.VolumeOptions = (),
    ignore: opt.IgnoreExisting = False,
) -> None:
    """Make a volume and print its name; one that exists is left as it is."""
    from podpy.engine import volumes

    del ignore  # podman's word for what docker does anyway
    output.line(volumes.create(ctx, name, driver=driver, labels=labels, options=options))


def ls(
    ctx: Context,
    *,
    filters: opt.Filters = (),
    format_: opt.Format = "",
    quiet: opt.Quiet = False,
    noheading: opt.NoHeadingShort = False,
) -> None:
    """List volumes."""
    from podpy.engine import volumes

    found = volumes.list(ctx, filters=filters)
    if quiet and not format_:
        for volume in found:
            output.line(volume.name)
        return
    headings = {"Name": "VOLUME NAME"}
    listing = output.Listing(FIELDS, headings, SHOWN)
    listing.print(found, ("Driver", "Name"), format_, headings=not noheading)


FIELDS: Mapping[str, Callable[..., Any]] = {
    "Name": lambda volume: volume.name,
    "Driver": lambda _volume: "local",
    "Scope": lambda _volume: "local",
    "Mountpoint": lambda volume: volume.mountpoint,
    "CreatedAt": lambda volume: output.rfc3339(volume.created),
    "Labels": lambda volume: ",".join(f"{k}={v}" for k, v in sorted(volume.labels.items())),
    "Label": lambda volume, key: volume.labels.get(key, ""),
    "Options": lambda volume: dict(volume.options),
    "Anonymous": lambda volume: volume.anonymous,
    **dict.fromkeys(_NOT_KNOWN, lambda _volume: "N/A"),
}


def rm(
    ctx: Context,
    *,
    names: opt.Volumes = (),
    force: opt.Force = False,
    every: opt.All = False,
) -> int:
    """Remove volumes."""
    from podpy.engine import volumes

    return report("volume rm", volumes.remove(ctx, names, force=force, all=every), removal=True)


def prune(
    ctx: Context,
    *,
    force: opt.NoQuestion = False,
    every: opt.All = False,
    filters: opt.LongFilters = (),
) -> int:
    """Remove volumes that no container uses: anonymous ones, or all."""
    from podpy.engine import volumes

    what = "volumes" if every else "anonymous volumes"
    if not confirm(f"This will remove all {what} that no container uses.", force=force):
        return 1
    outcomes = volumes.prune(ctx, all=every, filters=filters)
    return report_prune("volume prune", "Deleted Volumes:", outcomes)


def exists(ctx: Context, *, name: opt.Volume) -> int:
    """Tell by the exit code whether a volume exists: 0 or 1."""
    from podpy.engine import volumes

    return 0 if volumes.exists(ctx, name) else 1
