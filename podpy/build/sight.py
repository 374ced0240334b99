"""The files of another process, as it sees them, for somebody outside who answers its calls.

The process is hostile and goes on while we look: whatever is opened here is
opened once and used by descriptor, and is the caller's only when its call is
known to wait still (:meth:`podpy.kernel.notify.Listener.waits`).
"""

from __future__ import annotations

import errno
import os
import sys

from podpy.kernel import libc
from podpy.storage import single

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podpy.kernel.notify import Call

_PATH = libc.O_PATH | os.O_CLOEXEC
_PATH_MAX = 4096
_PAGE = 4096
_OWN_DESCRIPTORS = (b"/proc/self/fd/", b"/proc/thread-self/fd/", b"/dev/fd/")
_STANDARD = {b"/dev/stdin": 0, b"/dev/stdout": 1, b"/dev/stderr": 2}


class View:
    """The payload's files by descriptor, as its processes see them.

    Our root directory is the payload's, and our working directory is our own
    ``/proc/self/fd``: a descriptor's number is a path to what it stands for,
    whatever that is.
    """

    def __init__(self, root: int) -> None:
        # A module that were imported from now on would be the payload's.
        sys.meta_path.clear()
        self._proc = os.open("/proc", _PATH | os.O_DIRECTORY)
        self._here = os.open("/proc/self/fd", _PATH | os.O_DIRECTORY)
        self._root = root
        #: Not every process has the payload's first root directory.
        self.has_other_roots = False
        status = os.fstat(root)
        self._root_identity = (status.st_dev, status.st_ino)
        self._enter(root)

    def _enter(self, root: int) -> None:
        os.fchdir(root)
        os.chroot(".")
        os.fchdir(self._here)

    def of(self, call: Call, name: str, flags: int = _PATH) -> int:
        """Something below ``/proc/PID`` of the caller; to be checked by ``Listener.waits``."""
        return os.open(f"{call.pid}/{name}", flags | os.O_CLOEXEC, dir_fd=self._proc)

    def text(self, call: Call, address: int) -> bytes:
        """A path in the caller's memory."""
        memory = self.of(call, "mem", os.O_RDONLY)
        try:
            found = b""
            while len(found) < _PATH_MAX:
                at = address + len(found)
                piece = _peek(memory, at, _PAGE - at % _PAGE)
                found += piece
                if b"\0" in piece:
                    return found[: found.index(b"\0")][:_PATH_MAX]
        finally:
            os.close(memory)
        raise OSError(errno.ENAMETOOLONG, "path")

    def write(self, call: Call, address: int, data: bytes) -> None:
        memory = self.of(call, "mem", os.O_WRONLY)
        try:
            os.pwrite(memory, data, address)
        except (OSError, OverflowError):
            raise OSError(errno.EFAULT, "address") from None
        finally:
            os.close(memory)

    def descriptor(self, call: Call, number: int) -> int:
        """What the caller's descriptor stands for."""
        try:
            return self.of(call, f"fd/{number}")
        except FileNotFoundError:
            raise OSError(errno.EBADF, "descriptor") from None

    def lookup(self, call: Call, directory: int, path: bytes, *, follow: bool) -> int:
        """What a path is for the caller, as an ``O_PATH`` descriptor."""
        if follow and (number := _own_descriptor(path)) >= 0:
            return self.descriptor(call, number)
        flags = libc.O_PATH | (0 if follow else os.O_NOFOLLOW)
        if not self.has_other_roots:
            return self._lookup(call, directory, path, flags)
        status = os.stat(f"{call.pid}/root", dir_fd=self._proc)
        if (status.st_dev, status.st_ino) == self._root_identity:
            return self._lookup(call, directory, path, flags)
        root = self.of(call, "root")
        try:
            self._enter(root)
            return self._lookup(call, directory, path, flags)
        finally:
            self._enter(self._root)
            os.close(root)

    def has_record(self, call: Call, directory: int, path: bytes, *, follow: bool) -> bool:
        """A quick look whether a file has an owner on record, as a hint and for nothing else.

        One system call; it follows magic links, and nobody has said yet that the
        caller is still the one that called.
        """
        if self.has_other_roots or path.startswith((b"/proc/", b"/dev/")):
            return True  # or not: to be looked up with care
        name = path
        if not path.startswith(b"/"):
            base = b"cwd" if directory == libc.AT_FDCWD else b"fd/%d" % directory
            # From our working directory, /proc/self/fd.
            name = b"../../%d/%s" % (call.pid, base) + (b"/" + path if path else b"")
        try:
            os.getxattr(name, single.OWNER, follow_symlinks=follow or not path)
        except OSError:
            return False
        return True

    def _lookup(self, call: Call, directory: int, path: bytes, flags: int) -> int:
        name = os.fsdecode(path)
        if path.startswith(b"/"):
            return libc.openat2(libc.AT_FDCWD, name, flags, resolve=libc.RESOLVE_NO_MAGICLINKS)
        if directory == libc.AT_FDCWD:
            base = self.of(call, "cwd")
        else:
            base = self.descriptor(call, directory)
        try:
            return libc.openat2(base, name, flags, resolve=libc.RESOLVE_NO_MAGICLINKS)
        finally:
            os.close(base)

    def umask(self, call: Call) -> int:
        fd = self.of(call, "status", os.O_RDONLY)
        try:
            text = os.read(fd, 1024)
        finally:
            os.close(fd)
        return int(text.partition(b"\nUmask:")[2].split(None, 1)[0], 8)


def _peek(memory: int, address: int, count: int) -> bytes:
    try:
        piece = os.pread(memory, count, address)
    except (OSError, OverflowError):
        piece = b""
    if not piece:
        raise OSError(errno.EFAULT, "address")
    return piece


def _own_descriptor(path: bytes) -> int:
    """The number where a path is the caller's own magic link to a descriptor, else -1."""
    if path in _STANDARD:
        return _STANDARD[path]
    for prefix in _OWN_DESCRIPTORS:
        if path.startswith(prefix) and (rest := path[len(prefix) :]).isdigit():
            return int(rest)
    return -1
