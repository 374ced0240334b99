"""Owners and devices that a host with one id cannot make, kept beside the files.

Where only root is mapped, every file of an image belongs to the user.  Who it
belongs to in truth is an extended attribute of files and directories: it stays
with them when they are renamed, linked, or copied up by overlayfs.  For a device
node there is an empty file, with its numbers in that attribute.  Links, FIFOs and sockets can hold
no such attribute: theirs are kept by inode number in a ledger beside a step's
upper directory, and by path in ``records.json`` of a finished layer.

A payload is root in its own image and may write these attributes as well; it
decides who owns what there in any case.
"""

from __future__ import annotations

import errno
import os

from podpy import files
from podpy.kernel import libc
from podpy.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

OWNER = "user.podpy.owner"  # UID:GID, or UID:GID:KIND:MAJOR:MINOR with KIND b or c
LEDGER = "owners"  # beside an upper directory
RECORDS = "records.json"  # beside a layer's tree
CREATOR = 0  # instead of an inode in a ledger: who all that is new belongs to
_LINKS = ("symlink", "fifo")
_BENEATH = libc.RESOLVE_BENEATH | libc.RESOLVE_NO_SYMLINKS
_ORIGINS = ("user.overlay.origin", "user.fuseoverlayfs.origin")
_KINDS = {"b": "block", "c": "character"}
_MAX_ID = 0xFFFFFFFE


@record
class Recorded:
    """Who a file belongs to, and which device node it stands for; ``kind`` is empty for none."""

    uid: int
    gid: int
    kind: str = ""
    major: int = 0
    minor: int = 0


ROOT = Recorded(uid=0, gid=0)


def recorded(file: int | str) -> Recorded | None:
    """What is recorded with a file or directory; None where the tree says it all.

    ``file`` is a descriptor (not an ``O_PATH`` one) or a path, which is followed.
    """
    try:
        text = os.getxattr(file, OWNER)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP, errno.EPERM):
            return None
        raise
    return _parsed(text)


def _parsed(text: bytes) -> Recorded | None:
    """A payload can write anything there, and nonsense is nothing."""
    uid, gid, *rest = (*text.decode(errors="replace").split(":"), "")
    numbers = (uid, gid, *rest[1:-1])
    if len(text) > 64 or not all(each.isascii() and each.isdigit() for each in numbers):
        return None
    if max(int(uid), int(gid)) > _MAX_ID:
        return None
    if len(rest) == 4 and rest[0] in _KINDS:
        kind, major, minor = _KINDS[rest[0]], int(rest[1]), int(rest[2])
        if major >> 12 or minor >> 20:
            return None  # numbers that no device has, nor a header room for
        return Recorded(uid=int(uid), gid=int(gid), kind=kind, major=major, minor=minor)
    return Recorded(uid=int(uid), gid=int(gid)) if len(rest) == 1 else None


def set_owner(
    file: int | str, uid: int, gid: int, known: Recorded | None = None, *, always: bool = False
) -> bool:
    """Record an owner; False where the file, or its file system, holds no such attribute.

    ``known`` is what is recorded there, if that has been looked up.  ``always``:
    root too is recorded, because nothing would mean the group of the directory.
    """
    known = known or recorded(file) or ROOT
    if (uid, gid) == (known.uid, known.gid) and not always:
        return True
    node = f":{known.kind[0]}:{known.major}:{known.minor}" if known.kind else ""
    try:
        if uid or gid or node or always:
            os.setxattr(file, OWNER, f"{uid}:{gid}{node}".encode())
        else:
            os.removexattr(file, OWNER)
    except OSError as error:
        if error.errno in (errno.EPERM, errno.ENOTSUP):
            return False
        raise
    return True


def is_new(names: Sequence[str]) -> bool:
    """Whether a file of an upper directory, by its attributes' names, was made there.

    (Of a file with several names in a layer below, a copy counts as new.)
    """
    return not any(origin in names for origin in _ORIGINS)


def give(file: int | str, uid: int, gid: int) -> None:
    """chown(2), or a record where only one id is mapped."""
    try:
        os.chown(file, uid, gid)
    except OSError as error:
        if error.errno != errno.EINVAL or not _has_one_id():
            raise
        set_owner(file, uid, gid)


def _has_one_id() -> bool:
    return files.read_bytes("/proc/self/uid_map").split()[2:] == [b"1"]


def set_node(file: int | str, *, block: bool, device: int) -> None:
    """Let an empty file stand for a device node of root's."""
    kind = "b" if block else "c"
    os.setxattr(file, OWNER, f"0:0:{kind}:{os.major(device)}:{os.minor(device)}".encode())


class Ledger:
    """The owners of links, FIFOs and sockets among a step's changes: a line for each.

    ``changes`` is a descriptor of the upper directory.  A file is named by its
    inode there, which no renaming changes.  Whoever adds lines while others
    make files holds the file: a number means nothing once its file is gone.
    """

    def __init__(self, path: str, changes: int) -> None:
        self._changes = changes
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        os.close(self._fd)

    def add_creator(self, uid: int, gid: int) -> None:
        """Whatever is made without an owner belongs to somebody other than root."""
        files.write_all(self._fd, b"%d %d %d\n" % (CREATOR, uid, gid))

    def add(self, path: str, status: os.stat_result, uid: int, gid: int) -> bool:
        """Record the owner of what lies at ``path`` (relative to the root); False if it does not.

        ``status`` is what the merged file system tells of it.  A file that came
        up from a layer below goes by that layer's number there.
        """
        inode = self._inode(path, status)
        if inode:
            files.write_all(self._fd, b"%d %d %d\n" % (inode, uid, gid))
        return bool(inode)

    def has(self, path: str) -> bool:
        """Whether something lies at ``path`` among the changes."""
        return self._status(path) is not None

    def _inode(self, path: str, status: os.stat_result) -> int:
        found = self._status(path)
        if found is None or (found.st_mode, found.st_size) != (status.st_mode, status.st_size):
            return 0
        return found.st_ino

    def _status(self, path: str) -> os.stat_result | None:
        flags = libc.O_PATH | os.O_NOFOLLOW
        try:
            found = libc.openat2(self._changes, path, flags, resolve=_BENEATH)
        except OSError:
            return None
        try:
            return os.fstat(found)
        finally:
            os.close(found)


def of_layers(layers: Sequence[str]) -> dict[str, Recorded]:
    """The owners of links and FIFOs that layers record by path.

    ``layers`` are their trees, topmost first, as overlayfs lists them.
    """
    return {
        path: Recorded(uid=each["uid"], gid=each["gid"])
        for path, each in _by_path(layers).items()
        if each["type"] in _LINKS
    }


def carry(layers: Sequence[str], target: str, ledger: str) -> None:
    """Take what layers record by path into ``target``, a tree that was made of them.

    ``layers`` are their trees, topmost first.  Owners go into ``ledger``; device
    nodes, which no tree has, become files that stand for them.
    """
    changes = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    book = Ledger(ledger, changes)
    for path, each in _by_path(layers).items():
        place, _, name = path.rpartition("/")
        try:
            parent = libc.openat2(
                changes, place or ".", os.O_RDONLY | os.O_DIRECTORY, resolve=_BENEATH
            )
        except OSError:
            continue  # deleted by a layer above
        try:
            if each["type"] in _LINKS:
                status = os.stat(name, dir_fd=parent, follow_symlinks=False)
                book.add(path, status, each["uid"], each["gid"])
            else:
                _make_node(parent, name, each)
        except (FileExistsError, FileNotFoundError):
            continue
        finally:
            os.close(parent)
    book.close()
    os.close(changes)


def _make_node(parent: int, name: str, each: Mapping[str, Any]) -> None:
    flags = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY | os.O_CLOEXEC
    made = os.open(name, flags, 0o600, dir_fd=parent)
    try:
        set_node(
            made, block=each["type"] == "block", device=os.makedev(each["major"], each["minor"])
        )
        set_owner(made, each["uid"], each["gid"])
        os.fchmod(made, each["mode"])
        os.utime(made, ns=(each["mtime"], each["mtime"]))
    finally:
        os.close(made)


def _by_path(layers: Sequence[str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for tree in reversed(layers):
        # What a layer brings anew, or deletes, is as that layer says.
        found = {
            path: each for path, each in found.items() if not os.path.lexists(f"{tree}/{path}")
        }
        try:
            values = files.read_json(f"{os.path.dirname(tree)}/{RECORDS}")
        except FileNotFoundError:
            continue
        found |= {each["path"]: each for each in values}
    return found


def read_ledger(path: str) -> dict[int, tuple[int, int]]:
    """What a ledger says in the end, by inode number."""
    try:
        content = files.read_bytes(path)
    except FileNotFoundError:
        return {}
    found = {}
    for line in content.splitlines():
        inode, uid, gid = line.split()
        found[int(inode)] = int(uid), int(gid)
    return found
