"""What is said about a Dockerfile: errors with their line and a caret, and warnings."""

from __future__ import annotations

from podpy.errors import BuildError
from podpy.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@record
class Location:
    """Lines of a file, from 1 on, both ends included."""

    name: str = "Dockerfile"
    first: int = 0
    last: int = 0

    def __str__(self) -> str:
        return f"{self.name}:{self.first}" if self.first else self.name


@record
class LintWarning:
    """A rule of the linter that a Dockerfile breaks.

    ``rule`` is the name that ``# check=skip=`` takes, ``description`` what the
    rule is about, ``message`` what is wrong here.
    """

    rule: str
    message: str
    description: str = ""
    url: str = ""
    location: Location


class Problem(Exception):
    """What is wrong with a text, before anybody knows where the text stands.

    ``at`` is the part of the line that the caret goes under.
    """

    def __init__(self, reason: str, *, at: str = "", hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.at = at
        self.hint = hint


class DockerfileError(BuildError):
    """A Dockerfile that breaks the rules of its language.

    The message has the place, the reason, the lines and a caret::

        Dockerfile:3: unknown instruction RNU
           3 | RNU make
             | ^^^
    """

    def __init__(
        self,
        reason: str,
        *,
        location: Location,
        lines: Sequence[str] = (),
        at: str = "",
        hint: str = "",
    ) -> None:
        self.reason = reason
        self.location = location
        excerpt = _excerpt(location, lines, at)
        super().__init__("\n".join((f"{location}: {reason}", *excerpt)), hint=hint)

    @classmethod
    def of(cls, problem: Problem, location: Location, lines: Sequence[str]) -> DockerfileError:
        """``problem`` in its place; ``lines`` are those of the location."""
        return cls(problem.reason, location=location, lines=lines, at=problem.at, hint=problem.hint)


_MOST_LINES = 8


def _excerpt(location: Location, lines: Sequence[str], at: str) -> Iterable[str]:
    """The lines with their numbers, and a caret under the part that is wrong."""
    marked, column = _find(lines, at)
    first = max(0, marked - _MOST_LINES + 2)
    width = len(str(location.first + len(lines)))
    for offset, line in enumerate(lines[first : first + _MOST_LINES], first):
        yield f"  {location.first + offset:>{width}} | {printable(line)}"
        if offset == marked:
            length = min(len(printable(at)), len(printable(line[column:])), 60)
            mark = "^" * max(1, length)
            yield f"  {'':{width}} | {' ' * len(printable(line[:column]))}{mark}"


def _find(lines: Sequence[str], at: str) -> tuple[int, int]:
    """Line and column of the text; of its first word where lines were joined to make it."""
    for part in (at, *at.split()[:1]):
        for index, line in enumerate(lines):
            column = line.find(part)
            if part and column >= 0:
                return index, column
    first = lines[0] if lines else ""
    return 0, len(first) - len(first.lstrip())


def printable(text: str) -> str:
    """``text`` with nothing that a terminal would act on."""
    return "".join(
        character if character.isprintable() else " " if character == "\t" else "?"
        for character in text.rstrip("\r\n")
    )


def suggest(word: str, known: Iterable[str]) -> str:
    """``did you mean X?`` for the known word nearest to one that is not, or nothing.

    Near is one mistake in two characters, and two at most.
    """
    most = min(2, len(word) // 2)
    near = [(_mistakes(word.lower(), name.lower(), most), name) for name in known]
    count, name = min(near, default=(most + 1, ""))
    return f"did you mean {name}?" if count <= most else ""


def _mistakes(word: str, other: str, most: int) -> int:
    """How many characters are missing, too many, wrong or swapped; more than ``most`` is enough."""
    if abs(len(word) - len(other)) > most:
        return most + 1
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, left in enumerate(word, 1):
        above = row
        row = [i]
        for j, right in enumerate(other, 1):
            cost = min(row[-1] + 1, above[j] + 1, above[j - 1] + (left != right))
            if i > 1 and j > 1 and left == other[j - 2] and right == word[i - 2]:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before = above
    return row[-1]
