"""What the kernel cannot do between libslirp and containers with IPv6 addresses.

libslirp asks whose an address is (RFC 4861).  The kernel would answer by itself
(``proxy_ndp``), but with an address of its own as the sender, and libslirp
remembers the sender as the neighbour rather than the one it has asked for.  So
the answer is made here, in the name of the address in question.

libslirp tells that a destination cannot be reached (RFC 4443) under its
link-local address, and such packets are not forwarded.  So the news is told
again, by this side: programs try IPv4 at once instead of after minutes.

IPv4 needs none of this.
"""

from __future__ import annotations

import _socket
from _struct import pack, unpack

from podpy.errors import suppress
from podpy.kernel import libc
from podpy.kernel.loop import IN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podpy.kernel.loop import Loop
    from podpy.net.inner import Inner

ETH_P_IPV6 = 0x86DD
SOLICITATION, ADVERTISEMENT = 135, 136
UNREACHABLE, TIME_EXCEEDED = 1, 3
_ETHERNET, _IPV6, _MESSAGE = 14, 40, 24
_LEAST = _ETHERNET + _IPV6 + _MESSAGE
_HOP_LIMIT = 255  # proves that a message has crossed no router
_SOLICITED_OVERRIDE = 0x60000000
_TARGET_ADDRESS = b"\x02\x01"  # option: our link-layer address, in units of 8 bytes
ICMP6_FILTER = 1  # of IPPROTO_ICMPV6: the types that a raw socket does not want to hear
# Classic BPF: next header is ICMPv6, and its type one of ours; the rest is not for us.
_FILTER = (
    (0x30, 0, 0, _ETHERNET + 6),
    (0x15, 0, 4, _socket.IPPROTO_ICMPV6),
    (0x30, 0, 0, _ETHERNET + _IPV6),
    (0x15, 3, 0, SOLICITATION),
    (0x15, 2, 0, UNREACHABLE),
    (0x15, 1, 0, TIME_EXCEEDED),
    (0x06, 0, 0, 0),
    (0x06, 0, 0, 2048),
)


class Neighbours:
    """Answers for ``addresses``, as they are at each time, on one device of the namespace."""

    def __init__(self, loop: Loop, inner: Inner, device: str, addresses: set[bytes]) -> None:
        self._addresses = addresses
        self._loop = loop
        self._packets = inner.open(_socket.AF_PACKET, _socket.SOCK_RAW, bind=(device, ETH_P_IPV6))
        self._packets.setblocking(False)
        libc.attach_filter(
            self._packets.fileno(), b"".join(pack("=HBBI", *each) for each in _FILTER)
        )
        self._mac: bytes = self._packets.getsockname()[4]
        self._errors = inner.open(_socket.AF_INET6, _socket.SOCK_RAW, _socket.IPPROTO_ICMPV6)
        self._errors.setblocking(False)
        self._errors.setsockopt(_socket.IPPROTO_ICMPV6, ICMP6_FILTER, b"\xff" * 32)
        loop.watch(self._packets.fileno(), IN, lambda _fd, _events: self._hear())

    def close(self) -> None:
        self._loop.forget(self._packets.fileno())
        self._packets.close()
        self._errors.close()

    def _hear(self) -> None:
        with suppress(BlockingIOError):
            while frame := self._packets.recv(2048):
                answer = advertisement(frame, self._addresses, self._mac)
                news, container = bad_news(frame, self._addresses)
                with suppress(OSError):  # nobody serves the device right now, or uses the address
                    if answer:
                        self._packets.send(answer)
                    if news:
                        self._errors.sendto(news, (container, 0))


def advertisement(frame: bytes, addresses: set[bytes], mac: bytes) -> bytes:
    """The answer to a neighbour solicitation for one of ``addresses``; else nothing."""
    if len(frame) < _LEAST or frame[_ETHERNET + 6] != _socket.IPPROTO_ICMPV6:
        return b""
    message = frame[_ETHERNET + _IPV6 :]
    target = message[8:24]
    if message[0] != SOLICITATION or target not in addresses:
        return b""
    asker = frame[_ETHERNET + 8 : _ETHERNET + 24]
    body = pack("!BBHI", ADVERTISEMENT, 0, 0, _SOLICITED_OVERRIDE)
    body += target + _TARGET_ADDRESS + mac
    pseudo = target + asker + pack("!II", len(body), _socket.IPPROTO_ICMPV6)
    body = body[:2] + pack("!H", _checksum(pseudo + body)) + body[4:]
    header = pack("!IHBB", 6 << 28, len(body), _socket.IPPROTO_ICMPV6, _HOP_LIMIT)
    ethernet = frame[6:12] + mac + pack("!H", ETH_P_IPV6)
    return ethernet + header + target + asker + body


def bad_news(frame: bytes, addresses: set[bytes]) -> tuple[bytes, str]:
    """An ICMPv6 error for one of ``addresses`` that nobody forwards, and for whom it is."""
    if len(frame) < _LEAST or frame[_ETHERNET + 6] != _socket.IPPROTO_ICMPV6:
        return b"", ""
    header, message = frame[_ETHERNET : _ETHERNET + _IPV6], frame[_ETHERNET + _IPV6 :]
    target = header[24:40]
    is_link_local = header[8] == 0xFE and header[9] & 0xC0 == 0x80
    if message[0] not in (UNREACHABLE, TIME_EXCEEDED) or not is_link_local:
        return b"", ""
    if target not in addresses:
        return b"", ""
    size: int = unpack("!H", header[4:6])[0]
    return message[:size], _socket.inet_ntop(_socket.AF_INET6, target)


def _checksum(data: bytes) -> int:
    """RFC 1071, of an even number of bytes."""
    total: int = sum(unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
