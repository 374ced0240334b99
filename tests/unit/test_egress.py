"""Egress policies without a kernel: what rules mean, what answers open, what is told."""

from __future__ import annotations

import socket
import struct

import pytest

from podpy.engine import egress
from podpy.errors import UsageError
from podpy.kernel.loop import Loop
from podpy.kernel.nftables import Batch
from podpy.net import allowance, resolv, ruleset
from podpy.net.allowance import Group
from podpy.net.denials import MOST, Denials, destination
from podpy.net.ruleset import Plug
from podpy.netmodel import Denial, Egress, Network
from podpy.records import replace


def groups(*rules: str) -> dict[int, Group]:
    return {group.port: group for group in allowance.groups(Egress(rules=rules))}


def plug(**changes: object) -> Plug:
    values: dict[str, object] = {
        "device": "v12345678.0",
        "index": 4,
        "mac": bytes.fromhex("02420a580007"),
        "bridge_mac": bytes.fromhex("024200000001"),
        "address": "10.88.0.7",
        "gateway": "10.88.0.1",
    }
    return Plug(**{**values, **changes})  # type: ignore[arg-type]


# --- rules -------------------------------------------------------------------


def test_rules_are_grouped_by_port() -> None:
    found = groups("example.org", "example.org:443", "*.example.net:443", "10.1.0.0/16:443",
                   "192.0.2.7", "fd00::7", "[2001:db8::/32]:53")  # fmt: skip
    assert sorted(found) == [0, 53, 443]
    assert found[0].hosts == {"example.org"}
    assert [str(each) for each in found[0].ranges] == ["192.0.2.7/32", "fd00::7/128"]
    assert found[443].hosts == {"example.org"} and found[443].domains == (".example.net",)
    assert [str(each) for each in found[443].ranges] == ["10.1.0.0/16"]
    assert [str(each) for each in found[53].ranges] == ["2001:db8::/32"]


def test_no_rules_are_no_groups() -> None:
    assert groups() == {}


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("example.org", True),
        ("EXAMPLE.org.", True),
        ("a.example.net", True),
        ("a.b.example.net", True),
        ("example.net", False),
        ("notexample.net", False),
        ("a.example.org", False),
        ("example.org.evil.test", False),
        ("a.example.net.evil.test", False),
        ("", False),
        (".example.net", True),  # no resolver has such a name
    ],
)
def test_names(name: str, allowed: bool) -> None:
    (group,) = groups("example.org", "*.example.net").values()
    assert group.names(allowance.plain(name)) is allowed


@pytest.mark.parametrize(
    ("address", "exact", "wildcard"),
    [
        ("192.0.2.7", True, True),
        ("2001:db8::7", True, True),
        ("10.1.2.3", True, False),
        ("172.31.0.1", True, False),
        ("192.168.1.1", True, False),
        ("100.64.0.1", True, False),
        ("fd12::1", True, False),
        ("64:ff9b::10.1.2.3", True, False),
        ("2002:0a01:0203::1", True, False),
        ("127.0.0.1", False, False),
        ("0.0.0.0", False, False),
        ("169.254.169.254", False, False),
        ("224.0.0.251", False, False),
        ("255.255.255.255", False, False),
        ("::1", False, False),
        ("::ffff:127.0.0.1", False, False),
        ("::7f00:1", False, False),
        ("fe80::1", False, False),
        ("ff02::1", False, False),
        ("fd00::3", False, False),  # slirp4netns
    ],
)
def test_what_an_answer_opens(address: str, exact: bool, wildcard: bool) -> None:
    (group,) = groups("host.test", "*.host.test").values()
    parsed = allowance.parse(address)
    assert group.may_open("host.test", parsed) is exact
    assert group.may_open("a.host.test", parsed) is wildcard


def test_intervals_are_sorted_and_joined() -> None:
    (group,) = groups("10.0.1.0/24", "10.0.0.0/24", "10.0.0.128/25", "10.9.0.0/16").values()
    low = int.from_bytes(socket.inet_aton("10.0.0.0"), "big")
    high = int.from_bytes(socket.inet_aton("10.9.0.0"), "big")
    assert group.intervals(4) == [(low, low + 511), (high, high + 65535)]
    assert group.intervals(6) == []


NAMED = Network(name="named", id="a" * 64, created=1.0)
SILENT = Network(name="silent", id="b" * 64, created=1.0, dns=False)
HOSTS = [("10.1.2.3", ("API", "backend")), ("fd00::9", ("api",))]


def test_the_containers_own_hosts_file_counts() -> None:
    """Nobody asks a resolver for what stands there."""
    rules = Egress(rules=("api:443", "backend", "other.test", "10.0.0.0/8:1", "[fd00::/8]:2"))
    found = egress.in_force(rules, HOSTS, [NAMED]).rules
    assert found == (*rules.rules, "10.1.2.3:443", "[fd00::9]:443", "10.1.2.3")


def test_names_ask_for_a_resolver() -> None:
    addresses = Egress(rules=("api:443", "10.0.0.0/8", "192.0.2.1:5", "fd00::7", "[fd00::]:7"))
    assert egress.in_force(addresses, HOSTS, [SILENT]).rules[:5] == addresses.rules
    assert egress.in_force(Egress(), (), [SILENT]) == Egress()
    named = Egress(rules=("example.org:443",))
    assert egress.in_force(named, (), [SILENT, NAMED]) == named
    for rules in (named, Egress(rules=("*.org",))):
        with pytest.raises(UsageError, match="none of the container's networks resolves names"):
            egress.in_force(rules, HOSTS, [SILENT])


def test_the_hosts_own_name_needs_no_resolver() -> None:
    opened = replace(SILENT, host_loopback=True)
    named = Egress(rules=("host.containers.internal:80",))
    assert egress.in_force(named, (), [opened]) == named
    found = allowance.with_hosts(named, [("10.0.3.2", resolv.HOST_NAMES)])
    assert found.rules == ("host.containers.internal:80", "10.0.3.2:80")


# --- tables ------------------------------------------------------------------


def test_tables_are_named_by_container_and_rules() -> None:
    container = "ab" * 32
    first, same, other = (
        ruleset.table(container, allowance.groups(Egress(rules=rules)))
        for rules in (("a.test:1",), ("b.test:1",), ("a.test:2",))
    )
    assert first == same != other  # which names it is about is for the resolver to know
    assert all(ruleset.is_ours(each) for each in (first, other))
    assert first.startswith(ruleset.prefix(container))
    assert not first.startswith(ruleset.prefix("cd" * 32))


def test_chains_are_named_by_all_that_is_in_them() -> None:
    names = {plug(**change).name for change in (
        {}, {"index": 5}, {"address": "10.88.0.8"}, {"mac": bytes(6)}, {"bridge_mac": bytes(6)},
        {"address6": "fd00::8"}, {"gateway": ""},
    )}  # fmt: skip
    assert len(names) == 7
    assert ruleset.devices(plug().chains) == {"v12345678.0"}


def test_link_local_addresses_are_made_as_the_kernel_makes_them() -> None:
    assert plug().link_local == socket.inet_pton(socket.AF_INET6, "fe80::42:aff:fe58:7")


def test_what_is_right_is_left_alone() -> None:
    one, two = plug(), plug(device="v12345678.1", index=5)
    batch = Batch("t")
    ruleset.change_plugs(batch, one.chains, [one])
    assert list(batch.parts()) == []
    ruleset.change_plugs(batch, (*one.chains, "policy4"), [two])
    (part,) = batch.parts()
    assert one.name.encode() in part and two.name.encode() in part and b"policy4" in part


def test_a_large_policy_goes_in_parts() -> None:
    batch = Batch("t")
    ranges = tuple(f"10.{n // 250}.{n % 250}.0/25" for n in range(3000))
    found = allowance.groups(Egress(rules=ranges))
    ruleset.add_policy(batch, found, allowance.CLOSED, "name")
    parts = list(batch.parts())
    assert len(parts) > 1 and all(len(part) < 1 << 17 for part in parts)
    for whole in parts:  # whole netlink messages, the kernel's limit of an attribute kept
        part = whole
        while part:
            (length,) = struct.unpack_from("=I", part)
            assert 20 <= length < 1 << 16
            part = part[(length + 3) & ~3 :]


# --- denials -----------------------------------------------------------------

IPV4 = bytes.fromhex("45000028000040004006000cc0000201c6336407")
IPV6 = bytes.fromhex("6000000000141140") + bytes(16) + socket.inet_pton(10, "2001:db8::9")


@pytest.mark.parametrize(
    ("packet", "found"),
    [
        (IPV4 + b"\x9c\x40\x01\xbb", ("198.51.100.7", 443, "tcp")),
        (IPV4, ("198.51.100.7", 0, "tcp")),
        (IPV4[:9] + b"\x01" + IPV4[10:] + b"\x08\0\x12\x34", ("198.51.100.7", 0, "icmp")),
        (IPV4[:9] + b"\x2f" + IPV4[10:] + bytes(8), ("198.51.100.7", 0, "47")),
        (IPV6 + b"\x9c\x40\x00\x35", ("2001:db8::9", 53, "udp")),
        (IPV4[:19], None),
        (b"", None),
        (b"\x10" * 40, None),
    ],
)
def test_destinations_of_packets(packet: bytes, found: tuple[str, int, str] | None) -> None:
    assert destination(packet) == found


def test_denials_are_counted_bounded_and_told_together() -> None:
    loop, told = Loop(), list[tuple[str, tuple[Denial, ...]]]()
    denials = Denials(loop, lambda container, denied: told.append((container, denied)))
    known = Denial(destination="192.0.2.1", port=80, protocol="tcp", count=7)
    denials.begin("caged", "caged", [known])
    denials.add("caged", "192.0.2.1", 80, "tcp")
    denials.add("somebody", "192.0.2.1", 80, "tcp")
    for port in range(1, 200):
        denials.add("caged", "192.0.2.2", port, "udp")
    denials.add("caged", "192.0.2.2", 199, "udp")
    while not told:
        loop.turn(2)
    loop.turn(0)
    ((container, denied),) = told
    assert container == "caged" and len(denied) == MOST
    assert (denied[-1].port, denied[-1].count) == (199, 2)
    denials.begin("again", "again", [known])
    denials.add("again", "192.0.2.1", 80, "tcp")
    while len(told) < 2:
        loop.turn(2)
    assert [each.count for each in told[1][1]] == [8]


def test_what_waits_is_told_at_once_for_a_container_that_goes() -> None:
    loop, told = Loop(), list[tuple[str, int]]()
    denials = Denials(loop, lambda container, denied: told.append((container, len(denied))))
    denials.begin("caged", "caged")
    denials.begin("quiet", "quiet")
    denials.add("caged", "name.test", protocol="dns")
    denials.flush("caged")
    denials.flush("quiet")
    assert told == [("caged", 1)]
    denials.end("caged")
    loop.turn(1.2)
    assert told == [("caged", 1)]


def test_nothing_is_told_of_a_container_that_has_gone() -> None:
    loop, told = Loop(), list[str]()
    denials = Denials(loop, lambda container, _: told.append(container))
    denials.begin("caged", "caged")
    denials.add("caged", "name.test", protocol="dns")
    denials.end("caged")
    loop.turn(1.2)
    assert told == []
