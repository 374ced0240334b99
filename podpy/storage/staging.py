"""Work in progress below ``tmp/``: everything there names the process that makes it.

An entry is called ``<kind>.<pid>.<start>.<boot>.<random>``: process id, start
time in clock ticks and the first eight characters of the boot id.  Whoever
finds an entry whose owner is dead may delete it; nothing there is ever used by
anybody but its owner.  Trees are published by ``rename`` out of ``tmp/`` and
deleted by ``rename`` into it, so that no half-made or half-deleted tree is
visible anywhere else.
"""

from __future__ import annotations

import fcntl
import os

from podpy import files
from podpy.errors import StoreError
from podpy.kernel import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podpy.paths import Store

# FS_IOC_GETFLAGS, FS_IOC_SETFLAGS and FS_TOPDIR_FL of linux/fs.h.
_GET_FLAGS, _SET_FLAGS = 0x80086601, 0x40086602
_TOP_DIRECTORY = 0x00020000


def name(store: Store, kind: str) -> str:
    """A fresh path below ``tmp/`` that says who owns it; nothing is created."""
    me = process.identity()
    return f"{store.tmp}/{kind}.{me.pid}.{me.start}.{me.boot_id[:8]}.{os.urandom(6).hex()}"


def create(store: Store, kind: str) -> str:
    """A fresh, empty directory below ``tmp/``."""
    path = name(store, kind)
    os.mkdir(path, 0o700)
    return path


def make_apart(path: str) -> None:
    """Make a directory that ext4 places apart from its siblings (``chattr +T`` on its parent).

    Beside them it looks for free inodes where trees were just deleted, and
    passes over each inode that was used in the last minute, one by one
    (``recently_deleted`` in fs/ext4/ialloc.c): seconds, for an image of 16,000
    files.  Where it begins to look for a place is a hash of the name: a random
    one is given first.
    """
    import struct

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


def owner_is_alive(entry: str) -> bool:
    """Whether the process that an entry of ``tmp/`` names still runs.

    A name that podpy did not make is taken for alive: it is not ours to delete.
    """
    parts = entry.rsplit(".", 4)
    if len(parts) != 5 or not (parts[1].isdigit() and parts[2].isdigit()):
        return True
    if parts[3] != process.current_boot()[:8]:
        return False
    return process.start_time(int(parts[1])) == int(parts[2])


def kind_of(entry: str) -> str:
    """The kind that an entry of ``tmp/`` was created with."""
    return entry.rsplit(".", 4)[0]


def discard(store: Store, path: str) -> None:
    """Delete a file or tree of the store: gone from its place at once, and then for good."""
    grave = name(store, "trash")
    try:
        os.rename(path, grave)
    except FileNotFoundError:
        return
    remove_tree(grave)


def abandon(store: Store, path: str) -> None:
    """Take a tree from its place and leave it to :func:`sweep_later`, after our own end."""
    try:
        os.rename(path, name(store, "trash"))
    except FileNotFoundError:
        return


def sweep_later(store: Store) -> None:
    """:func:`sweep` by a process of its own, if there is anything to do: nobody waits for it.

    Deleting 20,000 files takes a file system longer than making them.
    """
    if all(owner_is_alive(entry) for entry in files.list_directory(store.tmp)):
        return

    def child() -> int:
        os.setsid()
        process.close_others(())
        for _ in range(3):
            os.open("/dev/null", os.O_RDWR)
        sweep(store)
        return 0

    process.fork_child(child)


def sweep(store: Store) -> list[str]:
    """Delete what dead processes left below ``tmp/``; returns the entries removed."""
    gone = []
    for entry in files.list_directory(store.tmp):
        if not owner_is_alive(entry):
            remove_tree(f"{store.tmp}/{entry}")
            gone.append(entry)
    return gone


def remove_tree(path: str) -> None:
    """Delete a tree, with files of subordinate ids in it if need be.

    Tried as the caller first; what is left goes through a child that is root
    of a user namespace with the caller's ids.
    """
    try:
        if not files.remove_tree(path):
            return
    except FileNotFoundError:
        return
    from podpy.kernel import userns

    def delete() -> int:
        return 1 if files.remove_tree(path) else 0

    if process.wait(userns.fork_mapped(delete, mount_ns=False)) != 0:
        raise StoreError(
            f"{path}: cannot be deleted",
            hint="files there belong to ids outside your ranges in /etc/subuid and /etc/subgid",
        )
