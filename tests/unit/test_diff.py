"""Upper directories as canonical archives: every kind of file, every spelling of a deletion."""

from __future__ import annotations

import io
import os
import socket
import stat
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pytest

from podpy.errors import ImageError
from podpy.storage import changes, diff, usage
from podpy.storage import headers as tar_headers

EMPTY = bytes(1024)


def write(upper: Path, lower: tuple[Path, ...] = (), **more: Any) -> tuple[bytes, dict[str, Any]]:
    """The archive of an upper directory, and what is said of it."""
    root = os.open(upper, os.O_RDONLY | os.O_DIRECTORY)
    with tempfile.TemporaryFile() as out:
        summary = diff.write(root, out.fileno(), lower=[str(path) for path in lower], **more)
        os.close(root)
        out.seek(0)
        return out.read(), summary


def archive(data: bytes) -> tarfile.TarFile:
    return tarfile.open(fileobj=io.BytesIO(data))


def names(data: bytes) -> list[str]:
    return [one.name + ("/" if one.isdir() else "") for one in archive(data)]


def whiteout(path: Path) -> None:
    os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))


@pytest.fixture
def upper(tmp_path: Path) -> Path:
    made = tmp_path / "upper"
    made.mkdir(mode=0o755)
    os.chmod(made, 0o755)
    return made


@pytest.fixture
def lower(tmp_path: Path) -> Path:
    made = tmp_path / "lower"
    made.mkdir()
    return made


@pytest.fixture(autouse=True)
def root_owns_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the user namespace, where the caller's id is called 0."""
    monkeypatch.setattr(diff, "_owner", lambda *_: (0, 0))


# --- kinds of files ----------------------------------------------------------


def test_an_empty_directory_is_the_empty_archive(upper: Path) -> None:
    data, summary = write(upper)
    assert data == EMPTY
    assert (summary["size"], summary["inodes"], summary["entries"]) == (0, 0, 0)


def test_files_links_directories_and_fifos(upper: Path) -> None:
    (upper / "dir").mkdir(mode=0o750)
    os.chmod(upper / "dir", 0o2750)
    (upper / "dir/file").write_bytes(b"content")
    os.chmod(upper / "dir/file", 0o4711)
    (upper / "link").symlink_to("dir/file")
    os.mkfifo(upper / "pipe", 0o600)
    data, _ = write(upper)
    assert names(data) == ["dir/", "dir/file", "link", "pipe"]
    found = {one.name: one for one in archive(data)}
    assert (found["dir"].mode, found["dir/file"].mode) == (0o2750, 0o4711)
    assert (found["link"].linkname, found["link"].mode) == ("dir/file", 0o777)
    assert found["pipe"].isfifo()
    content = archive(data).extractfile("dir/file")
    assert content is not None
    assert content.read() == b"content"


def test_hard_links_name_the_first_of_them_in_the_archive(upper: Path) -> None:
    (upper / "z").write_bytes(b"x" * 1000)
    os.link(upper / "z", upper / "a")
    (upper / "s").symlink_to("z")
    os.link(upper / "s", upper / "t", follow_symlinks=False)
    data, summary = write(upper)
    found = {one.name: one for one in archive(data)}
    assert found["a"].isreg()
    assert (found["z"].islnk(), found["z"].linkname) == (True, "a")
    assert (found["t"].islnk(), found["t"].linkname) == (True, "s")
    assert summary["size"] == 1000


def test_sockets_are_left_out_and_leave_no_trace(upper: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(upper / "socket"))
    os.utime(upper, (1000, 1000))
    data, summary = write(upper)
    assert data == EMPTY
    assert summary["inodes"] == 0
    assert not (upper / "socket").exists()
    assert upper.stat().st_mtime == 1000


def test_the_top_directory_has_a_member_where_it_is_not_as_usual(upper: Path) -> None:
    os.chmod(upper, 0o700)
    data, _ = write(upper)
    (one,) = archive(data)
    assert (one.name, one.mode) == (".", 0o700)


def test_extended_attributes_but_private_ones(upper: Path) -> None:
    (upper / "f").write_bytes(b"")
    os.setxattr(upper / "f", "user.note", b"a\0b=c\n")
    os.setxattr(upper / "f", "user.overlay.origin", b"secret")
    data, _ = write(upper)
    assert b"SCHILY.xattr.user.note=a\0b=c\n" in data
    assert b"overlay" not in data


def test_long_names_and_large_numbers(upper: Path) -> None:
    long = "d" * 90 + "/" + "e" * 90 + "/" + "f" * 200
    (upper / long).parent.mkdir(parents=True)
    (upper / long).write_bytes(b"deep")
    (upper / "link").symlink_to("t" * 300)
    os.utime(upper / "link", (-5, -5), follow_symlinks=False)
    data, _ = write(upper)
    found = {one.name: one for one in archive(data)}
    assert long in found
    assert found["link"].linkname == "t" * 300
    assert found["link"].mtime == -5


@pytest.mark.parametrize("length", [99, 100, 101, 155, 156, 200, 255, 256, 257, 400])
@pytest.mark.parametrize("cut", [0, 1, 50, 100])
def test_every_length_of_name_survives(length: int, cut: int) -> None:
    cut = min(cut, length - 2)
    name = b"a" * cut + b"/" * bool(cut) + b"b" * (length - cut - bool(cut))
    for tail in (b"", b"/"):
        kind = tar_headers.DIRECTORY if tail else tar_headers.REGULAR
        data = tar_headers.member(name + tail, kind, 0o644, (0, 0), 1) + tar_headers.END
        (one,) = archive(data)
        assert one.name.encode() == name


@pytest.mark.parametrize("number", [0, 8**7 - 1, 8**7, 2**31, 2**32 - 2])
def test_every_id_survives(number: int) -> None:
    data = tar_headers.member(b"f", tar_headers.REGULAR, 0o644, (number, 1), 1)
    (one,) = archive(data + tar_headers.END)
    assert (one.uid, one.gid) == (number, 1)


@pytest.mark.parametrize("length", [*range(1, 12), 85, 86, 87, 88, 89, 985, 986, 987, 988, 9990])
def test_records_count_their_own_length(length: int) -> None:
    value = b"v" * length
    data = tar_headers.member(
        b"f", tar_headers.REGULAR, 0o644, (0, 0), 1, xattrs={b"user.x": value}
    )
    (one,) = archive(data + tar_headers.END)
    assert one.pax_headers["SCHILY.xattr.user.x"] == value.decode()


@pytest.mark.parametrize("size", [8**11 - 1, 8**11, 1 << 50])
def test_every_size_survives(size: int) -> None:
    data = tar_headers.member(b"f", tar_headers.REGULAR, 0o644, (0, 0), 1, size=size)
    found = tarfile.TarInfo.frombuf(data[-512:], "utf-8", "strict")
    assert found.size == (size if size < 8**11 else 0)
    assert (b" size=%d\n" % size in data) is (size >= 8**11)


def test_a_link_to_a_long_name(upper: Path) -> None:
    for name in ("a" * 120, "b" * 120):
        (upper / name).mkdir()
    (upper / ("a" * 120) / "file").write_bytes(b"x")
    os.link(upper / ("a" * 120) / "file", upper / ("b" * 120) / "file")
    found = archive(write(upper)[0]).getmember("b" * 120 + "/file")
    assert (found.islnk(), found.linkname) == (True, "a" * 120 + "/file")


def test_names_that_are_no_text(upper: Path) -> None:
    for name in (b"\xff\xfe", "ä€😀".encode(), b"new\nline"):
        os.close(os.open(os.fsencode(upper) + b"/" + name, os.O_WRONLY | os.O_CREAT))
    data, _ = write(upper)
    found = [os.fsencode(one.name) for one in archive(data)]
    assert found == sorted([b"\xff\xfe", "ä€😀".encode(), b"new\nline"])


def test_sparse_and_large_files(upper: Path) -> None:
    with open(upper / "sparse", "wb") as one:
        one.truncate(3 << 20)
        one.seek(1 << 20)
        one.write(b"here")
    (upper / "large").write_bytes(os.urandom(1 << 20) + b"odd")
    data, summary = write(upper)
    for name in ("sparse", "large"):
        content = archive(data).extractfile(name)
        assert content is not None
        assert content.read() == (upper / name).read_bytes()
    assert summary["size"] == (3 << 20) + (1 << 20) + 3


def test_directories_nested_by_the_thousand(upper: Path) -> None:
    fd = os.open(upper, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=fd)
        inner = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)
    data, summary = write(upper)
    assert summary["entries"] == 1500
    assert len(archive(data).getmembers()) == 1500
    os.system(f"rm -rf '{upper}'")


# --- order and times ---------------------------------------------------------


def test_the_order_of_creation_does_not_show(upper: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    os.chmod(other, 0o755)
    every = [f"{letter}{n}" for letter in "zaM." for n in range(20)]
    for place, order in ((upper, every), (other, list(reversed(every)))):
        for name in order:
            (place / name).write_text(name)
            os.utime(place / name, ns=(0, 1_000_000_000 * 7 + len(order) * (place == other)))
    assert write(upper)[0] == write(other)[0]


def test_a_timestamp_is_everywhere(upper: Path) -> None:
    (upper / "d").mkdir()
    (upper / "d/f").write_bytes(b"x")
    os.link(upper / "d/f", upper / "d/g")
    (upper / "l").symlink_to("x")
    data, _ = write(upper, timestamp=1234567890)
    assert {one.mtime for one in archive(data)} == {1234567890}
    for path in (upper, *upper.rglob("*")):
        assert path.lstat().st_mtime_ns == 1234567890 * 10**9, path


# --- deletions ---------------------------------------------------------------


def test_only_what_is_there_is_deleted(upper: Path, lower: Path) -> None:
    (lower / "dir").mkdir()
    (lower / "dir/old").write_bytes(b"")
    (upper / "dir").mkdir()
    whiteout(upper / "dir/old")
    whiteout(upper / "dir/never")
    whiteout(upper / "nor-this")
    data, _ = write(upper, (lower,))
    assert names(data) == ["dir/", "dir/.wh.old"]


def test_deletions_in_many_directories(upper: Path, lower: Path, tmp_path: Path) -> None:
    top = tmp_path / "top"
    places = ("a", "a/b", "a/b/c", "a/d", "e", "e/b", "f")
    for number, place in enumerate(places):
        (upper / place).mkdir()
        for layer in (lower, top)[number % 2 :]:
            (layer / place).mkdir(parents=True)
        (layer / place / "old").write_bytes(b"")
        whiteout(upper / place / "old")
        whiteout(upper / place / "never")
    (top / "f/.wh.old").write_bytes(b"")
    (lower / "f/old").write_bytes(b"")
    (top / "f/old").unlink()
    found = [name for name in names(write(upper, (top, lower))[0]) if ".wh." in name]
    assert found == sorted(f"{place}/.wh.old" for place in places if place != "f")


def test_an_opaque_directory_deletes_by_name(upper: Path, lower: Path) -> None:
    for name in ("old", "both", "sub"):
        (lower / "dir" / name).mkdir(parents=True)
    (lower / "dir/sub/inner").write_bytes(b"")
    (upper / "dir/sub").mkdir(parents=True)
    (upper / "dir/both").write_bytes(b"")
    os.setxattr(upper / "dir", "user.overlay.opaque", b"y")
    data, _ = write(upper, (lower,))
    assert names(data) == ["dir/", "dir/.wh.old", "dir/both", "dir/sub/", "dir/sub/.wh.inner"]


def test_a_new_directory_hides_nothing(upper: Path, lower: Path) -> None:
    (upper / "dir").mkdir()
    os.setxattr(upper / "dir", "user.overlay.opaque", b"y")
    (lower / "dir").write_bytes(b"a file it was")
    assert names(write(upper, (lower,))[0]) == ["dir/"]


def test_layers_below_hide_each_other(upper: Path, lower: Path, tmp_path: Path) -> None:
    top = tmp_path / "top"
    (lower / "dir/a").mkdir(parents=True)
    (lower / "dir/b").mkdir()
    (top / "dir").mkdir(parents=True)
    whiteout(top / "dir/a")
    (upper / "dir").mkdir()
    os.setxattr(upper / "dir", "user.overlay.opaque", b"y")
    assert names(write(upper, (top, lower))[0]) == ["dir/", "dir/.wh.b"]
    os.setxattr(top / "dir", "user.overlay.opaque", b"y")
    assert names(write(upper, (top, lower))[0]) == ["dir/"]


def test_deletions_as_files_become_those_of_the_kernel(upper: Path, lower: Path) -> None:
    (lower / "dir").mkdir()
    for name in ("gone", "dir/old"):
        (lower / name).write_bytes(b"")
    (upper / "dir").mkdir()
    (upper / "dir/.wh..wh..opq").write_bytes(b"")
    (upper / ".wh.gone").write_bytes(b"")
    data, summary = write(upper, (lower,), dotted=True)
    assert names(data) == [".wh.gone", "dir/", "dir/.wh.old"]
    assert sorted(os.listdir(upper)) == ["dir", "gone"]
    assert stat.S_ISCHR((upper / "gone").stat().st_mode)
    assert os.getxattr(upper / "dir", "user.overlay.opaque") == b"y"
    root = os.open(upper, os.O_RDONLY)
    assert usage.measure(root) == (summary["size"], summary["inodes"])
    os.close(root)


def test_a_file_that_looks_like_a_deletion_is_refused(upper: Path) -> None:
    (upper / ".wh.passwd").write_bytes(b"")
    with pytest.raises(ImageError, match=r"\.wh\.passwd"):
        write(upper)


# --- copies ------------------------------------------------------------------


def copied(lower: Path, tmp_path: Path) -> Path:
    tree = tmp_path / "copy"
    os.system(f"cp -a '{lower}' '{tree}'")
    changes.mark(str(tmp_path))
    return tree


def test_a_copy_is_cut_down_to_what_is_new(lower: Path, tmp_path: Path) -> None:
    for name in ("same", "changed", "gone", "dir/kept", "dir/deep/kept", "closed/kept"):
        (lower / name).parent.mkdir(parents=True, exist_ok=True)
        (lower / name).write_text("before")
    os.link(lower / "same", lower / "twin")
    tree = copied(lower, tmp_path)
    status = (tree / "changed").stat()
    (tree / "changed").write_text("behind")
    os.utime(tree / "changed", ns=(status.st_atime_ns, status.st_mtime_ns))
    (tree / "gone").unlink()
    (tree / "dir/deep/new").write_text("")
    os.chmod(tree / "closed", 0o700)
    os.link(tree / "same", tree / "third")
    changes.reduce(str(tree), [str(lower)], changes.marked(str(tmp_path)))
    left = sorted(str(path.relative_to(tree)) for path in tree.rglob("*"))
    assert left == ["changed", "closed", "dir", "dir/deep", "dir/deep/new", "gone", "third"]
    assert stat.S_ISCHR((tree / "gone").stat().st_mode)


def test_a_copy_with_a_file_that_looks_like_a_deletion_is_refused(
    lower: Path, tmp_path: Path
) -> None:
    tree = copied(lower, tmp_path)
    (tree / ".wh.passwd").write_bytes(b"")
    with pytest.raises(ImageError, match=r"\.wh\.passwd"):
        changes.reduce(str(tree), [str(lower)], 0)


def test_a_copy_that_was_not_touched_comes_to_nothing(lower: Path, tmp_path: Path) -> None:
    (lower / "a/b").mkdir(parents=True)
    (lower / "a/b/c").write_text("c")
    (lower / "a/l").symlink_to("b")
    for since in (True, False):
        tree = copied(lower, tmp_path)
        mark = changes.marked(str(tmp_path)) if since else 0
        changes.reduce(str(tree), [str(lower)], mark)
        assert os.listdir(tree) == []
        tree.rmdir()
