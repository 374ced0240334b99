"""podpy under test: a store of its own for every test, and proof that nothing is left."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import sys
from pathlib import Path

from podpy.kernel import process
from podpy.model import ProcessIdentity
from podpy.records import from_dict
from support import host, images, processes
from support.command import Completed, Tool

CHECKOUT = Path(__file__).resolve().parents[2]
BUSYBOX = "localhost/busybox:latest"


def command() -> list[str]:
    """How podpy is started: ``$PODPY`` (the zipapp, in full runs), else from the checkout."""
    if given := os.environ.get("PODPY"):
        return shlex.split(given)
    return [sys.executable, "-m", "podpy"]


def environment(directory: Path) -> dict[str, str]:
    """A user's environment with every XDG directory below ``directory``."""
    env = {
        "HOME": str(directory / "home"),
        "XDG_DATA_HOME": str(directory / "data"),
        "XDG_RUNTIME_DIR": str(directory / "run"),
        "XDG_CONFIG_HOME": str(directory / "config"),
        "XDG_CACHE_HOME": str(directory / "cache"),
        "PATH": os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin",
        "LANG": "C.UTF-8",
        "TMPDIR": str(directory / "tmp"),
    }
    for name in ("home", "run", "config", "cache", "tmp"):
        (directory / name).mkdir(mode=0o700, parents=True, exist_ok=True)
    if not os.environ.get("PODPY"):
        env["PYTHONPATH"] = str(CHECKOUT)
    return env


class Podpy(Tool):
    """The command bound to one store; see :class:`Tool` for how it is called."""

    def __init__(self, directory: Path, cgroup: host.OwnCgroup | None = None) -> None:
        super().__init__(command(), environment(directory), directory)
        self.cgroup = cgroup
        self.store = directory / "data" / "podpy"
        self.runtime = directory / "run" / "podpy"

    def fails(self, *arguments: object, code: int = 125, **options: object) -> Completed:
        """Run, expect failure with ``code`` and one plain error on stderr: no traceback."""
        done = self(*arguments, code=code, **options)  # type: ignore[arg-type]
        assert "Traceback" not in done.stderr, done.stderr
        assert "internal error" not in done.stderr, done.stderr
        if code == 125:
            assert "Error: " in done.stderr, f"no error message: {done.stderr!r}"
        return done

    def run_detached(self, *arguments: object, **options: object) -> str:
        """``run -d``: the new container's id."""
        return self("run", "-d", *arguments, **options).text  # type: ignore[arg-type]

    def containers(self) -> list[str]:
        """Ids of all containers that the store's directory shows."""
        directory = self.store / "containers"
        if not directory.is_dir():
            return []
        return sorted(name for name in os.listdir(directory) if not name.startswith("."))

    def staging(self) -> list[str]:
        """What is left in the store's staging area."""
        directory = self.store / "tmp"
        return sorted(os.listdir(directory)) if directory.is_dir() else []

    def load_layers(self, name: str, *layers: images.Layer, **config: object) -> str:
        """Make an image of layers (bottom first), load it, return its name."""
        archive = self.directory / "tmp" / f"{abs(hash(name))}.tar"
        images.docker_archive(archive, name, layers=layers, config=config)
        self("load", "-q", "-i", archive)
        archive.unlink()
        return name

    def clean_up(self, watch: processes.Watch) -> None:
        """Remove everything as a user would, then prove that nothing is left."""
        self.end_background()
        problems: list[str] = []
        try:
            self._remove_objects()
            self._end_network_supervisor()
            watch.expect_none()
            problems += self._remains()
        except AssertionError as error:
            problems.append(str(error))
            watch.kill()
        if self.cgroup:
            self.cgroup.clear()
        self._remove_directory()
        assert not problems, "\n".join(problems)

    def _remove_objects(self) -> None:
        if self.containers():
            self("rm", "-f", "-a", "-v", "-t", "0")
        if (self.store / "volumes").is_dir() and os.listdir(self.store / "volumes"):
            self("volume", "rm", "-f", "-a")

    def _end_network_supervisor(self) -> None:
        """It would linger for seconds, for containers that this test will not start."""
        for lock in self.runtime.glob("network*/lock"):
            text = lock.read_text()
            if text and process.is_alive(who := from_dict(ProcessIdentity, json.loads(text))):
                os.kill(who.pid, signal.SIGTERM)

    def _remains(self) -> list[str]:
        mounts = Path("/proc/self/mountinfo").read_text()
        remains = {
            "containers": self.containers(),
            "names": _names(self.store / "containers" / ".names"),
            "staging": self.staging(),
            # Notes for the length of the login: what a logout ends has been told, who
            # the network supervisor was.
            "runtime": [
                name
                for name in _names(self.runtime)
                if name != "logout-told" and not name.startswith("network")
            ],
            "cgroups": self.cgroup.left() if self.cgroup else [],
            "mounts": [line for line in mounts.splitlines() if f" {self.directory}" in line],
        }
        return [f"{what} left behind: {left}" for what, left in remains.items() if left]

    def _remove_directory(self) -> None:
        """Delete the test's directory; files of subordinate owners go by way of podpy."""
        shutil.rmtree(self.directory, ignore_errors=True)
        if self.directory.exists():
            remove = (
                "import sys; from podpy.storage import staging; staging.remove_tree(sys.argv[1])"
            )
            Tool(
                [sys.executable, "-c", remove],
                {**self.env, "PYTHONPATH": str(CHECKOUT)},
                Path("/"),
            )(self.directory, code=None)


def _names(directory: Path) -> list[str]:
    return sorted(os.listdir(directory)) if directory.is_dir() else []


def make_template(directory: Path) -> None:
    """A store with the busybox image, made by podpy itself; copied for every test."""
    watch = processes.Watch()
    podpy = Podpy(directory)
    archive = images.docker_archive(
        directory / "busybox.tar", BUSYBOX, layers=[images.busybox_layer()]
    )
    podpy("load", "-q", "-i", archive)
    # Warms the caches (host probe, filters); whether it works is for the tests to say.
    podpy("run", "--rm", "--network", "none", BUSYBOX, "true", code=None)
    watch.expect_none()


def clone_template(template: Path, directory: Path) -> None:
    """A private copy: tests may damage it at will."""
    shutil.copytree(template / "data", directory / "data", symlinks=True)
    shutil.copytree(template / "cache", directory / "cache", symlinks=True)
