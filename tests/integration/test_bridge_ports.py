"""Published ports and the uplink of bridge networks, as clients near and far see them."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from podpy.kernel import process
from podpy.model import ProcessIdentity
from podpy.records import from_dict
from support import guest, host
from support.matrix import greeter
from support.podpy import Podpy
from support.polling import eventually
from support.world import World

DUAL = "dual"
#: Answers each word of a connection with the same word, for as long as it lasts.
ECHO = """
import socket, threading
server = socket.create_server(("::", 7), family=socket.AF_INET6, dualstack_ipv6=True)
print("serving", flush=True)
def talk(client):
    while data := client.recv(1000):
        client.sendall(data)
while True:
    threading.Thread(target=talk, args=server.accept()[:1], daemon=True).start()
"""
VISIT = """
import socket, sys
client = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)
print(client.recv(100).decode())
"""
PATIENT = """
import errno, socket, sys
try:
    socket.create_connection((sys.argv[1], 80), 8)
except TimeoutError:
    print("silence")
except OSError as error:
    print("unreachable" if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH) else error)
"""
VISITOR = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 2).close()
    print("open")
except OSError:
    print("closed")
"""


#: Published ports are slirp4netns' as far as it can, where TCP is else relayed.
BY_HELPER = '[engine]\nnetwork_cmd_options = ["port_handler=slirp4netns"]\n'


def configure(podpy: Podpy, text: str) -> None:
    configuration = Path(podpy.env["XDG_CONFIG_HOME"]) / "containers/containers.conf"
    configuration.parent.mkdir(parents=True, exist_ok=True)
    configuration.write_text(text)


@pytest.fixture(autouse=True)
def _helpers() -> None:
    host.require("slirp4netns", "/dev/net/tun")


@pytest.fixture
def dual(podpy: Podpy) -> Iterator[str]:
    """A network with IPv6."""
    podpy("network", "create", "--ipv6", "--subnet", "10.77.0.0/24", "--subnet", "fd77::/64", DUAL)
    yield DUAL
    podpy("rm", "-f", "-a", "-t", "0")
    podpy("network", "rm", DUAL)


class Web:
    """A container that tells each client of its ports the address it has seen."""

    def __init__(self, podpy: Podpy, image: str) -> None:
        self._podpy = podpy
        self._image = image

    def serve(self, name: str, options: list[str], *ports: str, code: str = guest.SERVER) -> None:
        command = guest.script(code, *ports)
        words = ["--name", name, *options, *guest.with_python(), self._image]
        self._podpy("run", "-d", *words, *command)
        eventually(lambda: "serving" in self._podpy("logs", name).stdout)

    def port(self, name: str, inside: str) -> list[tuple[str, int]]:
        """The host addresses and ports of one that is published."""
        found = []
        for line in self._podpy("port", name, inside).lines:
            address, _, number = line.rpartition(":")
            found.append((address.strip("[]"), int(number)))
        return found

    def visit_from(self, options: list[str], address: str, port: int) -> str:
        words = ["--rm", *options, *guest.with_python(), self._image]
        return self._podpy("run", *words, *guest.script(VISIT, address, port)).text


@pytest.fixture
def web(podpy: Podpy, busybox: str) -> Web:
    return Web(podpy, busybox)


def visit(address: str, port: int, *, udp: bool = False) -> str:
    """The client's address as the container has seen it; empty when nobody answers."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM if udp else socket.SOCK_STREAM) as client:
            client.settimeout(3)
            client.connect((address, port))
            if udp:
                client.send(bytes(2000))
            return seen(client.recv(200).decode())
    except OSError:
        return ""


def seen(answer: str) -> str:
    return answer.rpartition(" ")[2].removeprefix("::ffff:")


def free_port() -> int:
    """A port that no other worker of this run is using."""
    with socket.socket() as probe:
        probe.bind(("0.0.0.0", 0))
        port: int = probe.getsockname()[1]
        return port


def network_directory(podpy: Podpy) -> Path:
    (lock,) = podpy.runtime.glob("network*/lock")
    return lock.parent


def supervisor(podpy: Podpy) -> ProcessIdentity:
    """The network supervisor."""
    return from_dict(ProcessIdentity, json.loads((network_directory(podpy) / "lock").read_text()))


def uplink(podpy: Podpy) -> ProcessIdentity:
    """The program that serves as the uplink."""
    record = json.loads((network_directory(podpy) / "uplink.json").read_text())
    return from_dict(ProcessIdentity, record["process"])


def seconds_until(probe: Callable[[], object]) -> float:
    begun = time.monotonic()
    eventually(probe, interval=0.002)
    return time.monotonic() - begun


# --- who reaches a port, and as whom -----------------------------------------


@pytest.mark.parametrize("policy", [(), ("--egress", "none")], ids=["open", "egress none"])
def test_both_families_are_served_and_clients_keep_their_addresses(
    web: Web, dual: str, world: World, policy: tuple[str, ...]
) -> None:
    options = ["--network", dual, *policy, "-p", "80", "-p", "53/udp"]
    web.serve("web", options, "80", "53/udp")
    for inside, udp in (("80", False), ("53/udp", True)):
        (four, number), (six, same) = web.port("web", inside)
        assert (four, six, number) == ("0.0.0.0", "::", same)
        assert visit("127.0.0.1", number, udp=udp) in ("10.0.2.2", "10.77.0.1")
        assert visit("::1", number, udp=udp) == "fd77::1"
        assert visit(world.host, number, udp=udp) == world.host
        assert visit(world.host6, number, udp=udp) == world.host6
        for mine, other in ((world.host, world.address), (world.host6, world.address6)):
            assert seen(world.visit(mine, number, udp=udp)) == other


def test_ipv6_clients_of_a_container_without_ipv6_are_masked(
    web: Web, podpy: Podpy, world: World
) -> None:
    podpy("network", "create", "--subnet", "10.76.0.0/24", "four")
    web.serve("web", ["--network", "four", "-p", "80"], "80")
    number = web.port("web", "80")[0][1]
    assert seen(world.visit(world.host, number)) == world.address
    assert seen(world.visit(world.host6, number)) == "10.76.0.1"
    told = podpy("port", "web")
    assert "[::]" in told.stderr and "masked" in told.stderr
    (settings,) = podpy("inspect", "web").json()
    four, six = settings["NetworkSettings"]["Ports"]["80/tcp"]
    assert ("SourceMasked" in four, six["SourceMasked"]) == (False, True)


def test_one_port_on_several_addresses(web: Web) -> None:
    published = ("127.0.0.2:18080:80", "127.0.0.3:18080:81", "[::1]:18080:82")
    options = [word for text in published for word in ("-p", text)]
    web.serve("web", options, "80", "81", "82")
    for address, inside in (("127.0.0.2", "80"), ("127.0.0.3", "81"), ("::1", "82")):
        with socket.create_connection((address, 18080), 5) as client:
            assert client.recv(100).decode().split()[0] == inside
    assert visit("127.0.0.1", 18080) == ""


def test_udp_on_the_loopback_alone(web: Web) -> None:
    web.serve("web", ["-p", "127.0.0.1::53/udp"], "53/udp")
    ((address, number),) = web.port("web", "53/udp")
    assert visit(address, number, udp=True) == "10.88.0.1"


def test_ranges_and_chosen_ports(web: Web) -> None:
    web.serve("web", ["-p", "18100-18101:80-81", "-p", "18102-18109:82"], "80", "81", "82")
    web.serve("other", ["-p", "18102-18109:82"], "82")
    assert web.port("web", "81") == [("0.0.0.0", 18101), ("::", 18101)]
    chosen = {web.port(name, "82")[0][1] for name in ("web", "other")}
    assert len(chosen) == 2
    assert all(visit(address, number) for address in ("127.0.0.1", "::1") for number in chosen)


# --- ports that cannot be had ------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second"),
    [("bridge", "bridge"), ("bridge", "slirp4netns"), ("slirp4netns", "bridge"),
     ("bridge", "pasta"), ("pasta", "bridge")],
)  # fmt: skip
def test_the_container_that_has_a_port_is_named(
    podpy: Podpy, busybox: str, first: str, second: str
) -> None:
    if "pasta" in (first, second):
        host.require("pasta")
    number = free_port()
    words = ("--network", first, "-p", f"{number}:80", busybox, "sleep", "100")
    podpy("run", "-d", "--name", "holder", *words)
    failed = podpy.fails("run", "--network", second, "-p", f"{number}:80", busybox, "true")
    assert f"{number}/tcp: port is already allocated to container holder" in failed.stderr


@pytest.mark.parametrize(
    ("published", "said"),
    [
        ("80:80", "sysctl net.ipv4.ip_unprivileged_port_start=80"),
        ("80/sctp", "knows tcp and udp only"),
        ("203.0.113.77:18121:80", "this host has no address 203.0.113.77"),
    ],
)
def test_the_reason_why_a_port_cannot_be_published(
    podpy: Podpy, busybox: str, published: str, said: str
) -> None:
    assert said in podpy.fails("run", "-p", published, busybox, "true").stderr


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_port_that_a_stranger_has(podpy: Podpy, busybox: str, address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as stranger:
        number = stranger.getsockname()[1]
        failed = podpy.fails("run", "-p", f"{number}:80", busybox, "true")
        assert f"{number}/tcp: port is already allocated (address already in use)" in failed.stderr
        with socket.create_connection((address, number), 5):
            pass


def test_ports_are_free_when_run_returns(podpy: Podpy, busybox: str) -> None:
    for number in range(5):
        options = ("-p", "18122:80", "-p", "18122:53/udp")
        assert podpy("run", "--rm", *options, busybox, "echo", number).text == str(number)
    with socket.create_server(("::", 18122), family=socket.AF_INET6, dualstack_ipv6=True):
        pass


# --- the way out -------------------------------------------------------------


def test_ipv6_leads_out_of_a_private_prefix(web: Web, dual: str, world: World) -> None:
    for address, mine in ((world.server, world.host), (world.server6, world.host6)):
        server = world.serve(address=address)
        assert web.visit_from(["--network", dual], address, server.port) == mine
        server.close()


def test_what_ipv6_cannot_reach_is_told(podpy: Podpy, busybox: str, dual: str) -> None:
    """Not after the minutes that a client waits for an answer; it can try IPv4."""
    words = ("--rm", "--network", dual, *guest.with_python(), busybox)
    assert podpy("run", *words, *guest.script(PATIENT, "fd00::77")).text == "unreachable"


# --- what survives -----------------------------------------------------------


def talk(client: socket.socket, word: bytes) -> bytes:
    client.sendall(word)
    return client.recv(100)


def test_a_dead_uplink_is_replaced_within_a_second(
    web: Web, podpy: Podpy, dual: str, world: World
) -> None:
    configure(podpy, BY_HELPER)
    web.serve("web", ["--network", dual, "-p", "18130:80", "-p", "18130:53/udp"], "80", "53/udp")
    server = world.serve()
    time.sleep(2)  # it has proved itself
    for _ in range(2):
        old = uplink(podpy)
        os.kill(old.pid, signal.SIGKILL)
        assert seconds_until(lambda: visit("127.0.0.1", 18130)) < 1
        assert uplink(podpy) != old
        assert visit(world.host, 18130) == world.host
        assert seconds_until(lambda: visit(world.host, 18130, udp=True) == world.host) < 1
        assert visit("::1", 18130) == "fd77::1"
        assert web.visit_from(["--network", dual], server.address, server.port) == world.host
    server.close()


def test_a_killed_network_supervisor_interrupts_no_forwarded_connection(
    web: Web, podpy: Podpy, dual: str, world: World
) -> None:
    configure(podpy, BY_HELPER)
    options = ["--network", dual, "-p", "18131:7"]
    web.serve("echo", options, code=ECHO)
    helper, before = uplink(podpy), supervisor(podpy)
    with socket.create_connection((world.host, 18131), 5) as client:
        assert talk(client, b"before") == b"before"
        os.kill(before.pid, signal.SIGKILL)
        assert talk(client, b"while") == b"while"
        assert seconds_until(lambda: process.is_alive(supervisor(podpy))) < 1
        with socket.create_connection((world.host, 18131), 5) as another:
            assert talk(another, b"another") == b"another"
        assert seconds_until(lambda: _answers("::1", 18131)) < 1.5
        assert talk(client, b"after") == b"after"
    assert uplink(podpy) == helper
    podpy("rm", "-f", "-t", "0", "echo")
    for address in ("127.0.0.1", "::1"):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((address, 18131), 5)


def _answers(address: str, number: int) -> bool:
    try:
        with socket.create_connection((address, number), 5) as client:
            return talk(client, b"x") == b"x"
    except OSError:
        return False


def test_an_uplink_that_does_not_answer_is_replaced(web: Web, podpy: Podpy, world: World) -> None:
    configure(podpy, BY_HELPER)
    web.serve("one", ["-p", "18133:80"], "80")
    old = uplink(podpy)
    os.kill(old.pid, signal.SIGSTOP)
    web.serve("two", ["-p", "18134:80"], "80")
    for number in (18133, 18134):
        eventually(lambda number=number: visit(world.host, number) == world.host)
    assert uplink(podpy) != old


def test_uplink_and_network_supervisor_killed_one_after_the_other(
    web: Web, podpy: Podpy, world: World
) -> None:
    """A helper that the killed supervisor had just started must not keep its successor out."""
    web.serve("echo", ["-p", "18132:7"], code=ECHO)
    time.sleep(1)
    for pause in (0.005, 0.015, 0.02, 0.025, 0.03, 0.04):
        eventually(lambda: process.is_alive(uplink(podpy)))
        os.kill(uplink(podpy).pid, signal.SIGKILL)
        time.sleep(pause)
        os.kill(supervisor(podpy).pid, signal.SIGKILL)
        for address in (world.host, "::1"):
            assert seconds_until(lambda address=address: _answers(address, 18132)) < 1.5
        time.sleep(0.5)


def test_the_uplink_ends_with_the_last_container(podpy: Podpy, busybox: str) -> None:
    podpy("run", "-d", "--name", "one", busybox, "sleep", "100")
    helper, before = uplink(podpy), supervisor(podpy)
    podpy("rm", "-f", "-t", "0", "one")
    os.kill(before.pid, signal.SIGKILL)
    eventually(lambda: not process.is_alive(helper), timeout=5)


# --- what containers.conf says -----------------------------------------------


def test_ports_can_be_relayed_altogether(web: Web, podpy: Podpy, dual: str, world: World) -> None:
    configure(podpy, '[engine]\nnetwork_cmd_options = ["port_handler=rootlesskit"]\n')
    web.serve("web", ["--network", dual, "-p", "18141:80", "-p", "18141:53/udp"], "80", "53/udp")
    for udp in (False, True):
        assert visit("127.0.0.1", 18141, udp=udp) == "10.77.0.1"
        assert visit(world.host, 18141, udp=udp) == world.host
        assert seen(world.visit(world.host, 18141, udp=udp)) == world.address
        assert seen(world.visit(world.host6, 18141, udp=udp)) == world.address6
    os.kill(uplink(podpy).pid, signal.SIGKILL)
    assert visit("127.0.0.1", 18141) == "10.77.0.1", "relayed ports need no helper"
    os.kill(supervisor(podpy).pid, signal.SIGKILL)
    assert seconds_until(lambda: visit("127.0.0.1", 18141)) < 1.5


def test_pasta_serves_as_the_uplink(web: Web, podpy: Podpy, dual: str, world: World) -> None:
    host.require("pasta", "nft")
    configure(podpy, '[network]\ndefault_rootless_network_cmd = "pasta"\n')
    options = ["--network", dual, "-p", "18140:80", "-p", "18140:53/udp"]
    web.serve("web", options, "80", "53/udp")
    comm = Path(f"/proc/{uplink(podpy).pid}/comm").read_text()
    assert comm.startswith("pas")  # pasta, or passt.avx2
    for udp in (False, True):
        assert visit("127.0.0.1", 18140, udp=udp) == "10.77.0.1"
        assert seen(world.visit(world.host, 18140, udp=udp)) == world.address
        assert seen(world.visit(world.host6, 18140, udp=udp)) == world.address6
    for address, mine in ((world.server, world.host), (world.server6, world.host6)):
        server = world.serve(address=address)
        assert web.visit_from(["--network", dual], address, server.port) == mine
        os.kill(uplink(podpy).pid, signal.SIGKILL)
        assert visit("127.0.0.1", 18140) == "10.77.0.1", "relayed ports need no helper"
        assert web.visit_from(["--network", dual], address, server.port) == mine
        server.close()


# --- the host's loopback -----------------------------------------------------


@pytest.fixture
def open_network(podpy: Podpy) -> Iterator[str]:
    """A network whose containers may use the services of the host's loopback."""
    podpy("network", "create", "--opt", "host_loopback=true", "open")
    yield "open"
    podpy("rm", "-f", "-a", "-t", "0")
    podpy("network", "rm", "open")


def test_a_network_leads_to_the_hosts_loopback_if_it_is_made_so(
    web: Web, podpy: Podpy, busybox: str, open_network: str
) -> None:
    podpy("run", "-d", "--network", open_network, busybox, "sleep", "100")
    with greeter("127.0.0.1") as port:
        for name in ("host.containers.internal", "host.docker.internal", "10.0.3.2"):
            assert web.visit_from(["--network", open_network], name, port).startswith("127.")
        for address in ("10.0.3.2", "10.0.2.2"):
            words = ("--rm", *guest.with_python(), busybox, *guest.script(VISITOR, address, port))
            assert podpy("run", *words).text == "closed"
            assert podpy("run", "--network", open_network, *words).text == (
                "open" if address == "10.0.3.2" else "closed"
            )
        hosts = podpy("run", "--rm", busybox, "cat", "/etc/hosts").stdout
        assert "host.containers.internal" not in hosts
        left = json.loads((network_directory(podpy) / "host.json").read_text())
        os.kill(left["process"]["pid"], signal.SIGKILL)
        assert web.visit_from(["--network", open_network], "10.0.3.2", port).startswith("127.")


def test_an_internal_network_does_not_lead_to_the_host(podpy: Podpy) -> None:
    failed = podpy.fails("network", "create", "--internal", "--opt", "host_loopback=true", "shut")
    assert "an internal network has no way out" in failed.stderr
