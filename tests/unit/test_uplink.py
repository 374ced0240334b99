"""The uplink's parts that need no namespace: what is chosen, who serves a port, NDP answers."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from podpy.errors import Conflict, UsageError
from podpy.kernel.loop import Loop
from podpy.net import carriers, neighbours, ports
from podpy.net.forward import Forwarder
from podpy.net.legs import Legs
from podpy.netmodel import PortMapping

V4, V6 = "127.0.0.1", "::1"
A, B = "a" * 64, "b" * 64


# --- the carrier -------------------------------------------------------------


@pytest.mark.parametrize(
    ("busy", "chosen"),
    [
        ([], "10.0.2.0/24"),
        (["192.0.2.0/24", "fd00::/64"], "10.0.2.0/24"),
        (["10.0.2.0/24"], "10.192.2.0/24"),  # the host is a guest of VirtualBox
        (["10.0.0.0/8"], "172.30.255.0/24"),
        (["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"], "10.0.2.0/24"),
    ],
)
def test_the_uplinks_subnet_hides_nothing_of_the_hosts(
    busy: list[str], chosen: str, tmp_path: Path
) -> None:
    carrier = carriers.choose("slirp4netns", (), str(tmp_path), busy)
    assert carrier.settings.cidr == chosen


def test_settings_of_slirp4netns_hold_for_the_uplink(tmp_path: Path) -> None:
    options = ("mtu=1400", "cidr=10.9.0.0/24", "enable_ipv6=false", "allow_host_loopback=true")
    carrier = carriers.choose("slirp4netns", options, str(tmp_path), ["10.9.0.0/24"])
    settings = carrier.settings
    assert (settings.mtu, settings.cidr, settings.is_shared) == (1400, "10.9.0.0/24", True)
    assert not carrier.has_ipv6
    assert not settings.allow_host_loopback, "the host's loopback, open to every network"
    again = carriers.revive(carrier.name, settings, str(tmp_path))
    assert (type(again), again.settings) == (type(carrier), settings)


@pytest.mark.parametrize(
    ("option", "forwards"),
    [
        ((), {"udp"}),
        (("port_handler=slirp4netns",), {"tcp", "udp"}),
        (("port_handler=rootlesskit",), set()),
    ],
)
def test_who_listens_on_published_ports(
    option: tuple[str, ...], forwards: set[str], tmp_path: Path
) -> None:
    carrier = carriers.choose("slirp4netns", option, str(tmp_path), ())
    for each in (carrier, carriers.revive(carrier.name, carrier.settings, str(tmp_path))):
        found = {
            protocol
            for protocol in ("tcp", "udp")
            if each.forwarding
            and each.forwarding.can(
                PortMapping(container_port=80, host_port=80, protocol=protocol), "10.88.0.2"
            )
        }
        assert found == forwards


@pytest.mark.parametrize(
    ("host", "protocol", "address", "can"),
    [
        ("0.0.0.0", "tcp", "10.88.0.2", True),
        ("127.0.0.1", "tcp", "10.88.0.2", True),
        ("0.0.0.0", "udp", "10.88.0.2", True),
        ("127.0.0.1", "udp", "10.88.0.2", False),
        ("::", "tcp", "10.88.0.2", False),
        ("0.0.0.0", "tcp", "fd77::2", False),
    ],
)
def test_what_slirp4netns_forwards_by_itself(
    host: str, protocol: str, address: str, can: bool
) -> None:
    mapping = PortMapping(container_port=80, host_port=8080, host_ip=host, protocol=protocol)
    assert carriers.Forwarding("", ("tcp", "udp")).can(mapping, address) is can


# --- the legs of published ports ---------------------------------------------


class Here:
    """Opens sockets where we are; routes are not needed for the loopback."""

    route: Any = None

    def open(self, family: int, kind: int, protocol: int = 0, **_options: object) -> socket.socket:
        return socket.socket(family, kind, protocol)


@pytest.fixture
def legs() -> Iterator[Legs]:
    """Published ports that are all relayed; nothing is forwarded by a helper."""
    loop, inner = Loop(), Here()
    made = Legs(loop, inner, Forwarder(loop, inner), lambda: None)  # type: ignore[arg-type]
    yield made
    made.close()


def publish(
    legs: Legs, container: str, *texts: str, addresses: tuple[str, str] = (V4, V6)
) -> list[tuple[str, int, bool]]:
    mappings = [mapping for text in texts for mapping in ports.parse(text)]
    return [
        (each.host_ip, each.host_port, each.masked)
        for each in legs.publish(container, addresses, mappings)
    ]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((V4, 0))
        port: int = probe.getsockname()[1]
        return port


def listens(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), 2).close()
    except ConnectionRefusedError:
        return False
    return True


def test_a_port_has_a_number_before_anybody_needs_it(legs: Legs) -> None:
    ((host, port, masked),) = publish(legs, A, "127.0.0.1::80")
    assert (host, masked) == (V4, False)
    assert listens(V4, port)
    assert not listens(V6, port)
    legs.withdraw(A)
    assert not listens(V4, port)


def test_containers_of_the_other_family_have_masked_ports(legs: Legs) -> None:
    ((_, _, masked),) = publish(legs, A, "[::1]::80", addresses=("10.88.0.2", ""))
    assert masked


def test_the_holder_of_a_port_is_named(legs: Legs) -> None:
    port = free_port()
    publish(legs, A, f"127.0.0.1:{port}:80")
    with pytest.raises(Conflict, match=f"already allocated to container {A[:12]} "):
        publish(legs, B, f"127.0.0.1:{port}:80")
    assert publish(legs, B, f"127.0.0.2:{port}:80") == [("127.0.0.2", port, False)]


def test_all_ports_of_a_container_are_published_or_none(legs: Legs) -> None:
    first, second = free_port(), free_port()
    publish(legs, A, f"127.0.0.1:{second}:80")
    with pytest.raises(Conflict):
        publish(legs, B, f"127.0.0.1:{first}:80", f"127.0.0.1:{second}:80")
    assert not listens(V4, first)
    assert listens(V4, second), "the other container's port went too"


def test_a_port_cannot_be_published_twice(legs: Legs) -> None:
    port = free_port()
    with pytest.raises(UsageError, match="published twice"):
        publish(legs, A, f"127.0.0.1:{port}:80", f"127.0.0.1:{port}:81")


def test_ports_of_a_new_address_keep_their_numbers(legs: Legs) -> None:
    publish(legs, A, "127.0.0.1::80", "[::1]::81")
    before = legs.publish(B, (V4, V6), ports.parse("127.0.0.1::80"))
    assert legs.restore(B, (V4, V6), before) == before
    assert legs.restore(B, ("127.0.0.9", ""), before) == before
    assert listens(V4, before[0].host_port)
    assert legs.restore(B, ("", ""), before) == before
    assert not listens(V4, before[0].host_port), "it leads nowhere"


def test_a_port_that_is_taken_meanwhile_is_tried_for_again(
    legs: Legs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("podpy.net.legs._RETRY", 0.01)
    port = free_port()
    wanted = (PortMapping(container_port=80, host_port=port, host_ip=V4),)
    with socket.create_server((V4, port)):
        assert legs.restore(A, (V4, ""), wanted) == wanted
    legs._loop.turn(1)
    assert listens(V4, port)


# --- neighbour discovery -----------------------------------------------------

OURS, THEIRS = bytes.fromhex("023333330001"), bytes.fromhex("525600000002")
ASKER = socket.inet_pton(socket.AF_INET6, "fd00::2")


def solicitation(target: str, *, kind: int = 135) -> bytes:
    wanted = socket.inet_pton(socket.AF_INET6, target)
    body = struct.pack("!BBHI", kind, 0, 0, 0) + wanted + b"\1\1" + THEIRS
    group = socket.inet_pton(socket.AF_INET6, "ff02::1:ff00:0")[:13] + wanted[13:]
    header = struct.pack("!IHBB", 6 << 28, len(body), 58, 255) + ASKER + group
    return b"\x33\x33\xff" + wanted[13:] + THEIRS + b"\x86\xdd" + header + body


def test_an_address_is_answered_for_in_its_own_name() -> None:
    target = socket.inet_pton(socket.AF_INET6, "fd77::2")
    answer = neighbours.advertisement(solicitation("fd77::2"), {target}, OURS)
    assert answer[:14] == THEIRS + OURS + b"\x86\xdd"
    header, body = answer[14:54], answer[54:]
    assert struct.unpack("!IHBB", header[:8]) == (6 << 28, len(body), 58, 255)
    assert (header[8:24], header[24:40]) == (target, ASKER)
    assert (body[0], body[4] & 0x60, body[8:24]) == (136, 0x60, target)
    assert body[24:] == b"\2\1" + OURS
    total = sum(
        struct.unpack("!40H", header[8:40] + struct.pack("!II", len(body), 58) + body + bytes(8))
    )
    assert total % 0xFFFF == 0, "checksum"


def unreachable(sender: str, target: str, *, kind: int = 1) -> bytes:
    body = struct.pack("!BBHI", kind, 0, 0x1234, 0) + b"the packet that caused it"
    ends = b"".join(socket.inet_pton(socket.AF_INET6, each) for each in (sender, target))
    header = struct.pack("!IHBB", 6 << 28, len(body), 58, 255) + ends
    return OURS + THEIRS + b"\x86\xdd" + header + body + b"padding"


def test_bad_news_are_told_again() -> None:
    target = socket.inet_pton(socket.AF_INET6, "fd77::2")
    frame = unreachable("fe80::2", "fd77::2")
    news, container = neighbours.bad_news(frame, {target})
    assert (news, container) == (frame[54 : -len(b"padding")], "fd77::2")
    for other in (
        unreachable("2001:db8::1", "fd77::2"),  # the kernel forwards that one
        unreachable("fe80::2", "fd77::3"),
        unreachable("fe80::2", "fd77::2", kind=128),
        frame[:60],
        b"",
    ):
        assert neighbours.bad_news(other, {target}) == (b"", "")


@pytest.mark.parametrize(
    "frame",
    [
        solicitation("fd77::3"),
        solicitation("fd77::2", kind=136),
        solicitation("fd77::2")[:70],
        b"",
        bytes(100),
    ],
)
def test_nothing_else_is_answered(frame: bytes) -> None:
    target = socket.inet_pton(socket.AF_INET6, "fd77::2")
    assert neighbours.advertisement(frame, {target}, OURS) == b""
