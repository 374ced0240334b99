"""New layers from what a build step or a container changed: stored once, never copied.

A child that is root of the user namespace writes the upper directory as a
canonical archive into a pipe (:mod:`podpy.storage.diff`); here it is hashed and
stored, uncompressed, and the directory itself becomes the layer's tree.

Nothing waits for the disk meanwhile: a build makes many layers and publishes one
image.  Until :func:`make_durable` a layer says that it is not synced, and one
that a power failure caught like this is believed only when all its bytes have
the right digest (:mod:`podpy.storage.settling`).
"""

from __future__ import annotations

import os
import time

from podpy import files, records
from podpy.errors import PodpyError
from podpy.kernel import process, userns
from podpy.storage import (
    answers,
    changes,
    content,
    diff,
    layers,
    manifests,
    overlay,
    single,
    staging,
)
from podpy.storage.layers import Layer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any, Protocol

    from podpy.model import Descriptor
    from podpy.paths import Store
    from podpy.storage.collect import Pins

    class Upper(Protocol):
        """What was written to, in a staging directory of its own on the store's file system.

        ``changes`` lies directly below ``directory``: an overlay's upper
        directory, or with the driver ``vfs`` the whole tree.  ``layers`` are
        those below, lowest first.
        """

        @property
        def directory(self) -> str: ...
        @property
        def changes(self) -> str: ...
        @property
        def layers(self) -> tuple[str, ...]: ...
        @property
        def driver(self) -> str: ...


_PIECE = 1 << 20


def commit(store: Store, pins: Pins, upper: Upper, *, timestamp: int | None = None) -> Layer:
    """The layer of what was changed; takes the whole directory of ``upper`` away.

    Its blob is plain, whatever another image's blob of the same tree is
    compressed with: which images came before must not show in a new one's digest.
    """
    mapping = userns.root_map()
    with content.BlobWriter(store) as writer:
        summary = _write(store, upper, timestamp, mapping, writer)
        diff_id = f"sha256:{writer.hash.hexdigest()}"
        if pins.hold(diff_id, layers.path_of(store, diff_id)):
            known = _known(store, diff_id, writer)
            if known is not None:
                staging.abandon(store, upper.directory)
                return known
        blob = writer.commit(manifests.layer_type("plain"), durable=False)
    layer = Layer(
        diff_id=diff_id,
        blob=blob,
        size=summary["size"],
        inodes=summary["inodes"],
        length=blob.size,
        map="single" if mapping.is_single else "root",
        whiteouts=summary["whiteouts"],
        boot=process.current_boot(),
        synced=False,
        created=time.time(),
    )
    _publish(store, layer, upper, summary["records"])
    return layer


def _known(store: Store, diff_id: str, writer: content.BlobWriter) -> Layer | None:
    """The same layer from elsewhere, if it is whole; with a plain blob all the same."""
    try:
        overlay.lower_directories(store, (diff_id,))  # looks at what a power failure left
        layer = layers.read(store, diff_id)
    except PodpyError:
        staging.discard(store, layers.path_of(store, diff_id))
        return None
    if layer.blob is not None and layer.blob.digest == diff_id and _is_stored(store, layer.blob):
        return layer
    blob = writer.commit(manifests.layer_type("plain"), durable=False)
    return records.replace(layer, blob=blob)


def _is_stored(store: Store, blob: Descriptor) -> bool:
    try:
        return os.stat(content.blob_path(store, blob.digest)).st_size == blob.size
    except FileNotFoundError:
        return False


def _write(
    store: Store,
    upper: Upper,
    timestamp: int | None,
    mapping: userns.IdMap,
    writer: content.BlobWriter,
) -> dict[str, Any]:
    """Have the archive written by a child and take it in; what the child says of it."""
    lower = overlay.lower_directories(store, upper.layers)
    reading, out = os.pipe()
    answer, theirs = os.pipe()

    def child() -> int:
        for fd in (reading, answer):
            os.close(fd)
        os.umask(0)
        answers.raise_descriptor_limit()
        answers.reply(theirs, lambda: _write_upper(upper, out, lower, timestamp))
        return 0

    try:
        files.enlarge(out)
        pid = userns.fork_mapped(child, mapping, mount_ns=False)
        os.close(out)
        os.close(theirs)
        try:
            _take(reading, writer)
        finally:
            os.close(reading)
            process.wait(pid)
    except BaseException:
        os.close(answer)
        raise
    return answers.result(answer)


def _write_upper(
    upper: Upper, out: int, lower: tuple[str, ...], timestamp: int | None
) -> dict[str, Any]:
    """In the child: write the archive, then delete all that is beside the tree."""
    if upper.driver == "vfs":
        changes.reduce(upper.changes, lower, changes.marked(upper.directory))
    root = os.open(upper.changes, files.O_DIR)
    summary = diff.write(
        root,
        out,
        lower=lower,
        timestamp=timestamp,
        dotted=upper.driver != "overlay",
        owners=single.read_ledger(f"{upper.directory}/{single.LEDGER}"),
    )
    os.close(out)
    for name in os.listdir(upper.directory):
        if name != os.path.basename(upper.changes):
            files.remove_tree(f"{upper.directory}/{name}")
    return summary


def _take(reading: int, writer: content.BlobWriter) -> None:
    buffer = memoryview(bytearray(_PIECE))
    while count := os.readv(reading, (buffer,)):
        writer.write(buffer[:count])


def _publish(
    store: Store, layer: Layer, upper: Upper, recorded: Sequence[Mapping[str, Any]]
) -> None:
    """Give the directory its place; somebody else's tree of the same layer is as good."""
    # Within its parent: a directory that the step gave to somebody else cannot be moved further.
    os.rename(upper.changes, f"{upper.directory}/diff")
    if recorded:
        files.write_json(f"{upper.directory}/{single.RECORDS}", recorded)
    files.write_json(f"{upper.directory}/layer.json", records.to_dict(layer))
    place = layers.path_of(store, layer.diff_id)
    try:
        os.rename(upper.directory, place)
    except OSError:
        if not os.path.exists(f"{place}/layer.json"):
            raise
        staging.abandon(store, upper.directory)


def make_durable(store: Store, made: Iterable[tuple[str, Descriptor]]) -> None:
    """See that layers (diff id and blob) survive a power failure, before an image names them.

    What was seen to before costs a look at its record.
    """
    loose = []
    for diff_id, blob in made:
        layer = layers.read(store, diff_id)
        if not layer.synced or layer.stored.digest != blob.digest:
            _sync(content.blob_path(store, blob.digest))
            loose.append(layer)
    if not loose:
        return
    files.sync_directory(store.blobs)
    for layer in loose:
        if not layer.synced:
            path = f"{layers.path_of(store, layer.diff_id)}/layer.json"
            values = records.to_dict(records.replace(layer, synced=True))
            files.write_json(path, values, durable=True)
    files.sync_directory(store.layers)


def _sync(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
