"""Images of the store: found, listed, named and removed.

:func:`find` is on the hot path of ``run``: three small files are read.
"""

from __future__ import annotations

import time

from podpy import files, model
from podpy.errors import Ambiguous, ImageError, NotFound, StoreError, UsageError
from podpy.model import Platform, record
from podpy.registry import reference as references
from podpy.storage import content, manifests, names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from podpy.engine.context import Context, Outcome
    from podpy.model import Image
    from podpy.paths import Store
    from podpy.storage.names import Name

_HEX = frozenset("0123456789abcdef")


def find(ctx: Context, name: str) -> Image:
    """The image that ``name`` means here: an id, a reference, a short name, an id's prefix.

    Raises :class:`NotFound` (``image not known``) or :class:`Ambiguous`.
    """
    return manifests.load(ctx.store, find_name(ctx, name))


def find_name(ctx: Context, text: str) -> Name:
    """The name record that ``text`` stands for; see :func:`find` for the order."""
    digits = text.removeprefix("sha256:")
    found = None
    if not references.is_hex_id(digits):
        found = _by_reference(ctx, text)
    found = found or _by_id(ctx.store, digits)
    if found is None:
        raise NotFound(f"{text}: image not known")
    return found


def exists(ctx: Context, name: str) -> bool:
    try:
        find_name(ctx, name)
    except NotFound:
        return False
    return True


def _hold(store: Store, image_id: str) -> files.lock:
    """While this (shared) lock is held, no ``rmi`` takes the image's last name away."""
    return files.lock(f"{store.locks}/image.{image_id}", shared=True)


def _by_reference(ctx: Context, text: str) -> Name | None:
    try:
        candidates = tuple(_candidates(ctx, text))
    except UsageError:
        return None
    for candidate in candidates:
        found = names.read(ctx.store, candidate)
        if found is not None:
            return found
    if "@" in text:
        return _by_digest(ctx.store, candidates, text.rpartition("@")[2])
    return _by_suffix(ctx.store, text) if references.is_short(text) else None


def _candidates(ctx: Context, text: str) -> Iterator[str]:
    """The full references that a name as typed may mean, in the order they are tried."""
    if not references.is_short(text):
        yield str(references.parse(text))
        return
    yield str(references.qualify(text, references.LOCAL_REGISTRY))
    known = ctx.config.registries
    _, path, tag, digest = references.split(text)
    if path in known.aliases:
        rest = (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")
        yield str(references.parse(known.aliases[path] + rest))
    for registry in known.search:
        yield str(references.qualify(text, registry))
    yield str(references.parse(text))


def _by_digest(store: Store, candidates: tuple[str, ...], digest: str) -> Name | None:
    """``name@sha256:…``: any tag of that repository whose manifest or index has the digest."""
    repositories = {references.parse(candidate).name for candidate in candidates}
    for name in names.read_all(store):
        if name.reference and references.parse(name.reference).name in repositories:
            known = (name.manifest.digest, name.index.digest if name.index else "")
            if digest in known:
                return name
    return None


def _by_suffix(store: Store, text: str) -> Name | None:
    """A short name may be the tail of a longer one: ``web:1`` of ``quay.io/me/web:1``."""
    _, path, tag, _ = references.split(text)
    tail = f"/{path}:{tag or references.DEFAULT_TAG}"
    return next((n for n in names.read_all(store) if n.reference.endswith(tail)), None)


def _by_id(store: Store, prefix: str) -> Name | None:
    """The image of an id or of a unique prefix of one; also a manifest's digest."""
    if not prefix or not _HEX.issuperset(prefix):
        return None
    found: dict[str, Name] = {}
    for name in names.read_all(store):
        if name.image.startswith(prefix) or content.hex_of(name.manifest.digest) == prefix:
            found.setdefault(name.image, name)
    if len(found) > 1:
        raise Ambiguous(f"{prefix}: {len(found)} images have an id that starts like this")
    return next(iter(found.values()), None)


# --- listing -------------------------------------------------------------------


@record
class ImageSummary:
    """One line of ``images``: a tag, or an image that has none.

    ``size`` is that of the unpacked layers; ``containers`` how many containers
    stand on the image, or None where nobody asked.  ``names`` are all names of
    the image.
    """

    id: str
    repository: str = ""
    tag: str = ""
    digest: str = ""
    created: float = 0.0
    size: int = 0
    containers: int | None = None
    names: tuple[str, ...] = ()
    labels: Mapping[str, str] = model._EMPTY
    problem: str = ""


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
    those of :mod:`podpy.engine.image_filters`.  A damaged image is listed with
    its ``problem``.
    """
    order = _SORTS.get(sort or "created")
    if order is None:
        raise UsageError(f"--sort: {sort!a}", hint=f"one of {', '.join(_SORTS)}")
    found = sorted(_summaries(ctx.store), key=order)
    if filters:
        from podpy.engine import image_filters

        found = image_filters.select(ctx, found, filters)
    return tuple(found)


def _summaries(store: Store) -> Iterator[ImageSummary]:
    records = tuple(names.read_all(store))
    by_image: dict[str, tuple[str, ...]] = {}
    for name in records:
        given = (name.reference,) if name.reference else ()
        by_image[name.image] = by_image.get(name.image, ()) + given
    sizes: dict[str, int] = {}
    for name in records:
        known = by_image[name.image]
        if name.reference or not known:
            yield _summary(store, name, known, sizes)


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
        return model.replace(
            made,
            created=image.created,
            size=tree_size(store, image, sizes),
            labels=image.config.labels,
        )
    except (StoreError, ImageError) as error:
        return model.replace(made, problem=error.message)


def tree_size(store: Store, image: Image, sizes: dict[str, int]) -> int:
    """The unpacked size of all layers; ``sizes`` remembers those already read."""
    from podpy.storage import layers

    for diff_id in image.diff_ids:
        if diff_id not in sizes:
            sizes[diff_id] = layers.read(store, diff_id).size
    return sum(sizes[diff_id] for diff_id in image.diff_ids)


# --- names ---------------------------------------------------------------------


def image_name(text: str) -> str:
    """A name given to an image here, in full: without registry it is ``localhost/``."""
    short = references.is_short(text)
    parsed = (
        references.qualify(text, references.LOCAL_REGISTRY) if short else references.parse(text)
    )
    if parsed.digest:
        raise UsageError(f"{text}: a new name cannot have a digest")
    return str(parsed)


def tag(ctx: Context, name: str, new_names: Sequence[str]) -> None:
    """Give an image more names; a name that another image has is taken from it."""
    found = find_name(ctx, name)
    wanted = [image_name(text) for text in new_names]
    with _hold(ctx.store, found.image):
        find_name(ctx, found.image)  # still there
        for reference in wanted:
            given = model.replace(found, reference=reference, created=time.time())
            names.write(ctx.store, given)


def untag(ctx: Context, name: str, old_names: Sequence[str] = ()) -> None:
    """Take names from an image, all by default; the image stays, dangling in the end."""
    found = find_name(ctx, name)
    known = {n.reference: n for n in names.read_all(ctx.store) if n.image == found.image}
    gone = [_own_name(ctx, known, text) for text in old_names] or [
        given for given in known.values() if given.reference
    ]
    for given in gone:
        names.remove(ctx.store, given, keep_image=True)


def _own_name(ctx: Context, known: Mapping[str, Name], text: str) -> Name:
    for candidate in _candidates(ctx, text):
        if candidate in known:
            return known[candidate]
    raise NotFound(f"{text}: tag not known")


# --- verbs that live in modules of their own -------------------------------------


def remove(
    ctx: Context,
    names: Sequence[str],
    *,
    force: bool = False,
    all: bool = False,
    ignore: bool = False,
    prune: bool = True,
) -> tuple[Outcome, ...]:
    """``rmi``: see :func:`podpy.engine.image_removal.remove`."""
    from podpy.engine import image_removal

    return image_removal.remove(ctx, names, force=force, all=all, ignore=ignore, prune=prune)


def prune(ctx: Context, *, all: bool = False, filters: Sequence[str] = ()) -> tuple[Outcome, ...]:
    """Remove images nobody uses: see :func:`podpy.engine.image_removal.prune`."""
    from podpy.engine import image_removal

    return image_removal.prune(ctx, all=all, filters=filters)


def inspect(ctx: Context, name: str) -> dict[str, Any]:
    """All about an image: see :func:`podpy.engine.image_inspect.inspect`."""
    from podpy.engine import image_inspect

    return image_inspect.inspect(ctx, name)


def history(ctx: Context, name: str) -> tuple[Any, ...]:
    """The steps it was made in: see :func:`podpy.engine.image_inspect.history`."""
    from podpy.engine import image_inspect

    return image_inspect.history(ctx, name)


def load(ctx: Context, path: str = "", *, platform: str = "") -> tuple[str, ...]:
    """Bring in the images of an archive; their names, ids (``sha256:…``) where they have none."""
    from podpy.engine import archiving

    found = archiving.load(ctx, path, platform=platform)
    return tuple(text for one in found for text in one.names or (f"sha256:{one.id}",))


def save(ctx: Context, names: Sequence[str], output: str = "", *, format: str = "") -> None:
    """Write images as an archive: see :func:`podpy.engine.saving.save`."""
    from podpy.engine import saving

    saving.save(ctx, names, output, format=format)


def import_(
    ctx: Context,
    source: str,
    reference: str = "",
    *,
    change: Sequence[str] = (),
    message: str = "",
    arch: str = "",
    os: str = "",
    variant: str = "",
) -> str:
    """Make an image of a root file system archive; returns its id."""
    from podpy.engine import archiving, platforms

    where: Platform = platforms.wanted(os=os, arch=arch, variant=variant)
    return archiving.import_(
        ctx, source, reference, message=message, change=tuple(change), platform=where
    )
