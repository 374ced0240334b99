"""A copied root file system after it was written to, cut down to what is new in it.

Without overlayfs a step works in a copy of all layers
(:mod:`podpy.storage.vfs`).  Afterwards :func:`reduce` compares it with them and
removes what they have already; what they have and the copy has not becomes a
deletion as overlayfs spells it.  What is left is what an overlay's upper
directory would hold.

Runs as root of a user namespace, in a child process.
"""

from __future__ import annotations

import os
import stat

from podpy.errors import ImageError
from podpy.storage import below as layers_below

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_MARK = "since"
_WHITEOUT = os.fsdecode(layers_below.WHITEOUT)
_O_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_O_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_PIECE = 1 << 20


def mark(directory: str) -> None:
    """Note in a directory that the copy beside is made: what changes from now on is new."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    os.close(os.open(f"{directory}/{_MARK}", flags, 0o600))


def marked(directory: str) -> int:
    """When :func:`mark` was called, in nanoseconds of the file system's clock; 0 when never."""
    try:
        return os.stat(f"{directory}/{_MARK}").st_ctime_ns
    except FileNotFoundError:
        return 0


def reduce(tree: str, lower: Sequence[str], since: int) -> None:
    """Leave in a copy of the trees ``lower`` (topmost first) what differs from them.

    Files whose inode was not touched after ``since`` are as they were copied;
    of others everything is compared, their content too.
    """
    root = os.open(tree, _O_DIR)
    below = [os.open(path, _O_DIR) for path in lower]
    try:
        _Reduction(since).directory(root, below)
    finally:
        os.close(root)


class _Reduction:
    def __init__(self, since: int) -> None:
        self._since = since

    def directory(self, fd: int, below: Sequence[int]) -> bool:
        """Reduce one directory and close ``below``; whether anything is left in it."""
        status = os.fstat(fd)
        before = _names(below)
        left = False
        for name in os.listdir(fd):
            original = _find(below, name) if before.pop(name, None) else None
            if self._entry(fd, name, below, original):
                left = True
        for name in before:
            if _find(below, name) is not None:
                _delete(fd, name)
                left = True
        for other in below:
            os.close(other)
        os.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns))
        return left

    def _entry(self, fd: int, name: str, below: Sequence[int], original: int | None) -> bool:
        """Remove an entry that is as it was; whether it stays. ``original`` has its like."""
        if name.startswith(_WHITEOUT):
            raise ImageError(
                f"layer: {name!a}: a name that begins with .wh. would delete a file"
                " of the layers below",
                hint="give the file another name",
            )
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            return self._subdirectory(fd, name, below, original, status)
        if original is not None and self._is_same(fd, original, name, status):
            os.unlink(name, dir_fd=fd)
            return False
        return True

    def _subdirectory(
        self,
        fd: int,
        name: str,
        below: Sequence[int],
        original: int | None,
        status: os.stat_result,
    ) -> bool:
        inner = os.open(name, _O_DIR, dir_fd=fd)
        try:
            others = layers_below.descend(below, os.fsencode(name))
            same = bool(others) and _same_attributes(inner, others[0], status)
            left = self.directory(inner, others)
        finally:
            os.close(inner)
        if left or not same or original is None:
            return True
        os.rmdir(name, dir_fd=fd)
        return False

    def _is_same(self, fd: int, original: int, name: str, status: os.stat_result) -> bool:
        before = os.stat(name, dir_fd=original, follow_symlinks=False)
        if not _same_status(status, before):
            return False
        if stat.S_ISLNK(status.st_mode):
            return os.readlink(name, dir_fd=fd) == os.readlink(name, dir_fd=original)
        if not stat.S_ISREG(status.st_mode) or 0 < status.st_ctime_ns < self._since:
            return True
        new, old = (os.open(name, _O_READ, dir_fd=where) for where in (fd, original))
        try:
            return _xattrs(new) == _xattrs(old) and _same_content(new, old)
        finally:
            os.close(new)
            os.close(old)


def _names(directories: Sequence[int]) -> dict[str, bool]:
    return {name: True for fd in directories for name in os.listdir(fd)}


def _find(directories: Sequence[int], name: str) -> int | None:
    """The topmost directory that has a name, unless that is a deletion there."""
    for fd in directories:
        try:
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            if layers_below.is_there(fd, layers_below.WHITEOUT + os.fsencode(name)):
                return None
            continue
        if name.startswith(_WHITEOUT) or (stat.S_ISCHR(status.st_mode) and status.st_rdev == 0):
            return None
        return fd
    return None


def _delete(fd: int, name: str) -> None:
    try:
        os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=fd)
    except PermissionError:  # before Linux 5.8
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        os.close(os.open(f"{_WHITEOUT}{name}", flags, 0o644, dir_fd=fd))


def _same_status(one: os.stat_result, other: os.stat_result) -> bool:
    def essence(status: os.stat_result) -> tuple[int, ...]:
        size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
        return status.st_mode, status.st_uid, status.st_gid, size, status.st_mtime_ns

    return essence(one) == essence(other)


def _same_attributes(fd: int, other: int, status: os.stat_result) -> bool:
    return _same_status(status, os.fstat(other)) and _xattrs(fd) == _xattrs(other)


def _xattrs(fd: int) -> dict[str, bytes]:
    private = ("user.overlay.", "user.fuseoverlayfs.", "trusted.", "security.selinux")
    return {
        name: os.getxattr(fd, name) for name in os.listxattr(fd) if not name.startswith(private)
    }


def _same_content(one: int, other: int) -> bool:
    while True:
        data = os.read(one, _PIECE)
        if data != os.read(other, _PIECE):
            return False
        if not data:
            return True
