"""``build --check`` and ``--call``: what a Dockerfile says about itself, without building it."""

from __future__ import annotations

from podpy.cli import output
from podpy.cli.build_steps import excerpt
from podpy.cli.build_text import base64
from podpy.errors import BuildError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from podpy.build.diagnostics import LintWarning, Location
    from podpy.build.dockerfile import Dockerfile
    from podpy.engine.build_calls import Argument, Checked, Mounted, Outline, Target
    from podpy.engine.build_options import BuildOptions
    from podpy.engine.context import Context

METHODS = (
    ("check", "Look for mistakes in a Dockerfile"),
    ("outline", "List all parameters that the build of a target takes"),
    ("targets", "List all targets of a Dockerfile"),
    ("subrequests.describe", "List these methods"),
)
_VERSION = "1.0.0"


def answer(ctx: Context, options: BuildOptions, method: str, *, as_json: bool) -> int:
    """Print what a method finds; the exit code."""
    from podpy.engine import build_calls

    if method == "check":
        return _show_check(build_calls.check(ctx, options), as_json=as_json)
    if method == "outline":
        _show_outline(build_calls.outline(ctx, options), as_json=as_json)
    elif method == "targets":
        _show_targets(*build_calls.targets(ctx, options), as_json=as_json)
    else:
        _show_methods(as_json=as_json)
    return 0


# --- check -------------------------------------------------------------------


def _show_check(checked: Checked, *, as_json: bool) -> int:
    """docker's exit code: 1 when there is anything to tell."""
    found, file = checked.warnings, checked.dockerfile
    if as_json:
        warnings = [_warning(warning) for warning in found]
        output.document({"warnings": warnings, "sources": [_source(file)]})
    else:
        for warning in found:
            _tell(warning, file)
        count = len(found)
        many = f"{count} warning{'s have' if count > 1 else ' has'} been found!"
        output.line(f"Check complete, {many if found else 'no warnings found.'}")
    if found and checked.is_error:
        rules = ", ".join(sorted({warning.rule for warning in found}))
        raise BuildError(f"{file.name}: lint violation found for rules: {rules}")
    return 1 if found else 0


def _tell(warning: LintWarning, file: Dockerfile) -> None:
    url = f" - {warning.url}" if warning.url else ""
    output.line(f"WARNING: {warning.rule}{url}")
    if warning.description:
        output.line(f"{warning.description[0].upper()}{warning.description[1:]}")
    output.line(warning.message)
    for line in excerpt(file.name, file.lines, warning.location.first, warning.location.last):
        output.line(line)
    output.line()


def _warning(warning: LintWarning) -> dict[str, Any]:
    return {
        "ruleName": warning.rule,
        "description": warning.description,
        "url": warning.url,
        "detail": warning.message,
        "location": _location(warning.location),
    }


def _location(place: Location) -> dict[str, Any]:
    lines = {"start": {"line": place.first}, "end": {"line": place.last}}
    return {"sourceIndex": 0, "ranges": [lines]}


def _source(file: Dockerfile) -> dict[str, str]:
    data = base64("\n".join(file.lines) + "\n")
    return {"fileName": file.name, "language": "Dockerfile", "data": data}


# --- outline and targets -----------------------------------------------------


def _show_outline(found: Outline, *, as_json: bool) -> None:
    if as_json:
        output.document(_outline(found))
        return
    output.line(f"{'TARGET:':<13}{found.target.name}")
    if found.target.description:
        output.line(f"{'DESCRIPTION:':<13}{found.target.description}")
    if found.arguments:
        output.line()
        rows = [(each.name, each.value, each.description) for each in found.arguments]
        output.table(("BUILD ARG", "VALUE", "DESCRIPTION"), rows)
    for heading, mounts in (("SECRET", found.secrets), ("SSH", found.ssh)):
        if mounts:
            output.line()
            required = ((each.name, "true" if each.is_required else "") for each in mounts)
            output.table((heading, "REQUIRED"), required)
    if found.caches:
        output.line()
        output.table(("CACHE MOUNT",), [(each.name,) for each in found.caches])


def _outline(found: Outline) -> dict[str, Any]:
    def argument(each: Argument) -> dict[str, Any]:
        about = {"name": each.name, "description": each.description, "value": each.value}
        kept = {key: value for key, value in about.items() if value}
        return {**kept, "location": _location(each.location)}

    def mounted(each: Mounted) -> dict[str, Any]:
        required = {"required": True} if each.is_required else {}
        return {"name": each.name, **required, "location": _location(each.location)}

    parts = {
        "name": found.target.name,
        "description": found.target.description,
        "args": [argument(each) for each in found.arguments],
        "secrets": [mounted(each) for each in found.secrets],
        "ssh": [mounted(each) for each in found.ssh],
        "cache": [{"ID": each.name, "location": _location(each.location)} for each in found.caches],
        "sources": [_source(found.dockerfile)["data"]],
    }
    return {key: value for key, value in parts.items() if value}


def _show_targets(file: Dockerfile, found: Sequence[Target], *, as_json: bool) -> None:
    if as_json:
        listed = [_target(each) for each in found]
        output.document({"targets": listed, "sources": [_source(file)["data"]]})
        return
    rows = [
        (f"{each.name} (default)" if each.is_default else each.name, each.description)
        for each in found
    ]
    output.table(("TARGET", "DESCRIPTION"), rows)


def _target(each: Target) -> dict[str, Any]:
    about: dict[str, Any] = {
        "name": each.name,
        "default": each.is_default,
        "description": each.description,
        "base": each.base,
        "platform": each.platform,
    }
    kept = {key: value for key, value in about.items() if value}
    return {**kept, "location": _location(each.location)}


def _show_methods(*, as_json: bool) -> None:
    if as_json:
        output.document(
            [{"name": name, "version": _VERSION, "description": text} for name, text in METHODS]
        )
        return
    output.table(("NAME", "VERSION", "DESCRIPTION"), [(n, _VERSION, text) for n, text in METHODS])
