"""``--security-opt``, ``--device``, ``--sysctl``, ``--ulimit``: checked, then recorded.

What this host or a rootless container cannot do is refused here, with the
reason; nothing is accepted and dropped.
"""

from __future__ import annotations

import os
import resource
import stat

from podpy.engine import values
from podpy.errors import HostError, UsageError
from podpy.kernel import seccomp
from podpy.model import Device, Ulimit
from podpy.records import record
from podpy.runtime import spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

SELINUX = "/sys/fs/selinux/enforce"
_PROC_WORDS = ("hidepid", "subset")
_IPC_SYSCTLS = ("kernel.msg", "kernel.sem", "kernel.shm", "fs.mqueue.")
#: What every container has of its own below ``/dev``.
_OWN_DEVICES = frozenset(
    [*(f"/dev/{name}" for name in spec.DEVICES), "/dev/console", "/dev/ptmx", "/dev/pts",
     "/dev/shm", "/dev/mqueue"]
)  # fmt: skip
_LIMITS = {
    name[len("RLIMIT_") :].lower(): getattr(resource, name)
    for name in dir(resource)
    if name.startswith("RLIMIT_") and name != "RLIMIT_OFILE"
}


@record
class SecurityOptions:
    """What ``--security-opt`` said.

    ``seccomp``: ``default``, ``unconfined`` or the text of a profile.
    """

    no_new_privileges: bool = False
    seccomp: str = ""
    masked: tuple[str, ...] = ()
    unmasked: tuple[str, ...] = ()
    proc_options: tuple[str, ...] = ()


def options(texts: Iterable[str], cwd: str) -> SecurityOptions:
    """Parse every ``--security-opt``; both ``key=value`` and docker's old ``key:value``."""
    no_new_privileges, seccomp = False, ""
    masked: list[str] = []
    unmasked: list[str] = []
    proc: list[str] = []
    for text in texts:
        key, value = _split(text)
        if key == "no-new-privileges":
            no_new_privileges = values.boolean(value or "true", "--security-opt")
        elif key == "seccomp":
            seccomp = _seccomp(value, cwd)
        elif key in ("mask", "unmask"):
            (masked if key == "mask" else unmasked).extend(_paths(key, value))
        elif key == "systempaths" and value == "unconfined":
            unmasked.append("ALL")
        elif key == "proc-opts":
            proc += _proc(value)
        else:
            _check_label(key, value, text)
    return SecurityOptions(
        no_new_privileges=no_new_privileges, seccomp=seccomp, masked=tuple(masked),
        unmasked=tuple(unmasked), proc_options=tuple(proc),
    )  # fmt: skip


def _split(text: str) -> tuple[str, str]:
    for position, character in enumerate(text):
        if character in "=:":
            return text[:position], text[position + 1 :]
    return text, ""


def _seccomp(value: str, cwd: str) -> str:
    if value in ("unconfined", "default", "builtin"):
        return "default" if value == "builtin" else value
    if not value:
        raise UsageError("--security-opt: seccomp needs a profile's file, or unconfined")
    return seccomp.read_profile(os.path.normpath(os.path.join(cwd, value)))


def _paths(key: str, value: str) -> list[str]:
    if key == "unmask" and value.lower() == "all":
        return ["ALL"]
    found = [part for part in value.split(":") if part]
    for path in found:
        if not path.startswith("/"):
            raise UsageError(f"--security-opt: {key}={path}: the path must be absolute")
    if not found:
        raise UsageError(f"--security-opt: {key} needs paths")
    return [os.path.normpath(path) for path in found]


def _proc(value: str) -> list[str]:
    """Mount options of proc(5): ``hidepid=`` and ``subset=``."""
    found = [word for word in value.split(",") if word]
    for word in found:
        if word.partition("=")[0] not in _PROC_WORDS:
            raise UsageError(
                f"--security-opt: proc-opts has no option {word!r}", hint="hidepid=, subset="
            )
    return found


def _check_label(key: str, value: str, text: str) -> None:
    """Without a security module there is nothing to turn off; asking for one is an error."""
    if key == "apparmor" and value == "unconfined":
        return
    if key == "label" and value == "disable" and not os.path.exists(SELINUX):
        return
    if key in ("label", "apparmor"):
        module = "SELinux" if key == "label" else "AppArmor"
        raise HostError(
            f"--security-opt: {text!r}: podpy does not confine containers by {module}",
            hint="the user namespace, capabilities and seccomp confine them; leave the option out",
        )
    raise UsageError(
        f"--security-opt: invalid option {text!r}",
        hint="no-new-privileges, seccomp=, mask=, unmask=, systempaths=unconfined, proc-opts=",
    )


def opened(patterns: Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    """``unmask`` patterns (``/proc/*``) as the known paths they match; plain paths stay."""
    found: list[str] = []
    for pattern in patterns:
        if "*" in pattern:
            head, _, tail = pattern.partition("*")
            found += [p for p in known if p.startswith(head) and p.endswith(tail)]
        else:
            found.append(pattern)
    return tuple(dict.fromkeys(found))


# --- devices -----------------------------------------------------------------


def devices(texts: Iterable[str]) -> tuple[Device, ...]:
    """``--device HOST[:CONTAINER][:PERMISSIONS]``; a directory stands for all devices in it."""
    return tuple(device for text in texts for device in _device(text))


def _device(text: str) -> tuple[Device, ...]:
    parts = text.split(":")
    host, rest = parts[0], parts[1:]
    container = rest.pop(0) if rest and rest[0].startswith("/") else host
    permissions = rest.pop(0) if rest else "rwm"
    if rest or not host.startswith("/") or not set("rwm").issuperset(permissions):
        raise UsageError(f"--device: invalid specification {text!r}", hint="/dev/x[:/dev/y][:rwm]")
    if not {"r", "w"}.issubset(permissions):
        raise HostError(
            f"--device: {text!r}: a rootless container cannot be given only"
            f" {permissions!r} of a device",
            hint="leave the permissions out: the device's own mode and owner decide",
        )
    try:
        mode = os.stat(host).st_mode
    except OSError as error:
        raise HostError(f"--device: {host}: {error.strerror}") from None
    if stat.S_ISDIR(mode):
        return tuple(
            Device(host=f"{host}/{name}", container=f"{container}/{name}", permissions=permissions)
            for name in sorted(os.listdir(host))
            if _is_device(f"{host}/{name}")
        )
    if not _is_device(host):
        raise UsageError(f"--device: {host} is not a device")
    return (Device(host=host, container=container, permissions=permissions),)


def host_devices() -> tuple[Device, ...]:
    """What ``--privileged`` adds: the host's devices that the caller may open himself."""
    found = []
    for directory, names, entries in os.walk("/dev"):
        names[:] = [name for name in names if f"{directory}/{name}" not in _OWN_DEVICES]
        for entry in sorted(entries):
            path = f"{directory}/{entry}"
            own = path in _OWN_DEVICES or path.startswith("/dev/tty") or os.path.islink(path)
            if not own and _is_device(path) and os.access(path, os.R_OK | os.W_OK):
                found.append(Device(host=path, container=path))
    return tuple(found)


def _is_device(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return stat.S_ISCHR(mode) or stat.S_ISBLK(mode)


# --- limits and sysctls ------------------------------------------------------


def ulimits(texts: Iterable[str], configured: Iterable[str]) -> tuple[Ulimit, ...]:
    """``--ulimit NAME=SOFT[:HARD]``; ``host`` means the caller's own limits, all of them."""
    found: dict[str, Ulimit] = {}
    for text in (*configured, *texts):
        if text == "host":
            found.update((name, _own(name)) for name in _LIMITS)
            continue
        limit = _ulimit(text)
        found[limit.name] = limit
    return tuple(found.values())


def _own(name: str) -> Ulimit:
    soft, hard = resource.getrlimit(_LIMITS[name])
    return Ulimit(name=name, soft=soft, hard=hard)


def _ulimit(text: str) -> Ulimit:
    name, separator, value = text.partition("=")
    name = name.lower().removeprefix("rlimit_")
    if not separator or name not in _LIMITS:
        raise UsageError(
            f"--ulimit: invalid limit {text!r}", hint=f"NAME=SOFT[:HARD] of {', '.join(_LIMITS)}"
        )
    first, _, second = value.partition(":")
    soft = _bound(first, text)
    hard = _bound(second, text) if second else soft
    if hard != -1 and (soft == -1 or soft > hard):
        raise UsageError(f"--ulimit: {text!r}: the soft limit exceeds the hard limit")
    _check_reach(name, hard, text)
    return Ulimit(name=name, soft=soft, hard=hard)


def _bound(text: str, whole: str) -> int:
    if text in ("-1", "unlimited"):
        return -1
    return values.integer(text, f"--ulimit {whole}", highest=2**63 - 1)


def _check_reach(name: str, hard: int, text: str) -> None:
    """The kernel lets nobody but root of the host raise a hard limit."""
    own = resource.getrlimit(_LIMITS[name])[1]
    if own != -1 and (hard == -1 or hard > own):
        raise HostError(
            f"--ulimit: {text!r}: your own hard limit is {own}, and it cannot be raised",
            hint="ask for no more, or raise yours in /etc/security/limits.conf or systemd",
        )


def sysctls(
    texts: Iterable[str], configured: Iterable[str], *, own_network: bool, own_ipc: bool
) -> dict[str, str]:
    """``--sysctl NAME=VALUE``: those that belong to a namespace the container has for itself."""
    found = values.pairs(configured, "containers.conf: default_sysctls")
    found = {
        name: value for name, value in found.items() if _reason(name, own_network, own_ipc) == ""
    }
    for name, value in values.pairs(texts, "--sysctl").items():
        key = name.replace("/", ".")
        if reason := _reason(key, own_network, own_ipc):
            raise UsageError(f"--sysctl: {name!r} cannot be set: {reason}")
        found[key] = value
    return found


def _reason(name: str, own_network: bool, own_ipc: bool) -> str:
    if ".." in name or not name.isascii() or name.startswith("."):
        return "it is not the name of a sysctl"
    if name.startswith("net."):
        return "" if own_network else "the container shares the network of the host or another one"
    if name.startswith(_IPC_SYSCTLS):
        return "" if own_ipc else "the container shares the ipc namespace"
    return "it is not namespaced: it would change the whole host"
