"""A container supervisor's link to the network supervisor, against small ones of the test."""

from __future__ import annotations

import fcntl
import json
import marshal
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from podpy.kernel.loop import Loop
from podpy.runtime import link
from podpy.runtime.link import Link

RESUME = b'{"do":"resume","registration":{}}'

#: A network supervisor that a link starts: it notes how it was started, then knows who comes back.
STAND_IN = """
import fcntl, json, marshal, os, socket, sys
word, place, lock = sys.argv[1:]
facts = {
    "word": word,
    "fds": sorted(map(int, os.listdir("/proc/self/fd")))[:-1],
    "streams": [os.readlink(f"/proc/self/fd/{fd}") for fd in (0, 1, 2)],
    "environment": sorted(os.environ),
    "directory": os.getcwd(),
}
try:
    other = os.open(f"{place}/lock", os.O_RDWR)
    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    facts["lock"] = "held"
with open(f"{place}/starts", "a") as file:
    file.write(json.dumps(facts) + "\\n")
if os.path.exists(f"{place}/broken"):
    sys.exit(1)
server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
if os.path.exists(f"{place}/socket"):
    os.unlink(f"{place}/socket")
server.bind(f"{place}/socket")
server.listen(16)
known = []
while True:
    channel, _ = server.accept()
    packet, fds, _, _ = socket.recv_fds(channel, 1 << 17, 8)
    with open(f"{place}/resumed", "a") as file:
        file.write(f"{packet.decode()} {len(fds)}\\n")
    channel.send(marshal.dumps({"state": {"address": "10.88.0.7"}, "resume": packet}))
    known.append(channel)
"""


class World:
    """A runtime directory, one event loop and the links of any number of containers."""

    def __init__(self, directory: Path) -> None:
        self.place = directory / "network"
        self.place.mkdir()
        self.loop = Loop()
        self.opened: list[int] = []
        self.started: list[int] = []
        self.servers: list[socket.socket] = []

    def held(self, channel: int = -1, **changes: Any) -> dict[str, Any]:
        """What a supervisor keeps: descriptors that stand for namespaces and sockets."""
        netns, route, *pins = (os.open("/dev/null", os.O_RDONLY) for _ in range(5))
        command = [sys.executable, "-IS", "-c", STAND_IN, link.WORD]
        return {
            "netns": netns,
            "route": route,
            "pins": pins,
            "channel": channel,
            "resume": RESUME,
            "place": str(self.place),
            "start": (command, {"LC_ALL": "POSIX"}),
            **changes,
        }

    def link(self, held: dict[str, Any]) -> tuple[Link, dict[str, Any]]:
        """A link, and the state that its changes went to."""
        state: dict[str, Any] = {}
        made = Link(self.loop, held, state.update)
        return made, state

    def listen(self) -> socket.socket:
        """The test itself is the network supervisor."""
        server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        (self.place / "socket").unlink(missing_ok=True)
        server.bind(f"{self.place}/socket")
        server.listen(16)
        self.servers.append(server)
        return server

    def take_lock(self) -> int:
        fd = os.open(self.place / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.opened.append(fd)
        return fd

    def turn(self, condition: Callable[[], object], timeout: float = 10.0) -> None:
        """Let the loop run until something is so."""
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, "it never came to that"
            self.loop.turn(0.02)

    def turn_for(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.loop.turn(0.01)

    def lines(self, name: str) -> list[str]:
        path = self.place / name
        return path.read_text().splitlines() if path.exists() else []

    def reap(self) -> int:
        """Collect children that have ended, as a supervisor does; how many live."""
        for pid in list(self.started):
            if os.waitpid(pid, os.WNOHANG)[0]:
                self.started.remove(pid)
        return len(self.started)

    def close(self) -> None:
        for pid in self.started:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        for server in self.servers:
            server.close()
        for fd in self.opened:
            os.close(fd)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World(tmp_path)
    spawn = os.posix_spawn

    def noting(*arguments: Any, **options: Any) -> int:
        pid = spawn(*arguments, **options)
        made.started.append(pid)
        return pid

    monkeypatch.setattr("posix.posix_spawn", noting)
    yield made
    made.close()


def is_inheritable(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False


def kept(held: dict[str, Any]) -> list[int]:
    """The descriptors that come back with a container, in their order."""
    return [held["netns"], held["route"], *held["pins"]]


def connected(world: World) -> tuple[socket.socket, Link, dict[str, Any], dict[str, Any]]:
    """The supervisor's end of a link, the link, what it holds, and the container's state."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    held = world.held(theirs.detach())
    made, state = world.link(held)
    return ours, made, held, state


def push(channel: socket.socket, resume: bytes = RESUME, *fds: int, **state: Any) -> None:
    packet = marshal.dumps({"state": state, "resume": resume})
    socket.send_fds(channel, [packet], fds)


# --- while it lives ----------------------------------------------------------


def test_what_is_pushed_becomes_state(world: World) -> None:
    channel, _, held, state = connected(world)
    push(channel, b"new", networks=[{"network": "n", "address": "10.89.0.2"}], address="10.89.0.2")
    world.turn(lambda: state)
    assert state["address"] == "10.89.0.2"
    assert state["networks"][0]["network"] == "n"
    assert held["resume"] == b"new"
    assert json.loads(channel.recv(100)) == {"do": "merged"}


@pytest.mark.parametrize("packet", [b"x", b"\xe9", marshal.dumps({}), marshal.dumps([1])])
def test_what_is_not_understood_does_no_harm(world: World, packet: bytes) -> None:
    channel, _, held, state = connected(world)
    socket.send_fds(channel, [packet], [channel.fileno()])
    world.turn(lambda: select.select([channel], [], [], 0)[0])
    assert held["resume"] == RESUME
    assert not state


def test_new_pins_replace_the_old_ones(world: World) -> None:
    channel, _, held, _ = connected(world)
    before = os.fstat(held["netns"]).st_rdev
    fds = [os.open(f"/dev/{name}", os.O_RDONLY) for name in ("zero", "full", "null")]
    push(channel, RESUME, *fds)
    world.turn(lambda: select.select([channel], [], [], 0)[0])
    assert os.fstat(held["netns"]).st_rdev == before
    assert [os.fstat(fd).st_rdev for fd in held["pins"]] == [os.fstat(fd).st_rdev for fd in fds]
    for fd in fds:
        os.close(fd)


def test_a_supervisor_that_reads_nothing_is_no_brake(world: World) -> None:
    channel, made, _, _ = connected(world)
    for _ in range(2000):
        made._tell(b"x" * 1000)
    channel.close()


def test_what_is_held_survives_a_reexecution(world: World) -> None:
    channel, made, held, _ = connected(world)
    assert sorted(made.descriptors()) == sorted([*kept(held), held["channel"]])
    carried = marshal.loads(marshal.dumps(held))
    os.set_inheritable(held["channel"], False)
    carried["channel"] = os.dup(held["channel"])
    _, state = world.link(carried)
    push(channel, error="")
    made._close_channel()
    world.turn(lambda: state)


# --- when it is gone ---------------------------------------------------------


def test_coming_back_to_another_one(world: World) -> None:
    world.take_lock()
    channel, _, held, state = connected(world)
    push(channel, b"latest")
    world.turn(lambda: held["resume"] == b"latest")
    channel.close()
    server = world.listen()
    server.setblocking(False)
    world.turn(lambda: held["channel"] >= 0 and select.select([server], [], [], 0)[0])
    second, _ = server.accept()
    packet, fds, _, _ = socket.recv_fds(second, 1 << 17, 8)
    assert packet == b"latest"
    assert [os.fstat(fd).st_ino for fd in fds] == [os.fstat(fd).st_ino for fd in kept(held)]
    for fd in fds:
        os.close(fd)
    push(second, address="10.89.0.9")
    world.turn(lambda: state.get("address") == "10.89.0.9")
    assert not world.started, "the lock was taken: nobody starts a second one"


def test_starting_one(world: World) -> None:
    channel, _, held, state = connected(world)
    given = list(filter(is_inheritable, range(1024)))
    begun = time.monotonic()
    channel.close()
    world.turn(lambda: state.get("address"))
    assert time.monotonic() - begun < 5
    (facts,) = map(json.loads, world.lines("starts"))
    assert facts["word"] == "network-supervisor"
    assert len(facts["fds"]) == len(given) + 1, "what was inheritable before, and the lock"
    assert facts["streams"] == ["/dev/null"] * 3
    assert facts["lock"] == "held"
    assert facts["environment"] == ["LC_ALL"]
    assert world.lines("resumed") == [f"{RESUME.decode()} 5"]
    assert held["channel"] >= 0


def test_only_one_is_started_by_many(world: World) -> None:
    ends = [connected(world) for _ in range(8)]
    for channel, *_ in ends:
        channel.close()
    world.turn(lambda: all(state.get("address") for *_, state in ends))
    assert len(world.lines("starts")) == 1
    assert len(world.lines("resumed")) == 8


def test_killed_again_and_again(world: World) -> None:
    ends = [connected(world) for _ in range(3)]
    for channel, *_ in ends:
        channel.close()
    for round_number in range(1, 6):
        world.turn(lambda n=round_number: len(world.lines("resumed")) == 3 * n)
        world.turn(lambda: all(state.pop("address", "") for *_, state in ends) or True)
        assert world.reap() == 1
        os.kill(world.started[0], signal.SIGKILL)
        world.turn(lambda: not world.reap() or len(world.started) == 1)
    world.turn(lambda: len(world.lines("resumed")) >= 18)


def test_the_directory_is_gone(world: World, tmp_path: Path) -> None:
    channel, _, _, state = connected(world)
    world.place.rmdir()
    channel.close()
    world.turn(lambda: state.get("address"))


def test_one_that_cannot_be_started(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "_PATIENCE", 0.3)
    monkeypatch.setattr(link, "_LATE_PAUSE", 0.1)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    held = world.held(theirs.detach(), start=(["/nowhere/python3", link.WORD], {}))
    _, state = world.link(held)
    ours.close()
    world.turn(lambda: state.get("error"))
    assert "cannot be started again: No such file or directory" in state["error"]
    # It comes back by another's hand: the container's complaint goes.
    server = world.listen()
    world.turn(lambda: select.select([server], [], [], 0)[0])
    channel, _ = server.accept()
    push(channel)
    world.turn(lambda: state["error"] == "")


def test_one_that_ends_at_once_is_not_started_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "_PATIENCE", 1.5)
    (world.place / "broken").touch()
    (world.place / "errors").write_text("Error: first\nError: no room left\n")
    channel, _, _, state = connected(world)
    channel.close()
    world.turn(lambda: state.get("error"))
    assert "ends as soon as it is started: Error: no room left" in state["error"]
    assert 1 <= len(world.lines("starts")) <= 4
    world.turn(lambda: world.reap() == 0)


def test_after_many_failures_it_is_still_tried_soon(world: World) -> None:
    (world.place / "broken").touch()
    channel, made, _, _ = connected(world)
    channel.close()
    made._restart = 1000.0  # as many doublings would have made it
    world.turn(lambda: len(world.lines("starts")) >= 1)
    assert made._restart == link._RESTART_LIMIT, "the next one comes soon all the same"
    (world.place / "broken").unlink()
    world.turn(lambda: world.reap() == 0)


def test_an_error_in_place_of_an_answer(world: World) -> None:
    channel, _, _, state = connected(world)
    channel.send(b'{"error":"no room","hint":""}')
    world.turn(lambda: state.get("error"))
    assert "no room" in state["error"]
    push(channel)
    world.turn(lambda: state["error"] == "")


# --- the end -----------------------------------------------------------------


def test_leaving_waits_until_all_is_free(world: World) -> None:
    channel, made, _, state = connected(world)
    made.leave()
    assert json.loads(channel.recv(100)) == {"do": "leave"}
    push(channel, denied=[1])
    channel.close()
    made.release()
    assert state == {"denied": [1]}, "what was said last is not lost"
    assert made.descriptors() == []


def test_leaving_one_that_hangs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "_RELEASE", 0.2)
    channel, made, _, _ = connected(world)
    begun = time.monotonic()
    made.leave()
    made.release()
    assert 0.15 < time.monotonic() - begun < 2
    channel.close()


def test_leaving_when_it_is_gone(world: World) -> None:
    channel, made, _, _ = connected(world)
    channel.close()
    made.leave()
    made.release()
    world.turn_for(0.2)
    assert not world.started, "nobody needs one any more"


def test_leaving_while_it_is_searched(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.take_lock()
    channel, made, held, _ = connected(world)
    channel.close()
    world.turn(lambda: held["channel"] < 0)
    world.turn_for(0.1)
    made.leave()
    made.release()
    server = world.listen()
    world.turn_for(0.2)
    assert not select.select([server], [], [], 0)[0]


# --- how it is started -------------------------------------------------------


def test_the_command_is_our_own_without_its_arguments(tmp_path: Path) -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); from podpy.runtime import link;"
    code += "import json; print(json.dumps(link.starter()))"
    root = str(Path(link.__file__).parents[2])
    environment = {"PATH": "/usr/bin", "SECRET": "x", "XDG_RUNTIME_DIR": "/run/user/7"}
    shown = subprocess.run(
        [sys.executable, "-IS", "-c", code, root, "run", "-d", "image"],
        capture_output=True, check=True, env=environment,
    ).stdout  # fmt: skip
    command, kept = json.loads(shown)
    assert command == [sys.executable, "-IS", "-c", code, "network-supervisor"]
    assert kept["XDG_RUNTIME_DIR"] == "/run/user/7"
    assert "SECRET" not in kept
    assert root in kept["PYTHONPATH"].split(":")


def test_the_working_directory_is_no_place_for_code(tmp_path: Path) -> None:
    """It may be mounted into the container, which would write what is executed later."""
    root = str(Path(link.__file__).parents[2])
    (tmp_path / "start.py").write_text(
        "from podpy.runtime import link\nprint(link.starter()[1]['PYTHONPATH'])\n"
    )
    command = [sys.executable, "-m", "start"]
    for here, expected in ((tmp_path, False), (Path(root), True)):
        environment = {"PYTHONPATH": f"{root}:{tmp_path}" if here != tmp_path else root}
        done = subprocess.run(command, capture_output=True, check=True, cwd=here, env=environment)
        kept = done.stdout.decode().strip().split(":")
        assert root in kept
        assert (str(here) in kept) == expected


def test_a_program_that_was_called_by_a_relative_path_is_found_again(tmp_path: Path) -> None:
    (tmp_path / "start.py").write_text(
        "from podpy.runtime import link\nprint(link.starter()[0][1:])\n"
    )
    environment = {"PYTHONPATH": str(Path(link.__file__).parents[2])}
    command = [sys.executable, "start.py", "run", "start.py"]
    done = subprocess.run(command, capture_output=True, check=True, cwd=tmp_path, env=environment)
    assert done.stdout.decode().strip() == str([str(tmp_path / "start.py"), link.WORD])
