"""The main job, once: an image is loaded and a container does what it is told."""

from __future__ import annotations

from support.podpy import Podpy


def test_version_says_the_version(podpy: Podpy) -> None:
    assert "0.1" in podpy("--version").stdout


def test_the_loaded_image_is_listed(podpy: Podpy, busybox: str) -> None:
    assert "localhost/busybox" in podpy("images").stdout


def test_run_prints_and_passes_the_exit_code_on(podpy: Podpy, busybox: str) -> None:
    done = podpy(
        "run", "--rm", "--network", "none", busybox, "sh", "-c", "echo out; exit 7", code=7
    )
    assert done.stdout == "out\n"


def test_run_with_the_default_network(podpy: Podpy, busybox: str) -> None:
    done = podpy("run", "--rm", busybox, "ip", "-o", "link")
    assert "lo" in done.stdout
    assert len(done.lines) > 1, "only the loopback interface"


def test_root_in_the_container_is_the_user_outside(podpy: Podpy, busybox: str) -> None:
    shared = podpy.directory / "shared"
    shared.mkdir()
    podpy(
        "run", "--rm", "--network", "none", "-v", f"{shared}:/shared", busybox, "touch", "/shared/x"
    )
    assert (shared / "x").stat().st_uid == shared.stat().st_uid


def test_a_life_in_the_background(podpy: Podpy, busybox: str) -> None:
    podpy.run_detached("--name", "life", "--network", "none", busybox, "sleep", "1000")
    assert podpy("ps", "--format", "{{.Names}}").text == "life"
    assert podpy("exec", "life", "echo", "inside").text == "inside"
    podpy("stop", "-t", "0", "life")
    assert podpy("ps", "-q").text == ""
    podpy("rm", "life")
    assert podpy("ps", "-a", "-q").text == ""


def test_what_a_container_printed_is_in_its_log(podpy: Podpy, busybox: str) -> None:
    podpy("run", "--name", "said", "--network", "none", busybox, "echo", "hello")
    assert podpy("logs", "said").text == "hello"
