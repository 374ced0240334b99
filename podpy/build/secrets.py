"""Secrets of RUN: read when a step needs them, in the step's memory only.

A secret is never written to a disk, to a layer, to the history or to a key of
the cache, which knows it by its id.  In the container it is a file of a tmpfs
of its own (:class:`Inline`), or a variable of that one command.
"""

from __future__ import annotations

import os

from podpy.errors import BuildError
from podpy.kernel import libc, mounts
from podpy.records import record
from podpy.storage import single

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podpy.build.instructions import RunMount

_LIMIT = 500 << 10  # bytes, as BuildKit has it
_ROOM = 1 << 20  # for those who write to their hosts file
_DIRECTORY = "/run/secrets"
_SAFE = libc.MOUNT_ATTR_NOSUID | libc.MOUNT_ATTR_NODEV


@record
class Secret:
    """Where a secret comes from: a host file, or a variable of podpy's environment."""

    id: str
    file: str = ""
    variable: str = ""

    def read(self) -> bytes:
        """Its bytes; :class:`BuildError` names the secret and never shows it."""
        if self.variable:
            data = os.environb.get(os.fsencode(self.variable))
            if data is None:
                raise BuildError(f"secret {self.id}: no variable {self.variable} any more")
        else:
            try:
                with open(self.file, "rb") as opened:
                    data = opened.read(_LIMIT + 1)
            except OSError as error:
                raise BuildError(f"secret {self.id}: {self.file}: {error.strerror}") from None
        if len(data) > _LIMIT:
            raise BuildError(f"secret {self.id}: larger than {_LIMIT >> 10} KiB")
        return data


@record
class InlineFile:
    """One file of :class:`Inline`.

    It can be executed where it is a ``program``; where it is ``writable``, what
    is written to it is gone with the container.
    """

    target: str
    data: bytes
    mode: int = 0o400
    uid: int = 0
    gid: int = 0
    program: bool = False
    writable: bool = False

    @property
    def attributes(self) -> int:
        """Those of its mount."""
        refused = 0 if self.program else libc.MOUNT_ATTR_NOEXEC
        return _SAFE | refused | (0 if self.writable else libc.MOUNT_ATTR_RDONLY)


@record
class Inline:
    """Files that are in memory only: on a tmpfs of their own, each bound to its target.

    ``place`` is a host directory where the tmpfs is attached, in the mount
    namespace of this container alone: it goes when the container's root becomes the root.
    """

    place: str
    files: tuple[InlineFile, ...]

    def describe(self) -> str:
        return f"provide {', '.join(each.target for each in self.files)}"

    def prepare(self) -> tuple[int, ...]:
        return ()

    def execute(self, root_fd: int, prepared: tuple[int, ...] = ()) -> None:
        size = sum(len(each.data) + 4096 for each in self.files) + _ROOM
        made = mounts.new_filesystem("tmpfs", ("mode=0700", f"size={size}"), _SAFE)
        place = os.open(self.place, libc.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        # Attached, because only then can parts of it be cloned (before Linux 6.15).
        libc.move_mount(made, place)
        for number, each in enumerate(self.files):
            _provide(root_fd, made, str(number), each)
        os.close(place)
        os.close(made)


def _provide(root_fd: int, directory: int, name: str, file: InlineFile) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    fd = os.open(name, flags, 0o600, dir_fd=directory)
    with os.fdopen(fd, "wb") as opened:
        opened.write(file.data)
        opened.flush()
        single.give(fd, file.uid, file.gid)
        os.fchmod(fd, file.mode)
    source = os.open(name, libc.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    mounted = libc.open_tree(source, "", libc.OPEN_TREE_CLONE | libc.AT_EMPTY_PATH)
    libc.mount_setattr(mounted, set_=file.attributes)
    target = mounts.open_target(root_fd, file.target, directory=False)
    libc.move_mount(mounted, target)
    for each in (source, mounted, target):
        os.close(each)


def identity(mount: RunMount) -> str:
    """The id of a secret mount: ``id=``, else ``source=``, else the target's last part."""
    return mount.id or mount.source or os.path.basename(mount.target)


def target(mount: RunMount) -> str:
    """Where a secret is put; empty where it is given as a variable only."""
    if mount.target or mount.env:
        return mount.target
    return f"{_DIRECTORY}/{identity(mount)}"


def missing(name: str) -> BuildError:
    return BuildError(
        f"RUN --mount=type=secret: secret {name} is required and was not given",
        hint=f"podpy build --secret id={name},src=FILE, or id={name},env=VARIABLE",
    )
