"""The driver of last resort: a root file system that is a copy of all its layers.

Blocks are shared where the file system can do that (btrfs, xfs); elsewhere it
costs the image's size for each container, which is why it is never chosen
silently (:func:`podpy.storage.overlay.driver`).
"""

from __future__ import annotations

import os

from podpy import files
from podpy.errors import StoreError
from podpy.kernel import process, userns
from podpy.storage import copying, overlay, staging

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from podpy.paths import Store


def ensure(store: Store, diff_ids: Sequence[str], target: str) -> None:
    """Make ``target`` a copy of the layers (lowest first), unless it is there.

    It is made below ``tmp/`` and appears complete or not at all.
    """
    if os.path.isdir(target):
        return
    lower = overlay.lower_directories(store, diff_ids)
    staged = staging.create(store, "vfs")
    try:
        child = userns.fork_mapped(lambda: _copy(lower, staged), mount_ns=False)
        if process.wait(child) != 0:
            raise StoreError(f"{target}: the layers could not be copied")
        os.rename(staged, target)
    except BaseException:
        staging.remove_tree(staged)
        raise


def _copy(lower: Sequence[str], staged: str) -> int:
    """In the child: every layer over those below it."""
    os.umask(0)
    target = os.open(staged, files.O_DIR)
    for path in reversed(lower):
        source = os.open(path, files.O_DIR)
        with copying.TreeCopy(layered=True) as copy:
            copy.directory(source, target)
        os.close(source)
    return 0
