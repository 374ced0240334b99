"""Networks: ``networks/<name>.json``, one record each.

Readers never lock.  Making, changing and removing networks is done under
:func:`lock`, so that two new ones do not choose the same subnet.
"""

from __future__ import annotations

import os

from podpy import files, records
from podpy.errors import Conflict, NotFound, StoreError, UsageError
from podpy.netmodel import Network

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from podpy.paths import Store

VERSION = 1
_FIRST = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")
_REST = _FIRST | frozenset("_.-")
_LIMIT = 200
_SUFFIX = ".json"


def is_name(text: str) -> bool:
    """docker's and podman's rule: a letter or digit, then those and ``_``, ``.``, ``-``."""
    return 0 < len(text) <= _LIMIT and text[0] in _FIRST and _REST.issuperset(text)


def _path(store: Store, name: str) -> str:
    """The one door from a name to a path."""
    if not is_name(name):
        raise UsageError(
            f"network name {name!a}: names must match [a-zA-Z0-9][a-zA-Z0-9_.-]*: invalid argument"
        )
    return f"{store.networks}/{name}{_SUFFIX}"


class lock(files.lock):
    """Held by whoever makes, changes or removes a network; not by who starts a container."""

    def __init__(self, store: Store) -> None:
        store.prepare()
        super().__init__(f"{store.locks}/networks")

    def __exit__(self, *exc: object) -> None:
        self.remove()  # nothing is left of it; whoever waits makes a new one
        super().__exit__(*exc)


def create(store: Store, network: Network) -> None:
    """Make a network's record; :class:`Conflict` when there is one of that name."""
    path = _path(store, network.name)
    files.make_directory(store.networks)
    if not files.create_exclusive(path, files.dumps(records.to_dict(network)) + "\n"):
        raise Conflict(f"network name {network.name} already used: network already exists")
    files.sync_directory(store.networks)


def write(store: Store, network: Network) -> None:
    """Replace a network's record, or make it."""
    files.make_directory(store.networks)
    files.write_json(_path(store, network.name), records.to_dict(network), durable=True)


def find(store: Store, name: str) -> Network | None:
    """The record of exactly that name, if there is one; :class:`StoreError` when it is damaged."""
    if not is_name(name):
        return None
    try:
        values = files.read_json(_path(store, name))
    except FileNotFoundError:
        return None
    except StoreError as error:
        raise _damaged(name, error.message) from None
    try:
        if values.get("version", 0) > VERSION:
            raise StoreError(
                f"network {name}: its record was written by a newer podpy",
                hint="use that podpy, or a newer one",
            )
        found = records.from_dict(Network, values)
    except (AttributeError, TypeError, ValueError) as error:
        raise _damaged(name, str(error)) from None
    if found.name != name:
        raise _damaged(name, f"it is that of {found.name}")
    return found


def _damaged(name: str, reason: str) -> StoreError:
    return StoreError(
        f"network {name}: its record is damaged: {reason}",
        hint=f"`podpy network rm -f {name}` removes it",
    )


def names(store: Store) -> list[str]:
    """The names of all networks that have a record, whole or damaged, sorted."""
    found = (name for name in files.list_directory(store.networks) if name.endswith(_SUFFIX))
    return [name.removesuffix(_SUFFIX) for name in found]


def every(store: Store) -> Iterator[Network]:
    """All networks by name, without those that are damaged."""
    for name in names(store):
        try:
            found = find(store, name)
        except StoreError:
            continue
        if found is not None:
            yield found


def remove(store: Store, name: str) -> None:
    """Delete a network's record; :class:`NotFound` when there is none."""
    try:
        os.unlink(_path(store, name))
    except FileNotFoundError:
        raise missing(name) from None
    files.sync_directory(store.networks)


def missing(name: str) -> NotFound:
    return NotFound(f"unable to find network with name or ID {name}: network not found")
