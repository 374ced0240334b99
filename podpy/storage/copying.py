"""Copying a tree with everything a file has, through descriptors from end to end.

For volumes that are filled from an image and for root file systems without
overlayfs.  Runs as root of a user namespace.  Source and target may both
belong to somebody hostile: no path is resolved but one component at a time,
never through a symbolic link, and what a name was when it was looked at is
what is copied (``O_NOFOLLOW`` descriptors).
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from podpy import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_FICLONE = 0x40049409
_CHUNK = 1 << 30
_O_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: what was a file a moment ago may be a FIFO now.
_O_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_O_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OPAQUE_XATTR = "user.overlay.opaque"
_WHITEOUT = ".wh."
_OPAQUE_FILE = ".wh..wh..opq"
_PRIVATE = ("user.overlay.", "user.fuseoverlayfs.", "trusted.")
_MAX_HELD = 400
_COPY_ERRORS = (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF)


class TreeCopy:
    """Copies directories into directories; hard links within one copy stay hard links.

    (The last ``_MAX_HELD`` of them: each holds a descriptor of its directory.)

    ``layered`` makes it read a layer's deletions (character devices 0:0,
    ``.wh.`` files, opaque directories) and carry them out in the target.
    """

    def __init__(self, *, layered: bool = False) -> None:
        self._layered = layered
        self._links: dict[tuple[int, int], tuple[int, str]] = {}

    def __enter__(self) -> TreeCopy:
        return self

    def __exit__(self, *exc: object) -> None:
        for fd, _ in self._links.values():
            os.close(fd)
        self._links.clear()

    def directory(self, source: int, target: int) -> None:
        """The contents of a directory and its own owner, mode, attributes and times."""
        if self._layered and _is_opaque(source):
            for name in os.listdir(target):
                _remove(target, name)
        for name in os.listdir(source):
            self._entry(source, target, name)
        _copy_attributes(source, target)

    def _entry(self, source: int, target: int, name: str) -> None:
        try:
            status = os.stat(name, dir_fd=source, follow_symlinks=False)
        except FileNotFoundError:
            return  # a living tree: gone since it was listed
        if self._layered and self.deletes(target, name, status):
            return
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFDIR:
            self._subdirectory(source, target, name)
            return
        if self._layered:
            _remove(target, name)
        if status.st_nlink > 1 and self._linked(target, name, status):
            return
        copy = _COPIES.get(kind)
        if copy is None:
            return  # devices cannot be made here, sockets mean nothing in a copy
        copy(source, target, name, status)
        if status.st_nlink > 1:
            self._remember(target, name, status)

    def _subdirectory(self, source: int, target: int, name: str) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=target)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(name, dir_fd=target, follow_symlinks=False).st_mode):
                self.replaced_directory(target, name)
        inner = os.open(name, _O_DIR, dir_fd=source)
        try:
            made = os.open(name, _O_DIR, dir_fd=target)
            try:
                self.directory(inner, made)
            finally:
                os.close(made)
        finally:
            os.close(inner)

    def replaced_directory(self, target: int, name: str) -> None:
        """Make a directory where something else has the name."""
        os.unlink(name, dir_fd=target)
        os.mkdir(name, 0o700, dir_fd=target)

    def _linked(self, target: int, name: str, status: os.stat_result) -> bool:
        first = self._links.get((status.st_dev, status.st_ino))
        if first is None:
            return False
        directory, other = first
        os.link(other, name, src_dir_fd=directory, dst_dir_fd=target, follow_symlinks=False)
        return True

    def _remember(self, target: int, name: str, status: os.stat_result) -> None:
        if len(self._links) >= _MAX_HELD:
            oldest = next(iter(self._links))
            os.close(self._links.pop(oldest)[0])
        held = os.dup(target)
        self._links[status.st_dev, status.st_ino] = (held, name)

    def deletes(self, target: int, name: str, status: os.stat_result) -> bool:
        """Carry out a deletion of the layers below; True when the entry was one."""
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
            _remove(target, name)
            return True
        if name == _OPAQUE_FILE:
            return True  # seen by _is_opaque
        if name.startswith(_WHITEOUT):
            hidden = name[len(_WHITEOUT) :]
            if hidden not in ("", ".", ".."):
                _remove(target, hidden)
            return True
        return False


def _is_opaque(source: int) -> bool:
    try:
        if os.getxattr(source, _OPAQUE_XATTR) == b"y":
            return True
    except OSError:
        pass
    try:
        os.stat(_OPAQUE_FILE, dir_fd=source, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _remove(directory: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        pass
    except IsADirectoryError:
        files.remove_tree(f"/proc/self/fd/{directory}/{name}")


def _copy_file(source: int, target: int, name: str, status: os.stat_result) -> None:
    reading = os.open(name, _O_READ, dir_fd=source)
    try:
        if not stat.S_ISREG(os.fstat(reading).st_mode):
            return
        writing = os.open(name, _O_NEW, 0o600, dir_fd=target)
        try:
            copy_data(reading, writing)
            _copy_attributes(reading, writing)
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def copy_data(reading: int, writing: int) -> None:
    """By sharing the blocks, else inside the kernel, else by reading and writing."""
    try:
        fcntl.ioctl(writing, _FICLONE, reading)
        return
    except OSError:
        pass
    try:
        while os.copy_file_range(reading, writing, _CHUNK):
            pass
        return
    except OSError as error:
        if error.errno not in _COPY_ERRORS:
            raise
    os.lseek(reading, 0, os.SEEK_SET)
    os.lseek(writing, 0, os.SEEK_SET)
    os.ftruncate(writing, 0)
    while data := os.read(reading, 1 << 20):
        files.write_all(writing, data)


def _copy_attributes(source: int, target: int) -> None:
    """Owner, then mode (which a change of owner clears in part), attributes, times."""
    status = os.fstat(source)
    os.fchown(target, status.st_uid, status.st_gid)
    os.fchmod(target, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(source):
        if not name.startswith(_PRIVATE):
            try:
                os.setxattr(target, name, os.getxattr(source, name))
            except OSError as error:
                if error.errno not in (errno.ENOTSUP, errno.EPERM):
                    raise
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def _copy_link(source: int, target: int, name: str, status: os.stat_result) -> None:
    os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
    _own(target, name, status)


def _copy_fifo(_source: int, target: int, name: str, status: os.stat_result) -> None:
    os.mkfifo(name, 0o600, dir_fd=target)
    _own(target, name, status)
    # chmod by name would follow a link that somebody puts in the FIFO's place.
    made = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=target)
    try:
        if stat.S_ISFIFO(os.fstat(made).st_mode):
            os.chmod(f"/proc/self/fd/{made}", stat.S_IMODE(status.st_mode))
    finally:
        os.close(made)


def _own(target: int, name: str, status: os.stat_result) -> None:
    os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
    times = (status.st_atime_ns, status.st_mtime_ns)
    os.utime(name, ns=times, dir_fd=target, follow_symlinks=False)


_COPIES: dict[int, Callable[[int, int, str, os.stat_result], None]] = {
    stat.S_IFREG: _copy_file,
    stat.S_IFLNK: _copy_link,
    stat.S_IFIFO: _copy_fifo,
}
