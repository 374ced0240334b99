"""Images to registries: ``push``.

What came from a registry or an archive goes out as it is stored, byte for byte.
An image that was made here has plain layers: they are compressed on the way, and
its manifest names what was sent.  With images for several platforms all of
them go, and the index last.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

from podpy import files
from podpy.engine import images, pipeline
from podpy.engine.progress import Progress
from podpy.engine.registries import RegistryOptions
from podpy.engine.remote import bare, open_repository
from podpy.errors import NotFound, PodpyError, UsageError
from podpy.records import EMPTY, record, replace
from podpy.registry import reference as references
from podpy.registry import shortnames, upload
from podpy.storage import compressing, content, events, manifests, names, packed
from podpy.storage.collect import Pins

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping

    from podpy.engine.context import Context
    from podpy.model import Descriptor
    from podpy.paths import Store
    from podpy.registry.client import Repository
    from podpy.registry.reference import Reference


@record
class Pushed:
    """What a registry has now: ``size`` is that of the manifest."""

    reference: str
    tag: str
    digest: str
    size: int
    media_type: str = ""


@record
class PushOptions:
    """``podpy push``; ``digestfile`` receives the digest of the manifest.

    ``compress`` concerns plain layers of images that were made here.
    """

    registry: RegistryOptions = RegistryOptions()
    all_tags: bool = False
    digestfile: str = ""
    compress: bool = True


@record
class Outgoing:
    """A manifest as it is sent: its bytes, media type, and the blobs it names."""

    data: bytes
    media_type: str
    blobs: tuple[Descriptor, ...] = ()

    @property
    def digest(self) -> str:
        import hashlib

        return f"sha256:{hashlib.sha256(self.data).hexdigest()}"


_PUSH = PushOptions()


def push(
    ctx: Context,
    name: str,
    destination: str = "",
    options: PushOptions = _PUSH,
    progress: Progress | None = None,
) -> tuple[Pushed, ...]:
    """Push an image, or all images of an index that was made here.

    ``destination`` defaults to the image's own name.  With ``all_tags`` every
    tag of the repository ``name`` is pushed; ``digestfile`` gets the last one's.
    """
    report = progress or Progress()
    if options.all_tags:
        done = [_push_one(ctx, text, text, options, report) for text in _tags_of(ctx, name)]
    else:
        done = [_push_one(ctx, name, destination or name, options, report)]
    if options.digestfile:
        files.write_atomic(options.digestfile, done[-1].digest, mode=0o644)
    return tuple(done)


def _tags_of(ctx: Context, name: str) -> list[str]:
    _, _, tag, digest = references.split(name)
    if tag or digest:
        raise UsageError(f"{name}: a tag cannot be used with --all-tags")
    wanted = {found.name for found in shortnames.local_candidates(name, ctx.config.registries)}
    held = [one.reference for one in names.read_all(ctx.store) if one.reference]
    found = [text for text in held if references.parse(text).name in wanted and "@" not in text]
    if not found:
        raise NotFound(f"{name}: image not known")
    return found


def _push_one(
    ctx: Context, name: str, destination: str, options: PushOptions, progress: Progress
) -> Pushed:
    held = images.find_name(ctx, name)
    if destination == name and references.is_hex_id(name.removeprefix("sha256:")):
        raise UsageError(f"push {name}: an id says nothing of where to; name the destination")
    pins = Pins(ctx.store)
    try:
        outgoing = prepare(ctx.store, pins, held, compress=options.compress)
        top = outgoing[-1]
        target = _destination(held, name, bare(destination), top.digest)
        source = shortnames.origin(target, ctx.config.registries)
        progress.trying(str(source.reference))
        repository = open_repository(ctx, source, options.registry)
        blobs = tuple(blob for one in outgoing for blob in one.blobs)
        siblings = _siblings(ctx, source.reference, {blob.digest for blob in blobs})
        repository.for_push(sorted({path for paths in siblings.values() for path in paths}))
        send_blobs(ctx, repository, blobs, siblings, progress)
        for one in outgoing[:-1]:
            repository.put_manifest(one.digest, one.data, one.media_type)
        selector = source.reference.tag or top.digest
        repository.put_manifest(selector, top.data, top.media_type)
    finally:
        pins.close()
    events.image(ctx.store, "push", held.image, str(target))
    return Pushed(
        reference=str(target),
        tag=selector,
        digest=top.digest,
        size=len(top.data),
        media_type=top.media_type,
    )


def _destination(held: names.Name, name: str, destination: str, digest: str) -> Reference:
    """Where to: as written, or where the image that was named comes from."""
    if destination == bare(name) and held.reference:
        return references.parse(held.reference)
    target = references.parse(destination)
    if target.digest and target.digest != digest:
        raise UsageError(f"push {destination}: the image has the digest {digest}")
    return target


# --- what is sent --------------------------------------------------------------


def prepare(
    store: Store, pins: Pins, held: names.Name, *, compress: bool = True
) -> tuple[Outgoing, ...]:
    """The manifests behind a name as they go out, an index last.

    ``compress`` concerns images that were made here; the blobs are in the store.
    """
    if not held.made:
        return (_as_it_is(store, held),)
    if held.index is None:
        return (_packed(store, pins, held, compress),)
    data = content.read_blob(store, held.index.digest)
    document = manifests.parse(data, f"image index {held.index.digest}")
    inner = [
        _packed(store, pins, replace(held, manifest=entry), compress)
        for entry in manifests.index_entries(document)
    ]
    for entry, one in zip(document["manifests"], inner, strict=True):
        entry |= {"digest": one.digest, "size": len(one.data)}
    kind = manifests.media_type(document, held.index.media_type)
    return (*inner, Outgoing(data=files.dumps(document).encode(), media_type=kind))


def _as_it_is(store: Store, held: names.Name) -> Outgoing:
    data = content.read_blob(store, held.manifest.digest)
    image = manifests.load(store, held)
    about = manifests.config_descriptor(manifests.parse(data, f"manifest {held.manifest.digest}"))
    return Outgoing(data=data, media_type=held.manifest.media_type, blobs=(*image.layers, about))


def _packed(store: Store, pins: Pins, held: names.Name, compress: bool) -> Outgoing:
    """An image with its plain layers compressed; all else of its manifest stays."""
    plain = _as_it_is(store, held)
    image = manifests.load(store, held)
    if not compress or not any(compressing.is_plain(layer) for layer in image.layers):
        return plain
    document: dict[str, Any] = files.loads(plain.data)
    sent = []
    for entry, diff_id, layer in zip(document["layers"], image.diff_ids, image.layers, strict=True):
        if compressing.is_plain(layer):
            made = compressing.pack(store, pins, diff_id, layer)
            entry |= {"mediaType": made.media_type, "digest": made.digest, "size": made.size}
            sent.append(made)
        else:
            sent.append(layer)
    return replace(plain, data=files.dumps(document).encode(), blobs=(*sent, plain.blobs[-1]))


# --- blobs -----------------------------------------------------------------------


def _siblings(ctx: Context, target: Reference, wanted: set[str]) -> Mapping[str, tuple[str, ...]]:
    """For each blob, other repositories of the registry that it came from or went to."""
    found: dict[str, tuple[str, ...]] = {}
    for name in names.read_all(ctx.store):
        if not name.reference:
            continue
        other = references.parse(name.reference)
        if other.registry != target.registry or other.repository == target.repository:
            continue
        for digest in _blobs_of(ctx.store, name) & wanted:
            if other.repository not in found.get(digest, ()):
                found[digest] = (*found.get(digest, ()), other.repository)
    return found


def _blobs_of(store: Store, name: names.Name) -> set[str]:
    """The layers that an image has, or was sent with."""
    try:
        image = manifests.load(store, name)
    except PodpyError:
        return set()  # a damaged image is no reason not to push another one
    found = {layer.digest for layer in image.layers}
    if name.made:
        sent = (packed.read(store, diff_id) for diff_id in image.diff_ids)
        found |= {blob.digest for blob in sent if blob is not None}
    return found


def send_blobs(
    ctx: Context,
    repository: Repository,
    blobs: tuple[Descriptor, ...],
    siblings: Mapping[str, tuple[str, ...]] = EMPTY,
    progress: Progress | None = None,
) -> None:
    """Send blobs, several at once; ``siblings`` are repositories that may have them already."""
    progress = progress or Progress()
    distinct = {blob.digest: blob for blob in blobs if not blob.urls}
    workers = pipeline.width(ctx.config.engine.image_parallel_copies)
    jobs = [
        partial(_push_blob, ctx.store, repository, blob, siblings.get(blob.digest, ()), progress)
        for blob in distinct.values()
    ]
    pipeline.in_parallel(jobs, workers, repository.transport.stop)


def _push_blob(
    store: Store,
    repository: Repository,
    blob: Descriptor,
    mounts: tuple[str, ...],
    progress: Progress,
    _stop: threading.Event,
) -> None:
    fd = content.open_blob(store, blob.digest)
    try:
        progress.blob(blob.digest, blob.size, present=False)
        sent = upload.push(repository, blob, fd, mounts, lambda n: progress.advance(blob.digest, n))
    finally:
        os.close(fd)
    if sent:
        progress.done(blob.digest)
    else:
        progress.blob(blob.digest, blob.size, present=True)
