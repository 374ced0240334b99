"""Which files of a context do not exist for a build: Go's wildcards and docker's ignore files.

One pattern per line, relative to the context.  A pattern matches a path and
everything below it; the last pattern that matches decides, and ``!`` takes a
path back in.  ``*``, ``?`` and ``[a-z]`` are those of Go's ``filepath.Match``
and stay within one component; ``**`` stands for any number of directories.

A directory is passed over unseen (:meth:`Level.enter` gives None) when it is
ignored and no ``!`` pattern can match below it: what is ignored costs nothing.
"""

from __future__ import annotations

import posixpath

from podpy.errors import BuildError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_SPECIAL = frozenset("*?[\\")
# What "*" and "**" are in a regular expression.
_STAR, _DIRECTORIES, _ANYTHING = _OPEN = ("[^/]*", "(?:.*/)?", ".*")
_MEANING = frozenset("()[]{}?*+-|^$\\.&~# \t\n\r\v\f")  # in a regular expression


class BadPattern(BuildError):
    """A wildcard that breaks Go's rules (``filepath.ErrBadPattern``)."""

    def __init__(self, pattern: str) -> None:
        super().__init__(f"{pattern!a}: syntax error in pattern")


def has_wildcard(text: str) -> bool:
    """Whether a path is a pattern; a backslash makes it one, for what it escapes."""
    return not _SPECIAL.isdisjoint(text)


def matcher(pattern: str) -> Callable[[str], object]:
    """What tells whether a text matches Go's wildcard ``pattern`` as a whole.

    ``/`` is matched by itself alone.  :class:`BadPattern` when it is malformed.
    """
    if not has_wildcard(pattern):
        return pattern.__eq__
    return _compiled(_regex(pattern))


def _compiled(expression: str) -> Callable[[str], object]:
    import re  # 7 ms, which a build without wildcards does without

    return re.compile(expression, re.DOTALL).fullmatch


def _escaped(text: str) -> str:
    """``re.escape`` for what can be special in one."""
    return "".join(f"\\{c}" if c in _MEANING else c for c in text)


def match(pattern: str, text: str) -> bool:
    """Go's ``filepath.Match``."""
    return bool(matcher(pattern)(text))


def _regex(pattern: str, *, deep: bool = False) -> str:
    """The regular expression of a pattern; ``deep`` gives ``**`` its meaning."""
    pieces, at = [""], 0
    while at < len(pattern):
        if deep and pattern.startswith("**", at):
            at += 2 + pattern.startswith("/", at + 2)
            piece = _DIRECTORIES if at < len(pattern) else _ANYTHING
        else:
            piece, at = _token(pattern, at)
        if piece != pieces[-1] or piece not in _OPEN:
            pieces.append(piece)
    return _steady(pieces)


def _steady(pieces: list[str]) -> str:
    """The pieces of a regular expression put together, without needless ways to try.

    Where another ``*`` follows, the first place at which the text between the two
    fits is as good as any later one: a group that is looked for, and then taken as
    it was found, keeps ``re`` from going back to it.
    """
    made, at = [], 0
    while at < len(pieces):
        end = at + 1
        if pieces[at] != _STAR:
            made.append(pieces[at])
        else:
            while end < len(pieces) and pieces[end] not in _OPEN:
                end += 1
            fixed, name = "".join(pieces[at + 1 : end]), f"g{at}"
            followed = end < len(pieces) and pieces[end] == _STAR
            first = f"(?=(?P<{name}>{_STAR}?{fixed}))(?P={name})"
            made.append(first if followed else _STAR + fixed)
        at = end
    return "".join(made)


def _token(pattern: str, at: int) -> tuple[str, int]:
    """One element of a pattern as a regular expression, and where the next one begins."""
    character = pattern[at]
    if character == "*":
        return _STAR, at + 1
    if character == "?":
        return "[^/]", at + 1
    if character == "[":
        return _class(pattern, at + 1)
    if character == "\\":
        at += 1
        if at == len(pattern):
            raise BadPattern(pattern)
    return _escaped(pattern[at]), at + 1


def _class(pattern: str, at: int) -> tuple[str, int]:
    """A class: at least one range, ``-``, ``]`` and ``\\`` only with a backslash before them."""
    negated = pattern.startswith("^", at)
    at += negated
    ranges: list[str] = []
    while not (ranges and pattern.startswith("]", at)):
        low, at = _member(pattern, at)
        high = low
        if pattern.startswith("-", at):
            high, at = _member(pattern, at + 1)
        # Go lets a range run backwards; it matches nothing.
        ranges.append(f"{_escaped(low)}-{_escaped(high)}" if low <= high else "")
    inside = "".join(ranges)
    if negated:
        return f"[^/{inside}]", at + 1
    return (f"(?!/)[{inside}]" if inside else "(?!)"), at + 1


def _member(pattern: str, at: int) -> tuple[str, int]:
    if at < len(pattern) and pattern[at] == "\\":
        at += 1
    elif at >= len(pattern) or pattern[at] in "-]":
        raise BadPattern(pattern)
    if at >= len(pattern) - 1:  # something must close the class
        raise BadPattern(pattern)
    return pattern[at], at + 1


class _Pattern:
    """One line: its place in the file, whether it takes back in, and how it is matched.

    ``parts`` match one component each.  A pattern with ``**`` has only those
    before it in ``parts``, and :attr:`whole` for the path as a whole.
    """

    __slots__ = ("anywhere", "index", "name", "negated", "parts", "whole")

    def __init__(self, text: str, index: int, *, negated: bool) -> None:
        self.index = index
        self.negated = negated
        components = text.split("/")
        deep = next((n for n, part in enumerate(components) if "**" in part), -1)
        self.parts = [matcher(part) for part in components[: deep if deep >= 0 else None]]
        self.whole: Callable[[str], object] | None = None
        self.anywhere = False
        self.name = ""
        if deep < 0:
            self.name = "" if has_wildcard(components[-1]) else components[-1]
        elif components[0] == "**" and len(components) == 2 and "**" not in components[1]:
            self.anywhere = True
            self.parts = [matcher(components[1])]
            self.name = "" if has_wildcard(components[1]) else components[1]
        else:
            self.whole = _compiled(_deep_regex(text))


def _deep_regex(text: str) -> str:
    # `**name` alone is a suffix: it also matches `othername`.
    if text.startswith("**") and text[2:] and not has_wildcard(text[2:]) and text[2] != "/":
        return ".*" + _escaped(text[2:])
    return _regex(text, deep=True)


class Ignore:
    """The patterns of an ignore file, or of ``--exclude``.  False when there are none."""

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        self.texts: tuple[str, ...] = tuple(filter(None, map(_cleaned, patterns)))
        self._patterns = [
            _Pattern(text.removeprefix("!"), index, negated=text.startswith("!"))
            for index, text in enumerate(self.texts)
        ]

    @classmethod
    def parse(cls, text: str) -> Ignore:
        """The patterns of an ignore file's text: ``#`` in the first column is a comment."""
        lines = text.removeprefix("\ufeff").split("\n")
        return cls(line for line in lines if not line.startswith("#"))

    def __bool__(self) -> bool:
        return bool(self.texts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ignore) and self.texts == other.texts

    def __hash__(self) -> int:
        return hash(self.texts)

    def root(self) -> Level:
        """What the patterns say about the entries of the directory they are relative to."""
        return Level(self._patterns, "", -1, excluded=False)

    def excludes(self, path: str) -> bool:
        """Whether a relative path is ignored, by itself or with a directory above it."""
        level, name = self._find(path)
        return level is None or (name != "" and level.excludes(name))

    def hides(self, path: str) -> bool:
        """Whether a relative path is ignored and nothing below it is taken back in."""
        level, name = self._find(path)
        return level is None or (name != "" and level.excludes(name) and level.enter(name) is None)

    def _find(self, path: str) -> tuple[Level | None, str]:
        """The level that an entry is in, None where nothing can be seen, and its name there."""
        level: Level | None = self.root()
        *directories, name = [part for part in path.split("/") if part not in ("", ".")] or [""]
        for directory in directories:
            level = level.enter(directory) if level is not None else None
        return level, name


def _cleaned(line: str) -> str:
    """A line as Go's ``filepath.Clean`` leaves it, without a slash at its start; or nothing."""
    text = line.strip()
    negated = text.startswith("!")
    if negated:
        text = text[1:].strip()
        if not text:
            raise BuildError("ignore file: illegal exclusion pattern: '!'")
    if not text:
        return ""
    text = posixpath.normpath(text).lstrip("/")
    if text in ("", "."):
        return ""  # for historical reasons these match nothing
    return f"!{text}" if negated else text


class Level:
    """What the patterns say within one directory.

    ``excluded`` tells whether the directory itself is ignored: it may exist
    all the same, for what is taken back in below it.
    """

    __slots__ = ("_last", "_live", "_names", "_path", "_tests", "excluded")

    def __init__(self, live: list[_Pattern], path: str, last: int, *, excluded: bool) -> None:
        self._live = live  # patterns whose leading components match this directory
        self._path = path  # of this directory, with a slash at its end
        self._last = last  # the last pattern that matches this directory or one above it
        self.excluded = excluded
        self._names: dict[str, _Pattern] = {}
        self._tests: list[tuple[_Pattern, Callable[[str], object]]] = []
        depth = path.count("/")
        for pattern in live:
            if pattern.index > last:
                self._add(pattern, depth)
        self._tests.reverse()

    def _add(self, pattern: _Pattern, depth: int) -> None:
        if pattern.whole is not None:
            path, whole = self._path, pattern.whole
            self._tests.append((pattern, lambda name: whole(path + name)))
        elif pattern.anywhere or len(pattern.parts) == depth + 1:
            if pattern.name:
                self._names[pattern.name] = pattern
            else:
                self._tests.append((pattern, pattern.parts[-1]))

    def _decide(self, name: str) -> _Pattern | None:
        """The last pattern that matches an entry itself and comes after :attr:`_last`."""
        found = self._names.get(name)
        for pattern, test in self._tests:
            if found is not None and pattern.index < found.index:
                break
            if test(name):
                return pattern
        return found

    def excludes(self, name: str) -> bool:
        """Whether an entry of this directory is ignored."""
        found = self._decide(name)
        return self.excluded if found is None else not found.negated

    def enter(self, name: str) -> Level | None:
        """The level of a directory in this one; None when nothing below it can be seen."""
        found = self._decide(name)
        excluded = self.excluded if found is None else not found.negated
        last = self._last if found is None else found.index
        depth = self._path.count("/")
        live = [each for each in self._live if each.index > last and _reaches(each, depth, name)]
        if excluded and not any(each.negated for each in live):
            return None
        return Level(live, f"{self._path}{name}/", last, excluded=excluded)


def _reaches(pattern: _Pattern, depth: int, name: str) -> bool:
    """Whether a pattern that matches so far may match something below ``name``."""
    if pattern.anywhere:
        return True
    if pattern.whole is not None:
        return depth >= len(pattern.parts) or bool(pattern.parts[depth](name))
    return len(pattern.parts) > depth + 1 and bool(pattern.parts[depth](name))
