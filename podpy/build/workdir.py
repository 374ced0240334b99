"""WORKDIR: the directory is there, and everything above it."""

from __future__ import annotations

import os

from podpy.build.model import StepResult
from podpy.build.placing import walk
from podpy.errors import BuildError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podpy.build.bench import Bench


def key(path: str, bench: Bench) -> str:
    return bench.key("WORKDIR", path)


def perform(path: str, bench: Bench) -> StepResult:
    """Make an absolute path a directory, root's and of mode 755 where it was not there."""
    known = key(path, bench)
    found = bench.lookup(known)
    if found is not None:
        return found
    upper = bench.upper()
    bench.inside(lambda root: _make(root, path), writing=upper)
    result = bench.commit(upper)
    bench.remember((known,), result)
    return result


def _make(root: int, path: str) -> None:
    """Every directory on the way, where it is missing; links are followed inside the root."""
    try:
        os.close(walk(root, path, _make_one)[0])
    except OSError as error:
        raise BuildError(f"WORKDIR {path}: {error.strerror}") from None


def _make_one(parent: int, name: str) -> None:
    os.mkdir(name, 0o755, dir_fd=parent)
