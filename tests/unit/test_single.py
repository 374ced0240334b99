"""Records of owners and devices beside files, and layers made of them."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from podpy import files
from podpy.storage import diff, single
from podpy.storage.single import Ledger, Recorded


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.touch()
    try:
        os.setxattr(path, "user.test", b"")
    except OSError:
        pytest.skip("this file system has no extended attributes")
    return path


def test_an_owner_is_recorded_changed_and_forgotten(file: Path) -> None:
    path = str(file)
    assert single.recorded(path) is None
    assert single.set_owner(path, 5, 6)
    assert single.recorded(path) == Recorded(uid=5, gid=6)
    assert single.set_owner(path, 0, 0)
    assert single.OWNER not in os.listxattr(path)


def test_a_device_keeps_its_numbers_when_it_changes_hands(file: Path) -> None:
    single.set_node(str(file), block=True, device=os.makedev(8, 17))
    single.set_owner(str(file), 0, 6)
    wanted = Recorded(uid=0, gid=6, kind="block", major=8, minor=17)
    assert single.recorded(str(file)) == wanted


@pytest.mark.parametrize(
    "text", [b"", b"1", b"1:", b"a:b", b"-1:0", b"1:2:3", b"1:2:c:1", b"1:2:q:1:2", b"1:2:c:x:2",
             b"4294967295:0", b"\xff:1", b"1:2:c:1:2:3", "\u00b2:1".encode()],
)  # fmt: skip
def test_nonsense_is_no_record(file: Path, text: bytes) -> None:
    os.setxattr(file, single.OWNER, text)
    assert single.recorded(str(file)) is None


def test_a_link_holds_no_record(file: Path) -> None:
    link = file.parent / "link"
    link.symlink_to("file")
    fd = os.open(link, os.O_PATH | os.O_NOFOLLOW)
    assert not single.set_owner(f"/proc/self/fd/{fd}", 5, 6)
    os.close(fd)


def test_a_ledger_names_inodes_and_the_last_line_counts(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    (top / "l").symlink_to("x")
    changes = os.open(top, os.O_PATH)
    ledger = Ledger(str(tmp_path / "owners"), changes)
    status = (top / "l").lstat()
    assert ledger.add("l", status, 5, 6) and ledger.add("l", status, 7, 8)
    assert not ledger.add("missing", status, 1, 1)
    assert not ledger.add("../top/l", status, 1, 1), "a path that leaves the changes"
    assert ledger.has("l") and not ledger.has("missing")
    ledger.add_creator(55, 56)
    assert single.read_ledger(str(tmp_path / "owners")) == {
        status.st_ino: (7, 8),
        single.CREATOR: (55, 56),
    }
    assert single.read_ledger(str(tmp_path / "missing")) == {}


def layer(place: Path, name: str, records: list[dict[str, object]]) -> Path:
    tree = place / name / "diff"
    tree.mkdir(parents=True)
    if records:
        files.write_json(f"{place}/{name}/records.json", records)
    return tree


def entry(path: str, uid: int, kind: str = "symlink", **more: int) -> dict[str, object]:
    values = {"mode": 0o600, "gid": uid, "major": 0, "minor": 0, "mtime": 5_000_000_000, **more}
    return {"path": path, "type": kind, "uid": uid, **values}


def test_the_layer_that_has_a_link_says_whose_it_is(tmp_path: Path) -> None:
    low = layer(tmp_path, "low", [entry("a", 1), entry("b", 1), entry("c", 1)])
    high = layer(tmp_path, "high", [entry("b", 2)])
    (high / "b").symlink_to("x")
    (high / "c").symlink_to("x")  # anew, and root's
    found = single.of_layers([str(high), str(low)])
    assert {path: who.uid for path, who in found.items()} == {"a": 1, "b": 2}


def test_what_layers_record_is_carried_into_one_tree(tmp_path: Path) -> None:
    low = layer(tmp_path, "low", [entry("l", 5), entry("gone/l", 5),
                                  entry("n", 0, "character", major=1, minor=3)])  # fmt: skip
    target = tmp_path / "target"
    target.mkdir()
    (target / "l").symlink_to("x")
    single.carry([str(low)], str(target), str(tmp_path / "owners"))
    assert single.read_ledger(str(tmp_path / "owners")) == {(target / "l").lstat().st_ino: (5, 5)}
    known = single.recorded(str(target / "n"))
    assert known and (known.kind, known.major, known.minor) == ("character", 1, 3)
    assert (target / "n").stat().st_mtime == 5


def archived(tree: Path, **options: object) -> tuple[dict[str, tarfile.TarInfo], dict[str, object]]:
    reading = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
    path = tree.parent / "out.tar"
    with path.open("wb") as out:
        summary = diff.write(reading, out.fileno(), **options)  # type: ignore[arg-type]
    os.close(reading)
    with tarfile.open(fileobj=io.BytesIO(path.read_bytes())) as tar:
        return {member.name: member for member in tar}, summary


def test_a_layer_has_the_recorded_owners_and_devices(file: Path) -> None:
    tree = file.parent / "tree"
    (tree / "d").mkdir(parents=True)
    for name in ("f", "null"):
        (tree / "d" / name).touch()
    os.link(tree / "d/f", tree / "d/h")
    (tree / "d/l").symlink_to("f")
    single.set_owner(str(tree / "d"), 1, 2)
    single.set_owner(str(tree / "d/f"), 3, 4)
    single.set_node(str(tree / "d/null"), block=False, device=os.makedev(1, 3))
    members, summary = archived(tree, owners={(tree / "d/l").lstat().st_ino: (5, 6)})
    owners = {name: (each.uid, each.gid) for name, each in members.items()}
    assert owners["d"] == (1, 2) and owners["d/f"] == owners["d/h"] == (3, 4)
    assert owners["d/l"] == (5, 6) and members["d/h"].islnk()
    null = members["d/null"]
    assert null.ischr() and (null.devmajor, null.devminor) == (1, 3)
    assert all(not each.pax_headers for each in members.values())
    (recorded,) = summary["records"]  # type: ignore[misc]
    assert (recorded["path"], recorded["type"], recorded["uid"]) == ("d/l", "symlink", 5)


def test_what_is_new_belongs_to_its_creator_and_what_came_up_does_not(file: Path) -> None:
    tree = file.parent / "tree"
    tree.mkdir()
    for name in ("new", "copied"):
        (tree / name).touch()
    (tree / "link").symlink_to("new")
    os.setxattr(tree / "copied", "user.overlay.origin", b"")
    members, summary = archived(tree, owners={single.CREATOR: (55, 56)})
    uid = os.getuid()
    owners = {name: each.uid for name, each in members.items()}
    assert owners == {"new": 55, "link": 55, "copied": uid, ".": uid} or owners == {
        "new": 55, "link": 55, "copied": uid,
    }  # fmt: skip
    assert single.recorded(str(tree / "new")) == Recorded(uid=55, gid=56), "for later steps"
    assert [each["path"] for each in summary["records"]] == ["link"]  # type: ignore[attr-defined]
