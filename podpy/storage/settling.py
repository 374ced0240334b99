"""Layers after a power failure: looked at once, and made anew where they suffered.

Syncing 16,000 files before a layer is published would double the time of a
pull, so a tree is published when it is complete and reaches the disk when the
kernel writes it out.  Its blob and its record are synced.  A tree that was made
in an earlier boot and was not looked at since is measured: a file system that
lost power shows what it did not write as missing or shorter files.  If names
and bytes are as many as they were, everything is on disk and the layer is
*settled* for good (a file of that name beside the tree); if not, it is unpacked
again from its blob.

A layer of a build whose image was never published has an archive that nobody
synced either: it is believed when all bytes of that have their digest, and
removed otherwise, for the next build to make it again.
"""

from __future__ import annotations

import os

from podpy import files
from podpy.errors import PodpyError, StoreError
from podpy.kernel import process, userns
from podpy.storage import content, importer, layers, staging, usage
from podpy.storage.content import hex_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podpy.paths import Store
    from podpy.storage.layers import Layer

MARK = "settled"


def settle(store: Store, layer: Layer) -> None:
    """Make sure that a layer of an earlier boot is whole; mark it so.

    Raises :class:`StoreError` when it is not and its blob is gone or damaged.
    """
    digits = hex_of(layer.diff_id)
    with files.lock(f"{store.locks}/layer.{digits}"):
        if not layer.synced and not _is_intact(store, layer):
            _remove(store, layer)
        if not os.path.exists(f"{store.layers}/{digits}/{MARK}") and not _is_whole(store, layer):
            _restore(store, layer)
        files.write_atomic(f"{store.layers}/{digits}/{MARK}", b"")


def _is_whole(store: Store, layer: Layer) -> bool:
    """Measured as root of a user namespace: a tree has directories closed to its owner."""

    def compare() -> int:
        root = os.open(f"{store.layers}/{hex_of(layer.diff_id)}/diff", files.O_DIR)
        return 0 if usage.measure(root) == (layer.size, layer.inodes) else 1

    return process.wait(userns.fork_mapped(compare, mount_ns=False)) == 0


def _is_intact(store: Store, layer: Layer) -> bool:
    """Whether the archive of a layer is what its name says."""
    import hashlib

    made = hashlib.sha256()
    try:
        fd = content.open_blob(store, layer.stored.digest)
    except StoreError:
        return False
    try:
        while data := os.read(fd, 1 << 20):
            made.update(data)
    finally:
        os.close(fd)
    return made.hexdigest() == hex_of(layer.stored.digest)


def _remove(store: Store, layer: Layer) -> None:
    staging.discard(store, layers.path_of(store, layer.diff_id))
    staging.discard(store, content.blob_path(store, layer.stored.digest))
    raise StoreError(
        f"layer {layer.diff_id}: its archive was lost when the machine went down",
        hint="build the image again",
    )


def _restore(store: Store, layer: Layer) -> None:
    place = layers.path_of(store, layer.diff_id)
    suspect = staging.name(store, "trash")
    os.rename(place, suspect)
    try:
        with importer.Importer(store) as bringing:
            bringing.unpack_blob(layer.diff_id, layer.stored)
    except (PodpyError, OSError) as error:
        raise StoreError(
            f"layer {layer.diff_id}: damaged when the machine went down, and so is its archive"
            f" ({error})",
            hint="pull or load the image again",
        ) from None
    finally:
        staging.remove_tree(suspect)
