"""A layer's tree in the making: below ``tmp/``, by a child process, published by ``rename``."""

from __future__ import annotations

import fcntl
import os
import struct

from podpy import files, records
from podpy.errors import StoreError
from podpy.storage import layers, staging
from podpy.storage.unpacker import result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from podpy.paths import Store
    from podpy.storage.extract import Limits
    from podpy.storage.layers import Layer
    from podpy.storage.unpacker import Unpacker

_PIPE_SIZE = 1 << 20
# FS_IOC_GETFLAGS, FS_IOC_SETFLAGS and FS_TOPDIR_FL of linux/fs.h.
_GET_FLAGS, _SET_FLAGS = 0x80086601, 0x40086602
_TOP_DIRECTORY = 0x00020000


class Tree:
    """One tree: written to, finished, then published or discarded."""

    def __init__(self, store: Store, unpacker: Unpacker, limits: Limits) -> None:
        self._store = store
        self._unpacker = unpacker
        self._path = staging.create(self._store, "layer")
        self._pipe = -1
        self._answer = -1
        _make_apart(f"{self._path}/diff")
        reading, self._pipe = os.pipe()
        try:
            _enlarge(self._pipe)
            self._answer = unpacker.start(f"{self._path}/diff", reading, limits)
        except BaseException:
            self.discard()
            raise
        finally:
            os.close(reading)

    def write(self, data: bytes) -> None:
        """Inflated bytes for the child; its own error when it has given up."""
        try:
            files.write_all(self._pipe, data)
        except BrokenPipeError:
            self.finish()
            raise StoreError("the process that unpacks a layer has died") from None

    def finish(self) -> dict[str, Any]:
        """The end of the data; waits for the child's summary or raises its error."""
        os.close(self._pipe)
        answer, self._answer, self._pipe = self._answer, -1, -1
        return result(answer)

    def publish(self, layer: Layer, summary: dict[str, Any]) -> None:
        """Give the tree its place; somebody else's tree of the same layer is as good."""
        if summary.get("records"):
            files.write_json(f"{self._path}/records.json", summary["records"], durable=True)
        files.write_json(f"{self._path}/layer.json", records.to_dict(layer), durable=True)
        place = layers.path_of(self._store, layer.diff_id)
        try:
            os.rename(self._path, place)
        except OSError:
            if not os.path.exists(f"{place}/layer.json"):
                raise
            self._unpacker.remove(self._path)
        self._path = ""
        files.sync_directory(self._store.layers)

    def discard(self) -> None:
        """Stop the child and delete what it made; nothing after :meth:`publish`."""
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
        if self._answer >= 0:
            while os.read(self._answer, 1 << 16):  # until it writes no more
                pass
            os.close(self._answer)
            self._answer = -1
        if self._path:
            self._unpacker.remove(self._path)
            self._path = ""


def _make_apart(path: str) -> None:
    """Make a directory that ext4 places apart from its siblings (``chattr +T`` on its parent).

    Beside them it looks for free inodes where trees were just deleted, and
    passes over each inode that was used in the last minute, one by one
    (``recently_deleted`` in fs/ext4/ialloc.c): seconds, for an image of 16,000
    files.  Where it begins to look for a place is a hash of the name: a random
    one is given first.
    """
    parent = os.path.dirname(path)
    fd = os.open(parent, files.O_DIR)
    try:
        flags = struct.unpack("l", fcntl.ioctl(fd, _GET_FLAGS, bytes(8)))[0]
        fcntl.ioctl(fd, _SET_FLAGS, struct.pack("l", flags | _TOP_DIRECTORY))
    except OSError:
        pass  # another file system: it has its own ways
    finally:
        os.close(fd)
    first = f"{parent}/{os.urandom(8).hex()}"
    os.mkdir(first, 0o755)
    os.rename(first, path)


def _enlarge(pipe: int) -> None:
    """A pipe of 1 MiB: fewer switches between the two sides (the default is 64 KiB)."""
    try:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
    except OSError:
        pass  # the user's quota of pipe buffers is used up: slower, not wrong
