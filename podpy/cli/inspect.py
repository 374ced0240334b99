"""``inspect`` for every kind of object: a JSON array, or one line per object by a template."""

from __future__ import annotations

from podpy.cli import output
from podpy.errors import NotFound, PodpyError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from podpy.cli import options as opt
    from podpy.engine.context import Context

_KINDS = ("container", "image", "volume", "network")


def inspect(
    ctx: Context,
    *,
    names: opt.Objects,
    format_: opt.InspectFormat = "",
    kind: opt.Kind = "",
    size: opt.Size = False,
) -> int:
    """Show all that is known about containers, images, volumes or networks."""
    if kind not in ("", "all", *_KINDS):
        raise UsageError(f"--type {kind}: unknown type", hint=f"use one of: {', '.join(_KINDS)}")
    kinds = (kind,) if kind in _KINDS else _KINDS
    return _show(names, format_, lambda name: _find(ctx, name, kinds, size))


def container(
    ctx: Context, *, names: opt.Containers, format_: opt.InspectFormat = "", size: opt.Size = False
) -> int:
    """Show all that is known about containers."""
    return _show(names, format_, lambda name: _find(ctx, name, ("container",), size))


def image(ctx: Context, *, names: opt.Images, format_: opt.InspectFormat = "") -> int:
    """Show all that is known about images."""
    return _show(names, format_, lambda name: _find(ctx, name, ("image",), False))


def volume(ctx: Context, *, names: opt.Volumes, format_: opt.InspectFormat = "") -> int:
    """Show all that is known about volumes."""
    return _show(names, format_, lambda name: _find(ctx, name, ("volume",), False))


def network(
    ctx: Context,
    *,
    names: opt.Networks,
    format_: opt.InspectFormat = "",
    verbose: opt.VerboseTasks = False,
) -> int:
    """Show all that is known about networks."""
    del verbose  # tasks of services: there are none
    return _show(names, format_, lambda name: _find(ctx, name, ("network",), False))


def _find(ctx: Context, name: str, kinds: Sequence[str], size: bool) -> Any:
    missing: NotFound | None = None
    for kind in kinds:
        try:
            return _inspect(ctx, name, kind, size)
        except NotFound as error:
            missing = error if missing is None or len(kinds) == 1 else missing
    if missing is not None and len(kinds) == 1:
        raise missing
    raise NotFound(
        f"no such object: {name}", hint="`podpy ps -a` and `podpy images` list what is there"
    )


def _inspect(ctx: Context, name: str, kind: str, size: bool) -> Any:
    if kind == "container":
        from podpy.engine import inspect as containers

        return containers.container(ctx, name, size=size)
    if kind == "image":
        from podpy.engine import image_inspect

        return image_inspect.inspect(ctx, name)
    if kind == "network":
        from podpy.cli import networks

        return networks.inspected(ctx, name)
    from podpy.engine import volumes

    return volumes.inspect(ctx, name)


def _show(names: Sequence[str], format_: str, find: Callable[[str], Any]) -> int:
    """Print what was found even when something else was not, as docker and podman do."""
    found: list[Any] = []
    failures: list[PodpyError] = []
    for name in names:
        try:
            found.append(find(name))
        except PodpyError as error:
            failures.append(error)
    if format_ in ("", "json"):
        output.document([one.to_dict() if hasattr(one, "to_dict") else one for one in found])
    else:
        output.formatted(found, format_)
    for failure in failures[:-1]:
        output.error("inspect", failure.message, failure.hint)
    if failures:
        raise failures[-1]
    return 0
