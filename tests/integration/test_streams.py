"""``logs`` and ``attach`` as users type them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from support.podpy import Podpy
from support.polling import eventually

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z"


def detached(podpy: Podpy, image: str, name: str, script: str, *options: str) -> str:
    return podpy.run_detached(
        "--name", name, "--network", "none", *options, image, "sh", "-c", script
    )


def exited(podpy: Podpy, name: str) -> None:
    podpy("wait", name)


# --- logs --------------------------------------------------------------------


def test_each_stream_where_it_belongs(podpy: Podpy, busybox: str) -> None:
    detached(podpy, busybox, "x", "echo out; echo err >&2; printf end")
    exited(podpy, "x")
    done = podpy("logs", "x")
    assert (done.stdout, done.stderr) == ("out\nend", "err\n")


@pytest.mark.parametrize("driver", ["k8s-file", "json-file"])
def test_bounds(podpy: Podpy, busybox: str, driver: str) -> None:
    detached(podpy, busybox, "x", "echo 1; sleep 0.2; echo 2; sleep 0.2; echo 3",
             "--log-driver", driver)  # fmt: skip
    exited(podpy, "x")
    stamped = podpy("logs", "-t", "x").lines
    assert all(re.fullmatch(rf"{STAMP} \d", line) for line in stamped)
    second = stamped[1].split()[0]
    assert podpy("logs", "--since", second, "x").lines == ["2", "3"]
    assert podpy("logs", "--until", second, "x").lines == ["1", "2"]
    assert podpy("logs", "--since", second, "--until", second, "x").lines == ["2"]
    assert podpy("logs", "--since", "1h", "x").lines == ["1", "2", "3"]
    assert podpy("logs", "--until", "1h", "x").lines == []
    assert podpy("logs", "--since", str(int(time.time()) + 5), "x").lines == []
    assert podpy("logs", "--tail", "2", "x").lines == ["2", "3"]
    assert podpy("logs", "-n", "0", "x").lines == []
    assert podpy("logs", "--tail", "all", "x").lines == ["1", "2", "3"]


@pytest.mark.parametrize(
    "arguments",
    [("--since", "yesterday"), ("--until", "2024-13-01"), ("--tail", "many"), ("nosuch",)],
)
def test_mistakes(podpy: Podpy, busybox: str, arguments: tuple[str, ...]) -> None:
    podpy("create", "--name", "x", "--network", "none", busybox, "true")
    names = () if "nosuch" in arguments else ("x",)
    done = podpy.fails("logs", *arguments, *names)
    assert arguments[-1] in done.stderr


def test_a_container_that_never_ran_has_printed_nothing(podpy: Podpy, busybox: str) -> None:
    podpy("create", "--name", "x", "--network", "none", busybox, "true")
    for options in ((), ("-f",), ("--tail", "3")):
        assert podpy("logs", *options, "x", timeout=5).stdout == ""


def test_following_shows_lines_as_they_come_and_the_last_ones(podpy: Podpy, busybox: str) -> None:
    script = "echo first; sleep 0.6; echo second; echo err >&2; seq 1 50000; exit 3"
    detached(podpy, busybox, "x", script)
    follower = podpy.start("logs", "-f", "x")
    follower.expect_output("first\n", timeout=0.5)
    done = follower.wait(20).expect(0)
    assert done.lines == ["first", "second", *map(str, range(1, 50001))]
    assert done.stderr == "err\n"


def test_following_a_container_that_is_removed_at_its_end(podpy: Podpy, busybox: str) -> None:
    detached(podpy, busybox, "x", "sleep 0.5; seq 1 50000", "--rm")
    done = podpy("logs", "-f", "x", timeout=20)
    assert done.lines == [str(n) for n in range(1, 50001)]


def test_following_across_rotations(podpy: Podpy, busybox: str) -> None:
    script = "for i in $(seq 1 300); do echo line $i; done; sleep 0.3; for i in $(seq 301 600); do echo line $i; done"  # noqa: E501
    options = ("--log-opt", "max-size=8k", "--log-opt", "max-file=9")
    detached(podpy, busybox, "x", f"sleep 0.3; {script}", *options)
    done = podpy("logs", "-f", "x", timeout=20)
    assert done.lines == [f"line {n}" for n in range(1, 601)]
    assert podpy("logs", "x").lines == done.lines


def test_following_ends_at_its_time(podpy: Podpy, busybox: str) -> None:
    detached(podpy, busybox, "x", "while :; do echo tick; sleep 0.1; done")
    until = f"{time.time() + 1.5:.3f}"
    before = time.monotonic()
    done = podpy("logs", "-f", "--until", until, "x", timeout=10)
    assert time.monotonic() - before < 4
    assert set(done.lines) == {"tick"}


def test_a_follower_that_stops_reading_stops_nobody(podpy: Podpy, busybox: str) -> None:
    detached(podpy, busybox, "x", "sleep 0.4; seq 1 1000000; exit 4")
    reader, writer = os.pipe()
    follower = podpy.start("logs", "-f", "x", stdout=writer)
    os.close(writer)
    exited(podpy, "x")
    text = b""
    while data := os.read(reader, 1 << 20):
        text += data
    os.close(reader)
    assert text == "".join(f"{n}\n" for n in range(1, 1000001)).encode()
    follower.wait().expect(0)


def test_several_containers_are_told_apart(podpy: Podpy, busybox: str) -> None:
    first = detached(podpy, busybox, "a", "echo one; echo more")
    second = detached(podpy, busybox, "b", "echo two")
    exited(podpy, "a")
    exited(podpy, "b")
    assert podpy("logs", "a", "b").lines == [
        f"{first[:12]} one", f"{first[:12]} more", f"{second[:12]} two",
    ]  # fmt: skip
    assert podpy("logs", "--names", "a", "b").lines == ["a one", "a more", "b two"]
    assert podpy("logs", "-f", "--names", "b").lines == ["b two"]


def test_a_log_elsewhere(podpy: Podpy, busybox: str, directory: Path) -> None:
    path = directory / "elsewhere.log"
    detached(podpy, busybox, "x", "echo here", "--log-driver", "json-file",
             "--log-opt", f"path={path}")  # fmt: skip
    exited(podpy, "x")
    assert json.loads(path.read_text())["log"] == "here\n"
    assert podpy("logs", "x").text == "here"


def test_drivers_that_keep_nothing_say_so(podpy: Podpy, busybox: str) -> None:
    assert podpy(
        "run", "--name", "x", "--network", "none", "--log-driver", "none", busybox, "echo", "shown"
    ).text == "shown"  # fmt: skip
    assert "keeps no log" in podpy.fails("logs", "x").stderr


def test_passthrough_gives_the_callers_own_streams(
    podpy: Podpy, busybox: str, directory: Path
) -> None:
    with (directory / "out").open("w") as out:
        podpy.start(
            "run", "--rm", "--network", "none", "--log-driver", "passthrough",
            busybox, "readlink", "/proc/self/fd/1", stdout=out,
        ).wait().expect(0)  # fmt: skip
    assert (directory / "out").read_text().endswith("out\n")


@pytest.mark.skipif(os.path.exists("/run/systemd/journal/socket"), reason="this host has a journal")
def test_no_journal_is_an_error_before_anything_is_made(podpy: Podpy, busybox: str) -> None:
    done = podpy.fails("create", "--log-driver", "journald", "--network", "none", busybox, "true")
    assert "journald" in done.stderr
    assert podpy.containers() == []


@pytest.mark.parametrize(
    "options",
    [("--log-driver", "nosuch"), ("--log-opt", "nosuch=1"),
     ("--log-driver", "none", "--log-opt", "max-size=1k"), ("--log-opt", "max-size=big")],
)  # fmt: skip
def test_wrong_log_options(podpy: Podpy, busybox: str, options: tuple[str, ...]) -> None:
    podpy.fails("create", *options, "--network", "none", busybox, "true")
    assert podpy.containers() == []


def test_output_is_logged_while_the_foreground_client_is_stopped(
    podpy: Podpy, busybox: str
) -> None:
    """A command stopped with ctrl-z neither stops its container nor loses output."""
    run = podpy.start("run", "--name", "x", "--network", "none", busybox, "sh", "-c",
                      "echo up; sleep 0.5; seq 1 1000000; exit 5")  # fmt: skip
    run.expect_output("up\n")
    run.signal(signal.SIGSTOP)
    exited(podpy, "x")
    expected = ["up", *map(str, range(1, 1000001))]
    assert podpy("logs", "x").lines == expected
    run.signal(signal.SIGCONT)
    assert run.wait().expect(5).lines == expected


def test_a_killed_command_leaves_its_container_running(podpy: Podpy, busybox: str) -> None:
    run = podpy.start("run", "--rm", "--name", "x", "--network", "none", busybox, "sh", "-c",
                      "echo up; sleep 1; exit 5")  # fmt: skip
    run.expect_output("up\n")
    run.kill()
    assert podpy("wait", "x").text == "5"
    eventually(lambda: podpy.containers() == [])


def test_a_reader_that_goes_away_takes_nothing_along(podpy: Podpy, busybox: str) -> None:
    """As with docker: the command ends by SIGPIPE, the container stays what it is."""
    for name, script in (("runs", "echo up; sleep 0.3; yes"), ("ends", "echo up; exit 3")):
        reader, writer = os.pipe()
        os.close(reader)
        run = podpy.start(
            "run", "--name", name, "--network", "none", busybox, "sh", "-c", script, stdout=writer
        )
        os.close(writer)
        assert run.wait().code in (141, -signal.SIGPIPE)
    eventually(lambda: podpy("ps", "--format", "{{.Names}}").text == "runs")
    eventually(lambda: podpy("logs", "ends").text == "up")
    assert podpy("wait", "ends").text == "3"


# --- attach ------------------------------------------------------------------


def test_attach_shows_output_and_returns_the_exit_code(podpy: Podpy, busybox: str) -> None:
    detached(podpy, busybox, "x", "sleep 0.7; echo out; echo err >&2; exit 6")
    done = podpy("attach", "x", code=6)
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


def test_attach_needs_a_running_container(podpy: Podpy, busybox: str) -> None:
    podpy("create", "--name", "x", "--network", "none", busybox, "true")
    done = podpy.fails("attach", "x")
    assert "you can only attach to running containers" in done.stderr


def test_attached_input(podpy: Podpy, busybox: str) -> None:
    detached(podpy, busybox, "x", "read a; echo got $a; read b; echo got $b", "-i")
    assert podpy("attach", "x", input="one\ntwo\n").lines == ["got one", "got two"]


def test_attach_without_input(podpy: Podpy, busybox: str) -> None:
    detached(podpy, busybox, "x", "read -t 1 a; echo got $a", "-i")
    assert podpy("attach", "--no-stdin", "x", input="one\n").lines == ["got"]


def test_foreground_input_of_any_size(podpy: Podpy, busybox: str) -> None:
    data = os.urandom(1 << 20) * 20
    child = subprocess.run(
        podpy.argv("run", "--rm", "-i", "--network", "none", busybox, "cat"),
        input=data, env=podpy.env, stdout=subprocess.PIPE, timeout=60,
    )  # fmt: skip
    assert child.stdout == data


def test_signals_reach_the_container(podpy: Podpy, busybox: str) -> None:
    script = "trap 'echo caught; exit 8' INT; echo up; while :; do sleep 0.05; done"
    run = podpy.start("run", "--rm", "--network", "none", busybox, "sh", "-c", script)
    run.expect_output("up\n")
    run.signal(signal.SIGINT)
    assert run.wait().expect(8).lines == ["up", "caught"]


def test_signals_stay_here_when_asked(podpy: Podpy, busybox: str) -> None:
    detached(podpy, busybox, "x", "trap 'exit 8' TERM; echo up; while :; do sleep 0.05; done")
    client = podpy.start("attach", "--sig-proxy=false", "x")
    eventually(lambda: client.running() and podpy("logs", "x").text == "up")
    time.sleep(0.3)
    client.signal(signal.SIGTERM)
    client.wait()
    assert podpy("ps", "-q").lines


def test_a_session_at_a_terminal(podpy: Podpy, busybox: str) -> None:
    """Type, resize, detach, come back, leave: and the terminal is as it was."""
    terminal = podpy.terminal(
        "run", "-it", "--name", "x", "--network", "none", busybox, "sh", rows=30, columns=90
    )
    before = terminal.settings()
    terminal.expect("# ")
    terminal.send("stty size\n")
    terminal.expect("30 90")
    terminal.resize(41, 101)
    terminal.send("sleep 0.2; stty size\n")
    terminal.expect("41 101")
    terminal.send("\x10\x11")
    assert terminal.wait() == 0
    assert terminal.settings() == before
    assert podpy("ps", "--format", "{{.Names}}").text == "x"

    back = podpy.terminal("attach", "x")
    back.send("\necho again $((40+2))\n")
    back.expect("again 42")
    back.send("exit 7\n")
    assert back.wait() == 7


def test_own_detach_keys(podpy: Podpy, busybox: str) -> None:
    detached(podpy, busybox, "x", "cat", "-it", "--detach-keys", "ctrl-x,z")
    terminal = podpy.terminal("attach", "x")
    terminal.send("\x10\x11text\n")
    terminal.expect("text")
    terminal.send("\x18z")
    assert terminal.wait() == 0
    terminal = podpy.terminal("attach", "--detach-keys", "q", "x")
    terminal.send("q")
    assert terminal.wait() == 0


def test_wrong_detach_keys_before_anything_runs(podpy: Podpy, busybox: str) -> None:
    done = podpy.fails("run", "-it", "--detach-keys", "ctrl-", "--network", "none", busybox)
    assert "detach keys" in done.stderr
    assert podpy.containers() == []


def test_two_terminals_see_the_same(podpy: Podpy, busybox: str) -> None:
    detached(podpy, busybox, "x", "sh", "-it")
    one, two = podpy.terminal("attach", "x"), podpy.terminal("attach", "x")
    time.sleep(0.3)
    one.send("echo both $((1+1))\n")
    one.expect("both 2")
    two.expect("both 2")
    two.send("exit\n")
    assert (one.wait(), two.wait()) == (0, 0)


def test_attach_after_the_runtime_directory_was_cleaned(podpy: Podpy, busybox: str) -> None:
    """The directory for sockets is a cache: what it held is made again when missed."""
    container = detached(podpy, busybox, "x", "sleep 1.5; echo alive; exit 2")
    run = podpy.runtime / container
    for path in run.iterdir():
        path.unlink()
    run.rmdir()
    assert podpy("attach", "x", code=2).text == "alive"


def test_a_killed_supervisor_does_not_hang_its_clients(podpy: Podpy, busybox: str) -> None:
    container = detached(podpy, busybox, "x", "sleep 1000")
    client = podpy.start("attach", "x")
    follower = podpy.start("logs", "-f", "x")
    time.sleep(0.5)
    state = json.loads((podpy.store / "containers" / container / "state.json").read_text())
    os.kill(state["supervisor"]["pid"], signal.SIGKILL)
    assert client.wait(20).code != 0
    follower.wait(20)
    assert podpy("ps", "-q").text == ""


def test_a_tree_of_subordinate_owners_is_deleted_without_anybody(
    podpy: Podpy, busybox: str
) -> None:
    """``--rm`` of a detached container: its supervisor deletes what only root inside could."""
    script = "mkdir -m 700 /x; echo 1 >/x/y; chown -R 42:42 /x; sleep 0.5"
    detached(podpy, busybox, "x", script, "--rm")
    eventually(lambda: podpy.containers() == [] and podpy.staging() == [])
