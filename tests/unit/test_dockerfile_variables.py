"""Variables, quotes and patterns in the words of a Dockerfile."""

from __future__ import annotations

import pytest

from podpy.build import variables
from podpy.build.diagnostics import Problem
from podpy.build.variables import Expander

VALUES = {
    "a": "1",
    "empty": "",
    "b": "two words",
    "path": "/usr/local/lib/libx.so.1",
    "str": "foobarbaz",
    "lines": "one\ntwo",
    "q": "it's",
    "star": "a*b?c",
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("plain", "plain"),
        ("$a", "1"),
        ("${a}", "1"),
        ("x$a/y", "x1/y"),
        ("${a}b", "1b"),
        ("$ab", ""),
        ("$a$a", "11"),
        ("$a-b", "1-b"),
        ("$a.b", "1.b"),
        ("$unset", ""),
        ("[${unset}]", "[]"),
        ("$empty", ""),
        ("$b", "two words"),
        # What is no name stays, what the shell has its own use for is unset.
        ("$", "$"),
        ("a$", "a$"),
        ("$ a", "$ a"),
        ("$/a", "$/a"),
        ("$(date)", "$(date)"),
        ("$1", ""),
        ("$12x", "x"),
        ("$@", ""),
        ("$$", ""),
        ("$?", ""),
        ("100%", "100%"),
        ("{a}", "{a}"),
        ("}", "}"),
        # Escapes.
        (r"\$a", "$a"),
        (r"\${a}", "${a}"),
        (r"\\", "\\"),
        (r"\\$a", "\\1"),
        (r"a\nb", "anb"),
        ("a\\", "a"),
        (r"\"x\"", '"x"'),
        (r"\'", "'"),
        (r"a\ b", "a b"),
        # Single quotes.
        ("'$a'", "$a"),
        (r"'a\b'", r"a\b"),
        ("'a\"b'", 'a"b'),
        ("x'y'z", "xyz"),
        ("''", ""),
        # Double quotes.
        ('"$a"', "1"),
        ('"${a}"', "1"),
        ('"it\'s"', "it's"),
        (r'"\$a"', "$a"),
        (r'"\""', '"'),
        (r'"\\"', "\\"),
        (r'"a\nb"', r"a\nb"),
        ("\"'$a'\"", "'1'"),
        ('""', ""),
        ('"a b"', "a b"),
        ("\"a\"'b'c", "abc"),
        # A value is not expanded again.
        ("$q", "it's"),
    ],
)
def test_plain_references(text: str, expected: str) -> None:
    assert variables.expand(text, VALUES) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${a:-x}", "1"),
        ("${a-x}", "1"),
        ("${empty:-x}", "x"),
        ("${empty-x}", ""),
        ("${unset:-x}", "x"),
        ("${unset-x}", "x"),
        ("${unset:-}", ""),
        ("${a:+x}", "x"),
        ("${a+x}", "x"),
        ("${empty:+x}", ""),
        ("${empty+x}", "x"),
        ("${unset:+x}", ""),
        ("${unset+x}", ""),
        ("${a:?no}", "1"),
        ("${a?no}", "1"),
        ("${empty?no}", ""),
        # The word may hold anything.
        ("${unset:-$a}", "1"),
        ("${unset:-${a}}", "1"),
        ("${unset:-${unset2:-$b}}", "two words"),
        ("${unset:-a b}", "a b"),
        ('${unset:-"}"}', "}"),
        ("${unset:-'$a'}", "$a"),
        (r"${unset:-\}}", "}"),
        ("${unset:-/usr/bin:$a}", "/usr/bin:1"),
        ("${a:+$b}", "two words"),
        ("x${unset:-y}z", "xyz"),
        ("${a}${unset:-/}${a}", "1/1"),
    ],
)
def test_alternatives(text: str, expected: str) -> None:
    assert variables.expand(text, VALUES) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${str#f*b}", "arbaz"),
        ("${str##f*b}", "az"),
        ("${str%b*}", "foobar"),
        ("${str%%b*}", "foo"),
        ("${str#x}", "foobarbaz"),
        ("${str%x}", "foobarbaz"),
        ("${str#foobarbaz}", ""),
        ("${str#*}", "foobarbaz"),
        ("${str##*}", ""),
        ("${str%*}", "foobarbaz"),
        ("${str%%*}", ""),
        ("${str#???}", "barbaz"),
        ("${str%???}", "foobar"),
        ("${str#}", "foobarbaz"),
        ("${path##*/}", "libx.so.1"),
        ("${path%/*}", "/usr/local/lib"),
        ("${path%%.*}", "/usr/local/lib/libx"),
        ("${path#/}", "usr/local/lib/libx.so.1"),
        ("${path#.}", "/usr/local/lib/libx.so.1"),
        (r"${star#a\*}", "b?c"),
        (r"${star%\?c}", "a*b"),
        ("${star#a?}", "b?c"),
        ("${str#$fo}", "foobarbaz"),
        ("${str#[f]}", "foobarbaz"),
        ("${unset#x}", ""),
        ("${unset%%x}", ""),
        ("${lines#*e}", "\ntwo"),
        # A star stays within its line.
        ("${lines##*o}", "ne\ntwo"),
        ("${lines%%t*}", "one\n"),
    ],
)
def test_trimming(text: str, expected: str) -> None:
    assert variables.expand(text, VALUES) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${str/ba/fo}", "fooforbaz"),
        ("${str//ba/fo}", "fooforfoz"),
        ("${str/x/y}", "foobarbaz"),
        ("${str//o/}", "fbarbaz"),
        ("${str/o/}", "fobarbaz"),
        ("${str/b*/-}", "foo-"),
        ("${str//?/x}", "xxxxxxxxx"),
        ("${str//[fo]/x}", "foobarbaz"),
        (r"${path//\//_}", "_usr_local_lib_libx.so.1"),
        (r"${path/\/usr/\/opt}", r"\/opt/local/lib/libx.so.1"),
        (r"${star//\*/x}", "axb?c"),
        ("${str/ba/$a}", "foo1rbaz"),
        ("${unset/x/y}", ""),
        ("${str/*/all}", "all"),
        ("${a//1/'/'}", "/"),
        ("${empty/x/y}", ""),
    ],
)
def test_replacing(text: str, expected: str) -> None:
    assert variables.expand(text, VALUES) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("${", "bad substitution"),
        ("${}", "bad substitution"),
        ("${:-x}", "bad substitution"),
        ("${{a}}", "bad substitution"),
        ("${a", "no closing"),
        ("${a:-x", "no closing"),
        ("${a#x", "no closing"),
        ("${a/x}", "no closing '/'"),
        ("${a/x/y", "no closing"),
        ("${a:x}", "unsupported modifier ':x'"),
        ("${a:0:1}", "unsupported modifier ':0'"),
        ("${a^^}", "unsupported modifier '^'"),
        ("${a,,}", "unsupported modifier ','"),
        ("${a@Q}", "unsupported modifier '@'"),
        ("${!a}", "unsupported modifier 'a'"),
        ("'x", "no closing '"),
        ('"x', 'no closing "'),
        ('"${a"', "unsupported modifier"),
        (r"${str#\x}", "invalid escape"),
        ("${unset:?}", "unset: must not be unset"),
        ("${unset?}", "unset: must not be unset"),
        ("${empty:?}", "empty: must not be empty"),
        ("${unset:?give it with --build-arg}", "unset: give it with --build-arg"),
        ("${unset:?$b}", "unset: two words"),
        ("${a:-" * 200 + "}" * 200, "too deeply"),
    ],
)
def test_what_is_no_substitution(text: str, reason: str) -> None:
    with pytest.raises(Problem) as caught:
        variables.expand(text, VALUES)
    assert reason in caught.value.reason
    assert caught.value.at in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("`$a", "$a"),
        (r"\$a", r"\1"),
        (r"c:\dir", r"c:\dir"),
        ("``", "`"),
        ('"`$a"', "$a"),
        ('"`x"', "`x"),
        (r"c:\dir\ ", "c:\\dir\\ "),
    ],
)
def test_the_other_escape_character(text: str, expected: str) -> None:
    assert variables.expand(text, VALUES, escape="`") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("80", ("80",)),
        ("$b", ("two", "words")),
        ('"$b"', ("two words",)),
        ("$b$a", ("two", "words1")),
        ("x$b", ("xtwo", "words")),
        ("$empty", ()),
        ("'' x", ("x",)),
        (r"a\ b c", ("a b", "c")),
        ("  a   b  ", ("a", "b")),
    ],
)
def test_words(text: str, expected: tuple[str, ...]) -> None:
    assert Expander(VALUES).words(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a $a\n", "a 1\n"),
        ("\"quoted\" '$a'\n", "\"quoted\" '1'\n"),
        ("\\\n", "\n"),
        ("\\\\\n", "\\\n"),
        ("\\$\n", "$\n"),
        ("it's ${unset:-x}\n", "it's x\n"),
    ],
)
def test_documents(text: str, expected: str) -> None:
    """Quotes mean nothing in a heredoc, the backslash means what it does elsewhere."""
    assert Expander(VALUES, escape="`").document(text) == expected


def test_an_expander_remembers_what_it_met() -> None:
    expander = Expander(VALUES)
    for text in ("$a $c", "${d:-x} ${e}", "'$f' ${b:+$g} ${h#x}", "\\$i"):
        expander.word(text)
    assert list(expander.used) == ["a", "b"]
    # A default says that the variable may be missing.
    assert list(expander.unset) == ["c", "e", "g", "h"]


def test_a_pattern_of_many_stars_is_no_trap() -> None:
    values = {"x": "a" * 2000}
    assert variables.expand("${x#" + "*a" * 30 + "b}", values) == values["x"]


def test_names_are_unicode_words() -> None:
    assert variables.expand("$größe1-", {"größe1": "x"}) == "x-"
