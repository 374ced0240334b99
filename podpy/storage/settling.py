"""Layers after a power failure: looked at once, and made anew where they suffered.

Syncing 16,000 files before a layer is published would double the time of a
pull, so a tree is published when it is complete and reaches the disk when the
kernel writes it out.  Its blob and its record are synced.  A tree that was made
in an earlier boot and was not looked at since is measured: a file system that
lost power shows what it did not write as missing or shorter files.  If names
and bytes are as many as they were, everything is on disk and the layer is
*settled* for good (a file of that name beside the tree); if not, it is unpacked
again from its blob.
"""

from __future__ import annotations

import os
import stat

from podpy import files
from podpy.errors import PodpyError, StoreError
from podpy.kernel import process
from podpy.storage import staging
from podpy.storage.content import hex_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podpy.paths import Store
    from podpy.storage.layers import Layer

MARK = "settled"


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


def settle(store: Store, layer: Layer) -> None:
    """Make sure that a layer of an earlier boot is whole; mark it so.

    Raises :class:`StoreError` when it is not and its blob is gone or damaged.
    """
    digits = hex_of(layer.diff_id)
    with files.lock(f"{store.locks}/layer.{digits}"):
        if not os.path.exists(f"{store.layers}/{digits}/{MARK}") and not _is_whole(store, layer):
            _restore(store, layer)
        files.write_atomic(f"{store.layers}/{digits}/{MARK}", b"")


def _is_whole(store: Store, layer: Layer) -> bool:
    """Measured as root of a user namespace: a tree has directories closed to its owner."""
    from podpy.kernel import userns

    def compare() -> int:
        root = os.open(f"{store.layers}/{hex_of(layer.diff_id)}/diff", files.O_DIR)
        return 0 if measure(root) == (layer.size, layer.inodes) else 1

    return process.wait(userns.fork_mapped(compare, mount_ns=False)) == 0


def _restore(store: Store, layer: Layer) -> None:
    from podpy.storage import layers

    place = layers.path_of(store, layer.diff_id)
    suspect = staging.name(store, "trash")
    os.rename(place, suspect)
    try:
        with layers.Importer(store) as importer:
            importer.unpack_blob(layer.diff_id, layer.stored)
    except (PodpyError, OSError) as error:
        raise StoreError(
            f"layer {layer.diff_id}: damaged when the machine went down, and so is its archive"
            f" ({error})",
            hint="pull or load the image again",
        ) from None
    finally:
        staging.remove_tree(suspect)
