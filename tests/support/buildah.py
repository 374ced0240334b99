"""buildah as a peer for builds: one process for all cases of a session, beside the tests.

Starting buildah costs it more than a small build, and most of that goes into
its user namespace: all builds are done within one (``peer_builds.py``).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from support import host, processes
from support.dockerfiles import Case
from support.flat import Image, Reader
from support.podman import best_driver
from support.podpy import environment
from support.polling import eventually

DRIVER = Path(__file__).with_name("peer_builds.py")
PATIENCE = 600.0


class Builds:
    """The peer's side of a corpus, in a directory that all test processes share."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.contexts = directory / "contexts"
        self._read: dict[str, dict[str, tuple[int, str]]] = {}
        self._images: dict[str, dict[str, Image]] = {}

    def result(self, batch: str, case: str) -> tuple[int, str]:
        """Exit code and output of a build; waits until its batch is done."""
        if batch not in self._read:
            file = self.directory / f"{batch}.json"
            eventually(self._reached(file), timeout=PATIENCE, what=f"the peer's builds of {batch}")
            self._read[batch] = json.loads(file.read_text())
        code, output = self._read[batch][case]
        return code, output

    def images(self, batch: str, reader: Reader) -> dict[str, Image]:
        """All images of a batch that could be built, by their cases' names."""
        if batch not in self._images:
            self._images[batch] = reader.images(self.directory / f"{batch}.tar")
        return self._images[batch]

    def _reached(self, file: Path) -> Any:
        def probe() -> bool:
            if file.exists():
                return True
            if (self.directory / "ended").exists() and not file.exists():
                # No AssertionError: there is nothing to wait for.
                log = (self.directory / "log").read_text(errors="replace")
                raise RuntimeError(f"the peer's builds ended early: {log[-2000:]}")
            return False

        return probe


class Buildah:
    """The process that builds, and its storage; :meth:`close` removes both."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.env = environment(directory / "peer")
        self.env.pop("PYTHONPATH", None)
        self.run = Path(tempfile.mkdtemp(prefix="pb", dir=os.environ.get("XDG_RUNTIME_DIR")))
        self.env["XDG_RUNTIME_DIR"] = str(self.run)
        self.graph = directory / "peer" / "graph"
        self.storage = ["--root", str(self.graph), "--runroot", str(self.run / "g")]
        self.storage += ["--storage-driver", best_driver()]
        self._configure(directory / "peer" / "config" / "containers")

    def _configure(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        (directory / "policy.json").write_text('{"default":[{"type":"insecureAcceptAnything"}]}')
        (directory / "registries.conf").write_text('short-name-mode = "permissive"\n')

    def start(
        self, bases: Sequence[Path], batches: Mapping[str, Sequence[tuple[Case, Path]]]
    ) -> None:
        """Build all batches in their order, in the background."""
        plan = {
            "storage": self.storage,
            "bases": [str(base) for base in bases],
            "directory": str(self.directory),
            "batches": {
                name: [
                    (case.name, str(path), _options(case, path), dict(case.env))
                    for case, path in cases
                ]
                for name, cases in batches.items()
            },
        }
        (self.directory / "plan.json").write_text(json.dumps(plan))
        self._log = (self.directory / "log").open("wb")
        ended = str(self.directory / "ended")
        self._process = processes.popen(
            [host.program("sh"), "-c", '"$@"; echo "exit code $?" >>"$0"', ended,
             host.program("buildah"), *self.storage, "unshare", sys.executable, "-IS", str(DRIVER),
             str(self.directory / "plan.json")],
            env=self.env, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
        )  # fmt: skip
        processes.keep(self._process.pid)

    def close(self) -> None:
        """Wait for its end: another test process may still need what it builds."""
        self._process.wait(PATIENCE)
        self._log.close()
        subprocess.run(
            [host.program("buildah"), *self.storage, "unshare", "rm", "-rf", self.graph],
            env=self.env, check=False, capture_output=True,
        )  # fmt: skip
        shutil.rmtree(self.run, ignore_errors=True)


def _options(case: Case, context: Path) -> list[str]:
    return [option.replace("{context}", str(context)) for option in case.options]
