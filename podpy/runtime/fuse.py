"""fuse-overlayfs for one container: mounted by M, served from a mount namespace of its own.

It is the one program podpy executes inside a container's user namespace, so
its address space belongs to that namespace, and a privileged container that
sees the host's processes could write to it.  Therefore it is shown nothing but
the layers (read-only), its own upper and work directories, and the libraries it
is linked to.

M opens ``/dev/fuse`` and mounts it; the server gets the open descriptor as
``/dev/fd/N`` (fuse3, ``fuse_session_mount``).  As the server does not have the
mount in its own namespace, the connection ends, and the server with it, when
the container's mount namespace is gone.
"""

from __future__ import annotations

import os
import resource

from podpy.errors import HostError
from podpy.kernel import libc, mounts, process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podpy.runtime.spec import Rootfs

_SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache")
#: It reads the overflow ids at its start and reopens descriptors by their name.
_PROC = ("/proc/sys/kernel/overflowuid", "/proc/sys/kernel/overflowgid", "/proc/self")
_MOUNT_OPTIONS = "rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other"


def enter_tmpfs(directory: str) -> None:
    """Mount a tmpfs that belongs to the container's root on a directory, and go there.

    Done with the caller's ids, who may search the way to it; written to only
    later, because the new file system may not know them (EOVERFLOW).
    """
    options = "mode=755,uid=0,gid=0"
    libc.mount("tmpfs", directory, "tmpfs", libc.MS_NOSUID | libc.MS_NODEV, options)
    os.chdir(directory)


class Server:
    """fuse-overlayfs on its way: started at once, let go by :meth:`mount`."""

    def __init__(self, rootfs: Rootfs) -> None:
        try:
            self._device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise HostError(
                f"/dev/fuse: {error.strerror}: fuse-overlayfs cannot serve the root file system",
                hint="as root: `modprobe fuse && chmod 666 /dev/fuse`",
            ) from None
        apart_r, apart_w = os.pipe()
        mounted_r, self._mounted = os.pipe()
        process.fork_child(lambda: _serve(rootfs, self._device, apart_w, mounted_r, self._mounted))
        os.close(apart_w)
        os.close(mounted_r)
        # Its mount namespace must not get a copy of the mount, which would keep it alive for ever.
        os.read(apart_r, 1)
        os.close(apart_r)

    def mount(self, target: str) -> None:
        """Mount the file system; requests wait until the server answers."""
        options = f"fd={self._device},{_MOUNT_OPTIONS}"
        libc.mount("fuse-overlayfs", target, "fuse.fuse-overlayfs", 0, options)
        os.write(self._mounted, b"m")
        os.close(self._mounted)
        os.close(self._device)


def _serve(rootfs: Rootfs, device: int, apart: int, mounted: int, other_end: int) -> int:
    libc.unshare(libc.CLONE_NEWNS)
    os.write(apart, b"a")
    os.close(other_end)
    lower = _enter_jail(rootfs)
    changes = ",upperdir=/c/upper,workdir=/c/work" if rootfs.upper else ""
    options = f"lowerdir={lower}{changes}{rootfs.mapping}"
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    null = os.open("/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    if os.read(mounted, 1) != b"m":
        return 1
    os.dup2(device, 3)
    os.set_inheritable(3, True)  # what dup2 leaves undone when it is number 3 already
    libc.close_range(4)
    os.execve(rootfs.program, [rootfs.program, "-f", "-o", options, "/dev/fd/3"], {})


def _enter_jail(rootfs: Rootfs) -> str:
    """Make a root that holds what the server needs; the value of its ``lowerdir``."""
    names = [f"/l/{number}" for number in range(len(rootfs.lower))]
    binds = [
        mounts.Bind(source=path, target=name, options=("ro",))
        for path, name in zip(rootfs.lower, names, strict=True)
    ]
    if rootfs.upper:
        binds.append(mounts.Bind(source=os.path.dirname(rootfs.upper), target="/c"))
    binds.append(mounts.Bind(source="/dev/null", target="/null", recursive=False))
    binds += [
        mounts.Bind(source=path, target=path, options=("ro",))
        for path in (*_SYSTEM, *_PROC)
        if os.path.exists(path)
    ]
    prepared = [bind.prepare() for bind in binds]
    enter_tmpfs(rootfs.mountpoint)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    root = os.open(".", libc.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    for bind, opened in zip(binds, prepared, strict=True):
        bind.execute(root, opened)
    libc.pivot_root(".", ".")
    libc.umount2(".", libc.MNT_DETACH)
    os.chdir("/")
    return ":".join(names)
