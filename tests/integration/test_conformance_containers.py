"""What podman's own system tests and docker's documentation expect of containers."""

from __future__ import annotations

import os
import socket
from itertools import product

import pytest

from support import host
from support.podpy import Podpy
from support.polling import eventually

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


def test_ports_that_nobody_can_reach_are_discarded_with_a_warning(
    podpy: Podpy, busybox: str
) -> None:
    for network in ("host", "none"):
        done = podpy("run", "--rm", "-p", "8080", "--network", network, busybox, "echo", "x")
        assert done.text == "x"
        assert f"published ports are discarded when using {network} network mode" in done.stderr


def test_a_terminal_without_a_terminal_is_warned_of(podpy: Podpy, busybox: str) -> None:
    done = podpy(*QUICK, "-it", busybox, "echo", "hello")
    assert done.text.strip() == "hello"
    assert "the input device is not a TTY" in done.stderr
    assert "TTY" not in podpy(*QUICK, "-t", busybox, "true").stderr


def test_only_the_privileged_learn_from_the_marker(podpy: Podpy, busybox: str) -> None:
    script = "cat /run/.containerenv"
    assert podpy(*QUICK, busybox, "sh", "-c", script).text == ""
    assert podpy(*QUICK, "--tmpfs", "/run", busybox, "sh", "-c", script).text == ""
    told = podpy(*QUICK, "--privileged", "--name", "told", busybox, "sh", "-c", script)
    assert 'name="told"' in told.lines


def test_names_may_be_written_with_a_slash(podpy: Podpy, busybox: str) -> None:
    podpy("create", "--name", "/slash", busybox)
    names = ("ps", "-a", "--format", "{{.Names}}", "--filter")
    assert podpy(*names, "name=^/slash$").text == "slash"
    podpy("rename", "/slash", "/other")
    assert podpy(*names, "name=^/oth").text == "other"
    podpy.fails("create", "--name", "other/", busybox)


def test_ids_are_filtered_by_prefix_or_pattern(podpy: Podpy, busybox: str) -> None:
    first = podpy("create", "--name", "first", busybox).text
    podpy("create", "--name", "second", busybox)
    listed = ("ps", "-a", "--format", "{{.Names}}", "--sort", "created")
    assert podpy(*listed).lines == ["first", "second"]
    for pattern in (first[:13], first[:13].upper(), f"^{first[:13]}"):
        assert podpy(*listed, "--filter", f"id={pattern}").text == "first"
    assert podpy(*listed, "--filter", "id=[0-9a-f]").lines == ["first", "second"]
    assert podpy(*listed, "--filter", "id=[^0-9a-f]").text == ""


def test_inspect_knows_the_image_and_the_size_of_the_log(podpy: Podpy, busybox: str) -> None:
    """Units of the log's size are powers of 1000, as docker has them."""
    podpy("create", "--name", "x", "--log-opt", "max-size=3.045m", busybox)
    template = "{{.HostConfig.LogConfig.Size}} {{.ImageDigest}}"
    digest = podpy("image", "inspect", "--format", "{{.Digest}}", busybox).text
    assert podpy("inspect", "--format", template, "x").text == f"3.045MB {digest}"


def test_small_words_that_scripts_use(podpy: Podpy, busybox: str) -> None:
    """Several groups in one word, a home that is mounted, a signal with a dash."""
    groups = podpy(*QUICK, "--group-add", "1,2", busybox, "id", "-G").text.split()
    assert groups[-2:] == ["1", "2"]
    home = podpy.env["HOME"]
    done = podpy(*QUICK, "--userns=keep-id", "-v", f"{home}:{home}", busybox, "sh", "-c", "echo ~")
    assert done.text == home
    podpy("run", "-d", "--network", "none", "--name", "x", busybox, "sleep", "60")
    podpy("kill", "-s", "-KILL", "x")
    assert podpy("wait", "x").text == "137"
    assert podpy("logs", "--since", "-10s", "x").text == ""
    assert "invalid signal: BAD" in podpy.fails("kill", "-s", "BAD", "x").stderr
    done = podpy.fails("run", "--no-hosts", "--add-host=a:1.1.1.1", busybox)
    assert "--no-hosts and --add-host cannot be set together" in done.stderr


def test_info_has_the_fields_that_podmans_tests_ask_for(podpy: Podpy) -> None:
    template = (
        "{{.Host.Security.Rootless}} {{.Host.OCIRuntime.Name}} {{.Host.LogDriver}}"
        " {{.Store.VolumePath}} {{.Store.GraphDriverName}} {{.Store.ImageStore.Number}}"
    )
    words = podpy("info", "--format", template).text.split()
    assert words[:4] == ["true", "podpy", "k8s-file", f"{podpy.store}/volumes"]
    assert words[5] == "1"


def test_namespaces_of_another_container(podpy: Podpy, busybox: str) -> None:
    """Each alone, with a network of its own; and those that the lender shares with the host."""
    host.require("slirp4netns")
    joins = {"ipc": ("ipc", "shareable"), "pid": ("pid", ""), "uts": ("uts", "")}
    given = [f"--{option}={mode}" for option, mode in joins.values() if mode]
    own = (*given, "--network", "none", busybox, "sleep", "60")
    podpy("run", "-d", "--name", "lender", *own)
    podpy(
        "run", "-d", "--name", "at-the-host", "--ipc=host", "--pid=host", "--uts=host",
        "--network=host", busybox, "sleep", "60",
    )  # fmt: skip
    networks = {"bridge": ["eth0", "lo"], "slirp4netns": ["lo", "tap0"]}
    for (kind, (option, _)), (network, devices) in product(joins.items(), networks.items()):
        script = f"readlink /proc/self/ns/{kind}; ls /sys/class/net"
        for lender in ("lender", "at-the-host"):
            theirs = podpy("exec", lender, "readlink", f"/proc/1/ns/{kind}", code=None).text
            joined = podpy(
                "run", "--rm", f"--{option}=container:{lender}", "--network", network, busybox,
                "sh", "-c", script,
            )  # fmt: skip
            assert joined.lines[1:] == devices, lender
            if lender == "lender":
                assert joined.lines[0] == theirs
            else:
                assert joined.lines[0] == os.readlink(f"/proc/self/ns/{kind}")
    script = ("readlink", "/proc/self/ns/net")
    joined = podpy("run", "--rm", "--network=container:at-the-host", busybox, *script).text
    assert joined == os.readlink("/proc/self/ns/net")


def test_pasta_where_another_containers_namespace_is_joined(podpy: Podpy, busybox: str) -> None:
    host.require("pasta")
    podpy("run", "-d", "--name", "lender", "--network", "none", busybox, "sleep", "60")
    joins = ("--uts=container:lender", "--network=pasta")
    joined = podpy("run", "--rm", *joins, busybox, "ls", "/sys/class/net").lines
    assert "lo" in joined and len(joined) == 2


def test_a_private_ipc_namespace_is_not_joined(podpy: Podpy, busybox: str) -> None:
    podpy("create", "--name", "private", "--ipc=private", busybox)
    done = podpy.fails("run", "--rm", "--ipc=container:private", busybox)
    assert "non-shareable IPC" in done.stderr


@pytest.mark.parametrize("users", ["keep-id", "nomap"])
def test_ports_are_published_whoever_is_root_inside(users: str, podpy: Podpy, busybox: str) -> None:
    """The helper runs as the container's root, who is not the caller here."""
    host.require("slirp4netns")
    podpy("run", "-d", "--name", "x", f"--userns={users}", "-p", "127.0.0.1::8080", busybox,
          "nc", "-l", "-p", "8080")  # fmt: skip
    eventually(lambda: ":8080 " in podpy("exec", "x", "netstat", "-ltn").stdout)
    port = int(podpy("port", "x", "8080").text.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(b"through\n")
    assert podpy("wait", "x").text == "0"
    assert podpy("logs", "x").text == "through"
