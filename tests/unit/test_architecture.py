"""The rules that keep podpy readable, each with its reason, held by a test.

Imports go down only:

    cli → engine → {runtime, build, registry, storage, net} → kernel → the base modules
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "podpy"

LEVELS = (
    {
        "errors",
        "records",
        "netmodel",
        "model",
        "files",
        "paths",
        "settings",
        "config",
        "conffiles",
        "version",
    },
    {"kernel"},
    {"runtime", "build", "registry", "storage", "net"},
    {"engine"},
    {"cli", "api", "compose", "kube"},
    {"__main__"},
)

# Siblings know nothing of each other, so that each can be read alone, except where one
# is made of the other's parts.
SIBLINGS = {
    "runtime": ("podpy.net", "podpy.storage.overlay"),
    "build": ("podpy.runtime", "podpy.storage", "podpy.registry"),
}


class Owner(NamedTuple):
    """A name that may be used in one place only."""

    name: str
    places: tuple[str, ...]
    reason: str


IMPORT_OWNERS = (
    Owner("typer", ("cli/",), "it costs 40 ms to import, and the engine has no command line"),
    Owner("click", ("cli/",), "as typer"),
    Owner("rich", ("cli/",), "what a user sees is rendered in one layer"),
    Owner("ctypes", ("kernel/libc.py",), "every system call has one wrapper, set up once"),
    Owner("subprocess", ("kernel/process.py",), "helpers are started, and waited for, in one way"),
    Owner("logging", (), "errors are raised, output is rendered: nothing is logged on the side"),
    Owner("pickle", (), "state is JSON that a person can read; pickles run code"),
    Owner("tarfile", (), "its filters were broken again and again; storage.tar unpacks by itself"),
    Owner("multiprocessing", (), "processes are forked by runtime/, with a reason for each"),
)
CALL_OWNERS = (
    Owner("sys.exit", (), "the entry point alone ends the program"),
    Owner("os._exit", ("kernel/process.py",), "a forked child ends in one place"),
    Owner("posix._exit", ("__main__.py",), "the command ends in one place, at once"),
    Owner("os.system", (), "no shell stands between podpy and a program"),
    Owner("os.fork", ("kernel/process.py",), "a fork has rules (threads, descriptors, exit)"),
)
MAX_FILE = 500
MAX_FUNCTION = 60


class Source(NamedTuple):
    path: Path
    module: str
    text: str
    tree: ast.Module

    @property
    def place(self) -> str:
        return str(self.path.relative_to(PACKAGE))

    @property
    def part(self) -> str:
        """The level's member it belongs to: ``kernel``, ``engine``, ``errors`` …"""
        return self.place.split("/")[0].removesuffix(".py")


@cache
def sources() -> tuple[Source, ...]:
    return tuple(_source(path) for path in sorted(PACKAGE.rglob("*.py")))


def _source(path: Path) -> Source:
    dotted = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    text = path.read_text()
    return Source(path, dotted, text, ast.parse(text))


def imports(source: Source) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything a module imports, at any depth."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source.place}:{node.lineno}: relative import"
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


def dotted_names(source: Source) -> Iterator[tuple[int, str]]:
    """Line and text of every ``module.name`` used."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield node.lineno, f"{node.value.id}.{node.attr}"


def level(part: str) -> int:
    for number, members in enumerate(LEVELS):
        if part in members:
            return number
    raise AssertionError(f"podpy/{part} belongs to no level: see the table in this test")


def is_below(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def report(problems: list[str]) -> None:
    assert not problems, "\n" + "\n".join(problems)


def test_imports_go_down_only() -> None:
    """A lower layer that knows an upper one can be neither read nor tested alone."""
    problems = []
    for source in sources():
        if not source.part or source.part == "__init__":
            continue
        for line, name in imports(source):
            if not name.startswith("podpy."):
                continue
            target = name.split(".")[1]
            if target == "__version__":
                continue
            upward = level(target) > level(source.part)
            sibling = level(target) == level(source.part) > 0 and target != source.part
            allowed = any(is_below(name, each) for each in SIBLINGS.get(source.part, ()))
            if upward or (sibling and not allowed):
                kind = "upward" if upward else "sibling"
                problems.append(f"{source.place}:{line}: {kind} import of {name}")
    report(problems)


def test_there_are_no_import_cycles() -> None:
    """A cycle makes the order of imports matter, which no reader can see.

    Imports inside functions count too: they hide a cycle, they do not remove it.
    """
    modules = {source.module for source in sources()}
    graph: dict[str, set[str]] = {
        source.module: {
            target
            for _, name in imports(source)
            for target in (name, name.rpartition(".")[0])
            if target in modules and target not in ("podpy", source.module)
        }
        for source in sources()
    }
    report([" → ".join(cycle) for cycle in _cycles(graph)])


def _cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    found: list[list[str]] = []
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> None:
        if module in path:
            found.append([*path[path.index(module) :], module])
            return
        if module in done:
            return
        for target in sorted(graph[module]):
            visit(target, [*path, module])
        done.add(module)

    for module in sorted(graph):
        visit(module, [])
    return found


@pytest.mark.parametrize("owner", IMPORT_OWNERS, ids=lambda owner: owner.name)
def test_imports_that_have_an_owner(owner: Owner) -> None:
    report(
        [
            f"{source.place}:{line}: imports {name}; {owner.reason}"
            for source in sources()
            for line, name in imports(source)
            if is_below(name, owner.name) and not source.place.startswith(owner.places or ("-",))
        ]
    )


@pytest.mark.parametrize("owner", CALL_OWNERS, ids=lambda owner: owner.name)
def test_calls_that_have_an_owner(owner: Owner) -> None:
    report(
        [
            f"{source.place}:{line}: uses {name}; {owner.reason}"
            for source in sources()
            for line, name in dotted_names(source)
            if name == owner.name and not source.place.startswith(owner.places or ("-",))
        ]
    )


def test_packages_import_nothing_by_themselves() -> None:
    """An ``__init__.py`` with code runs before whatever is asked for, and costs every command."""
    report(
        [
            source.place
            for source in sources()
            if source.path.name == "__init__.py" and source.tree.body
        ]
    )


def test_files_are_no_drawers() -> None:
    """A file that does not fit into a reader's head holds more than one concern."""
    report(
        [
            f"{source.place}: {count} lines, at most {MAX_FILE}"
            for source in sources()
            if (count := source.text.count("\n")) > MAX_FILE
        ]
    )


def test_functions_are_no_scripts() -> None:
    """A function longer than a screen does several things one after the other."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    report(
        [
            f"{source.place}:{node.lineno}: {node.name} has {length} lines, at most {MAX_FUNCTION}"
            for source in sources()
            for node in ast.walk(source.tree)
            if isinstance(node, kinds)
            and (length := (node.end_lineno or 0) - node.lineno + 1) > MAX_FUNCTION
        ]
    )


def test_nothing_is_left_undone() -> None:
    """An option or branch that only pretends is worse than one that is missing."""
    marks = ("TO" + "DO", "FIX" + "ME", "NotImplemented" + "Error")
    report(
        [
            f"{source.place}:{number}: {line.strip()}"
            for source in sources()
            for number, line in enumerate(source.text.splitlines(), 1)
            if any(mark in line for mark in marks)
        ]
    )


@pytest.mark.parametrize("part", ["net/*", "build/*", "engine/build_*", "cli/build_*"])
def test_the_map_names_every_module(part: str) -> None:
    """Who comes to thirty modules needs a map, and it must not be yesterday's."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    modules = {path.stem for path in PACKAGE.glob(f"{part}.py")} - {"__init__"}
    assert modules
    assert {name for name in modules if f"`{name}`" not in text} == set()


def test_the_top_level_holds_what_it_should() -> None:
    """A newcomer reads the listing first."""
    wanted = {
        "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md",
        "podpy", "completions", "man", "tests", "packaging",
    }  # fmt: skip
    made = {"build", "dist"}
    shown = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    shown = {name for name in shown - made if not name.endswith((".egg-info", ".pyz"))}
    shown.discard("__pycache__")
    assert shown == wanted
