"""Two commands at once on one container."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from pathlib import Path

from support.podpy import Podpy
from support.polling import eventually

NONE = ("--network", "none")


def is_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_cleaning_up_waits_for_a_start_that_is_under_way(podpy: Podpy, busybox: str) -> None:
    """Acting for a killed supervisor kills what is in the cgroup: not while another starts it."""
    made = podpy.run_detached(*NONE, busybox, "sleep", "1000")
    (shown,) = podpy("inspect", made).json()
    pid, supervisor = shown["State"]["Pid"], shown["State"]["ConmonPid"]
    os.kill(supervisor, signal.SIGKILL)
    with open(podpy.store / "containers" / made / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stopping = podpy.start("stop", "-t", "0", made)
        eventually(lambda: is_ended(pid))
        time.sleep(0.5)
        assert stopping.running()
        fcntl.flock(lock, fcntl.LOCK_UN)
    stopping.wait()
