"""New volumes get what the image has at their place, on their first start.

::

    P   marker "filling" with its identity      a kill from here on leaves a stale
    I   copies, as root of the container        marker: the next start empties the
    S   the record says "filled", marker gone   volume and fills it again
        the payload starts

The payload never ran while the marker is there, so what a stale one covers is
nobody's data; and no other container is started with the volume until the
marker is gone.
"""

from __future__ import annotations

import os

from podpy import files
from podpy.engine import rootfs
from podpy.errors import StateError
from podpy.kernel import process
from podpy.model import ProcessIdentity
from podpy.records import from_dict, record, to_dict
from podpy.storage import staging, volumes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from podpy.kernel.userns import IdMap
    from podpy.model import ContainerRecord, Mount
    from podpy.paths import Store

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NAP = 0.02


@record
class Fill:
    """One volume to fill: an operation among the mounts (see :mod:`podpy.kernel.mounts`)."""

    volume: str
    destination: str
    data: str

    def describe(self) -> str:
        return f"fill volume {self.volume} from {self.destination}"

    def prepare(self) -> tuple[int, ...]:
        return (os.open(self.data, _DIRECTORY),)

    def execute(self, root_fd: int, prepared: tuple[int, ...] = ()) -> None:
        (target,) = prepared or self.prepare()
        try:
            volumes.fill(root_fd, self.destination, target)
        finally:
            os.close(target)


def plan(store: Store, record: ContainerRecord, wanted: IdMap) -> tuple[Fill, ...]:
    """The volumes of a container that are new and empty, reserved for it.

    ``wanted`` is the map of its user namespace, whose root they belong to
    where it does not know the caller.  Ends by :func:`complete` before the
    payload starts, or by :func:`abandon`.
    """
    mounts = [mount for mount in record.mounts if mount.type == "volume"]
    # In one order, so that no two starts wait for each other.
    for name in sorted({mount.source for mount in mounts}):
        _await_others(store, name)
    mounts = [mount for mount in mounts if not mount.subpath]
    mounts.sort(key=lambda mount: mount.source)
    chosen = [mount for mount in mounts if "nocopy" not in mount.options and _reserve(store, mount)]
    _give(store, [*chosen, *(mount for mount in mounts if "nocopy" in mount.options)], wanted)
    if chosen:
        # Imported before the fork: nothing is imported in the container's namespaces.
        from podpy.storage import copying  # noqa: F401
    return tuple(
        Fill(
            volume=mount.source,
            destination=mount.destination,
            data=volumes.data_path(store, mount.source),
        )
        for mount in chosen
    )


def _give(store: Store, mounts: Iterable[Mount], wanted: IdMap) -> None:
    """New volumes are the container root's, even where the caller is nobody to it."""
    strange = []
    for mount in mounts:
        path = volumes.data_path(store, mount.source)
        if not wanted.knows_user(os.stat(path).st_uid) and volumes.needs_filling(
            store, mount.source
        ):
            strange.append(path)
    if strange:
        rootfs.give_to_root(strange, wanted)


def _reserve(store: Store, mount: Mount) -> bool:
    marker = _marker(store, mount.source)
    while volumes.needs_filling(store, mount.source):
        if files.create_exclusive(marker, files.dumps(to_dict(process.identity()))):
            return True
        if _owner(marker) == process.identity():
            return False  # mounted at two places
        _await_others(store, mount.source)
    return False


def _await_others(store: Store, name: str) -> None:
    """Wait while another start fills a volume; undo what one that was killed has left.

    Should it fail, it empties the volume: nobody else may have written there.
    """
    marker = _marker(store, name)
    while os.path.exists(marker):
        owner = _owner(marker)
        if owner == process.identity():
            return
        with process.Pidfd(owner) as other:
            if other:
                other.ended(_NAP)
                continue
        with volumes.lock(store, name):
            if os.path.exists(marker) and _owner(marker) == owner:
                _empty(store, name)


def _marker(store: Store, name: str) -> str:
    return f"{volumes.path_of(store, name)}/filling"


def _owner(marker: str) -> ProcessIdentity | None:
    try:
        return from_dict(ProcessIdentity, files.loads(files.read_bytes(marker)))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _empty(store: Store, name: str) -> None:
    """Back to a new volume: what is there was copied by a start that never came to its end."""
    # In its place: only the owner of a directory may move it to another one, and that is
    # whoever has it in the image.
    staging.remove_tree(volumes.data_path(store, name))
    os.mkdir(volumes.data_path(store, name))
    os.chmod(volumes.data_path(store, name), 0o755)
    files.unlink(_marker(store, name))


def complete(store: Store, fills: Iterable[Fill], owner: ProcessIdentity) -> None:
    """The copies that ``owner`` reserved are made: from now on the volumes are as they are.

    Called by S.  P may have been killed meanwhile, and another start have
    emptied the volume: what we have mounted is not it any more.
    """
    for fill in fills:
        with volumes.lock(store, fill.volume):
            if _owner(_marker(store, fill.volume)) != owner:
                raise StateError(f"volume {fill.volume}: another start has taken it over")
            volumes.mark_filled(store, fill.volume)
            files.unlink(_marker(store, fill.volume))


def abandon(store: Store, fills: Iterable[Fill]) -> None:
    """The start failed: undo what was copied, unless it was completed before."""
    for fill in fills:
        with volumes.lock(store, fill.volume):
            if _owner(_marker(store, fill.volume)) == process.identity():
                _empty(store, fill.volume)
