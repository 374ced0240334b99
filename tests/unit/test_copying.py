"""Trees copied with all they have; layers copied over each other; volumes and their names."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from podpy.errors import Conflict, NotFound, UsageError
from podpy.paths import Store
from podpy.storage import copying, volumes

Copy = Callable[..., None]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.mkdir()
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "target"
    path.mkdir()
    return path


@pytest.fixture
def copy(source: Path, target: Path) -> Copy:
    def run(*, layered: bool = False) -> None:
        reading, writing = os.open(source, os.O_RDONLY), os.open(target, os.O_RDONLY)
        try:
            with copying.TreeCopy(layered=layered) as tree:
                tree.directory(reading, writing)
        finally:
            os.close(reading)
            os.close(writing)

    return run


def test_everything_a_file_has(source: Path, target: Path, copy: Copy) -> None:
    (source / "d").mkdir(mode=0o751)
    (source / "d/f").write_text("data")
    (source / "d/f").chmod(0o4710)
    os.setxattr(source / "d/f", "user.a", b"1")
    os.link(source / "d/f", source / "link")
    os.symlink("/nowhere", source / "s")
    os.mkfifo(source / "p", 0o600)
    for name in ("s", "d/f", "d", "."):
        os.utime(source / name, ns=(1, 2_000_000_003), follow_symlinks=False)
    copy()
    assert (target / "d/f").read_text() == "data"
    assert stat.S_IMODE((target / "d/f").stat().st_mode) == 0o4710
    assert os.getxattr(target / "d/f", "user.a") == b"1"
    assert (target / "link").stat().st_ino == (target / "d/f").stat().st_ino
    assert os.readlink(target / "s") == "/nowhere"
    assert stat.S_ISFIFO((target / "p").stat().st_mode)
    times = {(target / n).lstat().st_mtime_ns for n in ("s", "d/f", "d", ".")}
    assert times == {2_000_000_003}


def test_more_hard_links_than_descriptors(source: Path, target: Path, copy: Copy) -> None:
    for number in range(600):
        (source / f"a{number}").touch()
        os.link(source / f"a{number}", source / f"b{number}")
    copy()
    assert len(os.listdir(target)) == 1200


def test_a_layer_over_another(source: Path, target: Path, copy: Copy) -> None:
    (target / "keep").write_text("low")
    (target / "gone").mkdir()
    (target / "gone/f").touch()
    (target / "opaque").mkdir()
    (target / "opaque/low").touch()
    (target / "file").mkdir()
    (target / "directory").touch()
    os.symlink("keep", target / "link")
    os.mknod(source / "gone", stat.S_IFCHR, os.makedev(0, 0))
    (source / "opaque").mkdir()
    (source / "opaque/high").touch()
    os.setxattr(source / "opaque", "user.overlay.opaque", b"y")
    (source / "file").write_text("high")
    (source / "directory").mkdir()
    (source / "link").write_text("a file now")
    (source / ".wh.never").touch()
    copy(layered=True)
    assert sorted(os.listdir(target)) == ["directory", "file", "keep", "link", "opaque"]
    assert os.listdir(target / "opaque") == ["high"]
    assert (target / "keep").read_text() == "low"
    assert (target / "file").read_text() == "high"
    assert not (target / "link").is_symlink()
    assert "user.overlay.opaque" not in os.listxattr(target / "opaque")


# --- volumes ---------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def test_a_volume_is_made_found_and_removed(store: Store) -> None:
    made = volumes.create(store, "data", labels={"a": "b"})
    assert volumes.read(store, "data") == made
    assert stat.S_IMODE(os.stat(made.mountpoint).st_mode) == 0o755
    assert [volume.name for volume in volumes.every(store)] == ["data"]
    volumes.remove(store, "data")
    assert not volumes.exists(store, "data")
    assert os.listdir(store.tmp) == []


def test_the_record_has_no_path(store: Store) -> None:
    volumes.create(store, "data")
    assert store.root not in Path(store.volumes, "data", "volume.json").read_text()


def test_a_name_is_given_once(store: Store) -> None:
    volumes.create(store, "data")
    with pytest.raises(Conflict, match="already exists"):
        volumes.create(store, "data")
    assert os.listdir(store.tmp) == []


@pytest.mark.parametrize("name", ["../x", ".hidden", "a/b", "-x", "é", "x" * 256, "a b", "a\n"])
def test_what_is_no_name(store: Store, name: str) -> None:
    with pytest.raises(UsageError):
        volumes.create(store, name)
    with pytest.raises(NotFound):
        volumes.read(store, name)
    assert not volumes.exists(store, name)


def test_options_that_cannot_be_honoured_are_refused(store: Store) -> None:
    with pytest.raises(UsageError, match="device"):
        volumes.create(store, "data", options={"device": "/dev/sda"})


def test_a_new_volume_is_filled_once(store: Store, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "etc/x").mkdir(parents=True)
    (root / "etc/f").write_text("from the image")
    os.symlink("/etc", root / "link")
    volumes.create(store, "data")
    assert volumes.needs_filling(store, "data")
    data = volumes.data_path(store, "data")
    root_fd, data_fd = os.open(root, os.O_RDONLY), os.open(data, os.O_RDONLY)
    volumes.fill(root_fd, "/missing", data_fd)
    volumes.fill(root_fd, "/etc/f", data_fd)
    assert os.listdir(data) == []
    volumes.fill(root_fd, "/link", data_fd)  # the link is one of the image
    os.close(root_fd)
    os.close(data_fd)
    assert sorted(os.listdir(data)) == ["f", "x"]
    assert not volumes.needs_filling(store, "data")
    volumes.create(store, "other")
    volumes.mark_filled(store, "other")
    assert not volumes.needs_filling(store, "other")


# --- races with whoever else may write to the target


def test_a_link_in_the_place_of_a_fifo_is_not_followed(
    source: Path, target: Path, tmp_path: Path, copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(source / "pipe", 0o666)
    os.chmod(source / "pipe", 0o666)
    victim = tmp_path / "victim"
    victim.write_text("private")
    victim.chmod(0o600)

    def swapped(name: str, _mode: int, *, dir_fd: int) -> None:
        os.symlink(victim, name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "mkfifo", swapped)
    copy()
    assert stat.S_IMODE(victim.stat().st_mode) == 0o600


@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh..."])
def test_a_deletion_of_the_parent_is_none(
    source: Path, target: Path, copy: Copy, name: str
) -> None:
    (source / name).touch()
    (target / "kept").touch()
    sibling = target.parent / "sibling"
    sibling.touch()
    copy(layered=True)
    assert sibling.exists()
    assert (target / "kept").exists()
