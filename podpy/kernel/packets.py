"""Packets over ``SOCK_SEQPACKET`` sockets: bytes and descriptors, whole or not at all.

The kernel refuses packets that are larger than the sender's buffer, and cuts
those that the receiver has no room for.  A large one goes in a memory file
instead, whose descriptor is the packet's last: no number of published ports, no
length of a name can be too much.

Built into lean supervisors: it imports what the interpreter has built in.
"""

from __future__ import annotations

import _socket
import errno
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

INLINE = 1 << 16  # bytes that travel in the packet itself
_IN_FILE = b"\0"  # stands for a packet in a file: neither JSON nor marshal begins so
_DESCRIPTORS = 24
_INT = 4


def send(channel: _socket.socket, packet: bytes, fds: Sequence[int] = (), flags: int = 0) -> None:
    """Send one packet; ``OSError`` when the other end is gone."""
    if len(packet) <= INLINE:
        _send(channel, packet, fds, flags)
        return
    file = posix.memfd_create("packet", posix.MFD_CLOEXEC)
    try:
        posix.write(file, packet)
        _send(channel, _IN_FILE, (*fds, file), flags)
    finally:
        posix.close(file)


def _send(channel: _socket.socket, packet: bytes, fds: Sequence[int], flags: int) -> None:
    ancillary = []
    if fds:
        packed = b"".join(fd.to_bytes(_INT, sys.byteorder) for fd in fds)
        ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, packed)]
    channel.sendmsg([packet], ancillary, flags | _socket.MSG_NOSIGNAL)


def receive(channel: _socket.socket, flags: int = 0) -> tuple[bytes, list[int]]:
    """The next packet and its descriptors; an empty one at the end of the connection.

    ``OSError`` where this process can have no more descriptors: the packet is lost.
    """
    try:
        packet, ancillary, flags, _ = channel.recvmsg(
            INLINE, _socket.CMSG_SPACE(_DESCRIPTORS * _INT), flags | _socket.MSG_CMSG_CLOEXEC
        )
    except ConnectionError:
        return b"", []
    fds = []
    for level, kind, data in ancillary:
        if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
            ends = range(_INT, len(data) + 1, _INT)
            fds += [int.from_bytes(data[end - _INT : end], sys.byteorder) for end in ends]
    if flags & _socket.MSG_CTRUNC:
        for fd in fds:
            posix.close(fd)
        raise OSError(errno.EMFILE, "too many open files")
    return (_content(fds.pop()), fds) if packet == _IN_FILE else (packet, fds)


def _content(file: int) -> bytes:
    try:
        return posix.pread(file, posix.fstat(file).st_size, 0)
    finally:
        posix.close(file)
