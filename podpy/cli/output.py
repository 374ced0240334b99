"""Everything podpy prints: lines, tables, JSON, Go templates, sizes and ages.

Names, labels and whatever else strangers may have written goes through
:func:`safe`, so that no escape sequence of an image reaches the terminal.
"""

from __future__ import annotations

import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

warnings = True
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")
_GAP = 3
_NARROWEST = 7


def safe(text: str, keep: str = "") -> str:
    """``text`` with control characters as escapes (``\\x1b``), but for those in ``keep``."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or character in keep else _escape(character)
        for character in text
    )


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def line(text: str = "") -> None:
    """One line on standard output: ids, names, whatever scripts read."""
    sys.stdout.write(safe(text, "\t\n") + "\n")


def note(text: str) -> None:
    """One line on standard error: warnings and progress."""
    sys.stdout.flush()
    sys.stderr.write(safe(text, "\t\n") + "\n")
    sys.stderr.flush()


def warning(text: str) -> None:
    """What went right but not as well as it could; ``--log-level=error`` hides it."""
    if warnings:
        note(f"warning: {text}")


def error(operation: str, message: str, hint: str = "") -> None:
    """An error as podpy prints errors: ``Error: <operation> <object>: <cause>``, then a hint."""
    subject, colon, _ = message.partition(": ")
    if operation and not message.startswith((f"{operation} ", f"{operation}:")):
        joint = " " if colon and " " not in subject else ": "
        message = operation + joint + message
    note(f"Error: {message}")
    if hint:
        note(f"hint: {hint}")


def _dumps(value: Any) -> str:
    from podpy import files

    return files.dumps(value)


def document(value: Any) -> None:
    """Pretty JSON, as ``inspect`` prints it."""
    line(_json_safe(pretty(value)))


def pretty(value: Any, indent: str = "") -> str:
    """JSON with four spaces per level; the C encoder of the standard library knows no indents."""
    inner = indent + "    "
    if isinstance(value, dict) and value:
        parts = [f"{_dumps(str(key))}: {pretty(item, inner)}" for key, item in value.items()]
        brackets = "{}"
    elif isinstance(value, (list, tuple)) and value:
        parts = [pretty(item, inner) for item in value]
        brackets = "[]"
    else:
        return _dumps(value)
    body = (",\n" + inner).join(parts)
    return f"{brackets[0]}\n{inner}{body}\n{indent}{brackets[1]}"


def _json_safe(text: str) -> str:
    """JSON text without raw control characters beyond ASCII's, which JSON does not escape."""
    if text.isprintable():
        return text
    return "".join(
        c
        if c.isprintable() or c in " \n"
        else f"\\u{ord(c):04x}"
        if ord(c) < 0x10000
        else _escape(c)
        for c in text
    )


def tree(value: dict[str, Any], indent: str = "") -> None:
    """Nested maps and lists as indented lines, for people."""
    for key, item in value.items():
        if isinstance(item, dict) and item:
            line(f"{indent}{key}:")
            tree(item, indent + "  ")
        elif isinstance(item, (list, tuple)) and item:
            line(f"{indent}{key}:")
            for each in item:
                line(f"{indent}- {each}")
        else:
            plain = item if isinstance(item, str) else _dumps(item)
            line(f"{indent}{key}: {plain}".rstrip())


# --- tables ------------------------------------------------------------------


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns aligned to the widest cell; no headings when ``headings`` is empty."""
    lines = [tuple(headings)] if headings else []
    lines += [tuple(safe(cell) for cell in row) for row in rows]
    _write(lines)


def _write(lines: Sequence[Sequence[str]]) -> None:
    if not lines:
        return
    columns = max(len(cells) for cells in lines)
    widths = [
        max(_NARROWEST, *(len(cells[column]) for cells in lines if column < len(cells)))
        for column in range(columns)
    ]
    for cells in lines:
        padded = [cell.ljust(width + _GAP) for cell, width in zip(cells[:-1], widths)]
        sys.stdout.write("".join((*padded, cells[-1])) + "\n")


class Listing:
    """How one kind of object is listed: its fields, their headings, what JSON shows."""

    __slots__ = ("fields", "headings", "shown")

    def __init__(
        self,
        fields: Mapping[str, Callable[..., Any]],
        headings: Mapping[str, str],
        shown: Sequence[str],
    ) -> None:
        self.fields = fields
        self.headings = headings
        self.shown = shown

    def print(
        self,
        items: Sequence[Any],
        columns: Sequence[str],
        format_: str = "",
        *,
        headings: bool = True,
    ) -> None:
        """Print ``items`` as a table of ``columns``, or as ``--format`` says."""
        if format_ in ("", "table"):
            self._table(items, columns, headings)
        elif format_ == "json":
            for item in items:
                line(_json_safe(_dumps({n: self.fields[n](item) for n in self.shown})))
        else:
            self._template(items, format_, headings)

    def _table(self, items: Sequence[Any], columns: Sequence[str], headings: bool) -> None:
        fields = [self.fields[name] for name in columns]
        table(
            [self.heading(name) for name in columns] if headings else (),
            ([str(field(item)) for field in fields] for item in items),
        )

    def heading(self, name: str) -> str:
        return self.headings.get(name) or _words(name).upper()

    def _template(self, items: Sequence[Any], format_: str, headings: bool) -> None:
        from podpy.cli import evaluate, template, values

        text = unescaped(format_)
        aligned = text.startswith("table ")
        tree = template.parse(text[len("table ") :].lstrip() if aligned else text)
        views = [values.View(item, self.fields, self.shown) for item in items]
        if not aligned:
            for view in views:
                line(evaluate.render(tree, view))
            return
        names = {name: self.heading(name) for name in self.fields}
        titles = {name: _heading_field(text) for name, text in names.items()}
        rows = [values.View(None, titles)] if headings else []
        _write([tuple(safe(evaluate.render(tree, row), "\t").split("\t")) for row in rows + views])


def _heading_field(text: str) -> Callable[..., str]:
    return lambda _item, argument="": argument or text


def _words(name: str) -> str:
    """``CreatedAt`` → ``Created At``."""
    out = ""
    for position, character in enumerate(name):
        if position and character.isupper() and not name[position - 1].isupper():
            out += " "
        out += character
    return out


def unescaped(format_: str) -> str:
    """``\\t`` and ``\\n`` as shells pass them on, two characters each."""
    return format_.replace("\\t", "\t").replace("\\n", "\n")


def formatted(values: Sequence[Any], format_: str) -> None:
    """Objects as ``--format`` says, a line each: ``json`` or a template."""
    if format_ == "json":
        for value in values:
            line(_json_safe(_dumps(value)))
        return
    from podpy.cli import evaluate, template

    tree = template.parse(unescaped(format_))
    for value in values:
        line(evaluate.render(tree, value))


# --- sizes and times ---------------------------------------------------------


def size(count: float) -> str:
    """Bytes in decimal units with three digits, as docker prints them: ``7.05MB``."""
    unit = 0
    while count >= 1000 and unit < len(_UNITS) - 1:
        count /= 1000
        unit += 1
    return f"{count:.3g}{_UNITS[unit]}"


def duration(seconds: float) -> str:
    """A length of time in words: ``3 seconds``, ``About an hour``, ``2 weeks``."""
    if seconds < 1:
        return "Less than a second"
    if seconds < 60:
        return "1 second" if seconds < 2 else f"{int(seconds)} seconds"
    minutes = int(seconds / 60)
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
    if hours < 48:
        return "About an hour" if hours == 1 else f"{hours} hours"
    for limit, length, unit in ((14, 24, "days"), (60, 24 * 7, "weeks"), (730, 24 * 30, "months")):
        if hours < 24 * limit:
            return f"{hours // length} {unit}"
    return f"{int(seconds / 3600) // 24 // 365} years"


def ago(when: float, now: float | None = None) -> str:
    """``2 minutes ago``; ``N/A`` for a time that never was."""
    if not when:
        return "N/A"
    return duration((time.time() if now is None else now) - when) + " ago"


def timestamp(when: float) -> str:
    """Local time as docker's ``CreatedAt``: ``2026-01-31 13:45:00 +0100 CET``."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(when)) if when else ""


def rfc3339(when: float) -> str:
    """UTC with nanoseconds, as in ``inspect``; the zero time of Go for one that never was."""
    if not when:
        return "0001-01-01T00:00:00Z"
    whole = int(when)
    return (
        time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
        + f".{int((when - whole) * 1e9):09d}Z"
    )
