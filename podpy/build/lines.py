"""From the text of a Dockerfile to statements: lines joined, comments and heredocs taken out."""

from __future__ import annotations

from podpy.build import words
from podpy.build.diagnostics import DockerfileError, Location, Problem
from podpy.build.variables import SPACES
from podpy.records import EMPTY, record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_DIRECTIVES = ("syntax", "escape", "check")
_HEREDOC_WORDS = ("RUN", "COPY", "ADD")


@record
class Document:
    """A heredoc as it stands in the file; ``mark`` is the word that opened it."""

    mark: str
    name: str
    content: str
    expand: bool
    chomp: bool


@record
class Statement:
    """One instruction before anybody has looked at its arguments.

    ``comments`` are the texts of the comment lines right above it;
    ``gaps`` says that empty lines stand between its continued lines.
    """

    location: Location
    text: str
    word: str
    flags: tuple[str, ...] = ()
    rest: str = ""
    documents: tuple[Document, ...] = ()
    comments: tuple[str, ...] = ()
    gaps: bool = False


@record
class Source:
    """A Dockerfile cut into statements; ``directives`` by their lower-case names."""

    name: str
    lines: tuple[str, ...]
    directives: Mapping[str, str] = EMPTY
    statements: tuple[Statement, ...] = ()

    @property
    def escape(self) -> str:
        """The character that continues lines and keeps what follows it."""
        return self.directives.get("escape", "\\")

    def error(self, problem: Problem, location: Location) -> DockerfileError:
        """``problem`` with its lines."""
        lines = self.lines[location.first - 1 : location.last]
        return DockerfileError.of(problem, location, lines)


def read(text: str, name: str, *, escape: str = "") -> Source:
    """Cut a whole file.  ``escape`` is for texts that cannot have a directive of their own."""
    lines = tuple(text.removeprefix("\ufeff").split("\n"))
    if lines[-1] == "":
        lines = lines[:-1]
    source = Source(name=name, lines=lines)
    directives, header = ({"escape": escape}, 0) if escape else _directives(source)
    reader = _Reader(Source(name=name, lines=lines, directives=directives), header)
    return Source(name=name, lines=lines, directives=directives, statements=reader.statements())


# --- directives --------------------------------------------------------------


def _directives(source: Source) -> tuple[dict[str, str], int]:
    """The comment lines ``# name=value`` that open the file, and the number of lines they take."""
    header = 0
    found: dict[str, str] = {}
    for number, line in enumerate(source.lines, 1):
        if number == 1 and line.startswith("#!"):
            continue
        key, value = _directive(line)
        if key not in _DIRECTIVES:
            break
        place = Location(name=source.name, first=number, last=number)
        if key in found:
            raise source.error(Problem(f"the directive {key} stands here twice", at=key), place)
        if key == "escape" and value not in ("\\", "`"):
            hint = "the escape character is \\ or `"
            raise source.error(Problem(f"escape={value!a}", at=value, hint=hint), place)
        found[key] = value
        header = number
    return found, header


def _directive(line: str) -> tuple[str, str]:
    """``(name, value)`` of a comment that looks like a directive, else empty texts."""
    text = line.strip(SPACES)
    key, equals, value = text[1:].partition("=")
    key = key.strip(SPACES)
    value = value.strip(SPACES)
    known = text.startswith("#") and equals and value and key[:1].isalpha() and key.isalnum()
    return (key.lower(), value) if known and key.isascii() else ("", "")


# --- statements --------------------------------------------------------------


class _Reader:
    """Walks the lines once."""

    def __init__(self, source: Source, start: int) -> None:
        self._source = source
        self._at = start

    def statements(self) -> tuple[Statement, ...]:
        found: list[Statement] = []
        comments: list[str] = []
        while self._at < len(self._source.lines):
            line = self._line().lstrip(SPACES)
            if line.startswith("#"):
                comment = line[1:].strip(SPACES)
                comments = [*comments, comment] if comment else []
                self._at += 1
            elif not line:
                comments = []
                self._at += 1
            else:
                found.append(self._statement(tuple(comments)))
                comments = []
        return tuple(found)

    def _line(self) -> str:
        return self._source.lines[self._at].rstrip("\r")

    def _statement(self, comments: tuple[str, ...]) -> Statement:
        first = self._at + 1
        text, gaps = self._joined()
        word, flags, rest = words.command(text)
        documents = self._documents(word, rest, text, first)
        place = Location(name=self._source.name, first=first, last=self._at)
        return Statement(
            location=place, text=text.strip(SPACES), word=word, flags=flags, rest=rest,
            documents=documents, comments=comments, gaps=gaps,
        )  # fmt: skip

    def _joined(self) -> tuple[str, bool]:
        """The line and those that continue it, and whether empty ones were between them."""
        part, continues = self._continued(self._line().lstrip(SPACES))
        parts = [part]
        gaps = False
        self._at += 1
        while continues and self._at < len(self._source.lines):
            line = self._line()
            self._at += 1
            bare = line.lstrip(SPACES)
            if not bare:
                gaps = True
            elif not bare.startswith("#"):
                part, continues = self._continued(line)
                parts.append(part)
        return "".join(parts), gaps

    def _continued(self, line: str) -> tuple[str, bool]:
        """The line without a continuation mark at its end, and whether it had one.

        Two escape characters are an escaped one, not a mark.
        """
        escape = self._source.escape
        bare = line.rstrip(" \t")
        if bare.endswith(escape) and not bare.endswith(escape * 2):
            return bare[:-1], True
        return line, False

    def _documents(self, word: str, rest: str, text: str, first: int) -> tuple[Document, ...]:
        if "<<" not in text or not _may_have_documents(word, rest):
            return ()
        return tuple(
            Document(
                mark=mark, name=name, expand=expand, chomp=chomp,
                content=self._content(mark, name, chomp, first),
            )
            for mark, name, expand, chomp in words.heredoc_marks(text)
        )  # fmt: skip

    def _content(self, mark: str, name: str, chomp: bool, first: int) -> str:
        start = self._at
        while self._at < len(self._source.lines):
            line = self._line()
            self._at += 1
            if (line.lstrip("\t") if chomp else line) == name:
                return "".join(f"{line}\n" for line in self._source.lines[start : self._at - 1])
        place = Location(name=self._source.name, first=first, last=first)
        hint = f"a line with nothing but {name} ends it"
        raise self._source.error(Problem("unterminated heredoc", at=mark, hint=hint), place)


def _may_have_documents(word: str, rest: str) -> bool:
    name = word.upper()
    if name == "ONBUILD":
        name, _, rest = words.command(rest)
        name = name.upper()
    if name not in _HEREDOC_WORDS:
        return False
    try:
        return words.json_words(rest) is None
    except Problem:
        return False
