"""Builds under test: a context of texts, what the commands wrote, what the layers hold."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path

from support.command import Completed
from support.podpy import BUSYBOX, Podpy

_SAID = re.compile(r"^#\d+ \d+\.\d+ ?(.*)$")


class Builds:
    """A context directory and the builds of it; no command gets a network unless asked."""

    def __init__(self, podpy: Podpy) -> None:
        self.podpy = podpy
        self.context = podpy.directory / "context"
        self.context.mkdir(exist_ok=True)

    def write(self, files: Mapping[str, str]) -> None:
        for name, text in files.items():
            path = self.context / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def __call__(self, dockerfile: str, *options: object, code: int | None = 0) -> Built:
        """Build; a Dockerfile without FROM is that of busybox."""
        if "FROM " not in dockerfile:
            dockerfile = f"FROM {BUSYBOX}\n{dockerfile}"
        path = self.podpy.directory / "Dockerfile"
        path.write_text(dockerfile)
        network = () if "--network" in options else ("--network", "none")
        done = self.podpy(
            "build", "--progress", "plain", *network, *options, "-f", path, self.context, code=code
        )
        return Built(self.podpy, done)


class Built:
    """What a build printed and made."""

    def __init__(self, podpy: Podpy, done: Completed) -> None:
        self.podpy = podpy
        self.done = done
        self.stderr = done.stderr
        self.image = done.text

    @property
    def said(self) -> list[str]:
        """What the commands wrote, line by line."""
        found = (_SAID.match(line) for line in self.stderr.splitlines())
        return [match[1] for match in found if match]

    @property
    def text(self) -> str:
        return "\n".join(self.said)

    @property
    def cached(self) -> int:
        """How many steps were not carried out."""
        return sum(line.endswith(" CACHED") for line in self.stderr.splitlines())

    @property
    def error(self) -> str:
        return next(line for line in self.stderr.splitlines() if line.startswith("Error: "))

    def layers(self) -> list[list[str]]:
        """The names in each layer, the base image's first."""
        told = self.podpy("image", "inspect", self.image).json()[0]
        found = []
        for diff_id in told["RootFS"]["Layers"]:
            with tarfile.open(self._blob(diff_id)) as layer:
                found.append(layer.getnames())
        return found

    def config(self) -> dict[str, object]:
        found: dict[str, object] = json.loads(self._blob(f"sha256:{self.image}").read_text())
        return found

    def _blob(self, digest: str) -> Path:
        return self.podpy.store / "content" / "blobs" / "sha256" / digest.removeprefix("sha256:")
