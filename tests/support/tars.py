"""Tar headers made by hand: what no tar program writes any more, or ever wrote."""

from __future__ import annotations

import tarfile


def raw_header(name: bytes = b"f", **fields: bytes) -> bytes:
    """A ustar header with fields replaced by offset, checksum made right."""
    block = bytearray(tarfile.TarInfo(name.decode()).tobuf(tarfile.USTAR_FORMAT))
    places = {"mode": 100, "uid": 108, "size": 124, "mtime": 136, "kind": 156, "magic": 257}
    for field, value in fields.items():
        block[places[field] : places[field] + len(value)] = value
    return checksummed(block)


def checksummed(block: bytearray) -> bytes:
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def pax(records: dict[bytes, bytes]) -> bytes:
    """An extended header: its block, its records and their padding."""
    body = b""
    for key, value in records.items():
        length = len(key) + len(value) + 3
        while len(str(length)) + len(key) + len(value) + 3 != length:
            length = len(str(length)) + len(key) + len(value) + 3
        body += b"%d %s=%s\n" % (length, key, value)
    head = raw_header(b"pax", kind=b"x", size=b"%011o\0" % len(body))
    return head + body + bytes(-len(body) % 512)


def gnu_sparse(pairs: list[tuple[int, int]], real: int, data: bytes) -> bytes:
    block = bytearray(tarfile.TarInfo("sparse").tobuf(tarfile.GNU_FORMAT))
    block[156:157] = b"S"
    block[124:136] = b"%011o\0" % len(data)
    block[483:495] = b"%011o\0" % real
    extra = b""
    for number, (offset, count) in enumerate(pairs):
        field = b"%011o\0%011o\0" % (offset, count)
        if number < 4:
            block[386 + 24 * number : 410 + 24 * number] = field
        else:
            extra += field
    if extra:
        block[482] = 1
        extra = extra.ljust(512, b"\0")
    return checksummed(block) + extra + data + bytes(-len(data) % 512)
