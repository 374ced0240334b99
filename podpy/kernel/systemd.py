"""The user's service manager: scopes that outlive a login, and processes put into them.

Below a ``user@UID.service`` systemd is the only one who makes cgroups
(systemd, "Control Group APIs and Delegation"); it gives podpy a scope with
``Delegate=``, and below that the cgroups are podpy's own.
"""

from __future__ import annotations

import os

from podpy.errors import HostError
from podpy.kernel import dbus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_NAME = "org.freedesktop.systemd1"
_PATH = "/org/freedesktop/systemd1"
_MANAGER = "org.freedesktop.systemd1.Manager"
_JOB_REMOVED = f"type='signal',sender='{_NAME}',interface='{_MANAGER}',member='JobRemoved'"
_BUS = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
LINGER = "/var/lib/systemd/linger"
BOOTED = "/run/systemd/system"


class Scope:
    """A transient scope that was asked for; :meth:`wait` until its processes are in it."""

    def __init__(self, bus: dbus.Bus, serial: int, name: str) -> None:
        self._bus = bus
        self._serial = serial
        self.name = name

    def wait(self) -> None:
        """Return when systemd has made the scope; raise what it says otherwise."""
        with self._bus as bus:
            (job,) = bus.reply(self._serial)
            _, _, _, result = bus.signal("JobRemoved", lambda body: bool(body[1] == job))
        if result != "done":
            raise HostError(f"systemd could not start {self.name}: {result}")

    def cancel(self) -> None:
        """Close the connection without waiting."""
        self._bus.close()


def start_scope(name: str, pids: Sequence[int], *, description: str, slice_name: str = "") -> Scope:
    """Ask the user manager for a delegated scope around ``pids``; does not wait.

    ``name`` ends in ``.scope``.
    """
    properties = [
        ("Description", ("s", description)),
        ("PIDs", ("au", list(pids))),
        ("Delegate", ("b", True)),
        # A scope whose processes failed would stay listed until somebody resets it.
        ("CollectMode", ("s", "inactive-or-failed")),
    ]
    if slice_name:
        properties.append(("Slice", ("s", slice_name)))
    bus = dbus.Bus(dbus.session_address())
    bus.call(*_BUS, "AddMatch", "s", _JOB_REMOVED)
    serial = bus.call(
        _NAME, _PATH, _MANAGER, "StartTransientUnit", "ssa(sv)a(sa(sv))",
        name, "fail", properties, [],
    )  # fmt: skip
    return Scope(bus, serial, name)


def attach(unit: str, subgroup: str, pids: Sequence[int]) -> None:
    """Move processes into a unit's cgroup, or one below it (``/ctr``).

    For a caller whose own cgroup is not delegated, such as a login session.
    """
    with dbus.Bus(dbus.session_address()) as bus:
        serial = bus.call(
            _NAME, _PATH, _MANAGER, "AttachProcessesToUnit", "ssau", unit, subgroup, list(pids)
        )
        bus.reply(serial)


def linger_warning(user: str) -> str:
    """What to tell a user whose containers will end at logout; empty when they will not.

    systemd stops the user's manager, and every scope with it, when the last
    session ends, unless lingering is on.
    """
    if not os.path.isdir(BOOTED) or os.path.exists(f"{LINGER}/{user}"):
        return ""
    return (
        "systemd ends your containers when you log out;"
        f" to keep them running: loginctl enable-linger {user}"
    )
