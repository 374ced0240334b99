"""``/dev/shm`` of the container whose ipc namespace is joined: one file system for both.

Programs that share memory meet in files there.  The mount belongs to the
lender's mount namespace, where only a process in that namespace may clone it;
a child goes there for a moment and hands the clone back as a descriptor.
"""

from __future__ import annotations

import os

from podpy.errors import LaunchError
from podpy.kernel import libc, mounts, process
from podpy.model import ProcessIdentity
from podpy.records import record
from podpy.runtime.channel import Channel

_SHM = "/dev/shm"
_TREE = "tree"


@record
class SharedMemory:
    """An operation among the mounts; ``lender`` is the other container's first process."""

    lender: ProcessIdentity

    def describe(self) -> str:
        return f"share {_SHM}"

    def prepare(self) -> tuple[int, ...]:
        """Called when the lender's user namespace has been joined, whose right this is."""
        pidfd = process.open_pidfd(self.lender)
        if pidfd < 0:
            raise LaunchError(f"share {_SHM}: the container that lends it has stopped")
        ours, theirs = Channel.pair()
        with ours:
            child = process.fork_child(lambda: _fetch(pidfd, theirs))
            theirs.close()
            os.close(pidfd)
            try:
                return (ours.expect_descriptor(_TREE),)
            finally:
                os.waitpid(child, 0)

    def execute(self, root_fd: int, prepared: tuple[int, ...] = ()) -> None:
        (mounted,) = prepared or self.prepare()
        target = mounts.open_target(root_fd, _SHM, directory=True, follow=False)
        libc.move_mount(mounted, target)
        os.close(mounted)
        os.close(target)


def _fetch(pidfd: int, theirs: Channel) -> int:
    """In the child.  The lender's root may have put anything in the place of its ``/dev/shm``."""
    try:
        libc.setns(pidfd, libc.CLONE_NEWNS)
        resolve = libc.RESOLVE_NO_SYMLINKS | libc.RESOLVE_NO_MAGICLINKS
        flags = libc.O_PATH | os.O_DIRECTORY
        place = libc.openat2(libc.AT_FDCWD, _SHM, flags, resolve=resolve)
        tree = libc.open_tree(place, "", libc.OPEN_TREE_CLONE | libc.AT_EMPTY_PATH)
        theirs.send(_TREE, fds=(tree,))
    except BaseException as error:
        theirs.fail(f"share {_SHM}", error)
    return 0
