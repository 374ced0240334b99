"""Descriptors handed through podpy: systemd's sockets, and --preserve-fds."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import guest, processes
from support.command import Background
from support.podpy import Podpy
from support.polling import eventually

#: What systemd does between fork and exec: descriptors from 3 on, and three variables.
ACTIVATE = """
import os, sys
count = int(sys.argv[1])
for number, fd in enumerate(map(int, sys.argv[2:2 + count])):
    os.dup2(fd, 3 + number)
    os.set_inheritable(3 + number, True)
    if fd >= 3 + count:
        os.close(fd)
os.environ.update(LISTEN_FDS=str(count), LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES="web:admin")
os.execv(sys.argv[2 + count], sys.argv[2 + count:])
"""

#: A service that is activated: it answers with the client's address, and closes when told so.
SERVICE = """
import os, socket, time
assert os.environ["LISTEN_PID"] == str(os.getpid()), os.environ
count = int(os.environ["LISTEN_FDS"])
print("open", *sorted(map(int, os.listdir("/proc/self/fd")))[:-1])
print("names", os.environ["LISTEN_FDNAMES"])
server = socket.socket(fileno=3)
print("serving", flush=True)
while True:
    client, address = server.accept()
    word = client.recv(10)
    if word == b"close":
        break
    client.sendall(address[0].encode())
    client.close()
for fd in range(3, 3 + count):
    os.close(fd)
client.sendall(b"closed")
client.close()
time.sleep(600)
"""

Address = tuple[str, int]


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    server = socket.create_server(("127.0.0.1", 0))
    yield server
    server.close()


def activated(podpy: Podpy, sockets: list[socket.socket], *arguments: object) -> Background:
    """Start podpy as systemd would; the sockets are only its from then on."""
    fds = [each.fileno() for each in sockets]
    wrapped = [sys.executable, "-IS", "-c", ACTIVATE, str(len(fds)), *map(str, fds)]
    command, podpy.command = podpy.command, (*wrapped, *absolute(podpy.command))
    try:
        child = podpy.start(*arguments, pass_fds=fds)
    finally:
        podpy.command = command
    for each in sockets:
        each.close()
    return child


def absolute(command: tuple[str, ...]) -> tuple[str, ...]:
    first = command[0] if command[0].startswith("/") else os.path.abspath(command[0])
    return (first, *command[1:])


def ask(address: Address, word: bytes = b"who", source: str = "127.0.0.9") -> str:
    with socket.create_connection(address, timeout=10, source_address=(source, 0)) as client:
        client.sendall(word)
        return client.recv(100).decode()


def is_refused(address: Address) -> bool:
    try:
        socket.create_connection(address, timeout=2).close()
    except ConnectionRefusedError:
        return True
    return False


def holders(inode: int) -> set[str]:
    """The programs below this test that hold a socket open."""
    found = set()
    for process in processes.descendants():
        directory = Path(f"/proc/{process.pid}/fd")
        try:
            links = [os.readlink(entry) for entry in directory.iterdir()]
        except OSError:
            continue
        if f"socket:[{inode}]" in links:
            found.add(process.describe())
    return found


@pytest.mark.parametrize("options", [(), ("--init",), ("-d",), ("-d", "--init"), ("--pid=host",)])
def test_socket_activation(
    podpy: Podpy, busybox: str, listener: socket.socket, options: tuple[str, ...]
) -> None:
    address = listener.getsockname()
    child = activated(
        podpy, [listener], "run", "--rm", "--name", "c", *options, "--network", "none",
        *guest.with_python(), busybox, *guest.script(SERVICE),
    )  # fmt: skip
    if "-d" in options:
        child.wait().expect(0)
    # Whoever connects before the service runs waits in the socket's queue.
    assert ask(address) == "127.0.0.9"
    said = podpy("logs", "c").stdout
    assert "open 0 1 2 3\n" in said
    assert "names web:admin" in said
    assert ask(address, b"close") == "closed"
    eventually(lambda: is_refused(address))
    assert podpy("ps", "-q").lines, "the container runs on"


def test_several_sockets_none_of_them_kept(
    podpy: Podpy, busybox: str, listener: socket.socket
) -> None:
    other = socket.create_server(("127.0.0.1", 0))
    first, second = listener.getsockname(), other.getsockname()
    inode = os.fstat(other.fileno()).st_ino
    activated(
        podpy, [listener, other], "run", "-d", "--name", "c", *guest.with_python(), busybox,
        *guest.script(SERVICE),
    ).wait().expect(0)  # fmt: skip
    assert "open 0 1 2 3 4\n" in podpy("logs", "c").stdout or ask(first) == "127.0.0.9"
    held = holders(inode)
    assert len(held) == 1, held
    assert "serving" not in held.pop()
    assert ask(first, b"close") == "closed"
    eventually(lambda: is_refused(first) and is_refused(second))


def test_started_again_with_sockets(podpy: Podpy, busybox: str, listener: socket.socket) -> None:
    address = listener.getsockname()
    podpy("create", "--name", "c", "--network", "none", *guest.with_python(), busybox,
          *guest.script(SERVICE))  # fmt: skip
    activated(podpy, [listener], "start", "c").wait().expect(0)
    assert ask(address) == "127.0.0.9"
    assert "LISTEN" not in podpy("exec", "c", "env").stdout
    assert not any("LISTEN" in entry for entry in podpy("inspect", "c").json()[0]["Config"]["Env"])


def test_exec_with_sockets(podpy: Podpy, busybox: str, listener: socket.socket) -> None:
    address = listener.getsockname()
    podpy.run_detached("--name", "c", "--network", "none", *guest.with_python(), busybox,
                       "sleep", "1000")  # fmt: skip
    child = activated(podpy, [listener], "exec", "c", *guest.script(SERVICE))
    assert ask(address) == "127.0.0.9"
    assert ask(address, b"close") == "closed"
    eventually(lambda: is_refused(address))
    podpy("rm", "-f", "-t", "0", "c")
    child.wait()


def test_sockets_of_another_process(podpy: Podpy, busybox: str) -> None:
    """systemd gave them to whoever calls podpy: they are not podpy's to take."""
    env = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "web"}
    with (podpy.directory / "file").open("wb") as file:
        fd = file.fileno()
        done = podpy("run", "--rm", "--network", "none", busybox, "sh", "-c",
                     f"env; ls /proc/self/fd/{fd}", env=env, pass_fds=(fd,), code=1)  # fmt: skip
    assert "LISTEN" not in done.stdout


def test_sockets_that_are_not_there(podpy: Podpy, busybox: str) -> None:
    script = 'LISTEN_PID=$$ LISTEN_FDS=2 exec "$@"'
    podpy.command = ("sh", "-c", script, "sh", *podpy.command)
    assert "descriptor 3 is not open" in podpy.fails("run", busybox, "true").stderr


def test_preserved_descriptors(podpy: Podpy, busybox: str) -> None:
    (podpy.directory / "in").write_text("from outside")
    podpy.command = ("sh", "-c", 'exec 3>out 4<in 7<in; exec "$@"', "sh", *podpy.command)
    run = ("run", "--rm", "--network", "none")
    podpy(*run, "--preserve-fds", "2", busybox, "sh", "-c", "cat <&4 >&3; ls /proc/self/fd/7",
          code=1)  # fmt: skip
    assert (podpy.directory / "out").read_text() == "from outside"
    done = podpy(*run, "--preserve-fd", "7", "--preserve-fd=3,4", busybox, "sh", "-c",
                 "cat <&7; ls /proc/self/fd")  # fmt: skip
    assert done.stdout.startswith("from outside")
    done = podpy(*run, "--preserve-fd", "7", busybox, "sh", "-c", "cat <&7; cat <&4", code=None)
    assert done.stdout == "from outside"
    assert done.code != 0
    for wrong in ("--preserve-fds=3", "--preserve-fds=x", "--preserve-fd=2", "--preserve-fd=6"):
        podpy.fails(*run, wrong, busybox, "true")
    assert not podpy.containers()


def test_preserved_by_a_detached_container(podpy: Podpy, busybox: str) -> None:
    command, podpy.command = podpy.command, ("sh", "-c", 'exec 3>out; exec "$@"', "sh",
                                             *podpy.command)  # fmt: skip
    podpy("run", "-d", "--name", "c", "--network", "none", "--preserve-fds", "1", busybox,
          "sh", "-c", "until [ -e /go ]; do sleep 0.05; done; echo late >&3")  # fmt: skip
    podpy.command = command
    podpy("exec", "c", "touch", "/go")
    podpy("wait", "c")
    assert (podpy.directory / "out").read_text() == "late\n"
