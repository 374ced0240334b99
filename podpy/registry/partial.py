"""Unfinished downloads: one file per blob in ``downloads/`` of the cache directory.

A file is locked by the process that writes it, for as long as it does; what
nobody holds is what an interrupted pull left for the next one, and may be
deleted at any time.
"""

from __future__ import annotations

import fcntl
import os
import time

from podpy import files, paths

_STALLED = 5.0


def directory() -> str:
    return f"{paths.cache_home()}/downloads"


def claim(digest: str) -> tuple[str, int]:
    """The file of a blob's download, locked for us: ``(path, descriptor)``.

    While another podpy is receiving the same blob we wait for it as long as
    the file grows; one that stands still is left alone and we use our own.
    """
    files.make_directory(directory())
    path = f"{directory()}/{digest[7:]}"
    size, since = -1, time.monotonic()
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(fd).st_nlink:
                return path, fd
        except BlockingIOError:
            now = os.fstat(fd).st_size
            if now != size:
                size, since = now, time.monotonic()
            elif time.monotonic() - since > _STALLED:
                path, since = f"{path}.{os.getpid()}", time.monotonic()
        os.close(fd)
        time.sleep(0.1)


def sweep() -> int:
    """Delete what no living process is writing; return how many bytes that were."""
    freed = 0
    for name in files.list_directory(directory()):
        path = f"{directory()}/{name}"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue  # gone since: finished, or swept by somebody else
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = os.fstat(fd)
            if os.path.samestat(held, os.stat(path, follow_symlinks=False)):
                freed += held.st_size
                files.unlink(path)
        except (BlockingIOError, FileNotFoundError):
            continue
        finally:
            os.close(fd)
    return freed
