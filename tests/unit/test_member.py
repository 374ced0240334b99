"""A container as the network supervisor knows it."""

from __future__ import annotations

import _socket
import json
import marshal
import os
from collections.abc import Callable, Iterator

import pytest

from podpy.net.client import Registration
from podpy.net.member import Member
from podpy.netmodel import Attachment, Denial, Endpoint, Network
from podpy.records import replace, to_dict

ID = "0123456789ab" + "c" * 52
Make = Callable[..., Member]


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes a member on networks (name → whether internal); what it is told comes out of it."""
    made: list[tuple[Member, _socket.socket]] = []

    def member(*endpoints: Endpoint, **internal: bool) -> Member:
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        networks = tuple(
            {
                "network": to_dict(Network(name=name, id="", created=0.0, internal=closed)),
                "attachment": to_dict(Attachment(network=name)),
            }
            for name, closed in internal.items()
        )
        told = Registration(
            container=ID, name="web", networks=networks, endpoints=tuple(map(to_dict, endpoints))
        )
        route = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
        fds = (os.open("/", os.O_PATH), route.detach())
        made.append((Member(theirs, told, fds), ours))
        made[-1][0].waiting.append(ours)
        return made[-1][0]

    yield member
    for each, ours in made:
        each.close()
        ours.close()


@pytest.mark.parametrize(
    ("taken", "wanted", "given"),
    [
        ((), "", "eth0"),
        (("eth0",), "", "eth1"),
        (("eth0", "eth2"), "", "eth1"),
        (("lan", "eth0"), "", "eth1"),
        (("eth0",), "lan", "lan"),
    ],
)
def test_the_next_interface(make: Make, taken: tuple[str, ...], wanted: str, given: str) -> None:
    member = make(*(Endpoint(network=f"n{name}", interface=name) for name in taken))
    assert member.free_interface(wanted) == given


@pytest.mark.parametrize(("interface", "end"), [("eth0", ".0"), ("eth999", ".999")])
def test_the_other_end_of_an_interface(make: Make, interface: str, end: str) -> None:
    assert make().device(interface) == f"v01234567{end}"


@pytest.mark.parametrize("interface", ["eth1000", "lan", "abcdefghijklmno", "eth", "ethX"])
def test_the_other_end_has_a_name_that_the_kernel_takes(make: Make, interface: str) -> None:
    member = make()
    device = member.device(interface)
    assert device.startswith("v01234567.") and len(device) <= 15
    assert device == member.device(interface) != member.device("eth0")


def test_ports_lead_to_the_network_with_a_way_out(make: Make) -> None:
    closed = Endpoint(network="closed", address="10.1.0.2", address6="fd01::2")
    world = Endpoint(network="world", address="10.2.0.2")
    assert make(closed, world, closed=True, world=False).reached_at == ("10.2.0.2", "fd01::2")
    assert make(closed, closed=True).reached_at == ("10.1.0.2", "fd01::2")
    assert make().reached_at == ("", "")


def test_it_comes_back_with_what_it_wants_and_has(make: Make) -> None:
    member = make(Endpoint(network="one", address="10.1.0.2"), one=False, two=False)
    member.want(
        Network(name="three", id="3", created=0.0), Attachment(network="three", ip="1.2.3.4")
    )
    member.want(Network(name="one", id="", created=0.0), None)
    member.move(member.endpoints[0], replace(member.endpoints[0], address="10.1.0.9"))
    packet = json.loads(member.resume())
    assert packet["do"] == "resume"
    asked = [each["network"]["name"] for each in packet["registration"]["networks"]]
    assert asked == ["two", "three"]
    assert packet["registration"]["endpoints"][0]["address"] == "10.1.0.9"


def test_what_a_policy_refused_is_pushed_and_comes_back(make: Make) -> None:
    member = make()
    denied = Denial(destination="evil.example", protocol="dns", when=1.0)
    member.refuse((denied,))
    told = marshal.loads(member.waiting[0].recv(1 << 16))
    assert told["state"] == {"denied": [to_dict(denied)]}
    assert json.loads(told["resume"])["registration"]["denied"] == [to_dict(denied)]
    assert member.denied == (denied,)
