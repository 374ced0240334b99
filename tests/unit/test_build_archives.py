"""ADD of archives: told by their content, unpacked at the destination and nowhere else."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from podpy.build import archives, copying
from podpy.build.placing import Placer
from podpy.build.selection import Selector
from podpy.errors import BuildError
from support import images

OWN = (os.getuid(), os.getgid())
UP = "../" * 12
MTIME = images.EPOCH


class Bed:
    def __init__(self, base: Path) -> None:
        self.context = base / "context"
        self.root = base / "root"
        self.victim = base / "victim"
        for directory in (self.context, self.root, self.victim):
            directory.mkdir()
        (self.victim / "secret").write_text("outside")

    def add(self, name: str, destination: str) -> tuple[list[str], list[str]]:
        """``ADD name destination``: what was not an archive, and what was said."""
        source = os.open(self.context, os.O_PATH | os.O_DIRECTORY)
        root = os.open(self.root, os.O_PATH | os.O_DIRECTORY)
        try:
            placer = Placer(root, copying.destination(destination, "/work"), owner=OWN)
            picks = Selector(source).select([name])
            others, said = archives.unpack(placer, source, picks, OWN, None)
            return [pick[0] for pick in others], said
        finally:
            os.close(source)
            os.close(root)

    def archive(self, layer: images.Layer, name: str = "a.tar") -> None:
        (self.context / name).write_bytes(layer.bytes())


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    before = os.umask(0)
    made = Bed(tmp_path)
    yield made
    os.umask(before)
    assert sorted(os.listdir(made.victim)) == ["secret"]
    assert (made.victim / "secret").read_text() == "outside"
    assert stat.S_IMODE((made.victim / "secret").stat().st_mode) & 0o111 == 0


def sample() -> images.Layer:
    made = images.Layer().directory("./", 0o700).directory("d", 0o2750)
    return made.file("d/f", "content", 0o4755).symlink("d/l", "f").hardlink("d/h", "d/f")


def zstd(data: bytes) -> bytes:
    program = shutil.which("zstd")
    if program is None:
        pytest.skip("no program zstd")
    return subprocess.run([program, "-q", "-c"], input=data, capture_output=True, check=True).stdout


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress, zstd])
def test_every_compression(bed: Bed, compress: Callable[[bytes], bytes]) -> None:
    (bed.context / "no-telling-name").write_bytes(compress(sample().bytes()))
    assert bed.add("no-telling-name", "/x") == ([], [])
    file = (bed.root / "x/d/f").stat()
    assert (stat.S_IMODE(file.st_mode), file.st_mtime, file.st_nlink) == (0o4755, MTIME, 2)
    assert stat.S_IMODE((bed.root / "x/d").stat().st_mode) == 0o2750
    assert os.readlink(bed.root / "x/d/l") == "f"
    assert stat.S_IMODE((bed.root / "x").stat().st_mode) == 0o755, "./ changes nothing"


NO_ARCHIVES = {
    "empty": b"",
    "text": b"text\n" * 1000,
    "zeroes": bytes(2048),
    "gzip of no archive": gzip.compress(b"no archive in here" * 100, mtime=0),
    "damaged gzip": b"\x1f\x8b broken",
    "xz of nothing": lzma.compress(b""),
    "damaged xz": b"\xfd7zXZ\x00 broken",
    "damaged bzip2": b"BZh9 broken",
    "half a header": sample().bytes()[:300],
}


@pytest.mark.parametrize("kind", NO_ARCHIVES)
def test_what_is_no_archive_is_copied(bed: Bed, kind: str) -> None:
    (bed.context / "a.tar.gz").write_bytes(NO_ARCHIVES[kind])
    assert bed.add("a.tar.gz", "/x") == (["a.tar.gz"], [])
    assert os.listdir(bed.root) == []


def test_a_damaged_archive_is_an_error(bed: Bed) -> None:
    (bed.context / "a.tar").write_bytes(sample().file("g", b"x" * 5000).bytes()[:-9000])
    with pytest.raises(BuildError, match=r"a\.tar: "):
        bed.add("a.tar", "/x")


def test_it_is_merged_with_what_is_there(bed: Bed) -> None:
    (bed.root / "x/d/sub").mkdir(parents=True)
    (bed.root / "x/d/old").write_text("old")
    (bed.root / "x/d/f").mkdir()  # a directory in the place of a file goes
    (bed.root / "x/file").write_text("in the way")
    bed.archive(sample().directory("file").file("file/inner", "x"))
    bed.add("a.tar", "/x")
    assert (bed.root / "x/d/f").read_text() == "content"
    assert (bed.root / "x/d/old").read_text() == "old"
    assert (bed.root / "x/file/inner").read_text() == "x"


def test_links_of_the_image_are_followed_on_the_way(bed: Bed) -> None:
    (bed.root / "usr/bin").mkdir(parents=True)
    (bed.root / "bin").symlink_to("usr/bin")
    (bed.root / "sbin").symlink_to("/usr/bin")
    bed.archive(images.Layer().file("bin/a", "a").file("sbin/b", "b"))
    bed.add("a.tar", "/")
    assert sorted(os.listdir(bed.root / "usr/bin")) == ["a", "b"]
    assert (bed.root / "bin").is_symlink()


def test_whiteouts_are_names_like_others(bed: Bed) -> None:
    (bed.root / "x").mkdir()
    (bed.root / "x/kept").write_text("kept")
    bed.archive(images.Layer().file(".wh.kept", "1").file("d/.wh..wh..opq", "2"))
    bed.add("a.tar", "/x")
    assert (bed.root / "x/kept").read_text() == "kept"
    assert (bed.root / "x/.wh.kept").read_text() == "1"
    assert (bed.root / "x/d/.wh..wh..opq").read_text() == "2"


def test_device_nodes_are_left_out_and_mentioned(bed: Bed) -> None:
    made = images.Layer().entry("null", tarfile.CHRTYPE, devmajor=1, devminor=3)
    (bed.root / "null").write_text("stays")
    bed.archive(made.entry("pipe", tarfile.FIFOTYPE, mode=0o640).file("f", "x"))
    assert bed.add("a.tar", "/") == ([], ["a.tar: 1 device nodes were left out"])
    assert (bed.root / "null").read_text() == "stays"
    assert stat.S_ISFIFO((bed.root / "pipe").stat().st_mode)


# --- nothing leaves the destination --------------------------------------------


def hostile(victim: Path) -> dict[str, images.Layer]:
    """Archives that try to write, link or delete outside."""
    secret, layer = f"{victim}/secret", images.Layer
    return {
        "parent": layer().file(f"{UP}{victim}/new", "x"),
        "parent in the middle": layer().file(f"a/{UP}{victim}/new", "x"),
        "absolute": layer().file(f"{victim}/new", "x"),
        "through a link": layer().symlink("l", str(victim)).file("l/new", "x"),
        "through a relative link": layer().symlink("l", UP + str(victim)).file("l/new", "x"),
        "through two links": layer().symlink("a", "b").symlink("b", UP).file(f"a{victim}/new", "x"),
        "over a link": layer().symlink("l", secret).file("l", "overwritten"),
        "hard link out": layer().hardlink("h", f"{UP}{secret}").file("h", "overwritten"),
        "absolute hard link": layer().hardlink("h", secret),
        "hard link to a link": (
            layer().symlink("s", secret).hardlink("h", "s").file("h", "overwritten")
        ),
        "hard link through a link": layer().symlink("l", str(victim)).hardlink("h", "l/secret"),
        "directory over a link": layer().symlink("l", str(victim)).directory("l", 0o777),
        "mode through a link": (
            layer().symlink("l", secret).entry("l", tarfile.REGTYPE, mode=0o777)
        ),
        "the destination as a link": layer().entry(".", tarfile.SYMTYPE, linkname=str(victim)),
        "name with a NUL": layer().file("a\0b", "x"),
    }


@pytest.mark.parametrize("kind", hostile(Path("/")))
@pytest.mark.parametrize("destination", ["/", "/sub/"])
def test_hostile_members(bed: Bed, kind: str, destination: str) -> None:
    (bed.root / "beside").write_text("of the image, outside of the destination")
    bed.archive(hostile(bed.victim)[kind])
    try:
        bed.add("a.tar", destination)
    except BuildError as error:
        assert "a.tar" in error.message
    if destination != "/":
        assert sorted(set(os.listdir(bed.root)) - {"sub"}) == ["beside"]
    assert (bed.root / "beside").read_text() == "of the image, outside of the destination"
    for path in bed.root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert path.read_text() != "outside", "the secret was linked in"


def test_links_of_the_image_end_at_the_destination(bed: Bed) -> None:
    (bed.root / "sub").mkdir()
    (bed.root / "sub/up").symlink_to("../..")
    (bed.root / "sub/abs").symlink_to("/etc")
    bed.archive(images.Layer().file("up/a", "a").file("abs/b", "b"))
    bed.add("a.tar", "/sub")
    assert os.listdir(bed.root) == ["sub"]
    assert (bed.root / "sub/a").read_text() == "a"
    assert (bed.root / "sub/etc/b").read_text() == "b"


def test_bombs_end(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("podpy.storage.inflate.BOMB_FLOOR", 1 << 20)
    bomb = gzip.compress(images.Layer().file("zeroes", bytes(32 << 20)).bytes(), 9)
    (bed.context / "a.tgz").write_bytes(bomb)
    with pytest.raises(BuildError, match="decompression bomb"):
        bed.add("a.tgz", "/")
