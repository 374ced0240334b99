"""Packets between processes: of any size, with descriptors, or a clear refusal."""

from __future__ import annotations

import _socket
import errno
import os
import resource

import pytest

from podpy.kernel import packets


@pytest.fixture
def ends() -> tuple[_socket.socket, _socket.socket]:
    return _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)


@pytest.mark.parametrize("size", [1, packets.INLINE, packets.INLINE + 1, 5_000_000])
def test_a_packet_arrives_whole_with_its_descriptors(
    ends: tuple[_socket.socket, _socket.socket], size: int
) -> None:
    ours, theirs = ends
    reader, writer = os.pipe()
    before = len(os.listdir("/proc/self/fd"))
    packets.send(ours, b"{" * size, (writer,))
    packet, (received,) = packets.receive(theirs)
    assert packet == b"{" * size
    os.write(received, b"through")
    assert os.read(reader, 10) == b"through"
    for fd in (received, reader, writer):
        os.close(fd)
    assert len(os.listdir("/proc/self/fd")) == before - 2


def test_the_end_is_an_empty_packet(ends: tuple[_socket.socket, _socket.socket]) -> None:
    ours, theirs = ends
    ours.close()
    assert packets.receive(theirs) == (b"", [])


def test_without_a_free_descriptor_nothing_arrives_and_nothing_leaks(
    ends: tuple[_socket.socket, _socket.socket],
) -> None:
    ours, theirs = ends
    packets.send(ours, b"two", (0, 1))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd"))
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 1, hard))
    try:
        with pytest.raises(OSError) as refused:
            packets.receive(theirs)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert refused.value.errno == errno.EMFILE
    assert len(os.listdir("/proc/self/fd")) == used
