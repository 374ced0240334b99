"""Variables and quotes in the words of a Dockerfile.

The language knows ``$name``, ``${name}`` and the modifiers ``:-`` ``-`` ``:+``
``+`` ``:?`` ``?`` ``#`` ``##`` ``%`` ``%%`` ``/`` ``//``; their words may hold
variables again.  Single quotes keep everything, double quotes keep all but
variables, the escape character keeps the next character.
"""

from __future__ import annotations

from podpy.build.diagnostics import Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SPACES = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    chr(code) for code in range(0x2000, 0x200B)
)
_SPECIAL = "@*#?-$!"
_DEEPEST = 50
# Bytes that the substitutions of one text come to: no command takes a longer variable, and
# `ENV A=$A$A` doubles it with every line.
_MOST = 1 << 20


def expand(text: str, values: Mapping[str, str], *, escape: str = "\\") -> str:
    """``text`` as one word.  Raises :class:`Problem` for what is no substitution."""
    return Expander(values, escape=escape).word(text)


class Expander:
    """Expands texts with one set of variables and remembers which ones they named.

    ``used`` are the variables found, ``unset`` those not found and given no
    default; both in the order of their first use.
    """

    def __init__(self, values: Mapping[str, str], *, escape: str = "\\") -> None:
        self.values = values
        self.escape = escape
        self.used: dict[str, None] = {}
        self.unset: dict[str, None] = {}

    def word(self, text: str) -> str:
        """The text expanded, its quotes removed, blanks kept."""
        return _Scan(self, text, self.escape).until("")

    def words(self, text: str) -> tuple[str, ...]:
        """The words of the text; blanks that come from variables divide too, quoted ones do not."""
        return _Scan(self, text, self.escape).words()

    def document(self, text: str) -> str:
        """A heredoc: quotes mean nothing, and the escape character is always the backslash."""
        return _Scan(self, text, "\\", quotes=False).until("")

    def get(self, name: str) -> str | None:
        """The value, which is remembered as used."""
        value = self.values.get(name)
        if value is not None:
            self.used[name] = None
        return value


class _Scan:
    """One pass over a text."""

    def __init__(self, owner: Expander, text: str, escape: str, *, quotes: bool = True) -> None:
        self._owner = owner
        self._text = text
        self._escape = escape
        self._quotes = "'\"" if quotes else ""
        self._at = 0
        self._depth = 0
        self._grown = 0

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _next(self) -> str:
        character = self._peek()
        self._at += 1
        return character

    def _plain(self, special: str) -> str:
        """The characters up to the next of those."""
        start, end = self._at, len(self._text)
        while self._at < end and self._text[self._at] not in special:
            self._at += 1
        return self._text[start : self._at]

    def _problem(self, reason: str, start: int) -> Problem:
        return Problem(reason, at=self._text[start : self._at] or self._text[start:])

    def until(self, stop: str, *, raw: bool = False) -> str:
        """Everything up to ``stop`` (empty: the end), expanded.

        ``raw`` keeps escape characters: a pattern is coming that has its own use for them.
        """
        return "".join(part for part, _ in self._parts(stop, raw))

    def words(self) -> tuple[str, ...]:
        """The words of the whole text; blanks that are quoted or escaped divide nothing."""
        words = [""]
        for part, divides in self._parts("", raw=False):
            if not divides:
                words[-1] += part
                continue
            first, *others = "".join(" " if c in SPACES else c for c in part).split(" ")
            words[-1] += first
            words += others
        return tuple(word for word in words if word)

    def _parts(self, stop: str, raw: bool) -> Iterator[tuple[str, bool]]:
        """The text in parts, and whether blanks in the part divide words."""
        start = max(0, self._at - 1)
        special = f"${self._escape}{self._quotes}{stop}"
        while character := self._peek():
            if character == stop:
                self._at += 1
                return
            if character == "$":
                yield self._dollar(raw), True
            elif character in self._quotes:
                yield self._quoted(raw), False
            elif character == self._escape:
                # A lone escape character at the end is nothing.
                yield (self._next() + self._next())[0 if raw else 1 :], False
            else:
                yield self._plain(special), True
        if stop:
            raise self._problem(f"no closing {stop!r}", start)

    def _quoted(self, raw: bool) -> str:
        start = self._at
        quote = self._next()
        special = f'"${self._escape}' if quote == '"' else quote
        parts: list[str] = []
        while character := self._peek():
            if character == quote:
                self._at += 1
                return "".join(parts)
            if quote == '"' and character == "$":
                parts.append(self._dollar(raw))
            elif quote == '"' and character == self._escape:
                parts.append(self._escaped_in_quotes(raw))
            else:
                parts.append(self._plain(special))
        raise self._problem(f"no closing {quote}", start)

    def _escaped_in_quotes(self, raw: bool) -> str:
        """Between double quotes, only a quote, a dollar and the character itself are escaped."""
        escape = self._next()
        following = self._peek()
        if following == "":
            return escape if raw else ""
        if following in ('"', "$", escape):
            self._at += 1
            return escape + following if raw else following
        return escape + escape if raw else escape

    # --- substitutions ---

    def _dollar(self, raw: bool) -> str:
        start = self._at
        value = self._value_of_dollar(start)
        self._grown += len(value)
        if self._grown > _MOST:
            raise _too_much(self._text[start : self._at])
        return value

    def _value_of_dollar(self, start: int) -> str:
        self._at += 1
        if self._peek() != "{":
            name = self._name()
            return self._value(name) if name else "$"
        self._at += 1
        if self._peek() in ("", "{", "}", ":"):
            raise self._problem("bad substitution: no name after ${", start)
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._problem("substitutions nested too deeply", start)
        value = self._substitution(self._name(), start)
        self._depth -= 1
        return value

    def _name(self) -> str:
        """A name, or one digit string or special character, which stand for themselves."""
        start = self._at
        first = self._peek()
        if first and first in _SPECIAL:
            self._at += 1
        elif first.isdecimal():
            while self._peek().isdecimal():
                self._at += 1
        else:
            while (character := self._peek()) and (
                character.isalpha() or character.isdecimal() or character == "_"
            ):
                self._at += 1
        return self._text[start : self._at]

    def _value(self, name: str) -> str:
        value = self._owner.get(name)
        if value is None:
            self._owner.unset[name] = None
            return ""
        return value

    def _substitution(self, name: str, start: int) -> str:
        modifier = self._next()
        if modifier == "}":
            return self._value(name)
        if modifier == "":
            raise self._problem("no closing '}'", start)
        if modifier == ":":
            modifier += self._next()
        if modifier in (":-", "-", ":+", "+", ":?", "?"):
            return self._alternative(name, modifier, start)
        if modifier in ("#", "%"):
            return self._trimmed(name, modifier)
        if modifier == "/":
            return self._replaced(name)
        raise self._problem_of_modifier(modifier, start)

    def _problem_of_modifier(self, modifier: str, start: int) -> Problem:
        problem = self._problem(f"unsupported modifier {modifier!a} in a substitution", start)
        problem.hint = "the modifiers are :- - :+ + :? ? # ## % %% / //"
        return problem

    def _alternative(self, name: str, modifier: str, start: int) -> str:
        word = self.until("}")
        value = self._owner.get(name)
        missing = value is None or (modifier[0] == ":" and value == "")
        if modifier[-1] == "-":
            return word if missing else value or ""
        if modifier[-1] == "+":
            return "" if missing else word
        if missing:
            state = "unset" if value is None else "empty"
            raise self._problem(f"{name}: {word or f'must not be {state}'}", start)
        return value or ""

    def _trimmed(self, name: str, side: str) -> str:
        start = self._at - 1
        longest = self._peek() == side
        if longest:
            self._at += 1
        pattern = self._pattern(self.until("}", raw=True), start)
        value = self._value(name)
        if side == "#":
            return value[_extent(pattern, value, longest=longest) :]
        length = _extent(pattern[::-1], value[::-1], longest=longest)
        return value[: len(value) - length]

    def _replaced(self, name: str) -> str:
        start = self._at - 1
        everywhere = self._peek() == "/"
        if everywhere:
            self._at += 1
        pattern = self._pattern(self.until("/", raw=True), start)
        replacement = self.until("}", raw=True)
        return _replace(pattern, self._value(name), replacement, everywhere=everywhere)

    def _pattern(self, text: str, start: int) -> list[str]:
        """The pieces of a pattern: ``*``, ``?``, or a literal character with ``=`` before it."""
        pieces: list[str] = []
        characters = iter(text)
        for character in characters:
            if character in "*?":
                pieces.append(character)
            elif character == "\\":
                escaped = next(characters, "")
                if escaped not in ("*", "?", "\\", "}", "/"):
                    raise self._problem(f"invalid escape \\{escaped} in a pattern", start)
                pieces.append(f"={escaped}")
            else:
                pieces.append(f"={character}")
        return pieces


def _too_much(text: str) -> Problem:
    return Problem(f"expands to more than {_MOST} characters", at=text)


# --- patterns ----------------------------------------------------------------


def _extents(pattern: list[str], value: str) -> Iterator[int]:
    """The lengths of all prefixes of ``value`` that match, ascending.

    All ways to match advance together, so no pattern takes more than
    ``len(pattern) * len(value)`` steps.
    """
    end = len(pattern)

    def closed(states: set[int]) -> set[int]:
        """With what ``*`` reaches by matching nothing."""
        for state in range(end):
            if state in states and pattern[state] == "*":
                states.add(state + 1)
        return states

    states = closed({0})
    for length in range(len(value) + 1):
        if end in states:
            yield length
        if length == len(value):
            return
        character = value[length]
        following: set[int] = set()
        for state in states:
            piece = pattern[state] if state < end else ""
            if piece == "*" and character != "\n":
                following.add(state)
            elif piece == f"={character}" or (piece == "?" and character != "\n"):
                following.add(state + 1)
        if not following:
            return
        states = closed(following)


def _extent(pattern: list[str], value: str, *, longest: bool) -> int:
    """The length of the shortest or longest prefix that matches; 0 when none does."""
    extents = _extents(pattern, value)
    if not longest:
        return next(extents, 0)
    return max(extents, default=0)


def _replace(pattern: list[str], value: str, replacement: str, *, everywhere: bool) -> str:
    """``value`` with the first or every longest match from the left replaced."""
    parts: list[str] = []
    at = grown = 0
    matched_to = -1
    while at <= len(value):
        length = max(_extents(pattern, value[at:]), default=-1)
        if length > 0 or (length == 0 and at != matched_to):
            parts.append(replacement)
            grown += len(replacement)
            if grown > _MOST:
                raise _too_much(replacement)
            at += length
            matched_to = at
            if not everywhere:
                break
            if length:
                continue
        parts.append(value[at : at + 1])
        at += 1
    parts.append(value[at:])
    return "".join(parts)
