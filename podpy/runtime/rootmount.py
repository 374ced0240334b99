"""The root file system, mounted in two steps around the change of user.

Opening comes first, as the caller: a map without the caller's own id gives no
power over the caller's private directories.  Mounting comes second, as the
container's root: what overlayfs creates on behalf of the container must be
created by somebody the container knows.  In between everything is held by
descriptor, and named by symbolic links in a tmpfs of this mount namespace:
``0``, ``1`` … for the layers.  That also keeps the options short, because
mount(2) copies 4096 bytes of them and cuts the rest silently.
"""

from __future__ import annotations

import os

from podpy.kernel import libc
from podpy.runtime import fuse
from podpy.runtime.fuse import enter_tmpfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podpy.runtime.spec import Rootfs

_PATH = libc.O_PATH | os.O_CLOEXEC
_ROOT = "root"


class RootMount:
    """A root file system on its way; :meth:`mount` ends it."""

    def __init__(self, rootfs: Rootfs) -> None:
        self._rootfs = rootfs
        self._server: fuse.Server | None = None
        self._opened: dict[str, int] = {}
        enter_tmpfs(rootfs.mountpoint)
        if rootfs.kind == "bind":
            flags = libc.OPEN_TREE_CLONE | libc.AT_RECURSIVE
            self._opened["source"] = libc.open_tree(libc.AT_FDCWD, rootfs.path, flags)
        elif rootfs.kind == "overlay":
            self._open_layers()
        else:
            self._server = fuse.Server(rootfs)

    def _open_layers(self) -> None:
        rootfs = self._rootfs
        named = {str(n): path for n, path in enumerate((*rootfs.lower, *rootfs.data))}
        if rootfs.upper:
            named |= {"upper": rootfs.upper, "work": rootfs.work}
        for name, path in named.items():
            self._opened[name] = os.open(path, _PATH | os.O_DIRECTORY)

    def mount(self) -> int:
        """Mount what was opened; a path descriptor of the container's root directory."""
        os.mkdir(_ROOT)
        if self._server:
            self._server.mount(_ROOT)
        elif self._rootfs.kind == "bind":
            self._bind()
        else:
            self._overlay()
        root = os.open(_ROOT, _PATH | os.O_DIRECTORY)
        os.chdir("/")
        for fd in self._opened.values():
            os.close(fd)
        return root

    def _bind(self) -> None:
        source = self._opened["source"]
        libc.mount_setattr(source, propagation=libc.MS_PRIVATE, recursive=True)
        target = os.open(_ROOT, _PATH | os.O_DIRECTORY)
        libc.move_mount(source, target)
        os.close(target)

    def _overlay(self) -> None:
        for name, fd in self._opened.items():
            os.symlink(f"/proc/self/fd/{fd}", name)
        described = [str(n) for n in range(len(self._rootfs.lower))]
        data = [str(n + len(described)) for n in range(len(self._rootfs.data))]
        # A double colon begins a layer that gives data only to the layers before it.
        options = ["userxattr", "lowerdir=" + "::".join((":".join(described), *data))]
        if self._rootfs.upper:
            options += ["upperdir=upper", "workdir=work"]
        if self._rootfs.volatile:
            options.append("volatile")
        libc.mount("overlay", _ROOT, "overlay", 0, ",".join(options))
