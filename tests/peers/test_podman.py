"""The peer works in this bed: what the other comparisons rest on."""

from __future__ import annotations

from support.podman import Podman
from support.podpy import BUSYBOX


def test_podman_runs_a_container(podman: Podman) -> None:
    done = podman("run", "--rm", "--network", "none", BUSYBOX, "echo", "hello")
    assert done.text == "hello"


def test_podman_lists_a_detached_container(podman: Podman) -> None:
    podman("run", "-d", "--name", "peer", "--network", "none", BUSYBOX, "sleep", "1000")
    assert podman("ps", "--format", "{{.Names}}").text == "peer"
