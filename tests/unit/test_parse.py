"""The parser of plain command lines: every way Go's pflag lets an option be written."""

from __future__ import annotations

import pytest

from podpy.cli import parse

OPTIONS = "!rm,--rm !detach,-d,--detach !tty,-t *env,-e,--env name,--name #last,-n,--last"
COMMANDS = (
    ("run", "run", True, False, OPTIONS, "image command*"),
    ("ps", "ps", True, True, OPTIONS, ""),
    ("rm", "rm", True, True, "!force,-f,--force", "names+"),
    ("ls", "ls", True, True, "", "name?"),
)
GROUPS = {"": {"run": 0, "ps": 1, "rm": 2}, "image": {"ls": 3}}
SETTINGS = "root,--root !debug,--debug,-D"


def line(*words: str) -> parse.Call:
    return parse.line(words, settings=SETTINGS, groups=GROUPS, commands=COMMANDS)


@pytest.mark.parametrize(
    ("words", "values"),
    [
        ("run a", {"image": "a"}),
        ("run a -l --rm", {"image": "a", "command": ("-l", "--rm")}),
        ("run -- a -- b", {"image": "a", "command": ("--", "b")}),
        ("run -dt a", {"detach": True, "tty": True, "image": "a"}),
        ("run -deA=b a", {"detach": True, "env": ("A=b",), "image": "a"}),
        ("run -e A -e=B=c --env=D a", {"env": ("A", "B=c", "D"), "image": "a"}),
        ("run --name x a", {"name": "x", "image": "a"}),
        ("run --name= a", {"name": "", "image": "a"}),
        ("run --name -d a", {"name": "-d", "image": "a"}),
        ("run --name=x --name=y a", {"name": "y", "image": "a"}),
        ("run --rm=false a", {"rm": False, "image": "a"}),
        ("run -d=0 a", {"detach": False, "image": "a"}),
        ("run -d=T a", {"detach": True, "image": "a"}),
        ("ps -n3", {"last": 3}),
        ("ps --last=-1", {"last": -1}),
        ("rm a -f b", {"force": True, "names": ("a", "b")}),
        ("rm a -- -f", {"names": ("a", "-f")}),
        ("rm -", {"names": ("-",)}),
        ("image ls", {}),
        ("image ls x", {"name": "x"}),
    ],
)
def test_plain_lines(words: str, values: dict[str, object]) -> None:
    assert line(*words.split()).values == values


def test_global_options_come_first() -> None:
    call = line("--root=/x", "-D", "ps", "-n", "1")
    assert call.settings == {"root": "/x", "debug": True}
    assert (call.module, call.function, call.operation) == ("ps", "ps", "ps")


def test_the_operation_is_what_was_typed() -> None:
    assert line("image", "ls").operation == "image ls"


@pytest.mark.parametrize(
    "words",
    [
        "",
        "nope",
        "image",
        "image nope",
        "run",
        "run --rm",
        "run --nope a",
        "run -x a",
        "run --name",
        "run -e",
        "run --rm=maybe a",
        "run -d=maybe a",
        "run -dx a",
        "ps extra",
        "ps -n x",
        "rm",
        "ps --help",
        "image ls a b",
        "--nope ps",
    ],
)
def test_anything_else_is_refused(words: str) -> None:
    with pytest.raises(parse.Refused):
        line(*words.split())
