"""Where the gateways of bridge networks answer questions about names.

A datagram socket is held by every container's supervisor besides the resolver
that reads it: when the network supervisor is killed, questions wait in the
socket for the next one.  Without that the kernel would refuse them, and a
client would ask again only after seconds.
"""

from __future__ import annotations

import _socket
import os

from podpy.net import addressing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from podpy.net.inner import Inner
    from podpy.netmodel import Network

PORT = 53
_QUEUE = 64
_NAME_LIMIT = 16  # IFNAMSIZ


class Gateways:
    """The resolver's sockets, by network; those offered by supervisors are taken first."""

    def __init__(self, inner: Inner) -> None:
        self._inner = inner
        self._offered: dict[tuple[str, str], _socket.socket] = {}
        self._datagrams: dict[str, list[_socket.socket]] = {}

    def offer(self, fds: Iterable[int]) -> None:
        """Sockets that a container's supervisor kept; what is here already is closed."""
        for fd in fds:
            kept = _socket.socket(fileno=fd)
            if _key(kept) in self._offered or _key(kept) in self._served():
                kept.close()
            else:
                self._offered[_key(kept)] = kept

    def open(self, network: Network) -> list[_socket.socket]:
        """A datagram and a listening socket for each gateway, for this bridge's containers only."""
        opened = []
        for gateway in (each.gateway for each in network.subnets if each.gateway):
            kept = self._offered.pop((network.interface, gateway), None)
            datagrams = kept or self._open(network, _socket.SOCK_DGRAM, gateway)
            self._datagrams.setdefault(network.name, []).append(datagrams)
            opened += [datagrams, self._open(network, _socket.SOCK_STREAM, gateway)]
        return opened

    def of(self, networks: Iterable[str]) -> list[int]:
        """The descriptors that a container's supervisor keeps."""
        return [each.fileno() for name in networks for each in self._datagrams.get(name, ())]

    def forget(self, network: str) -> None:
        """The resolver has closed a network's sockets."""
        self._datagrams.pop(network, None)

    def settle(self) -> None:
        """Everybody who can come back has: close what nobody needs."""
        while self._offered:
            self._offered.popitem()[1].close()

    def _open(self, network: Network, kind: int, gateway: str) -> _socket.socket:
        return self._inner.open(
            addressing.family(gateway),
            kind,
            device=network.interface,
            bind=(gateway, PORT),
            listen=_QUEUE if kind == _socket.SOCK_STREAM else 0,
        )

    def _served(self) -> set[tuple[str, str]]:
        return {_key(each) for sockets in self._datagrams.values() for each in sockets}


def _key(bound: _socket.socket) -> tuple[str, str]:
    device = bound.getsockopt(_socket.SOL_SOCKET, _socket.SO_BINDTODEVICE, _NAME_LIMIT)
    return os.fsdecode(device.rstrip(b"\0")), bound.getsockname()[0]
