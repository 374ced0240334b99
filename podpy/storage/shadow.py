"""Images seen through another id map, without copying them: metadata shadows.

Layers are extracted once, with the ids of the default map.  A container with
another map (``--userns=keep-id``, ``auto``, ``--uidmap``) needs the same files
with other owners, and an unprivileged user can make neither idmapped mounts nor
cheap copies.  A shadow is a tree of empty files with the owners shifted;
overlayfs takes the metadata from it and the data from the layers
(``metacopy`` and ``redirect`` onto data-only lower layers, ``lowerdir=S::L2::L1``).

With ``userxattr`` the kernel follows these marks only from the lowest layer
with metadata to data-only layers, and only from 6.16 on: so a shadow is of all
layers of an image, merged.  It is made once per image and map (about 17 µs a
file) and lies beside the topmost layer, so it goes when that goes.

The kernel reads the layers as the container's root.  A map like ``auto`` does
not know the owners that files have there, so that root may read only what
everybody may: the few other files (``/etc/shadow``, ``/root``) are copied.
"""

from __future__ import annotations

import os
import stat

from podpy import files
from podpy.errors import StoreError
from podpy.kernel import process, userns
from podpy.model import IdMapping
from podpy.storage import staging
from podpy.storage.copying import copy_data

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from podpy.kernel.userns import IdMap
    from podpy.paths import Store

    Shift = Callable[[int], int]

SINCE = (6, 16)
_METACOPY = "user.overlay.metacopy"
_REDIRECT = "user.overlay.redirect"
_OVERLAY = "user.overlay."
_OPAQUE = "user.overlay.opaque"
_FORMAT = "1"  # of the tree: another one makes shadows anew
_END = IdMapping(inside=0, outside=0, count=0)
_CAPABILITY = "security.capability"
_CAPABILITY_V3 = 0x03000000
_REVISION_MASK = 0xFF000000
_READ, _SEARCH = 4, 1


def is_supported() -> bool:
    """The kernel follows ``metacopy`` in data-only layers of a ``userxattr`` overlay."""
    major, minor = os.uname().release.split(".")[:2]
    return (int(major), int("".join(c for c in minor if c.isdigit()))) >= SINCE


def ensure(store: Store, layers: Sequence[str], base: IdMap, wanted: IdMap) -> str:
    """The shadow of an image for a map, made when it is missing.

    ``layers`` are directories of ``layers/`` (with their ``diff/``), topmost
    first; ``base`` is the map they were extracted with.  Must be called
    single-threaded.
    """
    place = f"{layers[0]}/shadow.{_key(layers, base, wanted)}"
    if not os.path.isdir(place):
        _make(store, layers, place, base, wanted)
    return f"{place}/tree"


def _key(layers: Sequence[str], base: IdMap, wanted: IdMap) -> str:
    from hashlib import sha256

    maps = (base.uid, base.gid, wanted.uid, wanted.gid)
    parts = [_FORMAT, *(os.path.basename(layer) for layer in layers)]
    parts += [f"{m.inside}:{m.outside}:{m.count}" for extents in maps for m in (*extents, _END)]
    return sha256(";".join(parts).encode()).hexdigest()[:32]


def _make(store: Store, layers: Sequence[str], place: str, base: IdMap, wanted: IdMap) -> None:
    staged = staging.create(store, "shadow")

    def make() -> int:
        os.mkdir(f"{staged}/tree")
        make_shadow([f"{layer}/diff" for layer in layers], f"{staged}/tree", Shifts(base, wanted))
        return 0

    try:
        if process.wait(userns.fork_mapped(make, base)) != 0:
            raise StoreError("cannot make the shadow of an image for this id map")
        # The parent and not the tree itself: only a directory's owner may move it.
        _publish(staged, place)
    finally:
        if os.path.isdir(staged):
            staging.discard(store, staged)


def _publish(path: str, place: str) -> None:
    try:
        os.rename(path, place)
    except OSError:
        if not os.path.isdir(place):  # another process made the same one first
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
        self._base, self._wanted = base, wanted

    def allows(self, status: os.stat_result, bit: int) -> bool:
        """Whether the wanted map's root may read (4) or search (1) a file of the layers.

        It has power over files whose owner and group its map knows.
        """
        everybody = bit | bit << 3
        if status.st_mode & everybody == everybody:
            return True
        sides = (
            (self._base.uid, self._wanted.uid, status.st_uid),
            (self._base.gid, self._wanted.gid, status.st_gid),
        )
        for base, wanted, number in sides:
            outside = _outside(base, number)
            if outside is None or _inside(wanted, outside) is None:
                return False
        return True

    def capability(self, value: bytes) -> bytes:
        """A ``security.capability`` that holds for the root of the wanted map.

        The attribute names the root it belongs to since revision 3
        (capabilities(7), "Namespaced file capabilities").
        """
        magic = int.from_bytes(value[:4], "little")
        flags = magic & ~_REVISION_MASK
        header = (_CAPABILITY_V3 | flags).to_bytes(4, "little")
        return header + value[4:20] + self.uid(0).to_bytes(4, "little")


def make_shadow(layers: Sequence[str], target: str, shifts: Shifts) -> None:
    """Fill the empty directory ``target`` with the shadow of layer trees, topmost first."""
    sources = [os.open(layer, files.O_DIR) for layer in layers]
    shadow = os.open(target, files.O_DIR)
    try:
        _Maker(shadow, shifts).directory(sources, shadow, "")
    finally:
        for fd in (*sources, shadow):
            os.close(fd)


class _Stack:
    """What the layers have under one name, from the topmost down to where it ends.

    A directory goes on through the directories of the layers below, until one
    is opaque or something else has the name; anything else stands alone.
    """

    def __init__(self, source: int, status: os.stat_result) -> None:
        self.status = status
        self.sources = [source]
        self._ended = not stat.S_ISDIR(status.st_mode)

    def add(self, source: int, name: str, status: os.stat_result) -> None:
        if not self._ended and self._is_opaque(name):
            self._ended = True
        if self._ended:
            return
        if stat.S_ISDIR(status.st_mode):
            self.sources.append(source)
        else:
            self._ended = True

    def _is_opaque(self, name: str) -> bool:
        fd = os.open(name, files.O_DIR | os.O_NOFOLLOW, dir_fd=self.sources[-1])
        try:
            return _OPAQUE in os.listxattr(fd)
        finally:
            os.close(fd)


class _Maker:
    """Fills one shadow; hard links within it stay hard links."""

    def __init__(self, root: int, shifts: Shifts) -> None:
        self._root = root
        self._shifts = shifts
        self._links: dict[int, str] = {}

    def directory(
        self, sources: Sequence[int], shadow: int, path: str, *, reachable: bool = True
    ) -> None:
        """``reachable``: the container's root gets as far as here in the layers."""
        reachable = reachable and all(self._shifts.allows(os.fstat(fd), _SEARCH) for fd in sources)
        stacks: dict[str, _Stack] = {}
        for source in sources:
            for name in os.listdir(source):
                status = os.stat(name, dir_fd=source, follow_symlinks=False)
                if name in stacks:
                    stacks[name].add(source, name, status)
                else:
                    stacks[name] = _Stack(source, status)
        for name, stack in stacks.items():
            self._entry(stack, shadow, name, f"{path}/{name}", reachable)
        self._dress(sources[0], shadow, os.fstat(sources[0]))

    def _entry(self, stack: _Stack, shadow: int, name: str, path: str, reachable: bool) -> None:
        status = stack.status
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFDIR:
            self._subdirectory(stack, shadow, name, path, reachable)
        elif kind == stat.S_IFREG:
            redirect = path if reachable and self._shifts.allows(status, _READ) else ""
            self._regular(stack, shadow, name, path, redirect)
        elif kind != stat.S_IFCHR:  # the only such device is 0:0, a whiteout: nothing is there
            self._special(stack.sources[0], shadow, name, status)

    def _subdirectory(
        self, stack: _Stack, shadow: int, name: str, path: str, reachable: bool
    ) -> None:
        os.mkdir(name, 0o700, dir_fd=shadow)
        flags = files.O_DIR | os.O_NOFOLLOW
        below = [os.open(name, flags, dir_fd=source) for source in stack.sources]
        made = os.open(name, flags, dir_fd=shadow)
        try:
            self.directory(below, made, path, reachable=reachable)
        finally:
            for fd in (*below, made):
                os.close(fd)

    def _regular(self, stack: _Stack, shadow: int, name: str, path: str, redirect: str) -> None:
        """A file whose data is at ``redirect`` in the layers; copied where that is empty."""
        status = stack.status
        if status.st_nlink > 1:
            first = self._links.setdefault(status.st_ino, path)
            if first != path:
                os.link(first[1:], name, src_dir_fd=self._root, dst_dir_fd=shadow)
                return
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        original = os.open(name, flags, dir_fd=stack.sources[0])
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        made = os.open(name, flags, 0o600, dir_fd=shadow)
        try:
            if not redirect:
                copy_data(original, made)
            elif status.st_size:
                # The size comes from the shadow, the blocks from the layer.
                os.ftruncate(made, status.st_size)
                os.setxattr(made, _METACOPY, b"")
                os.setxattr(made, _REDIRECT, os.fsencode(redirect))
            self._dress(original, made, status)
        finally:
            os.close(original)
            os.close(made)

    def _special(self, source: int, shadow: int, name: str, status: os.stat_result) -> None:
        if stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=shadow)
        else:  # FIFO or socket
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
            elif attribute.startswith(("security.", _OVERLAY)):
                continue  # the host's policy; opaque marks, which the merge has carried out
            os.setxattr(made, attribute, value)
        os.utime(made, ns=(status.st_atime_ns, status.st_mtime_ns))
