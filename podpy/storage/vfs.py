"""The driver of last resort: a root file system that is a copy of all its layers.

Blocks are shared where the file system can do that (btrfs, xfs); elsewhere it
costs the image's size for each container, which is why it is never chosen
silently (:func:`podpy.storage.overlay.driver`).
"""

from __future__ import annotations

import os
import stat

from podpy import files
from podpy.errors import StoreError
from podpy.kernel import process, userns
from podpy.storage import copying, overlay, staging

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from podpy.paths import Store
    from podpy.storage.shadow import Shifts

_CAPABILITY = "security.capability"


def ensure(
    store: Store, diff_ids: Sequence[str], target: str, shifts: Shifts | None = None
) -> None:
    """Make ``target`` a copy of the layers (lowest first), unless it is there.

    It is made below ``tmp/`` and appears complete or not at all.  ``shifts``
    gives the owners that another id map needs; the top directory stays the
    caller's, who could not move it otherwise.
    """
    if os.path.isdir(target):
        return
    lower = overlay.lower_directories(store, diff_ids)
    staged = staging.create(store, "vfs")
    try:
        child = userns.fork_mapped(lambda: _copy(lower, staged, shifts), mount_ns=False)
        if process.wait(child) != 0:
            raise StoreError(f"{target}: the layers could not be copied")
        os.rename(staged, target)
    except BaseException:
        staging.remove_tree(staged)
        raise


def _copy(lower: Sequence[str], staged: str, shifts: Shifts | None) -> int:
    """In the child: every layer over those below it."""
    os.umask(0)
    target = os.open(staged, files.O_DIR)
    for path in reversed(lower):
        source = os.open(path, files.O_DIR)
        with copying.TreeCopy(layered=True) as copy:
            copy.directory(source, target)
        os.close(source)
    if shifts:
        _shift(staged, shifts)
    return 0


def _shift(tree: str, shifts: Shifts) -> None:
    """Give every file below ``tree`` its other owner, hard links once."""
    seen: set[int] = set()
    for _, directories, names, directory in os.fwalk(tree, follow_symlinks=False):
        for name in (*directories, *names):
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if status.st_ino not in seen:
                _give(directory, name, status, shifts)
            if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
                seen.add(status.st_ino)


def _give(directory: int, name: str, status: os.stat_result, shifts: Shifts) -> None:
    """Nobody else writes here: names may be used after they were looked at."""
    path = f"/proc/self/fd/{directory}/{name}"
    owner = shifts.uid(status.st_uid), shifts.gid(status.st_gid)
    capability = b""
    if stat.S_ISREG(status.st_mode) and _CAPABILITY in os.listxattr(path):
        capability = shifts.capability(os.getxattr(path, _CAPABILITY))
    os.chown(name, *owner, dir_fd=directory, follow_symlinks=False)
    if stat.S_ISREG(status.st_mode):
        os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=directory)  # chown clears setuid
        os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=directory)
    if capability:
        os.setxattr(path, _CAPABILITY, capability)
