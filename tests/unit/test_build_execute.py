"""Stages as tasks and steps in workers: order, failures, what is reported."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Generator
from typing import Any

import pytest

from podpy.build.execute import Scheduler, Task, Wire, Work
from podpy.build.model import Failed, Finished, Output, Started, Transfer, Warned
from podpy.errors import BuildError, NotFound

Steps = Generator[Any, Any, Any]


class Told:
    """What a scheduler reports."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def __call__(self, event: Any) -> None:
        self.events.append(event)

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def work(scheduler: Scheduler, function: Callable[[Wire], Any], **more: Any) -> Work:
    return Work(function, Started(step=scheduler.next_step(), text="step"), **more)


def one(scheduler: Scheduler, function: Callable[[Wire], Any], **more: Any) -> Task:
    """A task of one piece of work, whose value it returns."""

    def steps() -> Steps:
        return (yield work(scheduler, function, **more))

    return scheduler.add(steps())


def test_values_come_back() -> None:
    told = Told()
    scheduler = Scheduler(told)
    tasks = [one(scheduler, lambda wire, n=n: {"n": n, "pid": os.getpid()}) for n in range(5)]
    scheduler.run()
    assert [task.result["n"] for task in tasks] == list(range(5))
    assert os.getpid() not in {task.result["pid"] for task in tasks}
    assert len(told.of(Finished)) == 5


def test_a_task_waits_for_another() -> None:
    scheduler = Scheduler(Told())
    order: list[str] = []
    first = one(scheduler, lambda wire: time.sleep(0.1))

    def second() -> Steps:
        yield first
        order.append("second")
        return (yield first)

    task = scheduler.add(second())
    scheduler.run()
    assert order == ["second"]
    assert task.is_done


def test_no_more_at_a_time_than_asked(tmp_path: Any) -> None:
    alone = tmp_path / "alone"

    def exclusive(wire: Wire) -> None:
        alone.mkdir()
        time.sleep(0.05)
        alone.rmdir()

    scheduler = Scheduler(Told(), jobs=1)
    tasks = [one(scheduler, exclusive) for _ in range(4)]
    scheduler.run()
    assert all(task.is_done for task in tasks)


def test_equal_works_wait_for_each_other(tmp_path: Any) -> None:
    made = tmp_path / "made"

    def make(wire: Wire) -> bool:
        if made.exists():
            return True
        time.sleep(0.1)
        made.touch()
        return False

    told = Told()
    scheduler = Scheduler(told, jobs=4)
    tasks = [one(scheduler, make, key="same", is_cached=bool) for _ in range(3)]
    scheduler.run()
    assert sorted(task.result for task in tasks) == [False, True, True]
    assert sorted(event.cached for event in told.of(Finished)) == [False, True, True]


def test_what_a_worker_says() -> None:
    def speak(wire: Wire) -> int:
        wire.transfer("blob", 3, 10)
        wire.warn("careful")
        os.write(wire.out, b"out")
        os.write(wire.err, b"err")
        return 1

    told = Told()
    scheduler = Scheduler(told)
    one(scheduler, speak)
    scheduler.run()
    assert [(e.text, e.current, e.total) for e in told.of(Transfer)] == [("blob", 3, 10)]
    assert [e.text for e in told.of(Warned)] == ["careful"]
    assert sorted((e.stream, e.data) for e in told.of(Output)) == [(1, b"out"), (2, b"err")]


def test_large_answers_and_outputs() -> None:
    text = "x" * 3_000_000

    def speak(wire: Wire) -> str:
        os.write(wire.out, b"y" * 60_000)
        return text

    told = Told()
    scheduler = Scheduler(told)
    task = one(scheduler, speak)
    scheduler.run()
    assert task.result == text
    assert sum(len(e.data) for e in told.of(Output)) == 60_000


def test_a_failure_keeps_its_kind_and_ends_the_others() -> None:
    def fail(wire: Wire) -> None:
        time.sleep(0.1)
        raise NotFound("no such thing", hint="look elsewhere")

    told = Told()
    scheduler = Scheduler(told, jobs=2)
    one(scheduler, lambda wire: time.sleep(600))
    one(scheduler, fail, lines=(3, 4))
    begun = time.monotonic()
    with pytest.raises(NotFound) as caught:
        scheduler.run()
    assert time.monotonic() - begun < 60
    assert caught.value.hint == "look elsewhere"
    failed = {event.cancelled: event for event in told.of(Failed)}
    assert failed[False].lines == (3, 4)
    assert failed[True].step == 1


@pytest.mark.parametrize("error", [OSError(28, "x"), ValueError("odd"), KeyError("gone")])
def test_every_error_is_told(error: Exception) -> None:
    def fail(wire: Wire) -> None:
        raise error

    scheduler = Scheduler(Told())
    one(scheduler, fail)
    with pytest.raises(BuildError):
        scheduler.run()


def test_a_worker_that_is_killed() -> None:
    scheduler = Scheduler(Told())
    one(scheduler, lambda wire: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(BuildError, match="was killed"):
        scheduler.run()


def test_an_interrupt_ends_workers() -> None:
    def interrupt(event: Any) -> None:
        if isinstance(event, Output):
            raise KeyboardInterrupt

    def speak(wire: Wire) -> None:
        os.write(wire.out, str(os.getpid()).encode())
        time.sleep(600)

    pids: list[int] = []

    def report(event: Any) -> None:
        if isinstance(event, Output):
            pids.append(int(event.data))
        interrupt(event)

    scheduler = Scheduler(report)
    one(scheduler, speak)
    with pytest.raises(KeyboardInterrupt):
        scheduler.run()
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)
