"""``kill -9`` among containers on a network: the others' traffic does not notice.

Two containers talk all the time: over one connection, whose longest round trip
is the longest interruption, and over new ones.  What is killed meanwhile: the
network supervisor, its inner child, its uplink, the supervisor or the first
process of a third container.  Then new connections, to outside, from outside
and by name, work within a moment, and at the end nothing is left.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import guest, host, processes
from support.podpy import Podpy
from support.polling import eventually
from support.world import Server, World

KILLS, LONG_KILLS = 12, 300
#: Seconds without an answer: what a busy machine takes.  No packet may be lost meanwhile.
BUSY = 1.5
#: Seconds until new connections work: one, and what a busy machine takes.
SOON = 1.0 + 0.5
PORT = 7000
UPLINK = "slirp4netns"
NAMES = ("peer", "name", "outside", "lookup")

#: Packets that a connection had to send again: the 26th number of struct tcp_info.
LOST = """
import socket, struct
def lost(channel):
    information = channel.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    return struct.unpack_from("I", information, 100)[0]
"""

#: Answers each connection with what it is sent, for ever; says when an answer was lost.
LISTENER = f"""{LOST}
import threading
def converse(client, peer):
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    said = 0
    while data := client.recv(4096):
        client.sendall(data)
        if lost(client) > said:
            said = lost(client)
            print("lost", said, "to", peer, flush=True)
    client.close()
server = socket.create_server(("", 7000), backlog=64)
print("listening", flush=True)
while True:
    client, address = server.accept()
    threading.Thread(target=converse, args=(client, address[0]), daemon=True).start()
"""

#: Talks to a peer; notes in /out when a kind of new connection last worked, and when it began.
TALKER = """
import json, os, socket, struct, sys, threading, time
peer, outside, port = sys.argv[1], sys.argv[2], int(sys.argv[3])

def note(name, text):
    temporary = f"/out/.{name}.{threading.get_ident()}"
    with open(temporary, "w") as file:
        file.write(text)
    os.rename(temporary, f"/out/{name}")

def try_out(address, port, begins):
    with socket.create_connection((address, port), timeout=0.3) as channel:
        if not begins:
            channel.sendall(b"hello")
        return bool(channel.recv(100))

def attempt_once(name, attempt):
    begun = time.monotonic()
    try:
        if attempt():
            note(name, f"{begun} {time.monotonic()}")
    except OSError:
        pass

def again_and_again(name, attempt):
    # Each on its own: one that hangs (a lookup does, for 5 s) keeps no other from trying.
    while True:
        threading.Thread(target=attempt_once, args=(name, attempt), daemon=True).start()
        time.sleep(0.05)

attempts = {
    "peer": lambda: try_out(peer, 7000, False),
    "name": lambda: try_out("listener", 7000, False),
    "outside": lambda: try_out(outside, port, True),
    "lookup": lambda: try_out("server.world.test", port, True),
}
for name, attempt in attempts.items():
    threading.Thread(target=again_and_again, args=(name, attempt), daemon=True).start()

longest, rounds = 0.0, 0
channel = socket.create_connection((peer, 7000), timeout=60)
channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
noted = 0.0
while True:
    begun = time.monotonic()
    try:
        channel.sendall(b"x")
        ended = not channel.recv(1)
    except OSError as error:
        ended = str(error) or "lost"
    now = time.monotonic()
    longest, rounds = max(longest, now - begun), rounds + 1
    if ended or now > noted + 0.1:
        facts = {"longest": longest, "rounds": rounds, "lost": lost(channel), "ended": ended}
        note("talk", json.dumps(facts))
        noted = now
    if ended:
        time.sleep(600)
    if os.path.exists("/out/reset"):
        os.unlink("/out/reset")
        longest = 0.0
    time.sleep(0.002)
"""


@pytest.fixture(autouse=True)
def _helpers() -> None:
    host.require("slirp4netns", "/dev/net/tun")


@pytest.fixture
def outside(world: World) -> Server:
    return world.serve()


class Scene:
    """Two containers that talk, and a third one that things happen to."""

    def __init__(self, podpy: Podpy, image: str, world: World, outside: Server) -> None:
        self.podpy, self.image, self.world = podpy, image, world
        self.out = podpy.directory / "out"
        self.out.mkdir()
        self.number = 0
        self.port = free_port()
        self.run("listener", "-p", f"{self.port}:{PORT}", script=guest.script(LISTENER))
        address = self.address("listener")
        talker = guest.script(LOST + TALKER, address, outside.address, outside.port)
        self.run("talker", "-v", f"{self.out}:/out", script=talker)
        self.victim = ""
        self.victim_port = free_port()
        self.new_victim()
        for name in NAMES:
            eventually(lambda name=name: self.last(name)[1], what=f"{name} to work at all")
        (self.out / "reset").touch()

    def run(self, name: str, *options: str, script: list[str]) -> None:
        self.podpy.run_detached("--name", name, *guest.with_python(), *options, self.image, *script)

    def address(self, name: str) -> str:
        return self.podpy("inspect", "--format", "{{.NetworkSettings.IPAddress}}", name).text

    def new_victim(self) -> None:
        """In place of the one before, with its name and its port."""
        if self.victim:
            self.podpy("rm", "-f", "-t", "0", self.victim)
        self.victim = "victim"
        self.run(self.victim, "-p", f"{self.victim_port}:{PORT}", script=guest.script(LISTENER))
        eventually(lambda: greets(self.victim_port), what="the third container to be reached")

    # --- what is seen ----------------------------------------------------------

    def last(self, name: str) -> tuple[float, float]:
        """When the last successful attempt of a kind began and ended."""
        try:
            begun, ended = map(float, (self.out / name).read_text().split())
        except (OSError, ValueError):
            return 0.0, 0.0
        return begun, ended

    def talk(self) -> dict[str, float]:
        found: dict[str, float] = json.loads((self.out / "talk").read_text())
        return found

    def check_talk(self, history: object = "") -> None:
        """The two talked on, and the network lost nothing of it."""
        talk = self.talk()
        assert not talk["ended"], (talk, history)
        assert talk["lost"] == 0, (talk, history)
        losses = [line for line in self.podpy("logs", "listener").lines if "lost" in line]
        own = self.address("talker")
        assert not [line for line in losses if line.endswith(own)], (losses, talk, history)
        assert talk["longest"] < BUSY, (talk, history)

    def recovered(self, since: float) -> dict[str, float]:
        """Seconds from ``since`` until each kind of new connection worked."""
        found = {}
        for name in NAMES:
            eventually(lambda name=name: self.last(name)[0] >= since, timeout=10, what=name)
            found[name] = self.last(name)[1] - since
        return found

    # --- who is who ------------------------------------------------------------

    def supervisor(self) -> int:
        """The network supervisor: who holds its lock."""
        for process in processes.descendants():
            try:
                links = [os.readlink(fd) for fd in Path(f"/proc/{process.pid}/fd").iterdir()]
            except OSError:
                continue
            held = any(link.endswith("/lock") and "/network" in link for link in links)
            if held and command(process.pid) != UPLINK:
                return process.pid
        return 0

    def inner(self) -> list[int]:
        """The process inside the shared namespace."""
        supervisor = self.supervisor()
        found = processes.descendants(supervisor) if supervisor else ()
        return [each.pid for each in found if command(each.pid) != UPLINK]

    def uplink(self) -> list[int]:
        """Of this supervisor or of one before: it outlives them."""
        return [each.pid for each in processes.descendants() if command(each.pid) == UPLINK]

    def state(self, name: str) -> dict[str, dict[str, int]]:
        (container,) = self.podpy("inspect", name).json()
        path = self.podpy.store / "containers" / container["Id"] / "state.json"
        found: dict[str, dict[str, int]] = json.loads(path.read_text())
        return found

    def inside(self, *command: str) -> list[str]:
        """What a command prints in the namespace of the bridges, which every supervisor pins."""
        state = self.state("listener")
        own = os.readlink(f"/proc/{state['init']['pid']}/ns/net")
        held = Path(f"/proc/{state['supervisor']['pid']}/fd").iterdir()
        path = next(p for p in held if os.readlink(p).startswith("net:") and os.readlink(p) != own)
        return self.podpy("run", "--rm", "--network", f"ns:{path}", self.image, *command).lines

    def devices(self) -> list[str]:
        names = [line.split()[1].partition("@")[0] for line in self.inside("ip", "-o", "link")]
        return sorted(name.rstrip(":") for name in names)

    # --- what happens ----------------------------------------------------------

    def kill_supervisor(self) -> None:
        kill(eventually(self.supervisor))

    def kill_inner(self) -> None:
        for pid in self.inner():  # none, when it was killed and not needed since
            kill(pid)

    def kill_uplink(self) -> None:
        for pid in eventually(self.uplink):
            kill(pid)

    def kill_containers_supervisor(self) -> None:
        kill(self.state(self.victim)["supervisor"]["pid"])

    def kill_container(self) -> None:
        kill(self.state(self.victim)["init"]["pid"])


FAULTS: dict[str, Callable[[Scene], None]] = {
    "network supervisor": Scene.kill_supervisor,
    "inner child": Scene.kill_inner,
    "uplink": Scene.kill_uplink,
    "container's supervisor": Scene.kill_containers_supervisor,
    "container": Scene.kill_container,
}


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # an earlier fault took it along


def private_memory(pid: int) -> int:
    """In kB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private"))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def greets(port: int) -> bool:
    """The echo of a container that publishes a port answers."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=0.3) as client:
            client.sendall(b"hello")
            return client.recv(100) == b"hello"
    except OSError:
        return False


@pytest.fixture
def scene(podpy: Podpy, busybox: str, world: World, outside: Server) -> Iterator[Scene]:
    return Scene(podpy, busybox, world, outside)


def bear(scene: Scene, fault: str) -> dict[str, float]:
    """Let one thing happen; seconds until everything that was tried anew worked."""
    FAULTS[fault](scene)
    since = time.monotonic()
    took = scene.recovered(since)
    eventually(lambda: greets(scene.port), timeout=10, what="the published port")
    took["inbound"] = time.monotonic() - since
    if fault.startswith("container"):
        scene.new_victim()
    return took


@pytest.mark.parametrize("fault", FAULTS)
def test_one_fault(scene: Scene, fault: str, record_property: Callable[..., None]) -> None:
    time.sleep(0.5)
    before = scene.talk()
    assert not before["ended"]
    took = bear(scene, fault)
    record_property("recovered", took)
    after = eventually(lambda: scene.talk()["rounds"] > before["rounds"] + 50 and scene.talk())
    record_property("longest", after["longest"])
    print(fault, {name: round(seconds, 3) for name, seconds in took.items()}, after)
    scene.check_talk()
    assert max(took["peer"], took["name"]) < SOON, took
    assert max(took["outside"], took["lookup"], took["inbound"]) < SOON, took
    assert scene.world.visit(scene.world.host, scene.port, send="hello") == "hello"
    everything_ends(scene)


def test_supervisors_of_containers_stay_small(scene: Scene) -> None:
    """What they keep for the network supervisor, and starting one, costs them next to nothing."""
    pid = scene.state("listener")["supervisor"]["pid"]
    before = private_memory(pid)
    assert before <= 3 * 1024
    for _ in range(3):
        kill(eventually(scene.supervisor))
        scene.recovered(time.monotonic())
    assert private_memory(pid) <= before + 128, "kB"
    opened = len(os.listdir(f"/proc/{pid}/fd"))
    kill(eventually(scene.supervisor))
    scene.recovered(time.monotonic())
    assert len(os.listdir(f"/proc/{pid}/fd")) == opened
    everything_ends(scene)


@pytest.mark.parametrize("seed", [1])
def test_many_faults(scene: Scene, seed: int) -> None:
    storm(scene, seed, KILLS)


@pytest.mark.long
@pytest.mark.parametrize("seed", [2, 3])
def test_very_many_faults(scene: Scene, seed: int) -> None:
    storm(scene, seed, LONG_KILLS)


def storm(scene: Scene, seed: int, kills: int) -> None:
    """Faults in any order and at any moment, the next one often before all is well again."""
    rules, devices = len(scene.inside("ip", "rule")), len(scene.devices())
    chance = random.Random(seed)
    history = []
    for _ in range(kills):
        fault = chance.choice(list(FAULTS))
        pause = chance.choice([0.0, chance.uniform(0, 0.3), 1.0])
        history.append(f"{fault}, {pause:.3f}")
        FAULTS[fault](scene)
        time.sleep(pause)
        if fault.startswith("container"):
            scene.new_victim()
    since = time.monotonic()
    took = scene.recovered(since)
    eventually(lambda: greets(scene.port), timeout=10, what=f"the published port: {history}")
    print({name: round(seconds, 3) for name, seconds in took.items()}, scene.talk())
    scene.check_talk(history)
    eventually(lambda: len(scene.devices()) == devices, what=f"plugs to go: {scene.devices()}")
    assert len(scene.inside("ip", "rule")) == rules
    everything_ends(scene)


def everything_ends(scene: Scene) -> None:
    """With the last container the network supervisor goes, and all that it had."""
    scene.podpy("rm", "-f", "-a", "-t", "0")
    assert not greets(scene.port), "the port is free when rm has answered"
    eventually(lambda: not scene.supervisor(), timeout=10, what="the network supervisor to end")
    directory = next(iter(scene.podpy.runtime.glob("network*")), None)
    members = directory / "members" if directory else None
    assert not (members and members.exists() and list(members.iterdir()))
    with socket.create_server(("127.0.0.1", scene.port)):
        pass


def test_the_runtime_directory_is_deleted(scene: Scene) -> None:
    """A cache: containers lose nothing with it, and commands find everything again."""
    held = scene.supervisor()
    shutil.rmtree(scene.podpy.runtime)
    found = lambda: list(scene.podpy.runtime.glob("network*/socket"))  # noqa: E731
    eventually(found, timeout=15, what="its place again")
    assert scene.supervisor() == held, "it has found its place anew"
    took = scene.recovered(time.monotonic())
    assert max(took.values()) < SOON, took
    eventually(lambda: greets(scene.port), timeout=5, what="the published port")
    scene.new_victim()
    scene.check_talk()
    everything_ends(scene)


def test_a_stopped_network_supervisor_stops_nobody_else(scene: Scene) -> None:
    """SIGSTOP: what runs goes on, readers read, and what ends, ends."""
    held = scene.supervisor()
    os.kill(held, signal.SIGSTOP)
    try:
        begun = time.monotonic()
        assert "talker" in scene.podpy("ps").stdout
        scene.podpy("inspect", "talker")
        scene.podpy("exec", "talker", "true")
        assert time.monotonic() - begun < 3
        begun = time.monotonic()
        scene.podpy("stop", "-t", "0", scene.victim)
        assert time.monotonic() - begun < 5, "its lease is waited for, and not for ever"
        scene.check_talk()
    finally:
        os.kill(held, signal.SIGCONT)
    scene.podpy("start", scene.victim)
    eventually(lambda: greets(scene.victim_port), what="the third container to be reached")
    everything_ends(scene)


def test_starts_while_the_network_supervisor_is_killed(scene: Scene) -> None:
    """Whoever has asked it asks the next one."""
    chance = random.Random(5)
    for _ in range(15):
        run = scene.podpy.start("run", "--rm", "--network", "bridge", scene.image, "true")
        time.sleep(chance.uniform(0, 0.2))
        kill(eventually(scene.supervisor))
        run.wait().expect(0)
    scene.recovered(time.monotonic())
    scene.check_talk()
    everything_ends(scene)


def test_what_a_killed_one_was_writing_goes_with_the_next(podpy: Podpy, busybox: str) -> None:
    host.require("slirp4netns", "/dev/net/tun")
    podpy("run", "--rm", busybox, "true")
    (place,) = podpy.runtime.glob("network*")
    os.kill(json.loads((place / "lock").read_text())["pid"], signal.SIGKILL)
    (place / "members").mkdir(exist_ok=True)
    halves = [place / ".uplink.json.1.ab.tmp", place / "members" / ".c.1.cd.tmp"]
    for half in halves:
        half.write_text("{")
    podpy("run", "--rm", busybox, "true")
    assert not [half for half in halves if half.exists()]


def test_the_mark_of_one_that_never_came_back_goes(podpy: Podpy, busybox: str) -> None:
    """Its supervisor lived when the next one looked, and ended without a word to it."""
    host.require("slirp4netns", "/dev/net/tun")
    podpy("run", "--rm", busybox, "true")
    (place,) = podpy.runtime.glob("network*")
    os.kill(json.loads((place / "lock").read_text())["pid"], signal.SIGKILL)
    (place / "members").mkdir(exist_ok=True)
    stat = Path(f"/proc/{os.getpid()}/stat").read_text().rpartition(")")[2].split()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    mark = place / "members" / ("a" * 64)
    mark.write_text(json.dumps({"boot_id": boot, "pid": os.getpid(), "start": int(stat[19])}))
    podpy("run", "--rm", busybox, "true")
    eventually(lambda: not mark.exists(), timeout=20, what="the mark to go")
