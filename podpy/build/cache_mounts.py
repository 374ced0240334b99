"""Cache mounts: directories of the user's that builds share and no image ever has.

``<cache>/build/mounts/<sha256 of the id>/`` holds ``data`` and ``about.json``; no id
is ever a part of a path.  ``sharing=`` is a lock of flock(2) on the
directory: shared by all, or one build's at a time; ``private`` takes
``<sha256>.1``, ``.2`` … when the first is in use.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import time

from podpy import files, paths
from podpy.build import cache, inroot, selection
from podpy.errors import BuildError
from podpy.kernel import libc
from podpy.records import record
from podpy.storage import single, staging
from podpy.storage.copying import TreeCopy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from podpy.build.bench import Bench
    from podpy.build.instructions import RunMount
    from podpy.build.model import Source, Tree

_MODE = 0o755


def place() -> str:
    return f"{paths.cache_home()}/build/mounts"


class Locks:
    """The caches that one command has, by path; a context manager that gives them back."""

    def __init__(self) -> None:
        self._held: dict[str, int] = {}

    def __enter__(self) -> Locks:
        return self

    def __exit__(self, *exc: object) -> None:
        for fd in self._held.values():
            os.close(fd)
        self._held.clear()

    def take(self, base: str, sharing: str) -> str:
        """Wait for a cache, or with ``private`` find a free one; its path."""
        if sharing == "private":
            return self._free(base)
        kind = fcntl.LOCK_EX if sharing == "locked" else fcntl.LOCK_SH
        if base in self._held:
            if kind == fcntl.LOCK_EX:  # a second descriptor would wait for the first for ever
                fcntl.flock(self._held[base], kind)
            return base
        while (fd := _locked(base, kind)) < 0:
            pass  # removed while we waited: there is a new one now
        self._held[base] = fd
        return base

    def _free(self, base: str) -> str:
        number = 0
        while True:
            path = f"{base}.{number}" if number else base
            fd = -1 if path in self._held else _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if fd >= 0:
                self._held[path] = fd
                return path
            number += 1


def base_of(mount: RunMount, target: str, source: Source | None) -> str:
    """Where a cache lies, or its first copy."""
    return f"{place()}/{_name(mount.id or target, mount, source)}"


class CacheMount:
    """The directory of one cache mount, which ``locks`` hold from now on."""

    def __init__(
        self, mount: RunMount, target: str, source: Source | None, bench: Bench, locks: Locks
    ) -> None:
        self._mount = mount
        self._source = source
        self._bench = bench
        files.make_directory(place())
        path = locks.take(base_of(mount, target, source), mount.sharing)
        self.directory = f"{path}/data"
        self._use(path, mount.id or target)

    def _use(self, path: str, identity: str) -> None:
        """Make the data where it is missing: complete, then published by a rename."""
        about = f"{path}/about.json"
        if not os.path.isdir(self.directory):
            made = f"{path}/new.{os.getpid()}"
            if os.path.isdir(made):
                staging.remove_tree(made)
            os.mkdir(made, 0o700)
            self._fill(made)
            try:
                os.rename(made, self.directory)
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
                staging.remove_tree(made)  # another build was quicker
            files.write_json(about, {"version": 1, "id": identity, "created": time.time()})
        else:
            try:
                os.utime(about)
            except FileNotFoundError:
                files.write_json(about, {"version": 1, "id": identity, "created": time.time()})

    def _fill(self, made: str) -> None:
        """Owner, mode and the files to begin with."""
        mount, source = self._mount, self._source
        directory = os.open(made, files.O_DIR)
        mode = _MODE if mount.mode is None else mount.mode
        try:
            if source is None and not mount.uid and not mount.gid:
                os.fchmod(directory, mode)
                return

            def fill(root: int = -1) -> None:
                if root >= 0:
                    _copy(root, selection.clean(mount.source or "/"), directory)
                single.give(directory, mount.uid or 0, mount.gid or 0)
                os.fchmod(directory, mode)

            reading = () if source is None else (_tree(source),)
            self._bench.inside(fill, reading=reading)
        finally:
            os.close(directory)


def _tree(source: Source) -> Tree:
    from podpy.build.model import Tree

    return source.tree if source.tree is not None else Tree(directory=source.directory)


def _copy(root: int, path: str, directory: int) -> None:
    flags = os.O_RDONLY | os.O_DIRECTORY
    try:
        found = libc.openat2(root, path or ".", flags, resolve=inroot.IN_ROOT)
    except OSError as error:
        raise BuildError(f"RUN --mount=type=cache: source {path}: {error.strerror}") from None
    with TreeCopy() as copy:
        copy.directory(found, directory)
    os.close(found)


def _name(identity: str, mount: RunMount, source: Source | None) -> str:
    """The directory of a cache: its id, and what it begins with."""
    if source is None:
        return hashlib.sha256(os.fsencode(identity)).hexdigest()
    base = source.tree.layers if source.tree is not None else (source.directory,)
    return cache.key_of((identity, cache.chain(base), mount.source))


def _locked(path: str, kind: int) -> int:
    """Lock a directory, made where it is missing; -1: somebody has it, or removed it meanwhile."""
    files.make_directory(path)
    try:
        fd = os.open(path, files.O_DIR)
    except FileNotFoundError:
        return -1
    try:
        fcntl.flock(fd, kind)
        if os.path.samestat(os.fstat(fd), os.stat(path)):
            return fd
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(fd)
    return -1


# --- for the one who prunes --------------------------------------------------


@record
class Kept:
    """A cache mount as it lies there: its id, when it was used last, what it takes."""

    path: str
    id: str
    created: float
    used: float


def every() -> Iterator[Kept]:
    """All cache mounts of this user."""
    for name in files.list_directory(place()):
        path = f"{place()}/{name}"
        about: dict[str, Any] = {}
        try:
            used = os.stat(path).st_mtime
            about = files.read_json(f"{path}/about.json")
            used = os.stat(f"{path}/about.json").st_mtime
        except FileNotFoundError:
            if not os.path.isdir(path):
                continue  # somebody else prunes, too
        created = float(about.get("created", used))
        yield Kept(path=path, id=str(about.get("id", "")), created=created, used=used)


def remove(kept: Kept) -> bool:
    """Delete a cache mount; False when a build uses it."""
    fd = _locked(kept.path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if fd < 0:
        return False
    try:
        staging.remove_tree(kept.path)
    finally:
        os.close(fd)
    return True
