"""``image inspect`` and ``history``: an image as docker and podman describe it."""

from __future__ import annotations

from podpy.engine import image_listing, images
from podpy.records import record
from podpy.registry import reference as references
from podpy.storage import content, layers, manifests, names, overlay

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from podpy.engine.context import Context
    from podpy.model import Image
    from podpy.storage.names import Name


@record
class Step:
    """One line of ``history``; ``id`` is empty for steps that are no image of the store."""

    id: str = ""
    created: float = 0.0
    created_by: str = ""
    size: int = 0
    comment: str = ""
    tags: tuple[str, ...] = ()


# What templates may ask for although the image does not say it.
_SETTINGS: Mapping[str, Any] = {
    "User": "", "Env": [], "Entrypoint": [], "Cmd": [], "WorkingDir": "", "StopSignal": "",
    "ExposedPorts": {}, "Volumes": {}, "Labels": {}, "OnBuild": [],
}  # fmt: skip


def _config(ctx: Context, image: Image) -> dict[str, Any]:
    data = content.read_blob(ctx.store, f"sha256:{image.id}", content.CONFIG_LIMIT)
    return manifests.parse(data, f"image config {image.id}", content.CONFIG_LIMIT)


def _history(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What an image says of its making, as far as it has the specification's shape."""
    entries = config.get("history")
    return [e for e in entries if isinstance(e, dict)] if isinstance(entries, list) else []


def inspect(ctx: Context, name: str) -> dict[str, Any]:
    """The object of ``image inspect``: docker's keys, and podman's beside them."""
    found = images.find_name(ctx, name)
    image = manifests.load(ctx.store, found)
    config = _config(ctx, image)
    manifest = manifests.parse(content.read_blob(ctx.store, image.digest), "manifest")
    known = [n for n in names.read_all(ctx.store) if n.image == image.id]
    tags = [n.reference for n in known if n.reference and "@" not in n.reference]
    settings = config.get("config") or {}
    size = image_listing.tree_size(ctx.store, image, {})
    history = _history(config)
    return {
        "Id": f"sha256:{image.id}",
        "Digest": image.digest,
        "RepoTags": tags,
        "RepoDigests": _repo_digests(known),
        "Parent": "",
        "Comment": history[-1].get("comment", "") if history else "",
        "Created": config.get("created", ""),
        "Config": {**_SETTINGS, **{key: value for key, value in settings.items() if value}},
        "Version": config.get("docker_version", ""),
        "Author": config.get("author", ""),
        "Architecture": image.platform.architecture,
        "Variant": image.platform.variant,
        "Os": image.platform.os,
        "Size": size,
        "VirtualSize": size,
        "GraphDriver": _graph_driver(ctx, image),
        "RootFS": {"Type": "layers", "Layers": [*image.diff_ids]},
        "Labels": settings.get("Labels") or {},
        "Annotations": manifest.get("annotations") or {},
        "ManifestType": image.media_type,
        "User": image.config.user,
        "History": history,
        "NamesHistory": tags,
    }


def _repo_digests(known: list[Name]) -> list[str]:
    """Each repository with the digests it is known by: of the manifest and of the index."""
    found = []
    for name in known:
        if name.reference:
            repository = references.parse(name.reference).name
            for descriptor in (name.index, name.manifest):
                if descriptor is not None:
                    found.append(f"{repository}@{descriptor.digest}")
    return sorted(set(found))


def _graph_driver(ctx: Context, image: Image) -> dict[str, Any]:
    storage = ctx.config.storage
    driver = overlay.driver(ctx.store, storage.driver, storage.mount_program)
    lower = overlay.lower_directories(ctx.store, image.diff_ids)
    data = {"UpperDir": lower[0]}
    if len(lower) > 1:
        data["LowerDir"] = ":".join(lower[1:])
    return {"Name": driver.name, "Data": data}


def history(ctx: Context, name: str) -> tuple[Step, ...]:
    """The steps an image was made in, the last one first."""
    image = images.find(ctx, name)
    entries = _history(_config(ctx, image)) or [{} for _ in image.diff_ids]
    tags = tuple(
        n.reference for n in names.read_all(ctx.store) if n.image == image.id and n.reference
    )
    sizes = iter(layers.read(ctx.store, diff_id).size for diff_id in image.diff_ids)
    steps = []
    for entry in entries:
        steps.append(
            Step(
                created=manifests.timestamp(entry.get("created")) or image.created,
                created_by=str(entry.get("created_by", "")),
                size=0 if entry.get("empty_layer") else next(sizes, 0),
                comment=str(entry.get("comment", "")),
            )
        )
    steps.reverse()
    if steps:
        first = steps[0]
        steps[0] = Step(
            id=image.id, created=first.created, created_by=first.created_by,
            size=first.size, comment=first.comment, tags=tags,
        )  # fmt: skip
    return tuple(steps)
