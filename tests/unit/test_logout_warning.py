"""Who starts a detached container under systemd is told, once, what a logout does to it."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from podpy.engine import containers
from podpy.engine.progress import Progress
from podpy.kernel import cgroup, systemd
from podpy.paths import Store


class Heard(Progress):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store of a user with a systemd manager and without lingering."""
    monkeypatch.setattr(cgroup, "has_user_manager", lambda: True)
    monkeypatch.setattr(systemd, "BOOTED", str(tmp_path))
    monkeypatch.setattr(systemd, "LINGER", str(tmp_path / "linger"))
    return Store(str(tmp_path / "store"), str(tmp_path / "run"))


def told(store: Store) -> list[str]:
    heard = Heard()
    containers._tell_of_logout(store, heard)
    return heard.warnings


def test_the_first_one_names_the_command_and_the_second_is_silent(store: Store) -> None:
    name = pwd.getpwuid(os.getuid()).pw_name
    (warning,) = told(store)
    assert f"loginctl enable-linger {name}" in warning
    assert told(store) == []


def test_nothing_is_said_where_lingering_is_on(store: Store, tmp_path: Path) -> None:
    (tmp_path / "linger").mkdir()
    (tmp_path / "linger" / pwd.getpwuid(os.getuid()).pw_name).touch()
    assert told(store) == []


def test_nothing_is_said_without_a_user_manager(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroup, "has_user_manager", lambda: False)
    assert told(store) == []
