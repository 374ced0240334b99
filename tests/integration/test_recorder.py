"""The recorder of single-id mode, asked by a process of the test's own."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from podpy.storage import single
from support.recorded import Recorded, syscall


@pytest.fixture
def recorded(directory: Path) -> Recorded:
    root = directory / "root"
    root.mkdir()
    return Recorded(root, directory / "owners")


def test_owners_of_files_and_directories(recorded: Recorded) -> None:
    def payload() -> Any:
        os.mkdir("d")
        open("f", "w").close()
        os.chown("d", 7, 8)
        os.chown("/f", 101, -1)
        os.chown("f", -1, 102)
        fd = os.open("f", os.O_RDONLY)
        told = os.stat("f"), os.fstat(fd), os.stat("f", follow_symlinks=False)
        return [(each.st_uid, each.st_gid) for each in told]

    assert recorded(payload) == [(101, 102)] * 3
    assert (recorded.owner("d"), recorded.owner("f")) == ((7, 8), (101, 102))


def test_a_descriptor_of_a_directory_and_what_lies_in_it(recorded: Recorded) -> None:
    def payload() -> Any:
        os.mkdir("d")
        fd = os.open("d", os.O_RDONLY | os.O_DIRECTORY)
        os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        os.chown("f", 1, 2, dir_fd=fd)
        os.fchown(fd, 3, 4)
        os.fchdir(fd)
        os.chown("../d/./f", -1, 5)
        return os.stat("f", dir_fd=fd).st_gid

    assert recorded(payload) == 5
    assert (recorded.owner("d/f"), recorded.owner("d")) == ((1, 5), (3, 4))


def test_root_again_is_no_record(recorded: Recorded) -> None:
    def payload() -> Any:
        open("f", "w").close()
        os.chown("f", 5, 5)
        os.chown("f", 0, 0)
        return os.stat("f").st_uid

    assert recorded(payload) == 0
    assert recorded.owner("f") is None


def test_a_record_follows_its_file(recorded: Recorded) -> None:
    def payload() -> Any:
        open("f", "w").close()
        os.chown("f", 5, 6)
        os.link("f", "g")
        os.rename("f", "h")

    recorded(payload)
    assert recorded.owner("g") == recorded.owner("h") == (5, 6)


def test_links_and_fifos_go_into_the_ledger_by_inode(recorded: Recorded) -> None:
    def payload() -> Any:
        os.symlink("nowhere", "l")
        os.chown("l", 5, 6, follow_symlinks=False)
        os.mkfifo("p")
        os.chown("p", 7, 8)
        os.rename("l", "moved")
        told = os.lstat("moved"), os.stat("p")
        return [(each.st_uid, each.st_gid) for each in told]

    assert recorded(payload) == [(5, 6), (7, 8)]
    inode = os.lstat(recorded.root / "moved").st_ino
    assert recorded.ledger[inode] == (5, 6)
    assert recorded.ledger[(recorded.root / "p").stat().st_ino] == (7, 8)


def test_the_inode_of_a_deleted_link_tells_nothing_of_the_next(recorded: Recorded) -> None:
    def payload() -> Any:
        os.symlink("nowhere", "l")
        os.chown("l", 5, 6, follow_symlinks=False)
        os.unlink("l")
        for number in range(50):
            os.symlink("nowhere", f"n{number}")

    recorded(payload)
    others = {path.lstat().st_ino for path in recorded.root.iterdir()}
    assert not others & set(recorded.ledger)


def test_more_links_than_descriptors(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("podpy.build.single._MOST_HELD", 100)

    def payload() -> Any:
        for number in range(300):
            os.symlink("nowhere", f"l{number}")
            os.chown(f"l{number}", 5, 6, follow_symlinks=False)

    recorded(payload)
    assert len(recorded.ledger) == 300


def test_without_the_capability_nothing_is_given_away(recorded: Recorded) -> None:
    def payload() -> Any:
        open("f", "w").close()
        return [syscall("fchownat", -100, b"f", uid, gid, 0)
                for uid, gid in ((5, 0), (0, 5), (0, 0), (-1, -1))]  # fmt: skip

    recorded.may_chown = False
    assert recorded(payload) == [-1, -1, 0, 0]


def test_chown_clears_set_id_bits_as_the_kernel_does(recorded: Recorded) -> None:
    def payload() -> Any:
        open("f", "w").close()
        os.chmod("f", 0o6755)
        os.chown("f", 5, 6)
        cleared = stat.S_IMODE(os.stat("f").st_mode)
        os.chmod("f", 0o4711)
        return cleared, stat.S_IMODE(os.stat("f").st_mode)

    assert recorded(payload) == (0o755, 0o4711)


def test_devices_are_empty_files_that_say_what_they_stand_for(recorded: Recorded) -> None:
    def payload() -> Any:
        os.umask(0o027)
        os.mknod("null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.mknod("disk", stat.S_IFBLK | 0o660, os.makedev(259, 70000))
        os.chown("disk", 0, 6)
        told = os.stat("null"), os.stat("disk")
        return [(each.st_mode, each.st_rdev, each.st_gid) for each in told]

    assert recorded(payload) == [
        (stat.S_IFCHR | 0o640, os.makedev(1, 3), 0),
        (stat.S_IFBLK | 0o640, os.makedev(259, 70000), 6),
    ]
    found = single.recorded(str(recorded.root / "disk"))
    assert found and (found.kind, found.major, found.minor, found.gid) == ("block", 259, 70000, 6)
    assert (recorded.root / "null").stat().st_size == 0


def test_file_capabilities_are_the_kernels(recorded: Recorded) -> None:
    """They are kept for the caller's own id, and read by root inside as they were given."""
    given = bytes.fromhex("0100000200040000000000000000000000000000")

    def payload() -> Any:
        open("f", "w").close()
        os.setxattr("f", "security.capability", given)
        before = os.getxattr("f", "security.capability")
        os.chown("f", 5, 6)  # takes them away, as everywhere
        return before, os.listxattr("f")

    before, left = recorded(payload)
    assert before == given
    assert left == [single.OWNER]


def test_fifos_sockets_and_files_are_made_by_the_kernel(recorded: Recorded) -> None:
    def payload() -> Any:
        os.mknod("p", stat.S_IFIFO | 0o600)
        os.mknod("f", stat.S_IFREG | 0o600)
        os.mknod("s", stat.S_IFSOCK | 0o600)
        return [stat.S_IFMT(os.lstat(name).st_mode) for name in "pfs"]

    assert recorded(payload) == [stat.S_IFIFO, stat.S_IFREG, stat.S_IFSOCK]


def test_becoming_somebody_else_succeeds_and_changes_nothing(recorded: Recorded) -> None:
    def payload() -> Any:
        os.setgroups([5, 6])
        os.setresgid(5, 5, 5)
        os.setresuid(5, 5, 5)
        return os.getresuid(), os.getresgid()

    assert recorded(payload) == ((0, 0, 0), (0, 0, 0))


def test_errors_are_the_kernels(recorded: Recorded) -> None:
    def payload() -> Any:
        open("f", "w").close()
        os.symlink("loop", "loop")
        found = []
        for path in ("missing", "f/below", "loop", "x" * 300, "/".join(["y"] * 3000), ""):
            try:
                os.chown(path, 1, 1)
                found.append("done")
            except OSError as error:
                found.append(type(error).__name__ + f" {error.errno}")
        for path in ("f", ".", "..", "f/x", "missing/x"):
            try:
                os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
                found.append("done")
            except OSError as error:
                found.append(f"mknod {error.errno}")
        return found

    assert recorded(payload) == [
        "FileNotFoundError 2", "NotADirectoryError 20", "OSError 40", "OSError 36", "OSError 36",
        "FileNotFoundError 2", "mknod 17", "mknod 17", "mknod 17", "mknod 20", "mknod 2",
    ]  # fmt: skip


def test_whiteouts_are_not_devices(recorded: Recorded) -> None:
    def payload() -> Any:
        return syscall("mknodat", -100, b"w", stat.S_IFCHR | 0o600, 0)

    assert recorded(payload) == -1
    assert not (recorded.root / "w").exists()


def test_what_is_no_file_of_the_root_is_not_recorded(recorded: Recorded) -> None:
    def payload() -> Any:
        reading, writing = os.pipe()
        left, _ = socket.socketpair()
        results = []
        for fd in (reading, writing, left.fileno()):
            results.append(syscall("fchown", fd, 5, 5))
        return results

    assert all(result in (0, -1, -22) for result in recorded(payload))
    assert recorded.ledger == {}


def test_the_callers_own_descriptor_by_its_name_in_proc(recorded: Recorded) -> None:
    def payload() -> Any:
        fd = os.open("f", os.O_CREAT | os.O_RDWR)
        os.chown(f"/proc/self/fd/{fd}", 5, 6)
        os.chown(f"/dev/fd/{fd}", -1, 7)
        return os.stat(f"/dev/fd/{fd}").st_gid

    assert recorded(payload) == 7
    assert recorded.owner("f") == (5, 7)


def test_a_root_directory_within_the_root(recorded: Recorded) -> None:
    def payload() -> Any:
        os.mkdir("inner")
        for name in ("f", "inner/f"):
            open(name, "w").close()
        os.symlink("/f", "inner/l")
        if not os.fork():
            os.chroot("inner")
            os.chown("/l", 5, 6)
            os._exit(0)
        os.wait()
        os.chown("/f", 7, 8)

    recorded(payload)
    assert (recorded.owner("inner/f"), recorded.owner("f")) == ((5, 6), (7, 8))
