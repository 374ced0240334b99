"""How much a tree holds, and how much disk it takes, also of files of subordinate ids."""

from __future__ import annotations

import os
import stat

from podpy import files
from podpy.kernel import process, userns

_BLOCK = 512
_DEEPEST = 200  # levels that are counted: each holds two descriptors


def tree(path: str) -> int:
    """Bytes on disk below ``path``, each file once, as du(1); 0 when there is no such directory.

    Directories that only a container's user may read are walked by a child
    that is root of a user namespace with the caller's ids.
    """
    seen: set[tuple[int, int]] = set()
    try:
        return _walk(path, seen)
    except FileNotFoundError:
        return 0
    except PermissionError:
        return _as_root(path)


def _walk(path: str, seen: set[tuple[int, int]]) -> int:
    fd = os.open(path, files.O_DIR)
    try:
        return _sum(fd, seen, 0)
    finally:
        os.close(fd)


def _sum(fd: int, seen: set[tuple[int, int]], depth: int) -> int:
    """By descriptor: a container may nest directories deeper than a path is long."""
    total = 0
    with os.scandir(fd) as entries:
        for entry in entries:
            status = entry.stat(follow_symlinks=False)
            if (status.st_dev, status.st_ino) in seen:
                continue
            if status.st_nlink > 1:
                seen.add((status.st_dev, status.st_ino))
            total += status.st_blocks * _BLOCK
            if entry.is_dir(follow_symlinks=False) and depth < _DEEPEST:
                inner = os.open(entry.name, files.O_DIR | os.O_NOFOLLOW, dir_fd=fd)
                try:
                    total += _sum(inner, seen, depth + 1)
                finally:
                    os.close(inner)
    return total


def _as_root(path: str) -> int:
    reader, writer = os.pipe()

    def child() -> int:
        os.close(reader)
        os.write(writer, str(_walk(path, set())).encode())
        return 0

    try:
        pid = userns.fork_mapped(child, mount_ns=False)
        os.close(writer)
        text = os.read(reader, 64)
        process.wait(pid)
    finally:
        os.close(reader)
    return int(text or b"0")


def measure(root: int) -> tuple[int, int]:
    """What a tree holds: bytes of its regular files (links counted once), and names."""
    size = names = 0
    linked: dict[int, int] = {}
    waiting = [os.dup(root)]
    while waiting:
        directory = waiting.pop()
        try:
            for name in os.listdir(directory):
                names += 1
                status = os.stat(name, dir_fd=directory, follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    flags = files.O_DIR | os.O_NOFOLLOW
                    waiting.append(os.open(name, flags, dir_fd=directory))
                elif stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
                    linked[status.st_ino] = status.st_size
                elif stat.S_ISREG(status.st_mode):
                    size += status.st_size
        finally:
            os.close(directory)
    return size + sum(linked.values()), names
