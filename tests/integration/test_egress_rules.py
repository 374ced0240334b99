"""The packet filter of egress policies in a namespace of the test's own, as ``nft`` shows it.

What containers can do about it is tried in ``tests/security/test_egress.py``.
"""

from __future__ import annotations

import errno
import gc
import os
import socket
import time
from collections.abc import Iterator

import pytest

from podpy.errors import HostError
from podpy.kernel.loop import Loop
from podpy.kernel.netlink import Veth
from podpy.kernel.nftables import NETLINK_NETFILTER, Batch, Nftables
from podpy.net.egress import Guard
from podpy.net.inner import Inner
from podpy.netmodel import Denial, Egress, Endpoint
from support.host import program

pytestmark = pytest.mark.needs("nft")

CONTAINER = "ab12" * 16
ENDPOINT = Endpoint(
    network="cage", interface="eth0", mac="02:42:0a:63:00:02",
    address="10.99.0.2", prefix=24, gateway="10.99.0.1",
    address6="fd99::2", prefix6=64, gateway6="fd99::1",
)  # fmt: skip
DEVICE = "vab12ab12.0"


class Bed:
    """A shared namespace with one container's plug."""

    def __init__(self, inner: Inner, container: Inner) -> None:
        self.inner, self.container = inner, container
        inner.route.add_bridge("podpy7", 1500)
        bridge = inner.route.index("podpy7")
        inner.route.add_address(bridge, "10.99.0.1", 24)
        self.reports: list[tuple[Denial, ...]] = []
        self.succeed()
        self.plug()

    def plug(self) -> None:
        route = self.inner.route
        if index := route.index(DEVICE):
            route.remove_link(index)
        bridge, netns = route.index("podpy7"), self.container.netns
        route.add_veth(
            Veth(name=DEVICE, master=bridge, mtu=1500, up=False, peer="eth0",
                 peer_mac=ENDPOINT.mac, peer_namespace=netns)
        )  # fmt: skip

    def succeed(self) -> None:
        """A guard that knows nothing yet; the one before it is gone with its sockets."""
        self.loop = Loop()
        self.guard = Guard(self.loop, self.inner, lambda _, denied: self.reports.append(denied))
        gc.collect()

    def apply(self, *rules: str) -> None:
        self.guard.apply(CONTAINER, [(DEVICE, ENDPOINT)], Egress(rules=rules))

    def nft(self, *words: str) -> str:
        return self.inner.run([program("nft"), *words])

    def elements(self, name: str) -> str:
        table = self.nft("list", "tables").split()[-1]
        return self.nft("list", "set", "netdev", table, name)


@pytest.fixture
def bed() -> Iterator[Bed]:
    inner, container = Inner.create(), Inner.create()
    yield Bed(inner, container)
    container.close()
    inner.close()


def test_the_rules_that_stand(bed: Bed) -> None:
    bed.apply("example.org:443", "192.0.2.0/24")
    text = bed.nft("list", "ruleset")
    mac = bed.inner.route.bridge_of(bed.inner.route.index(DEVICE)).hex().lstrip("0")
    for line in (
        f'type filter hook ingress device "{DEVICE}" priority filter; policy drop;',
        f'type filter hook egress device "{DEVICE}" priority filter; policy accept;',
        "@ll,48,48 != 0x2420a630002 drop",
        "@nh,96,32 0xa630002 goto four-",
        f"@ll,0,48 set 0x{mac}",
        "@nh,128,32 0xa630001 tcp dport 53 accept",
        "@nh,128,32 @closed4 goto refuse4",
        "@nh,128,32 @gateways4 goto refuse4",
        "@nh,128,32 @range0-4 goto allow4",
        "@nh,128,32 @name443-4 tcp dport 443 goto allow4",
        "@nh,192,128 @name443-6 udp dport 443 goto allow6",
        "reject with tcp reset",
        'limit rate 64/second burst 64 packets log prefix "ab12ab12ab12" group 1',
    ):
        assert line in text, line
    assert "192.0.2.0/24" in bed.elements("range0-4")
    assert "10.99.0.1" in bed.elements("gateways4")
    assert "224.0.0.0/3" in bed.elements("closed4")


def test_names_open_addresses_for_a_time(bed: Bed) -> None:
    bed.apply("example.org:443", "*.example.net")
    bed.guard.answered(CONTAINER, "Example.Org.", ["203.0.113.7", "2001:db8::7"], 5)
    bed.guard.answered(CONTAINER, "a.example.net", ["203.0.113.8"], 300)
    bed.guard.answered(CONTAINER, "other.test", ["203.0.113.9"], 300)
    bed.guard.answered("somebody", "example.org", ["203.0.113.9"], 300)
    assert "203.0.113.7 timeout 1m " in bed.elements("name443-4")  # the least
    assert "2001:db8::7" in bed.elements("name443-6")
    assert "203.0.113.8 timeout 5m" in bed.elements("name0-4")
    assert "203.0.113.9" not in bed.nft("list", "ruleset")
    bed.guard.answered(CONTAINER, "example.org", ["203.0.113.7"], 600)
    assert "203.0.113.7 timeout 10m" in bed.elements("name443-4")
    bed.guard.answered(CONTAINER, "example.org", ["203.0.113.7"], 5)  # never shorter
    assert "203.0.113.7 timeout 10m" in bed.elements("name443-4")


def test_addresses_of_a_predecessor_are_renewed(bed: Bed) -> None:
    bed.apply("example.org:443")
    bed.guard.answered(CONTAINER, "example.org", ["203.0.113.7"], 60)
    bed.succeed()
    bed.apply("example.org:443")
    bed.guard.answered(CONTAINER, "example.org", ["203.0.113.7"], 600)
    assert "203.0.113.7 timeout 10m" in bed.elements("name443-4")


def test_an_address_that_went_early_comes_back(bed: Bed) -> None:
    bed.apply("example.org:443")
    bed.guard.answered(CONTAINER, "example.org", ["203.0.113.7"], 60)
    bed.nft("flush", "set", "netdev", bed.nft("list", "tables").split()[-1], "name443-4")
    bed.guard.answered(CONTAINER, "example.org", ["203.0.113.7"], 70)
    assert "203.0.113.7" in bed.elements("name443-4")


def test_only_podpys_own_names_open_its_networks(bed: Bed) -> None:
    bed.apply("db")
    bed.guard.answered(CONTAINER, "db", ["10.99.0.3"], 60)
    assert "10.99.0.3" not in bed.elements("name0-4")
    bed.guard.answered(CONTAINER, "db", ["10.99.0.3"], 0, local=True)
    assert "10.99.0.3" in bed.elements("name0-4")


def test_more_addresses_than_a_set_holds_are_no_failure(bed: Bed) -> None:
    bed.apply("example.org")
    many = [f"203.0.{n // 250}.{n % 250}" for n in range(4200)]
    bed.guard.answered(CONTAINER, "example.org", many, 60)
    counted = f"{program('nft')} list ruleset | grep -o 'timeout 1m' | wc -l"
    assert bed.inner.run(["/bin/sh", "-c", counted]).strip() == "4096"
    bed.guard.answered(CONTAINER, "example.org", ["198.51.100.1"], 60)


def test_a_successor_leaves_what_is_right(bed: Bed) -> None:
    bed.apply("example.org")
    bed.guard.answered(CONTAINER, "example.org", ["203.0.113.7"], 300)
    before = bed.nft("-a", "list", "ruleset")
    bed.succeed()
    bed.apply("example.org")
    after = bed.nft("-a", "list", "ruleset")
    assert [line.split(" expires")[0] for line in after.splitlines()] == [
        line.split(" expires")[0] for line in before.splitlines()
    ]


def test_a_plug_made_anew_has_its_rules_again(bed: Bed) -> None:
    bed.apply("example.org")
    bed.guard.answered(CONTAINER, "example.org", ["203.0.113.7"], 300)
    bed.plug()
    bed.apply("example.org")
    text = bed.nft("list", "ruleset")
    assert text.count("hook ingress") == text.count("hook egress") == 1
    assert f'device "{DEVICE}"' in text
    assert text.count("chain four-") == 1 and "203.0.113.7" in text


def test_another_policy_takes_the_place_of_the_first(bed: Bed) -> None:
    bed.apply("192.0.2.7")
    bed.apply("192.0.2.8")
    tables = bed.nft("list", "tables").splitlines()
    assert len(tables) == 1 and "192.0.2.8" in bed.nft("list", "ruleset")


def test_nothing_is_left(bed: Bed) -> None:
    bed.apply("example.org")
    bed.guard.withdraw(CONTAINER)
    assert bed.nft("list", "ruleset") == ""
    bed.guard.withdraw(CONTAINER)
    assert bed.guard.may_ask(CONTAINER, "anything.test")


def test_what_nobody_came_back_for_is_cut_off_before_its_rules_go(bed: Bed) -> None:
    bed.apply("example.org")
    bed.succeed()
    bed.guard.sweep()
    assert bed.nft("list", "ruleset") == ""
    assert bed.inner.route.index(DEVICE) == 0


def test_a_sweep_spares_the_others(bed: Bed) -> None:
    bed.apply("example.org")
    bed.nft("add", "table", "netdev", "somebody")
    bed.guard.sweep()
    assert len(bed.nft("list", "tables").splitlines()) == 2
    assert bed.inner.route.index(DEVICE)


def test_names_that_may_be_asked(bed: Bed) -> None:
    bed.apply("example.org:443")
    assert bed.guard.may_ask(CONTAINER, "EXAMPLE.ORG.")
    assert not bed.guard.may_ask(CONTAINER, "www.example.org")
    assert bed.guard.may_ask("somebody", "www.example.org")
    until = time.monotonic() + 5
    while not bed.reports and time.monotonic() < until:
        bed.loop.turn(0.5)
    ((denied,),) = bed.reports
    assert (denied.destination, denied.port, denied.protocol) == ("www.example.org", 0, "dns")


def test_a_batch_that_fails_changes_nothing(bed: Bed) -> None:
    tables = Nftables(bed.inner.open(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER))
    batch = Batch("mine")
    batch.add_table()
    batch.delete_chain("none")
    with pytest.raises(FileNotFoundError):
        tables.commit(batch)
    assert tables.tables() == []
    tables.close()


def test_a_kernel_without_nf_tables(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> socket.socket:
        raise OSError(errno.EPROTONOSUPPORT, os.strerror(errno.EPROTONOSUPPORT))

    monkeypatch.setattr(bed.inner, "open", refuse)
    with pytest.raises(HostError, match=r"--egress: .*Protocol not supported") as caught:
        bed.apply("example.org")
    assert "modprobe" in caught.value.hint
    bed.guard.withdraw(CONTAINER)
    bed.guard.sweep()


def test_a_kernel_that_cannot_is_named(bed: Bed) -> None:
    """A device without a bridge stands for whatever the kernel refuses."""
    bed.inner.route.remove_link(bed.inner.route.index(DEVICE))
    bed.inner.run([program("ip"), "link", "add", DEVICE, "type", "veth"])
    bed.guard._inner.route.bridge_of = lambda index: b"\0" * 300  # type: ignore[method-assign]
    with pytest.raises(HostError, match="--egress: this kernel's nf_tables refused the rules"):
        bed.apply("example.org")
    assert bed.nft("list", "ruleset") == ""
