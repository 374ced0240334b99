"""A private message bus, and a manager on it that answers as ``systemd --user`` does."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support import host, processes

FAKE = Path(__file__).with_name("fake_systemd.py")


class Manager:
    """The fake manager: ``address`` of its bus, and the calls that it got."""

    def __init__(self, address: str, process: subprocess.Popen[str]) -> None:
        self.address = address
        self._process = process

    def next_call(self) -> list[Any]:
        assert self._process.stdout is not None
        call: list[Any] = json.loads(self._process.stdout.readline())
        return call


@contextmanager
def private_bus() -> Iterator[str]:
    """A ``dbus-daemon`` of our own; its address."""
    host.require("dbus-daemon")
    argv = ["dbus-daemon", "--session", "--nofork", "--nopidfile", "--print-address=1"]
    daemon = processes.popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        yield daemon.stdout.readline().strip()
    finally:
        daemon.kill()
        daemon.communicate()


@contextmanager
def user_manager(address: str, directory: str = "") -> Iterator[Manager]:
    """The fake manager on the bus; its scopes are cgroups below ``directory``."""
    host.require("python3-dbus")
    process = processes.popen(
        [host.SYSTEM_PYTHON, str(FAKE), directory],
        stdout=subprocess.PIPE,
        text=True,
        env={"DBUS_SESSION_BUS_ADDRESS": address, "PATH": "/usr/bin:/bin"},
    )
    try:
        assert process.stdout.readline() == "ready\n"
        yield Manager(address, process)
    finally:
        process.kill()
        process.communicate()
