"""Devices by name: the Container Device Interface, as far as a rootless step can honour it.

Specifications are JSON files (``*.json``, and ``*.yaml`` where its content is JSON,
which is YAML too) in ``/etc/cdi`` and ``/var/run/cdi``; the latter win.  Device
nodes, mounts, variables and groups are honoured.  Hooks are programs that an
OCI runtime executes on the host, and podpy has none: a device with hooks is refused.
"""

from __future__ import annotations

import os

from podpy import files
from podpy.errors import BuildError, HostError
from podpy.model import Device, Mount
from podpy.records import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from podpy.model import ContainerRecord

DIRECTORIES = ("/etc/cdi", "/var/run/cdi")
_LIMIT = 1 << 20
_WORDS = frozenset(
    ["ro", "rw", "nosuid", "nodev", "noexec", "bind", "rbind", "private", "rprivate"]
)


@record
class Edits:
    """What devices change of a container."""

    devices: tuple[Device, ...] = ()
    mounts: tuple[Mount, ...] = ()
    env: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()

    def joined(self, other: Edits) -> Edits:
        return Edits(
            devices=(*self.devices, *other.devices),
            mounts=(*self.mounts, *other.mounts),
            env=(*self.env, *other.env),
            groups=(*self.groups, *other.groups),
        )

    def applied(self, made: ContainerRecord) -> ContainerRecord:
        return replace(
            made,
            devices=(*made.devices, *self.devices),
            mounts=(*made.mounts, *self.mounts),
            groups=(*made.groups, *self.groups),
            env=(*made.env, *self.env),
        )


def find(name: str, directories: Iterable[str] = DIRECTORIES) -> Edits | None:
    """What ``vendor/class=device`` stands for; None when no specification knows it.

    ``vendor/class`` is its first device, ``vendor/class=*`` all of them.
    """
    kind, _, wanted = name.partition("=")
    unread = []
    for path in _specifications(directories):
        try:
            told = _read(path)
        except ValueError:
            unread.append(path)
            continue
        if told.get("kind") != kind:
            continue
        devices = [each for each in told.get("devices", ()) if _is_wanted(each, wanted)]
        if devices:
            chosen = devices if wanted == "*" else devices[:1]
            found = _edits(told.get("containerEdits"), name)
            for each in chosen:
                found = found.joined(_edits(each.get("containerEdits"), name))
            return found
    if unread:
        raise HostError(
            f"device {name}: {unread[0]} is no JSON, and podpy reads no other YAML",
            hint="write the specification as JSON, for example"
            " `nvidia-ctk cdi generate --format=json --output=FILE.json`",
        )
    return None


def missing(name: str) -> BuildError:
    return BuildError(
        f"device {name}: no specification in {' or '.join(DIRECTORIES)} knows it",
        hint="a device file is given by its path: podpy build --device /dev/NAME",
    )


def _specifications(directories: Iterable[str]) -> Iterator[str]:
    for directory in reversed(tuple(directories)):
        for name in sorted(files.list_directory(directory)):
            if name.endswith((".json", ".yaml", ".yml")):
                yield f"{directory}/{name}"


def _read(path: str) -> dict[str, Any]:
    try:
        told = files.loads(files.read_bytes(path, limit=_LIMIT))
    except OSError as error:
        raise HostError(f"{path}: {error.strerror}") from None
    if not isinstance(told, dict):
        raise ValueError(path)
    return told


def _is_wanted(device: Any, wanted: str) -> bool:
    return isinstance(device, dict) and (wanted in ("", "*") or device.get("name") == wanted)


def _edits(told: Any, name: str) -> Edits:
    told = told or {}
    if told.get("hooks"):
        raise HostError(
            f"device {name}: its specification asks for hooks, programs that an OCI runtime"
            " executes on the host",
            hint="podpy has no OCI runtime: give the device file by --device, and what it needs"
            " by --volume",
        )
    try:
        return Edits(
            devices=tuple(_device(each, name) for each in told.get("deviceNodes", ())),
            mounts=tuple(_mount(each) for each in told.get("mounts", ())),
            env=tuple(str(each) for each in told.get("env", ())),
            groups=tuple(str(int(each)) for each in told.get("additionalGids", ())),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise HostError(f"device {name}: its specification is malformed: {error}") from None


def _device(told: dict[str, Any], name: str) -> Device:
    path = str(told["path"])
    host = str(told.get("hostPath") or path)
    if not os.path.exists(host):
        raise HostError(f"device {name}: {host}: no such device")
    return Device(host=host, container=path, permissions=str(told.get("permissions") or "rwm"))


def _mount(told: dict[str, Any]) -> Mount:
    options = tuple(word for word in told.get("options", ()) if word in _WORDS)
    return Mount(
        type="bind",
        source=str(told["hostPath"]),
        destination=str(told["containerPath"]),
        options=options,
    )
