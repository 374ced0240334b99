"""``--egress``: code that one does not trust reaches what is on its list, and nothing else.

The attackers have NET_ADMIN and NET_RAW in their own network namespace: they are its root.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import attacker, guest
from support.matrix import greeter
from support.podpy import Podpy
from support.polling import eventually
from support.world import World

pytestmark = pytest.mark.needs("world", "slirp4netns", "nft")

SUBNET, SUBNET6 = "10.77.0.0/24", "fd77:77::/64"
GATEWAY, GATEWAY6 = "10.77.0.1", "fd77:77::1"
PORT, OTHER_PORT = 8443, 8444
ROOT_OF_ITS_NETWORK = ("--cap-add", "NET_ADMIN", "--cap-add", "NET_RAW")
PINGS = ("--sysctl", "net.ipv4.ping_group_range=0 0")
REFUSED = {"!111", "!113", "!13"}  # a reset; an ICMP error of IPv4; one of IPv6
NO_NAME = {"!-2", "!-3"}  # EAI_NONAME, EAI_AGAIN

# Two hosts of the world and a domain, for this test process alone.
_number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
FIRST, SECOND = f"203.0.113.{100 + 2 * _number}", f"203.0.113.{101 + 2 * _number}"
FIRST6, SECOND6 = (f"2001:db8:2::{address.rpartition('.')[2]}" for address in (FIRST, SECOND))
TEST = f"w{_number}.egress.test"

Probe = tuple[str, str, int]


class Cage:
    """A network with a guarded container's neighbours, and ways to look out of it."""

    def __init__(self, podpy: Podpy, image: str) -> None:
        self.podpy, self.image = podpy, image
        options = ("--subnet", SUBNET, "--ipv6", "--subnet", SUBNET6)
        podpy("network", "create", *options, "cage")

    def words(self, *egress: str) -> list[str]:
        rules = [word for rule in egress for word in ("--egress", rule)]
        return ["--network", "cage", *rules, *PINGS, *ROOT_OF_ITS_NETWORK, *guest.with_python()]

    def start(self, name: str, *egress: str, options: tuple[str, ...] = ()) -> None:
        """A container that waits for :meth:`inside`."""
        words = ["--name", name, *self.words(*egress), *options, self.image, "sleep", "1000"]
        self.podpy("run", "-d", *words)

    def inside(self, name: str, code: str, *arguments: object) -> str:
        return self.podpy("exec", name, *guest.script(code, *arguments), timeout=90).text

    def shell(self, name: str, script: str) -> str:
        return self.podpy("exec", name, "sh", "-c", script, code=None).stdout

    def try_all(self, name: str, *probes: Probe) -> list[str]:
        return [seen for seen, _ in self.timed(name, *probes)]

    def timed(self, name: str, *probes: Probe) -> list[tuple[str, float]]:
        found = json.loads(self.inside(name, attacker.PROBE, json.dumps(probes)))
        return [(seen, seconds) for seen, seconds in found]

    def serve(self, name: str, *ports: str) -> None:
        """A neighbour that answers on some ports, without a policy."""
        words = ["--name", name, *self.words(), self.image, *guest.script(guest.SERVER, *ports)]
        self.podpy("run", "-d", *words)
        eventually(lambda: "serving" in self.podpy("logs", name).stdout)

    def endpoint(self, name: str) -> list[str]:
        """MAC address, IPv4 and IPv6 address of a container."""
        (found,) = json.loads(self.podpy("inspect", name).stdout)
        network = found["NetworkSettings"]["Networks"]["cage"]
        return [network["MacAddress"], network["IPAddress"], network["GlobalIPv6Address"]]

    def denied(self, name: str) -> list[dict[str, Any]]:
        (found,) = json.loads(self.podpy("inspect", name).stdout)
        denied: list[dict[str, Any]] = found["NetworkSettings"]["Denied"]
        return denied


@pytest.fixture
def cage(podpy: Podpy, busybox: str) -> Cage:
    return Cage(podpy, busybox)


@pytest.fixture
def servers(world: World) -> Iterator[None]:
    """Two hosts of the world, each with the same two ports by IPv4 and IPv6."""
    addresses = (FIRST, SECOND, FIRST6, SECOND6)
    process = world.start_python(attacker.HOSTS, PORT, OTHER_PORT, *addresses)
    process.expect_output("ready")
    yield
    process.kill()
    process.process.wait(5)


def is_reached(seen: str) -> bool:
    return bool(seen) and not seen.startswith("!")


def are_refused(seen: list[str]) -> bool:
    """They had an answer that says no: they did not wait for a time-out."""
    return set(seen) <= REFUSED


# --- what the list says ------------------------------------------------------


def test_a_host_is_reached_at_its_port_and_nothing_else(
    cage: Cage, world: World, servers: None
) -> None:
    world.name(f"good.{TEST}", A=[FIRST], AAAA=[FIRST6])
    world.name(f"bad.{TEST}", A=[SECOND], AAAA=[SECOND6])
    cage.start("caged", f"good.{TEST}:{PORT}")
    found = cage.timed(
        "caged",
        ("tcp", FIRST, PORT),  # nobody has asked for the name yet
        ("tcp", f"good.{TEST}", PORT),
        ("udp", f"good.{TEST}", PORT),
        ("tcp", FIRST, PORT),
        ("tcp", FIRST6, PORT),
        ("tcp", f"good.{TEST}", OTHER_PORT),
        ("udp", FIRST, OTHER_PORT),
        ("tcp", SECOND, PORT),
        ("tcp", SECOND6, PORT),
        ("udp", SECOND6, PORT),
        ("ping", FIRST, 0),
        ("name", f"bad.{TEST}", 0),
        ("tcp", world.host, 22),
    )
    seen = [text for text, _ in found]
    assert all(map(is_reached, seen[1:5])), seen
    assert are_refused([seen[0], *seen[5:10], seen[12]]), seen
    assert seen[10] == "" and seen[11] in NO_NAME
    assert world.questions(f"bad.{TEST}") == []
    # At once: nothing that is refused waits for a time-out.
    assert all(seconds < 0.9 for text, seconds in found if text.startswith("!")), found


def test_wildcards_ranges_and_pings(cage: Cage, world: World, servers: None) -> None:
    for name in (f"a.wild.{TEST}", f"b.c.wild.{TEST}", f"wild.{TEST}", f"notwild.{TEST}"):
        world.name(name, A=[FIRST])
    cage.start("caged", f"*.wild.{TEST}", f"{SECOND}/32:{OTHER_PORT},[2001:db8:2::/64]:{PORT}")
    seen = cage.try_all(
        "caged",
        ("name", f"wild.{TEST}", 0),
        ("name", f"notwild.{TEST}", 0),
        ("tcp", FIRST, PORT),
        ("name", f"B.C.Wild.{TEST.upper()}", 0),
        ("name", f"a.wild.{TEST}", 0),
        ("tcp", FIRST, PORT),
        ("tcp", FIRST, OTHER_PORT),
        ("ping", FIRST, 0),
        ("tcp", SECOND, OTHER_PORT),
        ("tcp", SECOND, PORT),
        ("tcp", SECOND6, PORT),
        ("tcp", SECOND6, OTHER_PORT),
    )
    assert set(seen[:2]) <= NO_NAME and seen[2] in REFUSED, seen
    assert seen[3:5] == [FIRST, FIRST]
    assert all(map(is_reached, seen[5:9])) and is_reached(seen[10]), seen
    assert are_refused([seen[9], seen[11]]), seen


def test_none_is_nothing_at_all(cage: Cage, world: World, servers: None) -> None:
    world.name(f"secret.{TEST}", A=[FIRST])
    cage.serve("web", "70", "71/udp")
    cage.start("caged", "none")
    _, web, web6 = cage.endpoint("web")
    seen = cage.try_all(
        "caged",
        ("name", f"secret.{TEST}", 0),
        ("dns", f"{GATEWAY}/secret.{TEST}", 0),
        ("dns", f"{GATEWAY6}/secret.{TEST}", 0),
        ("dnstcp", f"{GATEWAY}/data.for.attacker.secret.{TEST}", 0),
        ("tcp", FIRST, PORT),
        ("udp", FIRST, PORT),
        ("tcp", web, 70),
        ("udp", web, 71),
        ("tcp", web6, 70),
        ("dns", f"{world.address}/secret.{TEST}", 0),
        ("ping", FIRST, 0),
        ("ping", GATEWAY, 0),
        ("ping", web, 0),
    )
    assert seen[0] in NO_NAME
    assert all(text.startswith("code 5") for text in seen[1:4]), seen  # REFUSED
    assert are_refused(seen[4:10]) and seen[10:] == ["", "", ""], seen
    asked = [each.name for each in world.questions() if each.name.endswith(f"secret.{TEST}")]
    assert asked == []


def test_what_comes_in_is_answered(cage: Cage, world: World, servers: None) -> None:
    """Published ports and neighbours reach a guarded container; it begins nothing."""
    first, second = 18443 + 10 * _number, 18444 + 10 * _number
    ports = ("-p", f"{first}:70", "-p", f"{second}:71/udp")
    words = ["--name", "caged", *cage.words("none"), *ports, cage.image]
    cage.podpy("run", "-d", *words, *guest.script(guest.SERVER, "70", "71/udp"))
    eventually(lambda: "serving" in cage.podpy("logs", "caged").stdout)
    assert world.visit(world.host, first)
    assert world.visit(world.host, second, udp=True, send="x")
    cage.serve("web", "70", "71/udp")
    _, caged, caged6 = cage.endpoint("caged")
    _, web, _ = cage.endpoint("web")
    seen = cage.try_all(
        "web", ("tcp", caged, 70), ("udp", caged, 71), ("tcp", caged6, 70), ("udp", caged6, 71),
        ("ping", caged, 0), ("ping", caged6, 0),
    )  # fmt: skip
    assert all(map(is_reached, seen)), seen
    assert cage.try_all("caged", ("tcp", web, 70))[0] in REFUSED


def test_a_neighbour_on_the_list(cage: Cage) -> None:
    cage.serve("web", "70", "72")
    cage.serve("db", "70")
    cage.start("caged", "web:70")
    probes: tuple[Probe, ...] = (("tcp", "web", 70), ("tcp", "web", 72), ("tcp", "db", 70))
    reached, other_port, other = cage.try_all("caged", *probes)
    assert is_reached(reached) and are_refused([other_port, other])


def test_hosts_of_its_own_file(cage: Cage, servers: None) -> None:
    hosts = ("--add-host", f"listed:{FIRST}", "--add-host", f"other:{SECOND}")
    cage.start("caged", f"listed:{PORT}", options=hosts)
    reached, other_port, other = cage.try_all(
        "caged", ("tcp", "listed", PORT), ("tcp", "listed", OTHER_PORT), ("tcp", "other", PORT)
    )
    assert is_reached(reached) and are_refused([other_port, other])


def test_names_that_lead_inside(cage: Cage, world: World) -> None:
    """DNS rebinding: what an outside server answers does not open podpy's networks or the host."""
    cage.serve("web", "70")
    _, web, web6 = cage.endpoint("web")
    inside = [web, GATEWAY, "10.0.2.2", "10.0.2.3", "127.0.0.1", "169.254.169.254"]
    world.name(f"rebind.{TEST}", A=inside, AAAA=[web6, "::1", "::ffff:10.0.2.3", "fd00::3"])
    world.name(f"x.rebind.{TEST}", A=["192.168.7.7", "10.9.9.9"])
    cage.start("caged", f"rebind.{TEST}", f"*.rebind.{TEST}")
    seen = cage.try_all(
        "caged",
        ("name", f"rebind.{TEST}", 0),
        ("name", f"x.rebind.{TEST}", 0),
        ("tcp", web, 70),
        ("tcp", web6, 70),
        ("tcp", GATEWAY, 70),
        ("tcp", "10.0.2.2", 70),
        ("dns", f"10.0.2.3/secret.{TEST}", 0),
        ("dns", f"fd00::3/secret.{TEST}", 0),
        ("tcp", "169.254.169.254", 70),
        ("tcp", "192.168.7.7", 70),
    )
    assert web in seen[0] and "192.168.7.7" in seen[1]  # it may know
    assert are_refused(seen[2:]), seen


def test_a_wide_range_does_not_hold_podpys_own(cage: Cage, world: World) -> None:
    """Everything is on the list: still no resolver but ours, no port of the gateway but 53."""
    cage.start("caged", "0.0.0.0/0", "::/0", f"good.{TEST}")
    seen = cage.try_all(
        "caged",
        ("dns", f"10.0.2.3/bad.{TEST}", 0),
        ("dnstcp", f"10.0.2.3/bad.{TEST}", 0),
        ("dns", f"fd00::3/bad.{TEST}", 0),
        ("tcp", "10.0.2.2", 70),
        ("tcp", GATEWAY, 70),
        ("udp", GATEWAY, 54),
        ("dns", f"{GATEWAY}/bad.{TEST}", 0),
        ("ping", GATEWAY, 0),
    )
    assert are_refused(seen[:6]) and seen[6].startswith("code 5") and seen[7] == "", seen
    assert world.questions(f"bad.{TEST}") == []


def test_the_hosts_loopback_must_be_listed_by_name(cage: Cage) -> None:
    """On a network that leads there: no range opens it by the way."""
    cage.podpy("network", "create", "--opt", "host_loopback=true", "homely")
    found = []
    with greeter("127.0.0.1") as port, greeter("127.0.0.1") as other:
        for rule in ("10.0.0.0/8,172.16.0.0/12,192.168.0.0/16", f"host.containers.internal:{port}"):
            words = ["--network", "homely", "--egress", rule, *guest.with_python(), cage.image]
            probes = [("tcp", "host.containers.internal", each) for each in (port, other)]
            script = guest.script(attacker.PROBE, json.dumps(probes))
            seen = json.loads(cage.podpy("run", "--rm", *words, *script).stdout)
            found.append([text for text, _ in seen])
    assert are_refused(found[0]) and is_reached(found[1][0]) and found[1][1] in REFUSED, found


# --- attacks -----------------------------------------------------------------


def watched(cage: Cage, forger: str, **more: str) -> set[str]:
    """What of the frames that one container forges another one gets to see."""
    words = ["--name", "watcher", *cage.words(), cage.image, *guest.script(attacker.WATCHER)]
    cage.podpy("run", "-d", *words)
    eventually(lambda: "watching" in cage.podpy("logs", "watcher").stdout)
    at = {
        "me": cage.endpoint(forger),
        "sibling": cage.endpoint("watcher"),
        "gateway": [GATEWAY, GATEWAY6],
        "world": FIRST,
        **more,
    }
    assert int(cage.inside(forger, attacker.FORGER, json.dumps(at))) == len(attacker.LABELS)
    time.sleep(0.5)
    lines = cage.podpy("logs", "watcher").stdout.splitlines()
    cage.podpy("rm", "-f", "-t", "0", "watcher")
    return {line[4:] for line in lines if line.startswith("saw ")}


def test_the_watcher_sees_what_a_free_container_sends(cage: Cage) -> None:
    """The next test's measure: without a policy every frame arrives."""
    cage.start("free")
    assert watched(cage, "free") == attacker.LABELS


def test_no_forged_frame_gets_out(cage: Cage) -> None:
    cage.start("caged", FIRST)
    assert watched(cage, "caged") == set()


def test_no_forged_frame_gets_out_by_a_device_of_its_own(cage: Cage) -> None:
    """VLAN devices put their tag beside the frame, where a filter may not look."""
    kinds = {
        "vlan5": "ip link add link eth0 name vlan5 type vlan id 5",
        "macvlan0": "ip link add link eth0 name macvlan0 type macvlan mode bridge",
        "bridge0": "ip link add bridge0 type bridge && ip link set eth0 master bridge0",
    }
    cage.start("caged", FIRST)
    for device, made in kinds.items():
        script = f"PATH=/usr/sbin:$PATH; {made} && ip link set {device} up"
        done = cage.podpy("exec", "caged", "sh", "-c", script, code=None)
        unknown = ("Unknown device type", "not supported")
        if device != "bridge0" and any(words in done.stderr for words in unknown):
            continue  # this kernel has none
        assert done.code == 0, done.stderr
        assert watched(cage, "caged", device=device) == set()
        cage.shell("caged", f"ip link del {device}")


def test_another_identity_reaches_nothing(cage: Cage, world: World, servers: None) -> None:
    cage.serve("web", "70")
    cage.start("caged", FIRST)
    target: Probe = ("tcp", FIRST, PORT)
    forbidden: tuple[Probe, ...] = (("tcp", SECOND, PORT), ("udp", SECOND, PORT))
    assert is_reached(cage.try_all("caged", target)[0])
    ip = "/usr/sbin/ip"
    for change, undo in (
        (f"{ip} address add 10.77.0.200/24 dev eth0 && {ip} route replace default"
         f" via {GATEWAY} src 10.77.0.200", f"{ip} address del 10.77.0.200/24 dev eth0;"
         f" {ip} route replace default via {GATEWAY}"),
        (f"{ip} link set eth0 address 02:42:0a:4d:00:c8", ""),
    ):  # fmt: skip
        assert cage.shell("caged", f"({change}) && echo done").strip() == "done"
        seen = cage.try_all("caged", target, *forbidden)
        assert not any(map(is_reached, seen)), (change, seen)
        cage.shell("caged", undo)
    seen = cage.try_all("web", ("tcp", SECOND, PORT))  # its neighbours have theirs
    assert is_reached(seen[0])


def test_an_impostor_is_not_heard_by_the_world(cage: Cage, world: World) -> None:
    heard = world.serve(address=FIRST, port=PORT)
    sources = ["10.77.0.99", GATEWAY, "10.0.2.100", "127.0.0.1", FIRST]
    arguments = (FIRST, PORT, json.dumps(sources), "eth0")
    cage.start("free")
    cage.inside("free", attacker.IMPOSTOR, *arguments)
    eventually(lambda: heard.lines)  # so it would be heard
    cage.podpy("rm", "-f", "-t", "0", "free")
    before = len(heard.lines)
    cage.start("caged", FIRST)
    cage.inside("caged", attacker.IMPOSTOR, *arguments)
    time.sleep(0.5)
    assert len(heard.lines) == before
    assert is_reached(cage.try_all("caged", ("udp", FIRST, PORT))[0])
    heard.close()


def test_rules_of_its_own_change_nothing(cage: Cage, servers: None) -> None:
    cage.start("caged", FIRST)
    did = cage.shell(
        "caged",
        "PATH=$PATH:/usr/sbin; nft flush ruleset; nft add table inet t; nft list ruleset;"
        " ip rule add pref 1 lookup main; ip route flush cache; ip neigh flush all;"
        f" ip route replace {SECOND} via {GATEWAY} onlink dev eth0;"
        " ip link set eth0 down; ip link set eth0 name lan0; ip link set lan0 up;"
        f" ip route replace default via {GATEWAY}; echo done",
    )
    assert "table inet t" in did and "done" in did
    allowed, other, other6 = cage.try_all(
        "caged",
        ("tcp", FIRST, PORT),
        ("tcp", SECOND, PORT),
        ("tcp", SECOND6, PORT),
    )
    assert is_reached(allowed) and other in REFUSED and not is_reached(other6)


def test_a_renamed_interface_is_disconnected_all_the_same(cage: Cage, servers: None) -> None:
    cage.start("caged", FIRST)
    cage.shell("caged", "PATH=$PATH:/usr/sbin; ip link set eth0 down; ip link set eth0 name lan0;"
               f" ip link set lan0 up; ip route replace default via {GATEWAY}")  # fmt: skip
    assert is_reached(cage.try_all("caged", ("tcp", FIRST, PORT))[0])
    cage.podpy("network", "disconnect", "cage", "caged")
    seen = cage.try_all("caged", ("tcp", FIRST, PORT), ("tcp", SECOND, PORT))
    assert not any(map(is_reached, seen))


def test_data_in_names_stays_inside(cage: Cage, world: World) -> None:
    """A tunnel in questions: nobody outside is asked for what is not on the list."""
    world.name(f"good.{TEST}", A=[FIRST])
    cage.start("caged", f"good.{TEST}")
    names = ["41.113.0.203.in-addr.arpa", "stolen", f"agood.{TEST}", f"stolen.good.{TEST}"]
    names += [f"stolen.tunnel.{TEST}", f"good.{TEST}.tunnel.{TEST}"]
    probes = [(kind, f"{GATEWAY}/{name}", 0) for name in names for kind in ("dns", "dnstcp")]
    assert all(text.startswith("code 5") for text in cage.try_all("caged", *probes))
    asked = [q.name for q in world.questions() if "stolen" in q.name or "tunnel" in q.name]
    assert asked == [] and world.questions(f"agood.{TEST}") == []


# --- what is told ------------------------------------------------------------


def test_denials_are_told(cage: Cage, world: World, servers: None) -> None:
    cage.start("caged", f"{FIRST}:{PORT}")
    probes: tuple[Probe, ...] = (
        ("tcp", SECOND, PORT),
        ("tcp", SECOND, PORT),
        ("udp", SECOND6, OTHER_PORT),
        ("name", f"bad.{TEST}", 0),
        ("tcp", FIRST, PORT),
    )
    cage.try_all("caged", *probes)
    eventually(lambda: len(cage.denied("caged")) >= 3)
    time.sleep(1.2)  # the next report
    denied = cage.denied("caged")
    found = {(d["Destination"], d["Port"], d["Protocol"]): d["Count"] for d in denied}
    assert found[SECOND, PORT, "tcp"] == 2
    assert found[SECOND6, OTHER_PORT, "udp"] >= 1
    assert found[f"bad.{TEST}", 0, "dns"] >= 1
    assert not any(address == FIRST for address, _, _ in found)
    told = cage.podpy("events", "--stream=false", "--filter", "event=egress_denied").stdout
    assert SECOND in told and f"bad.{TEST}" in told


def test_denials_of_a_container_that_lives_for_a_moment_are_told(cage: Cage) -> None:
    words = ["--name", "brief", *cage.words("none"), cage.image]
    cage.podpy("run", *words, "wget", "-qO-", f"http://{SECOND}:{PORT}/", code=None)
    (denied,) = cage.denied("brief")
    assert (denied["Destination"], denied["Port"]) == (SECOND, PORT)
    told = cage.podpy("events", "--stream=false", "--filter", "event=egress_denied").stdout
    assert SECOND in told


def test_a_flood_of_denials_is_bounded(cage: Cage, world: World) -> None:
    cage.start("caged", "none")
    flood = (
        "import socket\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "for n in range(20000):\n"
        "    try: s.sendto(b'x', (f'203.0.113.{n % 250}', 1 + n % 60000))\n"
        "    except OSError: pass\n"
    )
    cage.inside("caged", flood)
    eventually(lambda: cage.denied("caged"))
    time.sleep(1.5)
    assert len(cage.denied("caged")) <= 64
    assert cage.try_all("caged", ("dns", f"{GATEWAY}/bad.{TEST}", 0))[0].startswith("code 5")


# --- changes and deaths ------------------------------------------------------


def test_every_network_of_a_container_is_guarded(cage: Cage, servers: None) -> None:
    """Networks that it joins later, and those that are made anew under it."""
    cage.podpy("network", "create", "--subnet", "10.78.0.0/24", "second")
    words = ["--name", "there", "--network", "second", *guest.with_python(), cage.image]
    cage.podpy("run", "-d", *words, *guest.script(guest.SERVER, "70"))
    eventually(lambda: "serving" in cage.podpy("logs", "there").stdout)
    probes: tuple[Probe, ...] = (
        ("tcp", FIRST, PORT), ("tcp", SECOND, PORT), ("tcp", "there", 70),
        ("tcp", "10.78.0.2", 70), ("dns", f"10.78.0.1/stolen.{TEST}", 0),
    )  # fmt: skip

    def check(*steps: str) -> None:
        cage.podpy(*steps)
        allowed, other, *rest = cage.try_all("caged", *probes)
        assert is_reached(allowed) and other in REFUSED, steps
        assert not any(map(is_reached, rest[:2])), steps
        assert not is_reached(rest[2]) or rest[2].startswith("code 5"), steps

    cage.start("caged", FIRST)
    check("network", "connect", "second", "caged")
    check("network", "reload", "caged")
    check("network", "disconnect", "second", "caged")
    check("restart", "-t", "0", "caged")


def test_a_container_that_outlives_its_supervisor_stays_shut(
    cage: Cage, servers: None, directory: Path
) -> None:
    (directory / "seen").mkdir(mode=0o777)
    stubborn = (
        "import signal, socket, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "while True:\n"
        "    for address in sys.argv[1:]:\n"
        "        try:\n"
        f"            socket.create_connection((address, {PORT}), 0.2)\n"
        "            open('/seen/' + address, 'w')\n"
        "        except OSError:\n"
        "            pass\n"
        "    open('/seen/alive', 'w').write(str(time.time()))\n"
    )
    words = ["--name", "caged", *cage.words(FIRST), "-v", f"{directory}/seen:/seen", cage.image]
    cage.podpy("run", "-d", *words, *guest.script("import sys\n" + stubborn, FIRST, SECOND))
    eventually((directory / "seen" / FIRST).exists)
    state = json.loads(cage.podpy("inspect", "caged").stdout)[0]["State"]
    os.kill(state["ConmonPid"], signal.SIGKILL)
    time.sleep(2)
    cage.podpy("rm", "-f", "-t", "0", "caged")
    assert not (directory / "seen" / SECOND).exists()


def supervisor(podpy: Podpy) -> int:
    """The pid of the network supervisor that is there now, or 0."""
    for lock in podpy.runtime.glob("network*/lock"):
        if text := lock.read_text():
            pid = int(json.loads(text)["pid"])
            return pid if Path(f"/proc/{pid}").exists() else 0
    return 0


def test_the_policy_outlives_the_network_supervisor(
    cage: Cage, world: World, servers: None
) -> None:
    world.name(f"good.{TEST}", A=[FIRST])
    cage.start("caged", f"good.{TEST}:{PORT}")
    allowed: Probe = ("tcp", FIRST, PORT)
    forbidden: Probe = ("tcp", SECOND, PORT)
    assert is_reached(cage.try_all("caged", ("tcp", f"good.{TEST}", PORT))[0])
    before = supervisor(cage.podpy)
    os.kill(before, signal.SIGKILL)
    seen = cage.try_all("caged", allowed, forbidden)
    assert is_reached(seen[0]) and seen[1] in REFUSED, seen
    eventually(lambda: supervisor(cage.podpy) not in (0, before))
    time.sleep(1.5)  # it has settled
    seen = cage.try_all("caged", allowed, forbidden, ("tcp", f"good.{TEST}", PORT))
    assert is_reached(seen[0]) and seen[1] in REFUSED and is_reached(seen[2]), seen
    cage.try_all("caged", ("name", f"bad.{TEST}", 0), forbidden)
    eventually(lambda: len(cage.denied("caged")) >= 2)


@pytest.mark.long
def test_a_name_closes_after_its_time_and_connections_go_on(cage: Cage, world: World) -> None:
    world.name(f"good.{TEST}", A=[FIRST], ttl=1)
    server = world.serve(address=FIRST, port=PORT)
    cage.start("caged", f"good.{TEST}:{PORT}")
    begun = (
        "import socket, time\n"
        f"peer = socket.create_connection(('good.{TEST}', {PORT}))\n"
        "stream = peer.makefile('rw')\n"
        "stream.readline()\n"
        "time.sleep(63)\n"
        "stream.write('still here\\n'); stream.flush()\n"
        "print(stream.readline())\n"
        f"try: socket.create_connection(('{FIRST}', {PORT}), 2)\n"
        "except OSError as error: print('closed', error)\n"
        f"socket.create_connection(('good.{TEST}', {PORT}), 2)\n"
        "print('open again')\n"
    )
    lines = cage.inside("caged", begun).split("\n")
    server.close()
    assert "still here" in lines and "open again" in lines
    assert any(line.startswith("closed") for line in lines)
