"""Verbs over named volumes."""

from __future__ import annotations

from podpy.cli import output
from podpy.cli.outcomes import confirm, report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podpy.cli.options import (
        All, Driver, Filters, Force, Format, IgnoreExisting, LongFilters, NewVolume,
        NoHeadingShort, NoQuestion, Quiet, Volume, VolumeLabels, VolumeOptions, Volumes,
    )  # fmt: skip
    from podpy.engine.context import Context

SHOWN = ("Driver", "Labels", "Mountpoint", "Name", "Scope")


def create(
    ctx: Context,
    *,
    name: NewVolume = "",
    driver: Driver = "local",
    labels: VolumeLabels = (),
    options: VolumeOptions = (),
    ignore: IgnoreExisting = False,
) -> None:
    """Make a volume and print its name."""
    from podpy.engine import volumes

    made = volumes.create(ctx, name, driver=driver, labels=labels, options=options, ignore=ignore)
    output.line(made)


def ls(
    ctx: Context,
    *,
    filters: Filters = (),
    format_: Format = "",
    quiet: Quiet = False,
    noheading: NoHeadingShort = False,
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


FIELDS = {
    "Name": lambda volume: volume.name,
    "Driver": lambda _volume: "local",
    "Scope": lambda _volume: "local",
    "Mountpoint": lambda volume: volume.mountpoint,
    "CreatedAt": lambda volume: output.rfc3339(volume.created),
    "Labels": lambda volume: ",".join(f"{k}={v}" for k, v in sorted(volume.labels.items())),
    "Label": lambda volume, key: volume.labels.get(key, ""),
    "Options": lambda volume: dict(volume.options),
    "Anonymous": lambda volume: volume.anonymous,
}


def rm(ctx: Context, *, names: Volumes = (), force: Force = False, every: All = False) -> int:
    """Remove volumes."""
    from podpy.engine import volumes

    return report("volume rm", volumes.remove(ctx, names, force=force, all=every), removal=True)


def prune(
    ctx: Context, *, force: NoQuestion = False, every: All = False, filters: LongFilters = ()
) -> int:
    """Remove volumes that no container uses: anonymous ones, or all."""
    from podpy.engine import volumes

    what = "volumes" if every else "anonymous volumes"
    if not confirm(f"This will remove all {what} that no container uses.", force=force):
        return 1
    return report("volume prune", volumes.prune(ctx, all=every, filters=filters))


def exists(ctx: Context, *, name: Volume) -> int:
    """Tell by the exit code whether a volume exists: 0 or 1."""
    from podpy.engine import volumes

    return 0 if volumes.exists(ctx, name) else 1
