"""The end of a build: the stage's image written down, stored and named."""

from __future__ import annotations

import hashlib
import os
import time

from podpy import files
from podpy.build import cache, config
from podpy.build.model import StepResult
from podpy.engine import build_changes, build_request, images
from podpy.model import Descriptor
from podpy.records import EMPTY, record, replace
from podpy.storage import committing, content, events, manifests, names

IN_TOTO = "application/vnd.in-toto+json"
#: The annotation that names the image which an attestation is about, as BuildKit writes it.
SUBJECT = "vnd.docker.reference.digest"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from podpy.build.config import Draft
    from podpy.build.stages import Built
    from podpy.engine.build_options import BuildOptions
    from podpy.engine.context import Context
    from podpy.model import Platform
    from podpy.storage.collect import Pins
    from podpy.storage.names import Name


@record
class Made:
    """One built image: its two documents and its layers, lowest first."""

    platform: Platform
    config: bytes
    manifest: bytes
    media_type: str
    layers: tuple[StepResult, ...]

    @property
    def id(self) -> str:
        """The image's id, 64 hexadecimal digits."""
        return hashlib.sha256(self.config).hexdigest()

    @property
    def descriptor(self) -> Descriptor:
        """The manifest's."""
        digest = f"sha256:{hashlib.sha256(self.manifest).hexdigest()}"
        return Descriptor(
            media_type=self.media_type,
            digest=digest,
            size=len(self.manifest),
            platform=self.platform,
        )


def finish(
    ctx: Context,
    options: BuildOptions,
    built: Built,
    platform: Platform,
    *,
    timestamp: int | None,
    uses_cache: bool,
    extra: Mapping[str, Any] = EMPTY,
    packed: Callable[[StepResult], Descriptor | None] = lambda layer: layer.blob,
) -> Made:
    """The documents of the image that a stage came to.

    ``extra`` goes into the configuration beside what the specification has;
    ``packed`` says which blob the manifest names for a layer.
    """
    draft = built.draft.copy()
    build_changes.change(draft, options, built.base.document if built.base else None)
    created = _created(ctx, draft, built, timestamp, uses_cache)
    diff_ids = [layer.diff_id for layer in built.layers]
    draft.document.update(extra)
    moment = config.timestamp_text(created)
    document = draft.finished(moment, diff_ids)
    blobs = [blob for layer in built.layers if (blob := packed(layer)) is not None]
    manifest = manifests.build(document, blobs)
    media_type = manifests.OCI_MANIFEST
    if build_request.image_format(options.format, os.environ) == "docker":
        manifest = manifests.to_docker(files.loads(manifest))
        media_type = manifests.DOCKER_MANIFEST
    return Made(
        platform=platform,
        config=document,
        manifest=_annotated(manifest, build_changes.of_manifest(options, platform, moment)),
        media_type=media_type,
        layers=built.layers,
    )


def _created(
    ctx: Context, draft: Draft, built: Built, timestamp: int | None, uses_cache: bool
) -> float:
    """When the image was made: what was built before from the same is the same image.

    That is when its newest layer was made, here or where the cache came from;
    without a layer of its own, when it was first built here.
    """
    if timestamp is not None:
        return float(timestamp)
    layers = built.layers
    inherited = len(built.base.layers) if built.base else 0
    newest = max((layer.created for layer in layers), default=0.0)
    if len(layers) > inherited:
        return newest
    plain = draft.finished("", [layer.diff_id for layer in layers])
    key = cache.key_of(("image", plain))
    known = cache.read(ctx.store, key) if uses_cache else None
    if known is not None and known.created >= newest:
        return known.created
    now = time.time()
    cache.remember(ctx.store, (key,), StepResult(created=now), "image")
    return now


def _annotated(manifest: bytes, wanted: Mapping[str, str]) -> bytes:
    if not wanted:
        return manifest
    document = files.loads(manifest)
    document["annotations"] = {**document.get("annotations", {}), **wanted}
    return files.dumps(document).encode()


@record
class Attestation:
    """What is said of a built image: a manifest with its configuration and statements."""

    subject: Made
    config: bytes
    manifest: bytes
    statements: tuple[bytes, ...]


def put(
    ctx: Context,
    pins: Pins,
    made: Sequence[Made],
    main: Made,
    *,
    attestations: Sequence[Attestation] = (),
    options: BuildOptions,
) -> Name:
    """Store images, without a name as yet; several, or one with attestations, as an index.

    ``main`` is the image that a command of this host means by the name.
    """
    for one in made:
        blobs = ((layer.diff_id, layer.blob) for layer in one.layers if layer.blob is not None)
        committing.make_durable(ctx.store, blobs)
        _put(ctx, pins, one.config, manifests.OCI_CONFIG)
        _put(ctx, pins, one.manifest, one.media_type)
    for each in attestations:
        for data in each.statements:
            _put(ctx, pins, data, IN_TOTO)
        _put(ctx, pins, each.config, manifests.OCI_CONFIG)
        _put(ctx, pins, each.manifest, manifests.OCI_MANIFEST)
    index = None
    if len(made) > 1 or attestations:
        kinds = {one.media_type for one in made}
        is_docker = kinds == {manifests.DOCKER_MANIFEST} and not attestations
        kind = manifests.DOCKER_LIST if is_docker else manifests.OCI_INDEX
        index = _put(ctx, pins, _index(kind, made, attestations, options), kind)
    return names.Name(
        reference="",
        manifest=main.descriptor,
        index=index,
        image=main.id,
        created=time.time(),
        made=True,
    )


def give(ctx: Context, stored: Name, references: Iterable[str]) -> None:
    """Give a stored image its names; without any it is dangling."""
    for reference in tuple(references) or ("",):
        names.write(ctx.store, replace(stored, reference=reference))
        events.image(ctx.store, "build", stored.image, reference)


def put_document(ctx: Context, pins: Pins, index: bytes) -> Descriptor:
    """Store an index of images that are stored already."""
    return _put(ctx, pins, index, manifests.OCI_INDEX)


def _put(ctx: Context, pins: Pins, data: bytes, media_type: str) -> Descriptor:
    pins.add(f"sha256:{hashlib.sha256(data).hexdigest()}")
    return content.put(ctx.store, data, media_type)


def _index(
    kind: str, made: Sequence[Made], attestations: Sequence[Attestation], options: BuildOptions
) -> bytes:
    entries = []
    for one in made:
        platform = {"architecture": one.platform.architecture, "os": one.platform.os}
        if one.platform.variant:
            platform["variant"] = one.platform.variant
        entry = {**_entry(one.manifest, one.media_type), "platform": platform}
        if notes := build_changes.of_entry(options, one.platform):
            entry["annotations"] = notes
        entries.append(entry)
    for each in attestations:
        entries.append(
            {
                **_entry(each.manifest, manifests.OCI_MANIFEST),
                "annotations": {
                    SUBJECT: each.subject.descriptor.digest,
                    "vnd.docker.reference.type": "attestation-manifest",
                },
                "platform": {"architecture": "unknown", "os": "unknown"},
            }
        )
    document = {"schemaVersion": 2, "mediaType": kind, "manifests": entries}
    if notes := build_changes.of_index(options):
        document["annotations"] = notes
    return files.dumps(document).encode()


def _entry(data: bytes, media_type: str) -> dict[str, object]:
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    return {"mediaType": media_type, "digest": digest, "size": len(data)}


def references(options: BuildOptions, others: Sequence[str] = ()) -> tuple[str, ...]:
    """The full names that ``--tag``, ``--manifest`` and an output ask for, each once."""
    given = (*options.tag, *((options.manifest,) if options.manifest else ()), *others)
    return tuple(dict.fromkeys(images.image_name(name) for name in given))


def metadata(made: Made, described: Descriptor, given: Sequence[str]) -> Mapping[str, object]:
    """What ``--metadata-file`` gets, in docker's form."""
    about: dict[str, object] = {
        "mediaType": described.media_type,
        "digest": described.digest,
        "size": described.size,
    }
    if described.media_type in manifests.MANIFEST_TYPES:
        about["platform"] = {"architecture": made.platform.architecture, "os": made.platform.os}
    found: dict[str, object] = {
        "containerimage.config.digest": f"sha256:{made.id}",
        "containerimage.descriptor": about,
        "containerimage.digest": described.digest,
    }
    if given:
        found["image.name"] = ",".join(given)
    return found
