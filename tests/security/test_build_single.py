"""Payloads that attack the process which records owners for them (field-notes: no-subid builds).

It reads their memory and their paths while they go on, and holds more
capabilities than some of them: what it writes must stay inside their root, and
nothing that they do may end it or have it answer for somebody else.
"""

from __future__ import annotations

import ctypes
import os
import signal
import stat
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from podpy.build.sight import View
from podpy.errors import LaunchError
from podpy.kernel import process, userns
from podpy.storage import single
from support.recorded import Recorded, syscall

ROUNDS = 3000


@pytest.fixture
def recorded(directory: Path) -> Recorded:
    root = directory / "root"
    root.mkdir()
    return Recorded(root, directory / "owners")


@pytest.fixture
def secret(directory: Path) -> Path:
    path = directory / "secret"
    path.write_text("the host's")
    return path


def untouched(path: Path) -> bool:
    return single.recorded(str(path)) is None and not os.listxattr(path)


@pytest.mark.parametrize("upwards", [False, True])
def test_a_path_that_changes_while_it_is_resolved_stays_inside(
    recorded: Recorded, secret: Path, upwards: bool
) -> None:
    target = f"{'../' * 30}{str(secret)[1:]}" if upwards else str(secret)

    def payload() -> Any:
        os.mkdir("real")
        open("real/secret", "w").close()
        os.symlink(os.path.dirname(target) or "/", "away")
        os.symlink("real", "path")
        ended = threading.Event()

        def flip() -> None:
            while not ended.is_set():
                for goal in ("away", "real"):
                    os.symlink(goal, "new")
                    os.rename("new", "path")

        thread = threading.Thread(target=flip)
        thread.start()
        done = 0
        for _ in range(ROUNDS):
            try:
                os.chown("path/secret", 5, 5)
                done += 1
            except OSError:
                pass
        ended.set()
        thread.join()
        return done

    assert recorded(payload, timeout=120) > 0
    assert untouched(secret)
    assert untouched(secret.parent)


def test_a_path_that_is_rewritten_in_memory(recorded: Recorded) -> None:
    """Only names that were there at some moment are touched."""

    def payload() -> Any:
        for name in ("aaaa", "bbbb", "aabb", "bbaa"):
            open(name, "w").close()
        buffer = ctypes.create_string_buffer(b"aaaa")
        ended = threading.Event()

        def flip() -> None:
            while not ended.is_set():
                buffer.value = b"bbbb"
                buffer.value = b"aaaa"

        thread = threading.Thread(target=flip)
        thread.start()
        results = {syscall("fchownat", -100, buffer, 5, 5, 0) for _ in range(ROUNDS)}  # type: ignore[arg-type]
        ended.set()
        thread.join()
        return sorted(results)

    assert set(recorded(payload, timeout=120)) <= {0, -2}


@pytest.mark.parametrize(
    "address", [0, 1, 0x1000, 1 << 46, (1 << 47) - 1, 1 << 63, (1 << 64) - 1, -4096]
)
def test_addresses_that_are_none(recorded: Recorded, address: int) -> None:
    def payload() -> Any:
        pointer = ctypes.c_long(address).value
        results = [
            syscall("fchownat", -100, pointer, 5, 5, 0),
            syscall("mknodat", -100, pointer, stat.S_IFCHR | 0o600, 0x103),
            syscall("newfstatat", -100, b"/", pointer, 0),
        ]
        os.chown("/", 5, 5)  # now the recorder is to write the answer
        return [*results, syscall("newfstatat", -100, b"/", pointer, 0)]

    efault = -14
    assert recorded(payload) == [efault] * 4
    assert recorded.owner(".") == (5, 5)


def test_a_path_without_an_end(recorded: Recorded) -> None:
    def payload() -> Any:
        endless = ctypes.create_string_buffer(b"x" * 70000)
        return syscall("fchownat", -100, endless, 5, 5, 0)  # type: ignore[arg-type]

    assert recorded(payload) == -36


def test_descriptors_that_are_none(recorded: Recorded) -> None:
    def payload() -> Any:
        return [syscall("fchown", fd, 5, 5) for fd in (-1, 99, 1 << 30, -(1 << 31), 0xFFFFFFFF)]

    assert recorded(payload) == [-9] * 5


def test_callers_that_are_killed_while_they_wait(recorded: Recorded) -> None:
    """Their process ids are used again at once; nobody answers for them."""

    def payload() -> Any:
        open("theirs", "w").close()
        open("ours", "w").close()
        for _ in range(150):
            child = os.fork()
            if not child:
                while True:
                    os.chown("theirs", 5, 5)
            time.sleep(0.001)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        os.chown("ours", 7, 7)
        return os.stat("ours").st_uid

    assert recorded(payload, timeout=120) == 7
    assert recorded.owner("theirs") in (None, (5, 5))
    assert recorded.owner("ours") == (7, 7)


def test_signals_do_not_make_a_device_twice(recorded: Recorded) -> None:
    def payload() -> Any:
        signal.signal(signal.SIGALRM, lambda *_: None)
        signal.siginterrupt(signal.SIGALRM, False)  # SA_RESTART: before it is received
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        return sorted(
            {syscall("mknodat", -100, f"n{n}".encode(), 0o020600, 0x103) for n in range(1000)}
        )

    assert recorded(payload, timeout=120) == [0]


def test_a_device_is_never_made_through_a_link(recorded: Recorded, secret: Path) -> None:
    outside = str(secret.parent / "made")

    def payload() -> Any:
        os.symlink(outside, "l")
        os.symlink(os.path.dirname(outside), "up")
        results = [syscall("mknodat", -100, name, 0o020600, 0x103) for name in (b"l", b"up/made")]
        return results

    assert recorded(payload) == [-17, -2]
    assert not os.path.lexists(outside)


def test_no_module_is_ever_imported_from_the_payloads_files(directory: Path) -> None:
    """The recorder's root directory is the payload's."""
    root = directory / "root"
    for path in [*filter(os.path.isabs, sys.path), "/planted"]:
        place = root / path[1:]
        place.mkdir(parents=True, exist_ok=True)
        (place / "podpy_planted.py").write_text("raise SystemExit(66)\n")

    def child() -> int:
        View(os.open(root, os.O_PATH | os.O_DIRECTORY))
        sys.path.append("/planted")
        try:
            __import__("podpy_planted")
        except ModuleNotFoundError:
            return 0
        return 1

    assert process.wait(userns.fork_mapped(child, userns.own_map())) == 0


def test_records_that_are_nonsense(recorded: Recorded) -> None:
    def payload() -> Any:
        open("f", "w").close()
        found = []
        for value in (b"", b":", b"x:y", b"-1:2", b"1:2:c", b"1:2:c:9:x", b"9" * 60, b"\xff:1",
                      b"4294967295:0", b"1:2:z:1:2", "²:1".encode()):  # fmt: skip
            os.setxattr("f", single.OWNER, value)
            found.append(os.stat("f").st_uid)
        os.chown("f", 5, 6)
        return found, os.stat("f").st_gid

    assert recorded(payload) == ([0] * 11, 6)


def test_a_step_whose_recorder_is_killed_fails(recorded: Recorded) -> None:
    """Owners that nobody wrote down must not go into an image as root's."""

    def payload() -> Any:
        open("f", "w").close()
        while (result := syscall("fchownat", -100, b"f", 5, 5, 0)) == 0:
            pass
        return result

    def kill() -> None:
        while not recorded.recorder_pid:
            time.sleep(0.01)
        time.sleep(0.1)
        os.kill(recorded.recorder_pid, signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
    with pytest.raises(LaunchError, match="records owners has died"):
        recorded(payload)


def test_the_recorder_cannot_be_looked_into(recorded: Recorded) -> None:
    """The payload's root is in its user namespace, and here sees its processes as well."""
    (recorded.root / "proc").mkdir()
    told = recorded.root / "recorder"

    def payload() -> Any:
        while not os.path.islink("recorder"):
            time.sleep(0.01)
        place = f"proc/{os.readlink('recorder')}"
        reached = []
        for name in ("mem", "environ", "root", "cwd", "fd", "ns/user", "maps"):
            try:
                os.close(os.open(f"{place}/{name}", os.O_RDONLY))
                reached.append(name)
            except PermissionError:
                pass
        return os.path.isdir(place), reached

    def tell() -> None:
        while not recorded.recorder_pid:
            time.sleep(0.01)
        told.symlink_to(str(recorded.recorder_pid))

    recorded.shows_proc = True
    threading.Thread(target=tell, daemon=True).start()
    assert recorded(payload) == (True, [])
