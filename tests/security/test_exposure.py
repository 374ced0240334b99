"""What reaches a container, or a terminal, that nobody asked for."""

from __future__ import annotations

import itertools
import os
import socket
import threading

import pytest

from support.podpy import Podpy

NONE = ("--network", "none")
_numbers = itertools.count()
ESCAPE = "\x1b[31mred\x1b]0;title\x07"


def test_cve_2021_3602_the_hosts_environment_stays_outside(podpy: Podpy, busybox: str) -> None:
    env = {"PODPY_SENTINEL": "sentinel-value"}
    podpy.run_detached("--name", "c", *NONE, busybox, "sleep", "1000", env=env)
    for how in (("run", "--rm", *NONE, busybox), ("exec", "c")):
        assert "sentinel" not in podpy(*how, "env", env=env).stdout.lower()
    assert "sentinel" not in podpy("exec", "c", "cat", "/proc/1/environ").stdout.lower()
    assert "sentinel-value" not in podpy("inspect", "c", env=env).stdout


@pytest.fixture
def listeners():
    """Listening sockets of the host: IPv4 and IPv6 loopback, and an abstract one."""
    made: dict[str, socket.socket] = {}
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.bind((address, 0))
        except OSError:
            listener.close()
            continue
        made[address] = listener
    abstract = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    abstract.bind(f"\0podpy-test-{os.getpid()}-{next(_numbers)}")
    made["abstract"] = abstract
    for listener in made.values():
        listener.listen()
        threading.Thread(target=_serve, args=(listener,), daemon=True).start()
    yield made
    for listener in made.values():
        listener.close()


def _serve(listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        connection.sendall(b"reached the host")
        connection.close()


@pytest.mark.parametrize("network", ["none", "slirp4netns", "pasta"])
def test_the_hosts_loopback_is_out_of_reach(
    podpy: Podpy, busybox: str, network: str, listeners
) -> None:
    ports = {name: s.getsockname()[1] for name, s in listeners.items() if name != "abstract"}
    podpy.run_detached("--name", "c", "--network", network, busybox, "sleep", "1000")
    targets = ["127.0.0.1", "::1", "10.0.2.2", "10.0.2.3", "host.containers.internal"]
    for port in ports.values():
        for target in targets:
            done = podpy("exec", "c", "timeout", "2", "nc", "-w", "1", target, str(port), code=None)
            assert "reached" not in done.stdout, (target, port)
    assert "podpy-test-" not in podpy("exec", "c", "cat", "/proc/net/unix").stdout


def test_escape_sequences_do_not_reach_the_terminal(podpy: Podpy, busybox: str) -> None:
    """Names, labels and commands are printed with control characters made visible."""
    podpy("create", "--name", "c", *NONE, "--label", f"l={ESCAPE}", "--annotation", f"a={ESCAPE}",
          "-e", f"E={ESCAPE}", busybox, "echo", ESCAPE)  # fmt: skip
    commands = (
        ("ps", "-a", "--no-trunc"),
        ("ps", "-a", "--format", "{{.Command}} {{.Labels}}"),
        ("ps", "-a", "--format", "json"),
        ("inspect", "c"),
        ("inspect", ESCAPE),
        ("rm", ESCAPE),
        ("run", "--name", ESCAPE, busybox),
        ("run", ESCAPE),
        ("exec", ESCAPE, "true"),
        ("volume", "create", ESCAPE),
        (ESCAPE,),
    )
    for arguments in commands:
        done = podpy(*arguments, code=None)
        for text in (done.stdout, done.stderr):
            assert "\x1b" not in text, arguments
            assert "\x07" not in text, arguments


def test_errors_from_inside_are_printed_escaped(podpy: Podpy, busybox: str) -> None:
    podpy.run_detached("--name", "c", *NONE, busybox, "sleep", "1000")
    for options, command in (((), ESCAPE), (("-w", f"/{ESCAPE}"), "true"), (("-u", ESCAPE), "id")):
        done = podpy("exec", *options, "c", command, code=None)
        assert done.code in (125, 126, 127)
        assert "\x1b" not in done.stderr
