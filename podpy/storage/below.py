"""The layers below a directory, as a look at their names shows them joined.

How layers spell deletions is known here for all drivers: the kernel's character
devices 0:0 and opaque directories, the files of fuse-overlayfs.
"""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

WHITEOUT = b".wh."
OPAQUE = (b".wh..wh..opq", b".wh..opq")  # as archives and fuse-overlayfs call it
OPAQUE_XATTRS = ("user.overlay.opaque", "user.fuseoverlayfs.opaque", "trusted.overlay.opaque")
_O_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Below:
    """The layers below, looked at by name only."""

    def __init__(self, trees: Sequence[str]) -> None:
        self._roots = [os.open(tree, _O_DIR) for tree in trees]

    def __enter__(self) -> Below:
        return self

    def __exit__(self, *exc: object) -> None:
        for fd in self._roots:
            os.close(fd)

    def has(self, path: bytes) -> bool:
        """Whether the layers together show something of that name."""
        head, _, name = path.rpartition(b"/")
        return name in (self.names(head) or ())

    def names(self, path: bytes) -> set[bytes] | None:
        """What the layers together show in a directory; None when they show none there."""
        found = [os.dup(fd) for fd in self._roots]
        for name in path.split(b"/") if path else ():
            found = descend(found, name)
        shown: set[bytes] = set()
        hidden: set[bytes] = set()
        for fd in found:
            present, deleted = _contents(fd)
            shown |= present - hidden
            hidden |= deleted
            os.close(fd)
        return shown if found else None


def _contents(fd: int) -> tuple[set[bytes], set[bytes]]:
    """The names that a layer's directory brings, and those that it deletes."""
    present, deleted = set(), set()
    with os.scandir(fd) as entries:
        for entry in entries:
            name = os.fsencode(entry.name)
            if name.startswith(WHITEOUT):
                deleted.add(name[len(WHITEOUT) :])
            elif is_whiteout(entry.stat(follow_symlinks=False)):
                deleted.add(name)
            else:
                present.add(name)
    return present, deleted


def is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def descend(directories: Sequence[int], name: bytes) -> list[int]:
    """What the layers' directories have under a name; closes them."""
    found: list[int] = []
    goes_on = True
    for fd in directories:
        if goes_on:
            try:
                inner = os.open(name, _O_DIR, dir_fd=fd)
            except FileNotFoundError:
                goes_on = not is_there(fd, WHITEOUT + name)
            except OSError:
                goes_on = False  # a file, or a deletion
            else:
                found.append(inner)
                goes_on = not (is_marked(os.listxattr(inner), inner) or _is_opaque_by_file(inner))
        os.close(fd)
    return found


def _is_opaque_by_file(directory: int) -> bool:
    return any(is_there(directory, name) for name in OPAQUE)


def is_there(directory: int, name: bytes) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return False
    return True


def is_marked(names: Sequence[str], fd: int) -> bool:
    """Whether a directory with attributes of these names is marked as opaque."""
    return any(key in names and os.getxattr(fd, key) == b"y" for key in OPAQUE_XATTRS)
