"""The program that carries UDP between the host's loopback and a container's published ports.

It runs by itself in a bare interpreter, without the rest of podpy and without
any right: the sockets it works with are given to it (see :mod:`podpy.net.loopback`).

A pair of sockets serves a port: one on the host's loopback, one that was made
inside the container's network namespace.  Each client on the host is shown to
the container as an address of its own out of 127.0.0.0/8, all of which every
loopback has; so one inner socket serves every client, and an answer says by
its destination whose it is.
"""

from __future__ import annotations

import _socket
import select
from _struct import pack

IP_PKTINFO = 8  # ip(7): struct in_pktinfo, an interface and two addresses
_DATAGRAM = 65535
_FIRST = 127 << 24 | 1 << 16  # 127.1.0.0: no address that a server is bound to
_ADDRESSES = 1 << 16
_CLIENTS = 4096


class Port:
    """One published port: its two sockets and the clients seen there."""

    def __init__(self, outer: _socket.socket, inner: _socket.socket, target: tuple[str, int]):
        self.outer = outer
        self.inner = inner
        self._target = target
        self._next = 0
        self._addresses: dict[tuple[str, int], bytes] = {}
        self._clients: dict[bytes, tuple[str, int]] = {}

    def inward(self) -> None:
        """A client's datagram, to the container."""
        data, client = self.outer.recvfrom(_DATAGRAM)
        source = pack("=i4s4s", 0, self._address(client), b"\0\0\0\0")
        ancillary = [(_socket.IPPROTO_IP, IP_PKTINFO, source)]
        self.inner.sendmsg([data], ancillary, 0, self._target)

    def outward(self) -> None:
        """The container's answer, to its client."""
        data, ancillary, _, _ = self.inner.recvmsg(_DATAGRAM, 64)
        for level, kind, value in ancillary:
            if (level, kind) == (_socket.IPPROTO_IP, IP_PKTINFO):
                client = self._clients.get(bytes(value[8:12]))
                if client:
                    self.outer.sendto(data, client)

    def _address(self, client: tuple[str, int]) -> bytes:
        """The client's address inside; the client that was silent longest gives way."""
        address = self._addresses.pop(client, None)
        if address is None:
            if len(self._addresses) >= _CLIENTS:
                eldest = next(iter(self._addresses))
                del self._clients[self._addresses.pop(eldest)]
            address = (_FIRST + self._next).to_bytes(4, "big")
            self._next = (self._next + 1) % _ADDRESSES
            self._clients[address] = client
        self._addresses[client] = address
        return address


def serve(given: list[tuple[int, int, str, int]], exit_fd: int) -> None:
    """Relay until the other end of ``exit_fd`` is closed.

    ``given`` are outer and inner descriptor, target address and target port.
    """
    poll = select.poll()
    poll.register(exit_fd, 0)
    ready = {}
    for outer, inner, address, number in given:
        port = Port(_socket.socket(fileno=outer), _socket.socket(fileno=inner), (address, number))
        ready[outer], ready[inner] = port.inward, port.outward
        poll.register(outer, select.POLLIN)
        poll.register(inner, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd == exit_fd:
                return
            try:
                ready[fd]()
            except OSError:
                pass  # nobody listens there, or a datagram that is too long: UDP may lose it
