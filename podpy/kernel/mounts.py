"""Mounts as data: what to mount is computed first, purely; doing it is apart.

Every operation is a small record with two steps.  ``prepare`` opens what it
takes from the host, while the process still has the caller's file system ids:
a map without the caller gives no power over the caller's private directories.
``execute`` puts it into the container, whose root it gets as a descriptor,
when the process has become the container's root.  Targets are resolved with
``openat2(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)`` and mounted onto through
their descriptor, so that nobody who can rename a path in the container or in a
shared volume can move a mount somewhere else (CVE-2021-30465 and its kin).

Detached mounts of the 5.2 interface get their attributes before they are
attached: no moment exists in which a read-only bind can be written.
"""

from __future__ import annotations

import os
import stat

from podpy.errors import LaunchError
from podpy.kernel import libc
from podpy.records import EMPTY, record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Protocol

    Prepared = tuple[int, ...]

    class Operation(Protocol):
        """What M and I do for each mount, in this order."""

        def describe(self) -> str: ...
        def prepare(self) -> Prepared: ...
        def execute(self, root_fd: int, prepared: Prepared = ()) -> None: ...


IN_ROOT = libc.RESOLVE_IN_ROOT | libc.RESOLVE_NO_MAGICLINKS

#: Option words of mount(8) that are attributes of the mount: (set, clear).
ATTRIBUTES: Mapping[str, tuple[int, int]] = {
    "ro": (libc.MOUNT_ATTR_RDONLY, 0),
    "rw": (0, libc.MOUNT_ATTR_RDONLY),
    "nosuid": (libc.MOUNT_ATTR_NOSUID, 0),
    "suid": (0, libc.MOUNT_ATTR_NOSUID),
    "nodev": (libc.MOUNT_ATTR_NODEV, 0),
    "dev": (0, libc.MOUNT_ATTR_NODEV),
    "noexec": (libc.MOUNT_ATTR_NOEXEC, 0),
    "exec": (0, libc.MOUNT_ATTR_NOEXEC),
    "noatime": (libc.MOUNT_ATTR_NOATIME, 0),
}
PROPAGATION: Mapping[str, int] = {
    "private": libc.MS_PRIVATE,
    "slave": libc.MS_SLAVE,
    "shared": libc.MS_SHARED,
    "unbindable": libc.MS_UNBINDABLE,
}


def open_in_root(root_fd: int, path: str, flags: int, *, follow: bool = True) -> int:
    """Open ``path`` as the container sees it; never outside its root, never by a magic link."""
    resolve = IN_ROOT if follow else IN_ROOT | libc.RESOLVE_NO_SYMLINKS
    return libc.openat2(root_fd, path, flags, resolve=resolve)


def open_target(root_fd: int, path: str, *, directory: bool, follow: bool = True) -> int:
    """A path descriptor of a mount target, made (with its parents) when missing."""
    try:
        fd = open_in_root(root_fd, path, libc.O_PATH, follow=follow)
    except FileNotFoundError:
        fd = _create_target(root_fd, path, directory, follow)
    if stat.S_ISDIR(os.fstat(fd).st_mode) != directory:
        os.close(fd)
        wanted = "a directory" if directory else "not a directory"
        raise LaunchError(f"mount onto {path}: the target in the image must be {wanted}")
    return fd


def _create_target(root_fd: int, path: str, directory: bool, follow: bool) -> int:
    parent_path, name = os.path.split(path.rstrip("/"))
    parent = open_target(root_fd, parent_path or "/", directory=True, follow=follow)
    try:
        # A path descriptor cannot be created in: reopen it for reading (and not through /proc,
        # which may be the container's).
        real = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent)
    finally:
        os.close(parent)
    try:
        if follow and (elsewhere := leads_to(real, parent_path, name)):
            return open_target(root_fd, elsewhere, directory=directory)
        if directory:
            os.mkdir(name, 0o755, dir_fd=real)
            return os.open(
                name, libc.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=real
            )
        flags = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        os.close(os.open(name, flags, 0o644, dir_fd=real))
        return os.open(name, libc.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=real)
    finally:
        os.close(real)


def leads_to(directory_fd: int, directory: str, name: str) -> str:
    """The path in the container that a symbolic link means; empty when ``name`` is none.

    Images have links to what a service makes (``/etc/resolv.conf``).
    """
    try:
        link = os.readlink(name, dir_fd=directory_fd)
    except OSError:
        return ""
    return os.path.normpath(os.path.join("/", directory, link))


def _attributes(options: tuple[str, ...]) -> tuple[int, int]:
    set_ = clear = 0
    for option in options:
        more, less = ATTRIBUTES.get(option, (0, 0))
        set_, clear = (set_ | more) & ~less, (clear | less) & ~more
    return set_, clear


def new_filesystem(kind: str, settings: tuple[str, ...], attributes: int) -> int:
    """A detached mount of a new file system; ``settings`` are ``key=value`` or ``flag``."""
    context = libc.fsopen(kind)
    try:
        libc.fsconfig_string(context, "source", kind)
        for setting in settings:
            key, equals, value = setting.partition("=")
            if equals:
                libc.fsconfig_string(context, key, value)
            else:
                libc.fsconfig_flag(context, key)
        libc.fsconfig_create(context)
        return libc.fsmount(context, attributes)
    finally:
        os.close(context)


@record
class Filesystem:
    """A new file system (``proc sysfs tmpfs devpts mqueue cgroup2``) on ``target``.

    ``settings`` are options of the file system, ``attributes`` those of the mount;
    ``sysctls`` are written through a procfs before it is attached.
    """

    kind: str
    target: str
    settings: tuple[str, ...] = ()
    attributes: int = 0
    follow: bool = True
    sysctls: Mapping[str, str] = EMPTY

    def describe(self) -> str:
        return f"mount {self.kind} on {self.target}"

    def prepare(self) -> Prepared:
        return ()

    def execute(self, root_fd: int, prepared: Prepared = ()) -> None:
        target = open_target(root_fd, self.target, directory=True, follow=self.follow)
        mounted = new_filesystem(self.kind, self.settings, self.attributes)
        for name, value in self.sysctls.items():
            write_sysctl(mounted, name, value)
        libc.move_mount(mounted, target)
        os.close(mounted)
        os.close(target)


@record
class Bind:
    """A bind mount of a host path on ``target``.

    ``options`` are words of :data:`ATTRIBUTES` and propagation (``rprivate``,
    ``rslave`` …); ``recursive`` takes the mounts below the source along;
    ``device`` is the number the source must have.  ``subpath`` is resolved inside
    the source, which a container may have filled with symbolic links.  Nothing is
    done for an ``optional`` source that does not exist.
    """

    source: str
    target: str
    options: tuple[str, ...] = ()
    recursive: bool = True
    follow: bool = True
    device: int = 0
    subpath: str = ""
    optional: bool = False
    sysctls: Mapping[str, str] = EMPTY

    def describe(self) -> str:
        return f"bind {self.source} on {self.target}"

    def prepare(self) -> Prepared:
        flags = libc.OPEN_TREE_CLONE | (libc.AT_RECURSIVE if self.recursive else 0)
        try:
            return (clone_tree(self.source, self.subpath, flags),)
        except FileNotFoundError:
            if not self.optional:
                raise
            return (-1,)

    def execute(self, root_fd: int, prepared: Prepared = ()) -> None:
        (mounted,) = prepared or self.prepare()
        if mounted < 0:
            return
        status = os.fstat(mounted)
        if self.device and (not stat.S_ISCHR(status.st_mode) or status.st_rdev != self.device):
            raise LaunchError(f"{self.source}: is not the device it should be")
        for name, value in self.sysctls.items():
            write_sysctl(mounted, name, value)
        apply_options(mounted, self.options, recursive=self.recursive)
        directory = stat.S_ISDIR(status.st_mode)
        target = open_target(root_fd, self.target, directory=directory, follow=self.follow)
        libc.move_mount(mounted, target)
        os.close(mounted)
        os.close(target)


def clone_tree(source: str, subpath: str, flags: int) -> int:
    """A detached copy of the mount at a host path, or at a place inside that path."""
    if not subpath:
        return libc.open_tree(libc.AT_FDCWD, source, flags)
    base = os.open(source, libc.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        place = open_in_root(base, subpath, libc.O_PATH)
    finally:
        os.close(base)
    try:
        return libc.open_tree(place, "", flags | libc.AT_EMPTY_PATH)
    finally:
        os.close(place)


@record
class Overlay:
    """A host directory on ``target`` whose changes go to ``upper`` (the option ``O``)."""

    source: str
    target: str
    upper: str
    work: str

    def describe(self) -> str:
        return f"overlay {self.source} on {self.target}"

    def prepare(self) -> Prepared:
        flags = libc.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
        return tuple(os.open(path, flags) for path in (self.source, self.upper, self.work))

    def execute(self, root_fd: int, prepared: Prepared = ()) -> None:
        fds = prepared or self.prepare()
        target = open_target(root_fd, self.target, directory=True)
        # By descriptor: a path may hold the commas and colons that separate options.
        lower, upper, work = (f"/proc/self/fd/{fd}" for fd in fds)
        options = f"userxattr,lowerdir={lower},upperdir={upper},workdir={work}"
        libc.mount("overlay", f"/proc/self/fd/{target}", "overlay", 0, options)
        for fd in (*fds, target):
            os.close(fd)


def own_tree(root_fd: int, path: str, uid: int, gid: int) -> None:
    """Give a mounted file or tree to a user, never through a link (the option ``U``).

    Directories are opened anew by their path below the top: they may be nested
    deeper than a process may hold descriptors, or Python may recurse.
    """
    top = open_in_root(root_fd, path, libc.O_PATH)
    try:
        if stat.S_ISDIR(os.fstat(top).st_mode):
            _own_below(top, uid, gid)
        os.chown(f"/proc/self/fd/{top}", uid, gid)
    finally:
        os.close(top)


def _own_below(top: int, uid: int, gid: int) -> None:
    flags = os.O_RDONLY | os.O_DIRECTORY
    resolve = libc.RESOLVE_BENEATH | libc.RESOLVE_NO_SYMLINKS
    waiting = ["."]
    while waiting:
        path = waiting.pop()
        directory = libc.openat2(top, path, flags, resolve=resolve)
        try:
            for name in os.listdir(directory):
                os.chown(name, uid, gid, dir_fd=directory, follow_symlinks=False)
                status = os.stat(name, dir_fd=directory, follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    waiting.append(f"{path}/{name}")
        finally:
            os.close(directory)


def apply_options(mounted: int, options: tuple[str, ...], *, recursive: bool) -> None:
    """Set attributes and propagation of a detached mount before it is attached."""
    set_, clear = _attributes(options)
    if set_ or clear:
        # A mount that came from a more privileged namespace has locked flags:
        # clearing nosuid or nodev is EPERM there, and the kernel keeps them.
        try:
            libc.mount_setattr(mounted, set_=set_, clear=clear, recursive=recursive)
        except PermissionError:
            libc.mount_setattr(mounted, set_=set_, recursive=recursive)
    word = next((o for o in options if o.removeprefix("r") in PROPAGATION), "rprivate")
    kind = PROPAGATION[word.removeprefix("r")]
    libc.mount_setattr(mounted, propagation=kind, recursive=word.startswith("r"))


@record
class Symlink:
    """A symbolic link; what is there stays.

    An ``optional`` one is left out where its directory is missing, a link, or read-only.
    """

    target: str
    link: str
    optional: bool = False

    def describe(self) -> str:
        return f"link {self.link} to {self.target}"

    def prepare(self) -> Prepared:
        return ()

    def execute(self, root_fd: int, prepared: Prepared = ()) -> None:
        parent_path, name = os.path.split(self.link)
        try:
            parent = open_in_root(root_fd, parent_path, os.O_RDONLY | os.O_DIRECTORY, follow=False)
        except OSError:
            if self.optional:
                return
            raise
        try:
            os.symlink(self.target, name, dir_fd=parent)
        except FileExistsError:
            pass
        except OSError:
            if not self.optional:
                raise
        finally:
            os.close(parent)


@record
class Mask:
    """Hide a path: a file behind ``/dev/null``, a directory behind an empty read-only tmpfs."""

    target: str

    def describe(self) -> str:
        return f"mask {self.target}"

    def prepare(self) -> Prepared:
        return ()

    def execute(self, root_fd: int, prepared: Prepared = ()) -> None:
        cover(root_fd, self.target, _nothing)


@record
class ReadOnly:
    """Bind a path of the container over itself, read-only."""

    target: str

    def describe(self) -> str:
        return f"make {self.target} read-only"

    def prepare(self) -> Prepared:
        return ()

    def execute(self, root_fd: int, prepared: Prepared = ()) -> None:
        cover(root_fd, self.target, _read_only_copy)


def cover(root_fd: int, path: str, make: Callable[[int], int]) -> None:
    """Mount what ``make`` gives for a path's descriptor over that path, if it exists."""
    try:
        target = open_in_root(root_fd, path, libc.O_PATH)
    except (FileNotFoundError, NotADirectoryError):
        return
    mounted = make(target)
    libc.move_mount(mounted, target)
    os.close(mounted)
    os.close(target)


def _nothing(target: int) -> int:
    if stat.S_ISDIR(os.fstat(target).st_mode):
        return new_filesystem("tmpfs", ("ro", "nr_blocks=1"), libc.MOUNT_ATTR_RDONLY)
    return libc.open_tree(libc.AT_FDCWD, "/dev/null", libc.OPEN_TREE_CLONE)


def _read_only_copy(target: int) -> int:
    flags = libc.OPEN_TREE_CLONE | libc.AT_EMPTY_PATH | libc.AT_RECURSIVE
    mounted = libc.open_tree(target, "", flags)
    libc.mount_setattr(mounted, set_=libc.MOUNT_ATTR_RDONLY, recursive=True)
    return mounted


def write_sysctl(proc_fd: int, name: str, value: str) -> None:
    """Write a sysctl through a descriptor of a procfs that is not attached yet.

    The name is in sysctl(8)'s spelling; dots become slashes.  Going through
    the detached mount, the write cannot be led to another file system.
    """
    path = "sys/" + name.replace(".", "/")
    try:
        fd = libc.openat2(
            proc_fd, path, os.O_WRONLY,
            resolve=libc.RESOLVE_BENEATH | libc.RESOLVE_NO_SYMLINKS | libc.RESOLVE_NO_XDEV,
        )  # fmt: skip
    except FileNotFoundError:
        raise LaunchError(f"sysctl {name}: this kernel has no such setting here") from None
    try:
        os.write(fd, value.encode())
    except OSError as error:
        raise LaunchError(f"sysctl {name}={value}: {error.strerror}") from None
    finally:
        os.close(fd)
