"""Containers in control groups: a delegated subtree, and a scope of the user's systemd."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from podpy import files
from podpy.kernel import cgroup
from support import host
from support.bus import Manager, private_bus, user_manager
from support.podpy import Podpy
from support.polling import eventually


@pytest.fixture(autouse=True)
def delegated() -> str:
    host.require("cgroup")
    return cgroup.delegated()


def state(podpy: Podpy, container: str) -> dict[str, object]:
    found: dict[str, object] = files.loads(
        (podpy.store / "containers" / container / "state.json").read_text()
    )
    return found


def cgroup_of(podpy: Podpy, container: str) -> str:
    return str(state(podpy, container)["cgroup"])


def pid_of(podpy: Podpy, container: str, role: str) -> int:
    identity = state(podpy, container)[role]
    assert isinstance(identity, dict)
    pid: int = identity["pid"]
    return pid


def path_of(pid: int) -> str:
    text = Path(f"/proc/{pid}/cgroup").read_text()
    return f"{cgroup.mount_point()}{cgroup.own_path(text)}"


def test_a_container_has_a_cgroup_of_its_own(podpy: Podpy, busybox: str, delegated: str) -> None:
    made = podpy.run_detached("--network", "none", busybox, "sleep", "1000")
    path = cgroup_of(podpy, made)
    assert path == f"{delegated}/podpy-{made}"
    assert cgroup.processes(path) == [pid_of(podpy, made, "init")]
    assert podpy("exec", made, "cat", "/proc/self/cgroup").lines[-1] == "0::/"
    podpy("rm", "-f", "-t", "0", made)
    eventually(lambda: not os.path.exists(path))


def test_pause_stops_every_process(podpy: Podpy, busybox: str) -> None:
    made = podpy.run_detached("--network", "none", busybox, "sleep", "1000")
    path = cgroup_of(podpy, made)
    podpy("pause", made)
    assert cgroup.is_frozen(path)
    podpy("unpause", made)
    assert not cgroup.is_frozen(path)


def test_a_cgroup_with_everything_in_it_is_removed(delegated: str) -> None:
    """Also when a process forks while it is killed, and with cgroups inside."""
    path = cgroup.create(delegated, f"nested-{os.getpid()}")
    inner = cgroup.create(path, "inner")
    child = os.fork()
    if child == 0:
        os.execvp("sh", ["sh", "-c", "while :; do sleep 0.01; done"])
    cgroup.enter(inner, child)
    assert child in cgroup.processes(path)
    cgroup.freeze(path)
    assert cgroup.is_frozen(path)
    cgroup.remove(path)
    assert not os.path.exists(path)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == 9


def test_a_parent_that_is_not_ours_is_refused(podpy: Podpy, busybox: str) -> None:
    done = podpy.fails("run", "--rm", "--cgroup-parent", "/no/such", busybox, "true")
    assert "--cgroup-parent /no/such" in done.stderr
    assert podpy.containers() == []


@pytest.fixture
def systemd(podpy: Podpy, delegated: str) -> Iterator[Manager]:
    """The user's manager, as far as podpy can tell: its bus, its socket, its scopes."""
    (podpy.directory / "run" / "systemd").mkdir()
    (podpy.directory / "run" / "systemd" / "private").touch()
    with private_bus() as address, user_manager(address, delegated) as manager:
        podpy.env["DBUS_SESSION_BUS_ADDRESS"] = address
        yield manager
        podpy("rm", "-f", "-a", "-t", "0")
        for name in os.listdir(delegated):
            if name.endswith(".scope"):
                # As systemd does it: when the last process has left.
                eventually(lambda path=f"{delegated}/{name}": not cgroup.processes(path))
                cgroup.remove(f"{delegated}/{name}")


def test_under_systemd_a_container_lives_in_a_scope(
    systemd: Manager, podpy: Podpy, busybox: str
) -> None:
    made = podpy.run_detached("--network", "none", busybox, "sleep", "1000")
    call, name, mode, properties, _ = systemd.next_call()
    supervisor = pid_of(podpy, made, "supervisor")
    assert (call, name, mode) == ("StartTransientUnit", f"podpy-{made}-{supervisor}.scope", "fail")
    assert properties["Delegate"] is True
    assert properties["PIDs"] == [supervisor]

    scope = os.path.dirname(cgroup_of(podpy, made))
    assert os.path.basename(scope) == name
    assert path_of(supervisor) == f"{scope}/sup"
    assert path_of(pid_of(podpy, made, "init")) == f"{scope}/ctr"
    podpy("exec", made, "true")
    podpy("rm", "-f", "-t", "0", made)
    eventually(lambda: not os.path.exists(f"{scope}/ctr"))


def test_a_slice_is_honoured_or_refused(systemd: Manager, podpy: Podpy, busybox: str) -> None:
    run = ["run", "--rm", "--network", "none"]
    podpy(*run, "--cgroup-parent", "my.slice", busybox, "true")
    assert systemd.next_call()[3]["Slice"] == "my.slice"

    podpy.env["DBUS_SESSION_BUS_ADDRESS"] = "unix:path=/nonexistent/bus"
    done = podpy.fails(*run, "--cgroup-parent", "my.slice", busybox, "true")
    assert "message bus" in done.stderr
    podpy(*run, busybox, "true")
