"""What every process of podpy relies on: descriptors that are closed, and those that are not."""

from __future__ import annotations

import os

from podpy.kernel import process


def _open_descriptors() -> set[int]:
    return set(map(int, os.listdir("/proc/self/fd")))


def test_others_are_closed_and_the_kept_ones_stay() -> None:
    reader, writer = os.pipe()
    kept = [os.dup(writer) for _ in range(6)][::2]

    def tell() -> int:
        process.close_others((*kept, writer), first=3)
        os.write(writer, bytes(_open_descriptors()))
        return 0

    child = process.fork_child(tell)
    os.close(writer)
    open_there = set(os.read(reader, 4096))
    assert process.wait(child) == 0
    listing = min(set(range(3, 1000)) - {writer, *kept})  # the directory that was listed
    assert open_there == {0, 1, 2, writer, *kept, listing}


def test_from_the_first_descriptor_on() -> None:
    reader, writer = os.pipe()

    def tell() -> int:
        process.close_others((writer,))
        os.write(writer, bytes(_open_descriptors() - {writer}))
        return 0

    child = process.fork_child(tell)
    os.close(writer)
    assert os.read(reader, 4096) == b"\0"  # the directory that was listed
    assert process.wait(child) == 0
