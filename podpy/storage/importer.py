"""Bringing layers and images in: bytes as they arrive, everything done with them at once.

A layer's compressed bytes are stored, hashed and counted, inflated, hashed
again, and unpacked by a child process (:mod:`podpy.storage.tree`).  The caller's
thread inflates; a second thread per layer hashes and feeds the child.  A blob
or a tree appears under its digest only when all digests were right.
"""

from __future__ import annotations

import hashlib
import os
import queue
import threading
import time

from podpy.errors import ImageError, StoreError
from podpy.kernel import process
from podpy.model import Descriptor
from podpy.storage import content, inflate, layers, manifests, names
from podpy.storage.collect import Pins
from podpy.storage.content import hex_of
from podpy.storage.extract import Limits
from podpy.storage.layers import Layer
from podpy.storage.tree import Tree
from podpy.storage.unpacker import Unpacker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from podpy.model import Image
    from podpy.paths import Store

_CHUNK = 1 << 20
_QUEUED = 8


class Importer:
    """Brings layers and images into the store; use as a context manager.

    Make it before any thread is started: it forks the process that unpacks.
    :meth:`begin` may then be called from several threads, one sink in each.
    What it found present or brought in is safe from ``prune`` and ``rmi``
    until it is closed.
    """

    def __init__(self, store: Store, limits: Limits | None = None) -> None:
        store.prepare()
        self.store = store
        self.limits = limits or Limits()
        self.pins = Pins(store)
        self.unpacker = Unpacker()

    def __enter__(self) -> Importer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.unpacker.__exit__(*exc)
        self.pins.close()

    def has_layer(self, diff_id: str) -> bool:
        """Whether the tree of a layer is there (and stays while this importer lives)."""
        return self.pins.hold(diff_id, layers.path_of(self.store, diff_id))

    def has_blob(self, digest: str) -> bool:
        """Whether a blob is there (and stays while this importer lives)."""
        return self.pins.hold(digest, content.blob_path(self.store, digest))

    def begin(
        self,
        diff_id: str = "",
        blob: Descriptor | None = None,
        *,
        unpack: bool = True,
        keep: bool = True,
    ) -> Sink:
        """A sink for the bytes of one layer as it is stored, compressed or not.

        ``diff_id`` and ``blob`` are what the bytes must turn out to be, where
        that is known.  Without ``unpack`` only the blob is stored and checked;
        without ``keep`` the caller stores it (a resumable download, adopted later).
        """
        return Sink(self, diff_id, blob, unpack=unpack, keep=keep)

    def publish(
        self,
        references: Iterable[str],
        manifest: bytes,
        media_type: str,
        config: bytes,
        *,
        index: Descriptor | None = None,
    ) -> Image:
        """Store an image's two documents and give it its names; its layers are there already.

        ``manifest`` is kept byte for byte.  Without any reference the image is
        dangling.  ``index`` is the stored image index it was chosen from.
        """
        document = manifests.parse(manifest, "manifest")
        kind = manifests.media_type(document, media_type)
        about = manifests.config_descriptor(document)
        self._put(config, about)
        kept = self._put(manifest, _described(manifest, kind))
        image = manifests.image(
            document,
            manifests.parse(config, f"image config {about.digest}", content.CONFIG_LIMIT),
            digest=kept.digest,
            kind=kind,
        )
        for diff_id, blob in zip(image.diff_ids, image.layers):
            if not (self.has_layer(diff_id) and self.has_blob(blob.digest)):
                raise StoreError(f"layer {diff_id}: vanished while its image was stored")
        now = time.time()
        for reference in tuple(references) or ("",):
            name = names.Name(
                reference=reference, manifest=kept, index=index, image=image.id, created=now
            )
            names.write(self.store, name)
        return image

    def put_index(self, data: bytes, media_type: str) -> Descriptor:
        """Store an image index, for :meth:`publish`."""
        return self._put(data, _described(data, media_type))

    def _put(self, data: bytes, descriptor: Descriptor) -> Descriptor:
        self.pins.add(descriptor.digest)
        return content.put(self.store, data, descriptor.media_type, descriptor.digest)

    def unpack_blob(self, diff_id: str, blob: Descriptor) -> Layer:
        """Make the tree of a layer anew from its blob in the store."""
        fd = content.open_blob(self.store, blob.digest)
        try:
            with Sink(self, diff_id, blob, unpack=True, keep=False) as sink:
                while data := os.read(fd, _CHUNK):
                    sink.write(data)
                return sink.finish()
        finally:
            os.close(fd)


def _described(data: bytes, media_type: str) -> Descriptor:
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    return Descriptor(media_type=media_type, digest=digest, size=len(data))


class Sink:
    """Takes the bytes of one layer; publishes blob and tree when all digests are right.

    Use as a context manager: leaving it without :meth:`finish` removes
    everything it made.
    """

    def __init__(
        self,
        importer: Importer,
        diff_id: str,
        blob: Descriptor | None,
        *,
        unpack: bool,
        keep: bool = True,
    ) -> None:
        self._importer = importer
        self._store = importer.store
        self._wanted = hex_of(diff_id) if diff_id else ""
        self._blob = blob
        self._writer = content.BlobWriter(self._store, blob, keep=keep)
        self._hash = hashlib.sha256()
        self._inflater: Any = None
        self._start = b""
        self.compression = ""
        self._is_plain = False
        self._tree = Tree(importer.store, importer.unpacker, importer.limits) if unpack else None
        self._stage = Stage(self._consume)
        self.inflated = 0

    def __enter__(self) -> Sink:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stage.stop()
        self._writer.discard()
        if self._tree is not None:
            self._tree.discard()

    def write(self, data: bytes) -> None:
        """The next bytes of the layer, as they are stored."""
        if not data:
            return
        self._writer.write(data)
        if self._inflater is None:
            data = self._begin(data)
        if self._inflater is not None:
            self._pass_on(data)

    def _begin(self, data: bytes) -> bytes:
        """Tell the compression from the first bytes; they may come one by one."""
        self._start += data
        if len(self._start) < inflate.LONGEST_MAGIC:
            return b""
        self.compression = inflate.kind_of(self._start)
        self._is_plain = self.compression == "plain"
        self._inflater = inflate.decompressor(self.compression)
        data, self._start = self._start, b""
        return data

    def _pass_on(self, data: bytes) -> None:
        for piece in self._inflater.feed(data):
            self.inflated += len(piece)
            inflate.check_bomb("layer", self._writer.size, self.inflated)
            self._stage.put(piece)

    def _consume(self, piece: bytes) -> None:
        """In a thread of its own: what needs a processor beside the inflating one."""
        if not self._is_plain:
            self._hash.update(piece)
        if self._tree is not None:
            self._tree.write(piece)

    def finish(self, media_type: str = "") -> Layer:
        """The end of the layer: verify, then publish the blob and the tree."""
        if self._inflater is None:
            raise ImageError(f"layer: only {self._writer.size} bytes")
        self._inflater.finish()
        self._stage.finish()
        # An uncompressed layer is its own blob: one hash serves for both.
        digits = (self._writer.hash if self._is_plain else self._hash).hexdigest()
        if self._wanted and digits != self._wanted:
            raise ImageError(
                f"layer: its digest is sha256:{digits}, the image says sha256:{self._wanted}"
            )
        diff_id = f"sha256:{digits}"
        summary = self._tree.finish() if self._tree is not None else {}
        pins = self._importer.pins  # before anything appears that a collector could take
        pins.add(diff_id)
        pins.add(f"sha256:{self._writer.hash.hexdigest()}")
        blob = self._writer.commit(media_type or self._media_type())
        layer = Layer(
            diff_id=diff_id,
            blob=blob,
            size=summary.get("size", 0),
            inodes=summary.get("inodes", 0),
            length=self.inflated,
            map="single" if self._importer.unpacker.is_single else "root",
            whiteouts=summary.get("whiteouts", "device"),
            boot=process.current_boot(),
            created=time.time(),
        )
        if self._tree is not None:
            self._tree.publish(layer, summary)
        return layer

    def _media_type(self) -> str:
        """As announced, else by the compression found."""
        if self._blob is not None and self._blob.media_type:
            return self._blob.media_type
        return manifests.layer_type(self.compression)


class Stage:
    """A thread that takes pieces in their order, a few behind whoever makes them."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take = take
        self._queue: queue.Queue[bytes | None] = queue.Queue(_QUEUED)
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def put(self, piece: bytes) -> None:
        """The next piece; raises what went wrong with an earlier one."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()
        if self._error is not None:
            raise self._error
        self._queue.put(piece)

    def finish(self) -> None:
        """Wait until all pieces were taken; raises what went wrong."""
        self.stop()
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """End the thread, after the pieces it was given."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        # After an error the queue is emptied all the same: nobody may wait for ever.
        while (piece := self._queue.get()) is not None:
            if self._error is None:
                try:
                    self._take(piece)
                except BaseException as error:
                    self._error = error
