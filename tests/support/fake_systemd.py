"""A stand-in for ``systemd --user`` on a private bus, for hosts that systemd did not boot.

Run by the system's Python (python3-dbus, python3-gi): ``fake_systemd.py DIRECTORY``.
Scopes are cgroups below DIRECTORY; every call is printed as a line of JSON.
Unit names that contain ``refused`` fail as a job, ``forbidden`` ones as a call.
"""

from __future__ import annotations

import json
import os
import sys

import dbus
import dbus.service
from dbus.mainloop.glib import DBusGMainLoop
from gi.repository import GLib

NAME = "org.freedesktop.systemd1"
PATH = "/org/freedesktop/systemd1"
MANAGER = "org.freedesktop.systemd1.Manager"


class Manager(dbus.service.Object):
    """The two calls of the manager that podpy makes."""

    def __init__(self, bus: dbus.Bus, directory: str) -> None:
        super().__init__(bus, PATH)
        self._directory = directory
        self._jobs = 0

    @dbus.service.method(MANAGER, in_signature="ssa(sv)a(sa(sv))", out_signature="o")
    def StartTransientUnit(self, name, mode, properties, auxiliary):
        values = {str(key): value for key, value in properties}
        tell("StartTransientUnit", name, mode, plain(values), plain(auxiliary))
        if "forbidden" in name:
            raise dbus.DBusException("no such thing", name=f"{NAME}.Forbidden")
        self._jobs += 1
        number, job = self._jobs, f"{PATH}/job/{self._jobs}"
        GLib.timeout_add(20, self._finish, number, job, str(name), plain(values["PIDs"]))
        return job

    def _finish(self, number, job, name, pids) -> bool:
        # Others' jobs end as well: a client must wait for its own.
        self.JobRemoved(number + 1000, f"{PATH}/job/other", "other.service", "done")
        result = "failed" if "refused" in name else "done"
        if result == "done":
            self._move(name, "", pids)
        self.JobRemoved(number, job, name, result)
        return False

    @dbus.service.signal(MANAGER, signature="uoss")
    def JobRemoved(self, number, job, unit, result):
        pass

    @dbus.service.method(MANAGER, in_signature="ssau", out_signature="")
    def AttachProcessesToUnit(self, name, subgroup, pids):
        tell("AttachProcessesToUnit", name, subgroup, plain(pids))
        self._move(str(name), str(subgroup), plain(pids))

    def _move(self, name, subgroup, pids) -> None:
        if not self._directory:
            return
        path = f"{self._directory}/{name}{subgroup}"
        os.makedirs(path, exist_ok=True)
        for pid in pids:
            with open(f"{path}/cgroup.procs", "w") as procs:
                procs.write(str(pid))


def plain(value):
    """D-Bus's subclasses of str, int, list … as what they are."""
    if isinstance(value, (bool, dbus.Boolean)):
        return bool(value)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    return int(value) if isinstance(value, int) else str(value)


def tell(*what) -> None:
    print(json.dumps([plain(item) for item in what]), flush=True)


def main() -> None:
    DBusGMainLoop(set_as_default=True)
    bus = dbus.SessionBus()
    manager = Manager(bus, sys.argv[1] if len(sys.argv) > 1 else "")
    name = dbus.service.BusName(NAME, bus)
    print("ready", flush=True)
    GLib.MainLoop().run()
    del manager, name


if __name__ == "__main__":
    main()
