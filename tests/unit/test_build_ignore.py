"""Wildcards of Go's ``filepath.Match``, and the rules of docker's ignore files."""

from __future__ import annotations

import random

import pytest

from podpy.build.ignore import BadPattern, Ignore, Level, match
from podpy.errors import BuildError

MATCHES = (
    ("Dockerfile", "Dockerfile"), ("*", "name"), ("*.py", ".py"), ("s*c", "src"),
    ("s*c/*.h", "src/a.h"),
    ("a*b?c*d", "aXbYcZd"), ("l?b", "lib"), ("l?b", "l☺b"), ("[kl]ib", "lib"), ("[a-m]ib", "lib"),
    ("[^a-k]ib", "lib"), ("[^x]ib", "☺ib"), ("[a-ω]", "β"), (r"a\*b", "a*b"), (r"a\[1]", "a[1]"),
    (r"[\]]", "]"), (r"[a\-]", "-"), (r"[\^a]", "^"), ("a.b", "a.b"), ("a**b", "axyzb"),
    ("+(){}|$", "+(){}|$"),
)  # fmt: skip
DIFFERS = (
    ("*", "a/b"), ("a?b", "a/b"), ("[^x]", "/"), ("a[.-0]b", "a/b"), ("*.py", "x.pyc"),
    ("s*c", "src/c"), ("[z-a]", "m"),
    ("[^a-l]ib", "lib"), (r"a\*b", "axb"), ("a.b", "axb"), ("a**b", "a/b"), ("l?b", "lb"),
    ("LIB", "lib"),
)  # fmt: skip
MALFORMED = (
    "[", "a[", "[]", "[]a]", "[-]", "[a-]", "[-a]", "[^", "[^]", "[a", "[a-b-c]",
    "\\", "[\\", "[a\\", "a/[",
)  # fmt: skip


@pytest.mark.parametrize(("pattern", "text"), MATCHES)
def test_match(pattern: str, text: str) -> None:
    assert match(pattern, text)


@pytest.mark.parametrize(("pattern", "text"), DIFFERS)
def test_no_match(pattern: str, text: str) -> None:
    assert not match(pattern, text)


@pytest.mark.parametrize("pattern", MALFORMED)
def test_malformed(pattern: str) -> None:
    with pytest.raises(BadPattern, match="syntax error in pattern"):
        match(pattern, "a")
    with pytest.raises(BuildError, match="syntax error in pattern"):
        Ignore([pattern])


EXCLUDED = (
    # pattern, what it excludes, what it leaves
    ("foo", ("foo", "foo/bar", "foo/bar/baz"), ("bar/foo", "foobar", "fo")),
    ("/foo/bar/", ("foo/bar", "foo/bar/baz"), ("foo", "bar")),
    ("  foo/./x/../bar ", ("foo/bar",), ("foo/x",)),
    ("*/temp*", ("dir/temp", "dir/temporary.txt", "dir/temp/x"), ("temp", "a/b/temp")),
    ("*/*/temp*", ("a/b/temp",), ("a/temp", "a/b/c/temp")),
    ("temp?", ("tempa", "tempb/x"), ("temp", "tempab")),
    ("**", ("a", "a/b"), ()),
    ("**/", ("a", "a/b"), ()),
    ("**/foo", ("foo", "a/foo", "a/b/foo", "a/foo/b"), ("afoo", "a/foob")),
    ("**/*.go", ("x.go", "a/x.go", "a/b/x.go", "a/x.go/y"), ("x.gone", "a/go")),
    ("foo/**", ("foo/a", "foo/a/b"), ("foo", "food/a")),
    ("foo/**/bar", ("foo/bar", "foo/a/bar", "foo/a/b/bar", "foo/bar/x"), ("bar", "foo/abar")),
    ("**/a/**/b", ("a/b", "x/a/b", "x/a/y/b"), ("a", "b", "x/b")),
    ("**/**/*.txt", ("a.txt", "d/a.txt"), ("a.txt2",)),
    ("**name", ("name", "d/name", "othername", "d/othername"), ("names",)),
    ("a**/x", ("a/x", "a/b/x"), ("b/x", "ab/c")),
    ("a/*.txt**", ("a/b.txt", "a/b.txt.gz"), ("a/b",)),
    (r"\#kept", ("#kept",), ("kept",)),
    ("a(b)|c$", ("a(b)|c$",), ("ab", "c")),
    (".", (), ("a", ".a", "a/b")),
    ("/", (), ("a",)),
    ("..", (), ("a",)),
)  # fmt: skip


@pytest.mark.parametrize(("pattern", "excluded", "kept"), EXCLUDED)
def test_one_pattern(pattern: str, excluded: tuple[str, ...], kept: tuple[str, ...]) -> None:
    ignore = Ignore([pattern])
    assert [path for path in excluded if not ignore.excludes(path)] == []
    assert [path for path in kept if ignore.excludes(path)] == []


SEVERAL = (
    (("*.md", "!README.md"), ("a.md",), ("README.md", "sub/a.md")),
    (("*.md", "!README*.md", "README-secret.md"), ("a.md", "README-secret.md"), ("README-x.md",)),
    (("*.md", "README-secret.md", "!README*.md"), ("a.md",), ("README-secret.md",)),
    (("docs", "!docs/README.md"), ("docs", "docs/a"), ("docs/README.md",)),
    (("docs/*", "! docs/README.md"), ("docs/a",), ("docs", "docs/README.md")),
    (("**", "!a/b/c"), ("a", "a/b", "a/x", "a/b/x"), ("a/b/c", "a/b/c/d")),
    (("**", "!a/b/c", "a/b/c/d"), ("a/b/c/d", "a/b/c/d/e"), ("a/b/c/e",)),
    (("*", "!src", "src/*.o"), ("a", "src/x.o"), ("src", "src/x.c", "src/sub/x.o")),
    (("!x", "*"), ("x",), ()),
    (("node_modules", "!**/keep"), ("node_modules", "node_modules/a"), ("node_modules/a/b/keep",)),
    (("/a/b", "!a"), (), ("a/b", "a")),
)


@pytest.mark.parametrize(("patterns", "excluded", "kept"), SEVERAL)
def test_the_last_pattern_that_matches_decides(
    patterns: tuple[str, ...], excluded: tuple[str, ...], kept: tuple[str, ...]
) -> None:
    ignore = Ignore(patterns)
    assert [path for path in excluded if not ignore.excludes(path)] == []
    assert [path for path in kept if ignore.excludes(path)] == []


def test_an_ignore_file_is_read_line_by_line() -> None:
    text = "\ufeff# comment\r\n\r\n  spaced  \r\n #not a comment\n\n!\\!bang\n/lead/\n.\n"
    assert Ignore.parse(text).texts == ("spaced", "#not a comment", "!\\!bang", "lead")
    assert not Ignore.parse("# only\n\n")
    assert Ignore.parse("a\u2028b").texts == ("a\u2028b",)


def test_an_exclamation_mark_alone_is_an_error() -> None:
    with pytest.raises(BuildError, match="illegal exclusion pattern"):
        Ignore.parse("a\n ! \n")


def entered(ignore: Ignore, path: str) -> Level | None:
    level: Level | None = ignore.root()
    for name in path.split("/"):
        level = level.enter(name) if level is not None else None
    return level


@pytest.mark.parametrize(
    ("patterns", "directory", "is_seen"),
    [
        (("big",), "big", False),
        (("big", "!other/x"), "big", False),
        (("!big/x", "big"), "big", False),  # what comes later has the last word
        (("big", "!big/keep"), "big", True),
        (("big", "!big/keep/this"), "big/other", False),
        (("big", "!big/*/this"), "big/other", True),
        (("big", "!**/keep"), "big/a/b", True),
        (("big", "!big/a/**/keep"), "big/b", False),
        (("big", "!big/a/**/keep"), "big/a/c", True),
        (("**/node_modules", "!README.md"), "a/node_modules", False),
        (("**", "!src"), "lib", False),
        (("*", "!src"), "src", True),
        (("*.o",), "src", True),
    ],
)
def test_what_cannot_be_seen_is_not_entered(
    patterns: tuple[str, ...], directory: str, is_seen: bool
) -> None:
    assert (entered(Ignore(patterns), directory) is not None) == is_seen


def test_pruning_and_levels_agree_with_the_rule() -> None:
    """Whatever the shortcuts: the last pattern decides that matches the path or one above it."""
    choice = random.Random(4).choice
    parts = ("a", "b", "*", "a*", "?", "**", "[ab]")
    for _ in range(3000):
        patterns = [
            choice(("", "", "!")) + "/".join(choice(parts) for _ in range(choice((1, 2, 3))))
            for _ in range(choice((1, 2, 3, 4)))
        ]
        path = "/".join(choice(("a", "b", "ab", "c")) for _ in range(choice((1, 2, 3, 4))))
        assert Ignore(patterns).excludes(path) == _by_the_rule(patterns, path), (patterns, path)


def _by_the_rule(patterns: list[str], path: str) -> bool:
    decided = False
    names = path.split("/")
    for pattern in patterns:
        alone = Ignore([pattern.removeprefix("!")])
        # One pattern and one whole path: nothing is pruned or inherited here.
        if any(_alone(alone, "/".join(names[: n + 1])) for n in range(len(names))):
            decided = not pattern.startswith("!")
    return decided


def _alone(ignore: Ignore, path: str) -> bool:
    """Whether the only pattern matches this path, not one above it."""
    import re

    text = ignore.texts[0]
    expression = ""
    while text:
        if text.startswith("**"):
            rest = text[2:].removeprefix("/")
            expression += "(.*/)?" if rest else ".*"
            text = rest
        elif text.startswith("["):
            inside, _, text = text[1:].partition("]")
            expression += f"[{inside}]"
        else:
            expression += {"*": "[^/]*", "?": "[^/]"}.get(text[0], re.escape(text[0]))
            text = text[1:]
    return re.fullmatch(expression, path) is not None
