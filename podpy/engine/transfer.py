"""Images from registries: ``pull``.

``pull`` decides where to ask and which manifest to take; the layers go
through ``podpy.engine.pipeline``.  An image exists in the store when its name
is written, last of all, with every blob and layer behind it in place.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from podpy.engine import images, pipeline, platforms
from podpy.engine.progress import Progress
from podpy.engine.registries import RegistryOptions
from podpy.engine.remote import bare, open_repository
from podpy.errors import (
    ImageError,
    NotFound,
    PodpyError,
    RegistryError,
    UsageError,
)
from podpy.model import Descriptor
from podpy.records import record, replace
from podpy.registry import policy, shortnames
from podpy.registry import reference as references
from podpy.registry.reference import Reference
from podpy.storage import content, events, manifests, names
from podpy.storage.importer import Importer

if TYPE_CHECKING:
    from podpy.engine.context import Context
    from podpy.model import Image, Platform
    from podpy.paths import Store
    from podpy.registry.client import Manifest, Repository
    from podpy.registry.shortnames import Source

POLICIES = ("always", "missing", "newer", "never")
_ACCEPT = (*manifests.MANIFEST_TYPES, *manifests.INDEX_TYPES)
_CONFIG_TYPES = ("", manifests.OCI_CONFIG, manifests.DOCKER_CONFIG)


@record
class PullOptions:
    """``podpy pull``; ``policy`` is one of :data:`POLICIES`."""

    registry: RegistryOptions = RegistryOptions()
    policy: str = "always"
    all_tags: bool = False
    platform: str = ""
    os: str = ""
    arch: str = ""
    variant: str = ""


_PULL = PullOptions()


def pull(
    ctx: Context,
    wanted: tuple[str, ...],
    options: PullOptions = _PULL,
    progress: Progress | None = None,
) -> tuple[str, ...]:
    """Bring images into the store; return their ids, each once, in order."""
    if options.policy not in POLICIES:
        raise UsageError(f"pull policy {options.policy!a}: must be one of {', '.join(POLICIES)}")
    asked = platforms.wanted(options.platform, options.os, options.arch, options.variant)
    ids = []
    for name in wanted:
        one = _Pull(ctx, options, asked, progress or Progress())
        ids += one.all_tags(bare(name)) if options.all_tags else [one.named(bare(name))]
    return tuple(dict.fromkeys(ids))


def with_tag(name: str) -> str:
    """``name`` as docker repeats it: with the tag that is meant when none is written."""
    _, _, tag, digest = references.split(bare(name))
    return name if tag or digest else f"{name}:{references.DEFAULT_TAG}"


class _Pull:
    """One image on its way in."""

    def __init__(
        self, ctx: Context, options: PullOptions, asked: Platform, progress: Progress
    ) -> None:
        self._ctx = ctx
        self._store = ctx.store
        self._options = options
        self._asked = asked
        self._progress = progress

    def named(self, name: str) -> str:
        """Pull what ``name`` means, if the policy wants it; the image's id."""
        local = self._local(name)
        if local is not None and self._options.policy == "missing":
            return local.image
        if self._options.policy == "never":
            if local is None:
                raise NotFound(f"{name}: image not known and the pull policy is never")
            return local.image
        found = self._references(name)
        errors: list[PodpyError] = []
        for reference in found:
            try:
                return self._reference(reference, local)
            except (RegistryError, NotFound) as error:
                errors.append(error)
        if local is not None and self._options.policy == "newer":
            self._progress.warn(f"{name}: using the local image: {errors[-1].message}")
            return local.image
        raise _combined(name, errors)

    def all_tags(self, name: str) -> list[str]:
        """Pull every tag of a repository."""
        _, _, tag, digest = references.split(name)
        if tag or digest:
            raise UsageError(f"{name}: a tag cannot be used with --all-tags")
        ids = []
        for reference in self._references(name)[:1]:
            source = shortnames.endpoints(reference, self._ctx.config.registries)[-1]
            repository = open_repository(self._ctx, source, self._options.registry)
            for tag in repository.tags():
                ids.append(self._reference(references.with_tag(reference, tag), None))
        if not ids:
            raise NotFound(f"{name}: the repository has no tags")
        return ids

    def _references(self, name: str) -> tuple[Reference, ...]:
        registries = self._ctx.config.registries
        found = shortnames.pull_candidates(name, registries)
        if shortnames.is_ambiguous(found, registries):
            return (shortnames.choose(name, found, self._progress.ask),)
        return found

    def _local(self, name: str) -> names.Name | None:
        """What the store has under that name, if it is for the platform asked for."""
        try:
            found = images.find_name(self._ctx, name)
            held = images.find(self._ctx, name)
        except PodpyError:
            return None
        return found if platforms.fits(held.platform, self._asked) else None

    def _reference(self, reference: Reference, local: names.Name | None) -> str:
        """Pull one whole reference from the first of its places that has it."""
        policy.check(reference)
        errors: list[PodpyError] = []
        for source in shortnames.endpoints(reference, self._ctx.config.registries):
            self._progress.trying(str(source.reference))
            try:
                repository = open_repository(self._ctx, source, self._options.registry)
                if local is not None and self._is_current(repository, source, local):
                    return local.image
                return self._from(repository, source.reference.selector, reference)
            except (RegistryError, NotFound) as error:
                errors.append(error)
                if source.mirror:
                    self._progress.warn(error.message)
        raise _combined(str(reference), errors[-1:])

    def _is_current(self, repository: Repository, source: Source, local: names.Name) -> bool:
        if self._options.policy != "newer":
            return False
        now = repository.digest(source.reference.selector, _ACCEPT)
        return now in (local.manifest.digest, local.index.digest if local.index else "")

    def _from(self, repository: Repository, selector: str, reference: Reference) -> str:
        """Bring one image in from one repository and give it its name."""
        before = names.read(self._store, _named(reference))
        top = repository.manifest(selector, _ACCEPT)
        chosen, index = self._choose(repository, top)
        document = manifests.parse(chosen.data, f"manifest {chosen.digest}")
        kind = manifests.media_type(document, chosen.media_type)
        about = manifests.config_descriptor(document)
        if about.media_type not in _CONFIG_TYPES:
            raise ImageError(f"{reference}: not a container image but {about.media_type!a}")
        self._store.prepare()
        config = _read_config(self._store, repository, about)
        image = manifests.image(
            document,
            manifests.parse(config, f"image config {about.digest}", content.CONFIG_LIMIT),
            digest=chosen.digest,
            kind=kind,
        )
        self._check_platform(reference, image, from_index=index is not None)
        with Importer(self._store) as importer:
            self._bring_in(importer, repository, image)
            importer.has_blob(about.digest)
            content.put(self._store, config, about.media_type, about.digest)
            importer.has_blob(chosen.digest)
            manifest = content.put(self._store, chosen.data, kind, chosen.digest)
            held = None
            if index is not None:
                importer.has_blob(index.digest)
                held = content.put(self._store, index.data, index.media_type, index.digest)
            self._name(reference, manifest, held, image)
        fresh = before is None or before.manifest.digest != chosen.digest
        self._progress.pulled(str(reference), top.digest, fresh=fresh)
        events.image(self._store, "pull", image.id, str(reference))
        return image.id

    def _choose(self, repository: Repository, top: Manifest) -> tuple[Manifest, Manifest | None]:
        """The manifest for the platform, and the index it was chosen from."""
        document = manifests.parse(top.data, f"manifest {top.digest}")
        kind = manifests.media_type(document, top.media_type)
        if kind not in manifests.INDEX_TYPES:
            return top, None
        entry = platforms.choose(manifests.index_entries(document), self._asked)
        chosen = repository.manifest(entry.digest, manifests.MANIFEST_TYPES)
        if len(chosen.data) != entry.size:
            raise ImageError(
                f"manifest {entry.digest}: {len(chosen.data)} bytes,"
                f" but the index says {entry.size}"
            )
        inner = manifests.media_type(
            manifests.parse(chosen.data, f"manifest {chosen.digest}"), entry.media_type
        )
        if inner in manifests.INDEX_TYPES:
            raise ImageError(f"manifest {entry.digest}: an image index inside an image index")
        return replace(chosen, media_type=inner), replace(top, media_type=kind)

    def _check_platform(self, reference: Reference, image: Image, *, from_index: bool) -> None:
        """An index has the last word: there are images whose configuration is mistaken."""
        if not image.platform.architecture or platforms.fits(image.platform, self._asked):
            return
        text = f"{reference}: the image is for {image.platform}, not for {self._asked}"
        if not from_index and (self._options.platform or self._options.arch or self._options.os):
            raise ImageError(text)
        self._progress.warn(text)

    def _bring_in(self, importer: Importer, repository: Repository, image: Image) -> None:
        for layer in image.layers:
            if layer.media_type.endswith("+encrypted"):
                raise ImageError(f"layer {layer.digest}: encrypted layers are not supported")
        workers = pipeline.width(self._ctx.config.engine.image_parallel_copies)
        pairs = tuple(zip(image.diff_ids, image.layers, strict=True))
        pipeline.Layers(importer, repository, self._progress).fetch(pairs, workers)

    def _name(
        self, reference: Reference, manifest: Descriptor, index: Descriptor | None, image: Image
    ) -> None:
        names.write(
            self._store,
            names.Name(
                reference=_named(reference),
                manifest=manifest,
                index=index,
                image=image.id,
                created=time.time(),
            ),
        )


def _named(reference: Reference) -> str:
    """The name an image gets in the store: a digest needs no tag beside it."""
    return str(replace(reference, tag="") if reference.digest else reference)


def _read_config(store: Store, repository: Repository, about: Descriptor) -> bytes:
    """The image configuration, from the store or the registry; verified when it is stored."""
    if content.has_blob(store, about.digest):
        return content.read_blob(store, about.digest, content.CONFIG_LIMIT)
    return repository.small_blob(about)


def _combined(name: str, errors: list[PodpyError]) -> PodpyError:
    """One error for all the places that were tried."""
    if len(errors) == 1:
        return errors[0]
    causes = "; ".join(error.message for error in errors)
    kind = NotFound if all(isinstance(e, NotFound) for e in errors) else RegistryError
    return kind(f"{name}: {causes}")
