"""Caches elsewhere: in a registry or a directory, read by ``--cache-from``.

A cache is an image by its form: its layers are those of steps, and its
configuration has, beside their diff ids, the records of the build cache under
:data:`RECORDS`.  Reading one fetches its two documents; a layer is fetched when a
step asks for the key that made it.  An image built with ``--cache-to
type=inline`` carries the records of its own layers.
"""

from __future__ import annotations

from podpy import files
from podpy.build import cache
from podpy.build.execute import Work
from podpy.build.model import Started, StepResult, Warned
from podpy.errors import ImageError, PodpyError
from podpy.records import record
from podpy.registry import reference as references
from podpy.storage import content, manifests
from podpy.storage.content import hex_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from podpy.build.bench import Afar
    from podpy.build.execute import Scheduler, Wire
    from podpy.build.model import Report
    from podpy.engine.build_outputs import CachePlace
    from podpy.engine.context import Context
    from podpy.engine.registries import RegistryOptions
    from podpy.model import Descriptor
    from podpy.registry.client import Repository

#: The configuration's key for the records, one per key of the build cache.
RECORDS = "podpy.build.cache"
_CHUNK = 1 << 20
_LATEST = 1 << 36  # seconds: the year 4147


@record
class Known:
    """One step's result in a cache elsewhere."""

    place: CachePlace
    diff_id: str
    blob: Descriptor
    created: float
    text: str


class Caches:
    """What the caches of one build know, by key."""

    def __init__(self, ctx: Context, places: Sequence[CachePlace], registry: RegistryOptions):
        self._ctx = ctx
        self._places = places
        self._registry = registry
        self.known: dict[str, Known] = {}

    def read(self, scheduler: Scheduler, report: Report) -> None:
        """Read the documents of every cache; one that cannot be read is warned of."""
        for place in self._places:
            scheduler.add(self._read(place, scheduler.next_step(), report))
        scheduler.run()

    def _read(self, place: CachePlace, step: int, report: Report) -> Any:
        title = Started(step=step, text=f"importing cache manifest from {place.place}")

        def work(wire: Wire) -> Any:
            try:
                return self._documents(place)
            except PodpyError as error:
                wire.warn(f"cache {place.place}: {error.message}")
                return ()

        documents = yield Work(work, title)
        if documents:
            manifest, config = documents
            self._learn(place, manifest, config, report)

    def _documents(self, place: CachePlace) -> tuple[bytes, bytes]:
        """The manifest and the configuration."""
        if place.kind == "local":
            return _local_documents(place.place)
        repository, selector = self._open(place)
        data = repository.manifest(selector, manifests.MANIFEST_TYPES).data
        about = manifests.config_descriptor(manifests.parse(data, "cache manifest"))
        return data, repository.small_blob(about)

    def _open(self, place: CachePlace) -> tuple[Repository, str]:
        from podpy.engine.remote import bare, open_repository
        from podpy.registry import shortnames

        target = references.parse(bare(place.place))
        source = shortnames.origin(target, self._ctx.config.registries)
        repository = open_repository(self._ctx, source, self._registry)
        return repository, source.reference.selector

    def _learn(self, place: CachePlace, manifest: bytes, config: bytes, report: Report) -> None:
        blobs = manifests.layer_descriptors(manifests.parse(manifest, "cache manifest"))
        document = manifests.parse(config, "cache config", content.CONFIG_LIMIT)
        by_diff_id = dict(zip(manifests.diff_ids(document), blobs))
        found = document.get(RECORDS)
        if not isinstance(found, dict):
            report(Warned(text=f"cache {place.place}: an image without a cache in it"))
            return
        for key, values in found.items():
            known = _checked(key, values, by_diff_id, place)
            if known is not None:
                self.known.setdefault(key, known)

    def afar(self, wire: Wire) -> Afar:
        """What a worker looks up with; ``wire`` is told of the transfer."""

        def look(key: str) -> StepResult | None:
            known = self.known.get(key)
            if known is None:
                return None
            try:
                self._bring(known, wire)
            except PodpyError as error:
                wire.warn(f"cache {known.place.place}: {error.message}")
                return None
            made = StepResult(diff_id=known.diff_id, blob=known.blob, created=known.created)
            cache.remember(self._ctx.store, (key,), made, known.text)
            return cache.lookup(self._ctx.store, key)

        return look

    def _bring(self, known: Known, wire: Wire) -> None:
        """Have a layer in the store, as tree and blob."""
        from podpy.engine import pipeline
        from podpy.engine.build_images import Told
        from podpy.storage.importer import Importer

        with Importer(self._ctx.store) as importer:
            if known.place.kind == "local":
                _bring_local(importer, known)
            else:
                repository, _ = self._open(known.place)
                layers = pipeline.Layers(importer, repository, Told(wire))
                layers.fetch([(known.diff_id, known.blob)], 1)


def _bring_local(importer: Any, known: Known) -> None:
    if importer.has_layer(known.diff_id) and importer.has_blob(known.blob.digest):
        return
    path = f"{known.place.place}/blobs/sha256/{hex_of(known.blob.digest)}"
    with (
        open(path, "rb", buffering=0) as source,
        importer.begin(known.diff_id, known.blob) as sink,
    ):
        while data := source.read(_CHUNK):
            sink.write(data)
        sink.finish()


def _local_documents(directory: str) -> tuple[bytes, bytes]:
    """The documents of the one image of an OCI layout."""
    try:
        index = files.read_json(f"{directory}/index.json")
        about = manifests.index_entries(index)[-1]
        data = _blob(directory, about)
        config = manifests.config_descriptor(manifests.parse(data, "cache manifest"))
        return data, _blob(directory, config)
    except (OSError, ValueError, IndexError) as error:
        raise ImageError(f"{directory}: not a cache: {error}") from None


def _blob(directory: str, about: Descriptor) -> bytes:
    import hashlib

    path = f"{directory}/blobs/sha256/{hex_of(about.digest)}"
    data = files.read_bytes(path, limit=content.CONFIG_LIMIT)
    if f"sha256:{hashlib.sha256(data).hexdigest()}" != about.digest:
        raise ImageError(f"{path}: not the blob that its name says")
    return data


def _checked(
    key: str, values: Any, blobs: Mapping[str, Descriptor], place: CachePlace
) -> Known | None:
    """One record, if it has the form and its layer is there; what a stranger wrote is checked."""
    if not (references.is_hex_id(key) and isinstance(values, dict)):
        return None
    diff_id, created, text = values.get("diff_id"), values.get("created"), values.get("text")
    if not (isinstance(created, (int, float)) and isinstance(text, str)):
        return None
    if not 0 <= created < _LATEST:
        return None  # no date can be made of it, and it would be kept
    if not isinstance(diff_id, str) or diff_id not in blobs:
        return None
    return Known(
        place=place, diff_id=diff_id, blob=blobs[diff_id], created=float(created), text=text
    )


def records_of(ctx: Context, diff_ids: Iterable[str]) -> dict[str, Any]:
    """The cache's records of some layers, as they go into a configuration."""
    wanted = set(diff_ids)
    return {
        entry.key: {"diff_id": entry.diff_id, "created": entry.created, "text": entry.text}
        for entry in cache.every(ctx.store)
        if entry.diff_id in wanted
    }
