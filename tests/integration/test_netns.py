"""``--network ns:PATH``: containers in a network namespace that somebody else made."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from support import guest, processes
from support.podpy import Podpy

#: A user namespace with one id and a network namespace with an address of its own.
MAKE = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c"]
STAY = "ip link set lo up && ip address add 10.99.0.1/32 dev lo && echo ready && exec sleep 600"


class Made:
    """A network namespace that a process of the test's holds."""

    def __init__(self) -> None:
        self.process = processes.popen([*MAKE, STAY], stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"

    @property
    def path(self) -> str:
        return f"/proc/{self.process.pid}/ns/net"

    def end(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)
        if self.process.stdout is not None:
            self.process.stdout.close()


@pytest.fixture
def made() -> Iterator[Made]:
    namespace = Made()
    yield namespace
    namespace.end()


def test_in_a_namespace_of_the_users(podpy: Podpy, busybox: str, made: Made) -> None:
    script = "ip addr show lo; id -u; cat /proc/self/uid_map; touch /x && ls /sys/class/net"
    done = podpy("run", "--rm", "--network", f"ns:{made.path}", busybox, "sh", "-c", script)
    assert "10.99.0.1/32" in done.stdout
    uid, mapping, interfaces = done.lines[-3:]
    assert uid == "0"
    assert mapping.split() == ["0", str(os.getuid()), "1"]
    assert interfaces == "lo", "the interfaces of that namespace, not the host's"


def test_it_stays_as_it_is(podpy: Podpy, busybox: str, made: Made) -> None:
    inside = ["nsenter", "--preserve-credentials", "--user", "--net", "-t", str(made.process.pid)]
    show = [*inside, "sysctl", "net.ipv4.ping_group_range"]
    before = subprocess.run(show, capture_output=True, check=True).stdout
    podpy("run", "--rm", "--network", f"ns:{made.path}", busybox, "true")
    assert subprocess.run(show, capture_output=True, check=True).stdout == before
    assert "net" in podpy.fails("run", "--rm", "--network", f"ns:{made.path}", "--sysctl",
                                "net.ipv4.ip_forward=1", busybox, "true").stderr  # fmt: skip


def test_a_life_in_it(podpy: Podpy, busybox: str, made: Made) -> None:
    podpy.run_detached("--name", "c", "--network", f"ns:{made.path}", busybox, "sleep", "1000")
    assert "10.99.0.1" in podpy("exec", "c", "ip", "addr", "show", "lo").stdout
    podpy("exec", "c", "sh", "-c", "echo kept >/file")
    podpy("stop", "-t", "0", "c")
    podpy("start", "c")
    assert podpy("exec", "c", "cat", "/file").text == "kept"
    shared = podpy("run", "--rm", "--network", "container:c", busybox, "ip", "addr", "show", "lo")
    assert "10.99.0.1" in shared.stdout
    network = podpy("inspect", "--format", "{{.HostConfig.NetworkMode}}", "c").text
    assert network == f"ns:{made.path}"


def test_with_the_ids_of_a_container(podpy: Podpy, busybox: str) -> None:
    """The namespace of a container is one of the user's like any other."""
    podpy.run_detached("--name", "first", "--network", "none", *guest.with_python(), busybox,
                       *guest.script(guest.SERVER, 8080))  # fmt: skip
    pid = podpy("inspect", "--format", "{{.State.Pid}}", "first").text
    done = podpy("run", "--rm", "--network", f"ns:/proc/{pid}/ns/net", busybox, "sh", "-c",
                 "nc 127.0.0.1 8080; echo; cat /proc/self/uid_map")  # fmt: skip
    assert done.lines[0].startswith("8080 ")
    assert done.lines[1:] == podpy("exec", "first", "cat", "/proc/self/uid_map").lines


def test_another_namespace_at_the_same_path(podpy: Podpy, busybox: str, made: Made) -> None:
    """The container's files belong to the ids of the namespace it was made for."""
    link = podpy.directory / "net"
    link.symlink_to(made.path)
    podpy("create", "--name", "c", "--network", f"ns:{link}", busybox, "true")
    podpy.run_detached("--name", "other", "--network", "none", busybox, "sleep", "1000")
    pid = podpy("inspect", "--format", "{{.State.Pid}}", "other").text
    link.unlink()
    link.symlink_to(f"/proc/{pid}/ns/net")
    assert "other ids" in podpy.fails("start", "c").stderr
    link.unlink()
    link.symlink_to(made.path)
    podpy("start", "--attach", "c")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/proc/1/ns/net", "not yours"),
        ("/proc/self/ns/net", "not yours"),
        ("/proc/self/ns/mnt", "is not a network namespace"),
        ("/etc/passwd", "is not a network namespace"),
        ("/nowhere", "No such file"),
        ("relative", "absolute path"),
        ("", "absolute path"),
    ],
)
def test_what_cannot_be_joined(podpy: Podpy, busybox: str, path: str, reason: str) -> None:
    failed = podpy.fails("run", "--network", f"ns:{path}", busybox, "true")
    assert reason in failed.stderr
    assert "--network" in failed.stderr
    assert not podpy.containers()


def test_a_pipe_is_not_waited_for(podpy: Podpy, busybox: str) -> None:
    os.mkfifo(podpy.directory / "pipe")
    failed = podpy.fails("run", "--network", f"ns:{podpy.directory}/pipe", busybox, "true",
                         timeout=20)  # fmt: skip
    assert "is not a network namespace" in failed.stderr


def test_what_conflicts(podpy: Podpy, busybox: str, made: Made) -> None:
    network = ("--network", f"ns:{made.path}")
    assert "--userns" in podpy.fails("run", *network, "--userns", "keep-id", busybox).stderr
    podpy.run_detached("--name", "other", "--network", "none", busybox, "sleep", "1000")
    failed = podpy.fails("run", *network, "--pid", "container:other", busybox, "true")
    assert "cannot join" in failed.stderr
    done = podpy("run", "--rm", *network, "-p", "8080:80", busybox, "true")
    assert "published ports are discarded" in done.stderr


def test_with_power_over_the_own_user_namespace(podpy: Podpy, busybox: str) -> None:
    """As root: joined before the container's user namespace is made, which does not own it."""
    script = """
        touch ns && unshare --net="$PWD/ns" true &&
        nsenter --net="$PWD/ns" ip link set lo up &&
        nsenter --net="$PWD/ns" ip address add 10.96.0.1/32 dev lo && exec "$@"
    """
    root = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh")
    podpy.command = (*root, *podpy.command)
    attempt = "ip address show lo; ip address add 10.96.0.2/32 dev lo || echo refused"
    network = ("--network", f"ns:{podpy.directory}/ns", "--cap-add", "net_admin")
    done = podpy("run", "--rm", *network, busybox, "sh", "-c", attempt)
    assert "10.96.0.1/32" in done.stdout
    assert done.lines[-1] == "refused"
    podpy.command = podpy.command[len(root) :]
