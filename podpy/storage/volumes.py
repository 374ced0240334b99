"""Named volumes: ``volumes/<name>/`` with ``volume.json`` and ``_data/``.

A volume that is new and empty when a container first mounts it is filled with
what the image has at that place (:func:`needs_filling`, :func:`fill`).
"""

from __future__ import annotations

import os
import time

from podpy import files, records
from podpy.errors import Conflict, NotFound, StoreError, UsageError
from podpy.model import Volume
from podpy.records import EMPTY
from podpy.storage import staging

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from podpy.paths import Store

VERSION = 1
_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")
_NAME = _LETTERS | frozenset("_.-")
_MAX_NAME = 255


def is_name(text: str) -> bool:
    """Docker's rule: a letter or digit, then letters, digits, ``_``, ``.`` and ``-``."""
    return 0 < len(text) <= _MAX_NAME and text[0] in _LETTERS and _NAME.issuperset(text)


def path_of(store: Store, name: str) -> str:
    """The directory of a volume; the one door from a name to a path."""
    if not is_name(name):
        raise UsageError(
            f"volume {name!a}: invalid name",
            hint="a letter or digit first, then letters, digits, '_', '.' and '-'",
        )
    return f"{store.volumes}/{name}"


def data_path(store: Store, name: str) -> str:
    return f"{path_of(store, name)}/_data"


def exists(store: Store, name: str) -> bool:
    return is_name(name) and os.path.exists(f"{store.volumes}/{name}/volume.json")


def create(
    store: Store,
    name: str = "",
    *,
    labels: Mapping[str, str] = EMPTY,
    options: Mapping[str, str] = EMPTY,
    anonymous: bool = False,
) -> Volume:
    """Make a volume; without a name it gets 64 random digits.

    Raises :class:`Conflict` when there is one of that name.
    """
    for option in options:
        raise UsageError(
            f"volume option {option!a}: the local driver has no options without root",
            hint="use --tmpfs or a bind mount (-v /path:/path) for a container",
        )
    name = name or os.urandom(32).hex()
    place = path_of(store, name)
    made = Volume(name=name, created=time.time(), anonymous=anonymous, labels=dict(labels))
    store.prepare()
    staged = staging.create(store, "volume")
    try:
        os.mkdir(f"{staged}/_data", 0o755)
        os.chmod(f"{staged}/_data", 0o755)  # whatever the umask is
        _write(staged, made)
        os.rename(staged, place)
    except OSError:
        staging.remove_tree(staged)
        if exists(store, name):
            raise Conflict(f"volume with name {name} already exists") from None
        raise
    files.sync_directory(store.volumes)
    return _located(store, made)


def _write(directory: str, volume: Volume) -> None:
    values = records.to_dict(records.replace(volume, mountpoint=""))
    files.write_json(f"{directory}/volume.json", values, durable=True)


def _located(store: Store, volume: Volume) -> Volume:
    """Records hold no paths: the store can be moved."""
    return records.replace(volume, mountpoint=data_path(store, volume.name))


def read(store: Store, name: str) -> Volume:
    """The record of a volume; :class:`NotFound` when there is none of exactly that name."""
    if not is_name(name):
        raise NotFound(f"no such volume: {name}")
    try:
        values = files.read_json(f"{store.volumes}/{name}/volume.json")
    except FileNotFoundError:
        raise NotFound(f"no such volume: {name}") from None
    except StoreError as error:
        raise _damaged(name, error.message) from None
    try:
        if values.get("version", 0) > VERSION:
            raise StoreError(f"volume {name}: its record was written by a newer podpy")
        return _located(store, records.from_dict(Volume, values))
    except (AttributeError, TypeError, ValueError) as error:
        raise _damaged(name, str(error)) from None


def _damaged(name: str, reason: str) -> StoreError:
    return StoreError(
        f"volume {name}: its record is damaged: {reason}",
        hint=f"`podpy volume rm {name}` removes it and its data",
    )


def every(store: Store) -> Iterator[Volume]:
    """All volumes by name, damaged ones too; one that vanishes meanwhile is left out."""
    for name in files.list_directory(store.volumes):
        try:
            yield read(store, name)
        except NotFound:
            continue
        except StoreError:
            yield _located(store, Volume(name=name, created=0.0))


def remove(store: Store, name: str) -> None:
    """Delete a volume and its data: out of sight at once, then for good."""
    if not exists(store, name):
        raise NotFound(f"no such volume: {name}")
    staging.discard(store, path_of(store, name))


# --- filling from an image -----------------------------------------------------


def needs_filling(store: Store, name: str) -> bool:
    """A volume that was never filled and has nothing in it."""
    if read(store, name).filled:
        return False
    try:
        return not os.listdir(data_path(store, name))
    except PermissionError:
        return False  # a container owns the directory already


def mark_filled(store: Store, name: str) -> None:
    """From now on the volume stays as it is, even when it is empty; under :func:`lock`."""
    volume = read(store, name)
    if not volume.filled:
        _write(path_of(store, name), records.replace(volume, filled=True))


def lock(store: Store, name: str) -> files.lock:
    """The volume's own lock: around what changes whose it is to fill."""
    return files.lock(f"{store.locks}/volume.{name}")


def fill(root: int, destination: str, data: int) -> None:
    """Copy what a root file system has at ``destination`` into a volume's data directory.

    ``root`` and ``data`` are descriptors of directories.  Runs in the user and
    mount namespaces of the container, as their root, before the volume is
    mounted: owners, modes, attributes and links come along.  The image may
    have nothing there, or something that is no directory: then nothing is done.
    """
    from podpy.kernel import libc
    from podpy.storage import copying

    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    resolve = libc.RESOLVE_IN_ROOT | libc.RESOLVE_NO_MAGICLINKS
    try:
        source = libc.openat2(root, destination, flags, resolve=resolve)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        with copying.TreeCopy() as copy:
            copy.directory(source, data)
    finally:
        os.close(source)
