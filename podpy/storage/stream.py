"""Members of an archive on their way into a pipe: many small ones together, large ones uncopied."""

from __future__ import annotations

import os

from podpy import files
from podpy.errors import ImageError
from podpy.storage import headers

_BUFFER = 1 << 20  # as much as the pipe takes
_SMALL = 1 << 17  # files above go from the page cache into the pipe without a copy
_PIECE = 1 << 30


class Stream:
    """A tar of file system objects on its way to a descriptor, in large pieces."""

    def __init__(self, out: int, timestamp: int | None = None) -> None:
        self._out = out
        self._pieces: list[bytes] = []
        self._waiting = 0
        self._timestamp = timestamp
        self.entries = 0

    def add(self, data: bytes) -> None:
        self._pieces.append(data)
        self._waiting += len(data)
        if self._waiting >= _BUFFER:
            self.flush()

    def flush(self) -> None:
        files.write_all(self._out, b"".join(self._pieces))
        self._pieces.clear()
        self._waiting = 0

    def finish(self) -> None:
        self.add(headers.END)
        self.flush()

    def time(self, status: os.stat_result) -> int:
        if self._timestamp is not None:
            return self._timestamp
        return status.st_mtime_ns // 1_000_000_000

    def content(self, fd: int, size: int, name: bytes) -> None:
        """The bytes of a file, and what fills their last block."""
        if size <= _SMALL:
            data = os.read(fd, size)
            if len(data) != size:
                data += _rest(fd, size - len(data), name)
            self.add(data)
        else:
            self.flush()
            _pour(fd, self._out, size, name)
        if size & (headers.BLOCK - 1):
            self.add(headers.padding(size))


def _rest(fd: int, count: int, name: bytes) -> bytes:
    data = b""
    while len(data) < count:
        piece = os.read(fd, count - len(data))
        if not piece:
            raise ImageError(f"layer: {shown(name)} became shorter while it was read")
        data += piece
    return data


def _pour(fd: int, out: int, size: int, name: bytes) -> None:
    left = size
    while left:
        try:
            moved = os.splice(fd, out, min(left, _PIECE))
        except OSError:  # not a pipe, or a file system that cannot: the plain way
            piece = os.read(fd, min(left, _BUFFER))
            files.write_all(out, piece)
            moved = len(piece)
        if not moved:
            raise ImageError(f"layer: {shown(name)} became shorter while it was read")
        left -= moved


def shown(name: bytes) -> str:
    """A name from a tree, safe for a terminal."""
    return ascii(os.fsdecode(name[:300]))
