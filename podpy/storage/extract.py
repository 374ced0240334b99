"""Unpacking a layer into a tree: no name in it can reach anything outside.

Runs as root of a user namespace in a child process (:mod:`podpy.storage.unpacker`).
A path is walked one component at a time with directory descriptors opened
``O_NOFOLLOW``: a component that is a symbolic link is an error, whatever it
points to.  Hard links are made between such descriptors and never follow.
Deletions of the layers below (OCI image-spec ``layer.md``, whiteouts) become
what overlayfs reads: character devices 0:0 and ``user.overlay.opaque``.

What the namespace does not let us make is written down instead of dropped:
device nodes always, and owners where only one id is mapped
(:attr:`Extractor.records`; ``user.podpy.owner`` on files and directories).
"""

from __future__ import annotations

import errno
import os
import stat

from podpy import files
from podpy.errors import ImageError, PodpyError
from podpy.records import record
from podpy.storage import single, tar, xattrs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from podpy.storage.tar import Entry, Reader

OPAQUE_XATTR = "user.overlay.opaque"
OWNER_XATTR = single.OWNER
_WHITEOUT = b".wh."
_WHITEOUT_META = b".wh..wh."
_OPAQUE = b".wh..wh..opq"
_DEFAULT_ACL = "system.posix_acl_default"
_O_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_O_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_OPEN = 400


@record
class Limits:
    """How much one layer may unpack to: bytes of files, and number of entries."""

    size: int = 1 << 40
    entries: int = 1 << 22


class Extractor:
    """Makes the entries of an archive below one directory.

    ``root`` is a descriptor of an empty directory that nobody else writes to.
    ``single`` says that only one id is mapped.  :attr:`whiteouts` says how
    deletions are spelled in the tree: ``device``, or ``file`` where the kernel
    makes no such device (before Linux 5.8, which has no overlayfs for us either;
    fuse-overlayfs reads both).
    """

    #: In an empty tree everything is root's from the start; elsewhere a directory
    #: may hand its group down.
    owns_all = False
    #: Names of whiteouts mean deletions.
    layered = True

    def __init__(
        self,
        root: int,
        *,
        single: bool = False,
        limits: Limits | None = None,
    ) -> None:
        self._single = single
        self.whiteouts = "device"
        self._limits = limits or Limits()
        self._root = root
        self._open: dict[bytes, int] = {}
        self._directories: dict[bytes, Entry] = {}
        self._opaque: set[bytes] = set()
        self._marked: set[bytes] = set()
        self.records: list[dict[str, Any]] = []
        self.size = 0
        self.entries = 0
        self._make: dict[bytes, Callable[[Reader, Entry, int, bytes], None]] = {
            tar.REGULAR: self._file,
            tar.HARD_LINK: self._hard_link,
            tar.SYMLINK: self._symlink,
            tar.CHARACTER: self._node,
            tar.BLOCK_DEVICE: self._node,
            tar.FIFO: self._node,
        }

    def run(self, reader: Reader) -> None:
        """Unpack everything; :class:`ImageError` names the entry that cannot be.

        The process's umask must be 0: modes are made as they are given.
        """
        while (entry := reader.next()) is not None:
            try:
                self._one(reader, entry)
            except OSError as error:
                raise _named(entry, error) from None
        self._finish()

    def _one(self, reader: Reader, entry: Entry) -> None:
        self.entries += 1
        self.size += entry.length
        if len(self._open) > _MAX_OPEN:
            self._forget()  # only here, where nobody holds one of them
        if self.entries > self._limits.entries:
            raise ImageError(f"layer: more than {self._limits.entries} entries")
        if self.size > self._limits.size:
            raise ImageError(f"layer: unpacks to more than {self._limits.size} bytes")
        path = entry.name
        # Most names need no cleaning: look for what could make one special.
        if b"//" in path or b"./" in path or path[:1] in b"./" or path[-1:] in b"./":
            path = clean(path)
        if b"\0" in path or b"\0" in entry.link:
            raise ImageError(f"layer: a name with a zero byte: {path[:200]!r}")
        head, _, name = path.rpartition(b"/")
        if self.layered and name.startswith(_WHITEOUT):
            self._whiteout(head, name)
        elif entry.kind == tar.DIRECTORY:
            self._directory(path, head, name, entry)
        elif not name:
            raise ImageError("layer: its root is not a directory")
        else:
            self._make[entry.kind](reader, entry, self._parent(head), path)

    # --- directories ---------------------------------------------------------

    def _parent(self, path: bytes) -> int:
        """A descriptor of a directory of the tree, made (0755) when it is missing."""
        if not path:
            return self._root
        fd = self._open.get(path)
        return self._walk(path) if fd is None else fd

    def _walk(self, path: bytes) -> int:
        known, fd = b"", self._root
        for component in path.split(b"/"):
            known = known + b"/" + component if known else component
            there = self._open.get(known)
            fd = self._open_directory(fd, component, known) if there is None else there
            self._open[known] = fd
        return fd

    def _open_directory(self, parent: int, name: bytes, path: bytes) -> int:
        try:
            return os.open(name, _O_DIR, dir_fd=parent)
        except FileNotFoundError:
            os.mkdir(name, 0o755, dir_fd=parent)
        except NotADirectoryError:
            # Linux answers ENOTDIR for a symbolic link, too, when both O_DIRECTORY and
            # O_NOFOLLOW are given.
            if path not in self._marked:
                raise ImageError(
                    f"layer: {_shown(path)} is not a directory, and an entry lies below it"
                ) from None
            self._replace_whiteout(parent, name, path)
        return os.open(name, _O_DIR, dir_fd=parent)

    def _replace_whiteout(self, parent: int, name: bytes, path: bytes) -> None:
        """Deleted below and made anew here: an opaque directory."""
        os.unlink(name, dir_fd=parent)
        os.mkdir(name, 0o755, dir_fd=parent)
        self._marked.discard(path)
        self._opaque.add(path)

    def _directory(self, path: bytes, head: bytes, name: bytes, entry: Entry) -> None:
        if name:
            parent = self._parent(head)
            try:
                # Special bits wait for the end: a setgid directory hands its group down.
                os.mkdir(name, entry.mode & 0o777, dir_fd=parent)
            except FileExistsError:
                if path in self._marked:
                    self._replace_whiteout(parent, name, path)
                elif not _is_directory(parent, name):
                    os.unlink(name, dir_fd=parent)
                    os.mkdir(name, entry.mode & 0o777, dir_fd=parent)
        self._directories[path] = entry

    def _forget(self) -> None:
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()

    def _finish(self) -> None:
        """Owners, modes, attributes and times of directories, once all is inside them."""
        for path in self._opaque:
            os.setxattr(self._parent(path), OPAQUE_XATTR, b"y")
        for path, entry in reversed(self._directories.items()):
            try:
                self._finish_directory(self._parent(path), entry)
            except OSError as error:
                raise _named(entry, error) from None
        self._forget()

    def _finish_directory(self, fd: int, entry: Entry) -> None:
        if entry.uid or entry.gid or self.owns_all:
            self._own(fd, entry)
        os.fchmod(fd, entry.mode)
        for name, value in entry.xattrs.items():
            _set_xattr(fd, name, value)
        os.utime(fd, ns=(entry.mtime, entry.mtime))

    # --- everything else -----------------------------------------------------

    def _file(self, reader: Reader, entry: Entry, parent: int, path: bytes) -> None:
        mode = entry.mode
        name = path[path.rfind(b"/") + 1 :]
        try:
            fd = os.open(name, _O_NEW, mode & 0o777, dir_fd=parent)
        except FileExistsError:
            self._clear(parent, path)
            fd = os.open(name, _O_NEW, mode & 0o777, dir_fd=parent)
        try:
            if entry.extents is not None:
                _write_sparse(fd, reader, entry)
            elif entry.size:
                _write_whole(fd, reader)
            if entry.uid or entry.gid or self.owns_all:
                self._own(fd, entry)
            if mode & 0o7000:
                os.fchmod(fd, mode)  # after chown and write, which clear these bits
            if entry.xattrs:
                for key, value in entry.xattrs.items():
                    _set_xattr(fd, key, value)
            os.utime(fd, ns=(entry.mtime, entry.mtime))
        finally:
            os.close(fd)

    def _hard_link(self, _reader: Reader, entry: Entry, parent: int, path: bytes) -> None:
        target = clean(entry.link)
        head, _, last = target.rpartition(b"/")
        if not last:
            raise ImageError(f"layer: {_shown(path)} is a hard link to nothing")
        if target == path:
            return
        source = self._parent(head)
        self._clear(parent, path)
        name = path[path.rfind(b"/") + 1 :]
        os.link(last, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)

    def _symlink(self, _reader: Reader, entry: Entry, parent: int, path: bytes) -> None:
        name = path[path.rfind(b"/") + 1 :]
        try:
            os.symlink(entry.link, name, dir_fd=parent)
        except FileExistsError:
            self._clear(parent, path)
            os.symlink(entry.link, name, dir_fd=parent)
        if entry.uid or entry.gid or self.owns_all:
            self._own_at(parent, name, entry)
        os.utime(name, ns=(entry.mtime, entry.mtime), dir_fd=parent, follow_symlinks=False)

    def _node(self, _reader: Reader, entry: Entry, parent: int, path: bytes) -> None:
        """A FIFO is made; a device node is not ours to make and goes into the records."""
        self._clear(parent, path)
        if entry.kind != tar.FIFO:
            self._record(entry, "character" if entry.kind == tar.CHARACTER else "block")
            return
        name = path[path.rfind(b"/") + 1 :]
        os.mkfifo(name, entry.mode & 0o777, dir_fd=parent)
        if entry.uid or entry.gid or self.owns_all:
            self._own_at(parent, name, entry)
        # chmod(2) follows links, but this FIFO was made just now in a tree of our own.
        os.chmod(name, entry.mode, dir_fd=parent)
        os.utime(name, ns=(entry.mtime, entry.mtime), dir_fd=parent, follow_symlinks=False)

    def _clear(self, parent: int, path: bytes) -> None:
        """A later entry replaces an earlier one of its name, a whole directory if need be."""
        name = path[path.rfind(b"/") + 1 :]
        self._marked.discard(path)
        try:
            os.unlink(name, dir_fd=parent)
        except FileNotFoundError:
            pass
        except IsADirectoryError:
            self._forget_below(path)
            files.remove_tree(f"/proc/self/fd/{parent}/{os.fsdecode(name)}")

    def _forget_below(self, path: bytes) -> None:
        """Drop what is remembered of a directory that is about to go."""
        below = path + b"/"
        for known in [p for p in self._open if p == path or p.startswith(below)]:
            os.close(self._open.pop(known))
        for known in [p for p in self._directories if p == path or p.startswith(below)]:
            del self._directories[known]
        self._opaque = {p for p in self._opaque if p != path and not p.startswith(below)}
        self._marked = {p for p in self._marked if not p.startswith(below)}

    # --- whiteouts -----------------------------------------------------------

    def _whiteout(self, head: bytes, name: bytes) -> None:
        if name == _OPAQUE:
            self._parent(head)
            self._opaque.add(head)
            return
        if name.startswith(_WHITEOUT_META):
            return  # bookkeeping of aufs
        victim = name[len(_WHITEOUT) :]
        if victim in (b"", b".", b".."):
            raise ImageError(f"layer: {_shown(name)} deletes nothing that has a name")
        path = head + b"/" + victim if head else victim
        parent = self._parent(head)
        try:
            os.mknod(victim, stat.S_IFCHR, os.makedev(0, 0), dir_fd=parent)
            self._marked.add(path)
        except PermissionError:
            os.close(os.open(name, _O_NEW, 0o644, dir_fd=parent))
            self.whiteouts = "file"
        except FileExistsError:
            # It deletes what lies below this layer, not what the layer brings.
            if _is_directory(parent, victim):
                self._opaque.add(path)

    # --- owners --------------------------------------------------------------

    def _own(self, fd: int, entry: Entry) -> None:
        """Give an owner other than root, which everything here has from the start."""
        if self._single:
            os.setxattr(fd, OWNER_XATTR, f"{entry.uid}:{entry.gid}".encode())
        else:
            os.fchown(fd, entry.uid, entry.gid)

    def _own_at(self, parent: int, name: bytes, entry: Entry) -> None:
        """Owners of what has no descriptor to speak of: links and FIFOs hold no ``user.*``."""
        if not self._single:
            os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        else:
            self._record(entry, "symlink" if entry.kind == tar.SYMLINK else "fifo")

    def _record(self, entry: Entry, kind: str) -> None:
        self.records.append(
            {
                "path": os.fsdecode(clean(entry.name)),
                "type": kind,
                "mode": entry.mode,
                "uid": entry.uid,
                "gid": entry.gid,
                "major": entry.major,
                "minor": entry.minor,
                "mtime": entry.mtime,
            }
        )


def clean(path: bytes) -> bytes:
    """A name of an archive as a relative path without ``.``, ``..`` or doubled slashes.

    A leading slash means the root of the tree.  ``..`` is resolved by name, as
    docker does; one that would leave the tree is an :class:`ImageError`.
    """
    parts: list[bytes] = []
    for part in path.split(b"/"):
        if part == b"..":
            if not parts:
                raise ImageError(f"layer: {_shown(path)} leaves the tree")
            parts.pop()
        elif part not in (b"", b"."):
            parts.append(part)
    return b"/".join(parts)


def _is_directory(parent: int, name: bytes) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)


def _write_whole(fd: int, reader: Reader) -> None:
    for piece in reader.data():
        written = os.write(fd, piece)
        while written < len(piece):
            written += os.write(fd, piece[written:])


def _write_sparse(fd: int, reader: Reader, entry: Entry) -> None:
    """The pieces of a sparse file at their places; what lies between stays a hole."""
    pieces = reader.data()
    rest = memoryview(b"")
    for offset, count in entry.extents or ():
        at, end = offset, offset + count
        while at < end:
            if not rest:
                rest = next(pieces)
            written = os.pwrite(fd, rest[: end - at], at)
            rest, at = rest[written:], at + written
    os.ftruncate(fd, entry.length)


def _set_xattr(fd: int, name: str, value: bytes) -> None:
    """One extended attribute, if it is one that an image may bring.

    ``user.overlay.*`` and its kin would speak to overlayfs and to podpy
    themselves; ``trusted.*`` and labels of the host's security modules mean
    nothing here.  A file system without attributes does without.
    """
    if not is_welcome(name):
        return
    try:
        os.setxattr(fd, name, value)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise


def is_welcome(name: str) -> bool:
    return xattrs.is_content(name) or name in ("system.posix_acl_access", _DEFAULT_ACL)


def _shown(name: bytes) -> str:
    """A name from an archive, safe for a terminal."""
    return ascii(os.fsdecode(name[:300]))


def _named(entry: Entry, error: OSError) -> PodpyError:
    """Which entry failed, and why; a missing id range is the usual reason for EINVAL."""
    where = f"layer: {_shown(entry.name)}"
    if error.errno == errno.EINVAL and (entry.uid or entry.gid):
        return ImageError(
            f"{where}: its owner {entry.uid}:{entry.gid} is outside your range of ids",
            hint="give the user a larger range in /etc/subuid and /etc/subgid",
        )
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return PodpyError(f"{where}: {error.strerror}", hint="free some space, then try again")
    return ImageError(f"{where}: {error.strerror}")
