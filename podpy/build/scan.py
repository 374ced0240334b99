"""Digests of a context's files, remembered from build to build.

A directory of tens of thousands of files is the same as a minute ago, and the
kernel tells so in a fraction of the time it takes to read them.  As git's index
does, :class:`Remembered` keeps for each path what ``stat`` said and the digest
of what was read then: the same inode, size, modification and change time mean
the same content.  A file that changed so lately that another change might
leave its times as they are is read again next time.
"""

from __future__ import annotations

import hashlib
import os
import time

from podpy import files, paths
from podpy.errors import StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from podpy.build.model import Source

    #: ``digest(parent, name, path, status)``: of the file ``name`` in the open directory
    #: ``parent``; ``path`` is its path in the context, ``status`` what lstat(2) said.
    Digest = Callable[[int, str, str, os.stat_result], str]
    Known = list[int | str]

_VERSION = 1
_MOST_FILES = 200_000  # of one context
_MOST_CONTEXTS = 64
_LIMIT = 256 << 20
# How far apart two changes must be for their times to differ: the kernel's tick, or the
# two seconds of file systems that keep whole ones.
_TICK = 20_000_000
_COARSE = 2_000_000_000


class Remembered:
    """A ``Digest`` for the files of one source directory that reads only those that changed.

    ``compute`` reads.  Use as a context manager: what was learnt is kept at its
    end, whatever becomes of the build.  Workers may use the same directory at
    the same time; each adds to what the others kept.

        with Remembered(source, digest_file) as digest:
            selector = Selector(root, digest=digest)

    Of a directory that is gone after the build nothing is kept.
    """

    def __init__(self, source: Source, compute: Digest) -> None:
        where = os.path.realpath(source.directory)
        name = hashlib.sha256(os.fsencode(where)).hexdigest()[:32]
        self._path = "" if source.passing else f"{place()}/{name}.json"
        self._compute = compute
        self._read, self._known = _load(self._path)
        self._learnt: dict[str, Known] = {}
        self._now = time.time_ns()

    def __enter__(self) -> Remembered:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._learnt and self._path:
            try:
                self._save()
            except OSError:
                pass  # no room, or a home that cannot be written: slower next time, not wrong

    def __call__(self, parent: int, name: str, path: str, status: os.stat_result) -> str:
        """The digest of a file."""
        known = self._known.get(path)
        if (
            known is not None
            and known[0] == status.st_ino
            and known[1] == status.st_size
            and known[2] == status.st_mtime_ns
            and known[3] == status.st_ctime_ns
        ):
            return str(known[4])
        digest = self._compute(parent, name, path, status)
        if self._is_settled(status):
            times = status.st_mtime_ns, status.st_ctime_ns
            self._learnt[path] = [status.st_ino, status.st_size, *times, digest]
        return digest

    def _is_settled(self, status: os.stat_result) -> bool:
        """Whether every change from now on gives the file another time than it has."""
        grain = _TICK if status.st_ctime_ns % 1_000_000 else _COARSE
        return max(status.st_mtime_ns, status.st_ctime_ns) < self._now - grain

    def _save(self) -> None:
        files.make_directory(os.path.dirname(self._path))
        read, known = self._read, self._known
        if _identity(self._path) != read:  # another worker has saved since
            _, known = _load(self._path)
        kept = {**known, **self._learnt}
        if len(kept) > _MOST_FILES:  # many of them are gone, surely
            kept = self._learnt
        files.write_json(self._path, {"version": _VERSION, "files": kept})
        _forget_oldest()


def place() -> str:
    """The directory of what is remembered; a cache, it may be deleted at any time."""
    return f"{paths.cache_home()}/build/stat"


def every() -> list[str]:
    """The files of what is remembered, one for each context."""
    return [f"{place()}/{name}" for name in files.list_directory(place())]


def _identity(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return 0, 0
    return status.st_ino, status.st_mtime_ns


def _load(path: str) -> tuple[tuple[int, int], dict[str, Known]]:
    """What is remembered of a context, and which file that was; nothing when it is damaged."""
    identity = _identity(path)
    try:
        content = files.loads(files.read_bytes(path, limit=_LIMIT))
        if content["version"] == _VERSION:
            return identity, content["files"]
    except (OSError, ValueError, KeyError, TypeError, StoreError):
        pass
    return identity, {}


def _forget_oldest() -> None:
    """Contexts that nobody builds any more make room."""
    known = every()
    if len(known) > _MOST_CONTEXTS:
        for path in sorted(known, key=_identity_time)[:-_MOST_CONTEXTS]:
            files.unlink(path)


def _identity_time(path: str) -> int:
    return _identity(path)[1]
