"""Network namespaces that somebody else made: ``--network ns:PATH``.

setns(2) lets a process into a network namespace that has CAP_SYS_ADMIN in two
user namespaces: its own, and the one that owns the network namespace.  An
ordinary user has that power only in user namespaces of their own making, and
inside one of them only over itself.  So a container enters the user namespace
that owns the network namespace, and lives there, with its id map.  A caller
who has the power anyway (root) joins the network namespace before the
container's user namespace is made.
"""

from __future__ import annotations

import fcntl
import os

from podpy.errors import HostError, LaunchError
from podpy.kernel import libc, process, userns
from podpy.kernel.userns import IdMap
from podpy.model import IdMapping
from podpy.records import record

_NS_GET_NSTYPE = 0xB703  # ioctl_ns(2)
_CAP_SYS_ADMIN = 21


@record
class NetworkPath:
    """A network namespace to join; ``inode`` tells it from another at the same path.

    ``id_map`` is that of the user namespace that is joined with it; None where
    the caller needs none.
    """

    path: str
    inode: int
    id_map: IdMap | None = None

    def join(self) -> None:
        """Enter it, and the user namespace that goes with it; for single-threaded processes."""
        fd = _open(self.path)
        if os.fstat(fd).st_ino != self.inode:
            raise LaunchError(f"--network ns:{self.path}: it is another namespace by now")
        if self.id_map is not None:
            owner = userns.owner_of(fd)
            # From here on, processes of that user namespace could attach to us.
            libc.prctl(libc.PR_SET_DUMPABLE, 0)
            libc.setns(owner, libc.CLONE_NEWUSER)
            os.close(owner)
        libc.setns(fd, libc.CLONE_NEWNET)
        os.close(fd)


def examine(path: str) -> NetworkPath:
    """What joining the network namespace at ``path`` takes; raises where the kernel refuses."""
    fd = _open(path)
    try:
        inode = os.fstat(fd).st_ino
        owner = _owner(fd, path)
        try:
            if os.fstat(owner).st_ino == os.stat("/proc/self/ns/user").st_ino:
                if not _is_powerful():
                    raise _refusal(path)
                return NetworkPath(path=path, inode=inode)
            return NetworkPath(path=path, inode=inode, id_map=_map_inside(owner, fd, path))
        finally:
            os.close(owner)
    finally:
        os.close(fd)


def _open(path: str) -> int:
    try:
        # Without waiting: the path may be that of a pipe.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except PermissionError:
        raise _refusal(path) from None
    except OSError as error:
        raise HostError(f"--network ns:{path}: {error.strerror}") from None
    try:
        kind = fcntl.ioctl(fd, _NS_GET_NSTYPE)
    except OSError:
        kind = 0
    if kind != libc.CLONE_NEWNET:
        os.close(fd)
        raise HostError(
            f"--network ns:{path}: is not a network namespace",
            hint="such as /proc/PID/ns/net, or a file below /run/netns",
        )
    return fd


def _owner(fd: int, path: str) -> int:
    try:
        return userns.owner_of(fd)
    except PermissionError:
        raise _refusal(path) from None


def _is_powerful() -> bool:
    with open("/proc/self/status", "rb") as file:
        lines = dict(line.split(b":", 1) for line in file)
    return bool(int(lines[b"CapEff"], 16) >> _CAP_SYS_ADMIN & 1)


def _refusal(path: str) -> HostError:
    return HostError(
        f"--network ns:{path}: belongs to a user namespace that is not yours: the kernel lets in"
        " only who has CAP_SYS_ADMIN there (setns(2))",
        hint="make it as the same user, in a user namespace of yours: `unshare --user"
        " --map-root-user --net`; or run podpy as who owns it",
    )


def _map_inside(owner: int, fd: int, path: str) -> IdMap:
    """The id map of a user namespace, read from without while a child of ours is in it."""
    ready, entered = os.pipe()
    gone, leave = os.pipe()

    def enter() -> int:
        os.close(leave)
        libc.prctl(libc.PR_SET_DUMPABLE, 0)
        try:
            libc.setns(owner, libc.CLONE_NEWUSER)
            libc.setns(fd, libc.CLONE_NEWNET)
        except OSError:
            return 1
        os.write(entered, b"1")
        os.read(gone, 1)
        return 0

    child = process.fork_child(enter)
    os.close(entered)
    os.close(gone)
    try:
        if not os.read(ready, 1):
            raise _refusal(path)
        found = IdMap(uid=_extents(child, "uid_map"), gid=_extents(child, "gid_map"))
    finally:
        os.close(leave)
        os.close(ready)
        os.waitpid(child, 0)
    if not all(any(e.inside == 0 for e in extents) for extents in (found.uid, found.gid)):
        raise HostError(f"--network ns:{path}: no id is root in the user namespace that owns it")
    return found


def _extents(pid: int, name: str) -> tuple[IdMapping, ...]:
    """An id map as the reader's own user namespace numbers it (user_namespaces(7))."""
    with open(f"/proc/{pid}/{name}", encoding="ascii") as file:
        rows = [tuple(map(int, line.split())) for line in file]
    return tuple(IdMapping(inside=a, outside=b, count=n) for a, b, n in rows)
