"""Layers: trees that every image with that layer shares.

``layers/<diff id>/`` holds ``diff/``, the unpacked tree, ``layer.json`` about
it, and, where there is something to say, ``records.json``: what of the layer
the tree cannot hold.  :mod:`podpy.storage.importer` makes them.
"""

from __future__ import annotations

import os

from podpy import files, records
from podpy.errors import StoreError
from podpy.model import Descriptor
from podpy.records import record
from podpy.storage.content import hex_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podpy.paths import Store

VERSION = 1


@record
class Layer:
    """A layer of the store.

    ``size`` and ``inodes`` are those of its tree (see ``usage.measure``),
    ``length`` is that of its uncompressed archive, ``boot`` the boot it was made in.
    ``synced`` is False while nobody has asked the disk to keep it: a layer of a
    build whose image is not published yet (:mod:`podpy.storage.committing`).
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
    synced: bool = True
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
