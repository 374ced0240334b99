"""Networks are walls: what a container on one of them cannot reach, whatever it tries.

The intruders have NET_ADMIN and NET_RAW: they are root of their own network namespace, with
any route, address and interface they like.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from podpy.net import client
from podpy.netmodel import Attachment, Network
from podpy.records import from_dict
from support import attacker, guest, processes
from support.matrix import greeter
from support.podpy import CHECKOUT, Podpy
from support.polling import eventually
from support.world import Server, World

pytestmark = pytest.mark.needs("world", "slirp4netns", "/dev/net/tun")

#: Networks of the tests: IPv4 and IPv6 subnet, with the gateway at ``.1``.
RED, BLUE = ("10.71.0.", "fd71:71::"), ("10.72.0.", "fd72:72::")
INTRUDER = ("--cap-add", "NET_ADMIN", "--cap-add", "NET_RAW")
PINGS = ("--sysctl", "net.ipv4.ping_group_range=0 0")
# Ports of the host that the workers of a run do not share.
PORT = 20150 + 200 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))

Probe = tuple[str, str, int]

#: The probes of :mod:`support.attacker`, all at once: most of them wait for an answer in vain.
PROBE = (
    attacker.PROBE.rpartition("\nfound = []")[0]
    + """
import concurrent.futures

def attempt(probe):
    kind, host, port = probe
    try:
        return globals()[kind](host, port)
    except OSError:
        return ""

with concurrent.futures.ThreadPoolExecutor(32) as pool:
    print(json.dumps(list(pool.map(attempt, json.loads(sys.argv[1])))))
"""
)

#: Every TCP port on which an address answers.
SCAN = """
import errno, json, resource, select, socket, sys
address, scope = sys.argv[1], int(sys.argv[2])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
limit = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 9000)
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
step = limit - 100
found = []
for start in range(1, 65536, step):
    poll, pending = select.poll(), {}
    for port in range(start, min(start + step, 65536)):
        peer = socket.socket(family)
        peer.setblocking(False)
        target = (address, port) if family == socket.AF_INET else (address, port, 0, scope)
        if (error := peer.connect_ex(target)) == 0:
            found.append(port)
        elif error == errno.EINPROGRESS:
            pending[peer.fileno()] = (peer, port)
            poll.register(peer, select.POLLOUT)
            continue
        peer.close()
    while pending and (ready := poll.poll(1000)):
        for fd, _ in ready:
            peer, port = pending.pop(fd)
            poll.unregister(fd)
            if peer.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                found.append(port)
            peer.close()
    for peer, _ in pending.values():
        peer.close()
print(json.dumps(found))
"""


class Town:
    """Two networks and the containers on them."""

    def __init__(self, podpy: Podpy, image: str) -> None:
        self.podpy, self.image = podpy, image
        for name, (four, six) in (("red", RED), ("blue", BLUE)):
            subnets = ("--subnet", f"{four}0/24", "--ipv6", "--subnet", f"{six}/64")
            podpy("network", "create", *subnets, name)

    def start(self, name: str, network: str, *options: str) -> None:
        """An intruder on a network; without a network by the options alone."""
        words = ["--name", name, *(("--network", network) if network else ()), *options]
        words += [*(PINGS if network else ()), *INTRUDER, *guest.with_python()]
        self.podpy("run", "-d", *words, self.image, "sleep", "1000")

    def serve(self, name: str, network: str, *ports: str, options: tuple[str, ...] = ()) -> None:
        words = ["--name", name, "--network", network, *options, *guest.with_python(), self.image]
        self.podpy("run", "-d", *words, *guest.script(guest.SERVER, *ports))
        eventually(lambda: "serving" in self.podpy("logs", name).stdout)

    def reached(self, name: str, *probes: Probe) -> list[Probe]:
        """Which of the probes got an answer, tried from a container."""
        return [probe for probe, seen in zip(probes, self.seen(name, *probes)) if seen]

    def seen(self, name: str, *probes: Probe) -> list[str]:
        """What came back for each of the probes; empty when nothing did."""
        code = guest.script(PROBE, json.dumps(probes))
        found: list[str] = json.loads(self.podpy("exec", name, *code, timeout=120).text)
        return found

    def shell(self, name: str, script: str) -> str:
        return self.podpy("exec", name, "sh", "-c", script, code=None).stdout

    def addresses(self, name: str, network: str) -> tuple[str, str]:
        (found,) = json.loads(self.podpy("inspect", name).stdout)
        settings = found["NetworkSettings"]["Networks"][network]
        return settings["IPAddress"], settings["GlobalIPv6Address"]


@pytest.fixture
def town(podpy: Podpy, busybox: str) -> Town:
    return Town(podpy, busybox)


def ways_to(four: str, six: str, *names: str) -> tuple[Probe, ...]:
    """Everything by which a server on ports 80 and 81/udp can be reached."""
    return (
        ("tcp", four, 80), ("udp", four, 81), ("ping", four, 0),
        ("tcp", six, 80), ("udp", six, 81), ("ping", six, 0),
        *(("name", name, 0) for name in names),
    )  # fmt: skip


# --- from one network to another ---------------------------------------------


def test_neighbours_reach_each_other(town: Town) -> None:
    """The measure of the next tests: every probe succeeds where it may."""
    town.serve("target", "blue", "80", "81/udp", options=("--network-alias", "goal"))
    town.start("inside", "blue")
    probes = ways_to(*town.addresses("target", "blue"), "target", "goal")
    assert town.reached("inside", *probes) == list(probes)


def test_another_network_is_out_of_reach(town: Town) -> None:
    """Its containers, by address and name, its gateway, and its resolver."""
    town.serve("target", "blue", "80", "81/udp", options=("--network-alias", "goal"))
    town.start("outside", "red")
    probes = (
        *ways_to(*town.addresses("target", "blue"), "target", "goal"),
        ("dns", f"{BLUE[0]}1/target", 53), ("dnstcp", f"{BLUE[0]}1/target", 53),
        ("dns", f"{BLUE[1]}1/target", 53),
    )  # fmt: skip
    assert town.reached("outside", *probes) == []
    # The resolver of its own network answers, and says that there is no such name.
    asked = [("dns", f"{RED[0]}1/{name}", 53) for name in ("target", "outside")]
    other, own = town.seen("outside", *asked)
    assert other.startswith("code 3")
    assert own == f"code 0 {town.addresses('outside', 'red')[0]}"


@pytest.mark.parametrize(
    "trick",
    [
        f"ip route add {BLUE[0]}0/24 via {RED[0]}1; ip -6 route add {BLUE[1]}/64 via {RED[1]}1",
        f"ip addr add {BLUE[0]}99/24 dev eth0; ip -6 addr add {BLUE[1]}99/64 dev eth0 nodad",
        # By way of the programs that serve as the way out.
        "ip route add 10.0.2.0/24 dev eth0; ip route replace default via 10.0.2.2",
        f"ip addr add {BLUE[0]}99/32 dev eth0; "
        f"ip route add {BLUE[0]}0/24 via {RED[0]}1 src {BLUE[0]}99",
    ],
    ids=["routes", "addresses", "the uplink's network", "another's source"],
)  # fmt: skip
def test_routes_and_addresses_of_its_own_open_nothing(town: Town, trick: str) -> None:
    town.serve("target", "blue", "80", "81/udp")
    town.start("outside", "red")
    town.shell("outside", trick)
    assert town.reached("outside", *ways_to(*town.addresses("target", "blue"))) == []


def test_the_default_network_is_one_of_them(town: Town) -> None:
    town.serve("target", "blue", "80", "81/udp")
    town.start("outside", "bridge")
    town.start("alone", "slirp4netns")
    probes = ways_to(*town.addresses("target", "blue"), "target")
    assert town.reached("outside", *probes) == []
    assert town.reached("alone", *probes) == []


def test_isolation_is_lifted_by_both_networks_only(town: Town) -> None:
    """``isolate=false`` of one alone opens nothing."""
    podpy = town.podpy
    for name, number in (("open1", 73), ("open2", 74)):
        subnet = ("--subnet", f"10.{number}.0.0/24")
        podpy("network", "create", *subnet, "--opt", "isolate=false", name)
    town.serve("target", "open1", "80")
    town.start("friend", "open2")
    town.start("outside", "red")
    address, _ = town.addresses("target", "open1")
    assert town.reached("friend", ("tcp", address, 80)) == [("tcp", address, 80)]
    assert town.reached("outside", ("tcp", address, 80)) == []


def test_disconnecting_closes_what_connecting_opened(town: Town) -> None:
    town.serve("target", "blue", "80", "81/udp")
    town.start("visitor", "red")
    probes = ways_to(*town.addresses("target", "blue"), "target")
    town.podpy("network", "connect", "blue", "visitor")
    assert town.reached("visitor", *probes) == list(probes)
    town.podpy("network", "disconnect", "blue", "visitor")
    assert town.reached("visitor", *probes) == []


def test_a_port_published_on_the_loopback_is_the_hosts_alone(town: Town) -> None:
    """Not even other containers come to it, by any address of the host or the uplink."""
    port = str(PORT)
    town.serve("target", "blue", "80", options=("-p", f"127.0.0.1:{port}:80"))
    for network in ("red", "slirp4netns"):
        town.start(f"on-{network}", network)
        hosts = ("127.0.0.1", World.host, "10.0.2.2", "10.0.2.100", f"{RED[0]}1", "fd00::2")
        probes = [("tcp", address, PORT) for address in hosts]
        assert town.reached(f"on-{network}", *probes) == []


# --- the host, and podpy itself ----------------------------------------------


def test_the_gateway_answers_questions_and_nothing_else(town: Town) -> None:
    """Its only open port is the resolver's; of the uplink behind it, none."""
    town.start("scanner", "red")
    town.start("other", "blue")  # the resolver serves that network, too

    def scan(address: str, scope: int = 0) -> list[int]:
        code = guest.script(SCAN, address, scope)
        found: list[int] = json.loads(town.podpy("exec", "scanner", *code, timeout=120).text)
        return found

    assert scan(f"{RED[0]}1") == [53]
    assert scan(f"{RED[1]}1") == [53]
    # The other network's is an address of the same host: it may answer pings, and no more.
    assert scan(f"{BLUE[0]}1") == []
    assert scan(f"{BLUE[1]}1") == []
    assert scan("10.0.2.100") == []
    local = town.shell("scanner", "ip -6 neigh show dev eth0; cat /sys/class/net/eth0/ifindex")
    for line in local.splitlines()[:-1]:
        if line.startswith("fe80"):
            assert scan(line.split()[0], int(local.split()[-1])) in ([], [53])


def test_the_hosts_loopback_and_abstract_sockets_stay_closed(town: Town) -> None:
    abstract = f"podpy-test-walls-{os.getpid()}"
    town.start("outside", "red")
    with greeter("127.0.0.1") as four, greeter("::1") as six, greeter(f"\0{abstract}"):
        tricks = (
            "true",
            f"ip route add 127.0.0.0/8 via {RED[0]}1 table 9; ip rule add pref 0 lookup 9",
            f"ip addr del 127.0.0.1/8 dev lo; ip route add 127.0.0.1 via {RED[0]}1",
            "ip route add 10.0.2.0/24 dev eth0",
        )
        for trick in tricks:
            town.shell("outside", trick)
            probes = [
                *(("tcp", f"{address}", four) for address in
                  ("127.0.0.1", f"{RED[0]}1", "10.0.2.2", "10.0.2.3", "10.0.2.100")),
                *(("tcp", address, six) for address in ("::1", f"{RED[1]}1", "fd00::2", "fd00::3")),
            ]  # fmt: skip
            assert town.reached("outside", *probes) == [], trick
    # Unix sockets: of its own network namespace there are none, so no abstract one either.
    assert town.shell("outside", "cat /proc/net/unix").splitlines()[1:] == []


def test_no_socket_of_podpys_is_in_a_container(town: Town) -> None:
    """Neither the supervisor's nor the network supervisor's nor the uplink's, by any path."""
    town.start("outside", "red")
    assert town.shell("outside", "find / -xdev -type s 2>/dev/null; ls -d /run/podpy") == ""
    sockets = [path for path in town.podpy.runtime.rglob("*") if path.is_socket()]
    assert sockets, "there must be sockets to look for"
    for path in sockets:
        inside = town.shell("outside", f"ls -d {path} {path.parent}")
        assert inside == ""


def test_sockets_are_their_users_own(town: Town) -> None:
    """Directories that hold them let nobody else through, or the sockets are 0600."""
    town.start("outside", "red")
    for path in (path for path in town.podpy.runtime.rglob("*") if path.is_socket()):
        found = path.stat()
        ways = [path.parent, *path.parent.parents]
        closed = any(stat.S_IMODE(each.stat().st_mode) & 0o077 == 0 for each in ways)
        assert closed or stat.S_IMODE(found.st_mode) & 0o077 == 0, path


def test_the_network_supervisor_has_nothing_of_a_containers(town: Town) -> None:
    """It has no capability, and its inner child none in the host's or a container's namespaces."""
    town.start("outside", "red")
    found = {
        each.pid: Path(f"/proc/{each.pid}/cmdline").read_text().replace("\0", " ").strip()
        for each in processes.descendants()
    }
    supervisors = [pid for pid, name in found.items() if name == "podpy network supervisor"]
    (inner,) = [pid for pid, name in found.items() if name == "podpy network supervisor, inside"]
    (supervisor,) = supervisors
    status = Path(f"/proc/{supervisor}/status").read_text()
    assert [line.split()[1] for line in status.splitlines() if line.startswith("CapEff")] == [
        "0000000000000000"
    ]
    contained = int(town.podpy("inspect", "-f", "{{.State.Pid}}", "outside").text)
    assert _namespace(supervisor, "user") == _namespace(os.getpid(), "user")
    assert _namespace(supervisor, "net") == _namespace(os.getpid(), "net")
    for kind in ("user", "net"):
        assert _namespace(inner, kind) != _namespace(contained, kind)
        assert _namespace(inner, kind) != _namespace(os.getpid(), kind)


def _namespace(pid: int, kind: str) -> int:
    """A namespace's inode; the link can be read where the process itself can be looked into."""
    try:
        return os.stat(f"/proc/{pid}/ns/{kind}").st_ino
    except PermissionError:
        return -pid  # not to be looked into: not ours, and so nobody's that we compare it with


# --- --internal --------------------------------------------------------------


def test_an_internal_network_has_no_way_out(town: Town, world: World) -> None:
    """TCP, UDP, DNS, ICMP, by IPv4 and IPv6, with routes of its own, and none in."""
    server = world.serve()
    six = world.serve(address=world.server6, port=server.port)
    subnets = ("--subnet", "10.75.0.0/24", "--ipv6", "--subnet", "fd75:75::/64")
    town.podpy("network", "create", "--internal", *subnets, "closed")
    town.serve("target", "closed", "80", "81/udp")
    town.start("inside", "closed")
    town.start("free", "red")
    outward: tuple[Probe, ...] = (
        ("tcp", server.address, server.port), ("udp", server.address, server.port),
        ("tcp", six.address, six.port), ("udp", six.address, six.port),
        ("ping", world.server, 0), ("dns", f"{world.address}/server.world.test", 53),
        ("dnstcp", f"{world.address}/server.world.test", 53), ("name", "server.world.test", 0),
    )  # fmt: skip
    # The host itself, the uplink's own addresses and resolver.
    outward += tuple(
        ("dns", f"{address}/server.world.test", 53) for address in ("10.0.2.3", "fd00::3")
    )
    with greeter(world.host) as port:
        outward += (("tcp", world.host, port), ("ping", world.host, 0), ("ping", "10.0.2.2", 0))
        assert ("tcp", server.address, server.port) in town.reached("free", *outward)
        before = len(world.questions())
        for trick in (
            "true",
            "ip route replace default via 10.75.0.1; ip -6 route replace default via fd75:75::1",
            f"ip addr add {RED[0]}50/32 dev eth0; ip route replace default via 10.75.0.1 "
            f"src {RED[0]}50",
        ):
            town.shell("inside", trick)
            assert town.reached("inside", *outward) == [], trick
        assert [each for each in world.questions()[before:] if "server.world" in each.name] == []
    # Among themselves they talk.
    neighbour = ways_to(*town.addresses("target", "closed"), "target")
    assert town.reached("inside", *neighbour) == list(neighbour)
    assert town.reached("free", *neighbour) == []


def test_an_internal_network_is_no_way_in(town: Town, world: World) -> None:
    """A port that nobody reaches is not published; with a second network, somebody does."""
    podpy, command = town.podpy, guest.script(guest.SERVER, "80")
    podpy("network", "create", "--internal", "closed")
    words = ["--network", "closed", "-p", f"{PORT}:80", *guest.with_python()]
    done = podpy.fails("run", "-d", "--rm", *words, town.image, *command)
    assert "--publish 80" in done.stderr
    assert "internal" in done.stderr
    podpy("run", "-d", "--name", "both", "--network", "red", *words, town.image, *command)
    eventually(lambda: "serving" in podpy("logs", "both").stdout)
    assert world.visit(world.host, PORT) == f"80 ::ffff:{world.address}"


# --- rules -------------------------------------------------------------------

#: What root of a network namespace may do to it; each line is one attempt.
VANDALISM = (
    "ip link set eth0 down; ip link set eth0 name veth9; ip link set veth9 up",
    "ip addr flush dev eth0; ip route flush table main; ip rule flush",
    f"ip link set eth0 down; ip link set eth0 address 02:00:00:00:00:01; ip link set eth0 up; "
    f"ip addr add {BLUE[0]}99/24 dev eth0",
    "ip link add podpy0 type bridge; ip link set eth0 master podpy0; ip link set podpy0 up",
    "nft add table inet x; nft add chain inet x y '{ type filter hook forward priority 0; "
    "policy drop; }'; iptables -P FORWARD DROP",
    "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv4/conf/all/proxy_arp",
    "ip link delete eth0",
)


def test_root_of_its_own_network_harms_itself_only(town: Town) -> None:
    """The others talk on as before, it reaches nobody else, and it can be removed."""
    town.serve("target", "blue", "80", "81/udp")
    town.start("inside", "blue")
    town.start("outside", "red")
    probes = ways_to(*town.addresses("target", "blue"), "target")
    for attempt in VANDALISM:
        town.start("vandal", "blue")
        town.shell("vandal", attempt)
        assert town.reached("inside", *probes) == list(probes), attempt
        assert town.reached("outside", *probes) == [], attempt
        town.podpy("rm", "-f", "-t", "0", "vandal")
    town.start("vandal", "blue")
    assert town.reached("vandal", *probes) == list(probes)


def test_without_the_right_nothing_can_be_changed(podpy: Podpy, busybox: str) -> None:
    attempts = (
        "ip link set eth0 down", "ip addr add 10.9.9.9/24 dev eth0", "ip route del default",
        "ip link add x type dummy", "ip neigh add 10.88.0.1 lladdr 02:00:00:00:00:09 dev eth0",
        "/usr/sbin/nft add table inet x", "arping -c 1 10.88.0.1",
    )  # fmt: skip
    script = "; ".join(f"{attempt} >/dev/null 2>&1 && echo did: {attempt}" for attempt in attempts)
    words = [*guest.with_python(), busybox, "sh", "-c", f"{script}; echo end"]
    assert podpy("run", "--rm", "--network", "bridge", *words).text == "end"


# --- joining -----------------------------------------------------------------


def test_who_joins_is_where_the_other_is(town: Town) -> None:
    """``container:`` brings the other's walls along, and no second network."""
    town.serve("target", "blue", "80", "81/udp")
    town.start("holder", "red")
    town.start("joined", "", "--network", "container:holder")
    probes = ways_to(*town.addresses("target", "blue"), "target")
    assert town.reached("joined", *probes) == []
    # With the other's network namespace comes the other's user namespace, and no more power.
    town.shell("joined", f"ip route add {BLUE[0]}0/24 via {RED[0]}1")
    assert town.reached("holder", *probes) == []


def test_a_running_container_is_connected_without_its_doing(town: Town) -> None:
    """The one that is connected is told nothing before its interface is there, whole."""
    town.serve("target", "blue", "80", "81/udp")
    town.start("visitor", "red")
    town.podpy("network", "connect", "blue", "visitor")
    links = town.shell("visitor", "ip -o link").splitlines()
    assert len([line for line in links if "UP" in line and "lo:" not in line]) == 2
    # No end of a cable of the other network, and no descriptor of podpy's, came with it.
    assert town.shell("visitor", "ls -l /proc/1/fd | grep -c 'net:\\|socket:'").strip() == "0"


# --- a container against the network supervisor ------------------------------

#: Fills every rtnetlink socket of the namespace that is not its own, as full as it gets.
NETLINK_STUFFER = """
import socket, struct
table = open("/proc/net/netlink").read().splitlines()[1:]
ports = [int(line.split()[2]) for line in table if line.split()[1] == "0"]
accepted = 0
for port in filter(None, ports):
    sender = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    sender.setblocking(False)
    for size in (30000, 1000, 100, 0):
        try:
            while True:
                header = struct.pack("=IHHII", 16 + size, 99, 0, 1, 0)
                sender.sendto(header + bytes(size), (port, 0))
                accepted += 1
        except OSError:
            pass
print(len(ports) > 1, accepted)
"""


def test_the_supervisors_netlink_socket_hears_the_kernel_alone(town: Town) -> None:
    """The socket by which a container is configured is in its own namespace.

    Its root could answer in the kernel's place, or fill the queue until the kernel's
    answers are lost and the network supervisor waits for ever, and everybody with it.
    """
    town.start("stuffer", "red")
    town.start("inside", "red")
    stuffed = town.podpy("exec", "stuffer", *guest.script(NETLINK_STUFFER)).text
    assert stuffed == "True 0"
    for _ in range(2):
        town.podpy("network", "reload", "stuffer", timeout=20)
    probes = [("name", "stuffer", 0)]
    assert town.reached("inside", *probes) == probes


def test_hundreds_of_ports_are_no_packet_too_large(town: Town) -> None:
    """What is told of them is more than a packet holds: at the start, and to the successor."""
    ports = f"{PORT}-{PORT + 149}"
    words = ("-p", f"{ports}:{ports}/tcp", "-p", f"{ports}:{ports}/udp")
    town.serve("target", "blue", str(PORT + 149), options=words)
    town.start("inside", "blue")
    (lock,) = town.podpy.runtime.rglob("network/lock")
    os.kill(json.loads(lock.read_text())["pid"], signal.SIGKILL)
    town.podpy("network", "connect", "red", "target", timeout=60)
    assert len(town.podpy("port", "target").stdout.splitlines()) == 600
    probes = [("name", "target", 0), ("tcp", town.addresses("target", "blue")[0], PORT + 149)]
    assert town.reached("inside", *probes) == probes


# --- frames that no honest stack sends ---------------------------------------

#: ``GATEWAY SOURCE [[ADDRESS, PORT], …]``: opens of TCP connections in raw IPv6 packets, by way
#: of the gateway; prints the addresses that took them.
KNOCKER = """
import json, socket, struct, sys, time
gateway, source, targets = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", (gateway, 9))
time.sleep(0.3)
rows = [line.split() for line in open("/proc/net/arp")]
packed = lambda text: bytes.fromhex(text.replace(":", ""))
frame = packed(next(row[3] for row in rows if row[0] == gateway))
frame += packed(open("/sys/class/net/eth0/address").read().strip()) + b"\\x86\\xdd"

def checksum(data):
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF

link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x86DD))
link.bind(("eth0", 0))
link.settimeout(0.2)
heard = []
for number, (address, port) in enumerate(targets):
    ends = b"".join(socket.inet_pton(socket.AF_INET6, each) for each in (source, address))
    own = 40000 + number
    for attempt in range(2):
        words = [own, port, 7 + attempt, 0, 0x5002, 65535, 0, 0]
        words[6] = checksum(ends + struct.pack(">II", 20, 6) + struct.pack(">HHIIHHHH", *words))
        head = struct.pack(">IHBB", 6 << 28, 20, 6, 64) + ends
        link.send(frame + head + struct.pack(">HHIIHHHH", *words))
        end = time.monotonic() + 1
        while time.monotonic() < end and address not in heard:
            try:
                answer = link.recv(2048)[54:]
            except TimeoutError:
                continue
            if answer[:4] == struct.pack(">HH", port, own) and answer[13] & 0x12 == 0x12:
                heard.append(address)
print(json.dumps(heard))
"""


def knock(town: Town, name: str, source: str, *targets: tuple[str, int]) -> list[str]:
    code = guest.script(KNOCKER, f"{RED[0]}1", source, json.dumps(targets))
    found: list[str] = json.loads(town.podpy("exec", name, *code).text)
    return found


def test_the_hosts_loopback_in_other_clothes_stays_closed(town: Town, world: World) -> None:
    """Who connects for a container reaches the host itself by such addresses."""
    server = world.serve(address=world.server6)
    town.start("outside", "red")
    _, own = town.addresses("outside", "red")
    with greeter("127.0.0.1") as four, greeter("::1") as six:
        targets = [(server.address, server.port), ("::ffff:127.0.0.1", four), ("::", six)]
        targets += [("::1", six), ("::127.0.0.1", four), (f"::ffff:{World.host}", four)]
        assert knock(town, "outside", own, *targets) == [server.address]


def test_nobody_speaks_for_another_network(town: Town, world: World) -> None:
    """The world would answer the one whose address was used, which lets strangers in there."""
    town.serve("target", "blue", "80", "81/udp")
    four, six = town.addresses("target", "blue")
    town.start("outside", "red")
    own, own6 = town.addresses("outside", "red")
    server, server6 = world.serve(), world.serve(address=world.server6)

    def is_heard(source: str) -> bool:
        before = len(server.lines)
        arguments = (server.address, server.port, json.dumps([source]), "eth0")
        town.podpy("exec", "outside", *guest.script(attacker.IMPOSTOR, *arguments))
        return eventually_more(server, before)

    assert is_heard(own)
    assert not is_heard(four)
    before = len(server6.lines)
    assert knock(town, "outside", own6, (server6.address, server6.port)) == [server6.address]
    assert eventually_more(server6, before)
    before = len(server6.lines)
    knock(town, "outside", six, (server6.address, server6.port))
    assert not eventually_more(server6, before)


def eventually_more(server: Server, before: int) -> bool:
    """Whether a server of the world hears something within a second."""
    end = time.monotonic() + 1
    while time.monotonic() < end:
        if len(server.lines) > before:
            return True
        time.sleep(0.05)
    return False


def test_the_environment_of_who_came_first_is_kept_by_nobody(town: Town) -> None:
    """The network supervisor and the uplink's program outlive the command that started them."""
    town.podpy.env["SENTINEL"] = "a-secret-of-the-caller"
    town.start("outside", "red")
    read = 0
    for each in processes.descendants():
        name = Path(f"/proc/{each.pid}/cmdline").read_bytes()
        try:
            environment = Path(f"/proc/{each.pid}/environ").read_bytes()
        except OSError:
            continue  # not to be looked into
        assert b"a-secret" not in environment, name
        read += b"podpy" in name
    assert read


def test_no_two_containers_ever_have_one_address(town: Town) -> None:
    """Not even when the runtime directory is deleted, and two supervisors live for a moment.

    Who has another's address is taken for it by the resolver, and by every neighbour.
    """
    for name in ("first", "second"):
        town.start(name, "red")
    (lock,) = town.podpy.runtime.rglob("network/lock")
    shutil.rmtree(lock.parent)
    for name in ("third", "fourth"):
        town.start(name, "red")
    old = town.addresses("first", "red")
    eventually(lambda: town.addresses("first", "red") != old, timeout=15, what="another address")
    names = ("first", "second", "third", "fourth")
    eventually(lambda: len({town.addresses(name, "red") for name in names}) == 4, timeout=15)
    for name in names:
        four, six = town.addresses(name, "red")
        held = town.shell(name, "ip -o addr show scope global")
        assert f" {four}/" in held and f" {six}/" in held
        code = guest.script(attacker.PROBE, json.dumps([("name", name, 0)]))
        found = json.loads(town.podpy("exec", "third", *code).text)[0][0].split()
        assert four in found and {four, six}.issuperset(found)
    town.podpy("rm", "-f", "-t", "0", *names)


def test_without_a_free_descriptor_the_network_supervisor_serves_who_is_there(town: Town) -> None:
    """Whoever calls a published port again and again takes them; nobody else is to notice."""
    for name in ("first", "second"):
        town.start(name, "red")
    (lock,) = town.podpy.runtime.rglob("network/lock")
    supervisor = json.loads(lock.read_text())["pid"]
    time.sleep(1.5)  # until it has loaded what answers need
    soft, hard = resource.prlimit(supervisor, resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir(f"/proc/{supervisor}/fd"))
    resource.prlimit(supervisor, resource.RLIMIT_NOFILE, (highest + 1, hard))
    probes = [("name", "first", 0), ("dnstcp", f"{RED[0]}1/first", 53)]
    late = ("run", "--rm", "--network", "red", town.image, "true")
    for _ in range(3):
        waiting = town.podpy.start(*late)
        assert town.reached("second", probes[0]) == probes[:1]
        waiting.kill()
    resource.prlimit(supervisor, resource.RLIMIT_NOFILE, (soft, hard))
    town.podpy(*late, timeout=30)
    assert town.reached("second", *probes) == probes
    assert json.loads(lock.read_text())["pid"] == supervisor


def test_what_was_done_and_not_told_can_be_asked_for_again(town: Town) -> None:
    """A supervisor is killed between doing and answering: its successor is asked the same."""
    town.start("outside", "red")
    (ident,) = (each["Id"] for each in json.loads(town.podpy("inspect", "outside").stdout))
    (blue,) = json.loads(town.podpy("network", "inspect", "blue").stdout)
    (lock,) = town.podpy.runtime.rglob("network/lock")
    place = str(lock.parent)
    town.podpy("network", "connect", "blue", "outside")
    before = town.addresses("outside", "blue")
    made = from_dict(Network, json.loads((town.podpy.store / "networks/blue.json").read_text()))
    assert made.id == blue["id"]
    client.connect(place, ident, made, Attachment(network="blue"))
    assert town.addresses("outside", "blue") == before
    town.podpy("network", "disconnect", "blue", "outside")
    client.disconnect(place, ident, "blue")
    assert len(town.shell("outside", "ls /sys/class/net").split()) == 2


# --- the host's mounts -------------------------------------------------------

ROOTS_HELPER = """
import contextlib, sys
from podpy.errors import HostError
from podpy.net import slirp
from podpy.net.inner import Inner
inner = Inner.create()
with contextlib.suppress(HostError):
    slirp.start(inner.pid, slirp.Settings()).wait_ready()
inner.close()
"""


def test_the_helper_of_root_leaves_the_hosts_mounts_alone(tmp_path: Path) -> None:
    """slirp4netns makes its root private, not what is mounted below, and unmounts it all.

    Where mounts are shared, as on every host with systemd, /dev/pts was gone on
    the host when root had started a container.  Here the program is one that
    tells in which mounts it was started.
    """
    program, seen = tmp_path / "slirp4netns", tmp_path / "seen"
    program.write_text(f"#!/bin/sh\ncat /proc/self/mountinfo >{seen}\n")
    program.chmod(0o755)
    root = ["unshare", "--user", "--map-root-user", "--mount", "--propagation", "shared"]
    done = subprocess.run(
        [*root, sys.executable, "-c", ROOTS_HELPER],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert " / / " in seen.read_text()
    assert "shared:" not in seen.read_text()
