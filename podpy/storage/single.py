"""Owners and devices that a host with one id cannot make, kept beside the files.

Where only root is mapped, every file of an image belongs to the user.  Who it
belongs to in truth is an extended attribute of files and directories: it stays
with them when they are renamed, linked, or copied up by overlayfs.  A device
node is an empty file with another attribute.  Links, FIFOs and sockets can hold
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

OWNER = "user.podpy.owner"
NODE = "user.podpy.node"
LEDGER = "owners"  # beside an upper directory
_KINDS = {"c": "character", "b": "block"}
_MAX_ID = 0xFFFFFFFE


@record
class Recorded:
    """Who a file belongs to, and which device it is; ``kind`` is empty for none."""

    uid: int = 0
    gid: int = 0
    kind: str = ""
    major: int = 0
    minor: int = 0


def owner(file: int | str) -> tuple[int, int] | None:
    """The owner recorded with a file or directory; None when it is root.

    ``file`` is a descriptor (not an ``O_PATH`` one) or a path, which is followed.
    """
    text = _attribute(file, OWNER)
    return _parsed_owner(text) if text else None


def node(file: int | str) -> tuple[str, int, int] | None:
    """Which device a file stands for: ``character`` or ``block``, and its numbers."""
    kind, _, numbers = _attribute(file, NODE).partition(b":")
    major, _, minor = numbers.partition(b":")
    if kind.decode(errors="replace") not in _KINDS or not (major.isdigit() and minor.isdigit()):
        return None
    return _KINDS[kind.decode()], int(major), int(minor)


def recorded(file: int | str) -> Recorded | None:
    """All that is recorded with a file or directory; None where the tree says it all."""
    who, device = owner(file), node(file)
    if who is None and device is None:
        return None
    uid, gid = who or (0, 0)
    kind, major, minor = device or ("", 0, 0)
    return Recorded(uid=uid, gid=gid, kind=kind, major=major, minor=minor)


def set_owner(file: int | str, uid: int, gid: int) -> bool:
    """Record an owner; False where the file, or its file system, holds no such attribute."""
    try:
        if uid or gid:
            os.setxattr(file, OWNER, b"%d:%d" % (uid, gid))
        else:
            os.removexattr(file, OWNER)
    except OSError as error:
        if error.errno == errno.ENODATA:
            return True
        if error.errno in (errno.EPERM, errno.ENOTSUP):
            return False
        raise
    return True


def set_node(file: int | str, *, block: bool, device: int) -> None:
    """Let an empty file stand for a device node."""
    kind = "b" if block else "c"
    os.setxattr(file, NODE, f"{kind}:{os.major(device)}:{os.minor(device)}".encode())


def _attribute(file: int | str, name: str) -> bytes:
    try:
        return os.getxattr(file, name)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP, errno.EPERM):
            return b""
        raise


def _parsed_owner(text: bytes) -> tuple[int, int] | None:
    """``UID:GID``; a payload can write anything there, and nonsense is nothing."""
    uid, _, gid = text.partition(b":")
    if not (uid.isdigit() and gid.isdigit() and len(text) <= 21):
        return None
    who = int(uid), int(gid)
    return who if max(who) <= _MAX_ID else None


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
