"""``kill -9`` at random moments leaves nothing that ps, rm and prune cannot see and remove."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support import processes
from support.podpy import Podpy
from support.polling import eventually

KILLS = 200
ROUNDS = 8
LONG_FACTOR = 10

Scene = Callable[[Podpy, str, str], list[str]]


def run_in_front(podpy: Podpy, image: str, name: str) -> list[str]:
    return ["run", "--rm", "--name", name, "--network", "none", image, "sleep", "0.1"]


def run_detached(podpy: Podpy, image: str, name: str) -> list[str]:
    return ["run", "-d", "--name", name, image, "sleep", "1000"]


def create(podpy: Podpy, image: str, name: str) -> list[str]:
    return ["create", "--name", name, "--network", "none", "-v", "/data", image, "true"]


def start(podpy: Podpy, image: str, name: str) -> list[str]:
    podpy("create", "--name", name, "--network", "none", image, "sleep", "1000")
    return ["start", name]


def remove(podpy: Podpy, image: str, name: str) -> list[str]:
    podpy("run", "-d", "--name", name, "--network", "none", image, "sleep", "1000")
    return ["rm", "-f", "-t", "0", name]


SCENES: tuple[Scene, ...] = (run_in_front, run_detached, create, start, remove)


def listing(root: Path) -> set[str]:
    """Every path in the store; what a removed object leaves shows as a difference."""
    found = set()
    for directory, names, files in os.walk(root):
        relative = os.path.relpath(directory, root)
        found |= {os.path.join(relative, name) for name in (*names, *files)}
    return {path for path in found if not path.startswith("./locks")}


def kill_one(podpy: Podpy, watch: processes.Watch, chance: random.Random, argv: list[str]) -> None:
    """Start the command; after a random while kill it, or one of its descendants."""
    before = watch.left()
    command = podpy.start(*argv, stdin=None)
    time.sleep(chance.uniform(0, 0.12))
    candidates = sorted(watch.left() - before) or [processes.process(command.pid)]
    victim = chance.choice(candidates)
    if victim.alive():
        try:
            os.kill(victim.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass  # gone, or a process of the container that only its namespace's owner may kill
    command.wait(20)


def everything_is_accounted_for(podpy: Podpy, watch: processes.Watch) -> bool:
    """What still runs belongs to a container that ``ps`` shows."""
    running = podpy("ps", "-q").lines
    assert running or not watch.left(), [each.describe() for each in watch.left()]
    return True


def clear(podpy: Podpy) -> None:
    """What a user does who wants everything gone."""
    podpy("ps", "-a")
    podpy("rm", "-f", "-a", "-v", "-t", "0")
    podpy("container", "prune", "-f")
    podpy("volume", "prune", "-f")
    podpy("image", "prune", "-f")


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_nothing_is_left_after_kills(
    podpy: Podpy, busybox: str, watch: processes.Watch, seed: int, request: pytest.FixtureRequest
) -> None:
    chance = random.Random(seed)
    clear(podpy)
    baseline = listing(podpy.store)
    count = KILLS // ROUNDS * (LONG_FACTOR if request.config.getoption("--long") else 1)
    for number in range(count):
        scene = chance.choice(SCENES)
        kill_one(podpy, watch, chance, scene(podpy, busybox, f"c{number}"))
        if number % 5 == 4:
            eventually(lambda: everything_is_accounted_for(podpy, watch), timeout=10)
            clear(podpy)
            watch.expect_none()
            assert listing(podpy.store) == baseline
    clear(podpy)
    watch.expect_none()
    assert listing(podpy.store) == baseline
    assert podpy("run", "--rm", "--network", "none", busybox, "echo", "fine").text == "fine"


def test_a_name_of_a_killed_create_can_be_taken_again(
    podpy: Podpy, busybox: str, watch: processes.Watch
) -> None:
    chance = random.Random(7)
    for _ in range(15):
        kill_one(podpy, watch, chance, create(podpy, busybox, "same"))
        done = podpy("create", "--name", "same", busybox, code=None)
        assert done.code == 0 or "already in use" in done.stderr
        podpy("rm", "-f", "same")
    clear(podpy)


def test_rm_sees_a_container_whose_supervisor_was_killed(podpy: Podpy, busybox: str) -> None:
    podpy.run_detached("--name", "orphan", "--network", "none", busybox, "sleep", "1000")
    pid = int(podpy("inspect", "--format", "{{.State.Pid}}", "orphan").text)
    supervisor = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    assert supervisor != os.getpid()
    os.kill(supervisor, signal.SIGKILL)
    assert "orphan" in podpy("ps", "-a", "--format", "{{.Names}}").lines
    podpy("rm", "-f", "-t", "0", "orphan")
    assert podpy("ps", "-a", "-q").text == ""
    eventually(lambda: not Path(f"/proc/{pid}/root").exists() or _is_zombie(pid))


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
