"""``load`` and ``import``: images come from archives."""

from __future__ import annotations

import os

from podpy import files
from podpy.engine import changes as instructions
from podpy.engine import images, platforms
from podpy.errors import ImageError, NotFound
from podpy.model import Descriptor, Platform
from podpy.records import record
from podpy.registry import archives
from podpy.storage import archive, content, events, layers, manifests
from podpy.storage.importer import Importer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from podpy.engine.context import Context
    from podpy.model import Image
    from podpy.registry.archives import Packed
    from podpy.storage.archive import Archive


@record
class Loaded:
    """An image that an archive brought: its id and the names it was given."""

    id: str
    names: tuple[str, ...] = ()


def load(ctx: Context, path: str = "", *, platform: str = "") -> tuple[Loaded, ...]:
    """Bring in the images of an archive, a layout directory or (no path, ``-``) standard input."""
    wanted = platforms.wanted(platform)
    with Importer(ctx.store) as importer, _open(ctx, path) as source:
        found = archives.images(source)
        if not found:
            raise ImageError(f"load {path}: the archive holds no image")
        loaded = tuple(load_one(importer, source, packed, wanted) for packed in found)
    for one in loaded:
        events.image(ctx.store, "load", one.id, ", ".join(one.names))
    return loaded


def _open(ctx: Context, path: str) -> Archive:
    if path in ("-", ""):
        return archive.open_archive(ctx.store, os.dup(0))
    return archive.open_archive(ctx.store, _open_file(path))


def _open_file(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise NotFound(f"{path}: {error.strerror}") from None


def load_one(importer: Importer, source: Archive, packed: Packed, wanted: Platform) -> Loaded:
    """Bring in one image of an archive, with the names it has there."""
    if packed.manifest is not None:
        image = _load_layout(importer, source, packed, packed.manifest, wanted)
    elif packed.legacy == "dir":
        image = _load_directory(importer, source)
    elif packed.legacy == "v1":
        image = _load_legacy(importer, source, packed)
    else:
        image = _load_docker(importer, source, packed)
    return Loaded(id=image.id, names=packed.names)


# --- OCI layouts and dir: ------------------------------------------------------


def _load_layout(
    importer: Importer, source: Archive, packed: Packed, entry: Descriptor, wanted: Platform
) -> Image:
    """An image of an OCI layout; of an index, the manifest for a platform."""
    data = verified(source, archives.blob_member(entry.digest), entry)
    document = manifests.parse(data, f"manifest {entry.digest}")
    kind = manifests.media_type(document, entry.media_type)
    index = None
    if kind in manifests.INDEX_TYPES:
        index = importer.put_index(data, kind)
        chosen = platforms.choose(manifests.index_entries(document), wanted)
        data = verified(source, archives.blob_member(chosen.digest), chosen)
        document = manifests.parse(data, f"manifest {chosen.digest}")
        kind = manifests.media_type(document, chosen.media_type)
    return _load_manifest(
        importer, source, data, kind, archives.blob_member, names=packed.names, index=index
    )


def _load_directory(importer: Importer, source: Archive) -> Image:
    """``dir:``: blobs are files named by their digits."""
    data = source.read("manifest.json", content.MANIFEST_LIMIT)
    kind = manifests.media_type(manifests.parse(data, "manifest.json"))
    return _load_manifest(importer, source, data, kind, content.hex_of)


def _load_manifest(
    importer: Importer,
    source: Archive,
    data: bytes,
    kind: str,
    member: Callable[[str], str],
    *,
    names: tuple[str, ...] = (),
    index: Descriptor | None = None,
) -> Image:
    """``member`` says where the archive has a blob, by digest."""
    document = manifests.parse(data, "manifest")
    about = manifests.config_descriptor(document)
    config = verified(source, member(about.digest), about)
    fields = manifests.parse(config, f"image config {about.digest}", content.CONFIG_LIMIT)
    blobs, diff_ids = manifests.layer_descriptors(document), manifests.diff_ids(fields)
    if len(blobs) != len(diff_ids):
        raise ImageError(f"manifest: {len(blobs)} layers, but its config names {len(diff_ids)}")
    for diff_id, blob in zip(diff_ids, blobs):
        _bring_layer(importer, source, member(blob.digest), diff_id, blob)
    return importer.publish(names, data, kind, config, index=index)


def verified(source: Archive, member: str, descriptor: Descriptor) -> bytes:
    """A small member with the size and the digest that its descriptor promises."""
    import hashlib

    data = source.read(member, content.CONFIG_LIMIT)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    if digest != descriptor.digest or len(data) != descriptor.size:
        raise ImageError(f"archive: {member} is not the blob {descriptor.digest}")
    return data


def _bring_layer(
    importer: Importer, source: Archive, member: str, diff_id: str, blob: Descriptor | None
) -> Descriptor:
    """One layer, unless the store has it: its tree and its blob."""
    has_layer = importer.has_layer(diff_id)
    if has_layer:
        known = blob or layers.read(importer.store, diff_id).blob
        if known is not None and importer.has_blob(known.digest):
            return known
    with importer.begin(diff_id, blob, unpack=not has_layer) as sink:
        for data in source.member(member).pieces():
            sink.write(data)
        return sink.finish().stored


# --- docker's formats ----------------------------------------------------------


def _load_docker(importer: Importer, source: Archive, packed: Packed) -> Image:
    """docker-archive has no manifest: one is made, of the layers as they are there."""
    config = source.read(packed.config, content.CONFIG_LIMIT)
    fields = manifests.parse(config, f"archive: {packed.config}", content.CONFIG_LIMIT)
    diff_ids = manifests.diff_ids(fields)
    if len(diff_ids) != len(packed.layers):
        raise ImageError(
            f"archive: {len(packed.layers)} layers, but {packed.config} names {len(diff_ids)}"
        )
    blobs = [
        _bring_layer(importer, source, member, diff_id, None)
        for member, diff_id in zip(packed.layers, diff_ids)
    ]
    manifest = manifests.build(config, blobs)
    return importer.publish(packed.names, manifest, manifests.OCI_MANIFEST, config)


def _load_legacy(importer: Importer, source: Archive, packed: Packed) -> Image:
    """docker 1.0: no digests at all; the configuration is made of the topmost description."""
    members, about = archives.legacy_chain(source, packed.config)
    made = []
    for member in members:
        with importer.begin() as sink:
            for data in source.member(member).pieces():
                sink.write(data)
            made.append(sink.finish())
    config = {
        "architecture": about.get("architecture") or "amd64",
        "os": about.get("os") or "linux",
        "created": about.get("created") or "1970-01-01T00:00:00Z",
        "config": about.get("config") or {},
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in made]},
    }
    data = files.dumps(config).encode()
    manifest = manifests.build(data, [layer.stored for layer in made])
    return importer.publish(packed.names, manifest, manifests.OCI_MANIFEST, data)


# --- import ----------------------------------------------------------------------


def import_(
    ctx: Context,
    source: str,
    reference: str = "",
    *,
    change: Sequence[str] = (),
    message: str = "",
    arch: str = "",
    os: str = "",
    variant: str = "",
) -> str:
    """Make an image of one layer from a root file system archive; returns its id.

    ``source`` is a path, ``-`` or an ``http(s)`` URL, compressed or not;
    ``change`` are Dockerfile instructions for its configuration.
    """
    full = images.image_name(reference) if reference else ""
    where = platforms.wanted(os=os, arch=arch, variant=variant)
    instructions.apply({}, change)  # a mistake there should not cost an import
    with Importer(ctx.store) as importer, importer.begin() as sink:
        for piece in _plain_pieces(source):
            sink.write(piece)
        layer = sink.finish()
        comment = message or f"Imported from {source or '-'}"
        config = _imported_config(layer.diff_id, comment, change, where)
        manifest = manifests.build(config, [layer.stored])
        names = (full,) if full else ()
        made = importer.publish(names, manifest, manifests.OCI_MANIFEST, config).id
    events.image(ctx.store, "import", made, full)
    return made


def _imported_config(diff_id: str, comment: str, change: Sequence[str], where: Platform) -> bytes:
    created = instructions.now()
    config: dict[str, Any] = {
        "created": created,
        "architecture": where.architecture,
        "os": where.os,
        "config": instructions.apply({}, change),
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{"created": created, "created_by": "podpy import", "comment": comment}],
    }
    if where.variant:
        config["variant"] = where.variant
    return files.dumps(config).encode()


def _plain_pieces(source: str) -> Iterator[bytes]:
    """The inflated bytes of a file, of standard input or of a URL.

    Stored as an uncompressed layer: whatever the file was compressed with.
    """
    if source.startswith(("http://", "https://")):
        fd = _download(source)
    elif source in ("-", ""):
        fd = os.dup(0)
    else:
        fd = _open_file(source)
    try:
        yield from archive.inflated(fd)
    finally:
        os.close(fd)


def _download(url: str) -> int:
    """The body of a URL through an unnamed temporary file."""
    import tempfile
    from shutil import copyfileobj
    from urllib.error import URLError
    from urllib.request import urlopen

    try:
        with urlopen(url, timeout=60) as answer, tempfile.TemporaryFile() as body:
            copyfileobj(answer, body)
            body.seek(0)
            return os.dup(body.fileno())
    except (URLError, OSError) as error:
        raise ImageError(f"import {url}: {getattr(error, 'reason', error)}") from None
