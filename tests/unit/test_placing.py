"""Writing into a root file system: where things go, what they look like, and never outside."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from podpy.build import copying, filemodes
from podpy.build.diagnostics import Problem
from podpy.build.inroot import walk
from podpy.build.placing import Placer
from podpy.build.selection import Selector
from podpy.errors import BuildError, UsageError

OWN = (os.getuid(), os.getgid())
UP = "../" * 12


class Bed:
    """A context, the root of an image, and something outside of both."""

    def __init__(self, base: Path) -> None:
        self.context = base / "context"
        self.root = base / "root"
        self.victim = base / "victim"
        for directory in (self.context, self.root, self.victim):
            directory.mkdir()
            directory.chmod(0o755)
        (self.victim / "secret").write_text("outside")

    def copy(self, *words: str, **options: Any) -> None:
        """``COPY words``; ``several`` as the parser would say."""
        *sources, destination = words
        parents = options.pop("parents", False)
        options.setdefault("owner", OWN)
        source = os.open(self.context, os.O_PATH | os.O_DIRECTORY)
        root = os.open(self.root, os.O_PATH | os.O_DIRECTORY)
        try:
            picks = Selector(source).select(sources, parents=parents)
            where = copying.destination(destination, "/work")
            Placer(root, where, **options).place(source, picks, several=len(sources) > 1)
        finally:
            os.close(source)
            os.close(root)

    def state(self) -> list[tuple[str, int, str]]:
        """Everything outside of the root."""
        found = []
        for path in sorted(self.victim.rglob("*")):
            status = path.lstat()
            text = path.read_text() if path.is_file() else ""
            found.append((str(path), status.st_mode, text))
        return found


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    before = os.umask(0)
    made = Bed(tmp_path)
    outside = made.state()
    yield made
    os.umask(before)
    assert made.state() == outside, "something outside of the root was touched"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


# --- destinations ------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/a/b", "/a/b"),
        ("/a/b/", "/a/b/"),
        ("a", "/work/a"),
        ("a/", "/work/a/"),
        (".", "/work/"),
        ("./", "/work/"),
        ("", "/work/"),
        ("..", "/"),
        ("../x", "/x"),
        ("../../../x", "/x"),
        ("/", "/"),
        ("//x//y/.", "/x/y/"),
        ("/a/..", "/"),
    ],
)
def test_destinations(text: str, expected: str) -> None:
    assert copying.destination(text, "/work") == expected


def test_a_file_goes_to_a_name_or_into_a_directory(bed: Bed) -> None:
    (bed.context / "f").write_text("f")
    (bed.root / "there").mkdir()
    for destination, expected in (
        ("/new/name", "new/name"),
        ("/new/dir/", "new/dir/f"),
        ("/there", "there/f"),
        (".", "work/f"),
        ("rel", "work/rel"),
    ):
        bed.copy("f", destination)
        assert (bed.root / expected).read_text() == "f"


def test_several_files_need_a_directory(bed: Bed) -> None:
    (bed.context / "a").write_text("a")
    (bed.context / "b").write_text("b")
    with pytest.raises(BuildError, match="several sources need a directory"):
        bed.copy("a", "b", "/x")
    with pytest.raises(BuildError, match="several sources need a directory"):
        bed.copy("*", "/x")
    bed.copy("*", "/x/")
    bed.copy("*", "/x")  # it exists now
    assert sorted(os.listdir(bed.root / "x")) == ["a", "b"]


def test_a_directory_s_contents_are_copied_and_merged(bed: Bed) -> None:
    (bed.context / "d/sub").mkdir(parents=True)
    (bed.context / "d/sub/new").write_text("new")
    (bed.context / "d/sub").chmod(0o750)
    os.utime(bed.context / "d/sub", (1, 1))
    os.utime(bed.context / "d", (2, 2))
    (bed.root / "x/sub").mkdir(parents=True)
    (bed.root / "x/sub/old").write_text("old")
    (bed.root / "x").chmod(0o700)
    os.utime(bed.root / "x", (9, 9))
    bed.copy("d", "/x")
    bed.copy("d", "/new/one")
    assert sorted(os.listdir(bed.root / "x/sub")) == ["new", "old"]
    assert mode(bed.root / "x") == 0o700, "the destination keeps its mode"
    assert mode(bed.root / "x/sub") == 0o750, "directories in it get the source's"
    assert (bed.root / "x/sub").stat().st_mtime == 1
    assert (bed.root / "x").stat().st_mtime == 9, "and its time"
    assert (bed.root / "new/one").stat().st_mtime == 2, "a new one gets the source's"


def test_directories_on_the_way_are_755(bed: Bed) -> None:
    (bed.context / "d").mkdir(mode=0o700)
    (bed.context / "d/f").touch(mode=0o600)
    bed.copy("d", "/p/q", chmod=filemodes.parse("640"))
    assert (mode(bed.root / "p"), mode(bed.root / "p/q")) == (0o755, 0o755)
    assert mode(bed.root / "p/q/f") == 0o640


def test_conflicts(bed: Bed) -> None:
    (bed.context / "d/x").mkdir(parents=True)
    (bed.context / "f").mkdir()
    (bed.context / "f/x").write_text("")
    (bed.root / "a").mkdir()
    (bed.root / "a/x").write_text("a file")
    (bed.root / "b/x").mkdir(parents=True)
    with pytest.raises(BuildError, match="a/x: cannot replace a file by a directory"):
        bed.copy("d", "/a")
    with pytest.raises(BuildError, match="b/x: cannot replace a directory by a file"):
        bed.copy("f", "/b")
    with pytest.raises(BuildError, match="x is not a directory"):
        bed.copy("f", "/a/x/y/")


def test_parents(bed: Bed) -> None:
    (bed.context / "a/b").mkdir(parents=True)
    (bed.context / "a/b/f").write_text("f")
    (bed.context / "a").chmod(0o711)
    os.utime(bed.context / "a/b", (5, 5))
    os.utime(bed.context / "a", (6, 6))
    (bed.root / "there/a").mkdir(parents=True, mode=0o700)
    bed.copy("a/b/f", "/new", parents=True)
    bed.copy("a/b/f", "/there", parents=True)
    bed.copy("a/./b", "/cut", parents=True)
    assert (bed.root / "new/a/b/f").read_text() == "f"
    assert (bed.root / "cut/b/f").read_text() == "f"
    assert mode(bed.root / "new/a") == 0o711
    assert (bed.root / "new/a").stat().st_mtime == 6
    assert (bed.root / "new/a/b").stat().st_mtime == 5
    assert mode(bed.root / "there/a") == 0o700, "what is there stays as it is"


# --- what files look like ----------------------------------------------------


def test_modes_and_times_are_kept(bed: Bed) -> None:
    for number, bits in enumerate((0o644, 0o755, 0o400, 0o4755, 0o2711, 0o000)):
        path = bed.context / f"f{number}"
        path.write_text("x")
        path.chmod(bits)
        os.utime(path, ns=(7, 1_234_567_891_234_567_000 + number))
    (bed.context / "f5").chmod(0o600)
    bed.copy(".", "/x")
    for path in sorted(bed.context.iterdir()):
        copied = (bed.root / "x" / path.name).stat()
        assert stat.S_IMODE(copied.st_mode) == mode(path), path.name
        assert copied.st_mtime_ns == path.stat().st_mtime_ns


def test_a_setgid_directory_does_not_hand_its_bits_down(bed: Bed) -> None:
    (bed.context / "d/sub").mkdir(parents=True)
    (bed.root / "x").mkdir()
    (bed.root / "x").chmod(0o2775)
    bed.copy("d", "/x")
    assert mode(bed.root / "x/sub") == mode(bed.context / "d/sub")
    bed.copy("d", "/x/new/")
    assert mode(bed.root / "x/new") == 0o755


def test_hard_links_stay_links(bed: Bed) -> None:
    (bed.context / "d").mkdir()
    (bed.context / "d/one").write_text("same")
    os.link(bed.context / "d/one", bed.context / "d/two")
    bed.copy("d", "/x")
    bed.copy("d", "/x")  # over themselves
    one, two = (bed.root / "x/one").stat(), (bed.root / "x/two").stat()
    assert (one.st_ino, one.st_nlink) == (two.st_ino, 2)


def test_links_and_fifos(bed: Bed) -> None:
    (bed.context / "d").mkdir()
    (bed.context / "d/link").symlink_to("/etc/passwd")
    os.mkfifo(bed.context / "d/pipe", 0o640)
    os.utime(bed.context / "d/link", ns=(1, 1_000), follow_symlinks=False)
    bed.copy("d", "/x", chmod=filemodes.parse("600"))
    assert os.readlink(bed.root / "x/link") == "/etc/passwd"
    assert (bed.root / "x/link").lstat().st_mtime_ns == 1_000
    assert stat.S_ISFIFO((bed.root / "x/pipe").stat().st_mode)
    assert mode(bed.root / "x/pipe") == 0o600


@pytest.mark.parametrize("size", [0, 1, (1 << 18) + 1, 3 << 20])
def test_contents(bed: Bed, size: int) -> None:
    data = os.urandom(size)
    (bed.context / "f").write_bytes(data)
    bed.copy("f", "/f")
    assert (bed.root / "f").read_bytes() == data


def test_holes_stay_holes(bed: Bed) -> None:
    with (bed.context / "f").open("wb") as file:
        file.seek(8 << 20)
        file.write(b"in the middle")
        file.truncate(64 << 20)
    if (bed.context / "f").stat().st_blocks * 512 > 32 << 20:
        pytest.skip("this file system has no holes")
    bed.copy("f", "/f")
    copied = (bed.root / "f").stat()
    assert copied.st_size == 64 << 20
    assert copied.st_blocks * 512 < 1 << 20
    with (bed.root / "f").open("rb") as file:
        file.seek((8 << 20) - 2)
        assert file.read(17) == b"\0\0in the middle\0\0"


def test_attributes(bed: Bed) -> None:
    (bed.context / "d").mkdir()
    (bed.context / "d/f").write_text("x")
    try:
        for path in ("d", "d/f"):
            os.setxattr(bed.context / path, "user.kept", b"1")
            os.setxattr(bed.context / path, "user.overlay.opaque", b"y")
    except OSError:
        pytest.skip("this file system has no user attributes")
    bed.copy("d", "/x/sub/..")
    bed.copy(".", "/y")
    assert os.listxattr(bed.root / "x/f") == ["user.kept"]
    assert os.listxattr(bed.root / "y/d") == ["user.kept"]


def test_a_file_that_changes_meanwhile_is_an_error(bed: Bed) -> None:
    (bed.context / "f").write_text("before")
    source = os.open(bed.context, os.O_PATH | os.O_DIRECTORY)
    root = os.open(bed.root, os.O_PATH | os.O_DIRECTORY)
    picks = Selector(source).select(["f"])
    (bed.context / "f").write_text("after it was listed")
    with pytest.raises(BuildError, match="changed while it was copied"):
        Placer(root, "/f", owner=OWN).place(source, picks)
    os.close(source)
    os.close(root)


# --- nothing leaves the root -------------------------------------------------

LINKS = ("{victim}", "/../../..{victim}", UP + "{victim}", "/proc/self/root{victim}")


@pytest.mark.parametrize("link", LINKS)
def test_the_destination_s_links_stay_inside(bed: Bed, link: str) -> None:
    target = link.format(victim=bed.victim)
    (bed.root / "l").symlink_to(target)
    (bed.context / "secret").write_text("evil")
    (bed.context / "d").mkdir()
    (bed.context / "d/secret").write_text("evil")
    bed.copy("secret", "/l/")
    bed.copy("d", "/l")
    inside = list(bed.root.rglob("secret"))
    assert inside
    assert all(path.resolve().is_relative_to(bed.root) for path in inside)


def test_a_final_link_is_followed_inside(bed: Bed) -> None:
    (bed.root / "l").symlink_to(f"{bed.victim}/secret")
    (bed.context / "f").write_text("evil")
    bed.copy("f", "/l")
    assert (bed.root / f"{bed.victim}/secret".lstrip("/")).read_text() == "evil"


def test_links_below_the_destination(bed: Bed) -> None:
    """A directory is merged through a link inside the root; a file takes a link's place."""
    (bed.root / "usr/bin").mkdir(parents=True)
    (bed.root / "bin").symlink_to("usr/bin")
    (bed.root / "abs").symlink_to("/usr/bin")
    (bed.root / "out").symlink_to(str(bed.victim))
    (bed.root / "secret").symlink_to(f"{bed.victim}/secret")
    for name in ("bin/tool", "abs/other"):
        (bed.context / name).parent.mkdir()
        (bed.context / name).write_text(name)
    (bed.context / "secret").write_text("mine")
    bed.copy(".", "/")
    assert (bed.root / "usr/bin/tool").read_text() == "bin/tool"
    assert (bed.root / "usr/bin/other").read_text() == "abs/other"
    assert not (bed.root / "secret").is_symlink()
    (bed.context / "out").mkdir()
    (bed.context / "out/secret").write_text("evil")
    with pytest.raises(BuildError, match="out: cannot replace a file by a directory"):
        bed.copy(".", "/")


def test_a_hard_link_is_made_of_the_copy(bed: Bed) -> None:
    """The first name was replaced by a link to the outside: it is not what gets linked."""
    (bed.context / "a").write_text("mine")
    os.link(bed.context / "a", bed.context / "b")
    (bed.root / "d").symlink_to(str(bed.victim))
    bed.copy("a", "b", "/d/")
    assert not (bed.victim / "a").exists()


def test_loops_end(bed: Bed) -> None:
    (bed.root / "l").symlink_to("m")
    (bed.root / "m").symlink_to("/l")
    (bed.context / "f").write_text("x")
    with pytest.raises(BuildError, match="too many links"):
        bed.copy("f", "/l/x")


def test_dots_end_at_the_root(bed: Bed) -> None:
    made: list[str] = []

    def make(parent: int, name: str) -> None:
        made.append(name)
        os.mkdir(name, dir_fd=parent)

    fd = os.open(bed.root, os.O_PATH | os.O_DIRECTORY)
    inner, name = walk(fd, "../../a/../../b/./c", make, whole=False)
    assert (name, made) == ("c", ["a", "b"])
    assert os.path.samestat(os.fstat(inner), (bed.root / "b").stat())
    os.close(inner)
    os.close(fd)


# --- owners ------------------------------------------------------------------


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Callable[[str], tuple[int, int] | None]]:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/:\nann:x:1000:1001::/:\n42:x:7:8::/:\n")
    (tmp_path / "etc/group").write_text("root:x:0:\nstaff:x:50:ann\n")
    fd = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    yield lambda text: copying.owner(fd, text)
    os.close(fd)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("5", (5, 5)),
        ("5:6", (5, 6)),
        ("ann", (1000, 1001)),
        ("ann:staff", (1000, 50)),
        ("ann:3", (1000, 3)),
        ("9:staff", (9, 50)),
        (":staff", (0, 50)),
        (":7", (0, 7)),
        ("42", (42, 42)),
        ("ann:", (1000, 1001)),
    ],
)
def test_owners(
    owner: Callable[[str], tuple[int, int] | None], text: str, expected: tuple[int, int] | None
) -> None:
    assert owner(text) == expected


@pytest.mark.parametrize("text", ["bob", "bob:staff", "ann:nobody", ":nobody"])
def test_nobody_is_never_root(owner: Callable[[str], object], text: str) -> None:
    with pytest.raises(UsageError, match="unable to find"):
        owner(text)


@pytest.mark.parametrize("text", [":", "a:b:c", "99999999999", "4294967295"])
def test_owners_that_cannot_be(text: str) -> None:
    with pytest.raises(Problem):
        copying.check_chown(text, link=False)


def test_link_needs_numbers() -> None:
    copying.check_chown("5:6", link=True)
    for text in ("ann", "5:staff"):
        with pytest.raises(Problem, match="numeric"):
            copying.check_chown(text, link=True)
