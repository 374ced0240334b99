"""The layers below a directory, as a look at their names shows them joined.

How layers spell deletions is known here for all drivers: the kernel's character
devices 0:0 and opaque directories, the files of fuse-overlayfs.
"""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

WHITEOUT = b".wh."
OPAQUE = (b".wh..wh..opq", b".wh..opq")  # as archives and fuse-overlayfs call it
OPAQUE_XATTRS = ("user.overlay.opaque", "user.fuseoverlayfs.opaque", "trusted.overlay.opaque")
_MAX_OPEN = 400
_O_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Below:
    """The layers below, looked at by name only.

    The way to the directory that was asked for last stays open: whoever walks a
    tree asks for its neighbour next.
    """

    def __init__(self, trees: Sequence[str]) -> None:
        self._roots = [os.open(tree, _O_DIR) for tree in trees]
        self._way: list[tuple[bytes, list[int]]] = []

    def __enter__(self) -> Below:
        return self

    def __exit__(self, *exc: object) -> None:
        self._go_back(0)
        for fd in self._roots:
            os.close(fd)

    def has(self, path: bytes) -> bool:
        """Whether the layers together show something of that name."""
        head, _, name = path.rpartition(b"/")
        return bool(self.shown(head, (name,)))

    def shown(self, path: bytes, names: Iterable[bytes]) -> set[bytes]:
        """Which of these names the layers together show in a directory."""
        directories = self._at(path)
        return {name for name in names if _is_shown(directories, name)}

    def names(self, path: bytes) -> set[bytes] | None:
        """What the layers together show in a directory; None when they show none there."""
        found = self._at(path)
        shown: set[bytes] = set()
        hidden: set[bytes] = set()
        for fd in found:
            present, deleted = _contents(fd)
            shown |= present - hidden
            hidden |= deleted
        return shown if found else None

    def _at(self, path: bytes) -> list[int]:
        """What the layers have of a directory, topmost first."""
        parts = path.split(b"/") if path else []
        common = 0
        for (known, _), part in zip(self._way, parts):
            if known != part:
                break
            common += 1
        self._go_back(common)
        if sum(len(fds) for _, fds in self._way) > _MAX_OPEN:
            self._go_back(0)
        found = self._way[-1][1] if self._way else self._roots
        for part in parts[len(self._way) :]:
            found = descend(found, part)
            self._way.append((part, found))
        return found

    def _go_back(self, length: int) -> None:
        for _, fds in self._way[length:]:
            for fd in fds:
                os.close(fd)
        del self._way[length:]


def _is_shown(directories: Sequence[int], name: bytes) -> bool:
    for fd in directories:
        try:
            return not is_whiteout(os.stat(name, dir_fd=fd, follow_symlinks=False))
        except FileNotFoundError:
            if is_there(fd, WHITEOUT + name):
                return False
    return False


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
    """What directories of layers, topmost first, have under a name."""
    found: list[int] = []
    for fd in directories:
        try:
            inner = os.open(name, _O_DIR, dir_fd=fd)
        except FileNotFoundError:
            if is_there(fd, WHITEOUT + name):
                break
            continue
        except OSError:
            break  # a file, or a deletion
        found.append(inner)
        if is_marked(os.listxattr(inner), inner) or _is_opaque_by_file(inner):
            break
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
