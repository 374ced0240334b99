"""Addresses: what is chosen, what is refused, and that leases rotate."""

from __future__ import annotations

import pytest

from podpy.errors import Conflict, UsageError
from podpy.net import ipam
from podpy.netmodel import Subnet


def subnet(text: str, **more: object) -> Subnet:
    return ipam.with_gateway(Subnet(subnet=text, **more))  # type: ignore[arg-type]


# --- texts -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("10.1.2.3/24", "10.1.2.0/24"),
        ("10.1.2.3/32", "10.1.2.3/32"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("FD00:0::5/64", "fd00::/64"),
    ],
)
def test_cidr_is_shown_in_its_usual_form(text: str, shown: str) -> None:
    assert str(ipam.cidr(text, "x")) == shown


@pytest.mark.parametrize(
    "text", ["", "10.1.2.3", "10.1.2/24", "10.1.2.3/33", "10.1.2.3/-1", "010.1.2.3/8", "a/8",
             "10.1.2.3/²", "::/129", "10.1.2.3\0/8", "é/8"],
)  # fmt: skip
def test_what_is_no_cidr(text: str) -> None:
    with pytest.raises(UsageError, match="--subnet: invalid"):
        ipam.cidr(text, "--subnet")


def test_mac_addresses() -> None:
    assert ipam.mac("02-42-AC-11-00-02", "--mac-address") == "02:42:ac:11:00:02"
    for wrong in ("", "02:42", "02:42:ac:11:00:0g", "00:00:00:00:00:00", "01:00:5e:00:00:01"):
        with pytest.raises(UsageError, match="--mac-address"):
            ipam.mac(wrong, "--mac-address")


# --- what is asked for -------------------------------------------------------


def test_options_belong_to_the_subnet_that_holds_them() -> None:
    four, six = ipam.subnets(
        ("10.5.0.0/16", "fd00:5::/64"),
        ("fd00:5::9", "10.5.3.1"),
        ("10.5.7.0/24",),
        {"router": "10.5.0.7"},
    )
    assert four == Subnet(
        subnet="10.5.0.0/16", gateway="10.5.3.1", first="10.5.7.0", last="10.5.7.255",
        reserved={"router": "10.5.0.7"},
    )  # fmt: skip
    assert six == Subnet(subnet="fd00:5::/64", gateway="fd00:5::9")


def test_the_gateway_is_the_first_address_unless_that_is_taken() -> None:
    assert ipam.subnets(("10.5.0.0/24",), (), (), {})[0].gateway == "10.5.0.1"
    made = ipam.subnets(("10.5.0.0/24",), (), (), {"a": "10.5.0.1", "b": "10.5.0.2"})[0]
    assert made.gateway == "10.5.0.3"


@pytest.mark.parametrize(
    ("given", "gateways", "ranges", "reserved", "says"),
    [
        (["10.5.0.0/31"], [], [], {}, "no room"),
        (["127.1.0.0/16"], [], [], {}, "loopback"),
        (["224.0.0.0/8"], [], [], {}, "multicast"),
        (["fe80::/64"], [], [], {}, "link-local"),
        (["10.5.0.0/16", "10.5.6.0/24"], [], [], {}, "overlap"),
        (["10.5.0.0/24"], ["10.6.0.1"], [], {}, "not in any subnet"),
        ([], ["10.6.0.1"], [], {}, "not in any subnet"),
        (["10.5.0.0/24"], ["10.5.0.0"], [], {}, "network address"),
        (["10.5.0.0/24"], ["10.5.0.255"], [], {}, "broadcast address"),
        (["10.5.0.0/24"], ["10.5.0.1", "10.5.0.2"], [], {}, "has the gateway 10.5.0.1"),
        (["10.5.0.0/24"], [], ["10.6.0.0/25"], {}, "not in any subnet"),
        (["10.5.0.0/24"], [], ["10.5.0.0/16"], {}, "not within"),
        (["10.5.0.0/24"], [], ["10.5.0.9-10.5.0.3"], {}, "ends before it begins"),
        (["10.5.0.0/24"], [], ["10.5.0.0/32"], {}, "no address"),
        (["10.5.0.0/24"], [], ["10.5.0.0/25", "10.5.0.128/25"], {}, "has a range already"),
        (["10.5.0.0/24"], [], [], {"a": "10.5.0.255"}, "broadcast"),
        (["10.5.0.0/30"], [], [], {"a": "10.5.0.1", "b": "10.5.0.2"}, "no address left"),
    ],
)
def test_what_makes_no_sense(
    given: list[str], gateways: list[str], ranges: list[str], reserved: dict[str, str], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        ipam.subnets(given, gateways, ranges, reserved)


def test_a_range_in_either_form_and_how_it_is_shown() -> None:
    for text, shown in (
        ("10.5.0.128/25", "10.5.0.128/25"),
        ("10.5.0.0/24", "10.5.0.0/24"),
        ("10.5.0.10-10.5.0.20", "10.5.0.10-10.5.0.20"),
        ("10.5.0.16-10.5.0.31", "10.5.0.16/28"),
    ):
        made = ipam.subnets(("10.5.0.0/24",), (), (text,), {})[0]
        assert ipam.show_range(made) == shown


# --- choosing ----------------------------------------------------------------


def test_the_lowest_free_subnet_of_the_first_pool_that_has_one() -> None:
    pools = ("10.89.0.0/30 30", "10.90.0.0/22 24")
    assert ipam.choose(pools, ()).subnet == "10.89.0.0/30"
    assert ipam.choose(pools, ("10.89.0.0/24",)).subnet == "10.90.0.0/24"
    assert ipam.choose(pools, ("10.89.0.0/24", "10.90.1.0/24")).subnet == "10.90.0.0/24"
    assert ipam.choose(pools, ("10.89.0.0/24", "10.90.0.128/32")).subnet == "10.90.1.0/24"
    busy = ("10.89.0.0/24", "10.90.0.0/23", "10.90.1.7/32")
    assert ipam.choose(pools, busy).subnet == "10.90.2.0/24"
    with pytest.raises(Conflict, match="could not find free subnet"):
        ipam.choose(pools, ("10.0.0.0/8",))


def test_the_wanted_subnet_comes_first_unless_it_clashes() -> None:
    assert ipam.choose(ipam.POOLS, (), "10.88.0.0/16").subnet == "10.88.0.0/16"
    clash = ("10.88.5.0/24", "fd00::/8")
    assert ipam.choose(ipam.POOLS, clash, "10.88.0.0/16").subnet == "10.89.0.0/24"


@pytest.mark.parametrize("pool", ["10.0.0.0/8 7", "10.0.0.0/8 31", "10.0.0.0/8 x", "fd00::/8 64"])
def test_a_pool_that_is_none(pool: str) -> None:
    with pytest.raises(UsageError, match="default_subnet_pools"):
        ipam.choose((pool,), ())


def test_a_subnet_of_ipv6_is_unique_local() -> None:
    made = ipam.choose6(bytes(range(1, 8)))
    assert made == Subnet(subnet="fd01:203:405:607::/64", gateway="fd01:203:405:607::1")


# --- leases ------------------------------------------------------------------


def test_leases_go_on_behind_the_last_and_come_round() -> None:
    small = subnet("10.5.0.0/29")  # .1 is the gateway, .2 to .6 are containers'
    assert ipam.lease(small, ()) == "10.5.0.2"
    assert ipam.lease(small, ("10.5.0.2",), "10.5.0.2") == "10.5.0.3"
    assert ipam.lease(small, (), "10.5.0.2") == "10.5.0.3", "a freed address is handed out again"
    assert ipam.lease(small, ("10.5.0.3",), "10.5.0.6") == "10.5.0.2"
    assert ipam.lease(small, (), "10.9.9.9") == "10.5.0.2", "what came before is of another subnet"


def test_a_full_subnet() -> None:
    small = subnet("10.5.0.0/29", reserved={"nas": "10.5.0.4"})
    taken: list[str] = []
    while len(taken) < 4:
        taken.append(ipam.lease(small, taken, taken[-1] if taken else ""))
    assert sorted(taken) == ["10.5.0.2", "10.5.0.3", "10.5.0.5", "10.5.0.6"]
    with pytest.raises(Conflict, match=r"no free address in 10\.5\.0\.0/29"):
        ipam.lease(small, taken, taken[-1])


def test_leases_stay_in_the_range() -> None:
    ranged = ipam.subnets(("10.5.0.0/24",), ("10.5.0.10",), ("10.5.0.9-10.5.0.11",), {})[0]
    first = ipam.lease(ranged, ())
    second = ipam.lease(ranged, (first,), first)
    assert (first, second) == ("10.5.0.9", "10.5.0.11")
    with pytest.raises(Conflict):
        ipam.lease(ranged, (first, second))


def test_a_large_subnet_is_not_searched_through() -> None:
    assert ipam.lease(subnet("fd00:5::/64"), (), "fd00:5::ffff") == "fd00:5::1:0"
    taken = {f"10.0.{high}.{low}" for high in range(4) for low in range(256)}
    assert ipam.lease(subnet("10.0.0.0/8"), taken, "10.0.0.5") == "10.0.4.0"


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("10.6.0.2", "not in any subnet"),
        ("10.5.0.1", "gateway"),
        ("10.5.0.255", "broadcast"),
        ("10.5.0.4", "reserved"),
        ("fd00::1", "not in any subnet"),
    ],
)
def test_static_addresses_that_cannot_be(address: str, says: str) -> None:
    given = (subnet("10.5.0.0/24", reserved={"nas": "10.5.0.4"}),)
    with pytest.raises(UsageError, match=says):
        ipam.check_static(given, address, "--ip")


def test_a_static_address_need_not_be_in_the_range() -> None:
    given = ipam.subnets(("10.5.0.0/24",), (), ("10.5.0.128/25",), {})
    assert ipam.check_static(given, "10.5.0.9", "--ip") == "10.5.0.9"
