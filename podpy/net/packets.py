"""Packets between the processes of the network: a JSON object and descriptors.

The sockets are ``SOCK_SEQPACKET``: a packet arrives whole or not at all.
"""

from __future__ import annotations

import _socket

from podpy import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

LIMIT = 1 << 17  # bytes of one packet
_DESCRIPTORS = 16
_INT = 4


def send(channel: _socket.socket, packet: dict[str, Any], fds: Sequence[int] = ()) -> None:
    """Send one packet; ``OSError`` when the other end is gone."""
    send_bytes(channel, files.dumps(packet).encode(), fds)


def send_bytes(channel: _socket.socket, packet: bytes, fds: Sequence[int] = ()) -> None:
    ancillary = []
    if fds:
        packed = b"".join(fd.to_bytes(_INT, "little") for fd in fds)
        ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, packed)]
    channel.sendmsg([packet], ancillary, _socket.MSG_NOSIGNAL)


def receive(channel: _socket.socket) -> tuple[dict[str, Any], list[int]]:
    """The next packet and its descriptors; an empty one at the end."""
    packet, fds = receive_bytes(channel)
    return (files.loads(packet) if packet else {}), fds


def receive_bytes(channel: _socket.socket) -> tuple[bytes, list[int]]:
    try:
        packet, ancillary, _, _ = channel.recvmsg(
            LIMIT, _socket.CMSG_SPACE(_DESCRIPTORS * _INT), _socket.MSG_CMSG_CLOEXEC
        )
    except ConnectionError:
        return b"", []
    fds = []
    for level, kind, data in ancillary:
        if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
            fds += [
                int.from_bytes(data[i : i + _INT], "little")
                for i in range(0, len(data) - _INT + 1, _INT)
            ]
    return packet, fds
