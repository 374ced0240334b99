"""``builds``: the peer's side of the whole corpus, built once, beside the tests.
``builder``: podpy with one store and one build cache for all cases of a test process: a
step found in the cache that is not the same step is a difference, too.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance import corpus
from support import host, processes
from support.buildah import Buildah, Builds
from support.dockerfiles import Case
from support.podpy import Podpy

Batches = dict[str, list[tuple[Case, Path]]]


@pytest.fixture(scope="session")
def bases(shared: Path) -> list[Path]:
    directory = shared / "corpus-bases"
    with (shared / "corpus-bases.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not directory.exists():
            corpus.bases(directory)
    return sorted(directory.glob("*.tar"))


@pytest.fixture(scope="session")
def builds(request: pytest.FixtureRequest, shared: Path, bases: list[Path]) -> Iterator[Builds]:
    """Results of the peer; the first test process to come starts it."""
    host.require("buildah", "podman", "newuidmap", "subids")
    directory, peer = shared / "corpus", None
    with (shared / "corpus.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not directory.exists():
            directory.mkdir()
            selected = {
                item.callspec.params["case"].name
                for item in request.session.items
                if "builds" in getattr(item, "fixturenames", ()) and hasattr(item, "callspec")
            }
            processes.become_subreaper()
            peer = Buildah(directory)
            peer.start(bases, _write(directory / "contexts", selected))
    yield Builds(directory)
    if peer:
        peer.close()


def _write(directory: Path, selected: set[str]) -> Batches:
    """Lay out the contexts of the selected cases; both tools read the same files."""
    batches: Batches = {}
    for area, cases in {**corpus.COMPARED, **corpus.REFUSED}.items():
        chosen = [case for case in cases if case.name in selected]
        batches[area] = [(case, case.write(directory / area)) for case in chosen]
    return {area: cases for area, cases in batches.items() if cases}


@pytest.fixture(scope="module")
def builder(
    base: Path, bases: list[Path], cgroup: host.OwnCgroup, request: pytest.FixtureRequest
) -> Iterator[Podpy]:
    host.require("newuidmap", "subids")
    directory = base / f"corpus-{request.module.__name__.rpartition('.')[2]}"
    directory.mkdir(mode=0o700)
    watch = processes.Watch()
    runner = Podpy(directory, cgroup)
    for archive in bases:
        runner("load", "-q", "-i", archive)
    yield runner
    runner.clean_up(watch)
