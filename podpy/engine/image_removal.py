"""``rmi`` and ``image prune``: names go first, then whatever no name reaches any more.

Names of an image are taken away under its lock, after looking for containers.
A container that is made at that moment keeps its layers, as its record names
them (:func:`podpy.storage.collect.collect`).  A kill between the two steps leaves
blobs and layers without a name, which the next removal or ``prune`` collects.
"""

from __future__ import annotations

from contextlib import suppress

from podpy import files
from podpy.engine import image_listing, images, values
from podpy.engine.context import Outcome
from podpy.errors import Conflict, ImageError, NotFound, PodpyError, StoreError, UsageError
from podpy.records import replace
from podpy.registry import partial
from podpy.storage import collect, containers, events, layers, manifests, names, staging

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from podpy.engine.context import Context
    from podpy.model import Container
    from podpy.paths import Store
    from podpy.storage.names import Name

PRUNE_FILTERS = ("dangling", "label", "label!", "until")


def remove(
    ctx: Context,
    names: Sequence[str],
    *,
    force: bool = False,
    all: bool = False,
    ignore: bool = False,
    prune: bool = True,
) -> tuple[Outcome, ...]:
    """Take names away, and images that have none left.

    Each thing done is an outcome: ``Untagged: NAME``, ``Deleted: sha256:ID``.
    ``force`` removes an image with all its names, and one that stopped
    containers stand on (they keep its layers); never that of a live container.
    ``prune`` also removes the dangling images it was made from.
    """
    if all == bool(names):
        raise UsageError("rmi: give images, or --all and no image")
    targets = names or sorted({image.id for image in image_listing.list(ctx)})
    done: list[Outcome] = []
    for text in targets:
        try:
            done += _remove_one(ctx, text, force=force or all, prune=prune)
        except NotFound as error:
            if not ignore:
                done.append(Outcome(name=text, error=error))
        except PodpyError as error:
            done.append(Outcome(name=text, error=error))
    if any(outcome.error is None for outcome in done):
        sweep(ctx.store)
    return tuple(done)


def sweep(store: Store) -> list[str]:
    """Delete blobs and layers that nothing reaches, and what dead processes left in ``tmp/``.

    While the record of a container is damaged, nobody knows what it stands on: all stays.
    """
    staging.sweep(store)
    if any(container.problem for container in containers.every(store)):
        return []
    return collect.collect(
        store, lambda: {layer for c in containers.every(store) for layer in c.record.layers}
    )


def _remove_one(ctx: Context, text: str, *, force: bool, prune: bool) -> Iterator[Outcome]:
    """One argument: a tag of several goes alone, otherwise the image with it."""
    try:
        found = images.find_name(ctx, text)
    except (names.DamagedName, NotFound):
        gone = names.drop_damaged(ctx.store, images.references_of(ctx, text)) if force else ""
        if not gone:
            raise
        return iter((Outcome(name=f"Untagged: {gone}"),))
    with files.lock(f"{ctx.store.locks}/image.{found.image}"):
        known = [name for name in names.read_all(ctx.store) if name.image == found.image]
        if not known:
            raise NotFound(f"{text}: image not known")
        by_id = found.image.startswith(text.removeprefix("sha256:"))
        tags = [name.reference for name in known if name.reference]
        if not by_id and len(tags) > 1:
            names.remove(ctx.store, found)
            return iter((_untagged(ctx, found),))
        if by_id and len(tags) > 1 and not force:
            raise Conflict(
                f"{text}: unable to delete image by id with more than one tag ({', '.join(tags)})",
                hint="name one of the tags, or force the removal with -f",
            )
        _check_unused(ctx, found, force=force)
        parents = _dangling_parents(ctx, found) if prune else []
        for name in known:
            names.remove(ctx.store, name)
    done = [_untagged(ctx, name) for name in known if name.reference]
    done.append(_deleted(ctx, found))
    for parent in parents:
        done += _remove_parent(ctx, parent)
    return iter(done)


def _pruned(text: str, name: Name) -> Outcome:
    return Outcome(name=text, id=name.image)


def _untagged(ctx: Context, name: Name) -> Outcome:
    events.image(ctx.store, "untag", name.image, name.reference)
    return Outcome(name=f"Untagged: {name.reference}", id=name.image)


def _deleted(ctx: Context, name: Name) -> Outcome:
    events.image(ctx.store, "delete", name.image, name.reference)
    return Outcome(name=f"Deleted: sha256:{name.image}", id=name.image)


def _users(ctx: Context, image_id: str) -> list[Container]:
    return [c for c in containers.every(ctx.store) if c.record.image_id == image_id]


def _check_unused(ctx: Context, name: Name, *, force: bool) -> None:
    """Docker's rule: a stopped container can be overruled, a live one cannot."""
    users = _users(ctx, name.image)
    live = [c for c in users if c.status.is_live]
    shown = name.reference or name.image[:12]
    if live:
        raise Conflict(
            f"{shown}: image is in use by running container {live[0].record.name}",
            hint=f"`podpy rm -f {live[0].record.name}` first",
        )
    if users and not force:
        raise Conflict(
            f"{shown}: image is in use by container {users[0].record.name}",
            hint=f"`podpy rm {users[0].record.name}` first, or force the removal with -f",
        )


def _dangling_parents(ctx: Context, found: Name) -> list[Name]:
    """Unnamed images whose layers are the lower part of this one's, and of no other's."""
    try:
        stack = manifests.load(ctx.store, found).diff_ids
    except (StoreError, ImageError):
        return []
    parents: list[tuple[Name, tuple[str, ...]]] = []
    others: list[tuple[Name, tuple[str, ...]]] = []
    for name in names.read_all(ctx.store):
        if name.image == found.image:
            continue
        try:
            layers = manifests.load(ctx.store, name).diff_ids
        except (StoreError, ImageError):
            continue
        is_parent = name.is_dangling and len(layers) < len(stack) and _starts(stack, layers)
        (parents if is_parent else others).append((name, layers))
    return [
        name for name, layers in parents if not any(_starts(other, layers) for _, other in others)
    ]


def _starts(stack: tuple[str, ...], layers: tuple[str, ...]) -> bool:
    return stack[: len(layers)] == layers


def _remove_parent(ctx: Context, name: Name) -> list[Outcome]:
    with files.lock(f"{ctx.store.locks}/image.{name.image}"):
        if _users(ctx, name.image):
            return []
        names.remove(ctx.store, name)
    return [_deleted(ctx, name)]


def prune(ctx: Context, *, all: bool = False, filters: Sequence[str] = ()) -> tuple[Outcome, ...]:
    """Remove dangling images (``all``: every image) that no container stands on."""
    dangling = values.filters(filters, PRUNE_FILTERS).get("dangling", ())
    all = all or any(not values.boolean(text, "--filter dangling") for text in dangling)
    wishes = [text for text in filters if not text.startswith("dangling=")]
    done: list[Outcome] = []
    before = _layer_sizes(ctx.store)
    for image in image_listing.list(ctx, filters=wishes):
        if image.names and not all:
            continue
        with files.lock(f"{ctx.store.locks}/image.{image.id}"):
            if _users(ctx, image.id):
                continue
            gone = [name for name in names.read_all(ctx.store) if name.image == image.id]
            for name in gone:
                names.remove(ctx.store, name)
        done += [_pruned(f"untagged: {name.reference}", name) for name in gone if name.reference]
        done += [_pruned(f"deleted: sha256:{name.image}", name) for name in gone[:1]]
        for name in gone[:1]:
            _deleted(ctx, name)
    removed = sweep(ctx.store)
    partial.sweep()
    if done:
        freed = sum(before.get(digest, 0) for digest in removed)
        done[-1] = replace(done[-1], freed=freed)
    return tuple(done)


def _layer_sizes(store: Store) -> dict[str, int]:
    """Diff id → bytes of its tree, for every layer of the store that can be read."""
    found = {}
    for digits in files.list_directory(store.layers):
        with suppress(StoreError, ValueError):  # what is damaged must not keep it from going
            found[f"sha256:{digits}"] = layers.read(store, f"sha256:{digits}").size
    return found
