"""Reading tar streams: every header form that image layers come in, as entries.

ustar, the base-256 numbers and long names of GNU tar, PAX records (POSIX.1-2001
``pax``: path, linkpath, size, mtime, uid, gid and xattrs in their two
spellings) and the four sparse formats of GNU tar.  The stream is a descriptor
that need not seek.

The reader trusts nothing: sizes, counts and nesting are bounded, names are
returned as the bytes they are and judged by whoever uses them
(:mod:`podpy.storage.extract`).  Python's ``tarfile`` takes about 200 µs per
member; a layer has tens of thousands.
"""

from __future__ import annotations

import os
from zlib import adler32

from podpy.errors import ImageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK = 512
CHUNK = 1 << 20
HEADER_LIMIT = 1 << 20
SPARSE_LIMIT = 1 << 18

_ZEROES = bytes(BLOCK)
_XATTR = b"SCHILY.xattr."
_XATTR_BSD = b"LIBARCHIVE.xattr."
_SPACES = 8 * 32
_ADLER = 65521
_NO_ID = 0xFFFFFFFF
_MAX_TIME = 1 << 63

REGULAR, HARD_LINK, SYMLINK = b"0", b"1", b"2"
CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = b"3", b"4", b"5", b"6"
_KINDS = {
    b"\0": REGULAR, b"0": REGULAR, b"7": REGULAR, b"S": REGULAR,
    b"1": HARD_LINK, b"2": SYMLINK, b"3": CHARACTER, b"4": BLOCK_DEVICE,
    b"5": DIRECTORY, b"D": DIRECTORY, b"6": FIFO,
}  # fmt: skip


class Entry:
    """One member of an archive.

    ``size`` is the number of bytes its data takes in the stream, ``length``
    the length of the file made of them (they differ for sparse files);
    ``extents`` are the (offset, count) pieces of a sparse file, else None.
    ``mtime`` is in nanoseconds.  ``names`` and ``link`` are raw bytes.
    """

    __slots__ = (
        "extents", "gid", "kind", "length", "link", "major", "minor",
        "mode", "mtime", "name", "size", "uid", "xattrs",
    )  # fmt: skip

    name: bytes
    kind: bytes
    link: bytes
    mode: int
    uid: int
    gid: int
    size: int
    length: int
    mtime: int
    major: int
    minor: int
    xattrs: dict[str, bytes]
    extents: list[tuple[int, int]] | None


_NO_XATTRS: dict[str, bytes] = {}


class Stream:
    """A buffered reader of a descriptor that need not seek."""

    chunk = CHUNK

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.buffer = b""
        self.at = 0
        self.ended = False

    def take(self, count: int) -> bytes:
        """Exactly ``count`` bytes; :class:`ImageError` when the stream ends before."""
        at = self.at
        end = at + count
        if end <= len(self.buffer):
            self.at = end
            return self.buffer[at:end]
        pieces = [self.buffer[at:]]
        missing = count - len(pieces[0])
        while missing > 0:
            if not self._fill():
                raise ImageError("tar: the archive ends in the middle of an entry")
            pieces.append(self.buffer[:missing])
            missing -= len(pieces[-1])
            self.at = len(pieces[-1])
        return b"".join(pieces)

    def pieces(self, count: int) -> Iterator[memoryview]:
        """The next ``count`` bytes as views, as large as they come."""
        while count > 0:
            if self.at >= len(self.buffer) and not self._fill():
                raise ImageError("tar: the archive ends in the middle of a file")
            piece = memoryview(self.buffer)[self.at : self.at + count]
            self.at += len(piece)
            count -= len(piece)
            yield piece

    def skip(self, count: int) -> None:
        for _ in self.pieces(count):
            pass

    def block(self) -> bytes:
        """The next header block; empty at the end of the stream."""
        if self.at + BLOCK > len(self.buffer) and self.at == len(self.buffer) and not self._fill():
            return b""
        return self.take(BLOCK)

    def drain(self) -> None:
        """Read to the end: whoever writes must not die of a closed pipe."""
        while self._fill():
            pass

    def _fill(self) -> bool:
        if not self.ended:
            self.buffer = os.read(self.fd, self.chunk)
            self.at = 0
            self.ended = not self.buffer
        return not self.ended


class Reader:
    """The entries of a tar stream, one after the other.

    After each entry the caller may read its data with :meth:`data`; what it
    leaves is skipped.
    """

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._left = 0
        self._padding = 0
        self._globals: dict[bytes, bytes] = {}

    def __iter__(self) -> Iterator[Entry]:
        while (entry := self.next()) is not None:
            yield entry

    def data(self) -> Iterator[memoryview]:
        """The data of the current entry, in pieces."""
        count, self._left = self._left, 0
        return self.stream.pieces(count)

    def next(self) -> Entry | None:
        """The next entry, or None after the last."""
        stream = self.stream
        if self._left or self._padding:
            stream.skip(self._left + self._padding)
            self._left = self._padding = 0
        pax: dict[bytes, bytes] = {}
        sparse: list[tuple[bytes, bytes]] = []
        while True:
            header = stream.block()
            if not header or header == _ZEROES:
                return None
            _check(header)
            kind = header[156:157]
            if kind in b"xXgLKV":
                self._extension(kind, _number(header[124:136], "size"), pax, sparse)
                continue
            return self._entry(header, kind, pax, sparse)

    def _extension(
        self,
        kind: bytes,
        size: int,
        pax: dict[bytes, bytes],
        sparse: list[tuple[bytes, bytes]],
    ) -> None:
        """A header that describes the entry after it."""
        if size > HEADER_LIMIT:
            raise ImageError(f"tar: an extended header of {size} bytes")
        data = self.stream.take(size)
        self.stream.skip(-size % BLOCK)
        if kind == b"g":
            self._globals.update(_pax_records(data))
        elif kind in b"xX":
            for key, value in _pax_records(data):
                pax[key] = value
                if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
                    sparse.append((key, value))
        elif kind == b"L":
            pax[b"path"] = data.split(b"\0", 1)[0]
        elif kind == b"K":
            pax[b"linkpath"] = data.split(b"\0", 1)[0]

    def _entry(
        self,
        header: bytes,
        kind: bytes,
        pax: dict[bytes, bytes],
        sparse: list[tuple[bytes, bytes]],
    ) -> Entry:
        entry = _plain_entry(header, kind)
        entry.extents = self._old_sparse(header, entry) if kind == b"S" else None
        if self._globals:
            pax = {**self._globals, **pax}
        if pax:
            _apply_pax(entry, pax)
        if not (0 <= entry.uid < _NO_ID and 0 <= entry.gid < _NO_ID):
            raise ImageError(f"tar: {entry.name[:200]!r} has no valid owner")
        if not -_MAX_TIME < entry.mtime < _MAX_TIME:
            entry.mtime = 0
        if entry.kind == REGULAR and kind in b"\0" and entry.name.endswith(b"/"):
            entry.kind = DIRECTORY  # how tar said it before ustar
        if entry.kind != REGULAR and kind != b"D":
            entry.size = entry.length = 0  # links of old archives give their target's size
        self._left, self._padding = entry.size, -entry.size % BLOCK
        if pax and any(key.startswith(b"GNU.sparse.") for key in pax):
            self._pax_sparse(entry, pax, sparse)
        return entry

    def _old_sparse(self, header: bytes, entry: Entry) -> list[tuple[int, int]]:
        """GNU's first format: the map is in the header and in blocks after it."""
        extents = list(_extents_in(header, 386, 4))
        more = header[482]
        while more:
            block = self.stream.take(BLOCK)
            extents += _extents_in(block, 0, 21)
            more = block[504]
            if len(extents) > SPARSE_LIMIT:
                raise ImageError("tar: a sparse file in too many pieces")
        entry.length = _number(header[483:495], "real size")
        return _checked_extents(extents, entry.size, entry.length)

    def _pax_sparse(
        self, entry: Entry, pax: dict[bytes, bytes], pairs: list[tuple[bytes, bytes]]
    ) -> None:
        """GNU's PAX formats 0.0 (repeated records), 0.1 (one list) and 1.0 (before the data)."""
        if b"GNU.sparse.major" in pax:
            numbers = self._map_before_data(entry)
        elif b"GNU.sparse.map" in pax:
            numbers = [_decimal(n, "sparse map") for n in pax[b"GNU.sparse.map"].split(b",") if n]
        else:
            numbers = [_decimal(value, "sparse map") for _, value in pairs]
        if len(numbers) > 2 * SPARSE_LIMIT or len(numbers) % 2:
            raise ImageError("tar: a sparse map of an odd length or with too many pieces")
        size = pax.get(b"GNU.sparse.realsize") or pax.get(b"GNU.sparse.size") or b"0"
        entry.length = _decimal(size, "sparse size")
        if b"GNU.sparse.name" in pax:
            entry.name = pax[b"GNU.sparse.name"]
        extents = list(zip(numbers[0::2], numbers[1::2]))
        entry.extents = _checked_extents(extents, entry.size, entry.length)

    def _map_before_data(self, entry: Entry) -> list[int]:
        """Format 1.0: decimal lines, a count and then the map, padded to whole blocks."""
        text = b""
        wanted = 1
        while True:
            if entry.size < BLOCK or len(text) > 32 * SPARSE_LIMIT:
                raise ImageError("tar: a sparse map that does not end")
            text += self.stream.take(BLOCK)
            entry.size -= BLOCK
            self._left -= BLOCK
            lines = text.split(b"\n")
            if len(lines) > 1:
                wanted = 1 + 2 * _decimal(lines[0], "sparse map")
            if len(lines) > wanted:
                return [_decimal(line, "sparse map") for line in lines[1:wanted]]


def is_header(block: bytes) -> bool:
    """Whether an archive may begin with these bytes: a header, or the zeroes of an empty one."""
    block = block[:BLOCK]
    if len(block) < BLOCK or block == _ZEROES:
        return len(block) == BLOCK
    try:
        _check(block)
    except ImageError:
        return False
    return True


def _check(header: bytes) -> None:
    """The header's checksum: the sum of its bytes with its own field as spaces.

    The low half of Adler-32 is that sum plus one, modulo 65521, at C speed.
    """
    field = header[148:156]
    stated = _number(field, "checksum")
    total = (stated + sum(field) - _SPACES + 1) % _ADLER
    if adler32(header) & 0xFFFF == total:
        return
    # Some old tars summed signed characters.
    signed = sum(b - 256 if b > 127 else b for b in header[:148] + b" " * 8 + header[156:])
    if signed != stated:
        raise ImageError("tar: a header with a wrong checksum: not a tar archive, or damaged")


def _number(field: bytes, what: str) -> int:
    """Octal digits, or GNU's base-256 when the first bit is set."""
    try:
        if field[0] < 0x80:
            return int(field.strip(b" \0") or b"0", 8)
        value = int.from_bytes(field, "big", signed=field[0] & 0x40 != 0)
    except ValueError:
        raise ImageError(f"tar: {what} is not a number: {field!r}") from None
    if field[0] & 0x40 == 0:
        value -= 0x80 << (8 * (len(field) - 1))
    if what == "size" and value < 0:
        raise ImageError("tar: a negative size")
    return value


def _decimal(text: bytes, what: str) -> int:
    if not text.isdigit() or len(text) > 19:
        raise ImageError(f"tar: {what} is not a number: {text[:40]!r}")
    return int(text)


def _string(field: bytes) -> bytes:
    end = field.find(b"\0")
    return field if end < 0 else field[:end]


def _plain_entry(header: bytes, kind: bytes) -> Entry:
    """What a header block says by itself."""
    entry = Entry()
    try:
        entry.kind = _KINDS[kind]
    except KeyError:
        name = _string(header[:100])
        raise ImageError(f"tar: {name!r} is of the unknown type {kind!r}") from None
    name = _string(header[0:100])
    magic = header[257:263]
    if magic == b"ustar\0" and header[345]:
        name = _string(header[345:500]) + b"/" + name
    entry.name = name
    entry.mode = _number(header[100:108], "mode") & 0o7777
    entry.uid = _number(header[108:116], "uid")
    entry.gid = _number(header[116:124], "gid")
    entry.size = entry.length = _number(header[124:136], "size")
    entry.mtime = _number(header[136:148], "mtime") * 1_000_000_000
    entry.link = _string(header[157:257])
    entry.major = entry.minor = 0
    if entry.kind in (CHARACTER, BLOCK_DEVICE):
        entry.major = _number(header[329:337], "major")
        entry.minor = _number(header[337:345], "minor")
    entry.xattrs = _NO_XATTRS
    entry.extents = None
    return entry


def _pax_records(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """``<length> <key>=<value>\\n``, the length counting itself."""
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 20)
        digits = data[at:space] if space > 0 else b""
        if not digits.isdigit():
            if not data[at:].strip(b"\0"):
                return
            raise ImageError("tar: a PAX record without length")
        end = at + int(digits)
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if not equals or not key or end > len(data) or data[end - 1 : end] != b"\n":
            raise ImageError("tar: a malformed PAX record")
        yield key, value
        at = end


def _apply_pax(entry: Entry, pax: dict[bytes, bytes]) -> None:
    xattrs: dict[str, bytes] = {}
    for key, value in pax.items():
        if not value and not key.startswith((_XATTR, _XATTR_BSD)):
            continue  # an empty value takes back what a global header said
        if key == b"path":
            entry.name = value
        elif key == b"linkpath":
            entry.link = value
        elif key == b"size":
            entry.size = entry.length = _decimal(value, "size")
        elif key == b"uid":
            entry.uid = _decimal(value, "uid")
        elif key == b"gid":
            entry.gid = _decimal(value, "gid")
        elif key == b"mtime":
            entry.mtime = _nanoseconds(value)
        elif key.startswith(_XATTR):
            xattrs[key[len(_XATTR) :].decode(errors="surrogateescape")] = value
        elif key.startswith(_XATTR_BSD):
            name, decoded = _bsd_xattr(key[len(_XATTR_BSD) :], value)
            xattrs.setdefault(name, decoded)
    entry.xattrs = xattrs


def _bsd_xattr(key: bytes, value: bytes) -> tuple[str, bytes]:
    """libarchive's spelling: the key percent-encoded, the value in base64 (padding left out)."""
    from base64 import b64decode
    from urllib.parse import unquote_to_bytes

    try:
        decoded = b64decode(value + b"=" * (-len(value) % 4))
    except ValueError:
        raise ImageError("tar: an extended attribute that is not base64") from None
    return unquote_to_bytes(key).decode(errors="surrogateescape"), decoded


def _nanoseconds(text: bytes) -> int:
    """Decimal seconds with a fraction, exactly (a float loses the last digits)."""
    sign = -1 if text.startswith(b"-") else 1
    whole, _, fraction = text.lstrip(b"-").partition(b".")
    digits = fraction[:9].ljust(9, b"0")
    if not (whole + digits).isdigit() or len(whole) > 12:
        raise ImageError(f"tar: mtime is not a number: {text[:40]!r}")
    return sign * (int(whole or b"0") * 1_000_000_000 + int(digits))


def _extents_in(block: bytes, at: int, count: int) -> Iterator[tuple[int, int]]:
    for start in range(at, at + 24 * count, 24):
        if not block[start]:
            return
        offset = _number(block[start : start + 12], "sparse offset")
        yield offset, _number(block[start + 12 : start + 24], "sparse size")


def _checked_extents(
    extents: list[tuple[int, int]], stored: int, length: int
) -> list[tuple[int, int]]:
    """Pieces in order, inside the file, and as many bytes as are stored."""
    end = total = 0
    for offset, count in extents:
        if offset < end or count < 0 or offset + count > length:
            raise ImageError("tar: a sparse map that overlaps or leaves its file")
        end, total = offset + count, total + count
    if total != stored:
        raise ImageError("tar: a sparse map that does not fit the data")
    return extents
