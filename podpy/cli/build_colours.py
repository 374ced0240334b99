"""The colours of a build on a terminal, and what the environment says about them.

docker's variables: ``BUILDKIT_COLORS=run=green:error=255,0,0`` for each state
(run, cancel, warning, error), ``BUILDKIT_TTY_LOG_LINES`` for how much of a running
step's output is shown; ``NO_COLOR`` (no-color.org) turns colours off.
"""

from __future__ import annotations

import os

from podpy.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_NAMES = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
_USUAL = {"run": "blue", "cancel": "yellow", "warning": "yellow", "error": "red"}
_FAINT = "\x1b[2m"
_LINES = 6


def wanted() -> bool:
    """NO_COLOR: any value but the empty one turns colours off."""
    return not os.environ.get("NO_COLOR")


def palette(env: Mapping[str, str]) -> dict[str, str]:
    """The escape sequence that begins each state's colour."""
    chosen = dict(_USUAL)
    for part in filter(None, env.get("BUILDKIT_COLORS", "").split(":")):
        state, _, colour = part.partition("=")
        if state not in _USUAL:
            raise UsageError(
                f"BUILDKIT_COLORS: unknown state {state!r}", hint=f"known: {', '.join(_USUAL)}"
            )
        chosen[state] = colour
    return {"output": _FAINT} | {state: _sequence(colour) for state, colour in chosen.items()}


def _sequence(colour: str) -> str:
    """``blue``, ``light-blue`` or ``R,G,B``."""
    plain = colour.removeprefix("light-")
    if plain in _NAMES:
        first = 30 if plain == colour else 90
        return f"\x1b[{first + _NAMES.index(plain)}m"
    parts = colour.split(",")
    if len(parts) == 3 and all(part.isdigit() and int(part) < 256 for part in parts):
        return f"\x1b[38;2;{';'.join(parts)}m"
    raise UsageError(
        f"BUILDKIT_COLORS: unknown colour {colour!r}",
        hint=f"{', '.join(_NAMES)}, light-…, or three numbers: 255,128,0",
    )


def log_lines(env: Mapping[str, str]) -> int:
    """How many lines of a running step's output are shown."""
    text = env.get("BUILDKIT_TTY_LOG_LINES", "")
    if not text:
        return _LINES
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f"BUILDKIT_TTY_LOG_LINES: {text!r} is no number")
    return int(text)
