"""The images behind a name that was made here for several platforms.

A name stands for the image of this host; the others are told by its image index
alone.  An index that came from a registry names images that are not here.
"""

from __future__ import annotations

from podpy.errors import ImageError, StoreError
from podpy.records import replace
from podpy.storage import content, manifests

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from podpy.model import Descriptor
    from podpy.paths import Store
    from podpy.storage.names import Name


def entries(store: Store, name: Name) -> tuple[Descriptor, ...]:
    """The manifests of an index that was made here, attestations among them; else nothing."""
    if not name.made or name.index is None:
        return ()
    try:
        data = content.read_blob(store, name.index.digest)
        return manifests.index_entries(manifests.parse(data, "image index"))
    except (ImageError, StoreError):
        return ()


def named(store: Store, name: Name, entry: Descriptor) -> Name:
    """What the name would be if it stood for another image of its index."""
    data = content.read_blob(store, entry.digest)
    about = manifests.config_descriptor(manifests.parse(data, f"manifest {entry.digest}"))
    return replace(name, manifest=entry, image=content.hex_of(about.digest))


def siblings(store: Store, name: Name) -> Iterator[Name]:
    """The other images of an index that was made here."""
    for entry in entries(store, name):
        is_image = entry.platform is not None and entry.platform.os != "unknown"
        if is_image and entry.digest != name.manifest.digest:
            yield named(store, name, entry)
