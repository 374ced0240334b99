"""Every header form that layers come in, read as what it says; and what is not tar, refused."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from podpy.errors import ImageError
from podpy.storage import tar
from podpy.storage.tar import Entry
from support.tars import checksummed, gnu_sparse, pax, raw_header

Read = Callable[[bytes], list[tuple[Entry, bytes]]]


@pytest.fixture
def read(tmp_path: Path) -> Iterator[Read]:
    """Parse an archive through a descriptor that cannot seek: a pipe."""
    opened: list[int] = []

    def parse(data: bytes) -> list[tuple[Entry, bytes]]:
        path = tmp_path / "archive"
        path.write_bytes(data)
        opened.append(os.open(path, os.O_RDONLY))
        reader = tar.Reader(tar.Stream(opened[-1]))
        return [(entry, b"".join(map(bytes, reader.data()))) for entry in reader]

    yield parse
    for fd in opened:
        os.close(fd)


def archive(*infos: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.TarFile(fileobj=buffer, mode="w", format=form) as made:
        for info, data in infos:
            info.size = len(data)
            made.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def member(name: str, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_the_common_fields(read: Read, form: int) -> None:
    info = member("dir/file", mode=0o4755, uid=12, gid=34, mtime=1_700_000_000)
    ((entry, data),) = read(archive((info, b"hello"), form=form))
    assert (entry.name, entry.kind, data) == (b"dir/file", tar.REGULAR, b"hello")
    assert (entry.mode, entry.uid, entry.gid) == (0o4755, 12, 34)
    assert entry.mtime == 1_700_000_000 * 10**9


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_and_targets(read: Read, form: int) -> None:
    name, target = "n" * 90 + "/" + "m" * 200, "t" * 300
    link = member(name, type=tarfile.SYMTYPE, linkname=target)
    ((entry, _),) = read(archive((link, b""), form=form))
    assert (entry.name.decode(), entry.link.decode()) == (name, target)


def test_the_prefix_field_of_ustar(read: Read) -> None:
    name = "p" * 120 + "/" + "q" * 90
    ((entry, _),) = read(archive((member(name), b""), form=tarfile.USTAR_FORMAT))
    assert entry.name.decode() == name


def test_numbers_in_base_256(read: Read) -> None:
    info = member("f", uid=3_000_000, mtime=2**33)
    ((entry, _),) = read(archive((info, b""), form=tarfile.GNU_FORMAT))
    assert (entry.uid, entry.mtime) == (3_000_000, 2**33 * 10**9)


def test_a_time_before_1970(read: Read) -> None:
    ((entry, _),) = read(archive((member("f", mtime=-5), b""), form=tarfile.GNU_FORMAT))
    assert entry.mtime == -5 * 10**9


def test_a_pax_time_keeps_its_nanoseconds(read: Read) -> None:
    ((entry, _),) = read(pax({b"mtime": b"1700000000.123456789"}) + raw_header())
    assert entry.mtime == 1_700_000_000_123_456_789


def test_extended_attributes_in_both_spellings(read: Read) -> None:
    records = {
        b"SCHILY.xattr.user.a": b"one\0two",
        b"LIBARCHIVE.xattr.user.b%20c": b"dGhyZWU",
    }
    ((entry, _),) = read(pax(records) + raw_header())
    assert entry.xattrs == {"user.a": b"one\0two", "user.b c": b"three"}


def test_a_global_header_holds_for_all_and_is_overruled(read: Read) -> None:
    head = pax({b"uid": b"7", b"gid": b"8"}).replace(b"\0x", b"\0x", 1)
    block = bytearray(head[:512])
    block[156:157] = b"g"
    data = checksummed(block) + head[512:] + raw_header(b"a") + pax({b"uid": b"9"})
    entries = [entry for entry, _ in read(data + raw_header(b"b"))]
    assert [(e.name, e.uid, e.gid) for e in entries] == [(b"a", 7, 8), (b"b", 9, 8)]


def test_what_came_before_ustar(read: Read) -> None:
    data = raw_header(b"old/", kind=b"\0", magic=bytes(8))
    ((entry, _),) = read(data)
    assert entry.kind == tar.DIRECTORY


def test_a_link_has_no_data_whatever_its_size_says(read: Read) -> None:
    data = raw_header(b"link", kind=b"1", size=b"%011o\0" % 512) + raw_header(b"next")
    assert [entry.name for entry, _ in read(data)] == [b"link", b"next"]


def test_device_numbers(read: Read) -> None:
    info = member("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3)
    ((entry, _),) = read(archive((info, b"")))
    assert (entry.kind, entry.major, entry.minor) == (tar.CHARACTER, 1, 3)


def test_no_end_marker_is_an_end(read: Read) -> None:
    assert len(read(raw_header())) == 1


def test_an_empty_archive(read: Read) -> None:
    assert read(bytes(1024)) == []
    assert read(b"") == []


# --- sparse files --------------------------------------------------------------


def test_gnu_sparse_with_more_pieces_than_fit_the_header(read: Read) -> None:
    pairs = [(n * 1000, 2) for n in range(6)]
    ((entry, data),) = read(gnu_sparse(pairs, 6000, b"ab" * 6))
    assert (entry.extents, entry.length, data) == (pairs, 6000, b"ab" * 6)


@pytest.mark.parametrize(
    "records",
    [
        {b"GNU.sparse.map": b"0,2,10,1", b"GNU.sparse.size": b"20"},
        {b"GNU.sparse.map": b"0,2,10,1", b"GNU.sparse.realsize": b"20"},
    ],
)
def test_pax_sparse_0_1(read: Read, records: dict[bytes, bytes]) -> None:
    records[b"GNU.sparse.name"] = b"real/name"
    data = pax(records) + raw_header(size=b"%011o\0" % 3) + b"abc".ljust(512, b"\0")
    ((entry, stored),) = read(data)
    assert (entry.name, entry.extents, entry.length) == (b"real/name", [(0, 2), (10, 1)], 20)
    assert stored == b"abc"


def test_pax_sparse_0_0_repeats_its_records(read: Read) -> None:
    body = b"".join(
        b"%d %s\n" % (len(text) + 4, text)
        for text in (
            b"GNU.sparse.offset=1", b"GNU.sparse.numbytes=2",
            b"GNU.sparse.offset=5", b"GNU.sparse.numbytes=1",
        )
    )  # fmt: skip
    body += b"22 GNU.sparse.size=10\n"
    head = raw_header(b"pax", kind=b"x", size=b"%011o\0" % len(body))
    data = head + body + bytes(-len(body) % 512) + raw_header(size=b"%011o\0" % 3) + b"abc"
    ((entry, _),) = read(data.ljust(len(data) + 509, b"\0"))
    assert (entry.extents, entry.length) == ([(1, 2), (5, 1)], 10)


def test_pax_sparse_1_0_has_its_map_before_the_data(read: Read) -> None:
    records = {
        b"GNU.sparse.major": b"1", b"GNU.sparse.minor": b"0",
        b"GNU.sparse.name": b"s", b"GNU.sparse.realsize": b"100",
    }  # fmt: skip
    stored = b"2\n0\n2\n50\n1\n".ljust(512, b"\0") + b"abc"
    data = pax(records) + raw_header(size=b"%011o\0" % len(stored)) + stored.ljust(1024, b"\0")
    ((entry, rest),) = read(data + raw_header(b"next"))[:1]
    assert (entry.extents, entry.length, rest) == ([(0, 2), (50, 1)], 100, b"abc")


@pytest.mark.parametrize(
    ("pairs", "real"),
    [([(0, 2), (1, 1)], 10), ([(9, 3)], 10), ([(0, 2)], 10), ([(5, 2), (0, 1)], 10)],
)
def test_a_sparse_map_that_lies(read: Read, pairs: list[tuple[int, int]], real: int) -> None:
    with pytest.raises(ImageError, match="sparse"):
        read(gnu_sparse(pairs, real, b"abc"))


# --- what is no tar --------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"x" * 512,
        raw_header()[:300],
        raw_header(size=b"%011o\0" % 600) + b"short",
        raw_header(size=b"zzzzzzzzzzz\0"),
        raw_header(kind=b"Q"),
        raw_header(kind=b"x", size=b"%011o\0" % (1 << 30)),
        raw_header(kind=b"L", size=b"%011o\0" % (1 << 30)),
        raw_header(size=b"\xff" * 12),
        raw_header(uid=b"\x80" + b"\xff" * 7),
        pax({b"size": b"-1"}) + raw_header(),
        pax({b"size": b"1e3"}) + raw_header(),
        pax({b"uid": b"99999999999"}) + raw_header(),
        pax({b"mtime": b"yesterday"}) + raw_header(),
        raw_header(b"p", kind=b"x", size=b"%011o\0" % 9) + b"9 a=b\nxxx".ljust(512, b"\0"),
        raw_header(b"p", kind=b"x", size=b"%011o\0" % 7) + b"999 a=b".ljust(512, b"\0"),
    ],
)
def test_what_is_damaged_is_refused(read: Read, data: bytes) -> None:
    with pytest.raises(ImageError):
        read(data)


def test_a_flipped_bit_is_noticed(read: Read) -> None:
    block = bytearray(raw_header())
    block[3] ^= 4
    with pytest.raises(ImageError, match="checksum"):
        read(bytes(block))
