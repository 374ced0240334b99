"""What podpy takes from its caller to hand on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from podpy.engine import handed
from podpy.errors import HostError, UsageError


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A descriptor that is not close-on-exec, as from a caller."""
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"):
        monkeypatch.delenv(name, raising=False)
    fd = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(fd, True)
    yield fd
    os.close(fd)


def test_nothing_given(given: int) -> None:
    assert handed.take() == handed.Handed()


def test_by_number(given: int) -> None:
    assert handed.take(numbers=[f"{given},{given}"]).descriptors == (given,)
    assert handed.take(numbers=[str(given)]).environment == ()


@pytest.mark.parametrize("count", ["x", "-1", "99999", "1.0", "٣"])
def test_bad_counts(given: int, count: str) -> None:
    with pytest.raises(UsageError, match="preserve-fds"):
        handed.take(count)


@pytest.mark.parametrize("number", ["2", "x", "-1", "999999999", "²"])
def test_bad_numbers(given: int, number: str) -> None:
    with pytest.raises(UsageError, match="preserve-fd"):
        handed.take(numbers=[number])


def test_what_podpy_opened_itself_is_not_the_callers(given: int) -> None:
    with open("/dev/null") as own, pytest.raises(UsageError, match="not open"):
        handed.take(numbers=[str(own.fileno())])


def test_sockets_are_those_of_this_process(given: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getppid()))
    monkeypatch.setenv("LISTEN_FDS", "1")
    assert handed.take() == handed.Handed()
    assert "LISTEN_FDS" not in os.environ  # which helper programs inherit


def test_init_must_pass_the_sockets_on(tmp_path: Path) -> None:
    old, new = tmp_path / "tini", tmp_path / "catatonit"
    old.write_bytes(b"\x7fELF an init")
    new.write_bytes(b"\x7fELF an init that knows LISTEN_PID")
    sockets = handed.Handed(descriptors=(3,), environment=("LISTEN_FDS=1",))
    sockets.pass_through(str(new))
    with pytest.raises(HostError, match="tini does not pass on"):
        sockets.pass_through(str(old))
    handed.Handed(descriptors=(3,)).pass_through(str(old))
