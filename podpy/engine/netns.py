"""Containers in a network namespace that somebody else made (``--network ns:PATH``)."""

from __future__ import annotations

from podpy.errors import StateError, UsageError
from podpy.kernel.userns import IdMap
from podpy.model import UserNamespace
from podpy.records import replace
from podpy.runtime import netns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podpy.model import ContainerRecord
    from podpy.runtime.netns import NetworkPath

_MODE = "ns"


def settle(planned: ContainerRecord) -> ContainerRecord:
    """The record with the ids of the user namespace that it will live in: its files need them."""
    id_map = netns.examine(planned.network.target).id_map
    if id_map is None:
        return planned
    lives = f"a container in the network namespace {planned.network.target} lives in the user"
    if planned.lenders:
        raise UsageError(f"--network: {lives} namespace that owns it, and cannot join another's")
    if planned.user_namespace.mode != "host":
        raise UsageError(f"--userns: {lives} namespace that owns it: leave the option out")
    space = UserNamespace(mode=_MODE, uid_map=id_map.uid, gid_map=id_map.gid)
    return replace(planned, user_namespace=space)


def of(record: ContainerRecord) -> NetworkPath:
    """The namespace that a container joins now."""
    found = netns.examine(record.network.target)
    space = record.user_namespace
    made_for = IdMap(uid=space.uid_map, gid=space.gid_map) if space.mode == _MODE else None
    if found.id_map != made_for:
        raise StateError(
            f"--network ns:{found.path}: the user namespace that owns it has other ids than when"
            f" container {record.name} was made",
            hint="make the container anew: `podpy run --replace`",
        )
    return found
