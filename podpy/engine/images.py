"""Images of the store: found, listed, named and removed.

:func:`find` is on the hot path of ``run``: three small files are read.
"""

from __future__ import annotations

from podpy.errors import Ambiguous, NotFound, UsageError
from podpy.registry import reference as references
from podpy.storage import content, manifests, names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from podpy.engine.archiving import Loaded
    from podpy.engine.context import Context
    from podpy.model import Image, Platform
    from podpy.paths import Store
    from podpy.storage.names import Name


def find(ctx: Context, name: str) -> Image:
    """The image that ``name`` means here: an id, a reference, a short name, an id's prefix.

    Raises :class:`NotFound` (``image not known``) or :class:`Ambiguous`.
    """
    return manifests.load(ctx.store, find_name(ctx, name))


def find_name(ctx: Context, text: str) -> Name:
    """The name record that ``text`` stands for; see :func:`find` for the order."""
    store = ctx.store
    digits = text.removeprefix("sha256:")
    if references.is_hex_id(digits):
        found = _by_id(store, digits)
    else:
        found = _by_reference(ctx, text) or _by_id(store, digits)
    if found is None:
        raise NotFound(f"{text}: image not known")
    return found


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
    found = [n for n in names.read_all(store) if n.reference.endswith(tail)]
    return found[0] if found else None


def _by_id(store: Store, prefix: str) -> Name | None:
    """The image of an id or of a unique prefix of one; also a manifest's digest."""
    if not prefix or not set("0123456789abcdef").issuperset(prefix):
        return None
    found: dict[str, Name] = {}
    for name in names.read_all(store):
        if name.image.startswith(prefix) or content.hex_of(name.manifest.digest) == prefix:
            found.setdefault(name.image, name)
    if len(found) > 1:
        raise Ambiguous(f"{prefix}: {len(found)} images have an id that starts like this")
    return next(iter(found.values()), None)


def load(ctx: Context, path: str = "-") -> tuple[Loaded, ...]:
    """Bring the images of an archive, a layout directory or standard input (``-``) in."""
    from podpy.engine import archiving

    return archiving.load(ctx, path)


def import_(
    ctx: Context,
    source: str,
    reference: str = "",
    *,
    message: str = "",
    changes: tuple[str, ...] = (),
    platform: Platform | None = None,
) -> str:
    """Make an image of a root file system archive; returns its id."""
    from podpy.engine import archiving

    return archiving.import_(
        ctx, source, reference, message=message, changes=changes, platform=platform
    )
