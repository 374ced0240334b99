"""Which cgroup is ours, read from what the kernel says of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from podpy.kernel import cgroup

HYBRID = "12:pids:/user.slice\n1:name=systemd:/user.slice/session-2.scope\n0::/user.slice\n"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("0::/\n", "/"),
        ("0::/user.slice/session-2.scope\n", "/user.slice/session-2.scope"),
        (HYBRID, "/user.slice"),
        ("0::/gone (deleted)\n", "/gone"),
        ("0::/../../other\n", ""),
        ("4:memory:/x\n", ""),
    ],
)  # fmt: skip
def test_our_own_cgroup(text: str, path: str) -> None:
    assert cgroup.own_path(text) == path


def test_events_are_read_as_keys_and_values(tmp_path: Path) -> None:
    (tmp_path / "memory.events").write_text("low 0\noom 3\noom_kill 2\n")
    assert cgroup.events(str(tmp_path), "memory.events")["oom"] == "3"
    assert cgroup.events(str(tmp_path / "none"), "memory.events") == {}


def test_a_missing_cgroup_is_empty_and_gone() -> None:
    assert cgroup.processes("/sys/fs/cgroup/no/such/group") == []
    cgroup.remove("/sys/fs/cgroup/no/such/group")
