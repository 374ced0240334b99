"""Control groups, version 2: where a container's processes are counted, frozen and killed.

A user can use a subtree that was delegated: one whose directories and
``cgroup.procs`` are writable.  A process may be moved only within the subtree
of such a directory, so the caller's own cgroup must lie in it
(cgroups(7), "Delegation").  Version 1 hierarchies are not used: a user has no
way to be given one that is safe.

Under systemd the subtree is a scope of the user manager: :mod:`podpy.kernel.systemd`.
"""

from __future__ import annotations

import errno
import os
import select
import time

from podpy.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

ROOTS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
OWN = "/proc/self/cgroup"
_PATIENCE = 2.0  # seconds for a killed or frozen cgroup to say so


# --- finding the delegated subtree -------------------------------------------


def mount_point() -> str:
    """Where version 2 is mounted; empty on a host that has version 1 only.

    A hybrid host has it beside the version 1 hierarchies, without controllers.
    """
    for path in ROOTS:
        if os.path.exists(f"{path}/cgroup.controllers"):
            return path
    return ""


def own_path(text: str = "") -> str:
    """The caller's cgroup from ``/proc/self/cgroup``: ``/`` and on, below the mount point.

    Empty when the caller is in none, or in one outside the mounted subtree (a
    cgroup namespace shows that as ``/..``).
    """
    for line in (text or _read(OWN)).splitlines():
        hierarchy, _, path = line.partition("::")
        if hierarchy == "0" and path.startswith("/") and not path.startswith("/.."):
            return path.removesuffix(" (deleted)")
    return ""


def has_user_manager() -> bool:
    """systemd runs a manager for the caller (its private socket is there): it makes the cgroups."""
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    return os.path.exists(f"{runtime}/systemd/private")


def delegated() -> str:
    """The topmost directory, from the caller's cgroup up, that the caller may manage.

    The topmost, because any other process of the user in that subtree can then
    join a container made there.  Empty when there is none: :func:`why_not`.
    """
    root, path = mount_point(), own_path()
    if not root or not path:
        return ""
    found, directory = "", f"{root}{path}".rstrip("/")
    while len(directory) >= len(root) and _may_manage(directory):
        found, directory = directory, os.path.dirname(directory)
    return found


def why_not() -> str:
    """The reason why there is no delegated subtree, for ``info`` and error messages."""
    root = mount_point()
    if not root:
        return "cgroup version 2 is not mounted on this host"
    if not own_path():
        return f"this process is in no cgroup below {root}"
    return f"the cgroup {root}{own_path()} is not delegated to you"


def _may_manage(directory: str) -> bool:
    return os.access(directory, os.W_OK) and os.access(f"{directory}/cgroup.procs", os.W_OK)


# --- one cgroup --------------------------------------------------------------


def create(parent: str, name: str) -> str:
    """Make an empty cgroup and return its directory.

    One of that name that was left behind is emptied and removed first.
    """
    path = f"{parent}/{name}"
    try:
        os.mkdir(path)
    except FileExistsError:
        remove(path)
        os.mkdir(path)
    except OSError as error:
        raise HostError(f"cgroup {path}: {error.strerror}") from None
    return path


def enter(path: str, pid: int = 0) -> None:
    """Move a process (0: the caller) with all its threads.

    The kernel waits for a grace period, 5 to 15 ms: a process that is yet to be
    made is better born there (``process.fork_child`` with ``cgroup_fd``).
    """
    try:
        _write(f"{path}/cgroup.procs", str(pid))
    except OSError as error:
        hint = ""
        if error.errno == errno.EACCES:
            hint = "the process must come from a cgroup of the same delegated subtree"
        raise HostError(f"cgroup {path}: cannot enter: {error.strerror}", hint=hint) from None


def processes(path: str) -> list[int]:
    """The pids of a cgroup and of those below it; empty when there is no such cgroup."""
    try:
        found = [int(line) for line in _read(f"{path}/cgroup.procs").split()]
        for name in _children(path):
            found += processes(f"{path}/{name}")
    except OSError:
        return []
    return found


def kill(path: str) -> None:
    """SIGKILL everything in a cgroup and below; new processes cannot escape it.

    ``cgroup.kill`` exists since Linux 5.14; before, the cgroup is frozen first
    so that nothing can fork away.
    """
    try:
        _write(f"{path}/cgroup.kill", "1")
    except FileNotFoundError:
        if os.path.isdir(path):
            _kill_frozen(path)


def _kill_frozen(path: str) -> None:
    freeze(path)
    for pid in processes(path):
        try:
            os.kill(pid, 9)
        except ProcessLookupError:
            pass
    thaw(path)


def freeze(path: str) -> None:
    """Stop every process of a cgroup; returns when they are stopped."""
    _write(f"{path}/cgroup.freeze", "1")
    if not _await_event(path, "frozen", "1"):
        thaw(path)
        raise HostError(f"cgroup {path}: the kernel could not freeze it within {_PATIENCE:g} s")


def thaw(path: str) -> None:
    """Let a frozen cgroup run again."""
    _write(f"{path}/cgroup.freeze", "0")


def is_frozen(path: str) -> bool:
    return events(path).get("frozen") == "1"


def remove(path: str) -> None:
    """Kill what is in a cgroup and remove it with those below; no error when it is gone."""
    if not os.path.isdir(path):
        return
    kill(path)
    _await_event(path, "populated", "0")
    _remove_empty(path)


def _remove_empty(path: str) -> None:
    try:
        _remove_inner(path)
        os.rmdir(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise HostError(f"cgroup {path}: cannot be removed: {error.strerror}") from None


def _remove_inner(path: str) -> None:
    """Remove the cgroups below one: a container may nest them deeper than a path is long.

    One descriptor goes down and up again; nobody can move a cgroup meanwhile.
    """
    names: list[str] = []
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    fd = os.open(path, flags)
    try:
        while (inner := _first_child(fd)) or names:
            outer, fd = fd, os.open(inner or "..", flags, dir_fd=fd)
            os.close(outer)
            if inner:
                names.append(inner)
            else:
                os.rmdir(names.pop(), dir_fd=fd)
    finally:
        os.close(fd)


def _first_child(fd: int) -> str:
    with os.scandir(fd) as entries:
        return next((e.name for e in entries if e.is_dir(follow_symlinks=False)), "")


def events(path: str, name: str = "cgroup.events") -> dict[str, str]:
    """A flat keyed file of a cgroup: ``cgroup.events``, ``memory.events`` …; empty without it."""
    try:
        text = _read(f"{path}/{name}")
    except OSError:
        return {}
    return dict(line.split(" ", 1) for line in text.splitlines() if " " in line)


def enable_controllers(path: str) -> tuple[str, ...]:
    """Give the cgroups below ``path`` all controllers that ``path`` has; those that they have.

    The kernel refuses while processes are in ``path`` itself.
    """
    try:
        available = _read(f"{path}/cgroup.controllers").split()
        _write(f"{path}/cgroup.subtree_control", " ".join(f"+{name}" for name in available))
    except OSError:
        pass
    try:
        return tuple(_read(f"{path}/cgroup.subtree_control").split())
    except OSError:
        return ()


def limit(path: str, settings: Mapping[str, str]) -> None:
    """Write settings (``memory.max`` …) of a cgroup whose parent has no processes of its own.

    ``memory.swap.max`` is left alone where the kernel counts no swap.
    """
    if not settings:
        return
    parent = os.path.dirname(path)
    available = enable_controllers(parent)
    for name, value in settings.items():
        controller = name.partition(".")[0]
        if controller not in available:
            raise _no_controller(parent, controller, name)
        try:
            _write(f"{path}/{name}", value)
        except FileNotFoundError:
            if name != "memory.swap.max":
                raise HostError(f"cgroup {path}: this kernel has no {name}") from None
        except OSError as error:
            raise HostError(f"cgroup {path}: {name}={value}: {error.strerror}") from None


def _no_controller(parent: str, controller: str, name: str) -> HostError:
    if controller in _read(f"{parent}/cgroup.controllers").split():
        return HostError(
            f"{name}: the cgroup {parent} has processes of its own, and so cannot give"
            f" the controller {controller} to those below it",
            hint="start podpy in a cgroup below that one",
        )
    return HostError(
        f"{name}: the controller {controller} is not delegated to you (cgroup {parent})",
        hint="as root: `Delegate=cpu cpuset io memory pids` for user@.service (systemd)",
    )


def _await_event(path: str, key: str, value: str) -> bool:
    """Wait until an event has a value; the kernel wakes pollers of ``cgroup.events``."""
    try:
        fd = os.open(f"{path}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return not os.path.isdir(path)
    try:
        poll = select.poll()
        poll.register(fd, select.POLLPRI)
        limit = time.monotonic() + _PATIENCE
        while events(path).get(key, value) != value:
            left = limit - time.monotonic()
            if left <= 0:
                return False
            os.pread(fd, 4096, 0)  # a read arms the notification
            if events(path).get(key, value) != value:
                poll.poll(min(left, 0.1) * 1000)
        return True
    finally:
        os.close(fd)


def _children(path: str) -> list[str]:
    try:
        return [entry.name for entry in os.scandir(path) if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []  # somebody else removes it, too


def _read(path: str) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = b""
        while part := os.read(fd, 65536):
            text += part
        return text.decode()
    finally:
        os.close(fd)


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
