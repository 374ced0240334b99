"""Builds: what people wait for, timed with podpy and with podman on the same contexts."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bench import image
from bench.measure import Row, Work, command, pair
from support.podpy import BUSYBOX

if TYPE_CHECKING:
    from bench.run import Bench

BUDGET = 0.5
STAGES_BUDGET = 0.6
FILES = 20_000
PER_DIRECTORY = 500
IGNORED_FILES = 1000
IGNORED_SIZE = 1_000_000
SLOW = 2  # seconds that a slow stage takes


def everything(bench: Bench) -> Iterator[Row]:
    for rows in (steps, cached, copy, one_file, stages, ignored):
        yield from rows(bench)


def steps(bench: Bench) -> Iterator[Row]:
    """Ten RUN steps that do next to nothing; with the default network, and with none."""
    context = _context(bench, "steps", _ten_steps())
    for network in ((), ("--network", "none")):
        name = "build, 10 RUN steps" + (", no network" if network else "")
        yield _build(bench, name, context, "--no-cache", *network, rounds=5)


def cached(bench: Bench) -> Iterator[Row]:
    context = _context(bench, "cached", _ten_steps() + "COPY Dockerfile /\n")
    yield _build(bench, "build, all of 10 steps cached", context)


def copy(bench: Bench) -> Iterator[Row]:
    context = _context(bench, "copy", f"FROM {BUSYBOX}\nCOPY tree /tree\n")
    for number in range(FILES):
        file = context / "tree" / str(number // PER_DIRECTORY) / f"file-{number}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"the content of file {number}\n" * 20)
    yield _build(bench, f"build, COPY of {FILES} files", context, "--no-cache", rounds=5)
    yield _build(bench, f"build, COPY of {FILES} files, cached", context, rounds=5)


def one_file(bench: Bench) -> Iterator[Row]:
    """What an application's image costs when one line of it has changed."""
    archive = image.big_archive()
    for tool in bench.tools:
        tool("load", "-q", "-i", archive, timeout=600)
    context = _context(bench, "one-file", f"FROM {image.NAME}\nCOPY app.py /srv/app.py\n")
    versions = itertools.count()

    def edit() -> None:
        (context / "app.py").write_text(f"print({next(versions)})\n")

    edit()
    yield _build(bench, "build, one changed file on 16,000", context, between=edit, rounds=7)
    for tool in bench.tools:
        tool("rmi", "-f", image.NAME, code=None)


def stages(bench: Bench) -> Iterator[Row]:
    text = "".join(
        f"FROM {BUSYBOX} AS {name}\nRUN sleep {SLOW}; echo {name} >/result\n" for name in "ab"
    )
    text += f"FROM {BUSYBOX}\nCOPY --from=a /result /a\nCOPY --from=b /result /b\n"
    context = _context(bench, "stages", text)
    yield _build(
        bench, "build, two independent slow stages", context, "--no-cache",
        budget=STAGES_BUDGET, rounds=3,
    )  # fmt: skip


def ignored(bench: Bench) -> Iterator[Row]:
    context = _context(bench, "ignored", f"FROM {BUSYBOX}\nCOPY . /srv\n")
    (context / ".dockerignore").write_text("data\n")
    (context / "app.py").write_text("print(1)\n")
    (context / "data").mkdir()
    for number in range(IGNORED_FILES):
        (context / "data" / str(number)).write_bytes(b"%08d" % number * (IGNORED_SIZE // 8))
    yield _build(bench, "build, nothing to do, 1 GB ignored", context)


def _ten_steps() -> str:
    return f"FROM {BUSYBOX}\n" + "".join(f"RUN echo {number} >/{number}\n" for number in range(10))


def _context(bench: Bench, name: str, dockerfile: str) -> Path:
    directory = bench.directory / f"context-{name}"
    directory.mkdir()
    (directory / "Dockerfile").write_text(dockerfile)
    return directory


def _build(
    bench: Bench,
    name: str,
    context: Path,
    *options: str,
    budget: float = BUDGET,
    rounds: int = 0,
    between: Work = lambda: None,
) -> Row:
    arguments = ("build", "-q", "-t", "localhost/built", *options, context)
    ours = command(bench.podpy.argv(*arguments), bench.podpy.env)
    theirs = command(bench.podman.argv(*arguments), bench.podman.env)

    def undo() -> None:
        between()
        for tool in bench.tools:
            tool("image", "prune", "-f", code=None)

    return pair(name, ours, theirs, rounds=rounds or bench.rounds, budget=budget, between=undo)
