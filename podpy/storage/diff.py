"""What a container or a build step changed, as a layer's archive.

Reads the upper directory of an overlay, once and nothing else of the image, and
writes it as a canonical tar: the same tree gives the same bytes on every host
and file system.  Members come in the order of their names, a directory before
what is in it; times are whole seconds; the first of several hard links, in that
order, is the file.  Sockets are no part of an image: they are deleted.

Deletions are read as the drivers spell them and written as one ``.wh.`` entry
for each name that is gone (OCI image-spec, ``layer.md``, "explicit whiteouts").
Opaque directories tell more of the way than of the result: kernels differ in
where they make one, most new directories hide nothing, and a copied tree knows
none.  So the names that one hides are looked up in the layers below.

Runs as root of a user namespace, in a child process; the tree belongs to
somebody hostile, but nobody writes to it any more.
"""

from __future__ import annotations

import os
import stat

from podpy.errors import ImageError
from podpy.storage import extract, headers, single
from podpy.storage.below import OPAQUE, OPAQUE_XATTRS, WHITEOUT, Below, is_marked, is_whiteout
from podpy.storage.stream import Stream, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from podpy.storage.single import Recorded

_CAPABILITY = "security.capability"
_O_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_O_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_DEVICES = {"character": headers.CHARACTER, "block": headers.BLOCK_DEVICE}

Entry = tuple[bytes, bytes, os.stat_result]
Owner = tuple[int, int]


def write(
    upper: int,
    out: int,
    *,
    lower: Sequence[str] = (),
    timestamp: int | None = None,
    dotted: bool = False,
    owners: Mapping[int, tuple[int, int]] | None = None,
) -> dict[str, Any]:
    """Write the upper directory ``upper`` to the descriptor ``out`` as a layer's archive.

    ``lower`` are the trees it was mounted on, topmost first.  ``timestamp``
    (seconds) becomes the time of every member and of every file in the tree.
    ``dotted``: files called ``.wh.*`` are deletions (fuse-overlayfs writes them),
    and are respelled in the tree as the kernel does; elsewhere nobody could tell
    them from deletions, which is an error.
    ``owners`` are those of links and FIFOs by inode number, where only one id is
    mapped; those of files are beside them (:mod:`podpy.storage.single`).

    Returns ``size`` and ``inodes`` of the tree (as ``usage.measure``),
    ``entries`` of the archive, how the tree spells ``whiteouts``, and ``records``
    of the owners (as :attr:`podpy.storage.extract.Extractor.records`).
    """
    with Below(lower) as below:
        layer = _Layer(out, below, timestamp, dotted, owners or {})
        layer.run(upper)
    return {
        "size": layer.size,
        "inodes": layer.names,
        "entries": layer.entries,
        "whiteouts": layer.whiteouts,
        "records": layer.records,
    }


class _Directory:
    """One directory on the way down: its path (with a slash) and what of it is to come.

    ``shows``: how the layers below it are seen.  A merged one shows what it
    does not replace or delete; a hiding one nothing of what they have; at the
    place of a new one they have nothing.  ``giver``: who owns what is new in it
    and has no owner on record, None for what the file system says.
    """

    __slots__ = ("giver", "path", "shows", "waiting")

    def __init__(self, path: bytes, shows: int, giver: Owner | None = None) -> None:
        self.path = path
        self.shows = shows
        self.giver = giver
        self.waiting: list[Entry] = []


_MERGED, _HIDING, _NEW = range(3)


class _Layer(Stream):
    """One upper directory as an archive.

    Only the directory at hand is open, its parent is reopened as ``..``: a
    container may nest directories by the thousand.
    """

    def __init__(
        self,
        out: int,
        below: Below,
        timestamp: int | None,
        dotted: bool,
        owners: Mapping[int, tuple[int, int]],
    ) -> None:
        super().__init__(out, timestamp)
        self._below = below
        self._dotted = dotted
        self._links: dict[int, tuple[bytes, tuple[int, int]]] = {}
        self._owners = owners
        self._creator = owners.get(single.CREATOR)
        self._times = None if timestamp is None else (timestamp * 1_000_000_000,) * 2
        self.records: list[dict[str, Any]] = []
        self.size = self.names = 0
        self.whiteouts = "device"

    def run(self, root: int) -> None:
        self._walk(os.open(".", _O_DIR, dir_fd=root))
        self.finish()

    def _walk(self, fd: int) -> None:
        """Everything from a directory on down; closes it."""
        try:
            way = [self._root(fd)]
            while way:
                if not way[-1].waiting:
                    way.pop()
                    fd = self._leave(fd, bool(way))
                    continue
                spelled, name, status = way[-1].waiting.pop()
                if stat.S_ISDIR(status.st_mode):
                    inner = os.open(name, _O_DIR, dir_fd=fd)
                    os.close(fd)
                    fd = inner
                    way.append(self._directory(fd, way[-1], name, status))
                else:
                    self._other(fd, way[-1], spelled, name, status)
        finally:
            os.close(fd)

    # --- directories ---------------------------------------------------------

    def _root(self, fd: int) -> _Directory:
        """The top directory has a member only where it is not what unpacking makes of itself."""
        status = os.fstat(fd)
        names = os.listxattr(fd)
        known = single.recorded(fd) if single.OWNER in names else None
        owner, mode = _owner(status, known), stat.S_IMODE(status.st_mode)
        xattrs = _attributes(fd, names)
        if xattrs or owner != (0, 0) or mode != 0o755:
            self._member(b"./", headers.DIRECTORY, mode, owner, self.time(status), xattrs=xattrs)
        top = _Directory(b"", _MERGED, self._creator)
        self._list(fd, top, status)
        self._compare(top)
        return top

    def _directory(
        self, fd: int, parent: _Directory, name: bytes, status: os.stat_result
    ) -> _Directory:
        path = parent.path + name
        names = os.listxattr(fd)
        # Only the kernel's overlay says of every directory whether it came from below.
        is_old = parent.giver and self._dotted and self._below.has(path)
        known = _known(fd, names, None if is_old else parent.giver)
        owner, mode = _owner(status, known), stat.S_IMODE(status.st_mode)
        xattrs = _attributes(fd, names) if names else None
        self._member(path + b"/", headers.DIRECTORY, mode, owner, self.time(status), xattrs=xattrs)
        inner = _Directory(path + b"/", parent.shows, self._giver(status, known))
        if names and parent.shows == _MERGED and is_marked(names, fd):
            self._hide(fd, inner)
        self._list(fd, inner, status)
        self._compare(inner)
        return inner

    def _hide(self, fd: int, directory: _Directory) -> None:
        directory.shows = _HIDING
        os.setxattr(fd, OPAQUE_XATTRS[0], b"y")  # as every driver reads it

    def _list(self, fd: int, directory: _Directory, status: os.stat_result) -> None:
        """Fill in what a directory has, the last name first."""
        found, odd = directory.waiting, []
        with os.scandir(fd) as entries:
            for entry in entries:
                about = entry.stat(follow_symlinks=False)
                name = os.fsencode(entry.name)
                if name.startswith(WHITEOUT) or stat.S_ISSOCK(about.st_mode):
                    odd.append((name, about))
                elif is_whiteout(about):
                    found.append((WHITEOUT + name, name, about))
                else:
                    found.append((name, name, about))
        if odd:
            self._tidy(fd, directory, odd, status)
        self.names += len(found)
        found.sort(reverse=True)

    def _tidy(
        self,
        fd: int,
        directory: _Directory,
        odd: Sequence[tuple[bytes, os.stat_result]],
        status: os.stat_result,
    ) -> None:
        """Treat sockets and names that look like deletions; no trace of that stays."""
        for name, about in odd:
            self._respell(fd, directory, name, about)
        os.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns))

    def _respell(self, fd: int, directory: _Directory, name: bytes, status: os.stat_result) -> None:
        """Delete a socket; turn a ``.wh.`` file into what the kernel's overlayfs reads."""
        if not name.startswith(WHITEOUT):
            os.unlink(name, dir_fd=fd)
            return
        if not self._dotted:
            raise ImageError(
                f"layer: {shown(directory.path + name)}: a name that begins with .wh."
                " would delete a file of the layers below",
                hint="give the file another name",
            )
        if name in OPAQUE:
            os.unlink(name, dir_fd=fd)
            if directory.shows == _MERGED:
                self._hide(fd, directory)
            return
        try:
            os.mknod(name[len(WHITEOUT) :], stat.S_IFCHR, os.makedev(0, 0), dir_fd=fd)
            os.unlink(name, dir_fd=fd)
        except PermissionError:
            self.whiteouts = "file"
        directory.waiting.append((name, name[len(WHITEOUT) :], status))

    def _compare(self, directory: _Directory) -> None:
        """Delete by name what a directory hides, and nothing that is not there."""
        present = [entry for entry in directory.waiting if entry[0] is entry[1]]
        path = directory.path[:-1]
        if directory.shows == _HIDING:
            below = self._below.names(path)
            if below is None:
                directory.shows, directory.waiting = _NEW, present
                return
            nothing = os.stat_result((stat.S_IFCHR, *[0] * 9))
            gone = below - {entry[1] for entry in present}
            hidden = [(WHITEOUT + name, name, nothing) for name in gone]
            directory.waiting = sorted(present + hidden, reverse=True)
        elif directory.shows == _MERGED and len(present) < len(directory.waiting):
            gone = {entry[1] for entry in directory.waiting if entry[0] is not entry[1]}
            gone = self._below.shown(path, gone)
            directory.waiting = [e for e in directory.waiting if e[0] is e[1] or e[1] in gone]

    def _leave(self, fd: int, has_parent: bool) -> int:
        """The parent of a directory that is done."""
        if self._times is not None:
            os.utime(fd, ns=self._times)
        if not has_parent:
            return fd
        parent = os.open("..", _O_DIR, dir_fd=fd)
        os.close(fd)
        return parent

    # --- everything else -----------------------------------------------------

    def _other(
        self, directory: int, at: _Directory, spelled: bytes, name: bytes, status: os.stat_result
    ) -> None:
        if spelled is not name:
            if at.shows != _NEW:  # there is nothing to delete
                self._mark(at.path + spelled)
            return
        path = at.path + name
        if status.st_nlink > 1 and self._is_linked(path, status):
            self._stamp(directory, name)
        elif stat.S_ISREG(status.st_mode):
            self._file(directory, at, name, path, status)
        else:
            self._special(directory, at, name, path, status)

    def _is_linked(self, path: bytes, status: os.stat_result) -> bool:
        """Write a hard link to a file that was written before.

        With its owner: there are programs that give it to the file once more.
        """
        known = self._links.get(status.st_ino)
        if known is None:
            return False
        first, owner = known
        mode = stat.S_IMODE(status.st_mode)
        self._member(path, headers.HARD_LINK, mode, owner, self.time(status), link=first)
        return True

    def _file(
        self, directory: int, at: _Directory, name: bytes, path: bytes, status: os.stat_result
    ) -> None:
        fd = _open(directory, name)
        try:
            size = status.st_size
            self.size += size
            names = os.listxattr(fd)
            known = _known(fd, names, at.giver)
            owner = _owner(status, known)
            xattrs = _attributes(fd, names) if names else None
            if status.st_nlink > 1:
                self._links[status.st_ino] = path, owner
            mode, time = status.st_mode & 0o7777, self.time(status)
            if known and known.kind:
                device = known.major, known.minor
                self._member(path, _DEVICES[known.kind], mode, owner, time, device=device)
                return
            self._member(path, headers.REGULAR, mode, owner, time, size=size, xattrs=xattrs)
            if size:
                self.content(fd, size, path)
            if self._times is not None:
                os.utime(fd, ns=self._times)
        finally:
            os.close(fd)

    def _special(
        self, directory: int, at: _Directory, name: bytes, path: bytes, status: os.stat_result
    ) -> None:
        owner = status.st_uid, status.st_gid
        recorded = self._owner_of_special(at, path, status)
        if recorded:
            owner = recorded
            self._record(path, status, owner)
        if status.st_nlink > 1:
            self._links[status.st_ino] = path, owner
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

    def _owner_of_special(
        self, at: _Directory, path: bytes, status: os.stat_result
    ) -> Owner | None:
        recorded = self._owners.get(status.st_ino)
        if recorded is None and at.giver and not self._below.has(path):
            return at.giver
        return recorded

    def _giver(self, status: os.stat_result, known: Recorded | None) -> Owner | None:
        """Who owns what is made in a directory: a set-group-id one hands its group down."""
        if known and known.gid and status.st_mode & stat.S_ISGID:
            return (self._creator or (0, 0))[0], known.gid
        return self._creator

    def _record(self, path: bytes, status: os.stat_result, owner: tuple[int, int]) -> None:
        """Remember an owner by path: the tree alone cannot tell it."""
        self.records.append(
            {
                "path": os.fsdecode(path),
                "type": "symlink" if stat.S_ISLNK(status.st_mode) else "fifo",
                "mode": stat.S_IMODE(status.st_mode),
                "uid": owner[0],
                "gid": owner[1],
                "major": 0,
                "minor": 0,
                "mtime": status.st_mtime_ns,
            }
        )

    def _stamp(self, directory: int, name: bytes) -> None:
        if self._times is not None:
            os.utime(name, ns=self._times, dir_fd=directory, follow_symlinks=False)

    def _mark(self, path: bytes) -> None:
        """A deletion; its own time says nothing, so it has none."""
        self._member(path, headers.REGULAR, 0, (0, 0), self._timestamp or 0)

    def _member(self, name: bytes, kind: bytes, *about: Any, **more: Any) -> None:
        self.entries += 1
        self.add(headers.member(name, kind, *about, **more))


class Trees(_Layer):
    """Whole merged trees as one archive; nothing is changed in them."""

    def __init__(self, out: int, *, timestamp: int | None = None) -> None:
        super().__init__(out, Below(()), timestamp, dotted=False, owners={})
        self._times = None
        self._prefix = b""
        self._by_path: dict[bytes, Recorded] = {}

    def add_tree(
        self, root: int, prefix: str = "", owners: Mapping[str, Recorded] | None = None
    ) -> None:
        """Add what a directory has, below a directory of the archive if one is named.

        ``owners`` are those of links and FIFOs by path (:func:`podpy.storage.single.of_layers`).
        """
        self._prefix = os.fsencode(prefix)
        below = f"{prefix}/" if prefix else ""
        self._by_path = {os.fsencode(below + path): who for path, who in (owners or {}).items()}
        self._links.clear()
        self._walk(os.open(".", _O_DIR, dir_fd=root))

    def _owner_of_special(
        self, at: _Directory, path: bytes, status: os.stat_result
    ) -> Owner | None:
        who = self._by_path.get(path)
        return (who.uid, who.gid) if who else None

    def _root(self, fd: int) -> _Directory:
        status, path = os.fstat(fd), self._prefix
        if path:
            owner = _owner(status, single.recorded(fd))
            mode = stat.S_IMODE(status.st_mode)
            self._member(path + b"/", headers.DIRECTORY, mode, owner, self.time(status))
        top = _Directory(path + b"/" if path else b"", _NEW)
        self._list(fd, top, status)
        return top

    def _tidy(
        self,
        fd: int,
        directory: _Directory,
        odd: Sequence[tuple[bytes, os.stat_result]],
        status: os.stat_result,
    ) -> None:
        for name, about in odd:
            if not stat.S_ISSOCK(about.st_mode):
                directory.waiting.append((name, name, about))


def _open(directory: int, name: bytes) -> int:
    """Read without a trace: a new access time would be one more inode to write for each file."""
    try:
        return os.open(name, _O_READ | os.O_NOATIME, dir_fd=directory)
    except PermissionError:  # not ours, or a file system that does not know us
        return os.open(name, _O_READ, dir_fd=directory)


def _owner(status: os.stat_result, known: Recorded | None) -> tuple[int, int]:
    """Who a file shall belong to: written beside it where only one id is mapped."""
    return (known.uid, known.gid) if known else (status.st_uid, status.st_gid)


def _known(fd: int, names: Sequence[str], giver: Owner | None) -> Recorded | None:
    """What is recorded with a file or directory; what is new there gets the giver."""
    if single.OWNER in names:
        return single.recorded(fd)
    if giver is None or not single.is_new(names):
        return None
    single.set_owner(fd, *giver)
    return single.recorded(fd)


def _attributes(fd: int, names: Sequence[str]) -> dict[bytes, bytes]:
    """The extended attributes that are part of an image."""
    return {os.fsencode(name): os.getxattr(fd, name) for name in names if extract.is_welcome(name)}
