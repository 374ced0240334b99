"""With SOURCE_DATE_EPOCH a build's digest is the same for everybody, everywhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import digests, host, images
from support.digests import BUILD, EPOCH, GIVEN, build
from support.flat import Reader
from support.podpy import CHECKOUT, Podpy
from support.polling import eventually


@pytest.fixture(name="context", scope="module")
def _context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return BUILD.write(tmp_path_factory.mktemp("context"))


@pytest.fixture(name="expected", scope="module")
def _expected(context: Path, shared: Path, template: Path) -> str:
    """What a first build gave, in a store of its own."""
    directory = Path(os.environ.get("PODPY_TEST_BASE", shared)) / f"digests-{os.getpid()}"
    directory.mkdir(mode=0o700)
    podpy = Podpy(directory)
    digests.prepare(podpy)
    try:
        return build(podpy, context, *GIVEN)
    finally:
        podpy._remove_directory()


def test_in_another_store_again(podpy: Podpy, context: Path, expected: str) -> None:
    assert build(podpy, context, *GIVEN) == expected


def test_by_the_environment(podpy: Podpy, context: Path, expected: str) -> None:
    """BuildKit's clients take the variable for the argument."""
    assert build(podpy, context, env={"SOURCE_DATE_EPOCH": EPOCH}) == expected


def test_the_argument_wins_over_the_environment(podpy: Podpy, context: Path, expected: str) -> None:
    assert build(podpy, context, *GIVEN, env={"SOURCE_DATE_EPOCH": "1"}) == expected


def test_another_time_is_another_image(podpy: Podpy, context: Path, expected: str) -> None:
    given = ("--build-arg", "SOURCE_DATE_EPOCH=1600000001")
    assert build(podpy, context, *given) != expected


def test_from_another_directory_with_other_times(
    podpy: Podpy, tmp_path: Path, expected: str
) -> None:
    """Made in another order, with times of now: a fresh clone of the same commit."""
    context = BUILD.write(tmp_path / "elsewhere" / "and deeper")
    for path in sorted(context.rglob("*")):
        os.utime(path, follow_symlinks=False)
    assert build(podpy, context, *GIVEN) == expected


def test_on_another_file_system(cgroup: host.OwnCgroup, expected: str, directory: Path) -> None:
    """A tmpfs lists its directories in another order, and has other inode numbers and sizes."""
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR", "/nonexistent"))
    if not runtime.exists() or runtime.stat().st_dev == directory.stat().st_dev:
        pytest.skip("there is no second file system here")
    place = runtime / f"digests-{os.getpid()}"
    place.mkdir(mode=0o700)
    podpy = Podpy(place)
    try:
        digests.prepare(podpy)
        assert build(podpy, BUILD.write(place), *GIVEN) == expected
    finally:
        podpy._remove_directory()


def test_by_another_user(expected: str) -> None:
    """Who has another id, other subordinate ids and another umask (see bed.sh)."""
    given = os.environ.get("PODPY_TEST_ELSEWHERE")
    if not given:
        pytest.skip("only tests/run.sh as root can build as another user")
    eventually(lambda: Path(given).exists(), timeout=60, what="the other user's build")
    assert Path(given).read_text().strip() == expected


@pytest.fixture(name="commands", scope="module")
def _commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[str]]]:
    """podpy as it is shipped: the archive, the installed package, and the checkout."""
    directory = tmp_path_factory.mktemp("commands")
    archive = Path(os.environ.get("PODPY") or directory / "podpy.pyz")
    if not archive.exists():
        subprocess.run(["bash", CHECKOUT / "packaging/zipapp.sh", archive], check=True)
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    site = directory / "lib" / version / "site-packages"
    (directory / "bin").mkdir()
    shutil.copytree(CHECKOUT / "podpy", site / "podpy")
    shutil.copy(CHECKOUT / "packaging/podpy", directory / "bin/podpy")
    (directory / "bin" / version).symlink_to(sys.executable)
    yield {
        "archive": [str(archive)],
        "installed": [str(directory / "bin/podpy")],
        "checkout": [sys.executable, "-m", "podpy"],
    }


@pytest.mark.parametrize("which", ["archive", "installed", "checkout"])
def test_by_every_way_to_start_podpy(
    which: str, commands: dict[str, list[str]], podpy: Podpy, context: Path, expected: str
) -> None:
    podpy.command = tuple(commands[which])
    own = {"PYTHONPATH": str(CHECKOUT) if which == "checkout" else None}
    assert build(podpy, context, *GIVEN, env=own) == expected


@pytest.mark.parametrize("jobs", ["1", "8"])
def test_with_any_number_of_jobs(jobs: str, podpy: Podpy, context: Path, expected: str) -> None:
    assert build(podpy, context, *GIVEN, "--jobs", jobs) == expected


def test_under_another_locale_and_time_zone(podpy: Podpy, context: Path, expected: str) -> None:
    env = {"TZ": "Asia/Kolkata", "LC_ALL": "C", "LANG": None, "PYTHONHASHSEED": "7"}
    assert build(podpy, context, *GIVEN, env=env) == expected


def test_nothing_in_the_image_is_later_than_that(podpy: Podpy, context: Path) -> None:
    build(podpy, context, *GIVEN)
    archive = podpy.directory / "same.tar"
    podpy("save", "-q", "--format", "docker-archive", "-o", archive, "localhost/same")
    image = Reader().images(archive)["same"]
    moment = "2020-09-13T12:26:40Z"
    assert image.document["created"] == moment
    own = [entry for entry in image.history if entry["created_by"] != "test"]
    assert {entry["created"] for entry in own} == {moment}
    base = images.EPOCH
    assert {int(entry.mtime) for entry in image.tree.values()} <= {int(EPOCH), base}
    assert image.tree["epoch"].content == f"{EPOCH}\n"
    assert image.tree["work/deep/tree/sub"].owner == (7, 8)
    assert image.tree["work/deep/tree/ü"].owner == (1000, 1001)
