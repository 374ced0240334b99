"""Who is called what: names, members and addresses of networks."""

from __future__ import annotations

import ipaddress

import pytest

from podpy.net.names import Asker, Names, parse_reverse
from support.names import network

DB, WEB = "d" * 64, "e" * 64


def made() -> tuple[Names, Asker]:
    names = Names()
    names.define(network("front", "10.1.0.0/24"))
    names.define(network("Back", "fd00:1::/64"))
    names.put(WEB, "front", ("web",), ("10.1.0.2",))
    names.put(DB, "front", ("db", "store"), ("10.1.0.3",))
    names.put(DB, "Back", ("db",), ("FD00:1:0::3",))
    asker = names.asker("front", "10.1.0.3")
    assert asker is not None
    return names, asker


def test_a_container_is_known_by_network_and_address_however_it_is_written() -> None:
    names, asker = made()
    assert names.asker("Back", "fd00:1::3") is asker
    assert names.asker("Back", "fd00:1::3%eth0") is asker
    assert names.asker("Back", "10.1.0.3") is None
    assert names.asker("nowhere", "10.1.0.3") is None


def test_a_link_is_a_name_that_one_container_alone_uses() -> None:
    names, asker = made()
    names.put(WEB, "front", ("web",), ("10.1.0.2",), links=[("Shop", "DB"), ("db", "nobody")])
    linked = names.asker("front", "10.1.0.2")
    assert linked is not None
    assert names.lookup(linked, "front", "shop") == ("10.1.0.3",)
    assert names.lookup(linked, "front", "db") == ("10.1.0.3",)  # where the link leads nowhere
    assert names.lookup(asker, "front", "shop") is None
    names.put(DB, "front", ("db",), ("10.1.0.9",))
    assert names.lookup(linked, "front", "shop") == ("10.1.0.9",)


def test_the_first_network_that_knows_a_name_gives_its_addresses() -> None:
    names, asker = made()
    assert names.lookup(asker, "front", "db") == ("10.1.0.3",)
    assert names.lookup(asker, "Back", "db") == ("fd00:1::3",)
    assert names.lookup(asker, "front", "db.back") == ("fd00:1::3",)
    assert names.lookup(asker, "Back", "web") == ("10.1.0.2",)
    assert names.lookup(asker, "front", "nobody") is None


def test_a_network_without_names_tells_none() -> None:
    names, asker = made()
    names.define(network("front", "10.1.0.0/24", dns=False))
    assert names.lookup(asker, "Back", "web") is None
    assert [each.name for each in names.networks(asker, "Back")] == ["Back"]


def test_nothing_is_left_of_who_is_gone() -> None:
    names, _ = made()
    names.drop(DB)
    names.drop(WEB)
    names.undefine("front")
    names.undefine("Back")
    names.put(DB, "unknown", ("db",), ("10.2.0.2",))
    names.drop(DB, "unknown")
    names.drop(DB)
    assert not names._zones
    assert not names._askers


def test_an_address_that_was_given_on_is_its_new_owners() -> None:
    """A takeover may hear of the new container before it hears that the old one has gone."""
    names, _ = made()
    names.put(WEB, "front", ("web",), ("10.1.0.3",))
    names.drop(DB, "front")
    asker = names.asker("front", "10.1.0.3")
    assert asker is not None
    assert asker.container == WEB


def test_names_that_no_question_can_hold_do_no_harm() -> None:
    names, asker = made()
    long = "x" * 64
    names.put(WEB, "front", (long, "sp ace", "", "..", "caf\xe9"), ("10.1.0.2",))
    assert names.lookup(asker, "front", long) is None
    assert names.lookup(asker, "front", WEB[:12]) == ("10.1.0.2",)
    assert names.reverse(asker, "front", "2.0.1.10.in-addr.arpa") == f"{WEB[:12]}.front"


def test_an_address_of_ours_is_a_name_or_nothing() -> None:
    names, asker = made()
    assert names.reverse(asker, "front", "2.0.1.10.in-addr.arpa") == "web.front"
    assert names.reverse(asker, "front", "9.0.1.10.in-addr.arpa") == ""
    assert names.reverse(asker, "front", "9.1.1.10.in-addr.arpa") is None
    for address, name in (
        ("fd00:1::3", "db.back"),
        ("fd00:1::4", ""),
        ("fd00:2::3", None),
    ):
        reverse = ipaddress.ip_address(address).reverse_pointer
        assert names.reverse(asker, "front", reverse) == name


def test_who_can_be_reached_inside() -> None:
    names, asker = made()
    assert names.reaches(asker, "10.1.0.53")
    assert names.reaches(asker, "fd00:1::53")
    assert not names.reaches(asker, "10.1.1.53")
    assert not names.reaches(asker, "fe80::1%eth0")
    web = names.asker("front", "10.1.0.2")
    assert web is not None
    assert not names.reaches(web, "fd00:1::53")


@pytest.mark.parametrize(
    "name",
    [
        "in-addr.arpa",
        "1.10.in-addr.arpa",
        "1.2.3.4.5.in-addr.arpa",
        "256.0.0.10.in-addr.arpa",
        "01.0.0.10.in-addr.arpa",
        "\u0661.0.0.10.in-addr.arpa",
        "1.0.0.10.in-addr.example",
        "ff" + ".0" * 31 + ".ip6.arpa",
        "g" + ".0" * 31 + ".ip6.arpa",
        "0" + ".0" * 30 + ".ip6.arpa",
        "",
    ],
)
def test_what_is_no_reverse_name(name: str) -> None:
    assert parse_reverse(name) is None
