"""Writing what a copy takes into a root file system: its directories, files and links.

Runs as root of the user namespace, with the merged root as a descriptor.  The
destination's path is resolved inside that root, symbolic links of the image
included; below it nothing is followed but a link to a directory where a
directory is to be merged (``/bin`` → ``usr/bin``), inside the root again.  The
process's umask must be 0.
"""

from __future__ import annotations

import errno
import os
import stat
import time

from podpy import files
from podpy.build.filedata import DataCopy, read_xattrs, set_xattrs
from podpy.build.inroot import IN_ROOT, NO_LINKS, O_DIR, O_READ, walk
from podpy.build.selection import CHANGED, changed
from podpy.errors import BuildError
from podpy.kernel import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from podpy.build.owners import Book
    from podpy.build.selection import Entry, Pick

_O_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_O_PATH = libc.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class Placer:
    """Puts picks at a destination of one root.

    ``owner`` is what everything gets; without it files keep theirs when
    ``keeps_owners``, and are root's otherwise.  ``chmod`` is that of
    :mod:`podpy.build.filemodes`.  ``book`` is where owners are written where only
    one id is mapped.  ``checks``: files may change under our hands,
    and must not have since they were listed, nor at all from ``since`` (ns) on: a
    cache would keep under the old content's key what was copied.  ``stamp`` is a
    time for all files.
    """

    def __init__(
        self,
        root: int,
        destination: str,
        *,
        owner: tuple[int, int] | None = None,
        keeps_owners: bool = False,
        chmod: Callable[[int, bool], int] | None = None,
        book: Book | None = None,
        checks: bool = True,
        stamp: int | None = None,
        since: int = 0,
    ) -> None:
        self._root = root
        self._destination = destination
        self._owner = owner
        self._keeps = keeps_owners
        self.chmod = chmod
        self._book = book
        self.checks = checks
        self._stamp = stamp
        self._since = since
        self._base = os.readlink(f"/proc/self/fd/{root}").rstrip("/")
        self._links: dict[tuple[int, int], str] = {}
        self._made: set[int] = set()
        self._parents: dict[str, int] = {}
        self._data = DataCopy()

    # --- the destination -----------------------------------------------------

    def directory(self, path: str = "") -> int:
        """A descriptor of the destination as a directory, or of another one; made when missing."""
        return walk(self._root, path or self._destination, self._make)[0]

    def place(self, source: int, picks: list[Pick], *, several: bool = False) -> None:
        """Copy picks of one source root; ``several`` when there are others besides them."""
        several = several or len(picks) > 1
        into = -1
        for pick in picks:
            text, name, path, above, entry = pick
            if above is not None:
                self._place_below(source, pick)
                continue
            if entry[-1] is not None:
                self._place_contents(source, path, entry)
                continue
            head = path.rpartition("/")[0]
            reading = _reach(source, head or ".")
            try:
                if into < 0:
                    into, last = self.file_target(name, text, several=several)
                self._leaf(reading, path.rpartition("/")[2], into, last or name, entry)
            finally:
                os.close(reading)
        if into >= 0:
            os.close(into)
        for path, mtime in self._parents.items():
            made = libc.openat2(self._root, path, O_DIR, resolve=NO_LINKS)
            os.utime(made, ns=(mtime, mtime))  # what was put into it changed its time
            os.close(made)

    def file_target(self, name: str, text: str, *, several: bool) -> tuple[int, str]:
        """Where a file goes: a directory, and its name there unless it keeps its own.

        A destination that ends with a slash, or is a directory, takes it in.
        """
        if self._destination.endswith("/"):
            into, last = self.directory(), ""
        else:
            into, last = walk(self._root, self._destination, self._make, whole=False)
        if not last and not name:
            os.close(into)
            raise BuildError(
                f"{text}: has no file name",
                hint="let the destination be a file's path, not a directory",
            )
        if last and several:
            os.close(into)
            raise BuildError(
                f"destination {self._destination}: several sources need a directory",
                hint="end the destination with a slash",
            )
        return into, last

    def _place_contents(self, source: int, path: str, entry: Entry) -> None:
        """What a directory holds; the destination keeps its mode, and its time if it was there."""
        at = self.directory()
        before = os.fstat(at)
        mtime = entry[5] if before.st_ino in self._made else before.st_mtime_ns
        reading = _reach(source, path or ".")
        try:
            self._fill(reading, at, self._real(at), entry)
            os.utime(at, ns=(mtime, mtime))
        finally:
            os.close(reading)
            os.close(at)

    def _place_below(self, source: int, pick: Pick) -> None:
        """``--parents``: a file or directory with those above it, below the destination."""
        _, name, path, above, entry = pick
        at = self.directory()
        try:
            reached = "/".join(path.split("/")[: -1 - len(above or ())])
            for parent in above or ():
                reached = f"{reached}/{parent[0]}".lstrip("/")
                at = self._enter_parent(at, source, reached, parent)
            reading = _reach(source, reached or ".")
            try:
                if not name:
                    self._fill(reading, at, self._real(at), entry)
                elif entry[-1] is None:
                    self._leaf(reading, name, at, name, entry)
                else:
                    self._subdirectory(_Spot(reading, at, self._real(at)), entry)
            finally:
                os.close(reading)
        finally:
            os.close(at)

    def _enter_parent(self, at: int, source: int, reached: str, parent: Entry) -> int:
        """A directory that ``--parents`` keeps: as in the source when it is new; closes ``at``."""
        name = parent[0]
        is_new = True
        try:
            os.mkdir(name, 0o755, dir_fd=at)
        except FileExistsError:
            is_new = False
        made = self._existing(at, f"{self._real(at)}/{name}".lstrip("/"), name)
        os.close(at)
        if is_new:
            reading = _reach(source, reached)
            self._dress(reading, made, parent, chown=True)
            os.close(reading)
            self._parents[self._real(made)] = parent[5]
        return made

    def _real(self, fd: int) -> str:
        """The path of an open directory below the root."""
        return os.readlink(f"/proc/self/fd/{fd}")[len(self._base) :].strip("/")

    def _make(self, parent: int, name: str) -> None:
        """A directory on the way to the destination: mode 755, and the copy's owner."""
        os.mkdir(name, 0o755, dir_fd=parent)
        fd = os.open(name, O_DIR, dir_fd=parent)
        try:
            self._made.add(os.fstat(fd).st_ino)
            owner = self._owner or (0, 0)
            if owner != (0, 0) or _mode(parent) & stat.S_ISGID:
                self.own(fd, *owner)
                os.fchmod(fd, 0o755)
        finally:
            os.close(fd)

    # --- below it ------------------------------------------------------------

    def _fill(self, source: int, target: int, path: str, entry: Entry) -> None:
        """The children of a directory into another one."""
        spot = _Spot(source, target, path)
        for child in entry[-1] or ():
            if child[-1] is not None:
                self._subdirectory(spot, child)
            elif stat.S_ISREG(child[1]):
                self._file(spot, child[0], child[0], child)
            else:
                self._special(spot, child[0], child)

    def _leaf(self, source: int, name: str, target: int, new_name: str, entry: Entry) -> None:
        """A file, a link or a FIFO by itself."""
        spot = _Spot(source, target, self._real(target) if entry[7] > 1 else "")
        if stat.S_ISREG(entry[1]):
            self._file(spot, name, new_name, entry)
        else:
            self._special(spot, new_name, entry)

    def _special(self, spot: _Spot, name: str, entry: Entry) -> None:
        mode, target = entry[1], spot.target
        self._clear(target, name)
        if stat.S_ISLNK(mode):
            os.symlink(entry[8], name, dir_fd=target)
        else:
            os.mkfifo(name, self._permissions(mode, False) & 0o777, dir_fd=target)
        uid, gid = self._owner_of(entry)
        if self._book:
            self._book.give_at(target, name, uid, gid)
        else:
            os.chown(name, uid, gid, dir_fd=target, follow_symlinks=False)
        os.utime(name, ns=(entry[5], entry[5]), dir_fd=target, follow_symlinks=False)

    def _subdirectory(self, spot: _Spot, entry: Entry) -> None:
        name = entry[0]
        path = f"{spot.path}/{name}" if spot.path else name
        is_new = True
        try:
            os.mkdir(name, self._permissions(entry[1], True) & 0o777, dir_fd=spot.target)
        except FileExistsError:
            is_new = False
        made = self._existing(spot.target, path, name)
        try:
            reading = _open(name, O_DIR, spot.source)
            try:
                self._fill(reading, made, path if is_new else self._real(made), entry)
                self._dress(reading, made, entry, chown=spot.inherits or not is_new)
            finally:
                os.close(reading)
        finally:
            os.close(made)

    def _existing(self, target: int, path: str, name: str) -> int:
        """What is there already, when it is a directory or a link to one of the root's."""
        try:
            return os.open(name, O_DIR, dir_fd=target)
        except OSError:
            pass
        try:
            return libc.openat2(self._root, path, os.O_RDONLY | os.O_DIRECTORY, resolve=IN_ROOT)
        except OSError:
            raise BuildError(f"/{path}: cannot replace a file by a directory") from None

    def _dress(self, source: int, target: int, entry: Entry, *, chown: bool) -> None:
        """Owner, mode, attributes and times of a directory, once all is in it."""
        uid, gid = self._owner_of(entry)
        permissions = self._permissions(entry[1], True)
        if chown or uid or gid:
            self.own(target, uid, gid)
        if chown or permissions & 0o7000:
            os.fchmod(target, permissions)
        set_xattrs(target, read_xattrs(source))
        os.utime(target, ns=(entry[5], entry[5]))

    def _file(self, spot: _Spot, name: str, new_name: str, entry: Entry) -> None:
        _, mode, _, _, size, mtime, identity, links, content, _ = entry
        if links > 1 and self._link(spot, new_name, identity):
            return
        permissions = self._permissions(mode, False)
        reading = _open(name, O_READ, spot.source)
        try:
            status = os.fstat(reading)
            same = status.st_size == size and status.st_mtime_ns == mtime
            if not same or (self.checks and status.st_ino != identity[1]):
                raise changed(name)
            if self._since and self._since <= status.st_ctime_ns <= time.time_ns():
                raise changed(name)  # this time cannot be put back, as the other can
            writing = self.create(spot.target, new_name, permissions & 0o777)
            try:
                if size:
                    self._data.copy(reading, writing, status)
                    if self._since and os.fstat(reading).st_ctime_ns != status.st_ctime_ns:
                        raise changed(name)
                uid, gid = self._owner_of(entry)
                if uid or gid or spot.inherits:
                    self.own(writing, uid, gid)
                if permissions & 0o7000:
                    os.fchmod(writing, permissions)
                if " " in content:
                    set_xattrs(writing, read_xattrs(reading))
                stamp = mtime if self._stamp is None else self._stamp
                os.utime(writing, ns=(stamp, stamp))
            finally:
                os.close(writing)
        finally:
            os.close(reading)

    def _link(self, spot: _Spot, name: str, identity: tuple[int, int]) -> bool:
        """Make it a hard link if another one of the same file was copied before."""
        first = self._links.get(identity)
        if first is None:
            self._links[identity] = f"{spot.path}/{name}".lstrip("/")
            return False
        held = libc.openat2(self._root, first, _O_PATH, resolve=NO_LINKS)
        try:
            self._clear(spot.target, name)
            os.link(f"/proc/self/fd/{held}", name, dst_dir_fd=spot.target)
        finally:
            os.close(held)
        return True

    def create(self, target: int, name: str, mode: int) -> int:
        """A new file in the place of whatever has its name, but for a directory."""
        try:
            return os.open(name, _O_NEW, mode, dir_fd=target)
        except FileExistsError:
            self._clear(target, name)
            return os.open(name, _O_NEW, mode, dir_fd=target)

    def write(self, target: int, name: str, data: bytes, mode: int, mtime: int) -> None:
        """A new file of our own."""
        fd = self.create(target, name, mode & 0o777)
        try:
            files.write_all(fd, data)
            self.own(fd, *(self._owner or (0, 0)))
            os.fchmod(fd, mode)
            os.utime(fd, ns=(mtime, mtime))
        finally:
            os.close(fd)

    def _clear(self, target: int, name: str) -> None:
        try:
            os.unlink(name, dir_fd=target)
        except FileNotFoundError:
            pass
        except IsADirectoryError:
            path = self._real(target)
            raise BuildError(
                f"{f'{path}/{name}'.lstrip('/')}: cannot replace a directory by a file"
            ) from None

    # --- a file's parts ------------------------------------------------------

    def _permissions(self, mode: int, is_directory: bool) -> int:
        return self.chmod(mode & 0o7777, is_directory) if self.chmod else mode & 0o7777

    def _owner_of(self, entry: Entry) -> tuple[int, int]:
        if self._owner is not None:
            return self._owner
        return (entry[2], entry[3]) if self._keeps else (0, 0)

    def own(self, fd: int, uid: int, gid: int) -> None:
        """The owner of an open file or directory."""
        if not self._book:
            try:
                os.fchown(fd, uid, gid)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                raise BuildError(
                    f"owner {uid}:{gid} is outside your range of ids",
                    hint="give the user a larger range in /etc/subuid and /etc/subgid",
                ) from None
        else:
            self._book.give(fd, uid, gid)


class _Spot:
    """A directory to read, one to write, and the path of the latter in the root.

    ``inherits``: what is made there gets the directory's group.
    """

    __slots__ = ("inherits", "path", "source", "target")

    def __init__(self, source: int, target: int, path: str) -> None:
        self.source = source
        self.target = target
        self.path = path
        self.inherits = bool(_mode(target) & stat.S_ISGID)


def _open(name: str, flags: int, directory: int) -> int:
    """Open what was listed as a file or directory."""
    try:
        return os.open(name, flags, dir_fd=directory)
    except OSError as error:
        if error.errno not in CHANGED:
            raise
        raise changed(name) from None


def _reach(root: int, path: str) -> int:
    """Open a directory of a source's root by a path that was found to have no links."""
    try:
        return libc.openat2(root, path, O_DIR, resolve=NO_LINKS)
    except OSError as error:
        if error.errno not in CHANGED:
            raise
        raise changed(path) from None


def _mode(fd: int) -> int:
    return os.fstat(fd).st_mode
