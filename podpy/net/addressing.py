"""Addresses as texts: an IPv6 address has colons, and nothing else of an IPv4 one differs."""

from __future__ import annotations

import _socket

#: By family: what a default route leads to.
EVERYTHING = {_socket.AF_INET: "0.0.0.0/0", _socket.AF_INET6: "::/0"}


def family(text: str) -> int:
    """The address family of an address or a subnet."""
    return _socket.AF_INET6 if ":" in text else _socket.AF_INET


def packed(address: str) -> bytes:
    """An address as packets and the kernel have it."""
    return _socket.inet_pton(family(address), address)
