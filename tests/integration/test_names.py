"""Names on bridge networks, as the programs in containers see them."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import time

import pytest

from podpy.kernel import process
from podpy.model import ProcessIdentity
from podpy.records import from_dict
from support import guest
from support.podpy import BUSYBOX, Podpy
from support.polling import eventually
from support.world import World, directory

SECOND_RESOLVER = "203.0.113.53"


@pytest.fixture
def network(podpy: Podpy) -> str:
    podpy("network", "create", "--subnet", "10.77.1.0/24", "n1")
    return "n1"


def start(podpy: Podpy, name: str, *options: object) -> str:
    return podpy.run_detached("--name", name, *options, BUSYBOX, "sleep", "600")


def address(podpy: Podpy, name: str, network: str = "n1") -> str:
    shown = podpy("inspect", name).json()[0]["NetworkSettings"]["Networks"][network]
    return str(shown["IPAddress"])


def lookup(podpy: Podpy, asker: str, name: str, kind: str = "a") -> list[str]:
    """What a name means to a program in a container; nothing for a name that is not known."""
    said = podpy("exec", asker, "nslookup", f"-type={kind}", name, code=None)
    return re.findall(r"^Address: (\S+)", said.stdout.partition("\n\n")[2], re.M)


def reverse(podpy: Podpy, asker: str, address: str) -> list[str]:
    said = podpy("exec", asker, "nslookup", address, code=None)
    return re.findall(r"\tname = (\S+)", said.stdout)


def pings(podpy: Podpy, *words: object) -> None:
    """``ping`` finds whom it is told to ping, and is answered."""
    podpy("run", "--rm", "--cap-add", "NET_RAW", *words[:-1], BUSYBOX,
          "ping", "-c", "1", "-W", "2", words[-1])  # fmt: skip


def test_a_container_is_found_by_name_alias_and_id(podpy: Podpy, network: str) -> None:
    identity = start(podpy, "Store", "--network", "n1", "--network-alias", "db")
    start(podpy, "asker", "--network", "n1")
    there = [address(podpy, "Store")]
    for name in ("store", "STORE.", "db", "db.n1", identity[:12]):
        assert lookup(podpy, "asker", name) == there, name
    assert lookup(podpy, "asker", "db", "aaaa") == []
    assert reverse(podpy, "asker", there[0]) == ["store.n1"]
    # All families at once, as most programs ask: that one is missing is no failure.
    podpy("exec", "asker", "nslookup", "db")
    pings(podpy, "--network", "n1", "db")


def test_names_resolve_where_no_network_was_asked_for(podpy: Podpy) -> None:
    start(podpy, "db")
    pings(podpy, "db")


def test_a_shared_alias_gives_every_address_each_first_in_turn(podpy: Podpy, network: str) -> None:
    for number in range(3):
        start(podpy, f"web{number}", "--network", "n1", "--network-alias", "web")
    start(podpy, "asker", "--network", "n1")
    everybody = {address(podpy, f"web{number}") for number in range(3)}
    firsts = set()
    for _ in range(6):
        found = lookup(podpy, "asker", "web")
        assert set(found) == everybody
        firsts.add(found[0])
    assert firsts == everybody
    podpy("stop", "-t", "0", "web1")
    assert len(lookup(podpy, "asker", "web")) == 2


def test_names_come_and_go_with_networks_and_containers(podpy: Podpy, network: str) -> None:
    podpy("network", "create", "n2")
    start(podpy, "asker", "--network", "n1")
    start(podpy, "db", "--network", "n2")
    assert lookup(podpy, "asker", "db") == []
    podpy("network", "connect", "--alias", "store", "n1", "db")
    assert lookup(podpy, "asker", "db") == [address(podpy, "db")]
    assert lookup(podpy, "asker", "store") == [address(podpy, "db")]
    assert lookup(podpy, "db", "asker") == [address(podpy, "asker")]
    podpy("network", "disconnect", "n1", "db")
    assert lookup(podpy, "asker", "db") == []
    podpy("network", "connect", "n2", "asker")
    assert lookup(podpy, "asker", "db") == [address(podpy, "db", "n2")]
    podpy("rm", "-f", "-t", "0", "db")
    assert lookup(podpy, "asker", "db") == []


def test_ipv6_names_and_addresses(podpy: Podpy) -> None:
    podpy("network", "create", "--ipv6", "--subnet", "fd77::/64", "--subnet", "10.77.6.0/24", "six")
    start(podpy, "db", "--network", "six")
    start(podpy, "asker", "--network", "six")
    (there,) = lookup(podpy, "asker", "db", "aaaa")
    assert there.startswith("fd77::")
    assert reverse(podpy, "asker", there) == ["db.six"]


# --- the way to other servers ------------------------------------------------


def test_other_names_are_asked_of_the_hosts_resolver(
    podpy: Podpy, network: str, world: World
) -> None:
    world.name("one.example.test", A=["203.0.113.7"], AAAA=["2001:db8:2::7"])
    long = [f"203.0.113.{number}" for number in range(1, 120)]
    world.name("many.example.test", A=long)
    start(podpy, "private-name", "--network", "n1")
    start(podpy, "asker", "--network", "n1")
    assert lookup(podpy, "asker", "one.example.test") == ["203.0.113.7"]
    assert lookup(podpy, "asker", "one.example.test", "aaaa") == ["2001:db8:2::7"]
    assert lookup(podpy, "asker", "none.example.test") == []
    assert reverse(podpy, "asker", World.server) == ["server.world.test"]
    assert lookup(podpy, "asker", "private-name")
    asked = world.questions("one.example.test")
    assert {(each.server, each.client) for each in asked} == {(World.address, World.host)}
    assert world.questions("private-name") == []


def test_a_container_asks_its_own_servers(podpy: Podpy, network: str, world: World) -> None:
    name = world.name("own.example.test", A=["203.0.113.8"])
    podpy("network", "create", "--dns", SECOND_RESOLVER, "n2")
    for options in (("--network", "n1", "--dns", SECOND_RESOLVER), ("--network", "n2")):
        shown = podpy("run", "--rm", *options, BUSYBOX, "nslookup", "-type=a", name).stdout
        assert "203.0.113.8" in shown
    assert {each.server for each in world.questions(name)} == {SECOND_RESOLVER}


#: A name server that says 10.1.2.3 to everything.
BLOCKER = """
import socket
server = socket.socket(type=socket.SOCK_DGRAM)
server.bind(("", 53))
while True:
    question, client = server.recvfrom(512)
    answer = bytes.fromhex("c00c 0001 0001 00000005 0004 0a010203")
    asked = question[12 : question.index(0, 12) + 5]
    head = question[:2] + bytes.fromhex("8180 0001 0001 0000 0000")
    server.sendto(head + asked + answer, client)
"""


def test_the_name_server_may_be_a_container(podpy: Podpy, network: str) -> None:
    """As an ad blocker is: it is asked where it is, on the network that both are on."""
    podpy(
        "run", "-d", "--name", "blocker", "--network", "n1:ip=10.77.1.53", *guest.with_python(),
        BUSYBOX, *guest.script(BLOCKER),
    )  # fmt: skip
    start(podpy, "asker", "--network", "n1", "--dns", "10.77.1.53")
    eventually(lambda: lookup(podpy, "asker", "blocked.example") == ["10.1.2.3"])
    assert lookup(podpy, "asker", "blocker") == ["10.77.1.53"]


def test_the_hosts_resolv_conf_may_change_under_running_containers(
    podpy: Podpy, network: str, world: World
) -> None:
    start(podpy, "asker", "--network", "n1")
    names = (world.name(f"swap{n}.example.test", A=["203.0.113.9"]) for n in itertools.count())
    with resolv_conf(f"nameserver {SECOND_RESOLVER}\nsearch example.test\n"):
        begin = time.monotonic()
        name = next(names)
        assert lookup(podpy, "asker", name) == ["203.0.113.9"]
        assert time.monotonic() - begin < 2
        assert {each.server for each in world.questions(name)} == {SECOND_RESOLVER}
        # The container's own file is from before; its search domains are not.
        assert lookup(podpy, "asker", next(names).partition(".")[0]) == ["203.0.113.9"]
    name = next(names)
    assert lookup(podpy, "asker", name) == ["203.0.113.9"]
    assert {each.server for each in world.questions(name)} == {World.address}


class resolv_conf:
    """The host's resolv.conf reads otherwise for a while; for everybody, so be quick."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.file = directory() / "resolv.conf"

    def __enter__(self) -> None:
        self.before = self.file.read_text()
        self.file.write_text(self.text)

    def __exit__(self, *_: object) -> None:
        self.file.write_text(self.before)


def test_a_network_without_a_way_out_asks_nobody(podpy: Podpy, world: World) -> None:
    podpy("network", "create", "--internal", "inside")
    name = world.name("out.example.test", A=["203.0.113.7"])
    start(podpy, "db", "--network", "inside")
    start(podpy, "asker", "--network", "inside")
    assert lookup(podpy, "asker", "db") == [address(podpy, "db", "inside")]
    begin = time.monotonic()
    assert lookup(podpy, "asker", name) == []
    assert time.monotonic() - begin < 2
    assert world.questions(name) == []


def test_search_domains_are_tried_without_telling_them_a_containers_name(
    podpy: Podpy, network: str, world: World
) -> None:
    world.name("nas.example.test", A=["203.0.113.11"])
    world.name("db.example.test", A=["203.0.113.66"])
    start(podpy, "db", "--network", "n1")
    start(podpy, "asker", "--network", "n1", "--dns-search", "example.test")
    shown = podpy("exec", "asker", "cat", "/etc/resolv.conf").stdout
    assert "search example.test" in shown
    assert "ndots:0" in shown
    assert lookup(podpy, "asker", "nas") == ["203.0.113.11"]
    pings(podpy, "--network", "n1", "--dns-search", "example.test", "db")
    assert world.questions("db.example.test") == []


# --- programs that use the C library -----------------------------------------

#: What the C library makes of names and addresses, one line each; and how long that took.
ASK = """
import socket, sys, time
begin = time.monotonic()
for word in sys.argv[1:]:
    try:
        if word[0].isdigit():
            print(socket.gethostbyaddr(word)[0])
        else:
            found = socket.getaddrinfo(word, None, type=socket.SOCK_STREAM)
            print(*sorted(each[4][0] for each in found))
    except OSError as error:
        print(error.strerror)
print(time.monotonic() - begin)
"""


def test_getaddrinfo_finds_containers_and_the_world(
    podpy: Podpy, network: str, world: World
) -> None:
    start(podpy, "db", "--network", "n1")
    there = address(podpy, "db")
    asked = ("db", "DB.n1.", there, "server.world.test", World.server, "nobody")
    shown = podpy(
        "run", "--rm", "--network", "n1", *guest.with_python(), BUSYBOX,
        *guest.script(ASK, *asked),
    )  # fmt: skip
    *found, seconds = shown.lines
    assert found == [
        there,
        there,
        "db.n1",
        f"{World.server6} {World.server}",
        "server.world.test",
        "Name or service not known",
    ]
    assert float(seconds) < 1


# --- load and faults ---------------------------------------------------------


def test_names_survive_the_end_of_the_network_supervisor(podpy: Podpy, network: str) -> None:
    start(podpy, "db", "--network", "n1")
    start(podpy, "asker", "--network", "n1")
    there = [address(podpy, "db")]
    assert lookup(podpy, "asker", "db") == there
    for _ in range(3):
        os.kill(supervisor(podpy), signal.SIGKILL)
        begin = time.monotonic()
        eventually(lambda: lookup(podpy, "asker", "db") == there, timeout=10)
        assert time.monotonic() - begin < 3
    start(podpy, "new", "--network", "n1")
    assert lookup(podpy, "asker", "new") == [address(podpy, "new")]


def supervisor(podpy: Podpy) -> int:
    def living() -> int:
        for lock in podpy.runtime.glob("network*/lock"):
            who = from_dict(ProcessIdentity, json.loads(lock.read_text()))
            if process.is_alive(who):
                return who.pid
        return 0

    return eventually(living)


@pytest.mark.parametrize(
    ("lookups", "containers"),
    [(1000, 5), pytest.param(10000, 50, marks=pytest.mark.long)],
)
def test_look_ups_while_containers_come_and_go(
    podpy: Podpy, network: str, world: World, lookups: int, containers: int
) -> None:
    """None fails: neither a container's name nor one of the world."""
    script = (
        "n=0; while [ $n -lt $1 ]; do n=$((n+1)); "
        "nslookup db >/tmp/o 2>&1 || { echo failed: db; cat /tmp/o; }; "
        "nslookup server.world.test >/tmp/o 2>&1 || { echo failed: world; cat /tmp/o; }; "
        "done; echo done"
    )
    start(podpy, "db", "--network", "n1")
    asker = podpy.start(
        "run", "--rm", "--network", "n1", BUSYBOX, "sh", "-c", script, "sh", lookups // 2
    )
    for number in range(containers):
        name = f"guest{number}"
        start(podpy, name, "--network", "n1", "--network-alias", "guests")
        assert lookup(podpy, "db", name) == [address(podpy, name)]
        podpy("rm", "-f", "-t", "0", name)
        assert lookup(podpy, "db", name) == []
    said = asker.wait(600)
    assert said.stdout == "done\n"
