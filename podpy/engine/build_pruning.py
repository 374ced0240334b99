"""``builder prune`` and ``buildx du``: what builds keep, and making room.

Kept are results of steps (``regular``: records that name a layer), cache mounts
(``exec.cachemount``: directories of ``RUN --mount=type=cache``), downloads
(``source.http``) and the digests of contexts' files (``source.local``).  A layer
that an image has too takes no room of its own: it is *shared*.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

from podpy import files
from podpy.build import cache, cache_mounts, leftovers, remote, scan
from podpy.engine import image_removal, values
from podpy.engine.context import Outcome
from podpy.errors import Conflict, PodpyError, StoreError, UsageError
from podpy.records import record
from podpy.storage import indexes, layers, manifests, names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from podpy.engine.context import Context
    from podpy.paths import Store

    Test = Callable[["Kept"], bool]

REGULAR = "regular"
MOUNT = "exec.cachemount"
DOWNLOAD = "source.http"
DIGESTS = "source.local"
KINDS = (REGULAR, MOUNT, DOWNLOAD, DIGESTS)
FILTERS = (
    "description", "id", "immutable", "inuse", "mutable", "private", "shared", "type", "until",
    "unused-for",
)  # fmt: skip


@record
class Kept:
    """Something builds keep.

    ``keys`` are the cache's records that lead to it, ``files`` what it is made of
    where no record does.
    """

    id: str
    kind: str
    description: str = ""
    size: int = 0
    created: float = 0.0
    used: float = 0.0
    shared: bool = False
    keys: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    mount: cache_mounts.Kept | None = None


def listed(ctx: Context, filters: Sequence[str] = ()) -> tuple[Kept, ...]:
    """What builds keep and the filters let through, the least recently used first."""
    tests = _tests(filters)
    found = [*_results(ctx.store), *_mounts(), *_downloads(), *_digests()]
    chosen = [kept for kept in found if all(test(kept) for test in tests)]
    return tuple(sorted(chosen, key=lambda kept: (kept.used, kept.id)))


def prune(
    ctx: Context, *, all: bool = False, filters: Sequence[str] = (), keep: str = ""
) -> tuple[Outcome, ...]:
    """Forget results and mounts and delete what they kept.

    Without ``all`` what images share stays, as forgetting it wins no room.
    ``keep`` is a size: the most recently used stay until they take that much.
    """
    room = values.size(keep, "--keep-storage") if keep else 0
    candidates = [kept for kept in listed(ctx, filters) if all or not kept.shared]
    total = sum(kept.size for kept in candidates)
    done: list[Outcome] = []
    for kept in candidates:
        if room and total <= room:
            break
        total -= kept.size
        done.append(_forget(ctx.store, kept))
    leftovers.sweep(ctx.store)
    image_removal.sweep(ctx.store)
    return tuple(done)


def _forget(store: Store, kept: Kept) -> Outcome:
    for key in kept.keys:
        cache.forget(store, key)
    for path in kept.files:
        files.unlink(path)
    if kept.mount is not None and not cache_mounts.remove(kept.mount):
        return Outcome(name=kept.id, error=Conflict(f"{kept.id}: a build uses this cache mount"))
    return Outcome(name=kept.id, freed=0 if kept.shared else kept.size)


# --- what there is -----------------------------------------------------------


def _results(store: Store) -> Iterable[Kept]:
    """One for each layer, whatever number of records leads to it; one for each record without."""
    shared = _layers_of_images(store)
    grouped: dict[str, list[cache.Entry]] = {}
    for entry in cache.every(store):
        grouped.setdefault(entry.diff_id or entry.key, []).append(entry)
    for entries in grouped.values():
        first = min(entries, key=lambda entry: entry.key)
        yield Kept(
            id=first.key[:25],
            kind=REGULAR,
            description=first.text,
            size=_layer_size(store, first),
            created=min(entry.created for entry in entries),
            used=max(entry.used for entry in entries),
            shared=first.diff_id in shared,
            keys=tuple(entry.key for entry in entries),
        )


def _layers_of_images(store: Store) -> set[str]:
    found: set[str] = set()
    for name in names.read_all(store):
        with suppress(PodpyError):  # a damaged image has no layers
            for image in (name, *indexes.siblings(store, name)):
                found.update(manifests.load(store, image).diff_ids)
    return found


def _layer_size(store: Store, entry: cache.Entry) -> int:
    """Bytes of the tree and of the blob beside it."""
    if not entry.diff_id:
        return 0
    size = entry.blob.size if entry.blob else 0
    with suppress(StoreError, ValueError, OSError):
        size += layers.read(store, entry.diff_id).size
    return size


def _mounts() -> Iterable[Kept]:
    for mount in cache_mounts.every():
        name = os.path.basename(mount.path)
        yield Kept(
            id=name[:25] + name[64:], kind=MOUNT, description=f"cached mount {mount.id}",
            size=_size(mount.path), created=mount.created, used=mount.used, mount=mount,
        )  # fmt: skip


def _downloads() -> Iterable[Kept]:
    for found in remote.every():
        name = os.path.basename(found.paths[0])
        yield Kept(
            id=name[:25], kind=DOWNLOAD, description=f"download of {found.url or 'something'}",
            size=found.size, created=found.used, used=found.used, files=found.paths,
        )  # fmt: skip


def _digests() -> Iterable[Kept]:
    for path in scan.every():
        with suppress(FileNotFoundError):
            status = os.stat(path)
            yield Kept(
                id=os.path.basename(path)[:25], kind=DIGESTS, description="digests of a context",
                size=status.st_size, created=status.st_mtime, used=status.st_mtime, files=(path,),
            )  # fmt: skip


def _size(path: str) -> int:
    """Bytes below a directory; what cannot be read counts nothing."""
    size = 0
    for directory, _, found in os.walk(path):
        for name in found:
            with suppress(OSError):
                size += os.lstat(os.path.join(directory, name)).st_size
    return size


# --- filters -----------------------------------------------------------------


def _tests(filters: Sequence[str]) -> list[Test]:
    """Different keys must all match, of several values of one key any."""
    wanted = values.filters(filters, FILTERS)
    return [_any([_test(key, text) for text in texts]) for key, texts in wanted.items()]


def _any(tests: list[Test]) -> Test:
    return lambda kept: any(test(kept) for test in tests)


def _test(key: str, text: str) -> Test:
    option = f"--filter {key}"
    if key in ("until", "unused-for"):
        moment = values.moment(text, option, time.time())
        return lambda kept: kept.used < moment
    if key == "id":
        return lambda kept: bool(text) and kept.id.startswith(text[:25])
    if key == "description":
        return lambda kept: text in kept.description
    if key == "type":
        if text not in KINDS:
            raise UsageError(f"{option}: unknown type {text!r}", hint=f"one of {', '.join(KINDS)}")
        return lambda kept: kept.kind == text
    asked = values.boolean(text, option)
    if key in ("shared", "private"):
        return lambda kept: kept.shared == (asked if key == "shared" else not asked)
    if key == "inuse":
        return lambda kept: not asked  # a running build holds what it uses by other means
    is_mutable = asked if key == "mutable" else not asked
    return lambda kept: (kept.kind == MOUNT) == is_mutable
