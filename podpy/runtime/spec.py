"""What a container is, computed: from its record to the plan that is carried out.

Everything here is pure: no file is opened, no process started.  The plan holds
all that the processes M and I need after ``fork``, so that they look nothing
up (see :mod:`podpy.runtime.launch`).
"""

from __future__ import annotations

import os

from podpy.kernel import libc
from podpy.kernel.mounts import Bind, Filesystem, Mask, Overlay, ReadOnly, Symlink
from podpy.kernel.userns import IdMap
from podpy.model import ContainerRecord, Mount, ProcessIdentity
from podpy.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from podpy.kernel.mounts import Operation
    from podpy.runtime.netns import NetworkPath

    Standard = Bind | Filesystem | Mask | Overlay | ReadOnly | Symlink

NOSUID_NOEXEC_NODEV = libc.MOUNT_ATTR_NOSUID | libc.MOUNT_ATTR_NOEXEC | libc.MOUNT_ATTR_NODEV

#: The character devices every container has: name → device number.
DEVICES: Mapping[str, int] = {
    "null": os.makedev(1, 3),
    "zero": os.makedev(1, 5),
    "full": os.makedev(1, 7),
    "random": os.makedev(1, 8),
    "urandom": os.makedev(1, 9),
    "tty": os.makedev(5, 0),
}
#: Hidden from containers, as podman has them.
MASKED = (
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/dev/block",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
)
#: Readable and not writable, as podman has them.
READ_ONLY = (
    "/proc/asound",
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
)
#: Where a read-only root file system still has room, as podman's ``--read-only-tmpfs``.
WRITABLE_TMPFS = ("/run", "/tmp", "/var/tmp")
PING_GROUPS = "net.ipv4.ping_group_range"

INIT_TARGET = "/dev/init"


@record
class Rootfs:
    """How the root file system is mounted.

    ``kind`` is ``overlay``, ``fuse-overlayfs`` or ``bind`` (``vfs`` and
    ``--rootfs``).  ``lower`` goes from the topmost layer down, and so does
    ``data``, whose files ``lower`` only describes (:mod:`podpy.storage.shadow`).
    ``program`` and ``mapping`` are fuse-overlayfs and its id options.
    ``volatile`` skips the file system sync when it is unmounted: for uppers thrown away.
    """

    kind: str
    mountpoint: str
    lower: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    upper: str = ""
    work: str = ""
    path: str = ""
    volatile: bool = False
    program: str = ""
    mapping: str = ""


@record
class Namespaces:
    """The plan: flags of the namespaces to make, and those to join of other containers.

    ``join`` pairs a living process with the flags of the namespaces it lends.
    The user namespace is joined first (kernel: without it the others are EPERM);
    ``user`` says whether it is ``new`` or one of those (``join``).  ``network``
    is a network namespace of no container's.
    """

    new: int
    join: tuple[tuple[ProcessIdentity, int], ...] = ()
    user: str = "new"
    network: NetworkPath | None = None

    @property
    def is_guest(self) -> bool:
        """It lives in a user namespace that others may have processes in."""
        return self.user != "new"


@record
class Process:
    """The payload: what is executed, as whom, with what limits and rights.

    ``capabilities`` is a bit mask, ``seccomp`` a BPF program (empty: none),
    ``rlimits`` triples of ``RLIMIT_`` number, soft and hard limit.  ``preserved``
    are the caller's descriptors that the payload keeps, under their numbers;
    ``activation`` is what sd_listen_fds(3) reads of them, but for ``LISTEN_PID``.
    ``tie`` is a pidfd of the process that reaps it, with which it dies; -1: it lives on.
    """

    argv: tuple[str, ...]
    env: tuple[str, ...]
    cwd: str
    user: str
    groups: tuple[str, ...] = ()
    capabilities: int = 0
    seccomp: bytes = b""
    no_new_privileges: bool = False
    rlimits: tuple[tuple[int, int, int], ...] = ()
    umask: int = 0o022
    oom_score_adj: int | None = None
    last_capability: int = 40
    may_set_groups: bool = True
    preserved: tuple[int, ...] = ()
    activation: tuple[str, ...] = ()
    tie: int = -1


@record
class Plan:
    """All that M and I do, in order, and nothing they must look up.

    ``operations`` come before the payload's terminal exists, ``late_operations``
    last of all; ``owned`` are the targets whose trees become the payload's user's.
    ``bridged``: S plugs the new network namespace into bridges, and is handed it.
    ``surveyed`` are the mount targets of which S is told what had to be made.
    ``recorder`` is a BPF program loaded before the payload's own; S gets its listener.
    """

    rootfs: Rootfs
    namespaces: Namespaces
    id_map: IdMap
    operations: tuple[Operation, ...] = ()
    late_operations: tuple[Operation, ...] = ()
    owned: tuple[str, ...] = ()
    read_only_root: bool = False
    hostname: str = ""
    domainname: str = ""
    process: Process
    tty: bool = False
    interactive: bool = False
    loopback: bool = False
    bridged: bool = False
    surveyed: tuple[str, ...] = ()
    recorder: bytes = b""


def device_operations() -> list[Standard]:
    """``/dev``: a fresh tmpfs of mode 755, the six devices by rdev, and the usual links.

    A sticky 1777 ``/dev`` would forbid its owner to recreate files there.
    """
    found: list[Standard] = [
        Filesystem(
            kind="tmpfs",
            target="/dev",
            settings=("mode=755", "size=65536k"),
            attributes=libc.MOUNT_ATTR_NOSUID | libc.MOUNT_ATTR_NOEXEC,
            follow=False,
        )
    ]
    for name, number in DEVICES.items():
        found.append(
            Bind(
                source=f"/dev/{name}", target=f"/dev/{name}",
                recursive=False, follow=False, device=number,
            )
        )  # fmt: skip
    links = {
        "/dev/fd": "/proc/self/fd",
        "/dev/stdin": "/proc/self/fd/0",
        "/dev/stdout": "/proc/self/fd/1",
        "/dev/stderr": "/proc/self/fd/2",
        "/dev/core": "/proc/kcore",
        "/dev/ptmx": "pts/ptmx",
    }
    found += [Symlink(target=target, link=link) for link, target in links.items()]
    return found


def proc_operation(
    sysctls: Mapping[str, str], host_pids: bool, settings: tuple[str, ...] = ()
) -> Standard:
    """``/proc``; with the host's pid namespace only a bind of the host's (else EPERM)."""
    if host_pids:
        return Bind(source="/proc", target="/proc", follow=False, sysctls=sysctls)
    return Filesystem(
        kind="proc", target="/proc", settings=settings, attributes=NOSUID_NOEXEC_NODEV,
        follow=False, sysctls=sysctls,
    )  # fmt: skip


def sys_operation(owns_network: bool, privileged: bool) -> Standard:
    """``/sys``: a new sysfs where the network namespace is ours, else the host's, read-only.

    The kernel lets only the owner of the network namespace mount a sysfs.
    """
    if not owns_network:
        return Bind(source="/sys", target="/sys", options=("ro", "rslave"), follow=False)
    read_only = 0 if privileged else libc.MOUNT_ATTR_RDONLY
    return Filesystem(
        kind="sysfs", target="/sys", attributes=NOSUID_NOEXEC_NODEV | read_only, follow=False
    )


def pseudo_operations(
    made: ContainerRecord, *, owns_network: bool, sysctls: Mapping[str, str], gid_count: int,
    cgroup2: bool,
) -> list[Standard]:  # fmt: skip
    """The file systems that every container has, in the order they are mounted."""
    pts_group = ("gid=5",) if gid_count > 5 else ()
    found: list[Standard] = [
        proc_operation(sysctls, made.pid_mode == "host", made.proc_options),
        *device_operations(),
    ]
    found.append(
        Filesystem(
            kind="devpts", target="/dev/pts",
            settings=("newinstance", "ptmxmode=0666", "mode=0620", *pts_group),
            attributes=libc.MOUNT_ATTR_NOSUID | libc.MOUNT_ATTR_NOEXEC, follow=False,
        )
    )  # fmt: skip
    if made.ipc_mode != "host":
        found.append(
            Filesystem(
                kind="mqueue", target="/dev/mqueue", attributes=NOSUID_NOEXEC_NODEV, follow=False
            )
        )
    if made.ipc_mode not in ("host", "none") and not made.ipc_mode.startswith("container:"):
        found.append(
            Filesystem(
                kind="tmpfs", target="/dev/shm", settings=("mode=1777", f"size={made.shm_size}"),
                attributes=NOSUID_NOEXEC_NODEV, follow=False,
            )
        )  # fmt: skip
    found.append(sys_operation(owns_network, made.privileged))
    if cgroup2:
        found.append(cgroup_operation(made.cgroup_mode == "host", made.privileged))
    found.append(Symlink(target="/proc/mounts", link="/etc/mtab", optional=True))
    return found


def cgroup_operation(host_cgroups: bool, privileged: bool) -> Standard:
    """``/sys/fs/cgroup``; in the host's cgroup namespace only a bind of the host's (else EPERM)."""
    if host_cgroups:
        access = "rw" if privileged else "ro"
        return Bind(
            source="/sys/fs/cgroup", target="/sys/fs/cgroup",
            options=(access, "nosuid", "noexec", "nodev"), follow=False,
        )  # fmt: skip
    read_only = 0 if privileged else libc.MOUNT_ATTR_RDONLY
    return Filesystem(
        kind="cgroup2", target="/sys/fs/cgroup",
        attributes=NOSUID_NOEXEC_NODEV | read_only, follow=False,
    )  # fmt: skip


def tmpfs_operation(mount: Mount) -> Standard:
    """A user's tmpfs; ``--tmpfs`` defaults are docker's: ``rw,noexec,nosuid,nodev``."""
    settings, attributes = [], NOSUID_NOEXEC_NODEV
    opened = {
        "exec": libc.MOUNT_ATTR_NOEXEC,
        "suid": libc.MOUNT_ATTR_NOSUID,
        "dev": libc.MOUNT_ATTR_NODEV,
    }
    for option in mount.options:
        if option in opened:
            attributes &= ~opened[option]
        elif option == "ro":
            attributes |= libc.MOUNT_ATTR_RDONLY
        elif option.startswith(("size=", "mode=", "nr_inodes=", "nr_blocks=", "uid=", "gid=")):
            settings.append(option)
    if not any(s.startswith("mode=") for s in settings):
        settings.append("mode=1777")
    return Filesystem(
        kind="tmpfs", target=mount.destination, settings=tuple(settings), attributes=attributes
    )


def user_operations(
    mounts: Iterable[Mount], volume_paths: Mapping[str, str], overlays: str
) -> list[Standard]:
    """The mounts a user asked for, parents before children.

    ``volume_paths`` maps a volume's name to the host directory of its data;
    ``overlays`` is the directory for the changes below mounts with option ``O``
    (see :func:`overlay_directories`).
    """
    found: list[Standard] = []
    for mount in in_order(mounts):
        source = volume_paths[mount.source] if mount.type == "volume" else mount.source
        if mount.type == "tmpfs":
            found.append(tmpfs_operation(mount))
        elif "O" in mount.options:
            upper, work = overlay_directories(overlays, mount)
            found.append(Overlay(source=source, target=mount.destination, upper=upper, work=work))
        else:
            found.append(
                Bind(
                    source=source,
                    target=mount.destination,
                    options=mount.options,
                    recursive="bind" not in mount.options,
                    subpath=mount.subpath,
                )
            )
    return found


def in_order(mounts: Iterable[Mount]) -> list[Mount]:
    return sorted(mounts, key=lambda m: (m.destination.count("/"), m.destination))


def overlay_directories(directory: str, mount: Mount) -> tuple[str, str]:
    """Where the changes of a mount with option ``O`` go: upper and work directory."""
    name = mount.destination.strip("/").replace("_", "__").replace("/", "_")
    return f"{directory}/{name}/upper", f"{directory}/{name}/work"


def protective_operations(made: ContainerRecord) -> list[Standard]:
    """Masked and read-only paths; ``unmasked`` (``ALL`` or paths) opens them again."""
    if made.privileged or "ALL" in made.unmasked:
        return [Mask(target=path) for path in made.masked]
    opened = set(made.unmasked)
    masked = [path for path in (*MASKED, *made.masked) if path not in opened]
    found: list[Standard] = [Mask(target=path) for path in masked]
    found += [ReadOnly(target=path) for path in READ_ONLY if path not in opened]
    return found


def covered(operations: Iterable[Standard], by: Iterable[Mount]) -> list[Standard]:
    """Drop the standard mounts that a user's mount replaces: the same target, or all below it.

    ``-v /dev:/dev`` replaces ``/dev`` with everything that podpy would put there.
    """
    replaced = tuple(mount.destination.rstrip("/") for mount in by)
    if not replaced:
        return list(operations)

    def stays(operation: Standard) -> bool:
        target = operation.link if isinstance(operation, Symlink) else operation.target
        return not any(target == path or target.startswith(f"{path}/") for path in replaced if path)

    return [operation for operation in operations if stays(operation)]


def operations(
    made: ContainerRecord,
    *,
    owns_network: bool,
    new_network: bool,
    volume_paths: Mapping[str, str],
    files: Mapping[str, str],
    overlays: str,
    gid_count: int,
    cgroup2: bool = True,
    init_program: str = "",
) -> tuple[list[Standard], list[Standard]]:
    """Every mount of a container: before the payload's terminal exists, and last of all.

    ``files`` maps targets (``/etc/hosts`` …) to the host files podpy made;
    ``new_network`` says that the network namespace is not one that others use.
    """
    sysctls = dict(made.sysctls)
    if new_network:
        # The kernel takes a range only when both ends are mapped.
        sysctls.setdefault(PING_GROUPS, f"0 {gid_count - 1}")
    standard = pseudo_operations(
        made, owns_network=owns_network, sysctls=sysctls,
        gid_count=gid_count, cgroup2=cgroup2,
    )  # fmt: skip
    if made.ipc_mode == "host":
        standard.append(Bind(source="/dev/shm", target="/dev/shm", follow=False))
        standard.append(
            Bind(source="/dev/mqueue", target="/dev/mqueue", follow=False, optional=True)
        )
    for device in made.devices:
        standard.append(Bind(source=device.host, target=device.container, recursive=False))
    if init_program:
        standard.append(
            Bind(source=init_program, target=INIT_TARGET, options=("ro",), recursive=False)
        )
    if made.read_only and made.read_only_tmpfs:
        taken = {m.destination for m in made.mounts}
        standard += [
            tmpfs_operation(Mount(type="tmpfs", destination=path, options=("exec", "dev", "suid")))
            for path in WRITABLE_TMPFS
            if path not in taken
        ]
    first = covered(standard, made.mounts)
    first += user_operations(made.mounts, volume_paths, overlays)
    # Last: a tmpfs on /run or /etc comes without them, and a user's own mount keeps its files.
    made_files = [Bind(source=path, target=at, recursive=False) for at, path in files.items()]
    first += covered(made_files, (m for m in made.mounts if m.type != "tmpfs"))
    return first, protective_operations(made)
