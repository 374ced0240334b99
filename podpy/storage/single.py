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

OWNER = "user.podpy.owner"  # UID:GID, or UID:GID:KIND:MAJOR:MINOR with KIND b or c
LEDGER = "owners"  # beside an upper directory
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
        return Recorded(uid=int(uid), gid=int(gid), kind=kind, major=major, minor=minor)
    return Recorded(uid=int(uid), gid=int(gid)) if len(rest) == 1 else None


def set_owner(file: int | str, uid: int, gid: int) -> bool:
    """Record an owner; False where the file, or its file system, holds no such attribute."""
    known = recorded(file) or Recorded(uid=0, gid=0)
    if (uid, gid) == (known.uid, known.gid):
        return True
    node = f":{known.kind[0]}:{known.major}:{known.minor}" if known.kind else ""
    try:
        if uid or gid or node:
            os.setxattr(file, OWNER, f"{uid}:{gid}{node}".encode())
        else:
            os.removexattr(file, OWNER)
    except OSError as error:
        if error.errno in (errno.EPERM, errno.ENOTSUP):
            return False
        raise
    return True


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

    def add(self, path: str, status: os.stat_result, uid: int, gid: int) -> bool:
        """Record the owner of what lies at ``path`` (relative to the root); False if it does not.

        ``status`` is what the merged file system tells of it.  A file that came
        up from a layer below goes by that layer's number there.
        """
        inode = self._inode(path, status)
        if inode:
            files.write_all(self._fd, b"%d %d %d\n" % (inode, uid, gid))
        return bool(inode)

    def _inode(self, path: str, status: os.stat_result) -> int:
        flags = libc.O_PATH | os.O_NOFOLLOW
        resolve = libc.RESOLVE_BENEATH | libc.RESOLVE_NO_SYMLINKS
        try:
            found = libc.openat2(self._changes, path, flags, resolve=resolve)
        except OSError:
            return 0
        try:
            upper = os.fstat(found)
        finally:
            os.close(found)
        alike = (upper.st_mode, upper.st_size) == (status.st_mode, status.st_size)
        return upper.st_ino if alike else 0


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
