"""Builds that are killed, and builds that run side by side: nothing lost, nothing left."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from support.podpy import BUSYBOX, Podpy
from support.polling import eventually

NET = ("--network", "none")
TEXT = (
    f"FROM {BUSYBOX} AS a\nCOPY . /src\nRUN ls -R /src > /list && sleep 0.1\n"
    f"FROM {BUSYBOX} AS b\nRUN sleep 0.1; echo b > /b\n"
    f"FROM {BUSYBOX}\nCOPY --from=a /list /\nCOPY --from=b /b /\nRUN cat /b /list > /all\n"
)


@pytest.fixture
def source(podpy: Podpy) -> Path:
    path = podpy.directory / "context"
    path.mkdir()
    for number in range(200):
        (path / f"f{number}").write_text(str(number))
    (path / "Dockerfile").write_text(TEXT)
    return path


def build(podpy: Podpy, source: Path, *options: object) -> None:
    podpy("build", "-q", *NET, "-t", "x", *options, source)


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_any_moment(podpy: Podpy, source: Path, seed: int) -> None:
    """What a kill leaves is swept by the next build; what it made is whole."""
    chance = random.Random(seed)
    for _ in range(8):
        running = podpy.start("build", "-q", "--no-cache", *NET, "-t", "x", source)
        time.sleep(chance.uniform(0.05, 1.2))  # the moment is what is tested
        running.process.send_signal(chance.choice((signal.SIGKILL, signal.SIGTERM)))
        running.process.wait(20)
    build(podpy, source)
    shown = podpy("run", "--rm", *NET, "x", "cat", "/all").text
    assert shown.startswith("b") and "f199" in shown
    eventually(lambda: podpy.staging() == [], what="leftovers to be swept")


def test_a_worker_that_is_killed_fails_the_build(podpy: Podpy, source: Path) -> None:
    (source / "Dockerfile").write_text(f"FROM {BUSYBOX}\nRUN echo begun; sleep 300\n")
    running = podpy.start("build", "--progress=plain", *NET, source)
    children = Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children")

    def workers() -> list[str]:
        return children.read_text().split()

    eventually(workers, what="a worker")
    time.sleep(0.3)  # until its payload runs, or not: both must work
    for pid in workers():
        os.kill(int(pid), signal.SIGKILL)
    done = running.wait(20)
    assert done.code == 125
    assert "was killed" in done.stderr


def test_side_by_side(podpy: Podpy, source: Path) -> None:
    """Several builds of one thing, and a prune in between: all succeed."""
    builds = [podpy.start("build", "-q", *NET, "-t", f"x{n}", source) for n in range(4)]
    for _ in range(3):
        podpy("builder", "prune", "-f")
        podpy("image", "prune", "-f")
    for running in builds:
        assert running.wait(120).code == 0
    for number in range(4):
        assert "f199" in podpy("run", "--rm", *NET, f"x{number}", "cat", "/all").text
