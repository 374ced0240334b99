"""``--cache-to``: the results of steps, for builds elsewhere; see ``build_cache`` for the form."""

from __future__ import annotations

import hashlib
import os

from podpy import files
from podpy.engine import build_cache
from podpy.engine.build_cache import RECORDS
from podpy.model import Descriptor
from podpy.registry import archives
from podpy.storage import compressing, content, manifests
from podpy.storage.content import hex_of
from podpy.storage.copying import copy_data

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from podpy.build.model import StepResult
    from podpy.engine.build_outputs import CachePlace
    from podpy.engine.context import Context
    from podpy.engine.registries import RegistryOptions
    from podpy.storage.collect import Pins


def write(
    ctx: Context,
    pins: Pins,
    place: CachePlace,
    layers: Sequence[StepResult],
    registry: RegistryOptions,
) -> str:
    """Send the records of layers, and the layers; the digest of what a reader gets by its name."""
    distinct = {layer.diff_id: layer for layer in layers if layer.blob is not None}
    records = build_cache.records_of(ctx, distinct)
    named = {values["diff_id"] for values in records.values()}
    sent = [
        (diff_id, _packed(ctx, pins, diff_id, layer.blob))
        for diff_id, layer in distinct.items()
        if diff_id in named and layer.blob is not None
    ]
    document = {
        "architecture": "unknown",
        "os": "unknown",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [diff_id for diff_id, _ in sent]},
        RECORDS: records,
    }
    config = files.dumps(document).encode()
    blobs = [blob for _, blob in sent]
    manifest = manifests.build(config, blobs)
    if place.kind == "local":
        _write_layout(ctx, place.place, manifest, config, blobs)
    else:
        pins.add(_described(config, manifests.OCI_CONFIG).digest)
        _send(ctx, place, registry, manifest=manifest, config=config, blobs=blobs)
    return f"sha256:{hashlib.sha256(manifest).hexdigest()}"


def _packed(ctx: Context, pins: Pins, diff_id: str, blob: Descriptor) -> Descriptor:
    if compressing.is_plain(blob):
        return compressing.pack(ctx.store, pins, diff_id, blob)
    return blob


def _described(data: bytes, media_type: str) -> Descriptor:
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    return Descriptor(media_type=media_type, digest=digest, size=len(data))


def _send(
    ctx: Context,
    place: CachePlace,
    registry: RegistryOptions,
    *,
    manifest: bytes,
    config: bytes,
    blobs: Sequence[Descriptor],
) -> None:
    from podpy.engine import pushing
    from podpy.engine.remote import bare, open_repository
    from podpy.registry import reference as references
    from podpy.registry import shortnames

    source = shortnames.origin(references.parse(bare(place.place)), ctx.config.registries)
    repository = open_repository(ctx, source, registry)
    about = _described(config, manifests.OCI_CONFIG)
    content.put(ctx.store, config, about.media_type)
    repository.for_push()
    pushing.send_blobs(ctx, repository, (*blobs, about))
    digest = _described(manifest, manifests.OCI_MANIFEST).digest
    repository.put_manifest(source.reference.tag or digest, manifest, manifests.OCI_MANIFEST)


def _write_layout(
    ctx: Context, directory: str, manifest: bytes, config: bytes, blobs: Sequence[Descriptor]
) -> None:
    """An OCI layout whose index names this cache alone; what else is there stays."""
    place = f"{directory}/blobs/sha256"
    os.makedirs(place, exist_ok=True)
    for blob in blobs:
        _copy(content.blob_path(ctx.store, blob.digest), f"{place}/{hex_of(blob.digest)}")
    about = _described(manifest, manifests.OCI_MANIFEST)
    settings = _described(config, manifests.OCI_CONFIG)
    for found, data in ((settings, config), (about, manifest)):
        files.write_atomic(f"{place}/{hex_of(found.digest)}", data, mode=0o644)
    files.write_atomic(f"{directory}/oci-layout", content.LAYOUT, mode=0o644)
    index = archives.layout_index([(about, "")])
    files.write_atomic(f"{directory}/index.json", index, mode=0o644)


def _copy(source: str, target: str) -> None:
    if os.path.exists(target):
        return
    temporary = files.temporary_name(target)
    reading = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        writing = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            copy_data(reading, writing)
        finally:
            os.close(writing)
        os.rename(temporary, target)
    finally:
        os.close(reading)
