"""``images``: every tag of the store, and every image that has none."""

from __future__ import annotations

from podpy.engine import image_filters
from podpy.errors import ImageError, StoreError, UsageError
from podpy.model import ImageSummary
from podpy.records import replace
from podpy.registry import reference as references
from podpy.storage import layers, manifests, names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from podpy.engine.context import Context
    from podpy.model import Image
    from podpy.paths import Store
    from podpy.storage.names import Name

_SORTS: dict[str, Any] = {
    "created": lambda image: -image.created,
    "id": lambda image: image.id,
    "repository": lambda image: (image.repository, image.tag),
    "size": lambda image: image.size,
    "tag": lambda image: (image.tag, image.repository),
}


def list(
    ctx: Context, *, all: bool = False, filters: Sequence[str] = (), sort: str = ""
) -> tuple[ImageSummary, ...]:
    """Every tag and every untagged image, newest first unless sorted otherwise.

    ``all`` adds nothing yet: podpy keeps no intermediate images.  Filters are
    those of :mod:`podpy.engine.image_filters`.
    """
    order = _SORTS.get(sort or "created")
    if order is None:
        raise UsageError(f"--sort: {sort!a}", hint=f"one of {', '.join(_SORTS)}")
    found = sorted(_summaries(ctx.store), key=order)
    return tuple(image_filters.select(ctx, found, filters) if filters else found)


def _summaries(store: Store) -> Iterator[ImageSummary]:
    records = tuple(names.read_all(store))
    by_image: dict[str, tuple[str, ...]] = {}
    for name in records:
        given = (name.reference,) if name.reference else ()
        by_image[name.image] = by_image.get(name.image, ()) + given
    sizes: dict[str, int] = {}
    for name in records:
        known = by_image[name.image]
        if not known or (name.reference and not _is_said(name, known)):
            yield _summary(store, name, known, sizes)


def _is_said(name: Name, known: tuple[str, ...]) -> bool:
    """Docker gives a digest no row of its own where the image has a tag in that repository."""
    repository, at, _ = name.reference.partition("@")
    tagged = (other.rpartition(":")[0] for other in known if "@" not in other)
    return bool(at) and repository in tagged


def _summary(
    store: Store, name: Name, known: tuple[str, ...], sizes: dict[str, int]
) -> ImageSummary:
    parsed = references.parse(name.reference) if name.reference else None
    made = ImageSummary(
        id=name.image,
        repository=parsed.name if parsed else "",
        tag=parsed.tag if parsed else "",
        digest=name.manifest.digest,
        created=name.created,
        names=known,
    )
    try:
        image = manifests.load(store, name)
        return replace(
            made,
            created=image.created,
            size=tree_size(store, image, sizes),
            labels=image.config.labels,
        )
    except (StoreError, ImageError) as error:
        return replace(made, problem=error.message)


def tree_size(store: Store, image: Image, sizes: dict[str, int]) -> int:
    """The unpacked size of all layers; ``sizes`` remembers those already read."""
    for diff_id in image.diff_ids:
        if diff_id not in sizes:
            sizes[diff_id] = layers.read(store, diff_id).size
    return sum(sizes[diff_id] for diff_id in image.diff_ids)
