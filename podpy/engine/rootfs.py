"""A container's root file system on this host: which driver, which directories, whose ids."""

from __future__ import annotations

import os
import stat

from podpy import files
from podpy.errors import HostError
from podpy.kernel import process, userns
from podpy.kernel.userns import IdMap
from podpy.records import replace
from podpy.runtime import spec
from podpy.storage import containers, overlay

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from podpy.engine.context import Context
    from podpy.model import ContainerRecord, IdMapping
    from podpy.storage.overlay import Driver


def driver(ctx: Context, name: str = "") -> Driver:
    """The storage driver to use: ``name``, the configured one, or the best that works."""
    storage = ctx.config.storage
    return overlay.driver(ctx.store, name or storage.driver, storage.mount_program)


def id_map(ctx: Context, record: ContainerRecord) -> IdMap:
    """The map of the user namespace a container lives in, its own or the one it joins."""
    wanted = record.user_namespace
    if wanted.mode == "container":
        return id_map(ctx, containers.resolve(ctx.store, wanted.target).record)
    if wanted.uid_map:
        return IdMap(uid=wanted.uid_map, gid=wanted.gid_map)
    return userns.root_map()


def plan(ctx: Context, record: ContainerRecord, directory: str, wanted: IdMap) -> spec.Rootfs:
    """How the root file system of a container is mounted now.

    Made before the first start: the mount point, and the upper directory's
    mode, which is that of the merged root.
    """
    mountpoint = f"{directory}/rootfs"
    files.make_directory(mountpoint)
    if record.rootfs and not record.rootfs_overlay:
        return spec.Rootfs(kind="bind", mountpoint=mountpoint, path=record.rootfs)
    if record.rootfs and record.driver == "vfs":
        raise HostError(
            f"--rootfs: {record.rootfs}:O needs an overlay, which this host's users have not",
            hint="copy the directory, and leave :O out",
        )
    # A copy made by another kernel or driver holds what the container changed.
    if not record.rootfs and (
        needs_copy(record.driver, wanted) or os.path.isdir(f"{directory}/vfs")
    ):
        return _copied(ctx, record, directory, wanted)
    layers = overlay.lower_directories(ctx.store, record.layers)
    lower = (record.rootfs,) if record.rootfs else layers
    _prepare_upper(directory, lower[0])
    made = spec.Rootfs(
        kind=record.driver,
        mountpoint=mountpoint,
        lower=lower,
        upper=f"{directory}/upper",
        work=f"{directory}/work",
        volatile=record.remove,
    )
    if record.driver == "fuse-overlayfs":
        return _by_fuse(ctx, made, userns.root_map() if record.rootfs else wanted)
    if record.rootfs:
        return made  # its owners are as they are: no image's ids
    return _shifted(ctx, made, wanted)


def needs_copy(driver: str, wanted: IdMap) -> bool:
    """Whether a driver can show images under the wanted map by copying them only.

    fuse-overlayfs runs in the container's user namespace: where that does not
    know all owners that layers have, it can neither read nor shift them.
    """
    if driver == "vfs":
        return True
    if wanted.covers(userns.root_map()):
        return False
    from podpy.storage import shadow

    return driver == "fuse-overlayfs" or not shadow.is_supported()


def _copied(ctx: Context, record: ContainerRecord, directory: str, wanted: IdMap) -> spec.Rootfs:
    """A copy of all layers, with the owners that the wanted map needs."""
    from podpy.storage import shadow, vfs

    base, path = userns.root_map(), f"{directory}/vfs"
    shifts = shadow.Shifts(base, wanted) if wanted != base else None
    vfs.ensure(ctx.store, record.layers, path, shifts)
    if shifts and os.stat(path).st_uid == os.geteuid():
        give_to_root((path,), wanted)
    return spec.Rootfs(kind="bind", mountpoint=f"{directory}/rootfs", path=path)


def _prepare_upper(directory: str, top: str) -> None:
    """The merged root has the upper directory's mode: give it the image's.

    A volatile overlay that was not unmounted cleanly leaves a mark in its work
    directory, and the kernel refuses to mount it again.
    """
    upper = f"{directory}/upper"
    mode = stat.S_IMODE(os.stat(top).st_mode)
    status = os.stat(upper)
    if status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) != mode:
        os.chmod(upper, mode)
    if os.path.isdir(f"{directory}/work/work/incompat"):
        files.remove_tree(f"{directory}/work/work/incompat")


def _shifted(ctx: Context, made: spec.Rootfs, wanted: IdMap) -> spec.Rootfs:
    """The same root file system seen through another map than the layers were extracted with."""
    base = userns.root_map()
    if wanted == base:
        return made
    _own_upper(made, wanted)
    from podpy.storage import shadow

    if not shadow.is_supported():
        fuse = driver(ctx, "fuse-overlayfs")
        return _by_fuse(ctx, replace(made, kind=fuse.name), wanted)
    layers = [os.path.dirname(path) for path in made.lower]
    return replace(made, lower=(shadow.ensure(ctx.store, layers, base, wanted),), data=made.lower)


def give_to_root(paths: Sequence[str], wanted: IdMap) -> None:
    """Make the root of the wanted map the owner of directories.

    Only a process that has both ids may, and the wanted map may lack ours.
    """
    from podpy.storage import shadow

    base = userns.root_map()
    shifts = shadow.Shifts(base, wanted)
    owner = shifts.uid(0), shifts.gid(0)
    if owner == (0, 0):
        return  # their root is the caller

    def give() -> int:
        for path in paths:
            os.chown(path, *owner)
        return 0

    if process.wait(userns.fork_mapped(give, base, mount_ns=False)):
        raise HostError(f"{paths[0]}: cannot be given to the container's root")


def _own_upper(made: spec.Rootfs, wanted: IdMap) -> None:
    """The merged root has the upper directory's owner: make that the container's root."""
    if os.stat(made.upper).st_uid == os.geteuid():
        give_to_root((made.upper, made.work), wanted)


def _by_fuse(ctx: Context, made: spec.Rootfs, wanted: IdMap) -> spec.Rootfs:
    """The same root file system, joined by fuse-overlayfs and seen through the wanted map."""
    program = driver(ctx, "fuse-overlayfs").program
    if not program:
        raise HostError(
            "storage driver fuse-overlayfs: the program is not installed",
            hint="install the package fuse-overlayfs",
        )
    base = userns.root_map()
    shift = "" if wanted == base else _fuse_mapping(base, wanted)
    # A directory of their own: the server is shown them and not the container's record.
    own = f"{os.path.dirname(made.mountpoint)}/fuse"
    for name in ("upper", "work"):
        files.make_directory(f"{own}/{name}", 0o755)
    os.chmod(f"{own}/upper", stat.S_IMODE(os.stat(made.lower[0]).st_mode))
    # The upper directory stays the caller's: by the mapping that is shown as the container's root.
    return replace(made, upper=f"{own}/upper", work=f"{own}/work", program=program, mapping=shift)


def _fuse_mapping(base: IdMap, wanted: IdMap) -> str:
    """fuse-overlayfs' ``uidmapping`` and ``gidmapping``: on disk, shown, count.

    Both numbers as the mounting namespace has them.  On disk lies what the
    default map made of an image's id; shown must be that id itself.
    """
    return (
        f",uidmapping={_triples(base.uid, wanted.uid)},gidmapping={_triples(base.gid, wanted.gid)}"
    )


def _triples(base: tuple[IdMapping, ...], wanted: tuple[IdMapping, ...]) -> str:
    found = []
    for extent in base:
        for seen in wanted:
            first = max(extent.outside, seen.outside)
            last = min(extent.outside + extent.count, seen.outside + seen.count)
            if first < last:
                disk = seen.inside + first - seen.outside
                shown = extent.inside + first - extent.outside
                found.append(f"{disk}:{shown}:{last - first}")
    return ":".join(found)
