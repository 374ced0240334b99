"""Images of the store: found and named.

:func:`find` is on the hot path of ``run``: three small files are read.
"""

from __future__ import annotations

import time

from podpy import files, records
from podpy.errors import Ambiguous, ImageError, NotFound, UsageError
from podpy.registry import reference as references
from podpy.registry import shortnames
from podpy.storage import content, events, manifests, names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from podpy.engine.context import Context
    from podpy.model import Image, Platform
    from podpy.paths import Store
    from podpy.storage.names import Name

_HEX = frozenset("0123456789abcdef")


def find(ctx: Context, name: str) -> Image:
    """The image that ``name`` means here: an id, a reference, a short name, an id's prefix.

    Raises :class:`NotFound` (``image not known``) or :class:`Ambiguous`.
    """
    return manifests.load(ctx.store, find_name(ctx, name))


def find_for(ctx: Context, name: str, asked: Platform) -> Image:
    """The image of a name for a platform; :class:`NotFound` when the store has another one.

    What was built for several platforms is here for all of them.
    """
    from podpy.engine import platforms
    from podpy.storage import indexes

    found = find_name(ctx, name)
    entries = indexes.entries(ctx.store, found)
    if entries:
        try:
            chosen = platforms.choose(entries, asked)
        except ImageError:
            raise NotFound(f"{name}: image not known for the platform {asked}") from None
        return manifests.load(ctx.store, indexes.named(ctx.store, found, chosen))
    image = manifests.load(ctx.store, found)
    if not platforms.fits(image.platform, asked):
        raise NotFound(f"{name}: image not known for the platform {asked}")
    return image


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
        candidates = _candidates(ctx, text)
    except UsageError:
        return None
    for candidate in candidates:
        found = names.read(ctx.store, candidate)
        if found is not None:
            return found
    if "@" in text:
        return _by_digest(ctx.store, candidates, text.rpartition("@")[2])
    return _by_suffix(ctx.store, text) if references.is_short(text) else None


def _candidates(ctx: Context, text: str) -> tuple[str, ...]:
    """The full references that a name as typed may mean, in the order they are tried."""
    return tuple(map(str, shortnames.local_candidates(text, ctx.config.registries)))


def references_of(ctx: Context, text: str) -> tuple[str, ...]:
    """What the file of a name may be called: a full reference, or ``@`` and a manifest's hex."""
    try:
        return _candidates(ctx, text)
    except UsageError:
        return (text,) if text[:1] == "@" and references.is_hex_id(text[1:]) else ()


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
        for other in _siblings(store, name):
            if other.image.startswith(prefix) or content.hex_of(other.manifest.digest) == prefix:
                found.setdefault(other.image, other)
    if len(found) > 1:
        raise Ambiguous(f"{prefix}: {len(found)} images have an id that starts like this")
    return next(iter(found.values()), None)


def _siblings(store: Store, name: Name) -> Iterable[Name]:
    """The images for other platforms that came with one that was made here."""
    if not name.made or name.index is None:
        return ()
    from podpy.storage import indexes

    return indexes.siblings(store, name)


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
            given = records.replace(found, reference=reference, created=time.time())
            names.write(ctx.store, given)
            events.image(ctx.store, "tag", given.image, reference)


def untag(ctx: Context, name: str, old_names: Sequence[str] = ()) -> None:
    """Take names from an image, all by default; the image stays, dangling in the end."""
    found = find_name(ctx, name)
    known = {n.reference: n for n in names.read_all(ctx.store) if n.image == found.image}
    gone = [_own_name(ctx, known, text) for text in old_names] or [
        given for given in known.values() if given.reference
    ]
    for given in gone:
        names.remove(ctx.store, given, keep_image=True)
        events.image(ctx.store, "untag", given.image, given.reference)


def _own_name(ctx: Context, known: Mapping[str, Name], text: str) -> Name:
    for candidate in _candidates(ctx, text):
        if candidate in known:
            return known[candidate]
    raise NotFound(f"{text}: tag not known")
