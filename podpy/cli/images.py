"""Verbs over images in the store and over archives."""

from __future__ import annotations

import sys

from podpy.cli import output
from podpy.cli.outcomes import confirm, report, report_prune
from podpy.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from podpy.cli import options as opt
    from podpy.engine.context import Context

_SHORT = 12


def ls(
    ctx: Context,
    *,
    name: opt.Image = "",
    show_all: opt.ShowAllImages = False,
    digests: opt.Digests = False,
    filters: opt.Filters = (),
    format_: opt.Format = "",
    no_trunc: opt.NoTrunc = False,
    noheading: opt.NoHeadingShort = False,
    quiet: opt.Quiet = False,
    sort: opt.SortImages = "",
) -> None:
    """List images."""
    from podpy.engine import image_listing

    wanted = (*filters, f"reference={name}") if name else filters
    found = image_listing.list(ctx, all=show_all, filters=wanted, sort=sort)
    for problem in dict.fromkeys(image.problem for image in found if image.problem):
        output.warning(problem)
    shown = fields(no_trunc=no_trunc)
    if quiet and not format_:
        for identity in dict.fromkeys(shown["ID"](image) for image in found):
            output.line(identity)
        return
    digest = ("Digest",) if digests else ()
    columns = ("Repository", "Tag", *digest, "ID", "CreatedSince", "Size")
    output.Listing(shown, HEADINGS, SHOWN).print(found, columns, format_, headings=not noheading)


HEADINGS = {"ID": "IMAGE ID", "CreatedSince": "CREATED"}
SHOWN = (
    "Containers", "CreatedAt", "CreatedSince", "Digest", "ID", "Repository", "SharedSize", "Size",
    "Tag", "UniqueSize", "VirtualSize",
)  # fmt: skip


def fields(*, no_trunc: bool) -> Mapping[str, Callable[..., Any]]:
    """Every field of a listed image, docker's names and podman's."""

    def identity(image: Any) -> str:
        return f"sha256:{image.id}" if no_trunc else str(image.id[:_SHORT])

    return {
        "ID": identity,
        "Id": identity,
        "Repository": lambda image: image.repository or "<none>",
        "Tag": lambda image: image.tag or "<none>",
        "Digest": lambda image: image.digest or "<none>",
        "Created": lambda image: output.ago(image.created),
        "CreatedAt": lambda image: output.timestamp(image.created),
        "CreatedSince": lambda image: output.ago(image.created),
        "CreatedTime": lambda image: output.rfc3339(image.created),
        "Size": lambda image: output.size(image.size),
        "VirtualSize": lambda image: output.size(image.size),
        "UniqueSize": lambda _image: "N/A",
        "SharedSize": lambda _image: "N/A",
        "Containers": lambda _image: "N/A",
        "Dangling": lambda image: not image.repository,
        "Names": lambda image: list(image.names),
        "Labels": lambda image: dict(image.labels),
        "Label": lambda image, key: image.labels.get(key, ""),
    }


def rm(
    ctx: Context,
    *,
    names: opt.Images = (),
    force: opt.Force = False,
    every: opt.All = False,
    ignore: opt.Ignore = False,
    no_prune: opt.NoPrune = False,
) -> int:
    """Remove images from the store."""
    from podpy.engine import image_removal

    outcomes = image_removal.remove(
        ctx, names, force=force, all=every, ignore=ignore, prune=not no_prune
    )
    return report("rmi", outcomes, removal=True, force=force)


def tag(ctx: Context, *, name: opt.Image, new_names: opt.Names) -> None:
    """Give an image more names."""
    from podpy.engine import images

    images.tag(ctx, name, new_names)


def untag(ctx: Context, *, name: opt.Image, old_names: opt.Names = ()) -> None:
    """Take names from an image, all of them by default."""
    from podpy.engine import images

    images.untag(ctx, name, old_names)


def history(
    ctx: Context,
    *,
    name: opt.Image,
    format_: opt.Format = "",
    human: opt.Human = True,
    no_trunc: opt.NoTrunc = False,
    quiet: opt.Quiet = False,
) -> None:
    """Show the steps an image was made in."""
    from podpy.engine import image_inspect

    steps = image_inspect.history(ctx, name)
    shown = _history_fields(human=human, no_trunc=no_trunc)
    if quiet and not format_:
        for step in steps:
            output.line(shown["ID"](step))
        return
    columns = ("ID", "CreatedSince" if human else "CreatedAt", "CreatedBy", "Size", "Comment")
    headings = {"ID": "IMAGE", "CreatedSince": "CREATED", "CreatedAt": "CREATED"}
    listed = ("Comment", "CreatedAt", "CreatedBy", "CreatedSince", "ID", "Size")
    output.Listing(shown, headings, listed).print(steps, columns, format_)


def _history_fields(*, human: bool, no_trunc: bool) -> Mapping[str, Callable[..., Any]]:
    def identity(step: Any) -> str:
        if not step.id:
            return "<missing>"
        return f"sha256:{step.id}" if no_trunc else str(step.id[:_SHORT])

    def by(step: Any) -> str:
        text = " ".join(step.created_by.split())
        return text if no_trunc or len(text) <= 45 else text[:44] + "…"

    return {
        "ID": identity,
        "Created": lambda step: output.ago(step.created),
        "CreatedSince": lambda step: output.ago(step.created),
        "CreatedAt": lambda step: output.rfc3339(int(step.created)).replace(".000000000", ""),
        "CreatedBy": by,
        "Size": lambda step: output.size(step.size) if human else str(step.size),
        "Comment": lambda step: step.comment,
        "Tags": lambda step: list(step.tags),
    }


def load(
    ctx: Context, *, input_: opt.Input = "", quiet: opt.Silent = False, platform: opt.Platform = ""
) -> None:
    """Load images from an archive (docker-archive or oci-archive, compressed or not)."""
    from podpy.engine import archiving

    if not input_ and sys.stdin.isatty():
        raise UsageError(
            "cannot read from terminal: use command-line redirection or the --input flag"
        )
    for loaded in archiving.load(ctx, input_, platform=platform):
        for name in loaded.names:
            output.line(f"Loaded image: {name}")
        if not loaded.names:
            output.line(f"Loaded image ID: sha256:{loaded.id}")


def save(
    ctx: Context,
    *,
    names: opt.Images,
    output_: opt.Output = "",
    format_: opt.ArchiveFormat = "",
    quiet: opt.Silent = False,
) -> None:
    """Save images as an archive."""
    from podpy.engine import saving

    if output_ in ("", "-") and sys.stdout.isatty():
        raise UsageError(
            "refusing to write an archive to a terminal", hint="use --output, or redirect it"
        )
    saving.save(ctx, names, output_, format=format_)


def import_(
    ctx: Context,
    *,
    source: opt.ArchivePath,
    reference: opt.NewReference = "",
    change: opt.Change = (),
    message: opt.Message = "",
    quiet: opt.Silent = False,
    arch: opt.Arch = "",
    os_: opt.Os = "",
    variant: opt.Variant = "",
) -> None:
    """Make an image of a tar archive that holds a root file system."""
    from podpy.engine import archiving

    made = archiving.import_(
        ctx, source, reference, change=change, message=message, arch=arch, os=os_, variant=variant
    )
    output.line(f"sha256:{made}")


def exists(ctx: Context, *, name: opt.Image) -> int:
    """Tell by the exit code whether an image is in the store: 0 or 1."""
    from podpy.engine import images

    return 0 if images.exists(ctx, name) else 1


def prune(
    ctx: Context,
    *,
    force: opt.NoQuestion = False,
    every: opt.AllUnused = False,
    filters: opt.LongFilters = (),
) -> int:
    """Remove images that nothing uses."""
    from podpy.engine import image_removal

    what = "all images without a container" if every else "all dangling images"
    if not confirm(f"This will remove {what}.", force=force):
        return 1
    outcomes = image_removal.prune(ctx, all=every, filters=filters)
    return report_prune("prune", "Deleted Images:", outcomes)
