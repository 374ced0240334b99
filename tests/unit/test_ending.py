"""Commands that clean up before a signal ends them."""

from __future__ import annotations

import os
import signal

import pytest

from podpy.cli.ending import Orderly
from podpy.kernel import process


def ended(function: object) -> int:
    """What a child that runs ``function`` ends with; minus a signal's number."""
    assert callable(function)
    _, status = os.waitpid(process.fork_child(function), 0)
    return os.waitstatus_to_exitcode(status)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_it_cleans_up_and_dies_of_the_signal(number: signal.Signals) -> None:
    reading, writing = os.pipe()

    def interrupted() -> None:
        signal.signal(number, signal.SIG_DFL)
        with Orderly():
            try:
                os.kill(os.getpid(), number)
            finally:
                os.write(writing, b"clean")

    assert ended(interrupted) == -number
    assert os.read(reading, 9) == b"clean"
    os.close(reading)
    os.close(writing)


def test_what_is_ignored_stays_ignored() -> None:
    def ignoring() -> int:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with Orderly():
            os.kill(os.getpid(), signal.SIGHUP)
        return 7

    assert ended(ignoring) == 7


def test_nothing_is_left_of_it() -> None:
    def after() -> int:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with Orderly():
            pass
        return 7 if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL else 1

    assert ended(after) == 7
