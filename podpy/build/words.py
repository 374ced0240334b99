"""How the text of one instruction is cut: flags, words, JSON lists, heredoc marks."""

from __future__ import annotations

from podpy import files
from podpy.build.diagnostics import Problem
from podpy.build.variables import SPACES

# The blanks between words of one line; other space characters belong to words.
BLANKS = "\t\v\f\r "
_TO_SPACES = dict.fromkeys(map(ord, BLANKS), " ")


def split_blanks(text: str) -> list[str]:
    """The words between blanks, quotes or not."""
    return [word for word in text.translate(_TO_SPACES).split(" ") if word]


def partition(text: str) -> tuple[str, str]:
    """The first word and what comes after its blanks."""
    for index, character in enumerate(text):
        if character in BLANKS:
            return text[:index], text[index:].lstrip(BLANKS)
    return text, ""


def command(line: str) -> tuple[str, tuple[str, ...], str]:
    """The instruction's word as it is written, its flags (``--x=y``) and the rest."""
    word, rest = partition(line.strip(SPACES))
    flags, rest = _flags(rest)
    return word, tuple(flags), rest.strip(SPACES)


def _flags(text: str) -> tuple[list[str], str]:
    """The words at the start that begin with ``--``, quotes removed; ``--`` alone ends them."""
    flags: list[str] = []
    while True:
        text = text.lstrip(SPACES)
        if not text.startswith("--"):
            return flags, text
        word, length = _flag(text)
        text = text[length:]
        if word == "--":
            return flags, text
        flags.append(word)


def _flag(text: str) -> tuple[str, int]:
    """One word with quotes and backslashes resolved, and its length in the text."""
    word: list[str] = []
    quote = ""
    characters = iter(enumerate(text))
    for index, character in characters:
        if character == "\\":
            word.append(next(characters, (0, ""))[1])
        elif quote:
            if character == quote:
                quote = ""
            else:
                word.append(character)
        elif character in SPACES:
            return "".join(word), index
        elif character in "'\"":
            quote = character
        else:
            word.append(character)
    return "".join(word), len(text)


def quoted_words(text: str, escape: str) -> list[str]:
    """The words of ENV, LABEL and ARG; quotes and escapes stay for the expansion.

    A quote that nothing closes reaches to the end.
    """
    words: list[str] = []
    word = ""
    quote = ""
    characters = iter(text)
    for character in characters:
        if not quote and character in SPACES:
            if word:
                words.append(word)
            word = ""
        elif character == escape and quote != "'":
            following = next(characters, "")
            word += character + following if following else ""
        else:
            if quote and character == quote:
                quote = ""
            elif not quote and character in "'\"":
                quote = character
            word += character
    return [*words, word] if word else words


def json_words(text: str) -> tuple[str, ...] | None:
    """The strings of a JSON list; ``None`` when the text is not a JSON list.

    Raises :class:`Problem` for a list of anything but strings.
    """
    if not text.lstrip(SPACES).startswith("["):
        return None
    try:
        # A number of any length is one; what it is does not matter.
        values = files.loads(text.strip(SPACES))
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, list):
        return None
    for value in values:
        if not isinstance(value, str):
            raise Problem(
                "a JSON list may hold strings only", at=text, hint='e.g. ["program", "argument"]'
            )
    # Half of a surrogate pair is no character and could not be written anywhere.
    return tuple(
        value.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for value in values
    )


# --- heredocs ----------------------------------------------------------------


def heredoc_marks(line: str) -> list[tuple[str, str, bool, bool]]:
    """``(written, name, expand, chomp)`` of every word ``<<NAME`` of a line."""
    found = []
    for word in _shell_words(line):
        mark = heredoc_mark(word)
        if mark:
            found.append((word, *mark))
    return found


def heredoc_mark(text: str) -> tuple[str, bool, bool] | None:
    """``(name, expand, chomp)`` of ``[n]<<[-]NAME`` and nothing else.

    Quotes around the name, or a part of it, forbid expansion.
    """
    mark = text.lstrip("0123456789")
    if not mark.startswith("<<") or len(_shell_words(text)) != 1:
        return None
    rest = mark[2:].removeprefix("-").lstrip(SPACES)
    if "<" in rest:
        return None
    name, quoted = _unquoted(rest)
    return (name, not quoted, mark.startswith("<<-")) if name else None


def _shell_words(line: str) -> list[str]:
    """The words of a shell line as they are written; none when a quote is not closed.

    Blanks between ``<<`` and its name belong to the word.
    """
    words: list[str] = []
    word: list[str] = []
    quote = ""
    at = 0
    while at < len(line):
        character = line[at]
        length = 1
        if character == "\\" and quote != "'":
            length = 2
        elif quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in SPACES:
            words.append("".join(word))
            word = []
            length = 0
        elif character in "$<":
            length = _shift_length(line, at) or _arithmetic_length(line, at) or 1
        word.append(line[at : at + length])
        at += length or 1
    words.append("".join(word))
    return [] if quote else [each for each in words if each]


def _shift_length(line: str, at: int) -> int:
    """The length of ``<<`` or ``<<-`` with the blanks after it; 0 where there is none."""
    if not line.startswith("<<", at) or line.startswith("<<<", at):
        return 0
    end = at + (3 if line.startswith("<<-", at) else 2)
    while line[end : end + 1] and line[end] in SPACES:
        end += 1
    return end - at


def _arithmetic_length(line: str, at: int) -> int:
    """The length of ``$((…))``, where ``<<`` is a shift; 0 where there is none."""
    end = line.find("))", at) if line.startswith("$((", at) else -1
    return end + 2 - at if end >= 0 else 0


def _unquoted(word: str) -> tuple[str, bool]:
    """A word without its quotes and escapes, and whether it had quotes."""
    parts: list[str] = []
    quote = ""
    quoted = False
    characters = iter(word)
    for character in characters:
        if character == "\\" and quote != "'":
            following = next(characters, "")
            if quote and following not in ('"', "$", "\\"):
                parts.append(character)
            parts.append(following)
        elif quote:
            if character == quote:
                quote = ""
            else:
                parts.append(character)
        elif character in "'\"":
            quote = character
            quoted = True
        else:
            parts.append(character)
    return "".join(parts), quoted
