"""What may be deleted, and what keeps it: names, containers, the build cache, work under way.

An import *pins* each layer and blob it relies on before it looks whether that is
there: an empty file, named by digest, in its own directory below ``tmp/``.  The
collector looks at names, containers, records of the build cache and pins of
living imports, and removes what none of them reaches.  Both sides hold
``locks/collect`` for that moment only, imports together (shared), the collector
alone.
"""

from __future__ import annotations

import os

from podpy import files
from podpy.errors import ImageError, StoreError
from podpy.records import replace
from podpy.storage import content, indexes, manifests, names, packed, staging

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from podpy.paths import Store


class Pins:
    """The digests that one import keeps alive."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._path = staging.create(store, "pins")

    def add(self, digest: str) -> None:
        """Pin a digest, no collector being between its look at the pins and its deletions."""
        with files.lock(f"{self._store.locks}/collect", shared=True):
            self._mark(digest)

    def _mark(self, digest: str) -> None:
        path = f"{self._path}/{content.hex_of(digest)}"
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))

    def hold(self, digest: str, path: str) -> bool:
        """Pin a digest and say whether what it names is there, with nobody in between."""
        with files.lock(f"{self._store.locks}/collect", shared=True):
            self._mark(digest)
            return os.path.exists(path)

    def close(self) -> None:
        staging.remove_tree(self._path)


def _pinned(store: Store) -> set[str]:
    """Digits pinned by living imports."""
    found: set[str] = set()
    for entry in files.list_directory(store.tmp):
        if staging.kind_of(entry) == "pins" and staging.owner_is_alive(entry):
            found.update(files.list_directory(f"{store.tmp}/{entry}"))
    return found


def _named(store: Store) -> tuple[set[str], set[str]]:
    """The digits of the blobs and of the layers that names reach."""
    blobs: set[str] = set()
    layers: set[str] = set()
    for name in names.read_all(store):
        if name.index is not None:
            blobs.add(content.hex_of(name.index.digest))
        blobs.add(content.hex_of(name.manifest.digest))
        blobs.add(name.image)
        for manifest in (name.manifest, *indexes.entries(store, name)):
            try:
                image = manifests.load(store, replace(name, manifest=manifest))
            except (ImageError, StoreError):
                continue  # damaged: it reaches nothing more, and listing says so
            blobs |= {content.hex_of(manifest.digest), image.id}
            blobs.update(content.hex_of(layer.digest) for layer in image.layers)
            layers.update(content.hex_of(diff_id) for diff_id in image.diff_ids)
    return blobs, layers


def _cached(store: Store) -> tuple[set[str], set[str]]:
    """The digits of the blobs and of the layers that records of the build cache name."""
    blobs: set[str] = set()
    layers: set[str] = set()
    for part in files.list_directory(f"{store.root}/build"):
        for entry in files.list_directory(f"{store.root}/build/{part}"):
            try:
                values = files.read_json(f"{store.root}/build/{part}/{entry}")
                if values["diff_id"]:
                    layers.add(content.hex_of(values["diff_id"]))
                    blobs.add(content.hex_of(values["blob"]["digest"]))
            except (OSError, ImageError, StoreError, KeyError, TypeError):
                continue  # gone meanwhile, or damaged: no build will find it either
    return blobs, layers


def _packed(store: Store, layers: Iterable[str]) -> set[str]:
    """The digits of the compressed blobs that layers are remembered to have been pushed as."""
    found = set()
    for digits in layers:
        blob = packed.read(store, f"sha256:{digits}")
        if blob is not None:
            found.add(content.hex_of(blob.digest))
    return found


def collect(store: Store, in_use: Callable[[], Iterable[str]]) -> list[str]:
    """Delete every blob and layer that nothing reaches; returns their digests.

    ``in_use`` gives the diff ids that containers stand on.  What goes is renamed
    into ``tmp/`` under the lock and deleted after it.  A container may appear
    meanwhile: it writes its record and then looks for its layers, and the
    collector takes layers away and then looks for records, so that one of the
    two notices the other.
    """
    graves: dict[str, str] = {}
    with files.lock(f"{store.locks}/collect"):
        pinned = _pinned(store)
        blobs, layers = _named(store)
        cached_blobs, cached_layers = _cached(store)
        layers |= _digits(in_use()) | cached_layers
        blobs |= cached_blobs | _packed(store, layers)
        for directory, wanted in ((store.blobs, blobs), (store.layers, layers)):
            for digits in files.list_directory(directory):
                if digits not in wanted and digits not in pinned:
                    grave = staging.name(store, "trash")
                    os.rename(f"{directory}/{digits}", grave)
                    graves[f"{directory}/{digits}"] = grave
        for digits in _digits(in_use()):
            if grave := graves.pop(f"{store.layers}/{digits}", ""):
                os.rename(grave, f"{store.layers}/{digits}")
    for grave in graves.values():
        staging.remove_tree(grave)
    return [f"sha256:{os.path.basename(path)}" for path in graves]


def _digits(diff_ids: Iterable[str]) -> set[str]:
    return {content.hex_of(diff_id) for diff_id in diff_ids}
