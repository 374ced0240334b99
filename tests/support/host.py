"""What this host offers, and what a test does when something is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from support.polling import eventually

STRICT = os.environ.get("CI", "") not in ("", "0", "false")
#: Some modules are packaged for the system's interpreter only.
SYSTEM_PYTHON = "/usr/bin/python3"
SEARCH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/local/sbin:/usr/lib/podman"


def program(name: str) -> str:
    """The path of a program, or an empty string; ``sbin`` directories count."""
    return shutil.which(name, path=SEARCH) or ""


def cgroup() -> Path | None:
    """The cgroup above ours, when it is delegated to us; groups can be made below it."""
    own = Path("/sys/fs/cgroup") / _own_cgroup().lstrip("/")
    above = own.parent  # no cgroup when ours is the root
    if (above / "cgroup.procs").exists() and os.access(above, os.W_OK):
        return above
    return None


class OwnCgroup:
    """A cgroup for this test process alone: what is left in it was left by its tests.

    The process sits in a leaf of it; containers are made beside the leaf.
    """

    def __init__(self, name: str) -> None:
        self._home = Path("/sys/fs/cgroup") / _own_cgroup().lstrip("/")
        self.path: Path | None = None
        prepared = self._home.parent / name  # by tests/support/bed.sh
        if os.access(prepared, os.W_OK):
            self.path = prepared
        elif above := cgroup():
            self.path = above / f"podpy-test-{os.getpid()}"
            self.path.mkdir()
        else:
            return
        (self.path / "leaf").mkdir()
        (self.path / "leaf" / "cgroup.procs").write_text(str(os.getpid()))

    def left(self) -> list[str]:
        """Names of cgroups that tests made and did not remove."""
        if self.path is None:
            return []
        return sorted(
            each.name for each in self.path.iterdir() if each.is_dir() and each.name != "leaf"
        )

    def clear(self) -> None:
        """Kill and remove what is left, so that the next test is not blamed for it."""
        for name in self.left():
            assert self.path is not None
            (self.path / name / "cgroup.kill").write_text("1")
            inner = sorted((self.path / name).rglob("*/"), reverse=True)
            for path in (*inner, self.path / name):
                eventually(lambda path=path: _removed(path), timeout=5)  # type: ignore[misc]

    def close(self) -> None:
        """Go back; the cgroup goes, unless something is left in it, which run.sh will tell."""
        if self.path is None:
            return
        (self._home / "cgroup.procs").write_text(str(os.getpid()))
        for path in (self.path / "leaf", self.path):
            try:
                path.rmdir()
            except OSError:
                return


def _removed(path: Path) -> bool:
    try:
        path.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _own_cgroup() -> str:
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        if line.startswith("0::"):
            return line[3:]
    return "/"


def subordinate_ids() -> bool:
    user = _user_name()
    names = {user, str(os.getuid())}
    return all(
        any(line.split(":")[0] in names for line in Path(file).read_text().splitlines())
        for file in ("/etc/subuid", "/etc/subgid")
        if Path(file).exists()
    )


def _user_name() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return ""


def missing(thing: str) -> str:
    """Why ``thing`` cannot be had here; empty when it can.

    A path is a device node that must be readable and writable, ``cgroup`` a
    delegated cgroup v2, ``subids`` a subordinate id range, ``python3-dbus`` the
    system interpreter's D-Bus bindings, ``world`` the other network namespace that
    run.sh makes; else a program.
    """
    if thing.startswith("/"):
        return "" if os.access(thing, os.R_OK | os.W_OK) else f"{thing} is not accessible"
    if thing == "cgroup":
        return "" if cgroup() else "no delegated cgroup v2"
    if thing == "subids":
        return "" if subordinate_ids() else "no subordinate ids"
    if thing == "world":
        return _no_world()
    if thing == "python3-dbus":
        found = subprocess.run([SYSTEM_PYTHON, "-c", "import dbus, gi"], capture_output=True)
        return f"{thing} is not installed" if found.returncode else ""
    return "" if program(thing) else f"{thing} is not installed"


def _no_world() -> str:
    if reason := os.environ.get("PODPY_TEST_NO_WORLD", ""):
        return f"no world: {reason}"
    if not os.environ.get("PODPY_TEST_WORLD"):
        return "no world: only tests/run.sh as root can make a second network namespace"
    return ""


def require(*things: str) -> None:
    """Skip the test when one of ``things`` is missing; in CI that is a failure.

    ``tests/run.sh`` installs and sets up all of them, so a skip in CI would be
    a part of the suite that silently did not run.
    """
    reasons = [reason for thing in things if (reason := missing(thing))]
    if not reasons:
        return
    if STRICT:
        pytest.fail(f"{'; '.join(reasons)} (CI is strict: tests/run.sh must provide it)")
    pytest.skip("; ".join(reasons))


def require_or_exit(*things: str) -> None:
    """For programs that are no tests: say what is missing, and end."""
    if reasons := [reason for thing in things if (reason := missing(thing))]:
        raise SystemExit("; ".join(reasons))
