"""``logs``."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podpy.cli import options as opt
    from podpy.engine.context import Context


def logs(
    ctx: Context,
    *,
    names: opt.Containers,
    follow: opt.Follow = False,
    since: opt.Since = "",
    until: opt.Until = "",
    tail: opt.TailShort = "",
    timestamps: opt.Timestamps = False,
    show_names: opt.ShowNames = False,
    color: opt.Color = False,
) -> None:
    """Show what containers have printed."""
    from podpy.engine import streams

    options = streams.LogOptions(
        follow=follow, since=since, until=until, tail=tail, timestamps=timestamps,
        names=show_names, color=color,
    )  # fmt: skip
    streams.logs(ctx, names, options)
