"""What a pull shows: bars with bytes on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import io
import sys

import pytest

from podpy.cli import output, progress

LAYER = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64


class Terminal(io.StringIO):
    """Standard error, when somebody looks at it."""

    def isatty(self) -> bool:
        return True


def pull(report: progress.Progress) -> None:
    report.trying("registry.test/image:1")
    report.blob(LAYER, 4_000_000, present=False)
    report.blob(OTHER, 10, present=True)
    report.advance(LAYER, 1_000_000)
    report.warn("odd\x1b[31m")
    report.advance(LAYER, 3_000_000)
    report.done(LAYER)


def shown(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch, *, quiet: bool = False) -> str:
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress, "_REDRAW_SECONDS", 0.0)
    with progress.shown(quiet=quiet) as report:
        pull(report)
    return stream.getvalue()


def screen(text: str) -> list[str]:
    """What a terminal shows after ``text``: it knows ``ESC[nA``, ``ESC[K`` and ``ESC[J``."""
    lines = [""]
    row = 0
    while text:
        if text.startswith("\x1b["):
            end = next(i for i, c in enumerate(text) if i > 1 and c.isalpha())
            count, verb = int(text[2:end] or 1), text[end]
            text = text[end + 1 :]
            if verb == "A":
                row -= count
            elif verb == "J":
                del lines[row + 1 :]
                lines[row] = ""
            continue
        if text[0] == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif text[0] == "\r":
            lines[row] = ""
        else:
            lines[row] += text[0]
        text = text[1:]
    return [line.rstrip() for line in lines if line.rstrip()]


def test_a_terminal_shows_one_line_per_layer_with_its_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = shown(Terminal(), monkeypatch)
    assert "1MB/4MB" in text
    assert screen(text) == [
        "1: Pulling from registry.test/image",
        "warning: odd\\x1b[31m",
        "aaaaaaaaaaaa: Pull complete",
        "bbbbbbbbbbbb: Already exists",
    ]


def test_elsewhere_each_step_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(io.StringIO(), monkeypatch)
    assert "\x1b" not in text
    assert text.splitlines() == [
        "1: Pulling from registry.test/image",
        "bbbbbbbbbbbb: Already exists",
        "warning: odd\\x1b[31m",
        "aaaaaaaaaaaa: Pull complete",
    ]


def test_warnings_can_be_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "warnings", False)
    for stream in (Terminal(), io.StringIO()):
        assert "odd" not in shown(stream, monkeypatch)


def test_quiet_shows_warnings_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(Terminal(), monkeypatch, quiet=True) == "warning: odd\\x1b[31m\n"
