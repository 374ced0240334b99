"""The build cache: what a step made, under a key of all that it could see.

``<store>/build/<2 digits>/<key>.json`` names a layer; its tree and its blob lie
with those of images and stay as long as a record names them
(:mod:`podpy.storage.collect`).  A key is the digest of the parent's layers and of
everything the step reads: nothing in it says when or by which build it was
made, so that every build of the user finds it.  The file's access is told by
its modification time: a hit touches it, and pruning goes by that.
"""

from __future__ import annotations

import hashlib
import os
import time

from podpy import files, records
from podpy.build.model import StepResult
from podpy.errors import PodpyError
from podpy.model import Descriptor
from podpy.records import record
from podpy.storage import content, layers, overlay

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from podpy.paths import Store

VERSION = 1


@record
class Entry:
    """One record of the cache.

    ``diff_id`` is empty for a step that made no layer.  ``text`` is the
    instruction, for people; ``created`` is when the step ran.  ``used`` is the
    file's time and not in it.
    """

    version: int = VERSION
    diff_id: str = ""
    blob: Descriptor | None = None
    text: str = ""
    created: float = 0.0
    used: float = 0.0
    key: str = ""
    _nested = {"blob": Descriptor}


def directory(store: Store) -> str:
    return f"{store.root}/build"


def key_of(parts: Iterable[str | bytes]) -> str:
    """The digest of parts in their order; 64 hexadecimal digits."""
    made = hashlib.sha256(b"podpy build cache %d\n" % VERSION)
    for part in parts:
        data = os.fsencode(part) if isinstance(part, str) else part
        made.update(b"%d\n" % len(data))
        made.update(data)
    return made.hexdigest()


def chain(diff_ids: Sequence[str]) -> str:
    """One key part for layers on each other, lowest first."""
    return key_of(diff_ids)


def _path(store: Store, key: str) -> str:
    return f"{directory(store)}/{key[:2]}/{key}.json"


def read(store: Store, key: str) -> Entry | None:
    """The record of a key; None when there is none that can be read."""
    path = _path(store, key)
    try:
        values = files.read_json(path)
        used = os.stat(path).st_mtime
        if values.get("version") != VERSION:
            return None
        return records.from_dict(Entry, {**values, "used": used, "key": key})
    except (OSError, ValueError, TypeError, AttributeError, PodpyError):
        return None


def lookup(store: Store, key: str, *, max_age: float = 0.0) -> StepResult | None:
    """What a step with this key made, if its layer is whole; counts as a use.

    ``max_age`` (seconds, 0 for ever) is how long ago it may have been made.
    """
    found = read(store, key)
    if found is None or (max_age and time.time() - found.created > max_age):
        return None
    if found.diff_id and not _is_whole(store, found):
        return None
    try:
        os.utime(_path(store, key))
    except OSError:
        return None  # pruned meanwhile
    return StepResult(diff_id=found.diff_id, blob=found.blob, created=found.created, cached=True)


def _is_whole(store: Store, found: Entry) -> bool:
    """Its tree and blob are there, and complete after a power failure."""
    if found.blob is None or not layers.exists(store, found.diff_id):
        return False
    try:
        if os.stat(content.blob_path(store, found.blob.digest)).st_size != found.blob.size:
            return False
        overlay.lower_directories(store, (found.diff_id,))
    except (OSError, PodpyError):
        return False
    return True


def remember(store: Store, keys: Iterable[str], result: StepResult, text: str) -> None:
    """Record what a step made, under each of its keys."""
    entry = Entry(diff_id=result.diff_id, blob=result.blob, text=text, created=result.created)
    values = {
        name: value for name, value in records.to_dict(entry).items() if name not in ("used", "key")
    }
    for key in keys:
        path = _path(store, key)
        files.make_directory(os.path.dirname(path))
        files.write_json(path, values)


def every(store: Store) -> Iterator[Entry]:
    """All records that can be read, in the order of their keys."""
    for part in sorted(files.list_directory(directory(store))):
        for name in sorted(files.list_directory(f"{directory(store)}/{part}")):
            if name.endswith(".json"):
                found = read(store, name[:-5])
                if found is not None:
                    yield found


def forget(store: Store, key: str) -> bool:
    """Remove a record; its layer goes with the next collection unless something else has it."""
    return files.unlink(_path(store, key))
