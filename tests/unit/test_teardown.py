"""The steps after a container's end, each on its own."""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path

import pytest

from podpy.kernel import process
from podpy.runtime import teardown


@pytest.mark.parametrize(
    "value",
    [
        None, True, False, 0, -1, 1.5, 1795268854.3712804, "", "plain", 'q"b\\n\nx\x00\x1f',
        "ümläut 🐳", "\udc80", [], [1, "a", None], {"a": {"b": [True]}}, {"k": ()},
    ],
)  # fmt: skip
def test_json(value: object) -> None:
    assert json.loads(teardown.to_json(value)) == json.loads(json.dumps(value))


def test_state_is_replaced_in_one_step(tmp_path: Path) -> None:
    teardown.write_state(str(tmp_path), {"status": "running"})
    teardown.write_state(str(tmp_path), {"status": "exited", "error": 'a "b"'})
    assert json.loads((tmp_path / "state.json").read_text())["error"] == 'a "b"'
    assert os.listdir(tmp_path) == ["state.json"]
    assert (tmp_path / "state.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 41", 41), ("kill -15 $$", 143)])
def test_exit_codes(script: str, code: int) -> None:
    pid = process.spawn(["/bin/sh", "-c", script])
    status = os.waitid(os.P_PID, pid, os.WEXITED)
    assert status is not None
    assert teardown.exit_code(status) == code


@pytest.mark.parametrize(
    ("events", "killed"),
    [
        ("low 0\nhigh 0\nmax 4\noom 1\noom_kill 1\noom_group_kill 0\n", True),
        ("low 0\nmax 9\noom 0\noom_kill 0\n", False),
        ("", False),
    ],
)
def test_out_of_memory(tmp_path: Path, events: str, killed: bool) -> None:
    (tmp_path / "memory.events").write_text(events)
    assert teardown.oom_killed(str(tmp_path)) is killed
    assert teardown.oom_killed(str(tmp_path / "none")) is False
    assert teardown.oom_killed("") is False


def test_missing_things_are_no_error(tmp_path: Path) -> None:
    teardown.remove_cgroup(str(tmp_path / "none"))
    teardown.remove_cgroup("")
    teardown.remove_run_directory(str(tmp_path / "none"))
    teardown.signal_helpers([])
    teardown.await_helpers([])


def task(base: Path, **more: object) -> dict[str, object]:
    for name in ("tmp", "ctr", "volume"):
        (base / name).mkdir()
    owner = {"pid": 7, "start": 11, "boot_id": "12345678-90"}
    return {
        "id": "ab" * 32, "directory": str(base / "ctr"), "tmp": str(base / "tmp"),
        "discard": [str(base / "volume"), str(base / "none")], "state": {"supervisor": owner},
        "release": [str(base / "name")], **more,
    }  # fmt: skip


def test_retiring_moves_trees_under_the_owners_name(tmp_path: Path) -> None:
    (tmp_path / "name").write_text(json.dumps({"id": "ab" * 32}))
    trees = teardown.retire(task(tmp_path))
    assert sorted(os.listdir(tmp_path)) == ["tmp"]
    assert sorted(trees) == sorted(str(path) for path in (tmp_path / "tmp").iterdir())
    assert all(os.path.basename(tree).startswith("trash.7.11.12345678.") for tree in trees)


def test_a_name_that_somebody_else_has_by_now_stays(tmp_path: Path) -> None:
    (tmp_path / "name").write_text(json.dumps({"id": "cd" * 32}))
    teardown.retire(task(tmp_path))
    assert (tmp_path / "name").exists()


def test_a_state_larger_than_the_room_left_replaces_nothing(tmp_path: Path) -> None:
    """write(2) on a disk that is nearly full takes a part and says no error."""
    teardown.write_state(str(tmp_path), {"status": "running"})

    def limited() -> int:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        try:
            teardown.write_state(str(tmp_path), {"ports": ["x" * 100] * 100})
        except OSError:
            return 0
        return 1

    assert process.wait(process.fork_child(limited)) == 0
    assert json.loads((tmp_path / "state.json").read_text()) == {"status": "running"}
    assert os.listdir(tmp_path) == ["state.json"]
