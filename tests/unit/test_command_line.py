"""The compiled table and the Typer application are one command line.

For the whole table, and for thousands of generated lines, right and wrong, the
quick parser and Typer make the same call of the same adapter, or both refuse.
"""

from __future__ import annotations

import importlib
import inspect
import pathlib
import random
import re
from typing import Any

import pytest

pytest.importorskip("typer")

from typer._click.exceptions import ClickException
from typer.main import get_command

from podpy.cli import (
    app,
    build_options,
    commands,
    container_options,
    manual,
    options,
    parse,
    session,
    table,
)
from podpy.cli import compile as compiler
from podpy.engine.build_options import BuildOptions
from podpy.engine.options import ContainerOptions
from podpy.errors import UsageError

LINES_PER_COMMAND = 40
TEXTS = ("x", "a=b", "=", "-", "", "80:80", "-1", "ü", "--", "a b", "false", "/p:/q:ro")
NUMBERS = ("0", "5", "-1", "x", "", "1_0", " 7")
TRUTHS = ("true", "false", "1", "0", "T", "F", "yes", "")


class Called(Exception):
    """What Typer would have run."""


@pytest.fixture(name="application", scope="module")
def _application() -> Any:
    return get_command(app.build())


@pytest.fixture(autouse=True)
def _recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    def call(self: Any, module: str, function: str, context: bool, values: Any) -> int:
        raise Called((self.root, self.runroot, self.log_level), module, function, context, values)

    monkeypatch.setattr(session.Session, "call", call)


def every_path() -> list[str]:
    return [
        f"{group} {name}".strip()
        for group, verbs in table.GROUPS.items()
        for name in verbs
    ]  # fmt: skip


def defaults(module: str, function: str) -> dict[str, Any]:
    """What an adapter takes when an option is not given."""
    adapter = getattr(importlib.import_module(f"podpy.cli.{module}"), function)
    parameters = inspect.signature(adapter).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        record: Any = BuildOptions if module == "builds" else ContainerOptions
        return dict(record._defaults)
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def by_table(words: list[str]) -> tuple[Any, ...] | None:
    try:
        call = parse.line(
            words, settings=table.SETTINGS, groups=table.GROUPS, commands=table.COMMANDS
        )
        given = session.Session(**call.settings)
    except (parse.Refused, UsageError):
        return None
    values = {**defaults(call.module, call.function), **call.values}
    where = (given.root, given.runroot, given.log_level)
    return (where, call.module, call.function, call.context, values)


def by_typer(application: Any, words: list[str]) -> tuple[Any, ...] | None:
    try:
        application.main(list(words), prog_name="podpy", standalone_mode=False)
    except Called as call:
        where, module, function, context, values = call.args
        return (where, module, function, context, {**defaults(module, function), **values})
    except (ClickException, UsageError):
        return None
    return None  # help or the version: nothing was called


def test_the_table_is_current() -> None:
    with open(table.__file__, encoding="utf-8") as file:
        assert file.read() == compiler.source(), "run python3 -m podpy.cli.compile"


def test_every_spelling_of_every_verb_is_in_the_table() -> None:
    listed = {path for paths in commands.COMMANDS.values() for path in paths}
    assert listed == set(every_path())


def test_every_option_of_a_container_is_offered_and_no_other() -> None:
    fields = set(ContainerOptions._fields) - {"image", "command"}  # type: ignore[attr-defined]
    assert fields == set(container_options._OPTIONS)


def test_every_option_of_a_build_is_offered_and_no_other() -> None:
    fields = set(BuildOptions._fields) - {"context"}  # type: ignore[attr-defined]
    assert fields == set(build_options._OPTIONS)


@pytest.mark.parametrize(
    ("line", "policy", "context"),
    [
        ("build .", "", "."),
        ("build --pull .", "true", "."),
        ("build --pull=never .", "never", "."),
        ("build . --pull", "true", "."),
        ("build --pull", "true", ""),
        ("build --pull= .", "", "."),
    ],
)
def test_an_option_may_stand_alone(line: str, policy: str, context: str, application: Any) -> None:
    call = by_table(line.split())
    assert call is not None
    assert call == by_typer(application, line.split())
    assert (call[-1]["pull"], call[-1]["context"]) == (policy, context)


def test_every_adapter_explains_itself() -> None:
    for target in commands.COMMANDS:
        module, function = target.split(".")
        adapter = getattr(importlib.import_module(f"podpy.cli.{module}"), function)
        assert (adapter.__doc__ or "").endswith("."), target
        assert len(inspect.getsource(adapter).splitlines()) <= 45, target


def test_no_option_is_declared_that_no_command_takes() -> None:
    declared = {name for name in vars(options) if name[0].isupper()} - {
        "Annotated", "Any", "Argument", "Callable", "Option",
    }  # fmt: skip
    adapters = pathlib.Path(table.__file__).parent.glob("*.py")
    text = "".join(path.read_text(encoding="utf-8") for path in adapters)
    assert declared == set(re.findall(r"\bopt\.([A-Z][a-z]\w*)", text))


class Generator:
    """Command lines of one command, mostly right."""

    def __init__(self, path: str) -> None:
        group, _, name = path.rpartition(" ")
        row = table.COMMANDS[table.GROUPS[group][name]]
        self._random = random.Random(path)
        self._path = path.split()
        self._options = [self._parsed(text) for text in row[4].split()]
        self._globals = [self._parsed(text) for text in table.SETTINGS.split()]
        self._arguments = row[5].split()

    @staticmethod
    def _parsed(text: str) -> tuple[str, list[str]]:
        kind = text[0] if text[0] in parse.KINDS else ""
        return kind, text[len(kind) :].split(",")[1:]

    def line(self) -> list[str]:
        pick = self._random
        words: list[str] = []
        if pick.random() < 0.1:
            words += self._option(*pick.choice(self._globals))
        words += self._path
        options = [
            self._option(*pick.choice(self._options))
            for _ in range(pick.randrange(4))
            if self._options
        ]
        arguments = [[pick.choice(TEXTS)] for _ in range(pick.randrange(len(self._arguments) + 2))]
        if pick.random() < 0.2:
            arguments.append([pick.choice(("--", "-h", "--help", "--nope", "-zx", "-"))])
        parts = options + arguments
        if pick.random() < 0.4:
            pick.shuffle(parts)
        return words + [word for part in parts for word in part]

    def _option(self, kind: str, names: list[str]) -> list[str]:
        pick = self._random
        name = pick.choice(names)
        long = name.startswith("--")
        if kind == "!":
            if pick.random() < 0.5:
                return [name + self._bundled(long)]
            return [f"{name}={pick.choice(TRUTHS)}"]
        value = pick.choice(NUMBERS if kind == "#" else TEXTS)
        if kind == "?" and pick.random() < 0.5:
            return [name]
        styles = [[name, value], [f"{name}={value}"]]
        if not long:
            styles.append([name + value])
            styles.append([f"-{self._bundled(long)}{name[1]}{value}"])
        return pick.choice(styles)

    def _bundled(self, long: bool) -> str:
        """Letters of short switches to put before or behind another short option."""
        letters = [
            n[1] for kind, names in self._options if kind == "!" for n in names if len(n) == 2
        ]
        if long or not letters:
            return ""
        return "".join(self._random.choices(letters, k=self._random.randrange(2)))


@pytest.mark.parametrize("path", every_path())
def test_both_parsers_make_the_same_call_or_refuse(path: str, application: Any) -> None:
    generator = Generator(path)
    calls = 0
    for _ in range(LINES_PER_COMMAND):
        words = generator.line()
        quick, slow = by_table(words), by_typer(application, words)
        assert quick == slow, words
        calls += quick is not None
    assert calls, "no generated line was right"


@pytest.mark.parametrize(
    "words",
    ["", "run", "nope", "container", "container nope", "--root", "--root x", "--log-level=x ps"],
)
def test_both_refuse_what_is_no_command(words: str, application: Any) -> None:
    assert by_table(words.split()) is None
    assert by_typer(application, words.split()) is None


def test_the_manual_is_current() -> None:
    directory = pathlib.Path(table.__file__).parents[2] / "man"
    kept = {path.name: path.read_text(encoding="utf-8") for path in directory.iterdir()}
    assert kept == manual.pages(), "run python3 -m podpy.cli.compile"


def test_hints_name_commands_that_exist() -> None:
    """Every ``podpy VERB`` that messages of the package recommend."""
    known = set(every_path())
    for path in pathlib.Path(table.__file__).parents[1].rglob("*.py"):
        for named in re.findall(r"`podpy ([a-z]+(?: [a-z]+)?)", path.read_text(encoding="utf-8")):
            assert named in known or named.split()[0] in known, f"{path.name}: podpy {named}"
