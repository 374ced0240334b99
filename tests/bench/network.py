"""Networks of podpy and podman side by side: starts, throughput, round trips, memory.

The other end of the traffic is the world (support/world.py): a second network namespace on
the same machine, so figures are of the way through the host, not of a cable.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench import measure
from bench.measure import Row, pair
from support import guest, host, processes
from support.command import Completed, Tool
from support.podpy import BUSYBOX
from support.polling import eventually
from support.world import World, directory

if TYPE_CHECKING:
    from bench.run import Bench

SECONDS = 3
TURNS = 3  # of each measurement of traffic, in turns with the peer's
PORT = 20900
CONTAINERS = 5
SLEEP = ("sleep", "100000")
NAN = float("nan")

#: One connection: requests of 100 bytes and their answers; then connections with one each.
#: Prints the microseconds of one of either.
REQUESTS = """
import socket, sys, time
address, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
def connect():
    peer = socket.create_connection((address, port), timeout=10)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return peer
def ask(peer):
    peer.sendall(b"x" * 100)
    got = 0
    while got < 100:
        got += len(peer.recv(100 - got))
peer = connect()
ask(peer)
begin = time.perf_counter()
for _ in range(count):
    ask(peer)
asked = (time.perf_counter() - begin) / count
peer.close()
begin = time.perf_counter()
for _ in range(count // 10):
    peer = connect()
    ask(peer)
    peer.close()
print(asked * 1e6, (time.perf_counter() - begin) / (count // 10) * 1e6)
"""

#: Answers each 100 bytes with 100 bytes.
ECHO = """
import socket, sys, threading
server = socket.create_server((sys.argv[1], int(sys.argv[2])), backlog=512)
print("serving", flush=True)
def converse(peer):
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        while data := peer.recv(100):
            peer.sendall(data)
    except OSError:
        pass
    peer.close()
while True:
    peer, _ = server.accept()
    threading.Thread(target=converse, args=(peer,), daemon=True).start()
"""


Group = Callable[["Bench"], Iterator[Row]]


def where_possible(group: Group) -> Group:
    """Leave the group out, and say so, where there is no world or no helper."""

    def rows(bench: Bench) -> Iterator[Row]:
        needed = ("/dev/net/tun", "slirp4netns", "iperf3", "world")
        if reasons := [reason for each in needed if (reason := host.missing(each))]:
            print(f"  {group.__name__} of networks left out: {'; '.join(reasons)}", file=sys.stderr)
            return
        yield from group(bench)

    return rows


def supports(tool: Tool, mode: str) -> bool:
    done = tool("run", "--rm", "--network", mode, BUSYBOX, "true", code=None)
    return done.code == 0


def modes(bench: Bench) -> Iterator[tuple[str, bool]]:
    """The modes that podpy has here, and whether podman has them."""
    for mode in bench.modes or ("host", "slirp4netns", "pasta", "bridge"):
        if supports(bench.podpy, mode):
            yield mode, supports(bench.podman, mode)


def settle() -> None:
    """Wait until podpy's network supervisor has gone: the next start is a cold one."""
    gone = "podpy network supervisor"
    eventually(
        lambda: not any(gone in each.describe() for each in processes.descendants()), timeout=15
    )


# --- starts ------------------------------------------------------------------


@where_possible
def starts(bench: Bench) -> Iterator[Row]:
    """``cold``: no other container is on a network; ``warm``: one is.

    podman's default for a user is slirp4netns; ours is compared with that as well as with
    podman's own bridge.
    """
    slow = max(5, bench.rounds // 3)
    run = ("run", "--rm")
    true = (BUSYBOX, "true")
    yield _pair(bench, "run --rm, default, cold", (*run, *true), 0.6, slow, settle)
    yield _pair(
        bench, "run --rm, bridge, cold", (*run, "--network", "bridge", *true), 0.5, slow, settle
    )
    with _held(bench.podpy, "bridge"), _held(bench.podman, "bridge"):
        yield _pair(bench, "run --rm, default, warm", (*run, *true), 0.6)
        yield _pair(bench, "run --rm, bridge, warm", (*run, "--network", "bridge", *true), 0.5)
        published = ("--network", "bridge", "-p", f"{PORT}:80")
        yield _pair(bench, "run --rm, bridge, warm, -p", (*run, *published, *true), 0.5)
        yield from _detached(bench)
    settle()
    yield _pair(bench, "run --rm, slirp4netns", (*run, "--network", "slirp4netns", *true), 0.6)
    for name in ("first", "second"):
        for tool in bench.tools:
            tool("network", "create", name)
    two = ("--network", "first", "--network", "second")
    yield _pair(bench, "run --rm, two bridges, cold", (*run, *two, *true), 0.5, slow, settle)
    for name in ("first", "second"):
        for tool in bench.tools:
            tool("network", "rm", name)


def _pair(
    bench: Bench, name: str, arguments: tuple[str, ...], budget: float, rounds: int = 0,
    between: Callable[[], None] = lambda: None,
) -> Row:  # fmt: skip
    ours, theirs = (measure.command(tool.argv(*arguments), tool.env) for tool in bench.tools)
    rounds = rounds or bench.rounds
    return pair(name, ours, theirs, rounds=rounds, budget=budget, between=between)


def _detached(bench: Bench) -> Iterator[Row]:
    """``start`` of a container that exists: what a service's start takes."""
    for tool in bench.tools:
        tool("create", "--name", "again", "--network", "bridge", BUSYBOX, *SLEEP)

    def undo() -> None:
        for tool in bench.tools:
            tool("kill", "again", code=None)
            eventually(lambda tool=tool: _is_stopped(tool, "again"))

    ours, theirs = (measure.command(tool.argv("start", "again"), tool.env) for tool in bench.tools)
    yield pair("start, bridge, warm", ours, theirs, rounds=bench.rounds, budget=0.5, between=undo)
    for tool in bench.tools:
        tool("rm", "-f", "-t", "0", "again")


def _is_stopped(tool: Tool, name: str) -> bool:
    return tool("inspect", "--format", "{{.State.Running}}", name).text == "false"


@contextmanager
def _held(tool: Tool, mode: str, name: str = "held") -> Iterator[None]:
    tool("run", "-d", "--name", name, "--network", mode, BUSYBOX, *SLEEP)
    yield
    tool("rm", "-f", "-t", "0", name)


# --- traffic -----------------------------------------------------------------


class Traffic:
    """One tool's container in one mode, with iperf3 and Python inside, and the world."""

    def __init__(self, tool: Tool, mode: str, world: World, port: int) -> None:
        self.tool, self.mode, self.world, self.port = tool, mode, world, port

    @contextmanager
    def up(self) -> Iterator[Traffic]:
        """The container and its servers: iperf3 on ``port``, echoes on the next."""
        words = ["--name", "traffic", "--network", self.mode, *guest.with_python()]
        if self.mode != "host":
            words += ["-p", f"{self.port}-{self.port + 1}:{self.port}-{self.port + 1}"]
        serve = f'iperf3 -s -p {self.port} & exec {guest.PYTHON} -IS -c "$0" 0.0.0.0 $1'
        command = ["sh", "-c", serve, ECHO, str(self.port + 1)]
        self.tool("run", "-d", *words, BUSYBOX, *command)
        eventually(lambda: "serving" in self.tool("logs", "traffic").stdout)
        yield self
        self.tool("rm", "-f", "-t", "0", "traffic")

    def inside(self, *command: object) -> Completed:
        return self.tool("exec", "traffic", *command)

    def out(self, iperf: int) -> float:
        return _bits(self.inside("iperf3", "-J", "-c", self.world.server, "-p", iperf, *_TIME))

    def back(self, iperf: int) -> float:
        there = ("-c", self.world.server, "-p", iperf, "-R", *_TIME)
        return _bits(self.inside("iperf3", "-J", *there))

    def published_in(self, _: int) -> float:
        there = ("-c", self.world.host, "-p", self.port, *_TIME)
        return _bits(self.world("iperf3", "-J", *there))

    def published_out(self, _: int) -> float:
        there = ("-c", self.world.host, "-p", self.port, "-R", *_TIME)
        return _bits(self.world("iperf3", "-J", *there))

    def requests(self, echo: int) -> list[float]:
        script = guest.script(REQUESTS, self.world.server, echo, 3000)
        return [float(word) for word in self.inside(*script).text.split()]

    def published_requests(self) -> list[float]:
        there = self.world.python(REQUESTS, self.world.host, self.port + 1, 3000)
        return [float(word) for word in there.text.split()]


_TIME = ("-t", SECONDS, "-O", "1")


def _bits(done: Completed) -> float:
    """Mbit/s as the receiver counted them."""
    return float(done.json()["end"]["sum_received"]["bits_per_second"]) / 1e6


@where_possible
def traffic(bench: Bench) -> Iterator[Row]:
    """Throughput both ways, by connections of the container and of its clients; round trips."""
    world = World(directory())
    iperf = world.iperf3()
    world.start_python(ECHO, world.server, PORT).expect_output("serving")
    for mode, has_peer in modes(bench):
        ends = [Traffic(bench.podpy, mode, world, PORT + 10)]
        if has_peer:
            ends.append(Traffic(bench.podman, mode, world, PORT + 20))
        with _all_up(ends):
            yield from _throughput(mode, ends, iperf)
            yield from _round_trips(mode, ends)
    world.close()
    yield from between_containers(bench)


@contextmanager
def _all_up(ends: list[Traffic]) -> Iterator[None]:
    if not ends:
        yield
        return
    with ends[0].up(), _all_up(ends[1:]):
        yield


def _throughput(mode: str, ends: list[Traffic], iperf: int) -> Iterator[Row]:
    for what, measured in (
        ("to the world", Traffic.out),
        ("from the world", Traffic.back),
        ("a client sends, -p", Traffic.published_in),
        ("a client receives, -p", Traffic.published_out),
    ):
        found: list[list[float]] = [[] for _ in ends]
        for _ in range(TURNS):
            for end, values in zip(ends, found):
                values.append(measured(end, iperf))
        yield _row(f"{mode}: {what}", found, "Mbit/s")


def _round_trips(mode: str, ends: list[Traffic]) -> Iterator[Row]:
    for what, measured in (
        ("out", lambda end: end.requests(PORT)),
        ("in, -p", lambda end: end.published_requests()),
    ):
        trips: list[list[float]] = [[] for _ in ends]
        connects: list[list[float]] = [[] for _ in ends]
        for _ in range(TURNS):
            for end, values, more in zip(ends, trips, connects):
                trip, connect = measured(end)
                values.append(trip)
                more.append(connect)
        yield _row(f"{mode}: request, {what}", trips, "µs")
        yield _row(f"{mode}: connection and request, {what}", connects, "µs")


def between_containers(bench: Bench) -> Iterator[Row]:
    """Two containers of one network; one resolves the other's name."""
    found: list[list[float]] = [[], []]
    requests: list[list[float]] = [[], []]
    for tool in bench.tools:
        tool("network", "create", "between")
        words = ["--network", "between", *guest.with_python(), BUSYBOX]
        serve = f'iperf3 -s -p 5201 & exec {guest.PYTHON} -IS -c "$0" 0.0.0.0 5202'
        tool("run", "-d", "--name", "server", *words, "sh", "-c", serve, ECHO)
        tool("run", "-d", "--name", "client", *words, *SLEEP)
        eventually(lambda tool=tool: "serving" in tool("logs", "server").stdout)
    for _ in range(TURNS):
        for tool, bits, times in zip(bench.tools, found, requests):
            bits.append(_bits(tool("exec", "client", "iperf3", "-J", "-c", "server", *_TIME)))
            script = guest.script(REQUESTS, "server", 5202, 3000)
            times.append(float(tool("exec", "client", *script).text.split()[0]))
    yield _row("bridge: between two containers", found, "Mbit/s")
    yield _row("bridge: request between two containers", requests, "µs")
    for tool in bench.tools:
        tool("rm", "-f", "-t", "0", "server", "client")
        tool("network", "rm", "between")


def _row(name: str, found: list[list[float]], unit: str) -> Row:
    medians = [statistics.median(values) for values in found]
    spreads = [(max(values) - min(values)) / 2 for values in found]
    theirs, spread = (medians[1], spreads[1]) if len(found) > 1 else (NAN, 0.0)
    return Row(name, medians[0], theirs, unit, None, (spreads[0], spread))


# --- memory ------------------------------------------------------------------


@where_possible
def memory(bench: Bench) -> Iterator[Row]:
    """What runs beside the payloads: for one container on a network, and for each more."""
    for mode in ("slirp4netns", "bridge"):
        found = [_memory_of(tool, mode) for tool in bench.tools]
        for row, name in enumerate(("the first container", "each further container")):
            ours, theirs = (each[row] for each in found)
            yield Row(f"{mode}: memory of {name} (PSS)", ours, theirs, "kB")
        ours, theirs = (each[2] for each in found)
        yield Row(f"{mode}: processes beside {CONTAINERS} payloads", ours, theirs, "")
    settle()


def _memory_of(tool: Tool, mode: str) -> tuple[float, float, float]:
    settle()
    before = processes.descendants()
    sums = []
    for number in range(CONTAINERS):
        tool("run", "-d", "--name", f"memory{number}", "--network", mode, BUSYBOX, *SLEEP)
        if number in (0, CONTAINERS - 1):
            time.sleep(4)  # supervisors make themselves small a second after the start
            sums.append(_beside_payloads(before))
    tool("rm", "-f", "-t", "0", *(f"memory{number}" for number in range(CONTAINERS)))
    (first, _), (last, count) = sums
    return first, (last - first) / (CONTAINERS - 1), count


def _beside_payloads(before: set[processes.Process]) -> tuple[float, int]:
    """Proportional memory (kB) of the processes that are no payload, and their number."""
    total, count = 0.0, 0
    for each in processes.descendants() - before:
        try:
            if Path(f"/proc/{each.pid}/comm").read_text().strip() == "sleep":
                continue
            total += measure.proportional(each.pid)
            count += 1
        except OSError:
            continue
    return total, count
