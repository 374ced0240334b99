"""Decompression as a stream: gzip, zstd, bzip2, xz and plain, told apart by their first bytes.

Every decompressor takes bytes as they come and gives back pieces of at most
:data:`PIECE` bytes, so that a bomb costs time and never memory.  Only gzip and
zstd are layer formats of the OCI specification; whole archives come in all.
"""

from __future__ import annotations

import itertools
import zlib

from podpy.errors import HostError, ImageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

PIECE = 1 << 20
LONGEST_MAGIC = 6
# A stream that inflates more than this many times its size is a bomb, but for its
# first BOMB_FLOOR bytes: real layers of repetitive text reach 20, gzip's end is 1032.
BOMB_RATIO = 200
BOMB_FLOOR = 256 << 20
ZSTD_WINDOW_LOG = 27  # 128 MiB, what every zstd decoder grants by default

_MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
)


def kind_of(start: bytes) -> str:
    """``gzip``, ``zstd``, ``bzip2``, ``xz`` or ``plain``, by the first bytes of a stream."""
    for magic, kind in _MAGIC:
        if start.startswith(magic):
            return kind
    # zstd files may begin with a skippable frame, 0x184D2A50 … 5F little-endian.
    if len(start) >= 4 and start[1:4] == b"\x2a\x4d\x18" and start[0] & 0xF0 == 0x50:
        return "zstd"
    return "plain"


class Plain:
    """No compression at all."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        if data:
            yield data

    def finish(self) -> None:
        """The end of the input: nothing can be missing."""


class _Framed:
    """Decompressors of the standard library's shape, one object per frame or member."""

    def __init__(self, kind: str, make: Callable[[], Any], failures: tuple[type[Exception], ...]):
        self._kind = kind
        self._make = make
        self._failures = failures
        self._frame = make()
        self._started = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What the input so far allows to be inflated."""
        while data:
            if self._frame.eof:
                data = self._next_frame(data)
                continue
            self._started = True
            try:
                yield from self._inflate(data)
            except self._failures as error:
                raise ImageError(f"{self._kind}: {error}") from None
            data = self._frame.unused_data if self._frame.eof else b""

    def _next_frame(self, data: bytes) -> bytes:
        """Members may follow each other, and zero padding the last one."""
        data = data.lstrip(b"\0")
        if data:
            self._frame = self._make()
        return data

    def _inflate(self, data: bytes) -> Iterator[bytes]:
        frame = self._frame
        piece = frame.decompress(data, PIECE)
        while piece:
            yield piece
            if frame.eof or (frame.needs_input and len(piece) < PIECE):
                return
            piece = frame.decompress(b"", PIECE)

    def finish(self) -> None:
        """The end of the input; :class:`ImageError` when a frame is incomplete."""
        if self._started and not self._frame.eof:
            raise ImageError(f"{self._kind}: the data ends in the middle of a frame")


class _Gzip(_Framed):
    """zlib's object keeps what it did not consume in ``unconsumed_tail``."""

    def __init__(self) -> None:
        super().__init__("gzip", lambda: zlib.decompressobj(31), (zlib.error,))

    def _inflate(self, data: bytes) -> Iterator[bytes]:
        frame = self._frame
        while data or not frame.eof:
            piece = frame.decompress(data, PIECE)
            data = frame.unconsumed_tail
            if piece:
                yield piece
            if frame.eof or not (data or len(piece) == PIECE):
                return


def check_bomb(what: str, stored: int, inflated: int) -> None:
    """:class:`ImageError` when ``stored`` bytes have become more than they may."""
    if inflated > BOMB_FLOOR and inflated > BOMB_RATIO * stored:
        raise ImageError(
            f"{what}: {stored} bytes inflate to more than {inflated}: a decompression bomb"
        )


def stream(chunks: Iterable[bytes], what: str = "archive") -> Iterator[bytes]:
    """The bytes of a stream, whatever it is compressed with; ``what`` is for errors."""
    start = b""
    unread = iter(chunks)
    while len(start) < LONGEST_MAGIC and (data := next(unread, b"")):
        start += data
    inflater = decompressor(kind_of(start))
    stored = given = 0
    for data in itertools.chain((start,), unread):
        stored += len(data)
        for piece in inflater.feed(data):
            given += len(piece)
            check_bomb(what, stored, given)
            yield piece
    inflater.finish()


def decompressor(kind: str) -> Plain | _Framed:
    """A fresh decompressor of a kind that :func:`kind_of` knows."""
    if kind == "gzip":
        return _Gzip()
    if kind == "zstd":
        return _zstd()
    if kind == "bzip2":
        import bz2

        return _Framed("bzip2", bz2.BZ2Decompressor, (OSError, EOFError, ValueError))
    if kind == "xz":
        import lzma

        return _Framed("xz", lambda: lzma.LZMADecompressor(memlimit=1 << 30), (lzma.LZMAError,))
    return Plain()


def _zstd() -> _Framed:
    try:
        from compression import zstd  # type: ignore[import-not-found]  # Python 3.14
    except ImportError:
        return _Framed("zstd", _library_zstd, (ValueError,))
    window = {zstd.DecompressionParameter.window_log_max: ZSTD_WINDOW_LOG}
    return _Framed("zstd", lambda: zstd.ZstdDecompressor(options=window), (zstd.ZstdError,))


def _library_zstd() -> Any:
    from podpy.kernel import libc

    try:
        return libc.ZstdDecompressor(ZSTD_WINDOW_LOG)
    except OSError:
        raise HostError(
            "zstd: this host has no library for it", hint="install the package libzstd1"
        ) from None
