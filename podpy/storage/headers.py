"""Headers of tar members in one fixed form: the same member gives the same bytes everywhere.

ustar (POSIX.1-1988), with a PAX record (POSIX.1-2001) for exactly what it cannot
hold: names above its two fields, ids above seven octal digits, sizes above
8 GiB, times before 1970, extended attributes.  Owners have numbers and no names.
Some 20,000 of these are made for one layer: a header costs about 2 µs.
"""

from __future__ import annotations

from zlib import adler32

from podpy.errors import ImageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

BLOCK = 512
END = bytes(2 * BLOCK)
REGULAR, HARD_LINK, SYMLINK = b"0", b"1", b"2"
CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = b"3", b"4", b"5", b"6"

_NAME, _PREFIX = 100, 155
_MAX_ID = 8**7 - 1
_MAX_SIZE = 8**11 - 1
_PAX_NAME = b"././@PaxHeader"
_PADDING = bytes(BLOCK)
_SPACES = 8 * 32  # the checksum's own field counts as spaces
_MAGIC = b"ustar\x0000" + bytes(64)
_NO_DEVICE = b"0000000\0" * 2


def _sum(data: bytes) -> int:
    """The sum of at most 256 bytes: the lower half of an Adler-32 that does not overflow."""
    return (adler32(data) & 0xFFFF) - 1


def _tail(kind: bytes, link: bytes, device: bytes, prefix: bytes) -> tuple[bytes, int]:
    """The second part of a header, from its kind on, and the sum of its bytes."""
    data = kind + link.ljust(_NAME, b"\0") + _MAGIC + device + prefix.ljust(_PREFIX + 12, b"\0")
    return data, _sum(data[:200]) + _sum(data[200:])


_PLAIN = {
    kind: _tail(kind, b"", _NO_DEVICE, b"")
    for kind in (REGULAR, HARD_LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO, b"x")
}


def padding(size: int) -> bytes:
    """What fills the last block of ``size`` bytes."""
    return _PADDING[: -size % BLOCK]


def member(
    name: bytes,
    kind: bytes,
    mode: int,
    owner: tuple[int, int],
    mtime: int,
    *,
    size: int = 0,
    link: bytes = b"",
    device: tuple[int, int] | None = None,
    xattrs: Mapping[bytes, bytes] | None = None,
) -> bytes:
    """The header of a member, after a PAX header where ustar does not suffice.

    ``owner`` is (uid, gid), ``device`` (major, minor).  ``mtime`` is in whole
    seconds: fractions are not the same on all file systems.
    """
    uid, gid = owner
    if (
        len(name) <= _NAME
        and not (link or xattrs or device)
        and 0 <= mtime <= _MAX_SIZE
        and size <= _MAX_SIZE
        and uid <= _MAX_ID
        and gid <= _MAX_ID
    ):
        return _header(name, (mode, uid, gid, size, mtime), _PLAIN[kind])
    extra = {b"SCHILY.xattr." + key: value for key, value in (xattrs or {}).items()}
    short, prefix = _split(name)
    if not short:
        extra[b"path"], short = name, name[:_NAME]
    if len(link) > _NAME:
        extra[b"linkpath"], link = link, link[:_NAME]
    uid = _fitting(extra, b"uid", uid, _MAX_ID)
    gid = _fitting(extra, b"gid", gid, _MAX_ID)
    size = _fitting(extra, b"size", size, _MAX_SIZE)
    mtime = _fitting(extra, b"mtime", mtime, _MAX_SIZE)
    numbers = b"%07o\0%07o\0" % device if device else _NO_DEVICE
    tail = _tail(kind, link, numbers, prefix)
    header = _header(short, (mode, uid, gid, size, mtime), tail)
    return _pax(extra) + header if extra else header


def _header(name: bytes, numbers: tuple[int, ...], tail: tuple[bytes, int]) -> bytes:
    """A header of its name, (mode, uid, gid, size, mtime) and second part."""
    head = name.ljust(_NAME, b"\0") + b"%07o\0%07o\0%07o\0%011o\0%011o\0" % numbers
    return head + b"%06o\0 " % (_sum(head) + _SPACES + tail[1]) + tail[0]


def _split(name: bytes) -> tuple[bytes, bytes]:
    """A name as ustar's two fields hold it; nothing when they cannot."""
    if len(name) <= _NAME:
        return name, b""
    # The last slash that the prefix may end at; a directory's own slash is none.
    cut = name.rfind(b"/", 1, min(_PREFIX + 1, len(name) - 1))
    if cut < 0 or len(name) - cut - 1 > _NAME:
        return b"", b""
    return name[cut + 1 :], name[:cut]


def _fitting(extra: dict[bytes, bytes], key: bytes, number: int, limit: int) -> int:
    """A number for its field; one that does not fit goes into the PAX record instead."""
    if 0 <= number <= limit:
        return number
    extra[key] = b"%d" % number
    return 0


def _pax(records: Mapping[bytes, bytes]) -> bytes:
    data = b"".join(_record(key, value) for key, value in sorted(records.items()))
    header = _header(_PAX_NAME, (0o644, 0, 0, len(data), 0), _PLAIN[b"x"])
    return header + data + padding(len(data))


def _record(key: bytes, value: bytes) -> bytes:
    """``LENGTH KEY=VALUE\\n``, where the length counts its own digits."""
    if b"=" in key:
        raise ImageError(f"layer: an extended attribute's name with an equals sign: {key!r}")
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))  # the sum may have had one digit more
    return b"%d %b=%b\n" % (length, key, value)
