"""Layers seen through another id map, without copying them: metadata shadows.

A layer is extracted once, with the ids of the default map.  A container with
another map (``--userns=keep-id``, ``auto``, ``--uidmap``) needs the same files
with other owners, and an unprivileged user can make neither idmapped mounts nor
cheap copies.  A shadow is a tree of empty files with the owners shifted;
overlayfs takes the metadata from it and the data from the layer
(``metacopy`` and ``redirect`` onto a data-only lower layer, ``lowerdir=S::L``).

With ``userxattr`` the kernel follows these marks only in data-only layers and
only from 6.16 on.  A shadow is made once per layer and map (about 17 µs a file)
and lies beside the layer, so it goes when the layer goes.
"""

from __future__ import annotations

import os
import stat

from podpy import files
from podpy.errors import StoreError
from podpy.kernel import process, userns
from podpy.storage import staging

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from podpy.kernel.userns import IdMap
    from podpy.model import IdMapping
    from podpy.paths import Store

    Shift = Callable[[int], int]

SINCE = (6, 16)
_METACOPY = "user.overlay.metacopy"
_REDIRECT = "user.overlay.redirect"
_OVERLAY = "user.overlay."
_CAPABILITY = "security.capability"
_CAPABILITY_V3 = 0x03000000
_REVISION_MASK = 0xFF000000


def is_supported() -> bool:
    """The kernel follows ``metacopy`` in data-only layers of a ``userxattr`` overlay."""
    major, minor = os.uname().release.split(".")[:2]
    return (int(major), int("".join(c for c in minor if c.isdigit()))) >= SINCE


def ensure(store: Store, layers: Sequence[str], base: IdMap, wanted: IdMap) -> tuple[str, ...]:
    """The shadow directories of some layer directories for a map, made where missing.

    ``layers`` are directories of ``layers/`` (with their ``diff/``); ``base``
    is the map they were extracted with.  Must be called single-threaded.
    """
    key = _key(base, wanted)
    found = tuple(f"{layer}/shadow.{key}/tree" for layer in layers)
    missing = [
        (layer, shadow)
        for layer, shadow in zip(layers, found, strict=True)
        if not os.path.isdir(shadow)
    ]
    if missing:
        _make_all(store, missing, base, wanted)
    return found


def _key(base: IdMap, wanted: IdMap) -> str:
    from hashlib import sha256

    text = ";".join(
        ",".join(f"{m.inside}:{m.outside}:{m.count}" for m in extents)
        for extents in (base.uid, base.gid, wanted.uid, wanted.gid)
    )
    return sha256(text.encode()).hexdigest()[:16]


def _make_all(store: Store, missing: Sequence[tuple[str, str]], base: IdMap, wanted: IdMap) -> None:
    staged = [staging.create(store, "shadow") for _ in missing]

    def make() -> int:
        shifts = Shifts(base, wanted)
        for (layer, _), path in zip(missing, staged, strict=True):
            os.mkdir(f"{path}/tree")
            make_shadow(f"{layer}/diff", f"{path}/tree", shifts)
        return 0

    try:
        if process.wait(userns.fork_mapped(make, base)) != 0:
            raise StoreError("cannot make the shadow of a layer for this id map")
        for (_, shadow), path in zip(missing, staged, strict=True):
            # Its parent and not the tree itself: only a directory's owner may move it.
            _publish(path, os.path.dirname(shadow))
    finally:
        for path in staged:
            if os.path.isdir(path):
                staging.discard(store, path)


def _publish(path: str, shadow: str) -> None:
    try:
        os.rename(path, shadow)
    except OSError:
        if not os.path.isdir(shadow):  # another process made the same one first
            raise


def shift(base: Sequence[IdMapping], wanted: Sequence[IdMapping]) -> Shift:
    """The function from an id as the base map shows it to the id to store instead.

    An image's id ``n`` belongs to host id ``wanted(n)``; written from inside
    the base namespace that host id is called ``base⁻¹(wanted(n))``.  An id that
    the wanted map lacks keeps its owner, and the container sees "nobody".
    """
    known: dict[int, int] = {}

    def shifted(number: int) -> int:
        if number not in known:
            outside = _outside(wanted, number)
            inside = _inside(base, outside) if outside is not None else None
            known[number] = number if inside is None else inside
        return known[number]

    return shifted


def _outside(extents: Sequence[IdMapping], number: int) -> int | None:
    for m in extents:
        if m.inside <= number < m.inside + m.count:
            return m.outside + number - m.inside
    return None


def _inside(extents: Sequence[IdMapping], number: int) -> int | None:
    for m in extents:
        if m.outside <= number < m.outside + m.count:
            return m.inside + number - m.outside
    return None


class Shifts:
    """Owners, groups and the root id of file capabilities, from one map to another."""

    def __init__(self, base: IdMap, wanted: IdMap) -> None:
        self.uid = shift(base.uid, wanted.uid)
        self.gid = shift(base.gid, wanted.gid)

    def capability(self, value: bytes) -> bytes:
        """A ``security.capability`` that holds for the root of the wanted map.

        The attribute names the root it belongs to since revision 3
        (capabilities(7), "Namespaced file capabilities").
        """
        magic = int.from_bytes(value[:4], "little")
        flags = magic & ~_REVISION_MASK
        header = (_CAPABILITY_V3 | flags).to_bytes(4, "little")
        return header + value[4:20] + self.uid(0).to_bytes(4, "little")


def make_shadow(layer: str, target: str, shifts: Shifts) -> None:
    """Fill the empty directory ``target`` with the shadow of the tree ``layer``."""
    source = os.open(layer, files.O_DIR)
    shadow = os.open(target, files.O_DIR)
    try:
        _Maker(shadow, shifts).directory(source, shadow, "")
    finally:
        os.close(source)
        os.close(shadow)


class _Maker:
    def __init__(self, root: int, shifts: Shifts) -> None:
        self._root = root
        self._shifts = shifts
        self._links: dict[int, str] = {}

    def directory(self, source: int, shadow: int, path: str) -> None:
        with os.scandir(source) as entries:
            for entry in entries:
                self._entry(source, shadow, entry.name, f"{path}/{entry.name}")
        self._dress(source, shadow, os.fstat(source))

    def _entry(self, source: int, shadow: int, name: str, path: str) -> None:
        status = os.stat(name, dir_fd=source, follow_symlinks=False)
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFDIR:
            self._subdirectory(source, shadow, name, path)
        elif kind == stat.S_IFREG:
            self._regular(source, shadow, name, path, status)
        else:
            self._special(source, shadow, name, status)

    def _subdirectory(self, source: int, shadow: int, name: str, path: str) -> None:
        os.mkdir(name, 0o700, dir_fd=shadow)
        below = os.open(name, files.O_DIR | os.O_NOFOLLOW, dir_fd=source)
        made = os.open(name, files.O_DIR | os.O_NOFOLLOW, dir_fd=shadow)
        try:
            self.directory(below, made, path)
        finally:
            os.close(below)
            os.close(made)

    def _regular(
        self, source: int, shadow: int, name: str, path: str, status: os.stat_result
    ) -> None:
        if status.st_nlink > 1:
            first = self._links.setdefault(status.st_ino, path)
            if first != path:
                os.link(first[1:], name, src_dir_fd=self._root, dst_dir_fd=shadow)
                return
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        original = os.open(name, flags, dir_fd=source)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        made = os.open(name, flags, 0o600, dir_fd=shadow)
        try:
            # The size comes from the shadow, the blocks from the layer.
            os.ftruncate(made, status.st_size)
            if status.st_size:
                os.setxattr(made, _METACOPY, b"")
                os.setxattr(made, _REDIRECT, os.fsencode(path))
            self._dress(original, made, status)
        finally:
            os.close(original)
            os.close(made)

    def _special(self, source: int, shadow: int, name: str, status: os.stat_result) -> None:
        if stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=shadow)
        else:  # FIFO, socket, or a whiteout: the character device 0:0
            os.mknod(name, status.st_mode, status.st_rdev, dir_fd=shadow)
        owner = self._shifts.uid(status.st_uid), self._shifts.gid(status.st_gid)
        os.chown(name, *owner, dir_fd=shadow, follow_symlinks=False)
        times = status.st_atime_ns, status.st_mtime_ns
        os.utime(name, ns=times, dir_fd=shadow, follow_symlinks=False)

    def _dress(self, original: int, made: int, status: os.stat_result) -> None:
        """Owner, mode, attributes and times; chown first, because it clears setuid and caps."""
        os.fchown(made, self._shifts.uid(status.st_uid), self._shifts.gid(status.st_gid))
        os.fchmod(made, stat.S_IMODE(status.st_mode))
        for attribute in os.listxattr(original):
            value = os.getxattr(original, attribute)
            if attribute == _CAPABILITY:
                value = self._shifts.capability(value)
            elif attribute.startswith("security."):
                continue  # labels of a security module belong to the host's policy
            os.setxattr(made, attribute, value)
        os.utime(made, ns=(status.st_atime_ns, status.st_mtime_ns))
