"""What docker's manual shows at a terminal, typed with podpy's name."""

from __future__ import annotations

import tarfile

import pytest

from support.podpy import BUSYBOX, Podpy
from support.registry import Registry

NO_NETWORK = ("--network", "none")


# --- run and ps


def test_add_host_takes_dockers_equals_sign(podpy: Podpy, busybox: str) -> None:
    hosts = (
        "--add-host=my-host=8.8.8.8",
        "--add-host",
        "six=[2001:db8::33]",
        "--add-host=c:9.9.9.9",
    )
    done = podpy("run", "--rm", *NO_NETWORK, *hosts, busybox, "cat", "/etc/hosts")
    assert {"8.8.8.8\tmy-host", "2001:db8::33\tsix", "9.9.9.9\tc"} <= set(done.lines)
    assert "--add-host" in podpy.fails("run", "--add-host", "x=1", busybox, "true").stderr


def test_input_alone_is_answered_with_the_id(podpy: Podpy, busybox: str) -> None:
    done = podpy("run", *NO_NETWORK, "-i", "-a", "stdin", busybox, "cat", "-", input="test\n")
    assert len(done.text) == 64
    assert podpy("logs", done.text).text == "test"
    podpy("rm", done.text)


def test_a_name_in_use(podpy: Podpy, busybox: str) -> None:
    made = podpy("create", "--name", "x", busybox, "true").text
    done = podpy.fails("create", "--name", "x", busybox, "true")
    assert f'name "x" is already in use by container {made[:12]}' in done.stderr
    podpy("rm", "x")


@pytest.mark.needs("slirp4netns")
def test_ports_are_grouped_as_docker_groups_them(podpy: Podpy, busybox: str) -> None:
    exposed = ("--expose", "100-101", "--expose", "102/udp", "--expose", "80")
    made = podpy("run", "-d", "--name", "p", "-p", "127.0.0.1::80", *exposed, busybox, "top").text
    host_port = podpy("port", "p", "80").text.rpartition(":")[2]
    shown = f"100-101/tcp, 102/udp, 127.0.0.1:{host_port}->80/tcp"
    assert podpy("ps", "--format", "{{.Ports}}").text == shown
    podpy("stop", "-t", "0", "p")
    assert podpy("ps", "-a", "--format", "{{.ID}}|{{.Ports}}").text == f"{made[:12]}|"
    podpy("rm", "p")


def test_long_names_of_mounts_are_shortened(podpy: Podpy, busybox: str) -> None:
    podpy("create", "--name", "m", "-v", "a-volume-of-a-long-name:/v", busybox, "true")
    assert podpy("ps", "-a", "--format", "{{.Mounts}}").text == "a-volume-of-a-…"
    whole = podpy("ps", "-a", "--no-trunc", "--format", "{{.Mounts}}").text
    assert whole == "a-volume-of-a-long-name"
    podpy("rm", "m")
    podpy("volume", "rm", "a-volume-of-a-long-name")


def test_what_cannot_be_done_to_a_stopped_container(podpy: Podpy, busybox: str) -> None:
    podpy("run", "--name", "x", *NO_NETWORK, "--log-driver", "none", busybox, "true")
    assert "is not running" in podpy.fails("exec", "x", "true", code=126).stderr
    assert "does not support reading" in podpy.fails("logs", "x").stderr
    podpy("rm", "x")


def test_a_paused_container_says_so(podpy: Podpy, busybox: str) -> None:
    podpy("run", "-d", "--name", "p", *NO_NETWORK, busybox, "top")
    podpy("pause", "p")
    assert "is paused, unpause the container" in podpy.fails("exec", "p", "true", code=126).stderr
    podpy("rm", "-f", "p")


def test_maps_of_inspect_are_in_order_and_name_published_ports(podpy: Podpy, busybox: str) -> None:
    published = ("-p", "127.0.0.1::80", "-p", "127.0.0.1::443", "--expose", "9")
    podpy("create", "--name", "x", *published, "-l", "z=1", "-l", "a=2", busybox, "true")
    shown = podpy("inspect", "-f", "{{json .Config.Labels}} {{json .Config.ExposedPorts}}", "x")
    assert shown.text == '{"a":"2","z":"1"} {"443/tcp":{},"80/tcp":{},"9/tcp":{}}'
    podpy("rm", "x")


# --- removal


def test_forced_removal_of_nothing_is_no_failure(podpy: Podpy, busybox: str) -> None:
    podpy("create", "--name", "x", busybox, "true")
    done = podpy("rm", "-f", "none", "x")
    assert done.text == "x"
    assert "no such container" in done.stderr
    assert "image not known" in podpy("rmi", "-f", "none").stderr
    assert podpy("volume", "rm", "-f", "none").text == "none"
    podpy("rm", "none", code=1)
    podpy("rmi", "none", code=1)


def test_prunes_tell_what_went_and_how_much(podpy: Podpy, busybox: str) -> None:
    write = ("sh", "-c", "head -c 300000 /dev/zero > /big; head -c 300000 /dev/zero > /v/big")
    made = podpy("run", "-d", *NO_NETWORK, "-v", "/v", busybox, *write).text
    podpy("wait", made)
    (volume,) = podpy("volume", "ls", "-q").lines
    lines = podpy("container", "prune", "-f").lines
    assert lines[:3] == ["Deleted Containers:", made, ""]
    assert lines[3].startswith("Total reclaimed space: 3")
    lines = podpy("volume", "prune", "-f").lines
    assert lines[:3] == ["Deleted Volumes:", volume, ""]
    assert lines[3].startswith("Total reclaimed space: 3")
    identity = podpy("image", "inspect", "-f", "{{.Id}}", busybox).text
    lines = podpy("image", "prune", "-af").lines
    assert lines[:4] == ["Deleted Images:", f"untagged: {busybox}", f"deleted: {identity}", ""]
    assert lines[4].endswith("MB")
    assert podpy("image", "prune", "-f").lines == ["Total reclaimed space: 0B"]


def test_a_container_that_has_ended_is_removed_while_its_end_is_under_way(
    podpy: Podpy, busybox: str
) -> None:
    for _ in range(3):
        made = podpy("run", "-d", *NO_NETWORK, busybox, "true").text
        while podpy("inspect", "-f", "{{.State.Status}}", made).text == "running":
            pass
        podpy("rm", made)


# --- images


def test_history_of_an_imported_image(podpy: Podpy, rootfs_archive: str) -> None:
    made = podpy("import", rootfs_archive, "plain").text
    row = podpy("history", "--no-trunc", "--format", "{{.ID}}|{{.Comment}}", "plain").text
    assert row == f"{made}|Imported from {rootfs_archive}"
    created = podpy("history", "--human=false", "--format", "{{.CreatedAt}}", "plain").text
    assert len(created) == len("2026-11-21T14:44:45Z")
    podpy("rmi", "plain")


def test_an_image_without_a_name_is_loaded_by_id(podpy: Podpy, rootfs_archive: str) -> None:
    made = podpy("import", rootfs_archive).text
    path = podpy.directory / "unnamed.tar"
    podpy("save", "-o", path, made)
    podpy("rmi", made)
    assert podpy("load", "-i", path).text == f"Loaded image ID: {made}"
    podpy("rmi", made)


@pytest.fixture
def rootfs_archive(podpy: Podpy) -> str:
    """The files of busybox as ``docker export`` would give them."""
    path = podpy.directory / "rootfs.tar"
    with tarfile.open(path, "w") as archive:
        folder = tarfile.TarInfo("etc")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
    return str(path)


# --- registries


def test_a_push_and_a_pull_as_docker_tells_them(
    podpy: Podpy, busybox: str, registry: Registry
) -> None:
    conf = podpy.directory / "config/containers/registries.conf"
    conf.parent.mkdir(parents=True, exist_ok=True)
    conf.write_text(f'[[registry]]\nlocation = "{registry.address}"\ninsecure = true\n')
    name = f"{registry.address}/words"
    podpy("tag", BUSYBOX, name)
    done = podpy("push", name)
    assert done.stderr.splitlines()[0] == f"The push refers to repository [{name}]"
    assert done.stderr.count(": Pushed\n") == 2
    tag, digest = done.text.split()[0], done.text.split()[2]
    assert tag == "latest:"
    again = podpy("push", name)
    assert again.stderr.count(": Layer already exists\n") == 2
    assert podpy("push", "-q", name).text == f"{name}:latest"

    podpy("rmi", "-a", "-f")
    lines = podpy("pull", name).stderr.splitlines()
    assert lines[:2] == ["Using default tag: latest", f"latest: Pulling from {name}"]
    assert lines[-2:] == [
        f"Digest: {digest}", f"Status: Downloaded newer image for {name}:latest"
    ]  # fmt: skip
    again = podpy("pull", f"{name}:latest")
    assert again.stderr.splitlines()[-1] == f"Status: Image is up to date for {name}:latest"

    podpy("pull", "-q", f"{name}@{digest}")
    assert len(podpy("images", name, "--noheading").lines) == 1, "the tag's row says it"
    podpy("rmi", "-a", "-f")
    done = podpy("run", "--rm", *NO_NETWORK, name, "echo", "here")
    assert done.stderr.splitlines()[0] == f"Unable to find image '{name}:latest' locally"
    assert done.text == "here"
    done = podpy("logout", registry.address)
    assert done.text == f"Not logged in to {registry.address}"
