"""``build --manifest``: images of one name for several platforms, built one after the other."""

from __future__ import annotations

from podpy import files
from podpy.engine import build_changes, build_publish, platforms
from podpy.errors import Conflict
from podpy.model import Descriptor, Platform
from podpy.records import from_dict, replace
from podpy.storage import content, events, manifests, names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from podpy.engine.build_options import BuildOptions
    from podpy.engine.build_publish import Made
    from podpy.engine.context import Context
    from podpy.storage.collect import Pins
    from podpy.storage.names import Name


def add(
    ctx: Context,
    pins: Pins,
    reference: str,
    stored: Name,
    *,
    made: Sequence[Made],
    options: BuildOptions,
) -> Name:
    """Add the images ``stored`` stands for to the list of this name, made where it is missing.

    They take the place of those for the same platforms.
    """
    before = names.read(ctx.store, reference)
    if before is not None and not before.made:
        raise Conflict(
            f"{reference}: is an image that was pulled, with others of its list elsewhere",
            hint=f"choose another name, or `podpy rmi {reference}` first",
        )
    new = _entries(ctx, stored, made[0].platform, options)
    old = [] if before is None else _entries(ctx, before, None, None)
    kept = _others(old, {_platform(entry) for entry in new})
    document: dict[str, Any] = {
        "schemaVersion": 2, "mediaType": manifests.OCI_INDEX, "manifests": [*kept, *new],
    }  # fmt: skip
    if notes := build_changes.of_index(options):
        document["annotations"] = notes
    index = build_publish.put_document(ctx, pins, files.dumps(document).encode())
    main = stored
    if before is not None and not _is_ours(made) and _is_kept(before, kept):
        main = before  # the image that a command of this host means by the name
    listed = replace(main, reference=reference, index=index, created=stored.created, made=True)
    names.write(ctx.store, listed)
    events.image(ctx.store, "build", stored.image, reference)
    return listed


def _is_ours(made: Sequence[Made]) -> bool:
    return any(platforms.fits(one.platform, platforms.host()) for one in made)


def _is_kept(before: Name, kept: Sequence[dict[str, Any]]) -> bool:
    found = [entry for entry in kept if entry["digest"] == before.manifest.digest]
    own = platforms.host()
    return any(platforms.fits(from_dict(Platform, _described(entry)), own) for entry in found)


def _described(entry: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = entry.get("platform") or {}
    return found


def _platform(entry: dict[str, Any]) -> tuple[str, ...]:
    about = _described(entry)
    return tuple(about.get(key, "") for key in ("os", "architecture", "variant"))


def _others(entries: Sequence[dict[str, Any]], taken: set[tuple[str, ...]]) -> list[dict[str, Any]]:
    """Those for other platforms, and the attestations about them."""
    images = [e for e in entries if _platform(e)[0] != "unknown" and _platform(e) not in taken]
    digests = {entry["digest"] for entry in images}
    about = build_publish.SUBJECT
    said = [e for e in entries if (e.get("annotations") or {}).get(about) in digests]
    return images + said


def _entries(
    ctx: Context, name: Name, platform: Platform | None, options: BuildOptions | None
) -> list[dict[str, Any]]:
    """What an index says, or would say, of the images of a name."""
    if name.index is not None:
        data = content.read_blob(ctx.store, name.index.digest)
        found: list[dict[str, Any]] = manifests.parse(data, "image index")["manifests"]
        return found
    entry: dict[str, Any] = {
        "mediaType": name.manifest.media_type,
        "digest": name.manifest.digest,
        "size": name.manifest.size,
    }
    platform = platform or _platform_of(ctx, name)
    entry["platform"] = {"architecture": platform.architecture, "os": platform.os}
    if platform.variant:
        entry["platform"]["variant"] = platform.variant
    if options is not None and (notes := build_changes.of_entry(options, platform)):
        entry["annotations"] = notes
    return [entry]


def _platform_of(ctx: Context, name: Name) -> Platform:
    found: Descriptor = name.manifest
    return found.platform or manifests.load(ctx.store, name).platform
