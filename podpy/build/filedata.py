"""What a file holds, copied from descriptor to descriptor: bytes, holes and attributes."""

from __future__ import annotations

import errno
import fcntl
import os

from podpy import files
from podpy.errors import BuildError
from podpy.storage import xattrs

_FICLONE = 0x40049409
_SMALL = 1 << 18
_NO_CLONE = (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.ENOTTY)


def read_xattrs(fd: int) -> list[tuple[str, bytes]]:
    """The attributes of an open file that a copy keeps, sorted."""
    try:
        names = os.listxattr(fd)
    except OSError:
        return []  # a file system without them
    found = []
    for name in sorted(filter(xattrs.is_content, names)):
        try:
            found.append((name, os.getxattr(fd, name)))
        except OSError:
            continue  # a capability of somebody's who has no number here
    return found


def set_xattrs(fd: int, xattrs: list[tuple[str, bytes]]) -> None:
    """Give an open file attributes, as far as its file system and our rights allow."""
    for name, value in xattrs:
        try:
            os.setxattr(fd, name, value)
        except OSError as error:
            # A file system without them, or a capability that is not ours to give.
            if error.errno not in (errno.ENOTSUP, errno.EPERM, errno.EINVAL):
                raise


class DataCopy:
    """Copies the bytes of files; remembers whether the file system can share blocks."""

    def __init__(self) -> None:
        self._can_clone = True

    def copy(self, reading: int, writing: int, status: os.stat_result) -> None:
        """The whole of a file, which ``status`` is of, into an empty one; holes stay holes."""
        size = status.st_size
        if size <= _SMALL and status.st_blocks:
            data = os.read(reading, size + 1)
            if len(data) == size:
                files.write_all(writing, data)
                return
            os.lseek(reading, 0, os.SEEK_SET)
        if not (self._can_clone and self._clone(reading, writing)):
            _copy_extents(reading, writing, size)

    def _clone(self, reading: int, writing: int) -> bool:
        try:
            fcntl.ioctl(writing, _FICLONE, reading)
        except OSError as error:
            if error.errno not in _NO_CLONE:
                raise
            self._can_clone = False
            return False
        return True


def _copy_extents(reading: int, writing: int, size: int) -> None:
    """The pieces of a file that hold data; what lies between stays a hole."""
    at = 0
    while at < size:
        try:
            start = os.lseek(reading, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break  # a hole to the end
        end = os.lseek(reading, start, os.SEEK_HOLE)
        os.lseek(reading, start, os.SEEK_SET)
        os.lseek(writing, start, os.SEEK_SET)
        _copy_range(reading, writing, end - start)
        at = end
    os.ftruncate(writing, size)


def _copy_range(reading: int, writing: int, count: int) -> None:
    """From position to position, inside the kernel where it can be done."""
    try:
        while count and (done := os.copy_file_range(reading, writing, count)):
            count -= done
    except OSError as error:
        if error.errno not in _NO_CLONE:
            raise
    while count:
        data = os.read(reading, min(count, 1 << 20))
        if not data:
            raise BuildError("a file became shorter while it was copied")
        files.write_all(writing, data)
        count -= len(data)
