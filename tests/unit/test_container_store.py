"""Names, records and states on disk: what a kill leaves is found and taken over."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from podpy import files
from podpy.errors import Ambiguous, Conflict, NotFound, StoreError, UsageError
from podpy.kernel import process
from podpy.model import (
    ContainerRecord,
    ContainerState,
    LogConfig,
    ProcessIdentity,
    Status,
    UserNamespace,
)
from podpy.netmodel import NetworkMode
from podpy.paths import Store
from podpy.records import to_dict
from podpy.storage import containers, nicknames, states


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(str(tmp_path / "store"), str(tmp_path / "run"))
    made.prepare()
    return made


def record(name: str = "", container_id: str = "", remove: bool = True) -> ContainerRecord:
    return ContainerRecord(
        id=container_id or containers.new_id(), name=name, created=1.0, argv=("x",), remove=remove,
        network=NetworkMode(kind="none"), user_namespace=UserNamespace(), log=LogConfig(),
    )  # fmt: skip


def make(store: Store, name: str = "", container_id: str = "") -> ContainerRecord:
    return containers.create(store, record(name, container_id), lambda path: None)


def dead() -> ProcessIdentity:
    """The identity of a process that has ended."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    who = process.identity(child.pid)
    child.communicate()
    return who


def reserve_for(store: Store, name: str, owner: ProcessIdentity | None, container_id: str) -> None:
    text = files.dumps({"id": container_id, "owner": to_dict(owner) if owner else None})
    Path(store.container_names, name).write_text(text)


def test_a_container_is_found_by_name_id_and_prefix(store: Store) -> None:
    made = make(store, "web", "ab" * 32)
    for text in ("web", "/web", made.id, made.id[:12], "a"):
        assert containers.resolve(store, text).record == made
    for text in ("we", "", "abc" * 30, "../web", "ffff"):
        with pytest.raises(NotFound, match="no such container"):
            containers.resolve(store, text)


def test_a_name_goes_before_an_id(store: Store) -> None:
    make(store, "x", "ab" * 32)
    named = make(store, "ab", "cd" * 32)
    assert containers.resolve(store, "ab").record == named


def test_an_ambiguous_prefix_lists_what_it_fits(store: Store) -> None:
    make(store, "one", "ab" * 32)
    make(store, "two", "ab" * 31 + "00")
    with pytest.raises(Ambiguous, match="abababababab, abababababab"):
        containers.resolve(store, "aba")


def test_two_of_one_name(store: Store) -> None:
    make(store, "web")
    with pytest.raises(Conflict, match='name "web" is already in use by'):
        make(store, "web")
    assert os.listdir(store.tmp) == []
    assert os.listdir(store.locks) == []


@pytest.mark.parametrize("name", ["-x", ".x", "a b", "a/b", "ä", "x\n", "_x", "a" * 201])
def test_wrong_names(store: Store, name: str) -> None:
    with pytest.raises(UsageError, match="container name"):
        make(store, name)


def test_a_random_name_is_drawn(store: Store) -> None:
    assert "_" in make(store).name
    assert nicknames.draw(6)[-1].isdigit()


def test_a_failure_leaves_nothing(store: Store) -> None:
    def fail(path: str) -> None:
        Path(path, "upper").mkdir()
        raise OSError(28, "No space left on device")

    with pytest.raises(Exception, match="No space left"):
        containers.create(store, record("web"), fail)
    assert os.listdir(store.tmp) == []
    assert os.listdir(store.container_names) == []
    make(store, "web")


def test_a_dead_owners_reservation_is_taken_over(store: Store) -> None:
    reserve_for(store, "web", dead(), "ab" * 32)
    made = make(store, "web")
    assert containers.resolve(store, "web").record == made


def test_a_living_owners_reservation_is_respected(store: Store) -> None:
    reserve_for(store, "web", process.identity(), "ab" * 32)
    with pytest.raises(Conflict):
        make(store, "web")


def test_a_reservation_of_another_boot_is_stale(store: Store) -> None:
    me = process.identity()
    reserve_for(
        store, "web", ProcessIdentity(boot_id="x" * 36, pid=me.pid, start=me.start), "a" * 64
    )
    make(store, "web")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"id": "x"}'])
def test_a_damaged_reservation_is_stale(store: Store, text: str) -> None:
    Path(store.container_names, "web").write_text(text)
    make(store, "web")


def test_removal_half_way_leaves_a_container_that_answers_to_its_name(store: Store) -> None:
    made = make(store, "web")
    containers.release(store, "web", made.id)
    assert containers.resolve(store, "web").record == made
    containers.remove(store, made)
    assert list(containers.every(store)) == []


def test_removal_does_not_take_a_name_that_is_anothers_by_now(store: Store) -> None:
    old = make(store, "web")
    containers.release(store, "web", old.id)
    new = make(store, "web")
    containers.remove(store, old)
    assert containers.resolve(store, "web").record == new


def test_rename(store: Store) -> None:
    made = make(store, "old")
    make(store, "taken")
    with pytest.raises(Conflict):
        containers.rename(store, containers.resolve(store, "old"), "taken")
    containers.rename(store, containers.resolve(store, "old"), "new")
    assert containers.resolve(store, "new").record.id == made.id
    with pytest.raises(NotFound):
        containers.resolve(store, "old")
    make(store, "old")


def test_a_rename_that_was_killed_frees_the_other_name(store: Store) -> None:
    """Killed after the record was written: the old name's reservation is stale."""
    made = make(store, "new")
    reserve_for(store, "old", dead(), made.id)
    make(store, "old")


def test_sweep_removes_what_dead_processes_left(store: Store) -> None:
    make(store, "web")
    reserve_for(store, "gone", dead(), "ab" * 32)
    who = dead()
    Path(store.tmp, f"container.{who.pid}.{who.start}.{who.boot_id[:8]}.abc").mkdir()
    Path(store.networks).mkdir()
    Path(store.networks, f".net.json.{who.pid}.0011aabb.tmp").touch()
    containers.sweep(store)
    assert os.listdir(store.container_names) == ["web"]
    assert os.listdir(store.tmp) == []
    assert os.listdir(store.networks) == []


def test_a_damaged_record_is_listed_and_can_be_removed(store: Store) -> None:
    made = make(store, "web")
    Path(store.container(made.id), "container.json").write_text("{")
    (shown,) = containers.every(store)
    assert shown.record.id == made.id
    assert "container.json" in shown.problem
    for name in ("web", made.id, made.id[:12]):
        with pytest.raises(StoreError, match=r"container\.json"):
            containers.resolve(store, name)
        assert containers.resolve_any(store, name) == shown
    containers.sweep(store)
    assert os.listdir(store.container_names) == ["web"], "the name is held all the same"
    containers.remove(store, shown.record)
    assert list(containers.every(store)) == []


def test_a_record_of_a_newer_version_is_an_error(store: Store) -> None:
    made = make(store, "web")
    path = Path(store.container(made.id), "container.json")
    path.write_text(path.read_text().replace('"version":1', '"version":99'))
    with pytest.raises(StoreError, match="newer podpy"):
        containers.read(store, made.id)


# --- the state that is true ----------------------------------------------------------


def state(status: Status, init: ProcessIdentity, supervisor: ProcessIdentity) -> ContainerState:
    written = ContainerState(status=status, init=init, supervisor=supervisor, started=5.0)
    return states.verified(written)


def test_states_are_checked_against_processes() -> None:
    me, gone = process.identity(), dead()
    assert state(Status.RUNNING, me, me).status == "running"
    assert state(Status.RUNNING, me, gone).status == "stopping"
    assert state(Status.RUNNING, gone, me).status == "stopping"
    ended = state(Status.RUNNING, gone, gone)
    assert (ended.status, ended.exit_code, ended.finished) == ("exited", 137, 5.0)
    assert "supervisor was killed" in ended.error


def test_a_state_of_another_boot_is_an_end() -> None:
    me = process.identity()
    before = ProcessIdentity(boot_id="x" * 36, pid=me.pid, start=me.start)
    ended = state(Status.RUNNING, before, before)
    assert ended.status == "exited"
    assert "restarted" in ended.error


def test_a_pid_that_is_anothers_by_now_is_dead() -> None:
    me = process.identity()
    other = ProcessIdentity(boot_id=me.boot_id, pid=me.pid, start=me.start - 1)
    assert state(Status.RUNNING, other, other).status == "exited"


def test_without_a_state_file_it_is_created(store: Store) -> None:
    assert containers.read(store, make(store).id).status == "created"
