"""Lines of a Dockerfile: continuation, comments, directives, heredocs, line ends."""

from __future__ import annotations

import pytest

from podpy.build import lines, words
from podpy.build.diagnostics import DockerfileError


def texts(text: str) -> list[str]:
    return [statement.text for statement in lines.read(text, "Dockerfile").statements]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("\n\n", []),
        ("FROM a", ["FROM a"]),
        ("FROM a\n", ["FROM a"]),
        ("\ufeffFROM a\n", ["FROM a"]),
        ("FROM a\r\nRUN b\r\n", ["FROM a", "RUN b"]),
        ("FROM a\r\nRUN b \\\r\n  c\r\n", ["FROM a", "RUN b   c"]),
        ("   FROM a\n\tRUN b  \n", ["FROM a", "RUN b"]),
        ("\fFROM a\v\n", ["FROM a"]),
        # Comments.
        ("# x\nFROM a\n  # y\nRUN b # not one\n", ["FROM a", "RUN b # not one"]),
        ("RUN echo 'a # b'", ["RUN echo 'a # b'"]),
        ("# a \\\nFROM b", ["FROM b"]),
        ("#\nFROM a", ["FROM a"]),
        # Continuation.
        ("RUN a \\\nb", ["RUN a b"]),
        ("RUN a\\\nb", ["RUN ab"]),
        ("RUN a \\\n    b", ["RUN a     b"]),
        ("RUN a \\  \nb", ["RUN a b"]),
        ("RUN a \\\t\nb", ["RUN a b"]),
        ("RUN a \\\nb \\\nc", ["RUN a b c"]),
        ("RUN \\\na", ["RUN a"]),
        ("\\\nRUN a", ["RUN a"]),
        ("RUN a \\", ["RUN a"]),
        ("RUN a \\\n", ["RUN a"]),
        # Two of them are an escaped one; what stands before those does not count.
        ("RUN a \\\\\nRUN b", ["RUN a \\\\", "RUN b"]),
        ("RUN a \\\\\\\nRUN b", ["RUN a \\\\\\", "RUN b"]),
        ("RUN a \\x\nRUN b", ["RUN a \\x", "RUN b"]),
        # Comments and empty lines between.
        ("RUN a \\\n# c\nb", ["RUN a b"]),
        ("RUN a \\\n   # c\nb", ["RUN a b"]),
        ("RUN a \\\n# c \\\nb", ["RUN a b"]),
        ("RUN echo hello \\\n# comment\nworld", ["RUN echo hello world"]),
        ("RUN a \\\n\nb", ["RUN a b"]),
        ("RUN a \\\n\n\n  \nb\nRUN c", ["RUN a b", "RUN c"]),
        ("RUN a \\\n#\n\n#\nb", ["RUN a b"]),
        ("RUN a && \\\n    # why\n    b && \\\n    c", ["RUN a &&     b &&     c"]),
        ('RUN echo "\\\n     hello\\\n     world"', ['RUN echo "     hello     world"']),
        # The other escape character.
        ("# escape=`\nRUN a `\nb", ["RUN a b"]),
        ("# escape=`\nRUN dir c:\\\nRUN b", ["RUN dir c:\\", "RUN b"]),
        ("# escape=\\\nRUN a \\\nb", ["RUN a b"]),
        # Only a newline ends a line.
        ("RUN a\x0bb\x1cc\u2028d", ["RUN a\x0bb\x1cc\u2028d"]),
    ],
)
def test_statements(text: str, expected: list[str]) -> None:
    assert texts(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM a", [(1, 1)]),
        ("\n\nFROM a\n\nRUN b", [(3, 3), (5, 5)]),
        ("RUN a \\\nb\nRUN c", [(1, 2), (3, 3)]),
        ("RUN a \\\n\n# x\nb\nRUN c", [(1, 4), (5, 5)]),
        ("RUN <<A\nx\nA\nRUN b", [(1, 3), (4, 4)]),
        ("RUN a \\\n <<A\nx\nA\nRUN b", [(1, 4), (5, 5)]),
    ],
)
def test_locations(text: str, expected: list[tuple[int, int]]) -> None:
    found = lines.read(text, "F").statements
    assert [(one.location.first, one.location.last) for one in found] == expected
    assert all(one.location.name == "F" for one in found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# syntax=docker/dockerfile:1", {"syntax": "docker/dockerfile:1"}),
        ("#syntax=a", {"syntax": "a"}),
        ("# syntax =a", {"syntax": "a"}),
        ("#\tsyntax= a", {"syntax": "a"}),
        ("# syntax = a  ", {"syntax": "a"}),
        ("#\t  sYnTaX=a", {"syntax": "a"}),
        ("  # escape=`", {"escape": "`"}),
        ("# ESCAPE = `", {"escape": "`"}),
        ("# escape=\\", {"escape": "\\"}),
        ("# escape=`\r\n# syntax=b\r", {"escape": "`", "syntax": "b"}),
        ("# check=skip=all;error=true", {"check": "skip=all;error=true"}),
        ("# syntax=a\n# escape=`\n# check=error=true", {
            "syntax": "a", "escape": "`", "check": "error=true"}),
        ("#!/usr/bin/env x\n# syntax=a", {"syntax": "a"}),
        ("\ufeff# escape=`", {"escape": "`"}),
        # Too late, or no directive at all.
        ("# comment\n# escape=`", {}),
        ("\n# escape=`", {}),
        ("FROM a\n# escape=`", {}),
        ("# unknown=x\n# escape=`", {}),
        ("#\n# escape=`", {}),
        ("# escape", {}),
        ("# escape=", {}),
        ("# es cape=`", {}),
        ("# 1escape=`", {}),
        ("# direc \\\ntive=value", {}),
        ("# syntax=a\n\n# escape=`", {"syntax": "a"}),
    ],
)  # fmt: skip
def test_directives(text: str, expected: dict[str, str]) -> None:
    assert lines.read(text, "Dockerfile").directives == expected


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("# escape=x", 1, "escape='x'"),
        ("# escape=\\\\", 1, "escape="),
        ("# syntax=a\n# syntax=b", 2, "twice"),
        ("# escape=`\n# ESCAPE=`", 2, "twice"),
    ],
)
def test_directives_that_are_wrong(text: str, line: int, reason: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        lines.read(text, "F")
    assert reason in caught.value.reason
    assert caught.value.location.first == line


def documents(text: str) -> list[tuple[str, str, bool, bool]]:
    (statement,) = lines.read(text, "Dockerfile").statements
    return [(one.name, one.content, one.expand, one.chomp) for one in statement.documents]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("RUN <<A\nx\nA", [("A", "x\n", True, False)]),
        ("RUN <<A\nA", [("A", "", True, False)]),
        ("run <<A\nx\nA", [("A", "x\n", True, False)]),
        ("RUN <<A\nx\n\n# y\n z \\\n  \nA\n", [("A", "x\n\n# y\n z \\\n  \n", True, False)]),
        ("RUN <<'A'\n$x\nA", [("A", "$x\n", False, False)]),
        ('RUN <<"A"\n$x\nA', [("A", "$x\n", False, False)]),
        ('RUN <<A"B"C\nx\nABC', [("ABC", "x\n", False, False)]),
        # A quote counts, an escaped one does not.
        ("RUN <<\\A\nx\nA", [("A", "x\n", True, False)]),
        ("RUN <<eo\\'f\nx\neo'f", [("eo'f", "x\n", True, False)]),
        ("RUN <<eo'f'\nx\neof", [("eof", "x\n", False, False)]),
        ("RUN <<'e'o\\'f\nx\neo'f", [("eo'f", "x\n", False, False)]),
        ("RUN <<'one two'\nx\none two", [("one two", "x\n", False, False)]),
        ("RUN <<$A\nx\n$A", [("$A", "x\n", True, False)]),
        ("RUN << A\nx\nA", [("A", "x\n", True, False)]),
        ("RUN <<-  A cat\n\tx\n\tA", [("A", "\tx\n", True, True)]),
        ("RUN cat <<A > $((1 << 2))\nx\nA", [("A", "x\n", True, False)]),
        ("COPY <<X <<Y /dest\nY\nX\nX\nY", [("X", "Y\n", True, False), ("Y", "X\n", True, False)]),
        ("RUN <<-A\n\tx\n\t\tA", [("A", "\tx\n", True, True)]),
        ("RUN <<-'A'\n\tx\n\tA", [("A", "\tx\n", False, True)]),
        ("RUN <<A cat\nx\nA", [("A", "x\n", True, False)]),
        ("RUN cat <<A > /x\nx\nA", [("A", "x\n", True, False)]),
        ("RUN 3<<A cat\nx\nA", [("A", "x\n", True, False)]),
        ("RUN <<A a && <<B b\n1\nA\n2\nB", [("A", "1\n", True, False), ("B", "2\n", True, False)]),
        ("COPY <<A <<-'B' /x/\n1\nA\n\t2\n\tB",
         [("A", "1\n", True, False), ("B", "\t2\n", False, True)]),
        ("ADD <<A /x\n1\nA", [("A", "1\n", True, False)]),
        ("ONBUILD RUN <<A\nx\nA", [("A", "x\n", True, False)]),
        ("ONBUILD COPY <<A /x\n1\nA", [("A", "1\n", True, False)]),
        ("RUN --mount=type=tmpfs,target=/x <<A\nx\nA", [("A", "x\n", True, False)]),
        # The delimiter alone on its line, nothing around it.
        ("RUN <<A\n A\nA \nAA\nA", [("A", " A\nA \nAA\n", True, False)]),
        ("RUN <<-A\n A\n\tA", [("A", " A\n", True, True)]),
        ("RUN <<EOF;\nx\nEOF;", [("EOF;", "x\n", True, False)]),
        # Windows' line ends go, in documents too.
        ("RUN <<A\r\nx\r\nA\r\n", [("A", "x\r\n", True, False)]),
        # Continued, then the documents.
        ("RUN <<A \\\n cat\nx\nA", [("A", "x\n", True, False)]),
        # Not one.
        ('RUN ["<<A"]', []),
        ('COPY ["<<A", "/x"]', []),
        ("RUN echo '<<A'", []),
        ('RUN echo "<<A"', []),
        ("RUN echo \\<<A", []),
        ("RUN cat<<A", []),
        ("RUN cat <<<A", []),
        ("RUN cat <<< A", []),
        ("RUN echo $((1 << 2))", []),
        ("RUN echo 1<<", []),
        ("RUN <<", []),
        ("RUN <<''", []),
        ("RUN a <<-", []),
        ("RUN it's <<A", []),
        ("CMD <<A", []),
        ("ENV a=<<A", []),
        ("ONBUILD CMD <<A", []),
    ],
)  # fmt: skip
def test_heredocs(text: str, expected: list[tuple[str, str, bool, bool]]) -> None:
    assert documents(text) == expected


def test_what_comes_after_a_heredoc_is_a_statement_again() -> None:
    assert texts("RUN <<A\nRUN x\nA\nRUN y") == ["RUN <<A", "RUN y"]


@pytest.mark.parametrize(
    "text", ["RUN <<A", "RUN <<A\nx\n", "RUN <<A <<B\nx\nA\n", "RUN <<-A\n  A"]
)
def test_a_heredoc_that_does_not_end(text: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        lines.read(f"FROM a\n{text}", "F")
    assert "unterminated heredoc" in caught.value.message
    assert "F:2" in caught.value.message
    assert "nothing but" in caught.value.hint


def test_comments_and_gaps_are_told() -> None:
    source = lines.read(
        "# syntax=x\n# a\n# b\nFROM a\n# c\n\nRUN b \\\n\nc\n#d\n#\n#  e\nRUN f", "F"
    )
    assert [one.comments for one in source.statements] == [("a", "b"), (), ("e",)]
    assert [one.gaps for one in source.statements] == [False, True, False]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("RUN x", ("RUN", (), "x")),
        ("RUN", ("RUN", (), "")),
        ("RUN   x  y ", ("RUN", (), "x  y")),
        ("RUN\tx", ("RUN", (), "x")),
        ("RUN --a x", ("RUN", ("--a",), "x")),
        ("RUN --a=b --c=d x --e", ("RUN", ("--a=b", "--c=d"), "x --e")),
        ("RUN --a='b c' x", ("RUN", ("--a=b c",), "x")),
        ('RUN --a="b c"d x', ("RUN", ("--a=b cd",), "x")),
        (r"RUN --a=b\ c x", ("RUN", ("--a=b c",), "x")),
        (r"RUN --a='b\'c' x", ("RUN", ("--a=b'c",), "x")),
        ("RUN -- --a x", ("RUN", (), "--a x")),
        ("RUN --", ("RUN", (), "")),
        ("RUN --a", ("RUN", ("--a",), "")),
        ("RUN -a x", ("RUN", (), "-a x")),
        ("RUN --a='b", ("RUN", ("--a=b",), "")),
    ],
)
def test_word_flags_and_rest(text: str, expected: tuple[str, tuple[str, ...], str]) -> None:
    assert words.command(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("a=1 b=2", ["a=1", "b=2"]),
        ('a="1 2"  b=2', ['a="1 2"', "b=2"]),
        ("a='1 2' b", ["a='1 2'", "b"]),
        (r"a=1\ 2 b", [r"a=1\ 2", "b"]),
        (r"a=\" b", [r"a=\"", "b"]),
        (r'a="\"" b', [r'a="\""', "b"]),
        (r"a='\' b", [r"a='\'", "b"]),
        ('a="x\'y" b', ['a="x\'y"', "b"]),
        ('a="1 2', ['a="1 2']),
        ("a=1\\", ["a=1"]),
        ('""', ['""']),
        ("\ta=1\u00a0b=2 ", ["a=1", "b=2"]),
    ],
)
def test_quoted_words(text: str, expected: list[str]) -> None:
    assert words.quoted_words(text, "\\") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('["a"]', ("a",)),
        ('[ "a" , "b c" ]', ("a", "b c")),
        ("[]", ()),
        ('  ["a"]  ', ("a",)),
        (r'["a\nb", "\u00e9", "\\"]', ("a\nb", "é", "\\")),
        (r'["\ud83d\ude00"]', ("\U0001f600",)),
        (r'["\ud83d"]', ("\ufffd",)),
        ("['a']", None),
        ('["a",]', None),
        ('["a"] b', None),
        ('["a" "b"]', None),
        (r'["c:\windows"]', None),
        ('["a"', None),
        ("[ -f x ]", None),
        ("a", None),
        ('"a"', None),
        ('{"a": 1}', None),
        ("[" * 100_000, None),
    ],
)
def test_json_words(text: str, expected: tuple[str, ...] | None) -> None:
    assert words.json_words(text) == expected
