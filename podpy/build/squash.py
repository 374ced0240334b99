"""Several layers as one: ``--squash`` for the new ones, ``--squash-all`` for all of an image.

The layers' trees are copied over each other, lowest first, and what they delete
of the layers below stays a deletion.  The result is committed as any other
upper directory.
"""

from __future__ import annotations

import os
import stat

from podpy.build.model import StepResult
from podpy.errors import StoreError
from podpy.kernel import process, userns
from podpy.records import record
from podpy.storage import committing, copying, overlay, single, staging
from podpy.storage.below import OPAQUE, OPAQUE_XATTRS, WHITEOUT, is_marked, is_whiteout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from podpy.paths import Store
    from podpy.storage.collect import Pins

_OPAQUE = tuple(os.fsdecode(name) for name in OPAQUE)
_WHITEOUT = os.fsdecode(WHITEOUT)


@record
class _Joined:
    """The directory where layers are joined, as :func:`podpy.storage.committing.commit` takes it.

    Written as the kernel's overlayfs would, whatever the driver is.
    """

    directory: str
    layers: tuple[str, ...]
    driver: str = "overlay"

    @property
    def changes(self) -> str:
        return f"{self.directory}/upper"


def squash(
    store: Store,
    pins: Pins,
    below: Sequence[str],
    layers: Sequence[StepResult],
    timestamp: int | None = None,
) -> StepResult:
    """One layer that does to the layers ``below`` what ``layers`` do, lowest first."""
    trees = [overlay.lower_directories(store, (layer.diff_id,))[0] for layer in layers]
    joined = _Joined(directory=staging.create(store, "squash"), layers=tuple(below))
    staging.make_apart(joined.changes)
    try:
        child = userns.fork_mapped(lambda: _join(trees, joined.changes), mount_ns=False)
        if process.wait(child) != 0:
            raise StoreError("--squash: the layers could not be joined")
        made = committing.commit(store, pins, joined, timestamp=timestamp)
    finally:
        staging.discard(store, joined.directory)
    newest = max((layer.created for layer in layers), default=0.0)
    created = newest if timestamp is None else float(timestamp)
    return StepResult(diff_id=made.diff_id, blob=made.blob, created=created)


def _join(trees: Sequence[str], place: str) -> int:
    os.umask(0)
    target = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for tree in trees:
        source = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        with _Joining() as copy:
            copy.directory(source, target)
        os.close(source)
    single.carry(trees[::-1], place, f"{os.path.dirname(place)}/{single.LEDGER}")
    return 0


class _Joining(copying.TreeCopy):
    """Copies one layer's tree over those before it; deletions are carried out and kept."""

    def __init__(self) -> None:
        super().__init__(layered=True)

    def directory(self, source: int, target: int) -> None:
        hides = is_marked(os.listxattr(source), source) or is_marked(os.listxattr(target), target)
        hides = hides or any(name in _OPAQUE for name in os.listdir(source))
        super().directory(source, target)
        if hides:
            os.setxattr(target, OPAQUE_XATTRS[0], b"y")

    def replaced_directory(self, target: int, name: str) -> None:
        """A directory in the place of a file or a deletion: it hides one that is below both."""
        super().replaced_directory(target, name)
        made = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=target)
        os.setxattr(made, OPAQUE_XATTRS[0], b"y")
        os.close(made)

    def deletes(self, target: int, name: str, status: os.stat_result) -> bool:
        if not super().deletes(target, name, status):
            return False
        if name not in _OPAQUE:
            hidden = name if is_whiteout(status) else name[len(_WHITEOUT) :]
            os.mknod(hidden, stat.S_IFCHR, os.makedev(0, 0), dir_fd=target)
        return True
