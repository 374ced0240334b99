"""Files in the memory of one step: secrets, programs, ``/etc/hosts`` and its like.

No file system of the host ever has them, and the layer does not either.
"""

from __future__ import annotations

import os

from podpy.kernel import libc, mounts
from podpy.records import record
from podpy.storage import single

_ROOM = 1 << 20  # for those who write to their hosts file
_SAFE = libc.MOUNT_ATTR_NOSUID | libc.MOUNT_ATTR_NODEV


@record
class InlineFile:
    """One file of :class:`Inline`.

    It can be executed where it is a ``program``; where it is ``writable``, what
    is written to it is gone with the container.
    """

    target: str
    data: bytes
    mode: int = 0o400
    uid: int = 0
    gid: int = 0
    program: bool = False
    writable: bool = False

    @property
    def attributes(self) -> int:
        """Those of its mount."""
        refused = 0 if self.program else libc.MOUNT_ATTR_NOEXEC
        return _SAFE | refused | (0 if self.writable else libc.MOUNT_ATTR_RDONLY)


@record
class Inline:
    """Files that are in memory only: on a tmpfs of their own, each bound to its target.

    ``place`` is a host directory where the tmpfs is attached, in the mount
    namespace of this container alone: it goes when the container's root becomes the root.
    """

    place: str
    files: tuple[InlineFile, ...]

    def describe(self) -> str:
        return f"provide {', '.join(each.target for each in self.files)}"

    def prepare(self) -> tuple[int, ...]:
        return ()

    def execute(self, root_fd: int, prepared: tuple[int, ...] = ()) -> None:
        size = sum(len(each.data) + 4096 for each in self.files) + _ROOM
        made = mounts.new_filesystem("tmpfs", ("mode=0700", f"size={size}"), _SAFE)
        place = os.open(self.place, libc.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        # Attached, because only then can parts of it be cloned (before Linux 6.15).
        libc.move_mount(made, place)
        for number, each in enumerate(self.files):
            _provide(root_fd, made, str(number), each)
        os.close(place)
        os.close(made)


def _provide(root_fd: int, directory: int, name: str, file: InlineFile) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    fd = os.open(name, flags, 0o600, dir_fd=directory)
    with os.fdopen(fd, "wb") as opened:
        opened.write(file.data)
        opened.flush()
        single.give(fd, file.uid, file.gid)
        os.fchmod(fd, file.mode)
    source = os.open(name, libc.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    mounted = libc.open_tree(source, "", libc.OPEN_TREE_CLONE | libc.AT_EMPTY_PATH)
    libc.mount_setattr(mounted, set_=file.attributes)
    target = mounts.open_target(root_fd, file.target, directory=False)
    libc.move_mount(mounted, target)
    for each in (source, mounted, target):
        os.close(each)
