"""What may be deleted, and what keeps it: names, containers, and imports under way.

An import *pins* each layer and blob it relies on before it looks whether that is
there: an empty file, named by digest, in its own directory below ``tmp/``.  The
collector looks at names, containers and pins of living imports, and removes what
none of them reaches.  Both sides hold ``locks/collect`` for that moment only,
imports together (shared), the collector alone.
"""

from __future__ import annotations

import os

from podpy import files
from podpy.errors import ImageError, StoreError
from podpy.storage import content, manifests, names, staging

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from podpy.paths import Store


class Pins:
    """The digests that one import keeps alive."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._path = staging.create(store, "pins")

    def add(self, digest: str) -> None:
        path = f"{self._path}/{content.hex_of(digest)}"
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))

    def hold(self, digest: str, path: str) -> bool:
        """Pin a digest and say whether what it names is there, with nobody in between."""
        with files.lock(f"{self._store.locks}/collect", shared=True):
            self.add(digest)
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


def _reached(store: Store, layers_in_use: Iterable[str]) -> tuple[set[str], set[str]]:
    """The digits of blobs and of layers that names and containers need."""
    blobs: set[str] = set()
    layers = {content.hex_of(diff_id) for diff_id in layers_in_use}
    for name in names.read_all(store):
        if name.index is not None:
            blobs.add(content.hex_of(name.index.digest))
        blobs.add(content.hex_of(name.manifest.digest))
        blobs.add(name.image)
        try:
            image = manifests.load(store, name)
        except (ImageError, StoreError):
            continue  # damaged: it reaches nothing more, and listing says so
        blobs.update(content.hex_of(layer.digest) for layer in image.layers)
        layers.update(content.hex_of(diff_id) for diff_id in image.diff_ids)
    return blobs, layers


def collect(store: Store, layers_in_use: Iterable[str]) -> list[str]:
    """Delete every blob and layer that nothing reaches; returns their digests.

    ``layers_in_use`` are the diff ids that containers stand on.  What goes is
    renamed into ``tmp/`` under the lock and deleted after it.
    """
    gone = []
    graves = []
    with files.lock(f"{store.locks}/collect"):
        pinned = _pinned(store)
        blobs, layers = _reached(store, layers_in_use)
        for directory, wanted in ((store.blobs, blobs), (store.layers, layers)):
            for digits in files.list_directory(directory):
                if digits not in wanted and digits not in pinned:
                    graves.append(staging.name(store, "trash"))
                    os.rename(f"{directory}/{digits}", graves[-1])
                    gone.append(f"sha256:{digits}")
    for grave in graves:
        staging.remove_tree(grave)
    return gone
