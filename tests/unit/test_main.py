"""The entry point: exit codes and the one place where errors become text."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from podpy import __main__ as entry
from podpy.cli import output, session
from podpy.errors import CannotInvoke, CommandNotFound, NotFound, UsageError

CHECKOUT = Path(__file__).resolve().parents[2]


def podpy(*words: str, **options: object) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, "-m", "podpy", *words], env=environment, cwd=CHECKOUT, text=True,
        check=False, timeout=60, **{"capture_output": True, **options},
    )  # type: ignore[call-overload, no-any-return]  # fmt: skip


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (NotFound("x: none", hint="look"), 125, "Error: ps x: none\nhint: look\n"),
        (CannotInvoke("sh: permission denied"), 126, "Error: ps sh: permission denied\n"),
        (CommandNotFound("sh: not found"), 127, "Error: ps sh: not found\n"),
        (UsageError("bad\x1b[31m"), 125, "Error: ps: bad\\x1b[31m\n"),
        (OSError(28, "No space left", "/x"), 125, "Error: ps /x: No space left\n"),
        (OSError(18, "Invalid link", "/a", None, "/b"), 125, "Error: ps: /a → /b: Invalid link\n"),
        (RecursionError(), 125, "Error: ps: input is nested too deeply\n"),
        (UsageError("ps --sort: bad"), 125, "Error: ps --sort: bad\n"),
        (UsageError("this is: bad"), 125, "Error: ps: this is: bad\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)  # fmt: skip
def test_every_error_is_told_once(
    error: BaseException,
    code: int,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object) -> int:
        raise error

    monkeypatch.setattr(session.Session, "call", fail)
    assert entry.command(["ps"]) == code
    assert capsys.readouterr().err == text


def test_debug_shows_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> int:
        raise ValueError("boom")

    monkeypatch.setattr(session.Session, "call", fail)
    assert entry.command(["ps"]) == 125
    plain = capsys.readouterr().err
    assert "internal error: ValueError: boom" in plain
    assert "Traceback" not in plain
    for words in (["--debug", "ps"], ["--log-level=debug", "ps"]):
        assert entry.command(words) == 125
        assert "Traceback" in capsys.readouterr().err


def test_the_log_level_hides_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "warnings", True)
    assert entry.command(["--log-level=warning", "version"]) == 0
    assert output.warnings
    assert entry.command(["--log-level=error", "version"]) == 0
    assert not output.warnings


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("pss", "unknown command: podpy pss\nhint: did you mean `ps`"),
        ("container lss", "unknown command: podpy container lss\nhint: did you mean `ls`"),
        ("run --nmae x", "unknown flag: --nmae\nhint: did you mean `--name`"),
        ("rm -Q x", "unknown flag: -Q\nhint: see `podpy rm --help`"),
        ("rename x", "\"podpy rename\" requires exactly 2 arguments: Missing argument 'NAME'"),
        ("exec x", '"podpy exec" requires at least 2 arguments'),
        ("run --name", "flag needs an argument: --name\nhint: see `podpy"),
        ("version x", '"podpy version" takes no arguments'),
        ("run --rm=x a", "--rm: 'x' is neither true nor false"),
        ("ps extra", "unexpected extra argument"),
        ("--log-level=loud ps", 'log level "loud" is not supported'),
        ("help nope", "unknown command: podpy nope"),
    ],
)
def test_mistakes_on_the_command_line(
    words: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert entry.command(words.split()) == 125
    printed = capsys.readouterr()
    assert printed.err.startswith("Error: ")
    assert said in printed.err
    assert printed.out == ""


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("", "Commands:"),
        ("--help", "Commands:"),
        ("container", "Commands:"),
        ("help", "Commands:"),
        ("help run", "Usage: podpy run"),
        ("help container ls", "Usage: podpy container ls"),
        ("run --help", "--entrypoint"),
        ("rm -h", "Usage: podpy rm"),
        ("--version", "podpy version "),
        ("-v", "podpy version "),
        ("version", "Version:"),
    ],
)
def test_help_and_version(words: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.command(words.split()) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert shown in printed.out


def test_the_version_needs_no_home_and_no_store() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "podpy", "--version"], env={"PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=CHECKOUT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_a_reader_that_went_away_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = podpy("version", capture_output=False, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_full_output_is_one_error() -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = podpy("version", capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 125
    assert done.stderr == "Error: version: No space left on device\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [("run --na", "--name"), ("st", "start\nstop"), ("volume pr", "prune")],
)
def test_completion(words: str, expected: str) -> None:
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": os.pathsep.join(sys.path),
        "HOME": "/nonexistent",
        "COMP_WORDS": f"podpy {words}",
        "COMP_CWORD": str(len(words.split())),
        "_PODPY_COMPLETE": "complete_bash",
    }
    done = subprocess.run(
        [sys.executable, "-m", "podpy"], cwd=CHECKOUT, capture_output=True, text=True,
        check=False, env=environment,
    )  # fmt: skip
    assert (done.stdout.strip(), done.returncode) == (expected, 0)
