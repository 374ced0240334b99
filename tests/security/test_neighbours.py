"""What a container on a network does to its neighbours there."""

from __future__ import annotations

import time

import pytest

from support import guest
from support.podpy import Podpy

pytestmark = pytest.mark.needs("slirp4netns", "/dev/net/tun")

#: "I am your router, and this is your prefix", to everybody on the network (RFC 4861).
ADVERTISER = """
import socket, struct, time
link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
link.bind(("eth0", 0))
mac = link.getsockname()[4]
me = b"\\xfe\\x80" + bytes(6) + bytes([mac[0] ^ 2]) + mac[1:3] + b"\\xff\\xfe" + mac[3:]
everybody = socket.inet_pton(socket.AF_INET6, "ff02::1")
body = struct.pack(">BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0)
body += struct.pack(">BBBBIII16s", 3, 4, 64, 0xC0, 9000, 9000, 0,
                    socket.inet_pton(socket.AF_INET6, "2001:db8:bad::"))
data = me + everybody + struct.pack(">II", len(body), 58) + body
total = sum(struct.unpack(f">{len(data) // 2}H", data))
while total >> 16:
    total = (total & 0xFFFF) + (total >> 16)
body = body[:2] + struct.pack(">H", ~total & 0xFFFF) + body[4:]
packet = struct.pack(">IHBB", 6 << 28, len(body), 58, 255) + me + everybody + body
for turn in range(5):
    link.send(b"\\x33\\x33\\0\\0\\0\\1" + mac + b"\\x86\\xdd" + packet)
    time.sleep(0.1)
print("advertised")
"""


def test_no_neighbour_is_a_router(podpy: Podpy, busybox: str) -> None:
    """CVE-2020-10749, CVE-2020-13401: forged advertisements led containers' packets astray."""
    podpy("network", "create", "--ipv6", "town")
    podpy("run", "-d", "--name", "victim", "--network", "town", busybox, "sleep", "1000")
    before = podpy("exec", "victim", "ip", "-6", "route").stdout
    words = ["--network", "town", "--cap-add", "NET_RAW", *guest.with_python(), busybox]
    assert podpy("run", "--rm", *words, *guest.script(ADVERTISER)).text == "advertised"
    time.sleep(0.5)
    routes = podpy("exec", "victim", "ip", "-6", "route").stdout
    addresses = podpy("exec", "victim", "ip", "-6", "address").stdout
    assert routes == before and "2001:db8:bad" not in addresses
