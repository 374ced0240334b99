"""``exec``: streams, exit codes, environment, signals, terminals."""

from __future__ import annotations

import os
import signal

import pytest

from support.podpy import Podpy
from support.polling import eventually

NONE = ("--network", "none")


@pytest.fixture
def box(podpy: Podpy, busybox: str) -> Podpy:
    podpy.run_detached("--name", "c", *NONE, "-e", "GIVEN=record", busybox, "sleep", "1000")
    return podpy


@pytest.fixture
def users(podpy: Podpy, users_image: str) -> Podpy:
    podpy.run_detached("--name", "c", *NONE, users_image, "sleep", "1000")
    return podpy


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("sh", "-c", "exit 7"), 7),
        (("sh", "-c", "kill -9 $$"), 137),
        (("sh", "-c", "kill -TERM $$"), 143),
        (("nothere",), 127),
        (("/nothere/x",), 127),
        (("/etc",), 126),
        (("/etc/passwd",), 126),
    ],
)
def test_exit_codes(box: Podpy, command: tuple[str, ...], code: int) -> None:
    box("exec", "c", *command, code=code)


def test_a_missing_and_a_stopped_container_differ(podpy: Podpy, busybox: str) -> None:
    assert "no such container" in podpy.fails("exec", "nothere", "true", code=125).stderr
    podpy("create", "--name", "c", *NONE, busybox, "true")
    done = podpy.fails("exec", "c", "true", code=126)
    assert "container state improper" in done.stderr


def test_streams_are_the_callers_own(box: Podpy) -> None:
    done = box("exec", "c", "sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == ("out\n", "err\n")
    data = os.urandom(3_000_000)
    assert box("exec", "-i", "c", "cat", input=data).raw_stdout == data
    assert box("exec", "c", "cat", input=b"not for it").raw_stdout == b""


def test_streams_block_and_closed_ones_are_there(box: Podpy) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    done = box.start("exec", "c", "sh", "-c", "dd if=/dev/zero bs=1M count=2 && echo whole >&2",
                     stdout=writer)  # fmt: skip
    os.close(writer)
    while os.read(reader, 65536):
        pass
    os.close(reader)
    assert "whole" in done.wait().stderr
    command = box.command
    box.command = ("sh", "-c", 'exec <&- 2>&-; exec "$@"', "sh", *command)
    shown = box("exec", "-i", "c", "sh", "-c", "for n in 0 2; do readlink /proc/self/fd/$n; done")
    box.command = command
    assert shown.lines == ["/dev/null", "/dev/null"]


def test_environment(box: Podpy) -> None:
    file = box.directory / "env"
    file.write_text("# comment\nFROM_FILE=file\nBOTH=file\nPASSED\n")
    shown = box(
        "exec", "--env-file", file, "-e", "BOTH=option", "-e", "GIVEN", "-e", "EMPTY=", "c", "env",
        env={"PASSED": "host", "SECRET": "host"},
    )  # fmt: skip
    found = dict(line.split("=", 1) for line in shown.lines)
    assert found["FROM_FILE"] == "file"
    assert found["BOTH"] == "option"
    assert found["PASSED"] == "host"
    assert found["EMPTY"] == ""
    assert found["HOME"] == "/root"
    assert found["container"]
    assert not {"GIVEN", "SECRET", "TERM"} & found.keys()


def test_home_is_the_users(users: Podpy) -> None:
    echo = ("sh", "-c", "echo $HOME; pwd")
    assert users("exec", "-u", "alice", "c", *echo).lines == ["/home/alice", "/"]
    assert users("exec", "-u", "4321", "c", *echo).lines == ["/", "/"]
    assert users("exec", "-u", "alice", "-e", "HOME=/x", "c", *echo).lines == ["/x", "/"]


def test_working_directory(users: Podpy) -> None:
    assert users("exec", "-w", "/usr/bin", "c", "pwd").text == "/usr/bin"
    assert users("exec", "-u", "alice", "-w", "/root", "c", "pwd").text == "/root"
    users.fails("exec", "-w", "/nowhere", "c", "pwd", code=127)
    users.fails("exec", "-w", "usr", "c", "pwd", code=125)
    users.fails("exec", "-w", "/etc/passwd", "c", "pwd")


def test_limits_and_umask_are_the_containers(podpy: Podpy, busybox: str) -> None:
    podpy.run_detached("--name", "c", *NONE, "--ulimit", "nofile=123:456", "--umask", "0027",
                       busybox, "sleep", "1000")  # fmt: skip
    shown = podpy("exec", "c", "sh", "-c", "ulimit -n; ulimit -Hn; umask")
    assert shown.lines == ["123", "456", "0027"]


def test_it_joins_every_namespace(box: Podpy) -> None:
    look = "for n in cgroup ipc mnt net pid user uts; do readlink /proc/$P/ns/$n; done"
    first = box("exec", "-e", "P=1", "c", "sh", "-c", look).lines
    assert box("exec", "-e", "P=self", "c", "sh", "-c", look).lines == first
    assert box("exec", "c", "hostname").text != os.uname().nodename


@pytest.mark.parametrize("option", ["--pid=host", "--uts=host", "--ipc=host", "--network=host"])
def test_what_is_shared_with_the_host_is_not_joined(
    podpy: Podpy, busybox: str, option: str
) -> None:
    network = () if "network" in option else NONE
    podpy.run_detached("--name", "c", *network, option, busybox, "sleep", "1000")
    assert podpy("exec", "c", "echo", "joined").text == "joined"


def test_its_cgroup_is_the_containers(box: Podpy) -> None:
    assert box("exec", "c", "grep", "^0::", "/proc/self/cgroup").text == "0::/"
    inside = box("exec", "c", "sh", "-c", "cat /sys/fs/cgroup/cgroup.procs | wc -l")
    assert int(inside.text) >= 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_are_passed_on(box: Podpy, number: signal.Signals) -> None:
    script = f"trap 'echo caught; exit 9' {number.value}; echo ready; while :; do sleep 0.05; done"
    child = box.start("exec", "c", "sh", "-c", script)
    child.expect_output("ready")
    child.signal(number)
    done = child.wait()
    assert (done.code, done.lines) == (9, ["ready", "caught"])


def test_an_interrupt_ends_the_whole_job(box: Podpy) -> None:
    child = box.start("exec", "c", "sh", "-c", "echo ready; sleep 1000; echo not reached")
    child.expect_output("ready")
    child.signal(signal.SIGINT)
    assert child.wait().code == 130
    assert "1000" not in box("exec", "c", "sh", "-c", "ps | grep -v grep | grep -c 'slee[p] 1000'",
                             code=None).text  # fmt: skip


def test_detached(box: Podpy) -> None:
    box("exec", "-d", "c", "sh", "-c", "echo $$ >/pid; exec sleep 500")
    pid = eventually(lambda: box("exec", "c", "cat", "/pid", code=None).text)
    assert "sleep" in box("exec", "c", "cat", f"/proc/{pid}/cmdline").text
    for fd in (0, 1, 2):
        assert box("exec", "c", "readlink", f"/proc/{pid}/fd/{fd}").text == "/dev/null"
    box.fails("exec", "-d", "c", "nothere", code=127)


def test_preserved_descriptors(box: Podpy) -> None:
    script = 'exec 3>out 4<in; exec "$@"'
    (box.directory / "in").write_text("from outside")
    command = box.command
    box.command = ("sh", "-c", script, "sh", *command)
    try:
        box("exec", "--preserve-fds", "2", "c", "sh", "-c", "cat <&4 >&3; ls /proc/self/fd/5",
            code=1)  # fmt: skip
        assert (box.directory / "out").read_text() == "from outside"
        assert "open" in box.fails("exec", "--preserve-fds", "3", "c", "true").stderr
        box.fails("exec", "--preserve-fds", "x", "c", "true")
        box.fails("exec", "-d", "--preserve-fds", "1", "c", "true")
    finally:
        box.command = command


# --- at a terminal


def test_a_terminal(box: Podpy) -> None:
    shown = box.terminal("exec", "-it", "c", "sh", rows=33, columns=77)
    shown.expect("#")
    shown.send("tty; stty size; echo $TERM\r")
    shown.expect(r"/dev/pts/\d+\s+33 77\s+xterm")
    shown.resize(44, 88)
    eventually(lambda: shown.send("stty size\r") or shown.expect("44 88", timeout=1))
    shown.send("exit 5\r")
    assert shown.wait() == 5


def test_the_terminal_is_put_back(box: Podpy) -> None:
    shown = box.terminal("exec", "-it", "c", "sh", "-c", "echo ready; read x; exit 3")
    before = None
    shown.expect("ready")
    raw = shown.settings()
    shown.send("x\r")
    assert shown.wait() == 3
    before = shown.settings()
    assert before[3] != raw[3], "raw mode was not undone"


def test_detach_keys_leave_it_running(box: Podpy) -> None:
    shown = box.terminal("exec", "-it", "c", "sh", "-c", "echo $$ >/pid; echo ready; sleep 400")
    shown.expect("ready")
    shown.send(b"\x10\x11")
    assert shown.wait() == 0
    pid = box("exec", "c", "cat", "/pid").text
    assert box("exec", "c", "cat", f"/proc/{pid}/comm").text


def test_a_detached_terminal_is_read(box: Podpy) -> None:
    """Nobody looks at it, but what it prints must not stop it."""
    flood = "seq 1 100000; echo $? >/done; sleep 300"
    box("exec", "-dt", "c", "sh", "-c", flood)
    eventually(lambda: box("exec", "c", "cat", "/done", code=None).text == "0")
