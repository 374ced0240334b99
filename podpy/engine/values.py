"""The small languages of option values: sizes, times, booleans, key=value lists.

Each function takes the option's name for its errors.  Pure, but for
:func:`lines`, which reads a file that the user named.
"""

from __future__ import annotations

import time

from podpy import files
from podpy.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_TRUE = ("true", "t", "1", "yes", "on")
_FALSE = ("false", "f", "0", "no", "off")


def size(text: str, option: str) -> int:
    """Bytes: ``64m``, ``1.5GiB``, ``1024``; units are powers of 1024 as docker has them."""
    lower = text.strip().lower()
    digits = lower.rstrip("abcdefghijklmnopqrstuvwxyz ")
    unit = lower[len(digits) :].strip()
    for suffix in ("ib", "b"):
        if len(unit) > len(suffix) and unit.endswith(suffix):
            unit = unit[: -len(suffix)]
            break
    if unit not in _UNITS or not _is_decimal(digits):
        raise UsageError(
            f"{option}: invalid size {text!r}", hint="a number and b, k, m, g or t: 64m"
        )
    return int(float(digits) * _UNITS[unit])


def decimal_size(text: str, option: str) -> int:
    """Bytes with units that are powers of 1000, as docker reads the size of logs."""
    lower = text.strip().lower()
    digits = lower.rstrip("abcdefghijklmnopqrstuvwxyz ")
    unit = lower[len(digits) :].strip()
    power = "bkmgtp".find(unit[:1] or "b")
    if not _is_decimal(digits) or power < 0 or unit[1:] not in ("", "b"):
        raise UsageError(
            f"{option}: invalid size {text!r}", hint="a number and b, k, m, g or t: 10m"
        )
    return int(float(digits) * 1000**power)


def show_decimal_size(size: int) -> str:
    """``3.045MB``: four digits and a decimal unit, as docker writes sizes."""
    value, units = float(size), ["B", "kB", "MB", "GB", "TB", "PB"]
    while value >= 1000 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.4g}{units[0]}"


def _is_decimal(text: str) -> bool:
    whole, _, fraction = text.partition(".")
    return text.isascii() and (whole + fraction).isdigit()


def integer(text: str, option: str, *, lowest: int = 0, highest: int = 2**31 - 1) -> int:
    """A whole number between ``lowest`` and ``highest``."""
    digits = text[1:] if text.startswith("-") else text
    if not (digits.isascii() and digits.isdigit()) or not lowest <= int(text) <= highest:
        raise UsageError(f"{option}: invalid number {text!r}", hint=f"{lowest} … {highest}")
    return int(text)


def duration(text: str, option: str) -> float:
    """Seconds of ``90s``, ``1h30m``, ``250ms`` (Go's notation) or of a bare number."""
    rest, total = text.strip(), 0.0
    if _is_decimal(rest):
        return float(rest)
    wrong = UsageError(f"{option}: invalid duration {text!r}", hint="for example 1h30m")
    if not rest:
        raise wrong
    while rest:
        digits = _leading_number(rest)
        rest = rest[len(digits) :]
        unit = next((u for u in ("ns", "us", "µs", "ms", "s", "m", "h") if rest.startswith(u)), "")
        if not unit or not _is_decimal(digits):
            raise wrong
        total += float(digits) * _SECONDS[unit]
        rest = rest[len(unit) :]
    return total


def _leading_number(text: str) -> str:
    length = 0
    while length < len(text) and (text[length].isdigit() or text[length] == "."):
        length += 1
    return text[:length]


def moment(text: str, option: str, now: float) -> float:
    """An instant as seconds since the epoch: that number, an RFC 3339 time, or ``10m`` (ago).

    ``-10m`` is in the future.
    """
    if _is_decimal(text):
        return float(text)
    if len(text) >= len("2006-01-02") and text[4:5] == "-":
        import datetime

        try:
            parsed = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
        except ValueError:
            raise UsageError(f"{option}: invalid time {text!r}") from None
        return parsed.timestamp()
    if text.startswith("-"):
        return now + duration(text[1:], option)
    return now - duration(text, option)


def boolean(text: str, option: str) -> bool:
    lower = text.lower()
    if lower in _TRUE:
        return True
    if lower in _FALSE:
        return False
    raise UsageError(f"{option}: {text!r} is neither true nor false")


def pairs(texts: Iterable[str], option: str, *, bare: bool = False) -> dict[str, str]:
    """``key=value`` texts as a map; ``bare`` lets a key stand alone, with an empty value."""
    found: dict[str, str] = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not key or not (separator or bare):
            raise UsageError(f"{option}: {text!r} is not key=value")
        found[key] = value
    return found


def lines(path: str, option: str) -> Iterator[str]:
    """The lines of an environment or label file; comments and empty lines are left out."""
    try:
        text = files.read_bytes(path).decode("utf-8")
    except OSError as error:
        raise UsageError(f"{option}: {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{option}: {path}: is not UTF-8 text") from None
    for line in text.removeprefix("\ufeff").splitlines():
        stripped = line.lstrip()
        if stripped and not stripped.startswith("#"):
            yield stripped


def filters(texts: Iterable[str], known: Iterable[str]) -> dict[str, list[str]]:
    """``--filter`` texts by key: different keys must all match, values of one key any."""
    allowed = tuple(known)
    found: dict[str, list[str]] = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator:
            raise UsageError(f"--filter: {text!r} is not key=value")
        if key not in allowed:
            raise UsageError(
                f"--filter: invalid filter {key!r}", hint=f"known: {', '.join(sorted(allowed))}"
            )
        found.setdefault(key, []).append(value)
    return found


def label_matches(labels: dict[str, str], wanted: str) -> bool:
    """``key`` is there, or ``key=value`` is there with that value."""
    key, separator, value = wanted.partition("=")
    return key in labels and (not separator or labels[key] == value)


def instant(seconds: float) -> str:
    """RFC 3339 in UTC; Go's zero time for what never happened."""
    if not seconds:
        return "0001-01-01T00:00:00Z"
    whole, fraction = divmod(seconds, 1)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
    return f"{text}.{int(fraction * 1e6):06}000Z"
