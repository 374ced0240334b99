"""Capabilities: their names and numbers, the set a container gets, and dropping the rest.

Names are spelled as in capabilities(7), ``CAP_NET_ADMIN``; users may write
them in any case and without the prefix.  What a container may ever hold is its
bounding set: the effective and permitted sets are the same set for its root and
empty for anybody else, the inheritable and ambient sets are always empty
(a non-empty inheritable set lets file capabilities come back after they were
dropped).
"""

from __future__ import annotations

from podpy import files
from podpy.errors import UsageError
from podpy.kernel import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

NAMES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)
"""Every capability; the index is the kernel's number."""

NUMBERS = {name: number for number, name in enumerate(NAMES)}

DEFAULT = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
)
"""What a container gets when nothing is said: podman's set, in its order."""

LAST_CAP = "/proc/sys/kernel/cap_last_cap"
ALL = "ALL"


def last_known() -> int:
    """The highest capability number of the running kernel (may exceed ``NAMES``)."""
    try:
        return int(files.read_bytes(LAST_CAP, limit=64))
    except (OSError, ValueError):
        return len(NAMES) - 1


def supported() -> tuple[str, ...]:
    """Every capability that both this kernel and podpy know."""
    return NAMES[: last_known() + 1]


def normalise(name: str) -> str:
    """``net_admin`` → ``CAP_NET_ADMIN``, ``all`` → ``ALL``; :class:`UsageError` when unknown."""
    upper = name.strip().upper()
    if upper == ALL:
        return ALL
    full = upper if upper.startswith("CAP_") else f"CAP_{upper}"
    if full not in NUMBERS:
        raise UsageError(
            f"unknown capability {name!r}", hint="capabilities(7) lists the names; ALL means all"
        )
    return full


def select(
    add: Iterable[str] = (),
    drop: Iterable[str] = (),
    privileged: bool = False,
    default: Iterable[str] = DEFAULT,
) -> tuple[str, ...]:
    """The capabilities of a container, sorted by name.

    ``--cap-drop=ALL`` starts from nothing, ``--cap-add=ALL`` and
    ``--privileged`` from everything this kernel has, else ``default``
    (``default_capabilities`` of containers.conf).  Additions win over
    ``drop ALL``, drops over ``add ALL``; naming one capability in both is
    refused, and so is adding one this kernel does not have.
    """
    adds = {normalise(name) for name in add}
    drops = {normalise(name) for name in drop}
    if contradiction := adds & drops:
        raise UsageError(f"capability {min(contradiction)!r} cannot be dropped and added")
    known = supported()
    if missing := adds - {ALL, *known}:
        raise UsageError(f"this kernel does not know the capability {min(missing)!r}")
    if ALL in drops:
        base: set[str] = set()
    elif privileged or ALL in adds:
        base = set(known)
    else:
        base = {normalise(name) for name in default} & set(known)
    return tuple(sorted(((base - drops) | adds) - {ALL}))


def bits(names: Iterable[str]) -> int:
    """The kernel's bit mask of some capabilities."""
    mask = 0
    for name in names:
        mask |= 1 << NUMBERS[normalise(name)]
    return mask


def names(mask: int) -> tuple[str, ...]:
    """The capabilities of a bit mask, by number; those podpy has no name for are left out."""
    return tuple(name for number, name in enumerate(NAMES) if mask >> number & 1)


def drop_bounding(keep: int, last: int) -> None:
    """Take every capability up to ``last`` but those of the mask ``keep`` out of the bounding set.

    ``last`` is :func:`last_known`, read before the container's ``/proc`` takes
    the host's place: a capability newer than podpy is dropped as well.
    """
    for number in range(last + 1):
        if not keep >> number & 1:
            libc.prctl(libc.PR_CAPBSET_DROP, number, 0, 0, 0)


def set_process(mask: int) -> None:
    """Make ``mask`` the effective and permitted set; inheritable and ambient become empty."""
    libc.prctl(libc.PR_CAP_AMBIENT, libc.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    libc.capset(mask, mask, 0)
