"""Mount targets that an image lacks: noticed where they are made, taken away afterwards.

A build's step is mounted over like a container: ``/etc/hosts``, ``/proc`` and
the targets of its own mounts are made where they are missing.  None of that is
the step's work, so nothing of it may be in its layer: :class:`Survey` looks at
the root file system before the mounts and after, in I; :func:`clear` removes
from the changes what is still as it was made, and puts directories' times back.
"""

from __future__ import annotations

import os
import stat

from podpy import files
from podpy.errors import suppress
from podpy.kernel import libc, mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from podpy.kernel.userns import IdMap
    from podpy.model import IdMapping

_BENEATH = libc.RESOLVE_BENEATH | libc.RESOLVE_NO_SYMLINKS
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_MARKS = {".wh..wh..opq", ".wh..opq"}


class Survey:
    """What is missing of mount targets, and the directories where that will be made.

    Paths are real ones, relative to the root.  Descriptors of the directories
    are held, because mounts may soon cover them.
    """

    def __init__(self, root: int, targets: Iterable[str]) -> None:
        self._root = root
        self._top = os.readlink(f"/proc/self/fd/{root}")
        self._missing: dict[str, None] = {}
        self._directories: dict[str, int] = {}
        self._before: dict[str, tuple[int, ...]] = {}
        for target in targets:
            self._look(target)

    def _look(self, target: str) -> None:
        names: list[str] = []
        path = target.rstrip("/")
        while True:
            try:
                place = mounts.open_in_root(self._root, path or "/", libc.O_PATH)
                break
            except FileNotFoundError:
                path, _, name = path.rpartition("/")
                names.insert(0, name)
            except OSError:
                return  # the mount itself will say what is wrong
        if names and (elsewhere := mounts.leads_to(place, path, names[0])):
            os.close(place)
            self._look("/".join((elsewhere, *names[1:])))
        elif names:
            inner = os.readlink(f"/proc/self/fd/{place}")[len(self._top) :].strip("/")
            self._remember(inner, place)
            for count in range(len(names)):
                self._missing["/".join((inner, *names[: count + 1])).strip("/")] = None
        else:
            os.close(place)

    def _remember(self, path: str, place: int) -> None:
        """A directory and those above it, as they are before anything is made in them."""
        if path in self._directories:
            os.close(place)
            return
        self._directories[path] = place
        self._before[path] = _described(os.fstat(place))
        if path:
            above = path.rpartition("/")[0]
            if above not in self._directories:
                fd = mounts.open_in_root(self._root, f"/{above}", libc.O_PATH)
                self._remember(above, fd)

    def finish(self) -> str:
        """After the mounts: what was made, as a text for :func:`clear`."""
        found = {}
        for path, fd in self._directories.items():
            found[path] = (*self._before[path], os.fstat(fd).st_mtime_ns)
            os.close(fd)
        if not self._missing:
            return ""
        return files.dumps({"made": list(self._missing), "directories": found})


def _described(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns)


def clear(changes: str, text: str, *, layered: bool, ids: IdMap | None = None) -> None:
    """Remove from a tree of changes what :meth:`Survey.finish` told of, where nothing uses it.

    ``layered``: the tree holds what an overlay wrote, so directories that were
    brought up only for this go as well.  ``ids`` is the container's map, where
    the caller is outside of it; ``PermissionError`` when only its root may do this.
    """
    if not text:
        return
    told = files.loads(text)
    if ids is not None:
        for described in told["directories"].values():
            described[1:3] = _outside(ids.uid, described[1]), _outside(ids.gid, described[2])
    top = os.open(changes, _DIRECTORY)
    try:
        times = _Times(top, told["directories"])
        for path in sorted(told["made"], key=_depth, reverse=True):
            _remove_stub(top, path)
        times.put_back()
        if layered:
            for path in sorted(told["directories"], key=_depth, reverse=True):
                if path:
                    _remove_copy(top, path, told["directories"][path])
    finally:
        os.close(top)


def _outside(extents: Iterable[IdMapping], inside: int) -> int:
    """The host's number for an id of the container."""
    for each in extents:
        if each.inside <= inside < each.inside + each.count:
            return each.outside + inside - each.inside
    return inside


def _depth(path: str) -> int:
    return path.count("/") + bool(path)


class _Times:
    """The times that directories shall have when the stubs are out of them."""

    def __init__(self, top: int, directories: dict[str, Any]) -> None:
        self._top = top
        self._wanted: dict[str, tuple[int, int]] = {}
        for path, (*_, before, after) in directories.items():
            with suppress(OSError):
                status = _status(top, path)
                # Whatever came after the stubs is the step's own.
                modified = before if status.st_mtime_ns == after else status.st_mtime_ns
                self._wanted[path] = (status.st_atime_ns, modified)

    def put_back(self) -> None:
        for path, times in self._wanted.items():
            with suppress(OSError):
                fd = libc.openat2(self._top, path or ".", _DIRECTORY, resolve=_BENEATH)
                try:
                    os.utime(fd, ns=times)
                finally:
                    os.close(fd)


def _status(top: int, path: str) -> os.stat_result:
    fd = libc.openat2(top, path or ".", _DIRECTORY, resolve=_BENEATH)
    try:
        return os.fstat(fd)
    finally:
        os.close(fd)


def _remove_stub(top: int, path: str) -> None:
    """Remove an empty file or an empty directory."""
    parent_path, _, name = path.rpartition("/")
    try:
        parent = libc.openat2(top, parent_path or ".", _DIRECTORY, resolve=_BENEATH)
    except OSError:
        return
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            _remove_marks(parent, name)
            os.rmdir(name, dir_fd=parent)
        elif stat.S_ISREG(status.st_mode) and not status.st_size:
            os.unlink(name, dir_fd=parent)
    except PermissionError:
        raise
    except OSError:
        return  # gone, or in use: then it is the step's
    finally:
        os.close(parent)


def _remove_marks(parent: int, name: str) -> None:
    """Take the files by which fuse-overlayfs marks a new directory out of an empty one."""
    fd = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    try:
        found = os.listdir(fd)
        if set(found) <= _MARKS:
            for mark in found:
                os.unlink(mark, dir_fd=fd)
    finally:
        os.close(fd)


def _remove_copy(top: int, path: str, before: tuple[int, ...]) -> None:
    """Remove a directory that is empty and is as the one below it: that one shows again."""
    parent_path, _, name = path.rpartition("/")
    try:
        fd = libc.openat2(top, path, _DIRECTORY, resolve=_BENEATH)
    except OSError:
        return
    try:
        own = [each for each in os.listxattr(fd) if ".overlay." not in each]
        if own or _described(os.fstat(fd)) != tuple(before[:4]):
            return
    finally:
        os.close(fd)
    with suppress(FileNotFoundError, OSError):
        parent = libc.openat2(top, parent_path or ".", _DIRECTORY, resolve=_BENEATH)
        try:
            times = os.fstat(parent)
            os.rmdir(name, dir_fd=parent)
            os.utime(parent, ns=(times.st_atime_ns, times.st_mtime_ns))
        finally:
            os.close(parent)
