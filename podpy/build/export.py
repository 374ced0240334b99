"""A built root file system outside the store: as a directory of the user's, as an archive.

Both are written by a child that is root of the user namespace and reads the
merged root through its descriptor.  In a directory everything belongs to the
caller, whose id that root is; nothing that exists there is followed.  In the
archive files have the owners that the image gives them.
"""

from __future__ import annotations

import os
import stat
from functools import partial

from podpy import files
from podpy.build import inside
from podpy.build.inroot import O_DIR, O_READ
from podpy.build.model import Tree
from podpy.errors import BuildError
from podpy.records import record
from podpy.storage import diff, overlay, single, staging
from podpy.storage.copying import copy_data

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from podpy.paths import Store
    from podpy.storage.overlay import Driver
    from podpy.storage.single import Recorded

_O_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# A set-id program that belongs to the caller would lend everybody his rights.
_SAFE_MODE = 0o1777


@record
class Root:
    """A root file system to be exported: its layers, lowest first, and the directory it gets.

    ``name`` is empty where there is one only.
    """

    layers: tuple[str, ...]
    name: str = ""


def to_directory(
    store: Store,
    driver: Driver,
    roots: Sequence[Root],
    destination: str,
    timestamp: int | None = None,
) -> None:
    """Copy root file systems into a directory, over what is there.

    Devices, sockets, owners, set-id bits and extended attributes stay behind.
    """
    files.make_directory(destination, 0o755)
    target = os.open(destination, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _with_roots(store, driver, roots, partial(_copy, target, roots, timestamp))
    finally:
        os.close(target)


def to_archive(
    store: Store,
    driver: Driver,
    roots: Sequence[Root],
    out: int,
    timestamp: int | None = None,
) -> None:
    """Write root file systems to a descriptor as one tar archive."""
    owners = [single.of_layers(overlay.lower_directories(store, root.layers)) for root in roots]
    _with_roots(store, driver, roots, partial(_pack, out, roots, owners, timestamp))


def _with_roots(store: Store, driver: Driver, roots: Sequence[Root], function: object) -> None:
    place = staging.create(store, "export")
    try:
        trees = [Tree(layers=root.layers) for root in roots]
        inside.Room(store, driver, place).call(function, reading=trees)  # type: ignore[arg-type]
    finally:
        staging.remove_tree(place)


def _pack(
    out: int,
    roots: Sequence[Root],
    owners: Sequence[Mapping[str, Recorded]],
    timestamp: int | None,
    *sources: int,
) -> None:
    archive = diff.Trees(out, timestamp=timestamp)
    for root, source, known in zip(roots, sources, owners, strict=True):
        archive.add_tree(source, root.name, known)
    archive.finish()


def _copy(target: int, roots: Sequence[Root], timestamp: int | None, *sources: int) -> None:
    for root, source in zip(roots, sources, strict=True):
        place = _made_directory(target, root.name) if root.name else os.dup(target)
        reading = os.open(".", O_DIR, dir_fd=source)
        try:
            _Copy(place, timestamp).contents(reading, place, "")
        finally:
            os.close(reading)
            os.close(place)


def _made_directory(target: int, name: str) -> int:
    """A directory of that name, whatever had it before."""
    try:
        os.mkdir(name, 0o755, dir_fd=target)
    except FileExistsError:
        try:
            return os.open(name, O_DIR, dir_fd=target)
        except OSError:
            os.unlink(name, dir_fd=target)
        os.mkdir(name, 0o755, dir_fd=target)
    return os.open(name, O_DIR, dir_fd=target)


class _Copy:
    """One tree on its way; hard links within it stay hard links."""

    def __init__(self, top: int, timestamp: int | None) -> None:
        self._top = top
        self._times = None if timestamp is None else (timestamp * 1_000_000_000,) * 2
        self._links: dict[int, str] = {}

    def contents(self, source: int, target: int, path: str) -> None:
        for name in os.listdir(source):
            status = os.stat(name, dir_fd=source, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                self._directory(source, target, name, f"{path}{name}/")
            elif stat.S_ISREG(status.st_mode):
                self._file(source, target, name, f"{path}{name}")
            elif stat.S_ISLNK(status.st_mode):
                _clear(target, name)
                os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
                self._date(target, name, status)
            elif stat.S_ISFIFO(status.st_mode):
                _clear(target, name)
                os.mkfifo(name, stat.S_IMODE(status.st_mode), dir_fd=target)
                self._date(target, name, status)

    def _directory(self, source: int, target: int, name: str, path: str) -> None:
        reading = os.open(name, O_DIR, dir_fd=source)
        made = _made_directory(target, name)
        try:
            self.contents(reading, made, path)
            self._dress(reading, made)
        finally:
            os.close(reading)
            os.close(made)

    def _file(self, source: int, target: int, name: str, path: str) -> None:
        reading = os.open(name, O_READ, dir_fd=source)
        try:
            status = os.fstat(reading)
            known = single.recorded(reading)
            if known and known.kind:
                return  # it stands for a device
            _clear(target, name)
            if status.st_nlink > 1:
                first = self._links.setdefault(status.st_ino, path)
                if first != path:
                    os.link(first, name, src_dir_fd=self._top, dst_dir_fd=target)
                    return
            made = os.open(name, _O_NEW, 0o600, dir_fd=target)
            try:
                copy_data(reading, made)
                self._dress(reading, made)
            finally:
                os.close(made)
        finally:
            os.close(reading)

    def _dress(self, source: int, made: int) -> None:
        status = os.fstat(source)
        os.fchmod(made, status.st_mode & _SAFE_MODE)
        os.utime(made, ns=self._times or (status.st_atime_ns, status.st_mtime_ns))

    def _date(self, target: int, name: str, status: os.stat_result) -> None:
        times = self._times or (status.st_atime_ns, status.st_mtime_ns)
        os.utime(name, ns=times, dir_fd=target, follow_symlinks=False)


def _clear(target: int, name: str) -> None:
    """Take away what has the name in the destination; a whole directory is not lost by surprise."""
    try:
        os.unlink(name, dir_fd=target)
    except FileNotFoundError:
        pass
    except IsADirectoryError:
        raise BuildError(
            f"--output: {name}: a directory there would have to become something else",
            hint="export into an empty directory",
        ) from None
