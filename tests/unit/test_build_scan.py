"""The digests of unchanged files are remembered, and those of changed ones never."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from podpy.build import scan
from podpy.build.model import Source
from podpy.build.scan import Remembered


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/podpy/build/stat"


@pytest.fixture
def context(tmp_path: Path) -> Path:
    directory = tmp_path / "context"
    directory.mkdir()
    return directory


class Reader:
    """Digests files, and knows which ones were read."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def __call__(self, parent: int, name: str, path: str, _status: os.stat_result) -> str:
        self.read.append(path)
        fd = os.open(name, os.O_RDONLY, dir_fd=parent)
        try:
            return hashlib.sha256(os.read(fd, 1 << 20)).hexdigest()
        finally:
            os.close(fd)


def digests(context: Path) -> tuple[dict[str, str], list[str]]:
    """The digest of every file, and the files that were read for it."""
    reader = Reader()
    found = {}
    fd = os.open(context, os.O_RDONLY)
    with Remembered(Source(directory=str(context)), reader) as digest:
        for name in sorted(os.listdir(context)):
            found[name] = digest(fd, name, name, os.lstat(context / name))
    os.close(fd)
    return found, reader.read


def remembered(context: Path) -> Remembered:
    return Remembered(Source(directory=str(context)), Reader())


def settle() -> None:
    """Wait until a change of now would have another time."""
    time.sleep(0.05)


def test_what_did_not_change_is_not_read_again(context: Path) -> None:
    for name in ("a", "b"):
        (context / name).write_text(name)
    settle()
    first, read = digests(context)
    assert read == ["a", "b"]
    (context / "b").write_text("B")
    settle()
    second, read = digests(context)
    assert read == ["b"]
    assert second["a"] == first["a"] and second["b"] == hashlib.sha256(b"B").hexdigest()
    assert digests(context) == (second, [])


def test_a_touched_file_is_read_and_has_the_same_digest(context: Path) -> None:
    (context / "a").write_text("a")
    settle()
    first, _ = digests(context)
    os.utime(context / "a", ns=(1, 1))
    settle()
    assert digests(context) == (first, ["a"])
    assert digests(context) == (first, [])


def test_a_change_that_keeps_size_and_modification_time_is_seen(context: Path) -> None:
    path = context / "a"
    path.write_text("old")
    os.utime(path, ns=(1, 1))
    settle()
    digests(context)
    path.write_text("new")
    os.utime(path, ns=(1, 1))
    found, read = digests(context)
    assert read == ["a"]
    assert found["a"] == hashlib.sha256(b"new").hexdigest()


def test_a_file_put_in_the_place_of_another_is_seen(context: Path) -> None:
    for name, text in (("a", "one"), ("b", "two")):
        (context / name).write_text(text)
        os.utime(context / name, ns=(1, 1))
    settle()
    digests(context)
    (context / "b").rename(context / "a")
    found, _ = digests(context)
    assert found == {"a": hashlib.sha256(b"two").hexdigest()}


def test_a_file_that_just_changed_is_not_trusted(context: Path) -> None:
    """A second write within the clock's tick would leave size and times as they are."""
    path = context / "a"
    for number in range(20):
        path.write_text(f"{number:02}")
        found, _ = digests(context)
        assert found["a"] == hashlib.sha256(f"{number:02}".encode()).hexdigest()


def test_a_change_while_it_is_read_is_not_remembered_for_the_old_state(context: Path) -> None:
    path = context / "a"
    path.write_text("old")
    settle()
    fd = os.open(context, os.O_RDONLY)
    with remembered(context) as digest:
        status = os.lstat(path)
        path.write_text("new")
        assert digest(fd, "a", "a", status) == hashlib.sha256(b"new").hexdigest()
    path.write_text("xyz")
    found, _ = digests(context)
    assert found["a"] == hashlib.sha256(b"xyz").hexdigest()
    os.close(fd)


@pytest.mark.parametrize(
    "damage",
    ["", "{", "[]", '{"version": 99, "files": {}}', '{"version": 1}', '"\\ud800"'],
)
def test_a_damaged_cache_is_no_cache(context: Path, cache: Path, damage: str) -> None:
    (context / "a").write_text("a")
    settle()
    first, _ = digests(context)
    [file] = cache.iterdir()
    file.write_text(damage)
    assert digests(context) == (first, ["a"])
    assert digests(context) == (first, [])


def test_a_cache_that_cannot_be_written_is_no_error(context: Path, cache: Path) -> None:
    (context / "a").write_text("a")
    settle()
    cache.parent.mkdir(parents=True)
    cache.write_text("not a directory")
    first, _ = digests(context)
    assert digests(context) == (first, ["a"])


def test_workers_add_to_what_others_kept(context: Path) -> None:
    for name in ("a", "b"):
        (context / name).write_text(name)
    settle()
    fd = os.open(context, os.O_RDONLY)
    with remembered(context) as one, remembered(context) as other:
        one(fd, "a", "a", os.lstat(context / "a"))
        other(fd, "b", "b", os.lstat(context / "b"))
    os.close(fd)
    assert digests(context)[1] == []


def test_names_that_are_no_text(context: Path) -> None:
    (context / os.fsdecode(b"\xff\n\x01")).write_text("x")
    settle()
    first, _ = digests(context)
    assert digests(context) == (first, [])


def test_old_contexts_make_room(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "_MOST_CONTEXTS", 3)
    for number in range(6):
        context = tmp_path / str(number)
        context.mkdir()
        (context / "a").write_text("a")
        settle()
        digests(context)
    assert len(list(cache.iterdir())) == 3
    assert digests(tmp_path / "5")[1] == []
    assert digests(tmp_path / "0")[1] == ["a"]


def test_nothing_is_kept_of_what_is_gone_after_the_build(context: Path, cache: Path) -> None:
    (context / "a").write_text("a")
    settle()
    fd = os.open(context, os.O_RDONLY)
    with Remembered(Source(directory=str(context), passing=True), Reader()) as digest:
        digest(fd, "a", "a", os.lstat(context / "a"))
    os.close(fd)
    assert not cache.exists()
