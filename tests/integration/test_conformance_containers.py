"""What podman's own system tests and docker's documentation expect of containers."""

from __future__ import annotations

from support.podpy import Podpy

QUICK = ("run", "--rm", "--network", "none")


def test_files_that_every_container_has(podpy: Podpy, busybox: str) -> None:
    """``/etc/mtab`` leads to the mounts, also where the root is read-only."""
    script = "readlink /etc/mtab"
    assert podpy(*QUICK, busybox, "sh", "-c", script).text == "/proc/mounts"
    assert podpy(*QUICK, "--read-only", busybox, "sh", "-c", script).text == "/proc/mounts"


def test_the_hosts_cgroup_namespace_shows_the_hosts_tree_read_only(
    podpy: Podpy, busybox: str
) -> None:
    script = "grep ' /sys/fs/cgroup ' /proc/self/mountinfo | tail -n 1"
    for options in (("--cgroupns=host",), ("--cgroupns=private",)):
        shown = podpy(*QUICK, *options, busybox, "sh", "-c", script).text
        assert "/sys/fs/cgroup ro" in shown
