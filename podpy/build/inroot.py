"""Paths inside a root file system: resolved there, whatever its symbolic links say.

``openat2`` does it for what exists.  A destination that is still to be made is
walked component by component, with descriptors that follow nothing.
"""

from __future__ import annotations

import os

from podpy.errors import BuildError
from podpy.kernel import libc, mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

#: Links lead somewhere inside the root.
IN_ROOT = mounts.IN_ROOT
#: The path is known to have no links, and must have got none meanwhile.
NO_LINKS = IN_ROOT | libc.RESOLVE_NO_SYMLINKS
#: A directory itself, no link to one.
O_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: A file to be read; what was one a moment ago may be a FIFO now.
O_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MOST_LINKS = 40


def walk(
    root: int, path: str, make: Callable[[int, str], None], *, whole: bool = True
) -> tuple[int, str]:
    """A descriptor of a directory inside the root, its missing parts made by ``make``.

    With ``whole=False`` the last component may be no directory or missing: then
    the descriptor is of the directory that holds it, and the second value its name.
    ``..`` and absolute links never leave the root.
    """
    trail = [os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)]
    pending, followed = path.split("/")[::-1], 0
    try:
        while pending:
            part = pending.pop()
            if part == ".." and len(trail) > 1:
                os.close(trail.pop())
            if part in ("", ".", ".."):
                continue
            is_last = not whole and not any(rest not in ("", ".") for rest in pending)
            try:
                trail.append(os.open(part, O_DIR, dir_fd=trail[-1]))
            except FileNotFoundError:
                if is_last:
                    return trail.pop(), part
                make(trail[-1], part)
                trail.append(os.open(part, O_DIR, dir_fd=trail[-1]))
            except NotADirectoryError:
                target = _link_target(trail[-1], part)
                if not target and is_last:
                    return trail.pop(), part
                followed += 1
                if not target or followed > _MOST_LINKS:
                    why = "too many links" if target else "not a directory"
                    raise BuildError(f"{path}: {part} is {why}") from None
                if target.startswith("/"):
                    while len(trail) > 1:
                        os.close(trail.pop())
                pending += reversed(target.split("/"))
        return trail.pop(), ""
    finally:
        for fd in trail:
            os.close(fd)


def _link_target(directory: int, name: str) -> str:
    try:
        return os.readlink(name, dir_fd=directory)
    except OSError:
        return ""
