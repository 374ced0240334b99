"""The ports of EXPOSE."""

from __future__ import annotations

import pytest

from podpy.build import ports


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("80", ["80/tcp"]),
        ("80/", ["80/tcp"]),
        ("80/tcp", ["80/tcp"]),
        ("80/UDP", ["80/udp"]),
        ("80/sctp", ["80/sctp"]),
        ("80-82/udp", ["80/udp", "81/udp", "82/udp"]),
        ("65535", ["65535/tcp"]),
        ("080", ["80/tcp"]),
        # What only publishing is about.
        ("8080:80", ["80/tcp"]),
        ("127.0.0.1:8080:80/udp", ["80/udp"]),
        ("127.0.0.1::80", ["80/tcp"]),
        ("[::1]:80:80", ["80/tcp"]),
        ("::1:80:80", ["80/tcp"]),
        ("8080-8090:80", ["80/tcp"]),
        ("8080-8081:80-81", ["80/tcp", "81/tcp"]),
    ],
)
def test_keys(text: str, expected: list[str]) -> None:
    assert ports.keys(text) == expected
