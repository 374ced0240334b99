"""journald: what is sent to its socket, and what is read back from ``journalctl``."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from podpy.engine.journal import Journal
from podpy.errors import HostError
from podpy.runtime import logs

TASK = {"id": "ab" * 32, "name": "web", "log": {"driver": "journald", "tag": ""}}


def fields(datagram: bytes) -> dict[str, str]:
    return dict(line.split("=", 1) for line in datagram.decode().splitlines())


def test_a_line_is_a_datagram(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    journal.bind(str(tmp_path / "socket"))
    monkeypatch.setattr(logs, "JOURNAL", str(tmp_path / "socket"))
    log = logs.open_log(TASK)
    log.write(1, b"one\ntwo")
    log.write(2, b"err=1\n")
    one, two, err = (fields(journal.recv(10000)) for _ in range(3))
    assert one == {
        "MESSAGE": "one", "PRIORITY": "6", "CONTAINER_ID": "ab" * 6,
        "CONTAINER_ID_FULL": "ab" * 32, "CONTAINER_NAME": "web", "CONTAINER_TAG": "web",
        "SYSLOG_IDENTIFIER": "web",
    }  # fmt: skip
    assert (two["MESSAGE"], two["CONTAINER_PARTIAL_MESSAGE"]) == ("two", "true")
    assert (err["MESSAGE"], err["PRIORITY"]) == ("err=1", "3")
    log.close()
    journal.close()


def test_no_journal_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "JOURNAL", str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError):
        logs.open_log(TASK)


@pytest.fixture
def journalctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A journalctl that shows what a file holds, as the real one does (``-o json``)."""
    entries = [
        {"MESSAGE": "one", "PRIORITY": "6"},
        {"MESSAGE": [0xFF, 0x61], "PRIORITY": "3"},
        {"MESSAGE": "part", "PRIORITY": "6", "CONTAINER_PARTIAL_MESSAGE": "true"},
        {"MESSAGE": None, "PRIORITY": "6"},
    ]
    lines = [
        json.dumps({**e, "__CURSOR": f"c{n}", "__REALTIME_TIMESTAMP": str(10**15 + n)})
        for n, e in enumerate(entries)
    ]
    (tmp_path / "entries").write_text("\n".join(lines) + "\n")
    program = tmp_path / "journalctl"
    program.write_text(
        f'#!/bin/sh\necho "$@" >>{tmp_path}/calls\n'
        f'case "$*" in *after-cursor*) ;; *) cat {tmp_path}/entries ;; esac\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def test_reading_back_and_on(journalctl: Path) -> None:
    journal = Journal("ab" * 32, b"", b"", -1)
    assert list(journal.runs()) == [
        (1, b"2001-09-09T01:46:40.000000000Z", b"one\n"),
        (2, b"2001-09-09T01:46:40.000001000Z", b"\xffa\n"),
        (1, b"2001-09-09T01:46:40.000002000Z", b"part"),
        (1, b"2001-09-09T01:46:40.000003000Z", b"\n"),
    ]
    assert list(journal.runs()) == []
    first, second = (journalctl / "calls").read_text().splitlines()
    assert f"CONTAINER_ID_FULL={'ab' * 32}" in first
    assert "--after-cursor=c3" in second


def test_bounds(journalctl: Path) -> None:
    since = b"2001-09-09T01:46:40.000001000Z"
    assert len(list(Journal("x", since, b"", -1).runs())) == 3
    assert len(list(Journal("x", b"", since, -1).runs())) == 2
    assert [text for _, _, text in Journal("x", b"", b"", 1).runs()] == [b"\n"]


def test_a_failing_journalctl_is_quoted(journalctl: Path) -> None:
    (journalctl / "journalctl").write_text("#!/bin/sh\necho 'no access' >&2; exit 1\n")
    with pytest.raises(HostError, match="no access"):
        list(Journal("x", b"", b"", -1).runs())
