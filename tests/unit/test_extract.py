"""Layers unpacked by the extractor: what they may do, and that nothing leaves the tree."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from podpy.errors import ImageError
from podpy.storage import extract, tar
from podpy.storage.extract import Extractor, Limits
from support.images import Layer
from support.tars import gnu_sparse

Unpack = Callable[..., Extractor]
MARK = "do not touch\n"


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A directory beside the tree that no layer may reach."""
    path = tmp_path / "victim"
    path.mkdir()
    (path / "file").write_text(MARK)
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    path = tmp_path / "outer" / "tree"
    path.mkdir(parents=True)
    return path


@pytest.fixture
def unpack(tmp_path: Path, tree: Path) -> Iterator[Unpack]:
    old = os.umask(0)

    def run(layer: Layer | bytes, **options: object) -> Extractor:
        path = tmp_path / "layer.tar"
        path.write_bytes(layer if isinstance(layer, bytes) else layer.bytes())
        root, fd = os.open(tree, os.O_RDONLY), os.open(path, os.O_RDONLY)
        try:
            extractor = Extractor(root, **options)  # type: ignore[arg-type]
            extractor.run(tar.Reader(tar.Stream(fd)))
            return extractor
        finally:
            os.close(fd)
            os.close(root)

    yield run
    os.umask(old)


def is_whiteout(path: Path) -> bool:
    status = path.lstat()
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_opaque(path: Path) -> bool:
    return extract.OPAQUE_XATTR in os.listxattr(path)


# --- what layers hold ------------------------------------------------------------


def test_files_directories_links_and_fifos(unpack: Unpack, tree: Path) -> None:
    layer = Layer().directory("d", 0o750).file("d/f", "data", 0o640).symlink("d/s", "f")
    layer.hardlink("h", "d/f").entry("p", tarfile.FIFOTYPE, mode=0o622)
    unpack(layer)
    assert (tree / "d/f").read_text() == "data"
    assert stat.S_IMODE((tree / "d").stat().st_mode) == 0o750
    assert stat.S_IMODE((tree / "d/f").stat().st_mode) == 0o640
    assert os.readlink(tree / "d/s") == "f"
    assert (tree / "h").stat().st_ino == (tree / "d/f").stat().st_ino
    assert stat.S_ISFIFO((tree / "p").stat().st_mode)
    assert stat.S_IMODE((tree / "p").stat().st_mode) == 0o622


def test_times_of_files_links_and_of_directories_that_were_written_into(
    unpack: Unpack, tree: Path
) -> None:
    layer = Layer().directory("d", mtime=1000).file("d/f", mtime=2000).symlink("d/s", "f", mtime=3)
    unpack(layer.directory(".", mtime=4000))
    found = [(tree / name).lstat().st_mtime for name in ("d", "d/f", "d/s", ".")]
    assert found == [1000, 2000, 3, 4000]


@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o1777, 0o0700])
def test_special_bits_survive(unpack: Unpack, tree: Path, mode: int) -> None:
    unpack(Layer().file("f", "data", mode).directory("d", mode))
    assert stat.S_IMODE((tree / "f").stat().st_mode) == mode
    assert stat.S_IMODE((tree / "d").stat().st_mode) == mode


def test_missing_parents_are_made(unpack: Unpack, tree: Path) -> None:
    unpack(Layer().file("a/b/c", "x"))
    assert stat.S_IMODE((tree / "a/b").stat().st_mode) == 0o755


def test_a_name_with_a_newline_is_a_name(unpack: Unpack, tree: Path) -> None:
    unpack(Layer().file("a\nb", "x"))
    assert os.listdir(tree) == ["a\nb"]


def test_a_name_that_is_not_utf_8(unpack: Unpack, tree: Path) -> None:
    unpack(Layer().file(os.fsdecode(b"caf\xe9"), "x").bytes())
    assert len(os.listdir(os.fsencode(tree))) == 1


def test_more_directories_than_descriptors(unpack: Unpack, tree: Path) -> None:
    layer = Layer()
    for number in range(1500):
        layer.file(f"d{number}/e/f", "x")
    unpack(layer)
    assert len(os.listdir(tree)) == 1500


def test_hard_links_across_more_directories_than_descriptors(unpack: Unpack, tree: Path) -> None:
    layer = Layer().file("first/f", "x")
    for number in range(900):
        layer.file(f"d{number}/x", "").hardlink(f"d{number}/l", "first/f")
    unpack(layer)
    assert (tree / "first/f").stat().st_nlink == 901


def test_a_sparse_file_keeps_its_holes(unpack: Unpack, tree: Path) -> None:
    unpack(gnu_sparse([(0, 2), (9_000_000, 3)], 10_000_000, b"abcde"))
    status = (tree / "sparse").stat()
    assert status.st_size == 10_000_000
    assert status.st_blocks * 512 < 1_000_000
    with (tree / "sparse").open("rb") as file:
        file.seek(9_000_000)
        assert file.read(4) == b"cde\0"


def test_device_nodes_are_written_down(unpack: Unpack, tree: Path) -> None:
    made = unpack(Layer().entry("null", tarfile.CHRTYPE, mode=0o666, devmajor=1, devminor=3))
    assert os.listdir(tree) == []
    (entry,) = made.records
    assert (entry["path"], entry["type"], entry["mode"]) == ("null", "character", 0o666)
    assert (entry["major"], entry["minor"]) == (1, 3)


def test_with_one_id_owners_are_written_down(unpack: Unpack, tree: Path) -> None:
    layer = Layer().file("f", uid=12, gid=34).directory("d", uid=5).symlink("s", "f", gid=6)
    made = unpack(layer, single=True)
    assert os.getxattr(tree / "f", extract.OWNER_XATTR) == b"12:34"
    assert os.getxattr(tree / "d", extract.OWNER_XATTR) == b"5:0"
    assert [(r["path"], r["uid"], r["gid"]) for r in made.records] == [("s", 0, 6)]


def test_extended_attributes_of_the_image_but_not_those_that_steer_overlays(
    unpack: Unpack, tree: Path
) -> None:
    names = ("user.mine", "user.overlay.redirect", "user.podpy.owner", "trusted.overlay.opaque")
    headers = {f"SCHILY.xattr.{name}": "x" for name in names}
    unpack(Layer().file("f", "x", pax_headers=headers))
    assert os.listxattr(tree / "f") == ["user.mine"]


# --- duplicates --------------------------------------------------------------------


def test_the_last_of_a_name_wins(unpack: Unpack, tree: Path) -> None:
    layer = Layer().file("a", "1").file("a", "2").symlink("b", "x").file("b", "3")
    unpack(layer.file("c", "4").symlink("c", "y").file("d", "5").directory("d"))
    assert (tree / "a").read_text() == "2"
    assert (tree / "b").read_text() == "3"
    assert os.readlink(tree / "c") == "y"
    assert (tree / "d").is_dir()


def test_a_file_replaces_a_whole_directory(unpack: Unpack, tree: Path) -> None:
    layer = Layer().directory("d").file("d/e/f", "1").directory("d/x", mtime=5).file("d", "2")
    unpack(layer)
    assert (tree / "d").read_text() == "2"


def test_a_directory_twice_is_one_with_the_later_mode(unpack: Unpack, tree: Path) -> None:
    unpack(Layer().directory("d", 0o700).file("d/f", "x").directory("d", 0o711))
    assert stat.S_IMODE((tree / "d").stat().st_mode) == 0o711
    assert (tree / "d/f").exists()


# --- whiteouts ---------------------------------------------------------------------


def test_a_whiteout_is_a_device_that_overlayfs_reads(unpack: Unpack, tree: Path) -> None:
    unpack(Layer().file("d/.wh.gone"))
    assert is_whiteout(tree / "d/gone")


def test_an_opaque_directory(unpack: Unpack, tree: Path) -> None:
    unpack(Layer().directory("d").file("d/.wh..wh..opq").file("d/f", "x"))
    assert is_opaque(tree / "d")
    assert os.listdir(tree / "d") == ["f"]


def test_a_whiteout_spares_what_its_own_layer_brings(unpack: Unpack, tree: Path) -> None:
    unpack(Layer().file("a", "x").file(".wh.a").directory("d").file("d/f", "y").file(".wh.d"))
    assert (tree / "a").read_text() == "x"
    assert (tree / "d/f").read_text() == "y"
    assert is_opaque(tree / "d")


def test_what_is_deleted_and_made_anew_hides_what_lies_below(unpack: Unpack, tree: Path) -> None:
    layer = Layer().file(".wh.a").file("a", "x").file(".wh.d").directory("d").file(".wh.e")
    unpack(layer.file("e/f", "y"))
    assert (tree / "a").read_text() == "x"
    assert is_opaque(tree / "d")
    assert is_opaque(tree / "e")
    assert (tree / "e/f").read_text() == "y"


def test_bookkeeping_of_aufs_is_left_out(unpack: Unpack, tree: Path) -> None:
    unpack(Layer().directory(".wh..wh.plnk").file(".wh..wh.aufs"))
    assert os.listdir(tree) == []


@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh...", "d/.wh..", "d/.wh..."])
def test_whiteouts_of_nothing_or_of_the_parent_are_refused(
    unpack: Unpack, tree: Path, name: str
) -> None:
    with pytest.raises(ImageError):
        unpack(Layer().file("keep", "x").file(name))
    assert (tree / "keep").exists()


# --- hostile layers ----------------------------------------------------------------


def intact(tree: Path, victim: Path) -> bool:
    outside = sorted(os.listdir(tree.parent)) + sorted(os.listdir(victim))
    return outside == ["tree", "file"] and (victim / "file").read_text() == MARK


@pytest.mark.parametrize("name", ["../victim/file", "a/../../victim/file", "..", "../x"])
def test_names_that_leave_the_tree(unpack: Unpack, tree: Path, victim: Path, name: str) -> None:
    with pytest.raises(ImageError, match="leaves the tree"):
        unpack(Layer().file(name, "evil"))
    assert intact(tree, victim)


def test_an_absolute_name_is_one_of_the_tree(unpack: Unpack, tree: Path, victim: Path) -> None:
    unpack(Layer().file(f"{victim}/file", "inside"))
    assert intact(tree, victim)
    assert (tree / str(victim).lstrip("/") / "file").read_text() == "inside"


@pytest.mark.parametrize("target", ["/victim", "../../victim", "."])
def test_nothing_is_written_through_a_symbolic_link(
    unpack: Unpack, tree: Path, victim: Path, target: str
) -> None:
    target = target.replace("/victim", str(victim)) if target.startswith("/") else target
    for kind in ("file", "directory", "symlink", "hardlink", "whiteout", "opaque"):
        layer = Layer().symlink("link", target).file("own", "x")
        match kind:
            case "file":
                layer.file("link/new", "evil")
            case "directory":
                layer.directory("link/new")
            case "symlink":
                layer.symlink("link/new", "x")
            case "hardlink":
                layer.hardlink("link/new", "own")
            case "whiteout":
                layer.file("link/.wh.file")
            case _:
                layer.file("link/.wh..wh..opq")
        with pytest.raises(ImageError, match="not a directory"):
            unpack(layer)
        assert intact(tree, victim), kind
        for name in os.listdir(tree):
            (tree / name).unlink()


def test_a_file_over_a_symbolic_link_replaces_the_link(
    unpack: Unpack, tree: Path, victim: Path
) -> None:
    unpack(Layer().symlink("f", f"{victim}/file").file("f", "new"))
    assert intact(tree, victim)
    assert not (tree / "f").is_symlink()


def test_a_directory_over_a_symbolic_link_replaces_the_link(
    unpack: Unpack, tree: Path, victim: Path
) -> None:
    unpack(Layer().symlink("d", str(victim)).directory("d", 0o700).file("d/f", "x"))
    assert intact(tree, victim)
    assert (tree / "d/f").read_text() == "x"


def test_a_hard_link_to_a_symbolic_link_does_not_follow_it(
    unpack: Unpack, tree: Path, victim: Path
) -> None:
    layer = Layer().symlink("s", f"{victim}/file").hardlink("h", "s").file("h", "evil")
    unpack(layer)
    assert intact(tree, victim)


@pytest.mark.parametrize("target", ["/etc/passwd", "../victim/file", "s/file", "", "missing"])
def test_hard_links_reach_nothing_outside(
    unpack: Unpack, tree: Path, victim: Path, target: str
) -> None:
    with pytest.raises(ImageError):
        unpack(Layer().symlink("s", str(victim)).hardlink("h", target))
    assert not (tree / "h").exists()
    assert intact(tree, victim)


def test_a_hard_link_over_its_own_target_is_harmless(unpack: Unpack, tree: Path) -> None:
    unpack(Layer().file("f", "x").hardlink("./f", "f"))
    assert (tree / "f").read_text() == "x"


@pytest.mark.parametrize("field", ["path", "linkpath"])
def test_a_zero_byte_in_a_name(unpack: Unpack, field: str) -> None:
    layer = Layer().symlink("f", "x", pax_headers={field: "a\0b"})
    with pytest.raises(ImageError, match="zero byte"):
        unpack(layer)


def test_a_pax_path_overrides_an_innocent_name(unpack: Unpack, tree: Path, victim: Path) -> None:
    with pytest.raises(ImageError, match="leaves the tree"):
        unpack(Layer().file("innocent", "x", pax_headers={"path": "../victim/file"}))
    assert intact(tree, victim)


def test_a_component_that_is_too_long(unpack: Unpack) -> None:
    with pytest.raises(ImageError, match="too long"):
        unpack(Layer().file("n" * 300, "x"))


def test_the_root_is_a_directory(unpack: Unpack) -> None:
    with pytest.raises(ImageError, match="root is not a directory"):
        unpack(Layer().file(".", "x"))


# --- limits ------------------------------------------------------------------------


def test_too_many_entries(unpack: Unpack) -> None:
    layer = Layer()
    for number in range(11):
        layer.file(str(number))
    with pytest.raises(ImageError, match="more than 10 entries"):
        unpack(layer, limits=Limits(entries=10))


def test_too_many_bytes(unpack: Unpack) -> None:
    with pytest.raises(ImageError, match="more than 100 bytes"):
        unpack(Layer().file("a", b"x" * 60).file("b", b"x" * 60), limits=Limits(size=100))


def test_a_sparse_bomb(unpack: Unpack) -> None:
    with pytest.raises(ImageError, match="unpacks to more"):
        unpack(gnu_sparse([(0, 1)], 1 << 32, b"x"), limits=Limits(size=1 << 30))


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        (b"./a/b", b"a/b"),
        (b"/a//b/", b"a/b"),
        (b"a/./b", b"a/b"),
        (b"a/../b", b"b"),
        (b".", b""),
        (b"/", b""),
    ],
)
def test_names_are_cleaned(raw: bytes, cleaned: bytes) -> None:
    assert extract.clean(raw) == cleaned
