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


def mount(rootfs: Rootfs) -> None:
    """Mount the root file system and start its server; requests wait until it answers."""
    try:
        device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise HostError(
            f"/dev/fuse: {error.strerror}: fuse-overlayfs cannot serve the root file system",
            hint="as root: `modprobe fuse && chmod 666 /dev/fuse`",
        ) from None
    try:
        options = f"fd={device},{_MOUNT_OPTIONS}"
        libc.mount("fuse-overlayfs", rootfs.mountpoint, "fuse.fuse-overlayfs", 0, options)
        process.fork_child(lambda: _serve(rootfs, device))
    finally:
        os.close(device)


def _serve(rootfs: Rootfs, device: int) -> int:
    libc.unshare(libc.CLONE_NEWNS)
    # Our copy of the mount would keep the connection alive for ever.
    libc.umount2(rootfs.mountpoint, libc.MNT_DETACH)
    lower = _enter_jail(rootfs)
    options = f"lowerdir={lower},upperdir=/c/upper,workdir=/c/work{rootfs.mapping}"
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    null = os.open("/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.dup2(device, 3)
    libc.close_range(4)
    os.execve(rootfs.program, [rootfs.program, "-f", "-o", options, "/dev/fd/3"], {})


def _enter_jail(rootfs: Rootfs) -> str:
    """Make a root that holds what the server needs; the value of its ``lowerdir``."""
    libc.mount("tmpfs", rootfs.mountpoint, "tmpfs", libc.MS_NOSUID | libc.MS_NODEV, "mode=755")
    root = os.open(rootfs.mountpoint, libc.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    names = [f"/l/{number}" for number in range(len(rootfs.lower))]
    binds = [
        mounts.Bind(source=path, target=name, options=("ro",))
        for path, name in zip(rootfs.lower, names, strict=True)
    ]
    binds.append(mounts.Bind(source=os.path.dirname(rootfs.upper), target="/c"))
    binds.append(mounts.Bind(source="/dev/null", target="/null", recursive=False))
    binds += [
        mounts.Bind(source=path, target=path, options=("ro",))
        for path in (*_SYSTEM, *_PROC)
        if os.path.exists(path)
    ]
    for bind in binds:
        bind.execute(root)
    os.fchdir(root)
    libc.pivot_root(".", ".")
    libc.umount2(".", libc.MNT_DETACH)
    os.chdir("/")
    return ":".join(names)
