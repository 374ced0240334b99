"""``logs``."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podpy.cli.options import (
        Color, Containers, Follow, Names, Since, TailShort, Timestamps, Until,
    )  # fmt: skip
    from podpy.engine.context import Context


def logs(
    ctx: Context,
    *,
    names: Containers,
    follow: Follow = False,
    since: Since = "",
    until: Until = "",
    tail: TailShort = "",
    timestamps: Timestamps = False,
    show_names: Names = False,
    color: Color = False,
) -> None:
    """Show what containers have printed."""
    from podpy.engine import streams

    options = streams.LogOptions(
        follow=follow, since=since, until=until, tail=tail, timestamps=timestamps,
        names=show_names, color=color,
    )  # fmt: skip
    streams.logs(ctx, names, options)
