"""Packets between the processes of the network: a JSON object and descriptors."""

from __future__ import annotations

from podpy import files
from podpy.kernel import packets

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Sequence
    from typing import Any


def send(channel: _socket.socket, packet: dict[str, Any], fds: Sequence[int] = ()) -> None:
    """Send one packet; ``OSError`` when the other end is gone."""
    packets.send(channel, files.dumps(packet).encode(), fds)


def receive(channel: _socket.socket, flags: int = 0) -> tuple[dict[str, Any], list[int]]:
    """The next packet and its descriptors; an empty one at the end."""
    packet, fds = packets.receive(channel, flags)
    return (files.loads(packet) if packet else {}), fds
