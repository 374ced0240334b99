"""User namespaces: which ids the caller may map, and how a child gets them.

A process enters a new user namespace by ``unshare`` and waits; a process that
stayed outside writes the map, through the setuid helpers ``newuidmap`` and
``newgidmap`` when more than the caller's own id is mapped (user_namespaces(7)).
"""

from __future__ import annotations

import fcntl
import os

from podpy import files
from podpy.errors import HostError
from podpy.kernel import process
from podpy.model import IdMapping
from podpy.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

SUBUID = "/etc/subuid"
SUBGID = "/etc/subgid"
_NS_GET_USERNS = 0xB701  # ioctl_ns(2)


@record
class IdMap:
    """The two maps of a user namespace, each a sequence of extents."""

    uid: tuple[IdMapping, ...]
    gid: tuple[IdMapping, ...]
    _nested = {"uid": IdMapping, "gid": IdMapping}

    @property
    def is_single(self) -> bool:
        """Only the caller's own ids are mapped: no helper is needed to write it."""
        return all(len(m) == 1 and m[0].count == 1 for m in (self.uid, self.gid))

    def knows_user(self, uid: int) -> bool:
        """Whether a user of the host has a number in the namespace."""
        return any(m.outside <= uid < m.outside + m.count for m in self.uid)

    def covers(self, other: IdMap) -> bool:
        """Whether every host id of another map has a number in this one."""
        return all(
            sum(_overlap(extent, ours) for ours in mine) == extent.count
            for mine, theirs in ((self.uid, other.uid), (self.gid, other.gid))
            for extent in theirs
        )


def _overlap(one: IdMapping, other: IdMapping) -> int:
    """How many host ids two extents have in common."""
    first = max(one.outside, other.outside)
    last = min(one.outside + one.count, other.outside + other.count)
    return max(last - first, 0)


def _read_quietly(path: str) -> bytes:
    try:
        return files.read_bytes(path)
    except OSError:
        return b""


def _names(uid: int) -> set[str]:
    """What the subordinate id files may call this user: the number and the name."""
    names = {str(uid)}
    given = os.environ.get("USER", "")
    if given and _passwd_uid(given) == uid:
        names.add(given)
        return names
    import pwd

    try:
        names.add(pwd.getpwuid(uid).pw_name)
    except KeyError:
        pass
    return names


def _passwd_uid(name: str) -> int:
    """The uid of a name in ``/etc/passwd``, without NSS; -1 when it is not there."""
    prefix = f"{name}:".encode()
    for line in _read_quietly("/etc/passwd").split(b"\n"):
        if line.startswith(prefix):
            return int(line.split(b":")[2])
    return -1


def _ranges(path: str, names: set[str]) -> tuple[tuple[int, int], ...]:
    """The ``(first, count)`` ranges of a subordinate id file (subuid(5)) for a user."""
    found = []
    for line in _read_quietly(path).decode(errors="replace").splitlines():
        parts = line.strip().split(":")
        if len(parts) == 3 and parts[0] in names and parts[1].isdigit() and parts[2].isdigit():
            found.append((int(parts[1]), int(parts[2])))
    return tuple(found)


def _ranges_by_nss(flag: str) -> tuple[tuple[int, int], ...]:
    """Ranges that a directory service grants: ``getsubids`` reads ``subid:`` of nsswitch.conf."""
    if b"subid:" not in _read_quietly("/etc/nsswitch.conf"):
        return ()
    program = process.find_program("getsubids")
    if not program:
        return ()
    done = process.run([program, *([flag] if flag else []), str(os.getuid())])
    found = []
    for line in done.stdout.decode(errors="replace").splitlines():
        words = line.split()
        if len(words) == 4 and words[2].isdigit() and words[3].isdigit():
            found.append((int(words[2]), int(words[3])))
    return tuple(found)


def subordinate_ids(user: str = "") -> tuple[tuple[tuple[int, int], ...], ...]:
    """The subordinate uid and gid ranges of the caller, or of ``user``: ``(first, count)`` each."""
    names = {user} if user else _names(os.getuid())
    uids, gids = _ranges(SUBUID, names), _ranges(SUBGID, names)
    if not user:
        uids = uids or _ranges_by_nss("")
        gids = gids or _ranges_by_nss("-g")
    return uids, gids


def _stack(own: int, ranges: tuple[tuple[int, int], ...]) -> tuple[IdMapping, ...]:
    """Id 0 is the caller; 1 … N are the subordinate ids, range after range."""
    extents = [IdMapping(inside=0, outside=own, count=1)]
    inside = 1
    for first, count in ranges:
        extents.append(IdMapping(inside=inside, outside=first, count=count))
        inside += count
    return tuple(extents)


def root_map() -> IdMap:
    """The default map: root is the caller, 1 … N the subordinate ids.

    Without subordinate ids, or without the helpers that write them, only root
    is mapped (single-id mode): :attr:`IdMap.is_single`.
    """
    uids, gids = subordinate_ids()
    if not (uids and gids and _has_helpers()):
        return own_map()
    return IdMap(uid=_stack(os.geteuid(), uids), gid=_stack(os.getegid(), gids))


def own_map() -> IdMap:
    """The map of single-id mode: root is the caller, and there is nobody else."""
    return IdMap(uid=_stack(os.geteuid(), ()), gid=_stack(os.getegid(), ()))


def _has_helpers() -> bool:
    return bool(process.find_program("newuidmap") and process.find_program("newgidmap"))


def _extents(mappings: tuple[IdMapping, ...]) -> list[str]:
    return [str(n) for m in mappings for n in (m.inside, m.outside, m.count)]


def write_maps(pid: int, id_map: IdMap) -> None:
    """Write the map of a process that has just unshared its user namespace.

    ``newuidmap`` and ``newgidmap`` run side by side: each takes about 1.3 ms.
    """
    if id_map.is_single:
        _write_single(pid, id_map)
        return
    helpers = []
    for name, mappings in (("newuidmap", id_map.uid), ("newgidmap", id_map.gid)):
        program = process.find_program(name)
        if not program:
            raise HostError(f"{name}: not installed", hint="install the package uidmap")
        helpers.append((name, process.spawn([program, str(pid), *_extents(mappings)])))
    failed = [name for name, child in helpers if process.wait(child) != 0]
    if failed:
        raise HostError(
            f"{' and '.join(failed)}: cannot write the id map {_describe(id_map)}",
            hint="check the ranges in /etc/subuid and /etc/subgid, and that newuidmap and"
            " newgidmap are setuid root or hold CAP_SETUID and CAP_SETGID",
        )


def _describe(id_map: IdMap) -> str:
    return ",".join(f"{m.inside}:{m.outside}:{m.count}" for m in id_map.uid)


def _write_single(pid: int, id_map: IdMap) -> None:
    # The kernel lets an unprivileged process write gid_map only after it has
    # given up setgroups(2) there (CVE-2014-8989).
    _write_proc(pid, "uid_map", " ".join(_extents(id_map.uid)))
    _write_proc(pid, "setgroups", "deny")
    _write_proc(pid, "gid_map", " ".join(_extents(id_map.gid)))


def _write_proc(pid: int, name: str, text: str) -> None:
    fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def owner_of(namespace: int) -> int:
    """A descriptor of the user namespace that owns a namespace.

    ``PermissionError`` unless that is one of the caller's own, or below it.
    """
    return fcntl.ioctl(namespace, _NS_GET_USERNS)


def unshare_error(error: OSError) -> HostError:
    """Why a user namespace could not be made, with the remedy of the host at hand."""
    restricted = _read_quietly("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
    if restricted.strip() == b"1":
        return HostError(
            "unshare: this kernel lets only programs with an AppArmor profile make user namespaces",
            hint="install a profile with `userns,` for podpy, or as root"
            " `sysctl kernel.apparmor_restrict_unprivileged_userns=0`",
        )
    if _read_quietly("/proc/sys/kernel/unprivileged_userns_clone").strip() == b"0":
        return HostError(
            "unshare: user namespaces are closed to ordinary users",
            hint="as root: `sysctl kernel.unprivileged_userns_clone=1`",
        )
    if _read_quietly("/proc/sys/user/max_user_namespaces").strip() == b"0":
        return HostError(
            "unshare: this host allows no user namespaces",
            hint="as root: `sysctl user.max_user_namespaces=15000`",
        )
    return HostError(f"unshare: {error.strerror}")


def fork_mapped(
    function: Callable[[], int | None], id_map: IdMap | None = None, *, mount_ns: bool = True
) -> int:
    """Run ``function`` as root of a new user namespace in a child; return the child's pid.

    The map is :func:`root_map` unless another is given.  ``mount_ns`` adds a
    private mount namespace.  The caller must be single-threaded.  The child's
    exit status is what ``function`` returns; wait with ``process.wait``.
    """
    from podpy.kernel import libc

    mapping = id_map or root_map()
    ready_r, ready_w = os.pipe()
    mapped_r, mapped_w = os.pipe()

    def child() -> int | None:
        os.close(ready_r)
        os.close(mapped_w)
        try:
            libc.unshare(libc.CLONE_NEWUSER | (libc.CLONE_NEWNS if mount_ns else 0))
        except OSError as error:
            raise unshare_error(error) from None
        os.close(ready_w)
        if os.read(mapped_r, 1) != b"m":
            return 125
        os.close(mapped_r)
        os.setgid(0)
        os.setuid(0)
        libc.prctl(libc.PR_SET_PDEATHSIG, 9)  # last: a change of uid clears it
        return function()

    pid = process.fork_child(child)
    os.close(ready_w)
    os.close(mapped_r)
    try:
        os.read(ready_r, 1)
        write_maps(pid, mapping)
        os.write(mapped_w, b"m")
    finally:
        os.close(ready_r)
        os.close(mapped_w)
    return pid
