"""Owners that are recorded and not had, for copies between root file systems with one id.

COPY and ADD know the owners of what they copy and give owners to what they
make.  Where only root is mapped both are records (:mod:`podpy.storage.single`).
"""

from __future__ import annotations

import os
import stat

from podpy.kernel import libc
from podpy.storage import single

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from podpy.build.inside import Upper
    from podpy.build.selection import Entry, Pick
    from podpy.storage.single import Recorded

_RESOLVE = libc.RESOLVE_IN_ROOT | libc.RESOLVE_NO_SYMLINKS


def recorded(root: int, picks: Sequence[Pick], layers: Sequence[str]) -> list[Pick]:
    """Picks of a root with the owners that are recorded there.

    ``layers`` are the trees of its layers, topmost first.
    """
    reader = _Reader(root, single.of_layers(layers))
    return [reader.pick(pick) for pick in picks]


class _Reader:
    def __init__(self, root: int, below: Mapping[str, Recorded]) -> None:
        self._root = root
        self._below = below

    def pick(self, pick: Pick) -> Pick:
        source, name, path, above, entry = pick
        if above is not None:
            parts = path.split("/")
            first = len(parts) - len(above)
            above = [
                self._entry(directory, "/".join(parts[: first + depth]))
                for depth, directory in enumerate(above)
            ]
        return source, name, path, above, self._entry(entry, path)

    def _entry(self, entry: Entry, path: str) -> Entry:
        name, mode, uid, gid, size, mtime, identity, links, content, children = entry
        known = self._of(path, mode)
        if known:
            uid, gid = known.uid, known.gid
        if children:
            children = [self._entry(child, f"{path}/{child[0]}") for child in children]
        return name, mode, uid, gid, size, mtime, identity, links, content, children

    def _of(self, path: str, mode: int) -> Recorded | None:
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            return self._below.get(path.lstrip("/"))
        fd = libc.openat2(self._root, path or ".", libc.O_PATH, resolve=_RESOLVE)
        try:
            return single.recorded(f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)


class Book:
    """Where owners are written that a copy gives; ``root`` is the merged root of ``upper``."""

    def __init__(self, root: int, upper: Upper) -> None:
        changes = os.open(upper.changes, libc.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._top = os.readlink(f"/proc/self/fd/{root}").rstrip("/")
        self._ledger = single.Ledger(f"{upper.directory}/{single.LEDGER}", changes)

    def give(self, fd: int, uid: int, gid: int) -> None:
        """The owner of an open file or directory."""
        single.set_owner(fd, uid, gid, always=True)

    def give_at(self, directory: int, name: str, uid: int, gid: int) -> None:
        """The owner of a link or FIFO that was just made in a directory of the root."""
        if uid or gid or os.fstat(directory).st_mode & stat.S_ISGID:
            place = os.readlink(f"/proc/self/fd/{directory}")[len(self._top) :].strip("/")
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            self._ledger.add(f"{place}/{name}".lstrip("/"), status, uid, gid)

    def take_over(self, directory: int, records: Iterable[Mapping[str, Any]]) -> None:
        """What the extractor of an archive could not write beside its files."""
        for each in records:
            if each["type"] in ("symlink", "fifo"):
                try:
                    self._take_over(directory, each)
                except OSError:
                    continue  # a later member took its place

    def _take_over(self, directory: int, each: Mapping[str, Any]) -> None:
        head, _, name = each["path"].rpartition("/")
        flags = libc.O_PATH | os.O_DIRECTORY
        parent = libc.openat2(directory, head or ".", flags, resolve=libc.RESOLVE_IN_ROOT)
        try:
            self.give_at(parent, name, each["uid"], each["gid"])
        finally:
            os.close(parent)
