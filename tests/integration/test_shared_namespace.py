"""The kernel's part of bridge networks, without a container: netlink from outside, the inner child.

Every namespace here is made by the test's own user and is gone with its processes.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from podpy.errors import Conflict, HostError
from podpy.kernel import netlink
from podpy.kernel.netlink import Route, Rule, Veth
from podpy.net.inner import Inner
from podpy.net.segment import Segment
from podpy.netmodel import Attachment, Network, Subnet

NETWORK = Network(
    name="blue",
    id="b" * 64,
    created=1.0,
    interface="podpy7",
    subnets=(
        Subnet(subnet="10.99.0.0/24", gateway="10.99.0.1"),
        Subnet(subnet="fd99::/64", gateway="fd99::1"),
    ),
)


@pytest.fixture
def inner() -> Iterator[Inner]:
    made = Inner.create()
    yield made
    made.close()


@pytest.fixture
def other() -> Iterator[Inner]:
    """Stands in for a container: a network namespace of another user namespace."""
    made = Inner.create()
    yield made
    made.close()


def shown(inner: Inner, *words: str) -> str:
    return inner.run(["/sbin/ip", *words])


def test_a_namespace_is_entered_again_after_its_first_process_has_gone(inner: Inner) -> None:
    inner.route.add_bridge("kept0", 1500)
    pinned = os.dup(inner.netns)
    first = Inner.create()  # another one, so that a mix-up would show
    second = Inner.enter(pinned)
    try:
        assert second.route.index("kept0")
        assert not first.route.index("kept0")
    finally:
        first.close()
        second.close()
        os.close(pinned)


def test_the_inner_child_has_no_descriptor_of_its_parents() -> None:
    with socket.socket() as ours:
        made = Inner.create()
        listed = f"/proc/{made.pid}/fd"
        held = {os.readlink(f"{listed}/{fd}") for fd in os.listdir(listed)}
        made.close()
        assert f"socket:[{os.fstat(ours.fileno()).st_ino}]" not in held


def test_sockets_come_from_inside(inner: Inner) -> None:
    made = inner.open(socket.AF_INET, socket.SOCK_STREAM, bind=("127.0.0.1", 53), listen=1)
    assert made.getsockname() == ("127.0.0.1", 53)
    made.close()
    with socket.socket() as here, pytest.raises(OSError):
        here.bind(("127.0.0.1", 53))  # what an ordinary user may not, outside


def test_a_foreign_address_needs_a_transparent_socket(inner: Inner) -> None:
    with pytest.raises(OSError):
        inner.open(socket.AF_INET, socket.SOCK_STREAM, bind=("192.0.2.77", 1234))
    made = inner.open(
        socket.AF_INET, socket.SOCK_STREAM, bind=("192.0.2.77", 1234), transparent=True
    )
    assert made.getsockname() == ("192.0.2.77", 1234)
    made.close()


def test_a_program_that_fails_inside_says_why(inner: Inner) -> None:
    with pytest.raises(HostError, match="ip: "):
        inner.run(["/sbin/ip", "link", "show", "nothing0"])


def test_a_veth_pair_joins_namespaces_of_two_users(inner: Inner, other: Inner) -> None:
    """What the host's side does, it does from outside both, without a capability."""
    inner.route.add_bridge("br0", 1400)
    master = inner.route.index("br0")
    inner.route.add_veth(
        Veth(
            name="v0", master=master, mtu=1400, peer="eth5",
            peer_mac="02:42:0a:00:00:09", peer_namespace=other.netns,
        )
    )  # fmt: skip
    index = other.route.index("eth5")
    other.route.set_up(index)
    other.route.add_address(index, "10.1.0.9", 24)
    other.route.add_address(index, "fd01::9", 64)
    other.route.add_route("0.0.0.0/0", gateway="10.1.0.1")
    assert "master br0" in shown(inner, "link", "show", "v0")
    inside = shown(other, "addr", "show", "eth5")
    assert "mtu 1400" in inside and "02:42:0a:00:00:09" in inside
    assert "10.1.0.9/24 brd 10.1.0.255" in inside and "fd01::9/64" in inside
    assert "tentative" not in inside.partition("fd01::9")[2].splitlines()[0]
    assert other.route.default_gateways() == [(index, "10.1.0.1")]
    assert "10.1.0.0/24" in other.route.subnets()
    with pytest.raises(FileExistsError):
        inner.route.add_bridge("br0", 1400)


def test_rules_come_and_go(inner: Inner) -> None:
    inner.route.add_bridge("br0", 1500)
    rule = Rule(
        family=socket.AF_INET, table=4711, priority=99, interface="br0", source="10.1.0.2",
        protocol=socket.IPPROTO_TCP, source_port=80,
    )  # fmt: skip
    inner.route.add_rule(rule)
    assert "99:\tfrom 10.1.0.2 iif br0 ipproto tcp sport 80 lookup 4711" in shown(inner, "rule")
    inner.route.remove_rule(rule)
    assert "4711" not in shown(inner, "rule")
    inner.route.remove_rule(rule)  # gone already: no error


def test_an_absent_interface_has_no_index(inner: Inner) -> None:
    assert inner.route.index("nothing0") == 0
    assert inner.route.index("lo") == netlink.LOOPBACK_INDEX


# --- segments ----------------------------------------------------------------


def test_a_segment_is_taken_over_as_it_stands(inner: Inner) -> None:
    first = Segment(NETWORK, inner.route, 1500)
    second = Segment(NETWORK, inner.route, 1500)
    assert second.index == first.index
    assert shown(inner, "rule").count("iif podpy7") == 2  # its own addresses, and the rest


def test_leases_are_by_wish_or_in_turn(inner: Inner) -> None:
    segment = Segment(NETWORK, inner.route, 1500)
    one = segment.lease("one", Attachment(network="blue"))
    two = segment.lease("two", Attachment(network="blue", ip="10.99.0.50", ip6="fd99::77"))
    three = segment.lease("three", Attachment(network="blue", mac="02:00:00:00:00:07"))
    assert (one.address, one.prefix, one.gateway) == ("10.99.0.2", 24, "10.99.0.1")
    assert (one.address6, one.prefix6, one.gateway6) == ("fd99::2", 64, "fd99::1")
    assert one.mac == "02:42:0a:63:00:02"
    assert (two.address, two.address6) == ("10.99.0.50", "fd99::77")
    assert (three.address, three.mac) == ("10.99.0.3", "02:00:00:00:00:07")


def test_networks_are_unreachable_for_each_other(inner: Inner) -> None:
    blue = Segment(NETWORK, inner.route, 1500)
    red = Segment(_network("red", "podpy8", "10.98.0.0/24"), inner.route, 1500)
    for one, another in ((blue, red), (red, blue)):
        one.keep_from(another)
    assert "unreachable 10.98.0.0/24" in _table(inner, blue)
    assert "unreachable 10.99.0.0/24" in _table(inner, red)
    red.remove()
    blue.forget(red)
    assert "10.98.0.0/24" not in _table(inner, blue)
    assert not inner.route.index("podpy8")


def test_two_open_networks_reach_each_other(inner: Inner) -> None:
    one = Segment(_network("one", "podpy8", "10.98.0.0/24", isolate=False), inner.route, 1500)
    two = Segment(_network("two", "podpy9", "10.97.0.0/24", isolate=False), inner.route, 1500)
    one.keep_from(two)
    assert "10.97.0.0/24 dev podpy9" in _table(inner, one)


def test_an_internal_network_has_no_way_out(inner: Inner) -> None:
    segment = Segment(
        _network("inside", "podpy8", "10.98.0.0/24", internal=True), inner.route, 1500
    )
    segment.lead_out(("10.98.0.1",), segment.index)
    table = _table(inner, segment)
    assert "unreachable default" in table
    assert "via" not in table


def test_an_address_is_leased_once(inner: Inner) -> None:
    segment = Segment(NETWORK, inner.route, 1500)
    segment.lease("one", Attachment(network="blue", ip="10.99.0.9"))
    with pytest.raises(Conflict, match=r"10\.99\.0\.9 is in use"):
        segment.lease("two", Attachment(network="blue", ip="10.99.0.9"))
    segment.release("one")
    assert segment.lease("two", Attachment(network="blue", ip="10.99.0.9")).address == "10.99.0.9"


def _network(name: str, interface: str, subnet: str, **more: bool) -> Network:
    gateway = subnet.replace(".0/24", ".1")
    return Network(
        name=name, id=name * 8, created=1.0, interface=interface,
        subnets=(Subnet(subnet=subnet, gateway=gateway),), **more,
    )  # fmt: skip


def _table(inner: Inner, segment: Segment) -> str:
    return shown(inner, "route", "show", "table", str(segment.table))


def test_a_route_says_what_the_kernel_refuses() -> None:
    route = Route.open()
    try:
        with pytest.raises(OSError, match="netlink: "):
            route.add_bridge("notours0", 1500)  # in the host's own namespace
    finally:
        route.close()
