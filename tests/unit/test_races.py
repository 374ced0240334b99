"""What another process may do between two system calls of ours."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from podpy.kernel import libc, mounts, process
from podpy.net.helper import Helper


def test_a_path_upwards_is_opened_whatever_others_rename(tmp_path: Path) -> None:
    """openat2 answers EAGAIN for ``..`` while anything on the host is renamed or mounted."""
    (tmp_path / "run").mkdir()
    (tmp_path / "etc").mkdir()
    (tmp_path / "run" / "file").touch()
    (tmp_path / "etc" / "link").symlink_to("../run/file")

    def rename() -> int:
        first, second = tmp_path / "first", tmp_path / "second"
        first.touch()
        while True:
            os.rename(first, second)
            os.rename(second, first)

    renamer = process.fork_child(rename)
    root = os.open(tmp_path, libc.O_PATH | os.O_DIRECTORY)
    try:
        for _ in range(20_000):
            os.close(mounts.open_in_root(root, "/etc/link", os.O_RDONLY))
    finally:
        os.kill(renamer, signal.SIGKILL)
        os.waitpid(renamer, 0)
        os.close(root)


def test_a_helper_is_not_killed_by_a_pid_that_is_free_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    helper = Helper("helper", process.spawn(["/bin/sleep", "1000"]), ready_fd=-1, log_fd=-1)
    helper.stop()
    killed: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append(pid))
    helper.stop()
    assert killed == []
