"""rtnetlink(7) in raw messages: what every container start needs, and no more.

A message is a 16-byte header, a fixed body, then attributes of a length, a
type and a value, each padded to four bytes.  pyroute2 does all of it and costs
110 ms to import.
"""

from __future__ import annotations

import _socket
import errno
import os
from _struct import calcsize, pack, unpack_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

NLMSG_ERROR = 2
NLMSG_DONE = 3
NLM_F_REQUEST = 1
NLM_F_ACK = 4
NLM_F_DUMP = 0x300

RTM_NEWLINK = 16
RTM_GETROUTE = 26

IFF_UP = 1
RTA_OIF = 4
RTA_GATEWAY = 5

LOOPBACK_INDEX = 1  # the first interface of every network namespace

_HEADER = "=IHHII"  # length, type, flags, sequence, port
_LINK = "=BxHiII"  # family, device type, index, flags, mask of changed flags
_ROUTE = "=BBBBBBBBI"  # family, two prefix lengths, tos, table, protocol, scope, type, flags
_HEADER_SIZE = calcsize(_HEADER)


def set_loopback_up() -> None:
    """Bring ``lo`` of the current network namespace up; it gets its addresses by itself."""
    body = pack(_LINK, _socket.AF_UNSPEC, 0, LOOPBACK_INDEX, IFF_UP, IFF_UP)
    for _ in _exchange(RTM_NEWLINK, NLM_F_ACK, body):
        pass


def default_gateways() -> list[tuple[int, str]]:
    """The default routes of the current namespace: interface index and gateway."""
    found = []
    body = pack(_ROUTE, _socket.AF_UNSPEC, 0, 0, 0, 0, 0, 0, 0, 0)
    for answer in _exchange(RTM_GETROUTE, NLM_F_DUMP, body):
        family, prefix = unpack_from("=BB", answer)
        values = _attributes(answer[calcsize(_ROUTE) :])
        if prefix == 0 and RTA_GATEWAY in values and RTA_OIF in values:
            index = unpack_from("=I", values[RTA_OIF])[0]
            found.append((index, _socket.inet_ntop(family, values[RTA_GATEWAY])))
    return found


def _exchange(kind: int, flags: int, body: bytes) -> Iterator[bytes]:
    """Send one request; the bodies of the answers.  ``OSError`` when the kernel refuses."""
    header = pack(_HEADER, _HEADER_SIZE + len(body), kind, NLM_F_REQUEST | flags, 1, 0)
    channel = _socket.socket(
        _socket.AF_NETLINK, _socket.SOCK_RAW | _socket.SOCK_CLOEXEC, _socket.NETLINK_ROUTE
    )
    try:
        # An explicit destination, the kernel: only then the rights that count are
        # the sender's and not those of whoever opened the socket.
        channel.sendto(header + body, (0, 0))
        while True:
            for answer, content in _messages(channel.recv(1 << 16)):
                if answer == NLMSG_ERROR:
                    _raise_error(content)
                    return
                if answer == NLMSG_DONE:
                    return
                yield content
    finally:
        channel.close()


def _messages(datagram: bytes) -> Iterator[tuple[int, bytes]]:
    while len(datagram) >= _HEADER_SIZE:
        length, kind, _, _, _ = unpack_from(_HEADER, datagram)
        if length < _HEADER_SIZE:
            raise OSError(errno.EBADMSG, "netlink: a message shorter than its header")
        yield kind, datagram[_HEADER_SIZE:length]
        datagram = datagram[_aligned(length) :]


def _raise_error(content: bytes) -> None:
    """An acknowledgement is an error message with the number 0."""
    number = -unpack_from("=i", content)[0]
    if number:
        raise OSError(number, f"netlink: {os.strerror(number)}")


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    while len(data) >= 4:
        length, kind = unpack_from("=HH", data)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[4:length]
        data = data[_aligned(length) :]
    return found


def _aligned(length: int) -> int:
    return (length + 3) & ~3
