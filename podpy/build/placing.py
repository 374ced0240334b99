"""Writing what a copy takes into a root file system: its directories, files and links.

Runs as root of the user namespace, with the merged root as a descriptor.  The
destination's path is resolved inside that root, symbolic links of the image
included; below it nothing is followed but a link to a directory where a
directory is to be merged (``/bin`` → ``usr/bin``), inside the root again.  The
process's umask must be 0.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from podpy import files
from podpy.build.selection import IN_ROOT, read_xattrs
from podpy.errors import BuildError
from podpy.kernel import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from podpy.build.owners import Book
    from podpy.build.selection import Entry, Pick

_O_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_O_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_O_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_O_PATH = libc.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_LINKS = IN_ROOT | libc.RESOLVE_NO_SYMLINKS
_FICLONE = 0x40049409
_SMALL = 1 << 18
_MOST_LINKS = 40
_NO_CLONE = (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.ENOTTY)


def walk(
    root: int, path: str, make: Callable[[int, str], None], *, whole: bool = True
) -> tuple[int, str]:
    """A descriptor of a directory inside the root, its missing parts made by ``make``.

    With ``whole=False`` the last component may be no directory or missing: then
    the descriptor is of the directory that holds it, and the second value its name.
    ``..`` and absolute links never leave the root.
    """
    trail = [os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)]
    pending, followed = path.split("/")[::-1], 0
    try:
        while pending:
            part = pending.pop()
            if part == ".." and len(trail) > 1:
                os.close(trail.pop())
            if part in ("", ".", ".."):
                continue
            is_last = not whole and not any(rest not in ("", ".") for rest in pending)
            try:
                trail.append(os.open(part, _O_DIR, dir_fd=trail[-1]))
            except FileNotFoundError:
                if is_last:
                    return trail.pop(), part
                make(trail[-1], part)
                trail.append(os.open(part, _O_DIR, dir_fd=trail[-1]))
            except NotADirectoryError:
                target = _link_target(trail[-1], part)
                if not target and is_last:
                    return trail.pop(), part
                followed += 1
                if not target or followed > _MOST_LINKS:
                    why = "too many links" if target else "not a directory"
                    raise BuildError(f"{path}: {part} is {why}") from None
                if target.startswith("/"):
                    while len(trail) > 1:
                        os.close(trail.pop())
                pending += reversed(target.split("/"))
        return trail.pop(), ""
    finally:
        for fd in trail:
            os.close(fd)


def _link_target(directory: int, name: str) -> str:
    try:
        return os.readlink(name, dir_fd=directory)
    except OSError:
        return ""


class Placer:
    """Puts picks at a destination of one root.

    ``owner`` is what everything gets; without it files keep theirs when
    ``keeps_owners``, and are root's otherwise.  ``chmod`` is that of
    :mod:`podpy.build.filemodes`.  ``book`` is where owners are written where only
    one id is mapped.  ``checks``: files may change under our hands,
    and must not have since they were listed.  ``stamp`` is a time for all files.
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
    ) -> None:
        self._root = root
        self._destination = destination
        self._owner = owner
        self._keeps = keeps_owners
        self.chmod = chmod
        self._book = book
        self.checks = checks
        self._stamp = stamp
        self._base = os.readlink(f"/proc/self/fd/{root}").rstrip("/")
        self._links: dict[tuple[int, int], str] = {}
        self._made: set[int] = set()
        self._parents: dict[str, int] = {}
        self._can_clone = True

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
            reading = libc.openat2(source, head or ".", _O_DIR, resolve=_NO_LINKS)
            try:
                if into < 0:
                    into, last = self.file_target(name, text, several=several)
                self._leaf(reading, path.rpartition("/")[2], into, last or name, entry)
            finally:
                os.close(reading)
        if into >= 0:
            os.close(into)
        for path, mtime in self._parents.items():
            made = libc.openat2(self._root, path, _O_DIR, resolve=_NO_LINKS)
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
        reading = libc.openat2(source, path or ".", _O_DIR, resolve=_NO_LINKS)
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
            reading = libc.openat2(source, reached or ".", _O_DIR, resolve=_NO_LINKS)
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
            reading = libc.openat2(source, reached, _O_DIR, resolve=_NO_LINKS)
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
        fd = os.open(name, _O_DIR, dir_fd=parent)
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
            reading = os.open(name, _O_DIR, dir_fd=spot.source)
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
            return os.open(name, _O_DIR, dir_fd=target)
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
        _set_xattrs(target, read_xattrs(source))
        os.utime(target, ns=(entry[5], entry[5]))

    def _file(self, spot: _Spot, name: str, new_name: str, entry: Entry) -> None:
        _, mode, _, _, size, mtime, identity, links, content, _ = entry
        if links > 1 and self._link(spot, new_name, identity):
            return
        permissions = self._permissions(mode, False)
        reading = os.open(name, _O_READ, dir_fd=spot.source)
        try:
            status = os.fstat(reading)
            same = status.st_size == size and status.st_mtime_ns == mtime
            if not same or (self.checks and status.st_ino != identity[1]):
                raise BuildError(f"{name}: changed while it was copied")
            writing = self.create(spot.target, new_name, permissions & 0o777)
            try:
                if size:
                    self._data(reading, writing, status)
                uid, gid = self._owner_of(entry)
                if uid or gid or spot.inherits:
                    self.own(writing, uid, gid)
                if permissions & 0o7000:
                    os.fchmod(writing, permissions)
                if " " in content:
                    _set_xattrs(writing, read_xattrs(reading))
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
        held = libc.openat2(self._root, first, _O_PATH, resolve=_NO_LINKS)
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

    def _data(self, reading: int, writing: int, status: os.stat_result) -> None:
        size = status.st_size
        if size <= _SMALL and status.st_blocks:
            data = os.read(reading, size + 1)
            if len(data) == size:
                files.write_all(writing, data)
                return
            os.lseek(reading, 0, os.SEEK_SET)
        if self._can_clone and self._clone(reading, writing):
            return
        _copy_extents(reading, writing, size)

    def _clone(self, reading: int, writing: int) -> bool:
        try:
            fcntl.ioctl(writing, _FICLONE, reading)
        except OSError as error:
            if error.errno not in _NO_CLONE:
                raise
            self._can_clone = False
            return False
        return True


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


def _mode(fd: int) -> int:
    return os.fstat(fd).st_mode


def _set_xattrs(fd: int, xattrs: list[tuple[str, bytes]]) -> None:
    for name, value in xattrs:
        try:
            os.setxattr(fd, name, value)
        except OSError as error:
            # A file system without them, or a capability that is not ours to give.
            if error.errno not in (errno.ENOTSUP, errno.EPERM, errno.EINVAL):
                raise


def _copy_extents(reading: int, writing: int, size: int) -> None:
    """The pieces of a file that hold data; what lies between stays a hole."""
    at = 0
    while at < size:
        try:
            start = os.lseek(reading, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break  # a hole to the end
        end = os.lseek(reading, start, os.SEEK_HOLE)
        os.lseek(reading, start, os.SEEK_SET)
        os.lseek(writing, start, os.SEEK_SET)
        _copy_range(reading, writing, end - start)
        at = end
    os.ftruncate(writing, size)


def _copy_range(reading: int, writing: int, count: int) -> None:
    """From position to position, inside the kernel where it can be done."""
    try:
        while count and (done := os.copy_file_range(reading, writing, count)):
            count -= done
    except OSError as error:
        if error.errno not in _NO_CLONE:
            raise
    while count:
        data = os.read(reading, min(count, 1 << 20))
        if not data:
            raise BuildError("a file became shorter while it was copied")
        files.write_all(writing, data)
        count -= len(data)
