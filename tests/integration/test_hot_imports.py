"""What people run all day starts at once, because it imports next to nothing.

A fresh interpreter runs each hot command and reports every import, its own and
those of the processes it forks.  ``hot_imports.json`` holds the list for each
command; to take a change over after reading it:

    PODPY_ACCEPT_IMPORTS=1 python3 -m pytest tests/integration/test_hot_imports.py
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.podpy import CHECKOUT, Podpy

LIST = Path(__file__).with_name("hot_imports.json")
LISTED: dict[str, list[str]] = json.loads(LIST.read_text()) if LIST.exists() else {}

# What each would cost, in milliseconds, on the machine the design was measured on.
FORBIDDEN = {
    "re": "4", "enum": "4", "json": "8", "dataclasses": "18", "typing": "12", "collections": "2",
    "functools": "2", "contextlib": "3", "pathlib": "8", "socket": "6", "signal": "4",
    "subprocess": "10", "datetime": "3", "tempfile": "8", "shutil": "8", "argparse": "10",
    "logging": "12", "threading": "3", "asyncio": "40", "typer": "40", "click": "20",
    "rich": "40", "urllib3": "65", "urllib.request": "20", "http.client": "15", "ssl": "10",
    "tarfile": "8", "gzip": "3", "tomllib": "6", "hashlib": "2", "random": "4", "inspect": "10",
    "ipaddress": "6", "ctypes.util": "3", "encodings.idna": "3", "locale": "3",
}  # fmt: skip

WATCHED = """
import os, sys
log, checkout = sys.argv[1:3]
def note(event, details):
    if event == "import":
        try:
            fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return
        os.write(fd, (details[0] + "\\n").encode())
        os.close(fd)
sys.path.insert(0, checkout)
sys.argv = ["podpy", *sys.argv[3:]]
sys.addaudithook(note)
from podpy.__main__ import main
main()
"""

Prepare = Callable[[Podpy, str], list[str]]


def _running(podpy: Podpy, image: str) -> str:
    podpy.run_detached("--name", "c", "--network", "none", image, "sh", "-c", "echo x; sleep 1000")
    return "c"


COMMANDS: dict[str, Prepare] = {
    "version": lambda podpy, image: ["version"],
    "images": lambda podpy, image: ["images"],
    "run": lambda podpy, image: ["run", "--rm", "--network", "none", image, "true"],
    "run with a network": lambda podpy, image: ["run", "--rm", image, "true"],
    "run -d": lambda podpy, image: ["run", "-d", "--network", "none", image, "sleep", "1000"],
    "ps": lambda podpy, image: ["ps", "--filter", f"name={_running(podpy, image)}"],
    "inspect": lambda podpy, image: ["inspect", _running(podpy, image)],
    "logs": lambda podpy, image: ["logs", _running(podpy, image)],
    "exec": lambda podpy, image: ["exec", _running(podpy, image), "true"],
    "stop": lambda podpy, image: ["stop", "-t", "0", _running(podpy, image)],
    "rm": lambda podpy, image: ["rm", "-f", "-t", "0", _running(podpy, image)],
    "start": lambda podpy, image: [
        "start", podpy("create", "--network", "none", image, "sleep", "1000").text
    ],
}  # fmt: skip


def imported(podpy: Podpy, *arguments: str) -> set[str]:
    """Modules that the command imports, beyond those of a bare interpreter and podpy's own."""
    log = podpy.directory / "imports"
    watched = type(podpy)(podpy.directory)
    watched.command = ("/usr/bin/python3", "-IS", "-c", WATCHED, str(log), str(CHECKOUT))
    watched(*arguments)
    names = set(log.read_text().split())
    return {name for name in names if name.split(".")[0] != "podpy"}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_hot_command_imports_only_what_is_listed(podpy: Podpy, busybox: str, name: str) -> None:
    arguments = COMMANDS[name](podpy, busybox)
    podpy("run", "--rm", "--network", "none", busybox, "true")  # warms caches: every day but one
    found = imported(podpy, *arguments)
    unwanted = sorted(found & FORBIDDEN.keys())
    assert not unwanted, {module: f"{FORBIDDEN[module]} ms" for module in unwanted}
    if os.environ.get("PODPY_ACCEPT_IMPORTS"):
        LISTED[name] = sorted(found | set(LISTED.get(name, [])))
        LIST.write_text(json.dumps(dict(sorted(LISTED.items())), indent=1) + "\n")
    added = found - set(LISTED.get(name, []))
    assert not added, f"not in {LIST.name}: {sorted(added)}"


def test_the_list_has_no_other_commands() -> None:
    assert set(LISTED) == set(COMMANDS), sys.executable
