"""``--chmod``: a file's new mode, octal or in the words of chmod(1).

``u=rwX,go=rX``, ``+x``, ``g=u``: clauses of *who*, *operator* and *what*, applied
in their order to each file's own mode.  Without *who* a clause is about
everybody: a build has no umask.
"""

from __future__ import annotations

from podpy.build.diagnostics import Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_SHIFTS = {"u": 6, "g": 3, "o": 0}
_SPECIAL = {"u": 0o4000, "g": 0o2000, "o": 0o1000}
_BITS = {"r": 4, "w": 2, "x": 1}
_OPERATORS = "+-="
_LARGEST = 0o7777


def parse(text: str) -> Callable[[int, bool], int]:
    """What makes of (mode, is a directory) the new mode; :class:`Problem` when malformed."""
    if text.isdigit() and text.isascii():
        try:
            mode = int(text, 8)
        except ValueError:
            mode = -1
        if not 0 <= mode <= _LARGEST:
            raise Problem(f"--chmod={text}: not an octal mode from 0 to 7777", at=text)
        return lambda _mode, _is_directory: mode
    actions = [action for clause in text.split(",") for action in _clause(clause, text)]

    def apply(mode: int, is_directory: bool) -> int:
        for who, operator, what in actions:
            mode = _apply(mode, is_directory, who, operator, what)
        return mode

    return apply


def _clause(clause: str, text: str) -> list[tuple[str, str, str]]:
    """``who`` and the actions of one clause: ``ug+r-x`` has two."""
    at = 0
    while at < len(clause) and clause[at] in "ugoa":
        at += 1
    who = clause[:at]
    if not who or "a" in who:
        who = "ugo"
    actions = []
    while at < len(clause) and clause[at] in _OPERATORS:
        operator, at, start = clause[at], at + 1, at + 1
        while at < len(clause) and clause[at] not in _OPERATORS:
            at += 1
        what = clause[start:at]
        if not (what in _SHIFTS or set(what) <= set("rwxXst")):
            raise _malformed(text)
        actions.append((who, operator, what))
    if not actions or at < len(clause):
        raise _malformed(text)
    return actions


def _malformed(text: str) -> Problem:
    return Problem(
        f"--chmod={text}: neither an octal mode nor one of chmod(1), such as u=rwX,go=rX", at=text
    )


def _apply(mode: int, is_directory: bool, who: str, operator: str, what: str) -> int:
    changed = reach = 0
    for one in who:
        shift = _SHIFTS[one]
        reach |= 7 << shift
        changed |= _bits(mode, is_directory, what) << shift
        if one in "ug":
            reach |= _SPECIAL[one]
            changed |= _SPECIAL[one] if "s" in what else 0
    if "o" in who:
        reach |= _SPECIAL["o"]
        changed |= _SPECIAL["o"] if "t" in what else 0
    if operator == "+":
        return mode | changed
    if operator == "-":
        return mode & ~changed
    return mode & ~reach | changed


def _bits(mode: int, is_directory: bool, what: str) -> int:
    """The three bits that ``what`` stands for in a file of this mode."""
    if what in _SHIFTS:
        return mode >> _SHIFTS[what] & 7
    bits = 0
    for letter in what:
        bits |= _BITS.get(letter, 0)
    if "X" in what and (is_directory or mode & 0o111):
        bits |= 1
    return bits
