"""start, stop, kill, restart, rm, wait, pause, rename, prune, and the lists of containers."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from support import host
from support.podman import Podman
from support.podpy import Podpy
from support.polling import eventually

SLEEP = ("sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.1; done")


def detached(
    podpy: Podpy, image: str, name: str, *command: str, options: tuple[str, ...] = ()
) -> str:
    return podpy.run_detached(
        "--name", name, "--network", "none", *options, image, *(command or SLEEP)
    )


def state(podpy: Podpy, name: str, field: str = "Status") -> str:
    return podpy("inspect", "-f", f"{{{{.State.{field}}}}}", name).text


# --- stop, kill, start -------------------------------------------------------------


def test_stop_asks_and_kills(podpy: Podpy, busybox: str) -> None:
    detached(podpy, busybox, "polite")
    detached(podpy, busybox, "deaf", "sh", "-c", "trap '' TERM; sleep 1000")
    podpy("stop", "-t", "10", "polite")
    assert state(podpy, "polite", "ExitCode") == "3"
    begun = time.monotonic()
    podpy("stop", "-t", "1", "deaf")
    assert 1 <= time.monotonic() - begun < 5
    assert state(podpy, "deaf", "ExitCode") == "137"
    assert podpy("stop", "polite", "deaf").lines == ["polite", "deaf"], "stopped already: no error"


def test_the_stop_signal_is_the_containers(podpy: Podpy, busybox: str) -> None:
    script = "trap 'exit 5' USR1; while :; do sleep 0.1; done"
    detached(podpy, busybox, "x", "sh", "-c", script, options=("--stop-signal", "usr1"))
    podpy("stop", "x")
    assert state(podpy, "x", "ExitCode") == "5"


def test_kill_sends_any_signal(podpy: Podpy, busybox: str) -> None:
    detached(podpy, busybox, "x", "sh", "-c", "trap 'exit 4' HUP; while :; do sleep 0.1; done")
    podpy("kill", "-s", "HUP", "x")
    assert podpy("wait", "x").text == "4"
    done = podpy.fails("kill", "x")
    assert "not running" in done.stderr
    podpy.fails("kill", "-s", "NOPE", "x")


def test_start_again_keeps_files(podpy: Podpy, busybox: str) -> None:
    podpy("create", "--name", "x", "--network", "none", busybox, "sh", "-c", "cat /f; echo 1 >>/f")
    assert podpy("start", "-a", "x").text == ""
    assert podpy("start", "-a", "x").text == "1"
    assert podpy("start", "x").text == "x"
    eventually(lambda: state(podpy, "x") == "exited")
    assert podpy("start", "-a", "x").text == "1\n1\n1"


def test_start_of_a_running_container_is_no_error(podpy: Podpy, busybox: str) -> None:
    detached(podpy, busybox, "x")
    pid = state(podpy, "x", "Pid")
    assert podpy("start", "x").text == "x"
    assert state(podpy, "x", "Pid") == pid


def test_two_starts_at_once_start_once(podpy: Podpy, busybox: str) -> None:
    podpy("create", "--name", "x", "--network", "none", busybox, "sh", "-c", "echo run; sleep 1000")
    racers = [podpy.start("start", "x", stdin=None) for _ in range(5)]
    assert [racer.wait().code for racer in racers] == [0] * 5
    eventually(lambda: podpy("logs", "x").lines == ["run"])


def test_restart(podpy: Podpy, busybox: str) -> None:
    detached(podpy, busybox, "x")
    pid = state(podpy, "x", "Pid")
    podpy("restart", "-t", "1", "x")
    assert state(podpy, "x", "Pid") != pid
    podpy("stop", "-t", "0", "x")
    podpy("restart", "x")
    assert state(podpy, "x") == "running"


def test_a_failed_start_says_why_and_keeps_the_container(podpy: Podpy, busybox: str) -> None:
    podpy("create", "--name", "x", "--network", "none", busybox, "/none")
    podpy("start", "x", code=127)
    assert state(podpy, "x", "ExitCode") == "127"
    assert "/none" in state(podpy, "x", "Error")


# --- removal -----------------------------------------------------------------------


def test_rm_refuses_what_runs(podpy: Podpy, busybox: str) -> None:
    detached(podpy, busybox, "x")
    done = podpy("rm", "x", code=2)
    assert "container is running" in done.stderr
    podpy("rm", "-f", "x")
    assert podpy.containers() == []
    podpy("rm", "x", code=1)
    podpy("rm", "-i", "x")


def test_one_failure_does_not_keep_rm_from_the_others(podpy: Podpy, busybox: str) -> None:
    podpy("create", "--name", "a", busybox)
    podpy("create", "--name", "b", busybox)
    done = podpy("rm", "a", "nobody", "b", code=1)
    assert done.lines == ["a", "b"]
    assert "nobody" in done.stderr


def test_rm_with_those_that_depend_on_it(podpy: Podpy, busybox: str) -> None:
    detached(podpy, busybox, "a")
    podpy("create", "--name", "b", "--network", "container:a", busybox)
    podpy("rm", "--depend", "-t", "0", "a")
    assert podpy.containers() == []


def test_prune_leaves_what_runs(podpy: Podpy, busybox: str) -> None:
    running = detached(podpy, busybox, "runs")
    podpy("create", "--name", "old", "--label", "keep=no", busybox)
    podpy("create", "--name", "kept", "--label", "keep=yes", busybox)
    podpy("container", "prune", "-f", "--filter", "label!=keep=yes")
    assert podpy("ps", "-a", "--format", "{{.Names}}").lines == ["kept", "runs"]
    podpy("container", "prune", "-f")
    assert podpy.containers() == [running]


def test_rm_of_a_container_whose_files_belong_to_others(podpy: Podpy, busybox: str) -> None:
    script = "mkdir -m 700 /d && touch /d/f && chown -R 5:5 /d"
    podpy("run", "--name", "x", "--network", "none", busybox, "sh", "-c", script)
    podpy("rm", "x")
    assert podpy.staging() == []


# --- wait --------------------------------------------------------------------------


def test_wait(podpy: Podpy, busybox: str) -> None:
    detached(podpy, busybox, "one", "sh", "-c", "sleep 2; exit 3")
    detached(podpy, busybox, "two", "sh", "-c", "sleep 1; exit 4", options=("--rm",))
    assert podpy("wait", "one", "two").lines == ["3", "4"]
    podpy.fails("wait", "two")
    assert podpy("wait", "--ignore", "two").text == "-1"
    podpy.fails("wait", "--condition", "nonsense", "one")


def test_wait_for_a_condition(podpy: Podpy, busybox: str) -> None:
    podpy("create", "--name", "x", "--network", "none", busybox, *SLEEP)
    waiting = podpy.start("wait", "--condition", "running", "--interval", "20ms", "x", stdin=None)
    podpy("start", "x")
    assert waiting.wait(10).stdout == "-1\n"


# --- pause -------------------------------------------------------------------------


def test_pause(podpy: Podpy, busybox: str) -> None:
    host.require("cgroup")
    detached(podpy, busybox, "x", "sh", "-c", "while :; do echo x; sleep 0.01; done")
    podpy("pause", "x")
    assert state(podpy, "x") == "paused"
    assert "(Paused)" in podpy("ps").stdout
    before = podpy("logs", "x").stdout
    time.sleep(0.2)
    assert podpy("logs", "x").stdout == before
    podpy.fails("pause", "x")
    podpy.fails("start", "x")
    podpy("unpause", "x")
    assert state(podpy, "x") == "running"
    podpy("pause", "x")
    podpy("stop", "-t", "1", "x")
    assert state(podpy, "x") == "exited"


# --- after a catastrophe --------------------------------------------------------------


def supervisor_of(podpy: Podpy, name: str) -> int:
    return int(state(podpy, name, "ConmonPid"))


def test_a_container_without_its_supervisor_is_stopping_and_can_be_started(
    podpy: Podpy, busybox: str
) -> None:
    detached(podpy, busybox, "x")
    os.kill(supervisor_of(podpy, "x"), signal.SIGKILL)
    eventually(lambda: state(podpy, "x") in ("stopping", "exited"))
    podpy("start", "x")
    assert state(podpy, "x") == "running"


def test_after_a_reboot_containers_are_exited_and_start(podpy: Podpy, busybox: str) -> None:
    made = detached(podpy, busybox, "x")
    podpy("kill", "x")
    file = Path(podpy.store, "containers", made, "state.json")
    written = json.loads(file.read_text())
    for who in ("init", "supervisor"):
        written[who]["boot_id"] = "11111111-2222-3333-4444-555555555555"
        written[who]["pid"], written[who]["start"] = os.getpid(), 1
    written["status"] = "running"
    file.write_text(json.dumps(written))
    assert podpy("ps", "-q").text == ""
    assert "Exited (137)" in podpy("ps", "-a").stdout
    podpy("start", "x")
    assert state(podpy, "x") == "running"


def test_without_the_runtime_directory_a_container_is_not_lost(podpy: Podpy, busybox: str) -> None:
    made = detached(podpy, busybox, "x", "sh", "-c", "echo said; sleep 1000")
    eventually(lambda: podpy("logs", "x").text == "said")
    for file in Path(podpy.runtime, made).iterdir():
        file.unlink()
    Path(podpy.runtime, made).rmdir()
    assert podpy("ps", "--format", "{{.Names}}").text == "x"
    assert podpy("exec", "x", "echo", "inside").text == "inside"
    assert podpy("logs", "x").text == "said"
    podpy("stop", "-t", "0", "x")
    assert state(podpy, "x") == "exited"


def test_readers_do_not_wait_for_a_stuck_writer(podpy: Podpy, busybox: str) -> None:
    detached(podpy, busybox, "a", "sh", "-c", "trap '' TERM; sleep 1000")
    detached(podpy, busybox, "b")
    stuck = podpy.start("stop", "-t", "1000", "a", stdin=None)
    time.sleep(0.3)
    os.kill(stuck.pid, signal.SIGSTOP)
    for command in (["ps"], ["inspect", "a"], ["inspect", "b"], ["logs", "a"], ["rm", "-f", "b"]):
        podpy(*command, timeout=5)
    os.kill(stuck.pid, signal.SIGCONT)
    podpy("kill", "a")
    stuck.wait(10)


# --- lists -------------------------------------------------------------------------


@pytest.fixture
def some(podpy: Podpy, busybox: str) -> None:
    podpy("create", "--name", "first", "--label", "a=1", "-v", "vol:/v", busybox, "true")
    podpy(
        "run", "--name", "second", "--label", "a=2", "--network", "none", busybox, "false", code=1
    )
    detached(podpy, busybox, "third", options=("--label", "b"))


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ((), ["third"]),
        (("-a",), ["third", "second", "first"]),
        (("-n", "2"), ["third", "second"]),
        (("-l",), ["third"]),
        (("-a", "--sort", "names"), ["first", "second", "third"]),
        (("-a", "-f", "status=created"), ["first"]),
        (("-f", "status=exited"), ["second"]),
        (("-a", "-f", "exited=1"), ["second"]),
        (("-a", "-f", "label=a"), ["second", "first"]),
        (("-a", "-f", "label=a=1"), ["first"]),
        (("-a", "-f", "label=a=1", "-f", "label=b"), ["third", "first"]),
        (("-a", "-f", "label=a", "-f", "name=sec"), ["second"]),
        (("-a", "-f", "name=^(first|third)$"), ["third", "first"]),
        (("-a", "-f", "before=third"), ["second", "first"]),
        (("-a", "-f", "since=first"), ["third", "second"]),
        (("-a", "-f", "volume=vol"), ["first"]),
        (("-a", "-f", "network=none"), ["third", "second"]),
        (("-a", "-f", "ancestor=busybox"), ["third", "second", "first"]),
        (("-a", "-f", "until=1h"), []),
        (("-a", "-f", "command=false"), ["second"]),
    ],
)
def test_ps(podpy: Podpy, some: None, options: tuple[str, ...], names: list[str]) -> None:
    assert podpy("ps", *options, "--format", "{{.Names}}").lines == names


def test_ps_refuses_what_it_does_not_know(podpy: Podpy) -> None:
    assert "invalid filter" in podpy.fails("ps", "-f", "nonsense=1").stderr
    assert "--sort" in podpy.fails("ps", "--sort", "nonsense").stderr


def test_ps_sizes(podpy: Podpy, busybox: str) -> None:
    script = "dd if=/dev/zero of=/f bs=1k count=200; mkdir -m 700 /d; chown 5 /d"
    podpy("run", "--name", "x", "--network", "none", busybox, "sh", "-c", script)
    (found,) = podpy("inspect", "-s", "x").json()
    assert 200 << 10 <= found["SizeRw"] < 300 << 10
    assert found["SizeRootFs"] > found["SizeRw"]
    assert "virtual" in podpy("ps", "-a", "-s").stdout


def test_rename(podpy: Podpy, busybox: str) -> None:
    detached(podpy, busybox, "old")
    podpy("create", "--name", "taken", busybox)
    podpy.fails("rename", "old", "taken")
    podpy("rename", "old", "new")
    assert podpy("ps", "--format", "{{.Names}}").text == "new"
    podpy("container", "exists", "new")
    podpy("container", "exists", "old", code=1)
    podpy("create", "--name", "old", busybox)


def test_a_renamed_rm_container_takes_only_its_own_name(podpy: Podpy, busybox: str) -> None:
    detached(podpy, busybox, "old", options=("--rm",))
    podpy("rename", "old", "new")
    other = podpy("create", "--name", "old", busybox).text
    podpy("stop", "-t", "0", "new")
    assert podpy("inspect", "-f", "{{.Id}}", "old").text == other
    podpy("create", "--name", "new", busybox)


def test_top(podpy: Podpy, busybox: str) -> None:
    detached(podpy, busybox, "x", "sh", "-c", "sleep 1000 & sleep 2000; :", options=("--user", "5"))
    eventually(lambda: len(podpy("top", "x").lines) == 4)
    titles = podpy("top", "x").lines[0]
    assert titles.split() == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    shown = podpy("top", "x", "pid", "user", "args").lines
    assert shown[1].split()[:3] == ["1", "5", "sh"]
    assert any("sleep 2000" in line for line in shown)
    podpy.fails("top", "x", "nonsense")


def test_port(podpy: Podpy, busybox: str) -> None:
    host.require("slirp4netns", "/dev/net/tun")
    podpy.run_detached(
        "--name", "x", "-p", "127.0.0.1::80", "-p", "127.0.0.1::53/udp", busybox, *SLEEP
    )
    first, second = podpy("port", "x").lines
    assert first.startswith("80/tcp -> 127.0.0.1:")
    assert second.startswith("53/udp -> 127.0.0.1:")
    assert podpy("port", "x", "53/udp").text == second.partition(" -> ")[2]
    podpy.fails("port", "x", "99")


# --- inspect, beside the peer ----------------------------------------------------------


def test_inspect_has_podmans_fields(podpy: Podpy, podman: Podman, busybox: str) -> None:
    options = (
        "create", "--name", "same", "-e", "A=b", "--label", "l=v", "-v", "/etc:/m:ro", "-w", "/tmp",
        "-p", "127.0.0.1:8099:80", "--cap-add", "NET_ADMIN", "--cap-drop", "CHOWN", "-t", "-i",
        "--read-only", "--stop-timeout", "7", "--user", "3:4", busybox, "sleep", "9",
    )  # fmt: skip
    podpy(*options)
    podman(*options)
    (ours,), (theirs,) = podpy("inspect", "same").json(), podman("inspect", "same").json()
    same = {
        "": ("Name", "Path", "Args"),
        "State": ("Status", "Running", "Paused", "Pid", "ExitCode", "StartedAt", "FinishedAt"),
        "Config": ("Cmd", "Labels", "Tty", "OpenStdin", "User", "WorkingDir", "StopTimeout"),
        "HostConfig": ("PortBindings", "ReadonlyRootfs", "AutoRemove", "Privileged", "ShmSize"),
        "NetworkSettings": ("Ports",),
    }
    for section, fields in same.items():
        for field in fields:
            mine, peers = (each[section] if section else each for each in (ours, theirs))
            assert mine[field] == peers[field], f"{section}.{field}"
    assert "A=b" in ours["Config"]["Env"]
    assert ours["BoundingCaps"] == theirs["BoundingCaps"]
    assert ours["EffectiveCaps"] == [], "its user is not root"
    assert ours["Mounts"][0]["Source"] == theirs["Mounts"][0]["Source"]
    assert ours["Mounts"][0]["RW"] is theirs["Mounts"][0]["RW"] is False


# --- volumes -------------------------------------------------------------------------


def test_volumes(podpy: Podpy, busybox: str) -> None:
    assert podpy("volume", "create", "--label", "a=1", "v").text == "v"
    assert podpy("volume", "create", "v").text == "v", "docker takes the one that exists"
    podpy("volume", "create", "--ignore", "v")
    random = podpy("volume", "create").text
    assert podpy("volume", "ls", "-q").lines == sorted(["v", random])
    assert podpy("volume", "ls", "-q", "-f", "label=a=1").text == "v"
    podpy("create", "--name", "x", "-v", "v:/v", busybox)
    assert podpy("volume", "ls", "-q", "-f", "dangling=true").text == random
    assert "in use" in podpy("volume", "rm", "v", code=2).stderr
    podpy("volume", "prune", "-f")
    assert podpy("volume", "ls", "-q").text == "v"
    podpy("rm", "x")
    podpy("volume", "exists", "v")
    podpy("volume", "rm", "v")
    podpy("volume", "exists", "v", code=1)
    podpy("volume", "rm", "v", code=1)
    podpy("volume", "rm", "-f", "v")
