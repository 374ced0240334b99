"""Signals by name and number, without the ``signal`` module (it costs an enum).

Names are those of signal(7); ``SIGRTMIN+3`` and ``SIGRTMAX-2`` are numbers too
(systemd in a container is stopped by the first).
"""

from __future__ import annotations

import _signal

from podpy.errors import UsageError

_LAST = int(_signal.NSIG) - 1

#: ``SIGTERM`` → 15 and so on; the aliases ``SIGCLD`` and ``SIGPOLL`` are in it.
NUMBERS: dict[str, int] = {
    name: int(getattr(_signal, name))
    for name in dir(_signal)
    if name.startswith("SIG") and name[3].isalpha() and name not in ("SIG_DFL", "SIG_IGN")
}
_SHADOWED = ("SIGCLD", "SIGPOLL", "SIGRTMIN", "SIGRTMAX")


def number(text: str) -> int:
    """``TERM``, ``sigterm``, ``15`` or ``RTMIN+3`` as a number; :class:`UsageError` otherwise.

    A dash before it is the ``kill`` command's and does not count.
    """
    bare = text.removeprefix("-")
    if bare.isascii() and bare.isdigit() and 0 < int(bare) <= _LAST:
        return int(bare)
    upper = bare.upper()
    name = upper if upper.startswith("SIG") else f"SIG{upper}"
    for anchor, sign in (("SIGRTMIN", "+"), ("SIGRTMAX", "-")):
        base, _, offset = name.partition(sign)
        if base == anchor and offset.isascii() and offset.isdigit():
            found = NUMBERS[anchor] + int(sign + offset)
            if NUMBERS["SIGRTMIN"] <= found <= NUMBERS["SIGRTMAX"]:
                return found
    if name in NUMBERS:
        return NUMBERS[name]
    raise UsageError(f"invalid signal: {text}", hint="`kill -l` lists their names")


def name(signal: int) -> str:
    """The name of a signal: ``SIGTERM``, ``SIGRTMIN+3``; the number where there is none."""
    for known, value in NUMBERS.items():
        if value == signal and known not in _SHADOWED:
            return known
    offset = signal - NUMBERS["SIGRTMIN"]
    if offset >= 0 and signal <= NUMBERS["SIGRTMAX"]:
        return f"SIGRTMIN+{offset}" if offset else "SIGRTMIN"
    return str(signal)
