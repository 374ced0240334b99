"""Networks of containers as a user and a neighbour see them: names, ports, what stays closed."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from podpy.net import resolv
from support import guest, host, processes
from support.podpy import Podpy
from support.polling import eventually

HELPED = ["slirp4netns", "pasta"]


@pytest.fixture(autouse=True)
def _helpers() -> None:
    host.require("slirp4netns", "pasta", "/dev/net/tun")


@pytest.fixture
def outside() -> str:
    """The host's own address on a real network: what lies beyond a container's network."""
    address = resolv.host_address()
    if not address:
        pytest.skip("this host has no address but the loopback")
    return address


class Answering:
    """Listeners on the host that answer ``hello``, one thread each."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []

    def tcp(self, address: str) -> int:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        server = socket.socket(family)
        server.bind((address, 0))
        self._serve(server)
        port: int = server.getsockname()[1]
        return port

    def abstract(self, name: str) -> str:
        server = socket.socket(socket.AF_UNIX)
        server.bind(f"\0{name}")
        self._serve(server)
        return f"@{name}"

    def udp(self, address: str) -> int:
        server = socket.socket(type=socket.SOCK_DGRAM)
        server.bind((address, 0))
        self._sockets.append(server)

        def answer() -> None:
            while True:
                try:
                    data, sender = server.recvfrom(2048)
                except OSError:
                    return
                if sender is None:  # shut down
                    return
                server.sendto(b"hello " + data, sender)

        threading.Thread(target=answer, daemon=True).start()
        port: int = server.getsockname()[1]
        return port

    def _serve(self, server: socket.socket) -> None:
        server.listen()
        self._sockets.append(server)

        def answer() -> None:
            while True:
                try:
                    client, _ = server.accept()
                    client.sendall(b"hello")
                    client.close()
                except OSError:
                    return

        threading.Thread(target=answer, daemon=True).start()

    def close(self) -> None:
        for server in self._sockets:
            # close() alone would leave the threads in accept().
            try:
                server.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            server.close()


@pytest.fixture
def answering() -> Iterator[Answering]:
    servers = Answering()
    yield servers
    servers.close()


def visit(address: str, port: int, *, udp: bool = False) -> str:
    """What a server says to us; an empty text when nobody is there."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM if udp else socket.SOCK_STREAM) as client:
            client.settimeout(2)
            client.connect((address, port))
            if udp:
                client.send(b"hi")
            return client.recv(200).decode()
    except OSError:
        return ""


def listeners() -> set[int]:
    """The ports on which processes that this test started listen, TCP and UDP.

    pasta shows its descriptors to nobody, so sockets of this user that no
    visible process holds count too where they are among the ports used here.
    """
    ours, others = set[str](), set[str]()
    descendants = {each.pid for each in processes.descendants()}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        (ours if int(pid) in descendants else others).update(_sockets(pid))
    found = set()
    for table, listening in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            port, inode = int(fields[1].rpartition(":")[2], 16), fields[9]
            if fields[3] != listening or int(fields[7]) != os.getuid():
                continue
            if inode in ours or (inode not in others and port in _WATCHED):
                found.add(port)
    return found


_WATCHED = {*range(60, 100), *range(18000, 18200)}


def _sockets(pid: str) -> set[str]:
    """The inodes of a process's sockets; empty when it does not show them."""
    found = set()
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            target = os.readlink(f"/proc/{pid}/fd/{name}")
            if target.startswith("socket:["):
                found.add(target[8:-1])
    except OSError:
        pass
    return found


def serve(podpy: Podpy, image: str, options: list[str], *ports: str, name: str = "web") -> str:
    """A detached container that answers on its ports; returns when it does."""
    command = guest.script(guest.SERVER, *ports)
    made = podpy.run_detached("--name", name, *options, *guest.with_python(), image, *command)
    eventually(lambda: "serving" in podpy("logs", name).stdout)
    return made


# --- modes -------------------------------------------------------------------


def test_none_has_a_loopback_and_nothing_else(podpy: Podpy, busybox: str) -> None:
    done = podpy("run", "--rm", "--network", "none", busybox, "ip", "-o", "link")
    (line,) = done.lines
    assert "lo:" in line
    assert "UP" in line


def test_host_is_the_hosts_network(podpy: Podpy, busybox: str) -> None:
    done = podpy("run", "--rm", "--network", "host", busybox, "readlink", "/proc/self/ns/net")
    assert done.text == os.readlink("/proc/self/ns/net")


@pytest.mark.parametrize("mode", ["", "slirp4netns"])
def test_a_container_reaches_others_by_tcp(
    podpy: Podpy, busybox: str, answering: Answering, outside: str, mode: str
) -> None:
    options = ["--network", mode] if mode else []
    port = answering.tcp(outside)
    assert podpy("run", "--rm", *options, busybox, "nc", "-w", "5", outside, port).text == "hello"


def test_a_container_reaches_others_by_udp(
    podpy: Podpy, busybox: str, answering: Answering, outside: str
) -> None:
    code = """
import socket, sys
peer = socket.socket(type=socket.SOCK_DGRAM)
peer.settimeout(5)
peer.sendto(b"there", (sys.argv[1], int(sys.argv[2])))
print(peer.recv(100).decode())
"""
    command = guest.script(code, outside, answering.udp(outside))
    assert podpy("run", "--rm", *guest.with_python(), busybox, *command).text == "hello there"


def test_another_containers_network_is_shared(podpy: Podpy, busybox: str) -> None:
    serve(podpy, busybox, [], "80")
    joined = ["run", "--rm", "--network", "container:web", busybox]
    assert podpy(*joined, "nc", "-w", "5", "127.0.0.1", "80").text.startswith("80 ")
    assert (
        podpy(*joined, "cat", "/etc/hosts").stdout
        == podpy("exec", "web", "cat", "/etc/hosts").stdout
    )


@pytest.mark.parametrize("mode", HELPED)
def test_ping_works(podpy: Podpy, busybox: str, mode: str) -> None:
    options = ["--network", mode, *guest.with_python()]
    done = podpy("run", "--rm", *options, busybox, *guest.script(guest.PING, "127.0.0.1"))
    assert done.text == "echo"


def test_slirps_gateway_answers_pings(podpy: Podpy, busybox: str) -> None:
    done = podpy(
        "run", "--rm", *guest.with_python(), busybox, *guest.script(guest.PING, "10.0.2.2")
    )
    assert done.text == "echo"


def test_the_network_of_slirp_can_be_chosen(podpy: Podpy, busybox: str) -> None:
    mode = "slirp4netns:cidr=10.9.0.0/24,mtu=1400,enable_ipv6=false"
    done = podpy("run", "--rm", "--network", mode, busybox, "ip", "-o", "addr", "show", "tap0")
    assert "10.9.0.100/24" in done.stdout
    link = podpy("run", "--rm", "--network", mode, busybox, "cat", "/sys/class/net/tap0/mtu")
    assert link.text == "1400"


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("slirp4netns:port_handler=rootlesskit", "rootlesskit"),
        ("slirp4netns:mtu=1", "mtu"),
        ("slirp4netns:speed=fast", "speed"),
        ("pasta:--pcap,x", "--pcap"),
        ("bogus", "bogus"),
        ("container:nobody", "nobody"),
    ],
)
def test_modes_that_cannot_be_honoured_are_refused(
    podpy: Podpy, busybox: str, mode: str, words: str
) -> None:
    assert words in podpy.fails("run", "--rm", "--network", mode, busybox, "true").stderr
    assert podpy.containers() == []


# --- published ports ---------------------------------------------------------


@pytest.mark.parametrize("mode", HELPED)
def test_ports_are_published_and_nothing_else(
    podpy: Podpy, busybox: str, outside: str, mode: str
) -> None:
    before = listeners()
    options = ["--network", mode, "-p", "127.0.0.1:18080:80", "-p", "18081-18082:81-82"]
    options += ["-p", "18090:90/udp", "-p", "127.0.0.1:18091:91/udp", "-p", "127.0.0.1::99"]
    serve(podpy, busybox, options, "80", "81", "82", "90/udp", "91/udp", "99", "70")
    (chosen,) = (line for line in podpy("port", "web").lines if line.startswith("99/tcp"))
    random = int(chosen.rpartition(":")[2])

    assert visit("127.0.0.1", 18080).startswith("80 ")
    assert visit("127.0.0.1", 18081).startswith("81 ")
    assert visit("127.0.0.1", 18090, udp=True).startswith("90/udp ")
    assert visit("127.0.0.1", 18091, udp=True).startswith("91/udp ")
    assert visit("127.0.0.1", random).startswith("99 ")
    assert visit(outside, 18080) == ""
    assert visit(outside, 18091, udp=True) == ""
    if mode == "slirp4netns":  # under pasta the container has this address itself
        assert visit(outside, 18082).startswith("82 ")
        assert visit(outside, 18090, udp=True).startswith("90/udp ")
    asked = {18080, 18081, 18082, 18090, 18091}
    assert listeners() - before - {random} == asked

    podpy("rm", "-f", "-t", "0", "web")
    eventually(lambda: listeners() <= before)


def test_the_client_keeps_its_address(podpy: Podpy, busybox: str, outside: str) -> None:
    serve(podpy, busybox, ["-p", "18080:80"], "80")
    assert visit(outside, 18080).split()[1].endswith(outside)


@pytest.mark.parametrize("mode", HELPED)
def test_udp_clients_on_the_loopback_are_told_apart(podpy: Podpy, busybox: str, mode: str) -> None:
    """Forty clients at once, each with its own question, each gets its own answers."""
    code = """
import socket
server = socket.socket(type=socket.SOCK_DGRAM)
server.bind(("0.0.0.0", 53))
print("serving", flush=True)
while True:
    data, sender = server.recvfrom(70000)
    server.sendto(data[::-1], sender)
"""
    options = ["--network", mode, "-p", "18053:53/udp", *guest.with_python()]
    podpy.run_detached("--name", "dns", *options, busybox, *guest.script(code))
    eventually(lambda: "serving" in podpy("logs", "dns").stdout)
    clients = [socket.socket(type=socket.SOCK_DGRAM) for _ in range(40)]
    for turn in range(3):
        for number, client in enumerate(clients):
            client.sendto(f"client {number} turn {turn}".encode(), ("127.0.0.1", 18053))
        for number, client in enumerate(clients):
            client.settimeout(5)
            data, server = client.recvfrom(100)
            assert data[::-1].decode() == f"client {number} turn {turn}"
            assert server == ("127.0.0.1", 18053)
    big = b"x" * 60000
    clients[0].sendto(big, ("127.0.0.1", 18053))
    assert clients[0].recv(70000) == big
    for client in clients:
        client.close()


def test_pasta_publishes_on_ipv6(podpy: Podpy, busybox: str) -> None:
    serve(podpy, busybox, ["--network", "pasta", "-p", "[::1]:18080:80"], "80")
    assert visit("::1", 18080).startswith("80 ")
    assert visit("127.0.0.1", 18080) == ""


def test_slirp_says_that_it_cannot(podpy: Podpy, busybox: str) -> None:
    options = ["--network", "slirp4netns", "-p", "[::1]:18080:80"]
    done = podpy.fails("run", "--rm", *options, busybox, "true")
    assert "--network pasta" in done.stderr


@pytest.mark.parametrize("mode", HELPED)
def test_a_used_port_names_its_container(podpy: Podpy, busybox: str, mode: str) -> None:
    serve(podpy, busybox, ["-p", "127.0.0.1:18080:80"], "80")
    options = ["--network", mode, "-p", "18080:80"]
    done = podpy.fails("run", "--rm", "--name", "late", *options, busybox, "true")
    assert "0.0.0.0:18080/tcp" in done.stderr
    assert "port is already allocated to container web" in done.stderr
    assert len(podpy.containers()) == 1


def test_a_used_port_of_another_program(podpy: Podpy, busybox: str, answering: Answering) -> None:
    port = answering.tcp("127.0.0.1")
    done = podpy.fails("run", "--rm", "-p", f"127.0.0.1:{port}:80", busybox, "true")
    assert "address already in use" in done.stderr
    assert podpy.containers() == []


def test_a_privileged_port_names_the_sysctl(podpy: Podpy, busybox: str) -> None:
    start = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if start <= 80:
        pytest.skip("this host lets users bind port 80")
    done = podpy.fails("run", "--rm", "-p", "80:80", busybox, "true")
    assert "privileged port 80" in done.stderr
    assert "net.ipv4.ip_unprivileged_port_start=80" in done.stderr


def test_a_port_is_free_again_for_the_next_container(podpy: Podpy, busybox: str) -> None:
    for turn in range(3):
        serve(podpy, busybox, ["-p", "127.0.0.1:18080:80"], "80", name=f"web{turn}")
        assert visit("127.0.0.1", 18080).startswith("80 ")
        podpy("rm", "-f", "-t", "0", f"web{turn}")


def test_a_stopped_container_gets_its_port_back(podpy: Podpy, busybox: str) -> None:
    serve(podpy, busybox, ["-p", "127.0.0.1:18080:80"], "80")
    podpy("stop", "-t", "0", "web")
    assert visit("127.0.0.1", 18080) == ""
    podpy("start", "web")
    eventually(lambda: visit("127.0.0.1", 18080).startswith("80 "))


# --- what stays closed -------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "gateways"),
    [
        ("none", []),
        ("slirp4netns", ["10.0.2.2", "10.0.2.3", "fd00::2"]),
        ("pasta", ["gateway"]),
    ],
)
def test_the_hosts_loopback_and_abstract_sockets_are_closed(
    podpy: Podpy, busybox: str, answering: Answering, mode: str, gateways: list[str]
) -> None:
    from podpy.net import pasta

    v4, v6 = answering.tcp("127.0.0.1"), answering.tcp("::1")
    targets = [f"127.0.0.1 {v4}", f"::1 {v6}", answering.abstract(f"podpy-test-{os.getpid()}")]
    for gateway in gateways:
        address = pasta.default_gateway() if gateway == "gateway" else gateway
        targets += [f"{address} {v4}", f"{address} {v6}"]
    command = guest.script(guest.VISITOR, *targets)
    done = podpy("run", "--rm", "--network", mode, *guest.with_python(), busybox, *command)
    assert done.lines == [f"{target} refused" for target in targets]


def test_the_host_network_reaches_them(podpy: Podpy, busybox: str, answering: Answering) -> None:
    """The same visitor as above, where it must succeed: so that its refusals mean something."""
    targets = [
        f"127.0.0.1 {answering.tcp('127.0.0.1')}",
        f"::1 {answering.tcp('::1')}",
        answering.abstract(f"podpy-test-{os.getpid()}"),
    ]
    command = guest.script(guest.VISITOR, *targets)
    done = podpy("run", "--rm", "--network", "host", *guest.with_python(), busybox, *command)
    assert done.lines == [f"{target} reached" for target in targets]


@pytest.mark.parametrize("mode", ["slirp4netns:allow_host_loopback=true", "pasta:--map-gw"])
@pytest.mark.parametrize("name", resolv.HOST_NAMES)
def test_host_access_is_given_on_request_by_name(
    podpy: Podpy, busybox: str, answering: Answering, mode: str, name: str
) -> None:
    target = f"{name} {answering.tcp('127.0.0.1')}"
    options = ["--network", mode, *guest.with_python()]
    done = podpy("run", "--rm", *options, busybox, *guest.script(guest.VISITOR, target))
    assert done.text == f"{target} reached"


@pytest.mark.parametrize("mode", ["none", *HELPED])
def test_the_hosts_names_are_absent_otherwise(podpy: Podpy, busybox: str, mode: str) -> None:
    done = podpy("run", "--rm", "--network", mode, busybox, "cat", "/etc/hosts")
    assert "internal" not in done.stdout


# --- names -------------------------------------------------------------------


def test_the_hosts_file(podpy: Podpy, busybox: str) -> None:
    options = ["--name", "web", "-h", "front", "--add-host", "db:10.5.5.5"]
    mode = ["--network", "slirp4netns"]
    text = podpy("run", "--rm", *mode, *options, busybox, "cat", "/etc/hosts").stdout
    entries = [line.split() for line in text.splitlines()]
    assert ["127.0.0.1", "localhost"] in entries
    assert ["10.5.5.5", "db"] in entries
    assert ["10.0.2.100", "front", "web"] in entries


def test_the_containers_name_leads_to_itself(podpy: Podpy, busybox: str) -> None:
    serve(podpy, busybox, [], "80")
    assert podpy("exec", "web", "nc", "-w", "5", "web", "80").text.startswith("80 ")


def test_the_resolvers_are_the_hosts(podpy: Podpy, busybox: str) -> None:
    def servers(*options: str) -> list[str]:
        text = podpy("run", "--rm", *options, busybox, "cat", "/etc/resolv.conf").stdout
        return list(resolv.parse_resolv_conf(text)[0])

    of_host = list(resolv.parse_resolv_conf(resolv.host_resolv_conf())[0])
    assert servers("--network", "host") == of_host
    if of_host and ":" not in of_host[0]:
        remote = [server for server in of_host[1:] if not server.startswith("127.")]
        assert servers("--network", "slirp4netns") == ["10.0.2.3", *remote]
    assert set(servers("--network", "pasta")) <= {*of_host, "169.254.1.1"}


def test_resolvers_are_given(podpy: Podpy, busybox: str) -> None:
    options = ["--dns", "10.7.7.7", "--dns-search", "a.example", "--dns-option", "ndots:3"]
    mode = ["--network", "slirp4netns"]
    done = podpy("run", "--rm", *mode, *options, busybox, "cat", "/etc/resolv.conf")
    assert done.lines == ["search a.example", "nameserver 10.7.7.7", "options ndots:3"]
    assert "name.example" in podpy.fails("run", "--dns", "name.example", busybox, "true").stderr


# --- helpers -----------------------------------------------------------------


def children(pid: int) -> dict[str, int]:
    """The names of a process's children and their pids."""
    found = {}
    for name in os.listdir("/proc"):
        try:
            fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
            if name.isdigit() and int(fields[1]) == pid:
                found[Path(f"/proc/{name}/comm").read_text().strip()] = int(name)
        except OSError:
            continue
    return found


def supervisor_of(podpy: Podpy, name: str) -> int:
    from podpy import files

    made = podpy("inspect", "--format", "{{.Id}}", name).text
    state = files.loads((podpy.store / "containers" / made / "state.json").read_text())
    pid: int = state["supervisor"]["pid"]
    return pid


@pytest.mark.parametrize("mode", HELPED)
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_the_helper_ends_with_its_container(
    podpy: Podpy, busybox: str, mode: str, end: str
) -> None:
    podpy.run_detached("--name", "c", "--network", mode, busybox, "sleep", "1000")
    supervisor = supervisor_of(podpy, "c")
    program = eventually(lambda: next(iter(n for n in children(supervisor) if n in _COMMANDS), ""))
    helper = children(supervisor)[program]
    if end == "stop":
        podpy("stop", "-t", "0", "c")
    else:
        os.kill(supervisor, signal.SIGKILL)
    eventually(lambda: not Path(f"/proc/{helper}/fd").exists() or _is_zombie(helper))


#: What the kernel calls the helpers: pasta runs as ``pasta.avx2`` where that fits the machine.
_COMMANDS = ("slirp4netns", "pasta", "pasta.avx2", "passt", "passt.avx2")


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
