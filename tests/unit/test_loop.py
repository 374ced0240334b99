"""The event loop: descriptors, timers, and what happens when one handler ends another."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from podpy.kernel.loop import IN, Loop


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for fd in ends:
        os.close(fd)


def test_a_timer_fires_once_and_not_early() -> None:
    loop, fired = Loop(), []
    begin = time.monotonic()
    loop.later(0.02, lambda: fired.append(time.monotonic() - begin))
    while not fired:
        loop.turn()
    loop.turn(0.03)
    assert len(fired) == 1
    assert fired[0] >= 0.02


def test_timers_of_one_key_replace_each_other() -> None:
    loop, fired = Loop(), []
    loop.later(0.0, lambda: fired.append("first"), key="same")
    loop.later(0.0, lambda: fired.append("second"), key="same")
    loop.later(0.0, lambda: fired.append("other"))
    loop.turn(1)
    assert sorted(fired) == ["other", "second"]


def test_a_timer_may_cancel_one_that_is_due_as_well() -> None:
    loop, fired = Loop(), []

    def first() -> None:
        fired.append("first")
        loop.cancel("second")

    loop.later(0.0, first, key="first")
    loop.later(0.0, lambda: fired.append("second"), key="second")
    time.sleep(0.001)
    loop.turn(1)
    assert fired == ["first"]


def test_a_descriptor_is_served_while_a_timer_runs(pipe: tuple[int, int]) -> None:
    loop, heard = Loop(), []
    reader, writer = pipe
    loop.watch(reader, IN, lambda fd, _: heard.append(os.read(fd, 9)))
    loop.later(60, lambda: heard.append(b"never"))
    os.write(writer, b"now")
    assert loop.turn(1)
    assert heard == [b"now"]


def test_a_turn_without_events_ends_in_time(pipe: tuple[int, int]) -> None:
    loop = Loop()
    loop.watch(pipe[0], IN, lambda *_: None)
    assert not loop.turn(0)
    begin = time.monotonic()
    assert not loop.turn(0.02)
    assert 0.02 <= time.monotonic() - begin < 5


def test_a_handler_may_forget_another(pipe: tuple[int, int]) -> None:
    loop, heard = Loop(), []
    reader, writer = pipe
    copy = os.dup(reader)

    def hear(fd: int, _: int) -> None:
        heard.append(fd)
        loop.forget(reader)
        loop.forget(copy)

    loop.watch(reader, IN, hear)
    loop.watch(copy, IN, hear)
    os.write(writer, b"x")
    loop.turn(1)
    os.close(copy)
    assert len(heard) == 1
