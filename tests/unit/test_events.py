"""The event log: two writers of one form, readers that miss nothing, filters."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from podpy.engine import events as engine
from podpy.engine.context import Context
from podpy.errors import UsageError
from podpy.model import ContainerRecord, LogConfig, UserNamespace
from podpy.netmodel import NetworkMode
from podpy.paths import Store
from podpy.runtime import diary
from podpy.settings import Config
from podpy.storage import events
from podpy.storage.events import Event


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(str(tmp_path / "store"), str(tmp_path / "run"))
    made.prepare()
    return made


def record(**more: Any) -> ContainerRecord:
    return ContainerRecord(
        id="c" * 64, name="web", created=1.0, argv=("x",), image_name="localhost/app:1",
        network=NetworkMode(kind="none"), user_namespace=UserNamespace(), log=LogConfig(), **more,
    )  # fmt: skip


def read(store: Store, *filters: str, **options: Any) -> list[Event]:
    found = engine.stream(Context(store, Config()), filters=filters, follow=False, **options)
    return list(found)


def actions(found: list[Event]) -> list[str]:
    return [event.action for event in found]


def test_command_and_supervisor_write_the_same_form(store: Store) -> None:
    made = record(labels={"tier": 'a"b\nc', "name": "no"})
    task = {"id": made.id, "events": events.for_supervisor(store, made)}
    events.container(store, made, "create")
    diary.write(task, "die", exitCode="7")
    created, died = read(store)
    assert created.attributes == {"tier": 'a"b\nc', "name": "web", "image": "localhost/app:1"}
    assert died.attributes == {**created.attributes, "exitCode": "7"}
    assert (died.type, died.action, died.id) == ("container", "die", made.id)
    assert created.time < died.time
    assert os.stat(store.events).st_mode & 0o777 == 0o600


def test_a_log_that_cannot_be_written_is_no_error(store: Store, tmp_path: Path) -> None:
    made = record()
    task = {"id": made.id, "events": events.for_supervisor(store, made)}
    os.symlink(tmp_path / "elsewhere", store.events)
    events.container(store, made, "create")
    diary.write(task, "start")
    diary.write({"id": made.id}, "start")
    assert not (tmp_path / "elsewhere").exists(), "what lies there is not followed"


def test_both_writers_turn_the_log_over(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_LIMIT", 400)
    made = record()
    task = {"id": made.id, "events": events.for_supervisor(store, made)}
    for number in range(40):
        if number % 2:
            diary.write(task, "start", number=str(number))
        else:
            events.container(store, made, "create", number=str(number))
    sizes = [os.stat(path).st_size for path in (f"{store.events}.1", store.events) if _is(path)]
    assert all(size < 1000 for size in sizes)
    numbers = [int(event.attributes["number"]) for event in read(store)]
    assert numbers == list(range(40 - len(numbers), 40)) and numbers


def _is(path: str) -> bool:
    return os.path.exists(path)


def test_a_reader_follows_the_log_when_it_is_turned_over(store: Store) -> None:
    reader = events.Reader(store, past=False)
    late = os.open(store.events, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    events.write(store, "network", "create", "1")
    assert actions(list(reader.read())) == ["create"]
    os.rename(store.events, f"{store.events}.1")
    os.write(late, b'{"time":2,"type":"network","action":"late","id":"2"}\n{"time":3,"type":"netw')
    events.write(store, "network", "connect", "3")
    assert actions(list(reader.read())) == ["late", "connect"]
    os.write(late, b'ork","action":"later","id":"2"}\n')
    events.write(store, "network", "destroy", "3")
    assert sorted(actions(list(reader.read()))) == ["destroy", "later"]
    reader.close()
    os.close(late)


def test_lines_that_are_none_are_left_out(store: Store) -> None:
    events.write(store, "network", "create", "1")
    with open(store.events, "ab") as log:
        log.write(b'\n{"time": 1}\n[]\nnot json\n"\xff"\n{"time":1,"type":"network","act\n')
    events.write(store, "network", "destroy", "1")
    assert actions(read(store)) == ["create", "destroy"]


def test_a_hammering_container_does_not_fill_the_log(store: Store) -> None:
    task = {"id": "c" * 64, "events": events.for_supervisor(store, record())}
    denied = [
        {"destination": f"10.0.{n // 250}.{n % 250}", "port": 80, "protocol": "tcp", "count": 1}
        for n in range(500)
    ]
    diary.denied(task, denied[:1], denied[:3])
    first = read(store, "event=egress_denied")
    assert [event.attributes["destination"] for event in first] == ["10.0.0.1", "10.0.0.2"]
    diary.denied(task, denied[:3], denied)
    assert len(read(store)) == 64


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ((), ["create", "die", "pull", "connect", "destroy", "destroy"]),
        (("type=container",), ["create", "die"]),
        (("event=died",), ["die"]),
        (("event=remove",), ["destroy", "destroy"]),
        (("event=create", "event=die"), ["create", "die"]),
        (("container=web",), ["create", "die"]),
        (("container=cccc",), ["create", "die", "connect"]),
        (("image=app",), ["create", "die", "pull"]),
        (("image=localhost/app:1",), ["create", "die", "pull"]),
        (("network=net",), ["connect", "destroy"]),
        (("volume=v",), ["destroy"]),
        (("label=tier=db",), ["create", "die"]),
        (("label=tier", "label=none"), []),
        (("scope=swarm",), []),
        (("type=network", "event=connect"), ["connect"]),
    ],
)
def test_filters(store: Store, filters: tuple[str, ...], found: list[str]) -> None:
    made = record(labels={"tier": "db"})
    events.container(store, made, "create")
    events.container(store, made, "die")
    events.image(store, "pull", "f" * 64, "localhost/app:1")
    events.write(store, "network", "connect", "e" * 64, name="net", container=made.id)
    events.write(store, "network", "destroy", "e" * 64, name="net")
    events.write(store, "volume", "destroy", "v", name="v")
    assert actions(read(store, *filters)) == found


@pytest.mark.parametrize("wrong", ["colour=red", "event", "scope=galaxy"])
def test_filters_that_are_none(store: Store, wrong: str) -> None:
    with pytest.raises(UsageError, match="--filter"):
        read(store, wrong)


def test_since_and_until(store: Store) -> None:
    with open(store.events, "w") as log:
        for second in (10, 20, 30):
            log.write(f'{{"time":{second}000000000,"type":"x","action":"{second}","id":"1"}}\n')
    assert actions(read(store, since="15")) == ["20", "30"]
    assert actions(read(store, until="25")) == ["10", "20"]
    assert actions(read(store, since="20", until="20")) == ["20"]
    following = engine.stream(Context(store, Config()), since="15", until="25")
    assert actions(list(following)) == ["20"], "a time that is past ends the stream"
