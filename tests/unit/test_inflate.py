"""Streams told apart by their first bytes and inflated piece by piece, however they arrive."""

from __future__ import annotations

import bz2
import gzip
import lzma
import subprocess
import zlib

import pytest

from podpy.errors import ImageError
from podpy.storage import inflate
from support.host import program

DATA = b"".join(b"line %d of some text\n" % n for n in range(60_000))


def zstd(data: bytes) -> bytes:
    return subprocess.run([program("zstd"), "-qc"], input=data, capture_output=True).stdout


def packed(kind: str) -> bytes:
    make = {
        "plain": bytes,
        "gzip": gzip.compress,
        "bzip2": bz2.compress,
        "xz": lzma.compress,
        "zstd": zstd,
    }
    return make[kind](DATA)


KINDS = ["plain", "gzip", "bzip2", "xz", pytest.param("zstd", marks=pytest.mark.needs("zstd"))]


def inflated(kind: str, data: bytes, step: int) -> bytes:
    stream = inflate.decompressor(kind)
    pieces = []
    for at in range(0, len(data), step):
        pieces += stream.feed(data[at : at + step])
    stream.finish()
    assert all(len(piece) <= max(inflate.PIECE, step) for piece in pieces)
    return b"".join(pieces)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", [1 << 20, 4097])
def test_what_goes_in_comes_out(kind: str, step: int) -> None:
    data = packed(kind)
    assert inflate.kind_of(data) == kind
    assert inflated(kind, data, step) == DATA


@pytest.mark.parametrize("kind", KINDS[1:])
def test_members_that_follow_each_other_are_one_stream(kind: str) -> None:
    assert inflated(kind, packed(kind) * 2, 1000) == DATA * 2


def test_zero_padding_after_the_last_member() -> None:
    assert inflated("gzip", packed("gzip") + bytes(1000), 777) == DATA


@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_cut_stream_is_noticed(kind: str) -> None:
    with pytest.raises(ImageError, match="ends in the middle"):
        inflated(kind, packed(kind)[:-9], 1 << 20)


@pytest.mark.parametrize("kind", KINDS[1:])
def test_damage_is_an_error_of_ours(kind: str) -> None:
    data = bytearray(packed(kind))
    data[len(data) // 2 : len(data) // 2 + 40] = bytes(40)
    with pytest.raises(ImageError):
        inflated(kind, bytes(data), 1 << 20)


def test_a_bomb_comes_in_small_pieces() -> None:
    stream = inflate.decompressor("gzip")
    pieces = stream.feed(zlib.compress(bytes(64 << 20), 9, 31))
    assert len(next(pieces)) <= inflate.PIECE


@pytest.mark.needs("zstd")
def test_a_zstd_window_above_the_limit_is_refused() -> None:
    command = [program("zstd"), "-qc", "--ultra", "--long=30", "-1"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as made:
        assert made.stdin is not None and made.stdout is not None
        made.stdin.write(DATA)
        made.stdin.close()  # a piped size is unknown: the frame asks for its whole window
        data = made.stdout.read()
    with pytest.raises(ImageError, match="zstd"):
        inflated("zstd", data, 1 << 20)
