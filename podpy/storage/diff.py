"""What a container or a build step changed, as a layer's archive.

Reads the upper directory of an overlay, once and nothing else of the image, and
writes it as a canonical tar: the same tree gives the same bytes on every host
and file system.  Members come in the order of their names, a directory before
what is in it; times are whole seconds; the first of several hard links, in that
order, is the file.  Sockets are no part of an image: they are deleted.

Deletions are read as the drivers spell them and written as ``.wh.`` entries
(OCI image-spec, ``layer.md``).  The kernel marks most new directories as opaque,
whether there was something to hide or not, and not every kernel does: the mark
is written where the layers below have a directory of that name.

Runs as root of a user namespace, in a child process; the tree belongs to
somebody hostile, but nobody writes to it any more.
"""

from __future__ import annotations

import os
import stat

from podpy import files
from podpy.errors import ImageError
from podpy.storage import extract, headers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
_OPAQUE_XATTRS = ("user.overlay.opaque", "user.fuseoverlayfs.opaque", "trusted.overlay.opaque")
_CAPABILITY = "security.capability"
_O_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_O_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_BUFFER = 1 << 20  # as much as the pipe takes
_SMALL = 1 << 17  # files above go from the page cache into the pipe without a copy
_PIECE = 1 << 30
_DEVICES = {"character": headers.CHARACTER, "block": headers.BLOCK_DEVICE}

Entry = tuple[bytes, bytes, os.stat_result]


def write(
    upper: int,
    out: int,
    *,
    lower: Sequence[str] = (),
    timestamp: int | None = None,
    dotted: bool = False,
    records: Iterable[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Write the upper directory ``upper`` to the descriptor ``out`` as a layer's archive.

    ``lower`` are the trees it was mounted on, topmost first.  ``timestamp``
    (seconds) becomes the time of every member and of every file in the tree.
    ``dotted``: files called ``.wh.*`` are deletions (fuse-overlayfs may write
    them); elsewhere nobody could tell them from deletions, which is an error.
    ``records`` say what a tree with a single id cannot hold (as in
    :attr:`podpy.storage.extract.Extractor.records`).

    Returns ``size`` and ``inodes`` of the tree (as ``usage.measure``),
    ``entries`` of the archive and how the tree spells ``whiteouts``.
    """
    with _Below(lower) as below:
        layer = _Layer(out, below, timestamp, dotted, records)
        layer.run(upper)
    return {
        "size": layer.size,
        "inodes": layer.names,
        "entries": layer.entries,
        "whiteouts": layer.whiteouts,
    }


class Archive:
    """A tar of file system objects on its way to a descriptor, in large pieces."""

    def __init__(self, out: int, timestamp: int | None = None) -> None:
        self._out = out
        self._pieces: list[bytes] = []
        self._waiting = 0
        self._timestamp = timestamp
        self.entries = 0

    def add(self, data: bytes) -> None:
        self._pieces.append(data)
        self._waiting += len(data)
        if self._waiting >= _BUFFER:
            self.flush()

    def flush(self) -> None:
        files.write_all(self._out, b"".join(self._pieces))
        self._pieces.clear()
        self._waiting = 0

    def finish(self) -> None:
        self.add(headers.END)
        self.flush()

    def time(self, status: os.stat_result) -> int:
        if self._timestamp is not None:
            return self._timestamp
        return status.st_mtime_ns // 1_000_000_000

    def content(self, fd: int, size: int, name: bytes) -> None:
        """The bytes of a file, and what fills their last block."""
        if size <= _SMALL:
            data = os.read(fd, size)
            if len(data) != size:
                data += _rest(fd, size - len(data), name)
            self.add(data)
        else:
            self.flush()
            _pour(fd, self._out, size, name)
        if size & (headers.BLOCK - 1):
            self.add(headers.padding(size))


def _rest(fd: int, count: int, name: bytes) -> bytes:
    data = b""
    while len(data) < count:
        piece = os.read(fd, count - len(data))
        if not piece:
            raise ImageError(f"layer: {_shown(name)} became shorter while it was read")
        data += piece
    return data


def _pour(fd: int, out: int, size: int, name: bytes) -> None:
    left = size
    while left:
        try:
            moved = os.splice(fd, out, min(left, _PIECE))
        except OSError:  # not a pipe, or a file system that cannot: the plain way
            piece = os.read(fd, min(left, _BUFFER))
            files.write_all(out, piece)
            moved = len(piece)
        if not moved:
            raise ImageError(f"layer: {_shown(name)} became shorter while it was read")
        left -= moved


def _shown(name: bytes) -> str:
    return ascii(os.fsdecode(name[:300]))


class _Below:
    """The layers below, looked at by name only."""

    def __init__(self, trees: Sequence[str]) -> None:
        self._roots = [os.open(tree, _O_DIR) for tree in trees]

    def __enter__(self) -> _Below:
        return self

    def __exit__(self, *exc: object) -> None:
        for fd in self._roots:
            os.close(fd)

    def has_directory(self, path: bytes) -> bool:
        """Whether the layers together show a directory of that name."""
        found = [os.dup(fd) for fd in self._roots]
        for name in path.split(b"/"):
            found = descend(found, name)
        for fd in found:
            os.close(fd)
        return bool(found)


def descend(directories: Sequence[int], name: bytes) -> list[int]:
    """What the layers' directories have under a name; closes them."""
    found: list[int] = []
    goes_on = True
    for fd in directories:
        if goes_on:
            try:
                inner = os.open(name, _O_DIR, dir_fd=fd)
            except FileNotFoundError:
                goes_on = not is_there(fd, _WHITEOUT + name)
            except OSError:
                goes_on = False  # a file, or a deletion
            else:
                found.append(inner)
                goes_on = not (_is_marked(os.listxattr(inner), inner) or is_there(inner, _OPAQUE))
        os.close(fd)
    return found


def is_there(directory: int, name: bytes) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return False
    return True


def _is_marked(names: Sequence[str], fd: int) -> bool:
    """Whether a directory with attributes of these names is marked as opaque."""
    return any(key in names and os.getxattr(fd, key) == b"y" for key in _OPAQUE_XATTRS)


class _Directory:
    """One directory on the way down: its path (with a slash) and what of it is to come.

    ``is_new``: nothing of the layers below shows through.
    """

    __slots__ = ("is_new", "path", "waiting")

    def __init__(self, path: bytes, is_new: bool) -> None:
        self.path = path
        self.is_new = is_new
        self.waiting: list[Entry] = []


class _Layer(Archive):
    """One upper directory as an archive.

    Only the directory at hand is open, its parent is reopened as ``..``: a
    container may nest directories by the thousand.
    """

    def __init__(
        self,
        out: int,
        below: _Below,
        timestamp: int | None,
        dotted: bool,
        records: Iterable[Mapping[str, Any]],
    ) -> None:
        super().__init__(out, timestamp)
        self._below = below
        self._dotted = dotted
        self._links: dict[int, bytes] = {}
        self._records = {os.fsencode(str(record["path"])): record for record in records}
        self.size = self.names = 0
        self.whiteouts = "device"

    def run(self, root: int) -> None:
        fd = os.open(".", _O_DIR, dir_fd=root)
        try:
            way = [self._root(fd)]
            while way:
                if not way[-1].waiting:
                    way.pop()
                    fd = self._leave(fd, bool(way))
                    continue
                shown, name, status = way[-1].waiting.pop()
                if stat.S_ISDIR(status.st_mode):
                    inner = os.open(name, _O_DIR, dir_fd=fd)
                    os.close(fd)
                    fd = inner
                    way.append(self._directory(fd, way[-1], name, status))
                else:
                    self._other(fd, way[-1], shown, name, status)
        finally:
            os.close(fd)
        for path in sorted(self._records):
            self._device(path, self._records[path])
        self.finish()

    # --- directories ---------------------------------------------------------

    def _root(self, fd: int) -> _Directory:
        """The top directory has a member only where it is not what unpacking makes of itself."""
        status = os.fstat(fd)
        names = os.listxattr(fd)
        owner, mode = self._owner(b"", status, fd, names), stat.S_IMODE(status.st_mode)
        xattrs = _attributes(fd, names)
        if xattrs or owner != (0, 0) or mode != 0o755:
            self._member(b"./", headers.DIRECTORY, mode, owner, self.time(status), xattrs=xattrs)
        return self._listed(fd, _Directory(b"", is_new=False), status)

    def _directory(
        self, fd: int, parent: _Directory, name: bytes, status: os.stat_result
    ) -> _Directory:
        path = parent.path + name
        names = os.listxattr(fd)
        owner, mode = self._owner(path, status, fd, names), stat.S_IMODE(status.st_mode)
        xattrs = _attributes(fd, names) if names else None
        self._member(path + b"/", headers.DIRECTORY, mode, owner, self.time(status), xattrs=xattrs)
        is_opaque = _is_marked(names, fd) if names else False
        if is_opaque and _OPAQUE_XATTRS[0] not in names:
            os.setxattr(fd, _OPAQUE_XATTRS[0], b"y")  # as every driver reads it
        inner = self._listed(fd, _Directory(path + b"/", is_new=parent.is_new), status)
        if inner.waiting and inner.waiting[-1][0] == _OPAQUE:
            inner.waiting.pop()
            is_opaque = True
        if is_opaque and not parent.is_new:
            inner.is_new = True
            if self._below.has_directory(path):
                self._mark(path + b"/" + _OPAQUE)
        return inner

    def _listed(self, fd: int, directory: _Directory, status: os.stat_result) -> _Directory:
        """Fill in what a directory has, the last name first."""
        encode, found, sockets = os.fsencode, directory.waiting, []
        with os.scandir(fd) as entries:
            for entry in entries:
                about = entry.stat(follow_symlinks=False)
                name = encode(entry.name)
                shown = name
                if name.startswith(_WHITEOUT):
                    self._check_dotted(directory.path + name)
                    if name == _OPAQUE:
                        shown = name
                elif stat.S_ISCHR(about.st_mode) and about.st_rdev == 0:
                    shown = _WHITEOUT + name
                elif stat.S_ISSOCK(about.st_mode):
                    sockets.append(name)
                    continue
                found.append((shown, name, about))
        self.names += len(found)
        found.sort(key=_order, reverse=True)
        if sockets:
            for name in sockets:
                os.unlink(name, dir_fd=fd)
            os.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns))
        return directory

    def _check_dotted(self, path: bytes) -> None:
        if not self._dotted:
            raise ImageError(
                f"layer: {_shown(path)}: a name that begins with .wh. would delete"
                " a file of the layers below",
                hint="give the file another name",
            )
        self.whiteouts = "file"

    def _leave(self, fd: int, has_parent: bool) -> int:
        """The parent of a directory that is done."""
        if self._timestamp is not None:
            os.utime(fd, ns=(self._timestamp * 1_000_000_000,) * 2)
        if not has_parent:
            return fd
        parent = os.open("..", _O_DIR, dir_fd=fd)
        os.close(fd)
        return parent

    # --- everything else -----------------------------------------------------

    def _other(
        self, directory: int, at: _Directory, shown: bytes, name: bytes, status: os.stat_result
    ) -> None:
        if shown is not name or (self._dotted and name.startswith(_WHITEOUT)):
            if not at.is_new:  # elsewhere there is nothing to delete
                self._mark(at.path + shown)
            return
        path = at.path + name
        if status.st_nlink > 1 and self._is_linked(path, status):
            self._stamp(directory, name)
        elif stat.S_ISREG(status.st_mode):
            self._file(directory, name, path, status)
        else:
            self._special(directory, name, path, status)

    def _is_linked(self, path: bytes, status: os.stat_result) -> bool:
        """Write a hard link to a file that was written before."""
        first = self._links.setdefault(status.st_ino, path)
        if first is path:
            return False
        mode, owner = stat.S_IMODE(status.st_mode), (status.st_uid, status.st_gid)
        self._member(path, headers.HARD_LINK, mode, owner, self.time(status), link=first)
        return True

    def _file(self, directory: int, name: bytes, path: bytes, status: os.stat_result) -> None:
        fd = _open(directory, name)
        try:
            size = status.st_size
            self.size += size
            names = os.listxattr(fd)
            if names or self._records:
                owner = self._owner(path, status, fd, names)
                xattrs = _attributes(fd, names)
            else:
                owner, xattrs = (status.st_uid, status.st_gid), None
            mode, time = status.st_mode & 0o7777, self.time(status)
            self._member(path, headers.REGULAR, mode, owner, time, size=size, xattrs=xattrs)
            if size:
                self.content(fd, size, path)
            if self._timestamp is not None:
                os.utime(fd, ns=(self._timestamp * 1_000_000_000,) * 2)
        finally:
            os.close(fd)

    def _special(self, directory: int, name: bytes, path: bytes, status: os.stat_result) -> None:
        owner = self._owner(path, status, -1, ())
        mode, kind, link = stat.S_IMODE(status.st_mode), headers.FIFO, b""
        device = None
        if stat.S_ISLNK(status.st_mode):
            mode, kind = 0o777, headers.SYMLINK
            link = os.readlink(name, dir_fd=directory)
        elif not stat.S_ISFIFO(status.st_mode):
            kind = headers.CHARACTER if stat.S_ISCHR(status.st_mode) else headers.BLOCK_DEVICE
            device = os.major(status.st_rdev), os.minor(status.st_rdev)
        self._member(path, kind, mode, owner, self.time(status), link=link, device=device)
        self._stamp(directory, name)

    def _device(self, path: bytes, record: Mapping[str, Any]) -> None:
        """A device node that this host's users cannot make, from the layer's records."""
        kind = _DEVICES.get(record["type"])
        if kind is None:
            return  # the owner of something that is there
        mtime = record["mtime"] // 1_000_000_000 if self._timestamp is None else self._timestamp
        owner, device = (record["uid"], record["gid"]), (record["major"], record["minor"])
        self._member(path, kind, record["mode"], owner, mtime, device=device)

    def _owner(
        self, path: bytes, status: os.stat_result, fd: int, names: Sequence[str]
    ) -> tuple[int, int]:
        """Who a file shall belong to: written beside it where only one id is mapped."""
        if extract.OWNER_XATTR in names:
            uid, _, gid = os.getxattr(fd, extract.OWNER_XATTR).partition(b":")
            return int(uid), int(gid)
        record = self._records.get(path) if self._records else None
        if record is not None and record["type"] not in _DEVICES:
            return record["uid"], record["gid"]
        return status.st_uid, status.st_gid

    def _stamp(self, directory: int, name: bytes) -> None:
        if self._timestamp is not None:
            times = (self._timestamp * 1_000_000_000,) * 2
            os.utime(name, ns=times, dir_fd=directory, follow_symlinks=False)

    def _mark(self, path: bytes) -> None:
        """A deletion; its own time says nothing, so it has none."""
        self._member(path, headers.REGULAR, 0, (0, 0), self._timestamp or 0)

    def _member(self, name: bytes, kind: bytes, *about: Any, **more: Any) -> None:
        self.entries += 1
        self.add(headers.member(name, kind, *about, **more))


def _open(directory: int, name: bytes) -> int:
    """Read without a trace: a new access time would be one more inode to write for each file."""
    try:
        return os.open(name, _O_READ | os.O_NOATIME, dir_fd=directory)
    except PermissionError:  # not ours, or a file system that does not know us
        return os.open(name, _O_READ, dir_fd=directory)


def _order(entry: Entry) -> bytes:
    """By the name in the archive; the mark of an opaque directory comes first."""
    return b"" if entry[0] == _OPAQUE else entry[0]


def _attributes(fd: int, names: Sequence[str]) -> dict[bytes, bytes]:
    """The extended attributes that are part of an image."""
    return {os.fsencode(name): os.getxattr(fd, name) for name in names if extract.is_welcome(name)}
