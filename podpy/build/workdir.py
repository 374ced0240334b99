"""WORKDIR: the directory is there, and everything above it."""

from __future__ import annotations

import os

from podpy.build.model import StepResult
from podpy.errors import BuildError
from podpy.kernel import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podpy.build.bench import Bench

_IN_ROOT = libc.RESOLVE_IN_ROOT | libc.RESOLVE_NO_MAGICLINKS
_PATH = libc.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


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
    done = ""
    for name in path.strip("/").split("/"):
        done = f"{done}/{name}"
        if name:
            _make_one(root, done, name, path)


def _make_one(root: int, path: str, name: str, whole: str) -> None:
    """One directory on the way, where it is missing; symbolic links are followed in the root."""
    try:
        try:
            os.close(libc.openat2(root, path, _PATH, resolve=_IN_ROOT))
        except FileNotFoundError:
            parent = libc.openat2(root, os.path.dirname(path), _PATH, resolve=_IN_ROOT)
            try:
                os.mkdir(name, 0o755, dir_fd=parent)
            finally:
                os.close(parent)
    except OSError as error:
        raise BuildError(f"WORKDIR {whole}: {path}: {error.strerror}") from None
