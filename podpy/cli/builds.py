"""``build``, and the verbs over what builds keep."""

from __future__ import annotations

import os

from podpy.cli import output
from podpy.cli.outcomes import confirm, report_prune
from podpy.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from podpy.cli import options as opt
    from podpy.engine.build_options import BuildOptions
    from podpy.engine.build_pruning import Kept
    from podpy.engine.context import Context


def build(ctx: Context, **given: Any) -> int:
    """Build an image by the instructions of a Dockerfile."""
    from podpy.engine import build_refusals, build_request
    from podpy.engine.build_options import BuildOptions

    options = BuildOptions(**given)
    build_refusals.check(options)
    method, as_json = build_request.call(options)
    if method != "build":
        from podpy.cli import build_calls

        return build_calls.answer(ctx, options, method, as_json=as_json)
    return _build(ctx, options)


def _build(ctx: Context, options: BuildOptions) -> int:
    from podpy.cli import build_progress
    from podpy.cli.ending import Orderly
    from podpy.engine import build_outputs, builds

    outputs = build_outputs.outputs(options)
    ids = {options.iidfile: "sha256:", options.iidfile_raw: ""}
    for path in filter(None, ids):
        if not any(each.kind == "image" for each in outputs):
            raise UsageError("--iidfile: no image is stored, and so has no id", hint="add --load")
        _remove_stale(path, "--iidfile")
    if options.metadata_file:
        _remove_stale(options.metadata_file, "--metadata-file")
    mode = build_progress.mode(options.progress, quiet=options.quiet, to_file=bool(options.logfile))
    view = build_progress.shown(mode, options.logfile, _logged_platforms(options))
    with Orderly(), view:
        made = builds.build(ctx, options, view)
    for path, prefix in ids.items():
        if path:
            _write(path, f"{prefix}{made.id}")
    if options.metadata_file:
        _write(options.metadata_file, output.pretty(made.metadata) + "\n")
    if made.id and not any(each.destination == "-" for each in outputs):
        output.line(f"sha256:{made.id}" if mode == "quiet" else made.id)
    return 0


def _logged_platforms(options: BuildOptions) -> tuple[str, ...]:
    """Those that get a log of their own."""
    if not options.log_split_by_platform:
        return ()
    from podpy.engine import build_request, platforms

    wanted = build_request.wanted_platforms(options, os.environ) or (platforms.host(),)
    return tuple(str(platform) for platform in wanted)


def _remove_stale(path: str, option: str) -> None:
    """A build that fails leaves nothing of an earlier one; one that could not say fails at once."""
    directory = os.path.dirname(path) or "."
    if not os.path.isdir(directory):
        raise UsageError(f"{option} {path}: no such directory")
    if not os.access(path if os.path.exists(path) else directory, os.W_OK):
        raise UsageError(f"{option} {path}: permission denied")
    if os.path.isfile(path) and not os.path.islink(path):
        os.unlink(path)


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def prune(
    ctx: Context,
    *,
    force: opt.NoQuestion = False,
    every: opt.AllCache = False,
    filters: opt.LongFilters = (),
    keep: opt.KeepStorage = "",
    verbose: opt.VerboseLong = False,
    builder: opt.Builder = "",
) -> int:
    """Remove what builds keep: results of steps, and cache mounts."""
    from podpy.engine import build_pruning, build_refusals

    build_refusals.check_builder(builder)
    what = "all build cache" if every else "all build cache that no image shares"
    if not confirm(f"This will remove {what}.", force=force):
        return 1
    known = {kept.id: kept for kept in build_pruning.listed(ctx)} if verbose else {}
    outcomes = build_pruning.prune(ctx, all=every, filters=filters, keep=keep)
    for outcome in outcomes:
        if outcome.name in known:
            _describe(known[outcome.name])
    return report_prune("builder prune", "Deleted build cache objects:", outcomes)


def du(
    ctx: Context,
    *,
    filters: opt.LongFilters = (),
    verbose: opt.VerboseLong = False,
    format_: opt.Format = "",
    builder: opt.Builder = "",
) -> None:
    """Show what builds keep and how much room it takes."""
    from podpy.engine import build_pruning, build_refusals

    build_refusals.check_builder(builder)
    found = build_pruning.listed(ctx, filters)
    if verbose and not format_:
        for kept in found:
            _describe(kept)
    else:
        listing = output.Listing(FIELDS, {"LastUsed": "LAST ACCESSED"}, tuple(FIELDS))
        listing.print(found, ("ID", "Reclaimable", "Size", "LastUsed"), format_)
    if not format_:
        _totals(found)


FIELDS: Mapping[str, Any] = {
    "ID": lambda kept: kept.id,
    "Reclaimable": lambda kept: "true",
    "Size": lambda kept: output.size(kept.size) + ("*" if kept.shared else ""),
    "LastUsed": lambda kept: output.ago(kept.used),
    "CreatedAt": lambda kept: output.timestamp(kept.created),
    "Description": lambda kept: kept.description,
    "Type": lambda kept: kept.kind,
    "Shared": lambda kept: kept.shared,
    "Mutable": lambda kept: kept.mount is not None,
}


def _describe(kept: Kept) -> None:
    """``du --verbose``: a block for each, as buildx prints it."""
    lines = (
        ("ID", kept.id),
        ("Created at", output.timestamp(kept.created)),
        ("Mutable", str(kept.mount is not None).lower()),
        ("Reclaimable", "true"),
        ("Shared", str(kept.shared).lower()),
        ("Size", output.size(kept.size)),
        ("Description", kept.description),
        ("Last used", output.ago(kept.used)),
        ("Type", kept.kind),
    )
    for name, text in lines:
        output.line(f"{name + ':':<16}{text}")
    output.line()


def _totals(found: Iterable[Kept]) -> None:
    shared = sum(kept.size for kept in found if kept.shared)
    private = sum(kept.size for kept in found if not kept.shared)
    if shared:
        output.line(f"{'Shared:':<16}{output.size(shared)}")
        output.line(f"{'Private:':<16}{output.size(private)}")
    output.line(f"{'Reclaimable:':<16}{output.size(private)}")
    output.line(f"{'Total:':<16}{output.size(shared + private)}")
