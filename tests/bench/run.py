"""podpy and podman side by side: ``python3 tests/bench/run.py [--only WORD] [--rounds N]``.

Prints what each operation takes with both, the ratio, and design budgets.  It is
no pass/fail test.  Both run as the same user, on the same storage driver, from
warm caches; ``tests/run.sh --bench`` gives them a host where both can work.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import building, image, measure, network
from bench.measure import Row, command, pair, parallel
from support import host, images, processes
from support.command import Tool
from support.podman import Podman, best_driver
from support.podpy import BUSYBOX, Podpy
from support.registry import Registry

LINES = 100_000_000
PARALLEL = 20


class Bench:
    """Both tools, each with a store, and the rounds to run."""

    def __init__(self, directory: Path, rounds: int, modes: str = "") -> None:
        self.directory = directory
        self.rounds = rounds
        self.modes = modes.split(",") if modes else []
        for name in ("podpy", "podman"):
            (directory / name).mkdir(mode=0o700)
        self.podpy = Podpy(directory / "podpy")
        self.podman = Podman(directory / "podman")

    @property
    def tools(self) -> tuple[Tool, Tool]:
        return self.podpy, self.podman

    def prepare(self) -> None:
        archive = self.directory / "busybox.tar"
        images.docker_archive(archive, BUSYBOX, layers=[images.busybox_layer()])
        for tool in self.tools:
            tool("load", "-q", "-i", archive)

    def same(
        self,
        name: str,
        *arguments: object,
        budget: float | None = None,
        rounds: int = 0,
        between: tuple[object, ...] = (),
    ) -> Row:
        """The same arguments for both; ``between`` are the arguments of what undoes it."""

        def undo() -> None:
            if between:
                for tool in self.tools:
                    tool(*between, code=None)

        ours, theirs = (command(tool.argv(*arguments), tool.env) for tool in self.tools)
        return pair(name, ours, theirs, rounds=rounds or self.rounds, budget=budget, between=undo)

    @contextmanager
    def container(self, *command_line: str) -> Iterator[str]:
        """A container ``bench`` in both stores."""
        for tool in self.tools:
            tool("run", "-d", "--name", "bench", "--network", "none", BUSYBOX, *command_line)
        yield "bench"
        for tool in self.tools:
            tool("rm", "-f", "-t", "0", "bench")

    def close(self) -> None:
        for tool in self.tools:
            tool("rm", "-f", "-a", "-t", "0", code=None)
        self.podman.close()
        self.podpy("rmi", "-f", "-a", code=None)
        network.settle()


def networks(bench: Bench) -> Iterator[tuple[str, float]]:
    """The networks that both know and this host can give, with their budgets."""
    yield from (("none", 0.5), ("host", 0.5))
    if not os.access("/dev/net/tun", os.W_OK):
        return
    if host.program("slirp4netns"):
        yield "slirp4netns", 0.6
    version = bench.podman("--version").text.split()[-1].split(".")
    if host.program("pasta") and (int(version[0]), int(version[1])) >= (4, 4):
        yield "pasta", 0.6


def run_containers(bench: Bench) -> Iterator[Row]:
    for mode, budget in networks(bench):
        yield bench.same(
            f"run --rm ({mode})", "run", "--rm", "--network", mode, BUSYBOX, "true",
            budget=budget,
        )  # fmt: skip


def run_many(bench: Bench) -> Iterator[Row]:
    arguments = ("run", "--rm", "--network", "none", BUSYBOX, "true")
    ours, theirs = (parallel(tool.argv(*arguments), tool.env, PARALLEL) for tool in bench.tools)
    yield pair(
        f"{PARALLEL} parallel run --rm (none)", ours, theirs, rounds=max(3, bench.rounds // 5)
    )


def look(bench: Bench) -> Iterator[Row]:
    with bench.container("sh", "-c", "seq 1000; exec sleep 100000") as name:
        yield bench.same("exec", "exec", name, "true", budget=0.4)
        yield bench.same("ps", "ps", budget=1.0)
        yield bench.same("inspect", "inspect", name, budget=1.0)
        yield bench.same("logs (1000 lines)", "logs", name, budget=1.0)
    yield bench.same("images", "images", budget=1.0)
    yield bench.same("version", "version", budget=1.0)


def stop_and_start(bench: Bench) -> Iterator[Row]:
    with bench.container("sleep", "100000") as name:
        yield bench.same("kill and start", "start", name, between=("kill", name))


def throughput(bench: Bench) -> Iterator[Row]:
    script = f"yes 'a line of forty bytes, as logs have them' | head -c {LINES}"
    yield bench.same(
        f"{LINES // 1_000_000} MB of lines, attached", "run", "--rm", "--network", "none",
        BUSYBOX, "sh", "-c", script, rounds=3,
    )  # fmt: skip


def idle_memory(bench: Bench) -> Iterator[Row]:
    with bench.container("sleep", "100000") as name:
        time.sleep(2.5)  # podpy's supervisor makes itself small a second after the start
        found = []
        for tool in bench.tools:
            pid = int(tool("inspect", "--format", "{{.State.Pid}}", name).text)
            found.append(measure.memory(measure.parent(pid)))
        (ours, our_private), (theirs, their_private) = found
        yield Row("idle supervisor, resident", ours, theirs, "kB")
        yield Row("idle supervisor, private", our_private, their_private, "kB")


def load_big(bench: Bench) -> Iterator[Row]:
    archive = image.big_archive()
    yield bench.same(
        f"load ({image.describe(archive)})", "load", "-q", "-i", archive,
        budget=0.5, rounds=3, between=("rmi", "-f", image.NAME),
    )  # fmt: skip


def pull_big(bench: Bench) -> Iterator[Row]:
    if not (host.program("docker-registry") and host.program("skopeo")):
        return
    archive = image.big_archive()
    registry = Registry(bench.directory / "registry")
    try:
        reference = f"{registry.address}/debian:big"
        subprocess.run(
            [host.program("skopeo"), "copy", "-q", "--insecure-policy", "--dest-tls-verify=false",
             f"docker-archive:{archive}", f"docker://{reference}"],
            env=bench.podman.env, check=True,
        )  # fmt: skip
        yield bench.same(
            "pull, gzip layer, loopback", "pull", "-q", "--tls-verify=false", reference,
            budget=0.5, rounds=3, between=("rmi", "-f", reference),
        )  # fmt: skip
    finally:
        registry.close()


GROUPS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "run": run_containers,
    "look": look,
    "start": stop_and_start,
    "parallel": run_many,
    "throughput": throughput,
    "memory": idle_memory,
    "load": load_big,
    "pull": pull_big,
    "build": building.everything,
    "network-start": network.starts,
    "network-traffic": network.traffic,
    "network-memory": network.memory,
}


def settings(bench: Bench) -> str:
    """What was compared, on what: nobody can repeat figures without it."""
    info = bench.podman("info", "--format", "json").json()["host"]
    runtime = info["ociRuntime"]["version"].splitlines()[0]
    return "\n".join(
        (
            f"date       {time.strftime('%Y-%m-%d %H:%M %Z')}",
            f"machine    {measure.cpu_model()}, Linux {platform.release()}, {_os_name()}",
            f"podpy      {bench.podpy('--version').text}, Python {_python()}, "
            f"{' '.join(bench.podpy.command)}",
            f"podman     {bench.podman('--version').text}, {runtime}, "
            f"{info['conmon']['version'].splitlines()[0]}",
            f"storage    {best_driver()} for both, on {_file_system(bench.directory)}",
            f"cgroups    podman: cgroupfs manager, {info['cgroupVersion']}; podpy: "
            + ("delegated cgroup v2" if host.cgroup() else "none delegated"),
            f"load       {os.getloadavg()[0]:.2f} at the beginning",
        )
    )


def _python() -> str:
    return subprocess.run(
        ["/usr/bin/python3", "-V"], capture_output=True, text=True, check=True
    ).stdout.split()[1]


def _os_name() -> str:
    for line in Path("/etc/os-release").read_text().splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return "unknown"


def _file_system(path: Path) -> str:
    done = subprocess.run(["stat", "-f", "-c", "%T", str(path)], capture_output=True, text=True)
    return done.stdout.strip()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help=f"groups, by comma: {', '.join(GROUPS)}")
    parser.add_argument("--rounds", type=int, default=25, help="timed runs of each quick operation")
    parser.add_argument("--modes", default="", help="network modes of network-traffic, by comma")
    parser.add_argument("--json", type=Path, help="write the rows there, too")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    wanted = options.only.split(",") if options.only else list(GROUPS)
    host.require_or_exit("podman", "busybox")
    processes.become_subreaper()
    cgroup = host.OwnCgroup("main")
    base = os.environ.get("PODPY_TEST_BASE")
    directory = Path(tempfile.mkdtemp(prefix="bench-", dir=base))
    bench = Bench(directory, options.rounds, options.modes)
    rows: list[Row] = []
    try:
        bench.prepare()
        print(settings(bench), end="\n\n", flush=True)
        for name in wanted:
            for row in GROUPS[name](bench):
                rows.append(row)
                print(f"  {row.name}: {row.ratio:.2f}", file=sys.stderr, flush=True)
    finally:
        print(measure.table(rows))
        if options.json:
            options.json.write_text(json.dumps([row.__dict__ for row in rows], indent=1))
        bench.close()
        shutil.rmtree(directory, ignore_errors=True)
        processes.reap()
        cgroup.close()


if __name__ == "__main__":
    main()
