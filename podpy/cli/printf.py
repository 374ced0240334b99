"""Go's ``printf`` verbs for templates: ``%s %q %v %d %x %X %o %b %c %t %f %e %g %T %%``."""

from __future__ import annotations

from podpy import files
from podpy.cli.values import show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


def printf(format_: str, values: Sequence[Any]) -> str:
    """Format as Go does: a wrong operand gives ``%!d(string=x)``, never an error."""
    out = ""
    left = list(values)
    position = 0
    while position < len(format_):
        percent = format_.find("%", position)
        if percent < 0:
            break
        out += format_[position:percent]
        flags, verb, position = _verb(format_, percent + 1, left)
        if verb == "%":
            out += "%"
        elif not verb:
            out += "%!(NOVERB)"
        elif not left:
            out += f"%!{verb}(MISSING)"
        else:
            out += _format(flags, verb, left.pop(0))
    out += format_[position:] if position < len(format_) else ""
    if left:
        extra = ", ".join(f"{_type(value)}={show(value)}" for value in left)
        out += f"%!(EXTRA {extra})"
    return out


def _verb(text: str, position: int, left: list[Any]) -> tuple[str, str, int]:
    """Flags with width and precision, the verb, and where the text goes on."""
    flags = ""
    while position < len(text) and text[position] in "+-# 0123456789.*":
        if text[position] == "*":
            flags += str(left.pop(0)) if left else ""
        else:
            flags += text[position]
        position += 1
    return flags, text[position : position + 1], position + 1


def _type(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    names = {str: "string", int: "int", float: "float64", type(None): "<nil>"}
    return names.get(type(value), type(value).__name__)


def _format(flags: str, verb: str, value: Any) -> str:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if verb in "sv":
        return _pad(flags, show(value))
    if verb == "q":
        return _pad(flags, files.dumps(show(value)))
    if verb == "T":
        return _pad(flags, _type(value))
    if verb == "t" and isinstance(value, bool):
        return _pad(flags, show(value))
    if verb in "xX" and isinstance(value, str):
        digits = value.encode("utf-8", "surrogateescape").hex()
        return _pad(flags, digits if verb == "x" else digits.upper())
    if verb in "doxXc" and isinstance(value, int) and number:
        return f"%{flags}{verb}" % value
    if verb == "b" and isinstance(value, int) and number:
        return _pad(flags, f"{value:b}")
    if verb in "feEgG" and isinstance(value, float):
        return f"%{flags}{verb}" % value
    return f"%!{verb}({_type(value)}={show(value)})"


def _pad(flags: str, text: str) -> str:
    """Width, ``-`` and precision, which Python's ``%s`` takes as Go's does."""
    return f"%{flags.lstrip('+#0')}s" % text if flags.strip("+#0 ") else text
