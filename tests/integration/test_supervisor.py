"""The supervisor alone, with plain programs as payload: traffic, clients, the end."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from podpy.errors import StateError
from podpy.kernel import process
from podpy.runtime import attach, frames, lean
from support.polling import eventually
from support.supervised import Supervised, receive

Start = Callable[..., Supervised]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Supervised] = []

    def make(script: str, **options: Any) -> Supervised:
        base = tmp_path / str(len(started))
        started.append(Supervised(base, ["sh", "-c", script], **options))
        return started[-1]

    yield make
    for each in started:
        each.close()


def log_text(box: Supervised, driver: str = "k8s-file") -> bytes:
    from podpy.runtime.logreader import LogFile

    return b"".join(text for _, _, text in LogFile(str(box.log), driver).runs())


# --- output and the end ------------------------------------------------------


def test_streams_code_and_state(start: Start) -> None:
    box = start("echo out; echo err >&2; printf tail; exit 3")
    assert receive(box.client) == {"1": b"out\ntail", "2": b"err\n", "x": b"3"}
    assert box.wait() == 0
    assert (box.state["status"], box.state["exit_code"]) == ("exited", 3)
    assert time.time() - 60 < box.state["finished"] < time.time()
    assert not box.run.exists()


def test_death_by_signal(start: Start) -> None:
    box = start("kill -9 $$")
    assert receive(box.client)["x"] == b"137"


def test_detached_payload_without_any_client(start: Start) -> None:
    box = start("sleep 0.2; echo done", foreground=False)
    assert box.wait() == 0
    assert log_text(box) == b"done\n"


def test_orphans_are_reaped(start: Start) -> None:
    box = start("for i in 1 2 3; do (true &); done; sleep 0.3; exit 0")
    receive(box.client)
    children = Path(f"/proc/{box.pid}/task/{box.pid}/children")
    assert box.wait() == 0
    assert not children.exists()


def test_a_process_elsewhere_that_holds_the_output_is_not_waited_for(start: Start) -> None:
    box = start("sleep 30 & echo $!; exit 0")
    words = receive(box.client, timeout=5)
    assert words["x"] == b"0"
    os.kill(int(words["1"]), signal.SIGKILL)
    box.wait()


def test_hundred_megabytes_arrive_whole(start: Start) -> None:
    script = "yes 'a line of output as containers have it' | head -c 100000000"
    expected = hashlib.md5(
        subprocess.run(["sh", "-c", script], stdout=subprocess.PIPE, check=True).stdout
    ).digest()
    box = start(script)
    output, code = forwarded(box.client)
    assert (hashlib.md5(output).digest(), code) == (expected, 0)
    box.wait()
    assert hashlib.md5(log_text(box)).digest() == expected


# --- slow clients ------------------------------------------------------------

LOUD = "seq 1 2000000; exit 7"  # 15 MB
LOUD_TEXT = "".join(f"{n}\n" for n in range(1, 2000001)).encode()


def test_a_client_that_stops_reading_stops_nobody(start: Start) -> None:
    """The container runs to its end and is logged; the client then gets every byte."""
    box = start(LOUD)
    eventually(lambda: box.state["status"] == "exited", timeout=20)
    assert log_text(box) == LOUD_TEXT
    assert forwarded(box.client) == (LOUD_TEXT, 7)


def test_it_gets_every_byte_of_a_removed_container(start: Start) -> None:
    box = start(LOUD, remove=True)
    eventually(lambda: not box.directory.exists(), timeout=20)
    assert forwarded(box.client) == (LOUD_TEXT, 7)


def forwarded(fd: int) -> tuple[bytes, int | None]:
    """What ``attach.client`` writes to descriptor 1, and the exit code it returns."""
    reader, writer = os.pipe()
    saved = os.dup(1)
    child = process.fork_child(lambda: _copy(reader, writer))
    os.close(reader)
    os.dup2(writer, 1)
    os.close(writer)
    try:
        result = attach.client(fd, tty=False, stdin=False)
    finally:
        os.dup2(saved, 1)
        os.close(saved)
    process.wait(child)
    path = Path(f"/tmp/podpy-copy.{child}")
    data = path.read_bytes()
    path.unlink()
    return data, result.exit_code


def _copy(reader: int, writer: int) -> int:
    os.close(writer)
    with open(f"/tmp/podpy-copy.{os.getpid()}", "wb") as copy:
        while data := os.read(reader, 1 << 20):
            copy.write(data)
    return 0


def test_without_a_complete_log_the_foreground_client_is_a_brake(start: Start) -> None:
    box = start(LOUD, driver="none")
    time.sleep(1)
    assert box.state["status"] == "running"
    assert receive(box.client, 20) == {"1": LOUD_TEXT, "x": b"7"}


def test_and_any_other_client_is_sent_away(start: Start) -> None:
    box = start("sleep 0.5; " + LOUD, driver="json-file", foreground=False)
    fd = box.connect("oe")
    eventually(lambda: box.state["status"] == "exited", timeout=20)
    words = receive_until_end(fd)
    assert b"too slow" in words["!"]
    assert LOUD_TEXT.startswith(words["1"])
    assert len(words["1"]) < len(LOUD_TEXT)
    assert log_text(box, "json-file") == LOUD_TEXT


def receive_until_end(fd: int) -> dict[str, bytes]:
    words: dict[str, bytes] = {}
    while frame := os.read(fd, frames.CHUNK + 1):
        word = frame[:1].decode()
        words[word] = words.get(word, b"") + frame[1:]
    os.close(fd)
    return words


def test_several_clients_see_the_same(start: Start) -> None:
    box = start("sleep 0.5; echo all; echo err >&2; exit 2", foreground=False)
    both = [box.connect("oe") for _ in range(3)]
    only_errors = box.connect("e")
    waiter = box.connect("")
    for fd in both:
        assert receive(fd) == {"1": b"all\n", "2": b"err\n", "x": b"2"}
    assert receive(only_errors) == {"2": b"err\n", "x": b"2"}
    assert receive(waiter) == {"x": b"2"}
    for fd in (*both, only_errors, waiter):
        os.close(fd)


# --- input -------------------------------------------------------------------


def test_input_and_its_end(start: Start) -> None:
    box = start("cat; echo end", stdin=True)
    os.write(box.client, frames.STDIN + b"typed\n")
    os.write(box.client, frames.STDIN)
    assert receive(box.client) == {"1": b"typed\nend\n", "x": b"0"}


def test_input_ends_with_the_foreground_client(start: Start) -> None:
    box = start("cat; echo end", stdin=True)
    os.close(box.client)
    box.client = -1
    box.wait()
    assert log_text(box) == b"end\n"


def test_a_detached_container_keeps_its_input_open(start: Start) -> None:
    box = start("read a; echo $a; read b; echo $b", stdin=True, foreground=False)
    for text in (b"one\n", b"two\n"):
        fd = box.connect("ioe")
        os.write(fd, frames.STDIN + text)
        os.write(fd, frames.STDIN)
        assert os.read(fd, 100) == frames.STDOUT + text
        os.close(fd)
    box.wait()


def test_a_client_without_input_types_nothing(start: Start) -> None:
    box = start("read a; echo got $a", stdin=True, foreground=False)
    fd, other = box.connect("oe"), box.connect("i")
    os.write(fd, frames.STDIN + b"unwanted\n")
    time.sleep(0.1)
    os.write(other, frames.STDIN + b"wanted\n")
    assert receive(fd)["1"] == b"got wanted\n"
    os.close(fd)
    os.close(other)


def test_much_input_to_a_slow_reader(start: Start) -> None:
    """Input waits in the client, neither lost nor gathered in the supervisor."""
    box = start("sleep 0.5; md5sum", stdin=True)
    data = os.urandom(1 << 20) * 8

    def feed() -> int:
        for at in range(0, len(data), 65536):
            os.write(box.client, frames.STDIN + data[at : at + 65536])
        os.write(box.client, frames.STDIN)
        return 0

    feeder = process.fork_child(feed)
    assert receive(box.client)["1"].split()[0].decode() == hashlib.md5(data).hexdigest()
    assert process.wait(feeder) == 0


def test_a_payload_that_closes_its_input(start: Start) -> None:
    box = start("exec <&-; sleep 0.3; echo alive", stdin=True)
    os.write(box.client, frames.STDIN + b"nobody reads this\n")
    assert receive(box.client) == {"1": b"alive\n", "x": b"0"}


def test_signals_through_the_supervisor(start: Start) -> None:
    box = start("trap 'echo term; exit 9' TERM; while :; do sleep 0.05; done")
    time.sleep(0.2)
    os.write(box.client, frames.SIGNAL + b"15")
    assert receive(box.client) == {"1": b"term\n", "x": b"9"}


@pytest.mark.parametrize(
    "garbage",
    [b"k99999999999", b"k-1", b"k999", b"kx", b"w", b"w1", b"w99999999 99999999", b"w-1 5",
     b"k" + b"9" * 5000, b"w" + b"9" * 5000, b"zzz", b"\x00", b"x5", b"h\xff", b"i" * 65537],
)  # fmt: skip
def test_garbage_from_a_client_harms_nobody(start: Start, garbage: bytes) -> None:
    box = start("sleep 0.3; echo alive", tty=True, stdin=True, foreground=False)
    good, bad = box.connect("oe"), box.connect("oe")
    os.write(bad, garbage)
    assert b"alive" in receive(good)["1"]
    os.close(good)
    os.close(bad)


def test_window_size_of_a_terminal(start: Start) -> None:
    box = start("sleep 0.3; stty size; tty >/dev/null && echo terminal", tty=True, stdin=True)
    os.write(box.client, frames.SIZE + b"40 100")
    assert receive(box.client)["1"] == b"40 100\r\nterminal\r\n"


def test_a_terminal_closed_for_a_moment_is_not_the_end(start: Start) -> None:
    script = "t=$(tty); exec </dev/null >/dev/null 2>&1; sleep 0.3; echo back >$t"
    box = start(script, tty=True)
    assert receive(box.client)["1"] == b"back\r\n"


# --- the supervisor itself ---------------------------------------------------


def test_it_slims_and_carries_everything_over(start: Start) -> None:
    """Clients, input and the end of input survive the re-execution."""
    box = start("echo before; read a; echo $a; exit 5", stdin=True)
    eventually(lambda: "podpy supervisor of web" in box.title(), timeout=5)
    other = box.connect("oe")
    os.write(box.client, frames.STDIN + b"after\n")
    assert receive(box.client) == {"1": b"before\nafter\n", "x": b"5"}
    assert receive(other) == {"1": b"after\n", "x": b"5"}
    assert box.wait() == 0
    os.close(other)


def memory(pid: int | str) -> dict[str, int]:
    """Resident and private memory in KiB."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return {line.split(":")[0]: int(line.split()[1]) for line in rollup.splitlines()[1:]}


def test_it_is_small(start: Start) -> None:
    """3 MB private and 8.5 MB resident, or 0.6 MB above a larger interpreter's own need."""
    bare = subprocess.Popen(
        [sys.executable, "-IS", "-c", "import posix, select, _socket, time; time.sleep(20)"],
        env={"LC_ALL": "POSIX"},
    )
    box = start("exec sleep 20", foreground=False)
    eventually(lambda: "podpy supervisor of web" in box.title(), timeout=5)
    time.sleep(0.3)
    ours, least = memory(box.pid), memory(bare.pid)
    bare.kill()
    bare.wait()
    assert ours["Private_Dirty"] <= 3 * 1024
    assert ours["Rss"] <= max(8.5 * 1024, least["Rss"] + 600)


def test_it_keeps_nothing_of_the_callers(start: Start, tmp_path: Path) -> None:
    leak = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(leak, True)
    box = start("exec sleep 20", foreground=False)
    eventually(lambda: "podpy supervisor of web" in box.title(), timeout=5)
    held = [os.readlink(entry.path) for entry in os.scandir(f"/proc/{box.pid}/fd")]
    assert str(tmp_path) not in held
    assert os.readlink(f"/proc/{box.pid}/cwd") == "/"
    assert sorted(fd for fd in held if fd == "/dev/null") == ["/dev/null"] * 3
    os.close(leak)


def test_a_cleaned_runtime_directory_is_made_again(start: Start) -> None:
    box = start("sleep 0.8; echo alive", foreground=False)
    eventually(lambda: "podpy supervisor of web" in box.title(), timeout=5)
    shutil.rmtree(box.run)
    fd = box.connect("oe")
    assert receive(fd)["1"] == b"alive\n"
    os.close(fd)


def test_nobody_answers_for_a_dead_supervisor(start: Start) -> None:
    box = start("sleep 0.5", foreground=False)
    assert box.state["status"] == "running"
    os.kill(box.pid, signal.SIGKILL)
    box.wait()
    with pytest.raises(StateError, match="no supervisor answers"):
        box.connect("oe")


def test_sigterm_stops_the_payload_and_kills_what_does_not(start: Start) -> None:
    box = start("trap '' TERM; echo up; while :; do sleep 0.05; done", stop_timeout=1)
    assert os.read(box.client, 100) == b"1up\n"
    os.kill(box.pid, signal.SIGTERM)
    assert receive(box.client)["x"] == b"137"


def test_a_time_limit_kills(start: Start) -> None:
    box = start("exec sleep 20", timeout=1)
    assert receive(box.client)["x"] == b"137"


def test_removal_by_a_lean_supervisor(start: Start, tmp_path: Path) -> None:
    """Name, directory and anonymous volumes go, and nobody else is there to do it."""
    name = tmp_path / "name"
    volume = tmp_path / "volume"
    (volume / "_data").mkdir(parents=True)
    name.write_text('{"id":"%s"}' % ("ab" * 32))
    box = start(
        "sleep 0.3", foreground=False, remove=True, release=[str(name)], discard=[str(volume)]
    )
    (box.directory / "upper").mkdir()
    (box.directory / "upper" / "file").write_text("x")
    assert box.wait() == 0
    assert not box.directory.exists()
    assert not name.exists()
    assert not volume.exists()
    assert os.listdir(box.base / "tmp") == []


def test_an_answer_does_not_wait_for_helpers(start: Start, tmp_path: Path) -> None:
    """A helper that takes its time keeps nobody waiting, and is not left behind."""
    helper = process.fork_child(_stubborn)
    box = start("exit 0", helpers=[helper])
    before = time.monotonic()
    assert receive(box.client)["x"] == b"0"
    assert time.monotonic() - before < 1.5
    assert box.wait() == 0
    assert process.wait(helper) == 137


def _stubborn() -> int:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60)
    return 0


def test_a_full_disk_does_not_stop_the_container(start: Start) -> None:
    box = start("echo hello; exit 6", log={"path": "/proc/none"})
    assert receive(box.client) == {"1": b"hello\n", "x": b"6"}
    box.wait()
    assert "log k8s-file" in box.state["error"]


def test_the_code_for_deleting_trees_is_bundled_whole() -> None:
    """A lean supervisor reads no file of podpy's: what the sweep imports must be on board."""
    script = (
        "import sys; import podpy.storage.staging, podpy.kernel.userns;"
        "print(*(n for n in sys.modules if n.startswith('podpy.')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    bundled = {f"podpy.{name}" for name in lean._SWEEP} | set(lean._PACKAGES)
    assert set(done.stdout.split()) <= bundled


def test_a_lean_supervisor_imports_built_in_modules_only(start: Start) -> None:
    """Each library that is mapped costs memory in every container's supervisor."""
    box = start("exec sleep 20", foreground=False)
    eventually(lambda: "podpy supervisor of web" in box.title(), timeout=5)
    time.sleep(0.2)
    maps = Path(f"/proc/{box.pid}/maps").read_text()
    assert "lib-dynload" not in maps
    assert "podpy/" not in maps
