"""Addresses as texts, for those who hand them to the kernel."""

from __future__ import annotations

import socket

import pytest

from podpy.net import addressing


@pytest.mark.parametrize(
    ("text", "family"),
    [
        ("10.1.0.2", socket.AF_INET),
        ("10.1.0.0/24", socket.AF_INET),
        ("fd01::2", socket.AF_INET6),
        ("::ffff:10.1.0.2", socket.AF_INET6),
        ("::/0", socket.AF_INET6),
    ],
)
def test_families(text: str, family: int) -> None:
    assert addressing.family(text) == family


def test_packed() -> None:
    assert addressing.packed("10.1.0.2") == bytes((10, 1, 0, 2))
    assert addressing.packed("fd01::2") == b"\xfd\1" + bytes(13) + b"\2"
    with pytest.raises(OSError):
        addressing.packed("10.1.0")


def test_everything_is_of_its_family() -> None:
    assert all(addressing.family(text) == each for each, text in addressing.EVERYTHING.items())
