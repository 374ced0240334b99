"""Builds whose result is read as a tree, by the suite's own reader."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from support import flat
from support.podpy import BUSYBOX, Podpy

BASE = f"FROM {BUSYBOX}\n"


class Builder:
    """Builds in a context directory of its own.  ``runner`` is podpy with its store."""

    def __init__(self, runner: Podpy) -> None:
        self.runner = runner
        self.context = runner.directory / "context"
        self.context.mkdir()

    def write(self, files: Mapping[str, str | bytes]) -> None:
        """Files of the context, with their directories."""
        for name, data in files.items():
            path = self.context / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data.encode() if isinstance(data, str) else data)

    def run(self, dockerfile: str, *options: object, **more: Any) -> Any:
        """``build`` of a text, which is in no file of the context."""
        file = self.runner.directory / "Dockerfile"
        file.write_text(dockerfile)
        call = self.runner if more.pop("ok", True) else self.runner.fails
        return call("build", "-f", file, "-t", "localhost/built", *options, self.context, **more)

    def tree(self, dockerfile: str, *options: object) -> flat.Tree:
        """Build, and read the flattened image with the suite's own reader."""
        self.run(dockerfile, "-q", *options)
        archive = self.runner.directory / "image.tar"
        self.runner("save", "-q", "-o", archive, "localhost/built")
        (image,) = flat.Reader().images(archive).values()
        archive.unlink()
        return image.tree

    def fails(self, dockerfile: str, *options: object) -> str:
        """Build, expect one plain error; its text."""
        text: str = self.run(dockerfile, *options, ok=False).stderr
        return text


def texts(tree: flat.Tree) -> set[str]:
    """The contents of all files."""
    return {entry.content for entry in tree.values() if entry.kind == "file"}


def outside(directory: Path) -> Path:
    """A directory of the user's, with a secret in it, that no build is told of."""
    victim = directory / "victim"
    victim.mkdir()
    (victim / "secret").write_text("the secret")
    (victim / "etc").mkdir()
    (victim / "etc/passwd").write_text("the secret passwd")
    return victim
