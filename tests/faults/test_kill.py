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


class Killer:
    """Kills at random moments, and remembers which, for the message of a failure."""

    def __init__(self, podpy: Podpy, watch: processes.Watch, seed: int) -> None:
        self.podpy = podpy
        self.watch = watch
        self.chance = random.Random(seed)
        self.history: list[str] = []

    def kill_one(self, argv: list[str]) -> None:
        """Start the command; after a random while kill it, or one of its descendants."""
        before = self.watch.left()
        command = self.podpy.start(*argv, stdin=None)
        delay = self.chance.uniform(0, 0.12)
        time.sleep(delay)
        candidates = sorted(self.watch.left() - before) or [processes.process(command.pid)]
        victim = self.chance.choice(candidates)
        others = [each.describe() for each in candidates if each != victim]
        self.history.append(
            f"{' '.join(argv)}: after {delay * 1000:.0f} ms killed {victim.describe()}"
            f"{' (the command)' if victim.pid == command.pid else ''}; beside it: {others}"
        )
        if victim.alive():
            try:
                os.kill(victim.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass  # gone, or a process of the container that only its namespace may kill
        command.wait(20)

    def everything_is_accounted_for(self) -> bool:
        """What still runs belongs to a container that ``ps -a`` shows, so that ``rm`` ends it."""
        shown = self.podpy("ps", "-a", "-q").lines
        left = [each.describe() for each in self.watch.left()]
        assert shown or not left, "\n".join(["ps shows nothing, but:", *left, *self.history])
        return True

    def expect_cleared(self, baseline: set[str]) -> None:
        """After ``rm`` and ``prune`` nothing differs from the beginning."""
        clear(self.podpy)
        self.watch.expect_none()
        problems = {
            "more": sorted(listing(self.podpy.store) - baseline),
            "less": sorted(baseline - listing(self.podpy.store)),
            "cgroups": self.podpy.cgroup.left() if self.podpy.cgroup else [],
        }
        assert not any(problems.values()), "\n".join([str(problems), *self.history])
        self.history.clear()


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
    killer = Killer(podpy, watch, seed)
    clear(podpy)
    baseline = listing(podpy.store)
    count = KILLS // ROUNDS * (LONG_FACTOR if request.config.getoption("--long") else 1)
    for number in range(count):
        scene = killer.chance.choice(SCENES)
        killer.kill_one(scene(podpy, busybox, f"c{number}"))
        if number % 5 == 4:
            eventually(killer.everything_is_accounted_for)
            killer.expect_cleared(baseline)
    killer.expect_cleared(baseline)
    assert podpy("run", "--rm", "--network", "none", busybox, "echo", "fine").text == "fine"


def test_a_name_of_a_killed_create_can_be_taken_again(
    podpy: Podpy, busybox: str, watch: processes.Watch
) -> None:
    killer = Killer(podpy, watch, seed=7)
    for _ in range(15):
        killer.kill_one(create(podpy, busybox, "same"))
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
