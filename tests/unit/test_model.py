"""Records: frozen, keyword-only, and the same after a trip through JSON."""

from __future__ import annotations

import pytest

from podpy import files
from podpy.model import ContainerState, ProcessIdentity, Status
from podpy.netmodel import PortMapping
from podpy.records import from_dict, record, replace, to_dict


@record
class Point:
    x: int
    y: int = 0


def test_fields_are_named_and_defaults_filled_in() -> None:
    assert Point(x=1) == Point(x=1, y=0)
    with pytest.raises(TypeError, match="no value for 'x'"):
        Point(y=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="no field 'z'"):
        Point(x=1, z=2)  # type: ignore[call-arg]


def test_records_are_frozen_and_replaced() -> None:
    point = Point(x=1)
    with pytest.raises(AttributeError, match="frozen"):
        point.x = 2  # type: ignore[misc]
    assert replace(point, y=5) == Point(x=1, y=5)
    assert point.y == 0


def test_a_state_survives_json_with_its_nested_records() -> None:
    state = ContainerState(
        status=Status.RUNNING,
        init=ProcessIdentity(boot_id="b", pid=1, start=2),
        ports=(PortMapping(container_port=80, host_port=8080),),
    )
    revived = from_dict(ContainerState, files.loads(files.dumps(to_dict(state))))
    assert revived == state
    assert revived.status.is_live


def test_unknown_keys_of_a_newer_version_are_left_out() -> None:
    assert from_dict(Point, {"x": 1, "colour": "red"}) == Point(x=1)


def test_statuses_know_what_may_be_done_in_them() -> None:
    assert Status.CREATED.can_start()
    assert not Status.RUNNING.can_start()
    assert Status.RUNNING.can_exec()
    assert not Status.PAUSED.can_exec()
    assert Status.STOPPING.can_stop()
