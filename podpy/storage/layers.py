"""Layers: from compressed bytes to a tree that every image with that layer shares.

``layers/<diff id>/`` holds ``diff/``, the unpacked tree, ``layer.json`` about
it, and, where there is something to say, ``records.json``: what of the layer
the tree cannot hold.  An :class:`Importer` takes bytes as they arrive from a
registry or an archive and does everything with them at once: store and hash
the compressed blob, inflate, hash the layer, unpack it in a child process.
A tree appears under its diff id only when all its digests were right.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time

from podpy import files, records
from podpy.errors import ImageError, StoreError
from podpy.kernel import process
from podpy.model import Descriptor
from podpy.records import record
from podpy.storage import content, manifests, names, staging
from podpy.storage.content import hex_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from podpy.model import Image
    from podpy.paths import Store
    from podpy.storage.extract import Limits
    from podpy.storage.unpacker import Unpacker

VERSION = 1
PIPE_SIZE = 1 << 20
# FS_IOC_GETFLAGS, FS_IOC_SETFLAGS and FS_TOPDIR_FL of linux/fs.h.
_GET_FLAGS, _SET_FLAGS = 0x80086601, 0x40086602
_TOP_DIRECTORY = 0x00020000
# A stream that inflates more than this many times its size is a bomb, but for its
# first BOMB_FLOOR bytes: real layers of repetitive text reach 20, gzip's end is 1032.
BOMB_RATIO = 200
BOMB_FLOOR = 256 << 20


@record
class Layer:
    """A layer of the store.

    ``size`` and ``inodes`` are those of its tree (see ``usage.measure``),
    ``length`` is that of its uncompressed archive, ``boot`` the boot it was made in.
    ``map`` is ``single`` when only one id was mapped, and ``whiteouts`` how the
    tree spells deletions (:class:`podpy.storage.extract.Extractor`).
    """

    version: int = VERSION
    diff_id: str
    blob: Descriptor | None = None
    size: int = 0
    inodes: int = 0
    length: int = 0
    map: str = "root"
    whiteouts: str = "device"
    boot: str = ""
    created: float = 0.0
    _nested = {"blob": Descriptor}

    @property
    def stored(self) -> Descriptor:
        """The blob it was made of."""
        if self.blob is None:
            raise StoreError(f"layer {self.diff_id}: its record names no blob")
        return self.blob


def path_of(store: Store, diff_id: str) -> str:
    return f"{store.layers}/{hex_of(diff_id)}"


def exists(store: Store, diff_id: str) -> bool:
    return os.path.exists(f"{path_of(store, diff_id)}/layer.json")


def read(store: Store, diff_id: str) -> Layer:
    """The record of a layer; :class:`StoreError` when it is missing or too new."""
    path = f"{path_of(store, diff_id)}/layer.json"
    try:
        values = files.read_json(path)
    except FileNotFoundError:
        raise StoreError(
            f"layer {diff_id}: not in the store", hint="pull or load the image again"
        ) from None
    if values.get("version", 0) > VERSION:
        raise StoreError(f"{path}: written by a newer podpy")
    return records.from_dict(Layer, values)


class Importer:
    """Brings layers and images into the store; use as a context manager.

    Make it before any thread is started: it forks the process that unpacks.
    :meth:`begin` may then be called from several threads, one sink in each.
    What it found present or brought in is safe from ``prune`` and ``rmi``
    until it is closed.
    """

    def __init__(self, store: Store, limits: Limits | None = None) -> None:
        from podpy.storage.collect import Pins
        from podpy.storage.extract import Limits
        from podpy.storage.unpacker import Unpacker

        store.prepare()
        self.store = store
        self.limits = limits or Limits()
        self.pins = Pins(store)
        self.unpacker: Unpacker = Unpacker()

    def __enter__(self) -> Importer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.unpacker.__exit__(*exc)
        self.pins.close()

    def has_layer(self, diff_id: str) -> bool:
        """Whether the tree of a layer is there (and stays while this importer lives)."""
        return self.pins.hold(diff_id, path_of(self.store, diff_id))

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
                while data := os.read(fd, PIPE_SIZE):
                    sink.write(data)
                return sink.finish()
        finally:
            os.close(fd)


def _described(data: bytes, media_type: str) -> Descriptor:
    import hashlib

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
        import hashlib

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
        self._tree = _Tree(importer) if unpack else None
        self.inflated = 0

    def __enter__(self) -> Sink:
        return self

    def __exit__(self, *exc: object) -> None:
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
        from podpy.storage import inflate

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
            if self.inflated > BOMB_FLOOR and self.inflated > BOMB_RATIO * self._writer.size:
                raise ImageError(
                    f"layer: {self._writer.size} bytes inflate to more than {self.inflated}:"
                    " a decompression bomb"
                )
            if not self._is_plain:
                self._hash.update(piece)
            if self._tree is not None:
                self._tree.write(piece)

    def finish(self, media_type: str = "") -> Layer:
        """The end of the layer: verify, then publish the blob and the tree."""
        if self._inflater is None:
            raise ImageError(f"layer: only {self._writer.size} bytes")
        self._inflater.finish()
        # An uncompressed layer is its own blob: one hash serves for both.
        digits = (self._writer.hash if self._is_plain else self._hash).hexdigest()
        if self._wanted and digits != self._wanted:
            raise ImageError(
                f"layer: its digest is sha256:{digits}, the image says sha256:{self._wanted}"
            )
        diff_id = f"sha256:{digits}"
        summary = self._tree.finish() if self._tree is not None else {}
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
        self._importer.pins.add(blob.digest)
        if self._tree is not None:
            self._importer.pins.add(diff_id)
            self._tree.publish(layer, summary)
        return layer

    def _media_type(self) -> str:
        """As announced, else by the compression found."""
        if self._blob is not None and self._blob.media_type:
            return self._blob.media_type
        return manifests.layer_type(self.compression)


class _Tree:
    """A layer's tree while it is being made below ``tmp/``."""

    def __init__(self, importer: Importer) -> None:
        self._store = importer.store
        self._path = staging.create(self._store, "layer")
        self._pipe = -1
        self._answer = -1
        _make_apart(f"{self._path}/diff")
        reading, self._pipe = os.pipe()
        try:
            _enlarge(self._pipe)
            self._answer = importer.unpacker.start(f"{self._path}/diff", reading, importer.limits)
        except BaseException:
            self.discard()
            raise
        finally:
            os.close(reading)

    def write(self, data: bytes) -> None:
        """Inflated bytes for the child; its own error when it has given up."""
        try:
            files.write_all(self._pipe, data)
        except BrokenPipeError:
            self.finish()
            raise StoreError("the process that unpacks a layer has died") from None

    def finish(self) -> dict[str, Any]:
        """The end of the data; waits for the child's summary or raises its error."""
        from podpy.storage import unpacker

        os.close(self._pipe)
        answer, self._answer, self._pipe = self._answer, -1, -1
        return unpacker.result(answer)

    def publish(self, layer: Layer, summary: dict[str, Any]) -> None:
        """Give the tree its place; somebody else's tree of the same layer is as good."""
        if summary.get("records"):
            files.write_json(f"{self._path}/records.json", summary["records"], durable=True)
        files.write_json(f"{self._path}/layer.json", records.to_dict(layer), durable=True)
        try:
            os.rename(self._path, path_of(self._store, layer.diff_id))
        except OSError:
            if not exists(self._store, layer.diff_id):
                raise
            staging.remove_tree(self._path)
        self._path = ""
        files.sync_directory(self._store.layers)

    def discard(self) -> None:
        """Stop the child and delete what it made; nothing after :meth:`publish`."""
        for fd in (self._pipe, self._answer):
            if fd >= 0:
                os.close(fd)
        self._pipe = self._answer = -1
        if self._path:
            staging.remove_tree(self._path)
            self._path = ""


def _make_apart(path: str) -> None:
    """Make a directory that ext4 places apart from its siblings (``chattr +T`` on its parent).

    Beside them it looks for free inodes where trees were just deleted, and
    passes over each inode that was used in the last minute, one by one
    (``recently_deleted`` in fs/ext4/ialloc.c): seconds, for an image of 16,000
    files.  Where it begins to look for a place is a hash of the name: a random
    one is given first.
    """
    parent = os.path.dirname(path)
    fd = os.open(parent, files.O_DIR)
    try:
        flags = struct.unpack("l", fcntl.ioctl(fd, _GET_FLAGS, bytes(8)))[0]
        fcntl.ioctl(fd, _SET_FLAGS, struct.pack("l", flags | _TOP_DIRECTORY))
    except OSError:
        pass  # another file system: it has its own ways
    finally:
        os.close(fd)
    first = f"{parent}/{os.urandom(8).hex()}"
    os.mkdir(first, 0o755)
    os.rename(first, path)


def _enlarge(pipe: int) -> None:
    """A pipe of 1 MiB: fewer switches between the two sides (the default is 64 KiB)."""
    try:
        fcntl.fcntl(pipe, 1031, PIPE_SIZE)  # F_SETPIPE_SZ, named in fcntl since Python 3.10
    except OSError:
        pass  # the user's quota of pipe buffers is used up: slower, not wrong
