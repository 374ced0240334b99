"""ADD of an archive: what it holds is unpacked at the destination.

tar, plain or compressed with gzip, bzip2, xz or zstd, told by the content.  The
extractor is that of image layers, with what differs here: the destination has
files already, and directories that are links are followed, inside the
destination only.  Whiteouts are files like others.  As with docker, owners are
the archive's unless ``--chown`` says otherwise, directories that only
paths mention are root's with mode 755, and the archive's own root directory
changes nothing.  Device nodes are left out.
"""

from __future__ import annotations

import os
import stat

from podpy.build.inroot import NO_LINKS, walk
from podpy.errors import BuildError, ImageError
from podpy.kernel import libc
from podpy.storage import inflate, tar
from podpy.storage.extract import Extractor, clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from podpy.build.owners import Book
    from podpy.build.placing import Placer
    from podpy.build.selection import Pick
    from podpy.storage.tar import Entry, Reader

_O_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK


class Inflated(tar.Stream):
    """A file's content, decompressed if it is compressed."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self._pieces = self._inflate()

    def _inflate(self) -> Iterator[bytes]:
        os.lseek(self.fd, 0, os.SEEK_SET)
        data = os.read(self.fd, self.chunk)
        kind = inflate.kind_of(data)
        decompressor = inflate.decompressor(kind)
        stored = made = 0
        while data:
            stored += len(data)
            for piece in decompressor.feed(data):
                made += len(piece)
                inflate.check_bomb(kind, stored, made)
                yield piece
            data = os.read(self.fd, self.chunk)
        decompressor.finish()

    def _fill(self) -> bool:
        self.buffer, self.at = next(self._pieces, b""), 0
        self.ended = not self.buffer
        return not self.ended


def is_archive(fd: int) -> bool:
    """Whether an open file begins, decompressed, with a member of a tar archive."""
    try:
        return tar.Reader(Inflated(fd)).next() is not None
    except ImageError:
        return False


class Unpacker(Extractor):
    """Unpacks into a directory that holds something already.

    ``owner`` takes the place of all owners in the archive.  :attr:`left_out`
    counts the device nodes.
    """

    owns_all = True
    layered = False

    def __init__(self, root: int, *, owner: tuple[int, int] | None, single: bool) -> None:
        super().__init__(root, single=single)
        self._owner = owner
        self.left_out = 0

    def _one(self, reader: Reader, entry: Entry) -> None:
        if self._owner is not None:
            entry.uid, entry.gid = self._owner
        if clean(entry.name):  # not the archive's root: the destination stays as it is
            super()._one(reader, entry)

    def _open_directory(self, parent: int, name: bytes, path: bytes) -> int:
        """A directory on the way; a link is followed inside the destination, and made good."""
        try:
            return super()._open_directory(parent, name, path)
        except ImageError:
            if not _is_link(parent, name):
                raise
        return walk(self._root, os.fsdecode(path), _make_directory)[0]

    def _node(self, reader: Reader, entry: Entry, parent: int, path: bytes) -> None:
        if entry.kind == tar.FIFO:
            super()._node(reader, entry, parent, path)
        else:
            self.left_out += 1


def _is_link(parent: int, name: bytes) -> bool:
    return stat.S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)


def _make_directory(parent: int, name: str) -> None:
    os.mkdir(name, 0o755, dir_fd=parent)


def unpack(
    placer: Placer,
    source: int,
    picks: list[Pick],
    owner: tuple[int, int] | None,
    book: Book | None,
) -> tuple[list[Pick], list[str]]:
    """Unpack the archives among the picks; returns the other picks, and what should be said."""
    others: list[Pick] = []
    warnings: list[str] = []
    for pick in picks:
        text, _, path, _, entry = pick
        if not stat.S_ISREG(entry[1]):
            others.append(pick)
            continue
        fd = libc.openat2(source, path, _O_READ, resolve=NO_LINKS)
        try:
            if not is_archive(fd):
                others.append(pick)
                continue
            left_out = _unpack_one(placer, fd, text, owner, book)
        finally:
            os.close(fd)
        if placer.chmod:
            warnings.append(f"{text}: --chmod does not apply to what an archive holds")
        if left_out:
            warnings.append(f"{text}: {left_out} device nodes were left out")
    return others, warnings


def _unpack_one(
    placer: Placer, fd: int, text: str, owner: tuple[int, int] | None, book: Book | None
) -> int:
    root = placer.directory()
    try:
        unpacker = Unpacker(root, owner=owner, single=book is not None)
        unpacker.run(tar.Reader(Inflated(fd)))
        if book:
            book.take_over(root, unpacker.records)
    except ImageError as error:
        raise BuildError(f"{text}: {error.message.removeprefix('layer: ')}") from None
    finally:
        os.close(root)
    return unpacker.left_out
