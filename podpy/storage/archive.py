"""Random access to the members of an image archive: a tar file, a pipe or a directory.

An uncompressed file is read where it lies: one pass over its headers gives the
place of every member.  Everything else (a pipe, a compressed file) is first
written, inflated, to an unnamed file below ``tmp/``, as the description of an
image is usually the archive's last member.
"""

from __future__ import annotations

import os
import stat

from podpy import files
from podpy.errors import ImageError, NotFound
from podpy.records import record
from podpy.storage import extract, inflate, tar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from podpy.paths import Store

MEMBER_LIMIT = 1 << 20
_LINK_DEPTH = 8
_HEADER_READ = 1 << 16


@record
class Member:
    """A piece of a file: ``size`` bytes from ``offset`` on; ``fd`` is the archive's."""

    fd: int
    offset: int
    size: int

    def pieces(self, chunk: int = 1 << 20) -> Iterator[bytes]:
        """The bytes of the member, without moving the descriptor's offset."""
        offset, end = self.offset, self.offset + self.size
        while offset < end:
            data = os.pread(self.fd, min(chunk, end - offset), offset)
            if not data:
                raise ImageError("archive: ends in the middle of a member")
            offset += len(data)
            yield data


class Archive:
    """The members of an archive by name; use as a context manager."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._members: dict[str, Member] = {}
        self._links: dict[str, str] = {}
        self._opened: list[int] = []

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *exc: object) -> None:
        for fd in (self._fd, *self._opened):
            os.close(fd)
        self._opened.clear()

    def has(self, name: str) -> bool:
        try:
            self.member(name)
        except NotFound:
            return False
        return True

    def member(self, name: str) -> Member:
        """Where a member's bytes are; links inside the archive are followed.

        Raises :class:`NotFound` when there is no such member.
        """
        for _ in range(_LINK_DEPTH):
            found = self._members.get(name)
            if found is not None:
                return found
            if name not in self._links:
                break
            name = self._links[name]
        raise NotFound(f"archive: no member {name!a}")

    def read(self, name: str, limit: int = MEMBER_LIMIT) -> bytes:
        """A small member, whole; :class:`ImageError` above ``limit`` bytes."""
        member = self.member(name)
        if member.size > limit:
            raise ImageError(f"archive: {name!a} has {member.size} bytes, the limit is {limit}")
        return b"".join(member.pieces())

    def index(self) -> None:
        """One pass over the headers of a tar file."""
        stream = _Seeking(self._fd)
        reader = tar.Reader(stream)
        for entry in reader:
            name = os.fsdecode(extract.clean(entry.name))
            if entry.kind == tar.REGULAR and entry.extents is None:
                offset = stream.position()
                self._members[name] = Member(fd=self._fd, offset=offset, size=entry.size)
            elif entry.kind in (tar.SYMLINK, tar.HARD_LINK):
                base = os.path.dirname(name) if entry.kind == tar.SYMLINK else ""
                target = f"{base}/{os.fsdecode(entry.link)}"
                self._links[name] = os.fsdecode(extract.clean(os.fsencode(target)))


class Directory(Archive):
    """The same view of an unpacked layout: an ``oci:`` or ``dir:`` directory."""

    def member(self, name: str) -> Member:
        if name not in self._members:
            path = os.fsdecode(extract.clean(os.fsencode(name)))
            # O_NONBLOCK: a FIFO in the place of a blob must not hang us.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            try:
                fd = os.open(path, flags, dir_fd=self._fd)
            except OSError:
                raise NotFound(f"directory: no file {name!a}") from None
            self._opened.append(fd)
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise NotFound(f"directory: {name!a} is not a file")
            self._members[name] = Member(fd=fd, offset=0, size=status.st_size)
        return self._members[name]


class _Seeking(tar.Stream):
    """Skips by moving on, and knows where it is in its file."""

    chunk = _HEADER_READ

    def skip(self, count: int) -> None:
        inside = min(count, len(self.buffer) - self.at)
        self.at += inside
        if count > inside:
            target = os.lseek(self.fd, count - inside, os.SEEK_CUR)
            if target > os.fstat(self.fd).st_size:
                raise ImageError("tar: the archive ends in the middle of a member")

    def position(self) -> int:
        """The file offset of the next byte to be read."""
        return os.lseek(self.fd, 0, os.SEEK_CUR) - (len(self.buffer) - self.at)


def open_archive(store: Store, fd: int) -> Archive:
    """The archive behind a descriptor, which it takes over: a file, a pipe or a directory."""
    status = os.fstat(fd)
    if stat.S_ISDIR(status.st_mode):
        return Directory(fd)
    if stat.S_ISREG(status.st_mode):
        os.lseek(fd, 0, os.SEEK_SET)
        plain = inflate.kind_of(os.pread(fd, inflate.LONGEST_MAGIC, 0)) == "plain"
    else:
        plain = False
    if not plain:
        try:
            spooled = spool(store, fd)
        finally:
            os.close(fd)
        fd = spooled
    archive = Archive(fd)
    try:
        archive.index()
    except BaseException:
        os.close(fd)
        raise
    return archive


def spool(store: Store, source: int) -> int:
    """Everything a descriptor gives, inflated, in an unnamed file of the store."""
    store.prepare()
    fd = os.open(store.tmp, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
    try:
        for piece in inflated(source):
            files.write_all(fd, piece)
    except BaseException:
        os.close(fd)
        raise
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def inflated(source: int) -> Iterator[bytes]:
    """The bytes of a descriptor, whatever they are compressed with."""
    return inflate.stream(iter(lambda: os.read(source, 1 << 20), b""))
