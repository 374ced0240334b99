"""Parse a well-formed command line from the compiled table, with nothing imported.

The table (:mod:`podpy.cli.table`, made by :mod:`podpy.cli.compile`) says for
each command which adapter it calls and which options and arguments it takes.
A line this parser does not understand is no error here: :class:`Refused` sends
it to the Typer application, which knows how to help and what to suggest.

Options are spelled as docker and podman spell them (Go's pflag): ``--name=x``,
``--name x``, ``-p8080:80``, ``-p=8080:80``, ``-it``, ``--rm=false``.

An option of the table is ``KINDdest,-s,--long``; the kind is ``!`` for a
switch, ``*`` for a text that may be repeated, ``?`` for one that may be left out
(``--pull`` or ``--pull=never``, never ``--pull never``), ``#`` for a whole number
and nothing for a text.  An argument is ``name`` (one), ``name?``, ``name*`` or ``name+``.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

KINDS = "!*?#"
ALONE = "true"  # the value of an option whose value was left out
TRUE = ("1", "t", "T", "true", "True", "TRUE")
FALSE = ("0", "f", "F", "false", "False", "FALSE")


class Refused(Exception):
    """Not a plain, well-formed command line."""


class Call:
    """What a command line asks for: ``module.function(**values)`` of the CLI's adapters."""

    __slots__ = ("context", "function", "module", "operation", "settings", "values")

    def __init__(
        self,
        operation: str,
        target: tuple[str, str, bool],
        values: dict[str, Any],
        settings: dict[str, Any],
    ) -> None:
        self.operation = operation
        self.module, self.function, self.context = target
        self.values = values
        self.settings = settings


def truth(text: str) -> bool:
    """The value of ``--switch=text``, as Go's ``strconv.ParseBool`` reads it."""
    if text in TRUE:
        return True
    if text in FALSE:
        return False
    raise ValueError(text)


def line(
    words: Sequence[str],
    *,
    settings: str,
    groups: Mapping[str, Mapping[str, int]],
    commands: Sequence[tuple[str, str, bool, bool, str, str]],
) -> Call:
    """The call that ``podpy WORDS...`` stands for; :class:`Refused` when it is not plain."""
    given, rest = _options(list(words), settings, interspersed=False)
    group, operation = groups[""], ""
    if len(rest) > 1 and rest[0] in groups:
        operation = rest.pop(0) + " "
        group = groups[operation[:-1]]
    if not rest or rest[0] not in group:
        raise Refused
    name = rest.pop(0)
    module, function, context, interspersed, options, arguments = commands[group[name]]
    values, rest = _options(rest, options, interspersed=interspersed)
    _arguments(rest, arguments, values)
    return Call(operation + name, (module, function, context), values, given)


def _options(
    words: list[str], text: str, *, interspersed: bool
) -> tuple[dict[str, Any], list[str]]:
    """Split words into the values of options and what is left over."""
    known: dict[str, tuple[str, str]] = {}
    for option in text.split():
        kind = option[0] if option[0] in KINDS else ""
        dest, *names = option[len(kind) :].split(",")
        for name in names:
            known[name] = (kind, dest)
    values: dict[str, Any] = {}
    rest: list[str] = []
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if word == "--":
            break
        if word[:1] != "-" or word == "-":
            if not interspersed:
                position -= 1
                break
            rest.append(word)
        elif word[:2] == "--":
            position = _long(word, words, position, known, values)
        else:
            position = _short(word, words, position, known, values)
    return values, rest + words[position:]


def _long(
    word: str,
    words: list[str],
    position: int,
    known: Mapping[str, tuple[str, str]],
    values: dict[str, Any],
) -> int:
    name, equals, value = word.partition("=")
    if name not in known:
        raise Refused
    kind, dest = known[name]
    if kind in ("!", "?"):
        _store(kind, dest, value if equals else ALONE, values)
        return position
    if not equals:
        if position >= len(words):
            raise Refused
        value = words[position]
        position += 1
    _store(kind, dest, value, values)
    return position


def _short(
    word: str,
    words: list[str],
    position: int,
    known: Mapping[str, tuple[str, str]],
    values: dict[str, Any],
) -> int:
    """One word of short options: ``-it``, ``-eA=b``, ``-e=A``, ``-d=false``, ``-itp 80:80``."""
    index = 1
    while index < len(word):
        option = known.get("-" + word[index])
        if option is None:
            raise Refused
        kind, dest = option
        index += 1
        attached = word[index:]
        if attached[:1] == "=" and len(attached) > 1:
            _store(kind, dest, attached[1:], values)
            return position
        if kind in ("!", "?"):
            _store(kind, dest, ALONE, values)
            continue
        if not attached:
            if position >= len(words):
                raise Refused
            attached = words[position]
            position += 1
        _store(kind, dest, attached, values)
        return position
    return position


def _store(kind: str, dest: str, value: str, values: dict[str, Any]) -> None:
    if kind == "*":
        values[dest] = (*values.get(dest, ()), value)
        return
    try:
        values[dest] = truth(value) if kind == "!" else int(value) if kind == "#" else value
    except ValueError:
        raise Refused from None


def _arguments(words: list[str], text: str, values: dict[str, Any]) -> None:
    """Give the words that are no options to the command's arguments, in order."""
    for argument in text.split():
        if argument[-1] in "*+":
            if argument[-1] == "+" and not words:
                raise Refused
            if words:
                values[argument[:-1]] = tuple(words)
            words = []
        elif words:
            values[argument.rstrip("?")] = words[0]
            words = words[1:]
        elif argument[-1] != "?":
            raise Refused
    if words:
        raise Refused
