"""What builds print, as text that cannot act on a terminal.

Commands of a build may write anything.  Colours pass where they are wanted
(``ESC [ … m`` changes nothing but colours); every other sequence is left out,
and what remains of control characters is shown as escapes.
"""

from __future__ import annotations

from podpy.cli.output import safe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_ESC = "\x1b"
_RESET = "\x1b[0m"
_STRINGS = "]PX^_"  # OSC, DCS, SOS, PM, APC: text up to BEL or ESC \


def line_of(data: bytes, *, colours: bool = False) -> str:
    """One line of a command's output; of a line that was overwritten (``\\r``) its last state."""
    text = data.decode("utf-8", "backslashreplace").rstrip("\r")
    text = text.rpartition("\r")[2]
    if _ESC not in text:
        return safe(text, "\t")
    parts: list[str] = []
    coloured = False
    for part, is_colour in _parts(text):
        if not is_colour:
            parts.append(safe(part, "\t"))
        elif colours:
            parts.append(part)
            coloured = True
    return "".join(parts) + (_RESET if coloured else "")


def lines_of(lines: Sequence[bytes], *, colours: bool = False) -> list[str]:
    """Many lines as :func:`line_of` shows each; most output needs but one look at all of it."""
    text = b"\n".join(lines).decode("utf-8", "backslashreplace")
    if text.replace("\n", "").replace("\t", "").isprintable():
        return text.split("\n") if lines else []
    return [line_of(line, colours=colours) for line in lines]


def _parts(text: str) -> list[tuple[str, bool]]:
    """The text between escape sequences, and the sequences that set colours (True)."""
    found: list[tuple[str, bool]] = []
    position = 0
    while True:
        start = text.find(_ESC, position)
        if start < 0:
            found.append((text[position:], False))
            return found
        found.append((text[position:start], False))
        position = _end_of_sequence(text, start)
        sequence = text[start:position]
        if sequence[1:2] == "[" and sequence[-1] == "m" and _is_numbers(sequence[2:-1]):
            found.append((sequence, True))


def _is_numbers(text: str) -> bool:
    return not text.strip("0123456789;:")


def _end_of_sequence(text: str, start: int) -> int:
    """The position after an escape sequence (ECMA-48, 5.4 and 5.6)."""
    kind = text[start + 1 : start + 2]
    position = start + 2
    if kind == "[":
        while position < len(text) and "\x20" <= text[position] <= "\x3f":
            position += 1
        return min(position + 1, len(text))
    if kind and kind in _STRINGS:
        while position < len(text):
            if text[position] == "\a":
                return position + 1
            if text.startswith("\x1b\\", position):
                return position + 2
            position += 1
        return position
    while (
        position <= len(text)
        and text[position - 1 : position]
        and ("\x20" <= text[position - 1] <= "\x2f")
    ):
        position += 1
    return min(position, len(text))


def one_line(text: str) -> str:
    """A title: white space runs become one space, nothing else is changed but made safe."""
    return safe(" ".join(text.split()))


def columns(text: str) -> int:
    """How many columns of a terminal a text without control characters takes."""
    if text.isascii():
        return len(text)
    return sum(_width(character) for character in text)


def _width(character: str) -> int:
    import unicodedata

    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut(text: str, width: int) -> str:
    """As much of a text as fits into ``width`` columns."""
    if columns(text) <= width:
        return text
    taken = 0
    for position, character in enumerate(text):
        taken += 1 if character.isascii() else _width(character)
        if taken > width:
            return text[:position]
    return text


def seconds(value: float) -> str:
    """Seconds of a log line, with as many digits as BuildKit shows: ``0.123``, ``12.34``."""
    digits = 3 if value < 10 else 2 if value < 100 else 1
    return f"{value:.{digits}f}"


def amount(current: int, total: int) -> str:
    """``1.20MB / 3.40MB``, ``1.20MB`` when nobody knows of how much, nothing for nothing."""
    if total:
        return f"{_bytes(current)} / {_bytes(total)}"
    return _bytes(current) if current else ""


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f}{unit}" if unit == "B" else f"{count:.2f}{unit}"
        count /= 1000
    return f"{count:.2f}TB"


def base64(data: bytes | str) -> str:
    """Bytes as JSON documents of builds hold them."""
    import binascii

    raw = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
    return binascii.b2a_base64(raw, newline=False).decode("ascii")
