"""Tar archives as build contexts: unpacked below a staging directory, as the caller's own files.

Owners mean nothing in a context (a copy's owner is what ``--chown`` says), so
all files are the caller's; nothing in an archive reaches anything outside the
directory (:mod:`podpy.storage.extract`).
"""

from __future__ import annotations

import os

from podpy import files
from podpy.errors import BuildError, ImageError
from podpy.storage import extract, inflate, tar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LIMITS = extract.Limits(size=1 << 38, entries=1 << 22)


class _Pieces(tar.Stream):
    """A tar stream that comes in pieces of bytes."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        super().__init__(-1)
        self._pieces = pieces

    def _fill(self) -> bool:
        if not self.ended:
            self.buffer = next(self._pieces, b"")
            self.at = 0
            self.ended = not self.buffer
        return not self.ended


class _Disowned(tar.Reader):
    """Entries without owner, and without the attributes that only root may set."""

    def next(self) -> tar.Entry | None:
        entry = super().next()
        if entry is not None:
            entry.uid = entry.gid = 0
            user = {k: v for k, v in entry.xattrs.items() if k.startswith("user.")}
            entry.xattrs = user
        return entry


class _Extractor(extract.Extractor):
    layered = False

    def _directory(self, path: bytes, head: bytes, name: bytes, entry: tar.Entry) -> None:
        """A directory that only root could fill gets its mode at the end, as all do."""
        mode = entry.mode
        entry.mode |= 0o700
        super()._directory(path, head, name, entry)
        entry.mode = mode


def sniff(stream: Iterable[bytes], what: str) -> tuple[bool, Iterator[bytes]]:
    """Whether a stream is a tar archive, compressed or not, and its bytes, inflated.

    What is compressed and no archive is a :class:`BuildError` that names ``what``.
    """
    unread = iter(stream)
    start = _first(unread, inflate.LONGEST_MAGIC)
    kind = inflate.kind_of(start)
    whole = _joined(start, unread)
    if kind != "plain":
        whole = inflate.stream(whole, what)
    start = _first(whole, tar.BLOCK)
    is_archive = tar.is_header(start)
    if kind != "plain" and not is_archive:
        raise BuildError(f"{what}: is compressed ({kind}), but no tar archive")
    return is_archive, _joined(start, whole)


def _first(stream: Iterator[bytes], count: int) -> bytes:
    start = b""
    while len(start) < count and (data := next(stream, b"")):
        start += data
    return start


def _joined(start: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if start:
        yield start
    yield from rest


def unpack(stream: Iterator[bytes], directory: str, what: str) -> None:
    """Unpack the bytes of a tar archive into an empty directory.

    A device node, which no ordinary user can make, is a :class:`BuildError`, as
    is everything that would leave the directory.
    """
    root = os.open(directory, files.O_DIR | os.O_NOFOLLOW)
    before = os.umask(0)
    try:
        extractor = _Extractor(root, limits=LIMITS)
        extractor.run(_Disowned(_Pieces(stream)))
        for _ in stream:
            pass  # whoever writes must not die of a closed pipe
    except ImageError as error:
        reason = error.message.removeprefix("layer: ").removeprefix(f"{what}: ")
        raise BuildError(f"{what}: {reason}", hint=error.hint) from None
    finally:
        os.umask(before)
        os.close(root)
    if extractor.records:
        path = extractor.records[0]["path"]
        raise BuildError(f"{what}: {path!a} is a device, which cannot be made here")
