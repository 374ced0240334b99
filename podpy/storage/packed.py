"""Which compressed blob a plain layer was sent out as: compressed once, pushed often.

Layers that are made here are stored plain.  What a push makes of one lies among
the other blobs, and ``packed.json`` beside the tree names it; it stays as long
as the layer does (:mod:`podpy.storage.collect`).
"""

from __future__ import annotations

import os

from podpy import files, records
from podpy.errors import ImageError, StoreError
from podpy.model import Descriptor
from podpy.storage import content, layers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podpy.paths import Store


def _path(store: Store, diff_id: str) -> str:
    return f"{layers.path_of(store, diff_id)}/packed.json"


def read(store: Store, diff_id: str) -> Descriptor | None:
    """The compressed blob of a layer, if one is remembered and still there."""
    try:
        blob = records.from_dict(Descriptor, files.read_json(_path(store, diff_id)))
        size = os.stat(content.blob_path(store, blob.digest)).st_size
    except (OSError, ImageError, StoreError, TypeError, AttributeError):
        return None
    return blob if size == blob.size else None


def remember(store: Store, diff_id: str, blob: Descriptor) -> None:
    """Note what a layer was compressed to; the blob is in the store."""
    files.write_json(_path(store, diff_id), records.to_dict(blob))
