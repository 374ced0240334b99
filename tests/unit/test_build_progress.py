"""What a build shows: plain lines, the display of a real terminal, JSON, what failed."""

from __future__ import annotations

import json
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from fcntl import ioctl
from pathlib import Path

import pytest

from podpy.build.model import Failed, Finished, Loaded, Output, Started, Transfer, Warned
from podpy.cli import build_colours, build_progress, build_text
from podpy.cli.build_display import Display, Line, fitting
from podpy.cli.build_json import RawJson
from podpy.cli.build_plain import Plain
from podpy.cli.build_steps import Trace, title
from podpy.cli.build_view import Quiet, View
from podpy.errors import BuildError, UsageError

ROOT = Path(__file__).parents[2]


class Log:
    """What a view wrote."""

    def __init__(self) -> None:
        self.text = ""

    def __call__(self, text: str) -> None:
        self.text += text


def run_step(step: int, text: str = "RUN true", position: tuple[int, int] = (2, 3)) -> Started:
    return Started(step=step, stage="build", position=position, text=text)


# --- text --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"plain", "plain"),
        ("ü\t€".encode(), "ü\t€"),
        (b"50%\r100%", "100%"),
        (b"dos\r", "dos"),
        (b"\x1b[31mred\x1b[0m", "red"),
        (b"\x1b]0;title\x07after", "after"),
        (b"\x1b]8;;http://x\x1b\\link", "link"),
        (b"\x1b[2J\x1b[1;1Hgone", "gone"),
        (b"\x1bPq#0\x1b\\sixel", "sixel"),
        (b"\x1bcreset", "reset"),
        (b"\x1b(Bcharset", "charset"),
        (b"\x1b[31", ""),
        (b"end\x1b", "end"),
        (b"bell\x07 \x9b31m", "bell\\x07 \\x9b31m"),
        (b"bad \xff", "bad \\xff"),
        ("\u202egnp.exe".encode(), "\\u202egnp.exe"),
    ],
)
def test_nothing_reaches_the_terminal_but_text(data: bytes, shown: str) -> None:
    assert build_text.line_of(data) == shown


def test_colours_pass_where_they_are_wanted_and_end_with_the_line() -> None:
    line = build_text.line_of(b"\x1b[1;31mred\x1b[2K", colours=True)
    assert line == "\x1b[1;31mred\x1b[0m"


def test_columns_of_wide_and_combining_characters() -> None:
    assert build_text.columns("日本") == 4
    assert build_text.columns("e\u0301") == 1
    assert build_text.cut("日本語", 5) == "日本"
    assert build_text.cut("abc", 5) == "abc"


def test_titles_are_buildkits() -> None:
    assert title(run_step(1, "RUN  a &&\n   b", (2, 12))) == "[build  2/12] RUN a && b"
    made = Started(step=1, stage="", position=(1, 2), text="FROM x", platform="linux/arm64")
    assert title(made) == "[linux/arm64 1/2] FROM x"
    assert title(Started(step=1, text="[internal] load .dockerignore")) == (
        "[internal] load .dockerignore"
    )


# --- plain -------------------------------------------------------------------


@pytest.fixture(name="clock")
def _clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    yield now


def test_plain_lines(clock: list[float]) -> None:
    log = Log()
    with Plain(log) as view:
        view(Started(step=1, text="[internal] load build definition from Dockerfile"))
        view(Transfer(step=1, text="transferring dockerfile", current=120, total=120))
        view(Finished(step=1, seconds=0.02))
        view(run_step(2, "RUN make"))
        clock[0] += 0.1234
        view(Output(step=2, stream=1, data=b"one\ntw"))
        view(Output(step=2, stream=2, data=b"warning\n"))
        view(Output(step=2, stream=1, data=b"o\nrest"))
        view(Finished(step=2, seconds=0.4))
        view(run_step(3, "COPY . .", (3, 3)))
        view(Finished(step=3, cached=True))
    assert log.text.splitlines() == [
        "#1 [internal] load build definition from Dockerfile",
        "#1 transferring dockerfile 120B / 120B done",
        "#1 DONE 0.0s",
        "",
        "#2 [build 2/3] RUN make",
        "#2 0.123 one",
        "#2 0.123 warning",
        "#2 0.123 two",
        "#2 0.123 rest",
        "#2 DONE 0.4s",
        "",
        "#3 [build 3/3] COPY . .",
        "#3 CACHED",
    ]


def test_plain_lets_one_step_speak_at_a_time(clock: list[float]) -> None:
    log = Log()
    with Plain(log) as view:
        view(run_step(1, "RUN a"))
        view(run_step(2, "RUN b"))
        for number in range(3):
            clock[0] += 0.1
            view(Output(step=1, stream=1, data=b"a%d\n" % number))
            view(Output(step=2, stream=1, data=b"b%d\n" % number))
        view(Finished(step=1, seconds=0.3))
        view(Finished(step=2, seconds=0.3))
    words = [line.split(" ")[-1] for line in log.text.splitlines()]
    assert words == ["a", "a0", "a1", "a2", "0.3s", "", "b", "b0", "b1", "b2", "0.3s"]


def test_plain_gives_the_word_to_another_when_one_is_silent(clock: list[float]) -> None:
    log = Log()
    with Plain(log) as view:
        view(run_step(1, "RUN sleep"))
        view(run_step(2, "RUN talk"))
        clock[0] += 1.5
        view(Output(step=2, stream=1, data=b"hello\n"))
        assert log.text.endswith("#1 ...\n\n#2 [build 2/3] RUN talk\n#2 1.500 hello\n")


def test_progress_of_a_transfer_is_told_by_twentieths(clock: list[float]) -> None:
    log = Log()
    with Plain(log) as view:
        view(Started(step=1, text="[internal] load build context"))
        for current in range(0, 1_000_001, 1000):
            clock[0] += 0.001
            view(Transfer(step=1, text="transferring context:", current=current, total=1_000_000))
    assert 15 <= log.text.count("transferring") <= 25
    assert "1.00MB / 1.00MB" in log.text


FAILING = "FROM busybox\n# comment\nRUN echo hi; \\\n    false\nCMD x\n"


def fail(view: View) -> None:
    error = BuildError('process "/bin/sh -c false" did not complete: exit code 1')
    view(Loaded(name="Dockerfile", lines=tuple(FAILING.splitlines())))
    view(run_step(1, "RUN echo hi; false"))
    view(Output(step=1, stream=1, data=b"hi\n"))
    view(Failed(step=1, error=error, seconds=0.1, lines=(3, 4)))
    raise error


def test_what_failed_is_shown_with_its_output_and_its_lines(clock: list[float]) -> None:
    log = Log()
    with pytest.raises(BuildError), Plain(log) as view:
        fail(view)
    assert log.text.splitlines()[2:] == [
        '#1 ERROR: process "/bin/sh -c false" did not complete: exit code 1',
        "------",
        " > [build 2/3] RUN echo hi; false:",
        "0.000 hi",
        "------",
        "Dockerfile:3",
        "--------------------",
        "   1 |     FROM busybox",
        "   2 |     # comment",
        "   3 | >>> RUN echo hi; \\",
        "   4 | >>>     false",
        "   5 |     CMD x",
        "--------------------",
    ]


def test_quiet_shows_what_failed_and_nothing_else() -> None:
    log = Log()
    with Quiet(log) as view:
        view(run_step(1))
        view(Output(step=1, stream=1, data=b"hi\n"))
        view(Finished(step=1, seconds=0.1))
    assert log.text == ""
    with pytest.raises(BuildError), Quiet(log) as view:
        fail(view)
    assert " > [build 2/3]" in log.text
    assert ">>> RUN" in log.text


@pytest.mark.parametrize(("kind", "count"), [(Plain, 20), (Quiet, 100)])
def test_the_end_of_the_output_is_shown_with_what_failed(
    kind: type[View], count: int, clock: list[float]
) -> None:
    log = Log()
    with pytest.raises(BuildError), kind(log) as view:
        view(run_step(1))
        view(Output(step=1, stream=1, data=b"".join(b"line %d\n" % n for n in range(500))))
        view(Failed(step=1, error=BuildError("no"), seconds=0.1))
        raise BuildError("no")
    tail = log.text[log.text.index("------") :].splitlines()[2:-1]
    assert len(tail) == count
    assert tail[-1] == "0.000 line 499"


def test_a_cancelled_step_is_no_failure(clock: list[float]) -> None:
    log = Log()
    with pytest.raises(BuildError), Plain(log) as view:
        view(run_step(1, "RUN slow"))
        view(run_step(2, "RUN bad"))
        view(Failed(step=2, error=BuildError("exit code 1"), seconds=0.1))
        view(Failed(step=1, error=BuildError("killed"), seconds=0.1, cancelled=True))
        raise BuildError("exit code 1")
    assert "#1 CANCELED" in log.text
    assert log.text.count(" > [build") == 1


def test_warnings_come_at_the_end() -> None:
    log = Log()
    with Plain(log) as view:
        view(Warned(text="FromAsCasing: 'as' and 'FROM' differ (line 1)"))
        view(run_step(1))
        view(Warned(text="slow file system", step=1))
        view(Finished(step=1, seconds=0.1))
    assert log.text.splitlines()[1:] == [
        "#1 WARN: slow file system",
        "#1 DONE 0.1s",
        "",
        " 1 warning found:",
        " - FromAsCasing: 'as' and 'FROM' differ (line 1)",
    ]


def test_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, expected in (("1", "#1 0.000 red"), ("", "#1 0.000 \x1b[31mred\x1b[0m")):
        monkeypatch.setenv("NO_COLOR", value)
        monkeypatch.setattr(time, "monotonic", lambda: 1.0)
        log = Log()
        with Plain(log) as view:
            view(run_step(1))
            view(Output(step=1, stream=1, data=b"\x1b[31mred\n"))
        assert log.text.splitlines()[-1] == expected


# --- the choice --------------------------------------------------------------


def test_modes(monkeypatch: pytest.MonkeyPatch) -> None:
    choose = build_progress.mode
    monkeypatch.delenv("BUILDKIT_PROGRESS", raising=False)
    assert choose("", quiet=False, to_file=True) == "plain"
    assert choose("none", quiet=False, to_file=False) == "quiet"
    assert choose("rawjson", quiet=True, to_file=False) == "quiet"
    monkeypatch.setenv("BUILDKIT_PROGRESS", "rawjson")
    assert choose("", quiet=False, to_file=False) == "rawjson"
    assert choose("plain", quiet=False, to_file=False) == "plain"
    with pytest.raises(UsageError, match="--progress: unknown 'loud'"):
        choose("loud", quiet=False, to_file=False)
    with pytest.raises(UsageError, match="no terminal"):
        choose("tty", quiet=False, to_file=True)


def test_a_log_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with build_progress.shown("plain", str(path)) as view:
        view(run_step(1))
        view(Finished(step=1, cached=True))
    assert path.read_text() == "#1 [build 2/3] RUN true\n#1 CACHED\n"
    with pytest.raises(UsageError, match="--logfile: /nonexistent/x"):
        build_progress.shown("plain", "/nonexistent/x")


def test_a_log_file_for_each_platform(tmp_path: Path) -> None:
    path = tmp_path / "log"
    platforms = ("linux/amd64", "linux/arm/v7")
    with build_progress.shown("plain", str(path), platforms) as view:
        view(Started(step=1, text="[internal] load build definition from Dockerfile"))
        view(Finished(step=1, seconds=0.1))
        for step, platform in enumerate(platforms, 2):
            view(Started(step=step, position=(1, 1), text="FROM x", platform=platform))
            view(Finished(step=step, seconds=0.1))
    assert sorted(found.name for found in tmp_path.iterdir()) == [
        "log_linux_amd64", "log_linux_arm_v7",
    ]  # fmt: skip
    text = (tmp_path / "log_linux_arm_v7").read_text()
    assert "[internal] load" in text
    assert "[linux/arm/v7 1/1] FROM x" in text
    assert "amd64" not in text
    with build_progress.shown("plain", str(path), platforms[:1]) as view:
        view(run_step(1))
    assert (tmp_path / "log_linux_amd64").read_text() == "#1 [build 2/3] RUN true\n"


# --- rawjson -----------------------------------------------------------------


def test_rawjson_is_a_status_on_each_line() -> None:
    log = Log()
    with RawJson(log) as view:
        view(run_step(1))
        view(Output(step=1, stream=2, data=b"\xff\n"))
        view(Transfer(step=1, text="sha256:abc", current=5, total=10))
        view(Warned(text="careful", step=1))
        view(Finished(step=1, seconds=0.5, cached=True))
    begun, output, moved, warned, ended = map(json.loads, log.text.splitlines())
    (vertex,) = begun["vertexes"]
    assert vertex["name"] == "[build 2/3] RUN true"
    assert vertex["digest"].startswith("sha256:")
    assert vertex["started"].endswith("Z")
    assert "completed" not in vertex
    assert output["logs"][0] | {"timestamp": ""} == {
        "vertex": vertex["digest"], "stream": 2, "data": "/wo=", "timestamp": "",
    }  # fmt: skip
    assert moved["statuses"][0]["id"] == "sha256:abc"
    assert (moved["statuses"][0]["current"], moved["statuses"][0]["total"]) == (5, 10)
    assert warned["warnings"][0]["short"] == "Y2FyZWZ1bA=="
    assert ended["vertexes"][0]["cached"] is True
    assert ended["vertexes"][0]["completed"] > ended["vertexes"][0]["started"]


def test_rawjson_tells_errors_in_json_alone() -> None:
    log = Log()
    with pytest.raises(BuildError), RawJson(log) as view:
        fail(view)
    last = [json.loads(line) for line in log.text.splitlines()][-1]
    assert "exit code 1" in last["vertexes"][0]["error"]


# --- the display -------------------------------------------------------------


def picture(display: Display, width: int, height: int, *, whole: bool = False) -> list[str]:
    lines = display.picture(time.monotonic(), width, height, whole=whole)
    return [line.text for line in lines]


def test_the_display_is_as_wide_as_the_terminal(clock: list[float]) -> None:
    display = Display()
    display.trace.began = clock[0]
    display.trace.take(run_step(1, "RUN " + "日本" * 60), clock[0])
    clock[0] += 1.25
    for width in (20, 40, 80, 200):
        lines = picture(display, width, 24)
        assert all(build_text.columns(line) <= width - 1 for line in lines)
        assert lines[0].startswith("[+] Building 1.2s")
        assert lines[1].endswith(" 1.2s")


def test_the_display_shows_the_tail_of_what_runs(clock: list[float]) -> None:
    display = Display()
    take = display.trace.take
    take(run_step(1, "RUN done"), clock[0])
    take(Output(step=1, stream=1, data=b"hidden\n"), clock[0])
    take(Finished(step=1, seconds=0.1), clock[0])
    take(run_step(2, "RUN busy"), clock[0])
    data = b"".join(b"line %d\n" % number for number in range(20)) + b"\x1b[31m50%\r60%"
    take(Output(step=2, stream=1, data=data), clock[0])
    lines = picture(display, 60, 24)
    assert [line.strip() for line in lines[3:]] == [
        "=> => # line 15", "=> => # line 16", "=> => # line 17", "=> => # line 18",
        "=> => # line 19", "=> => # 60%",
    ]  # fmt: skip
    assert not any("hidden" in line for line in lines)
    assert not any("#" in line for line in picture(display, 60, 24, whole=True))


def test_the_display_fits_into_the_terminal(clock: list[float]) -> None:
    display = Display()
    for number in range(1, 41):
        display.trace.take(run_step(number, f"RUN {number}", (number, 40)), clock[0])
        if number != 3 and number < 39:
            display.trace.take(Finished(step=number, seconds=0.1), clock[0])
    display.trace.take(Output(step=40, stream=1, data=b"x\n" * 50), clock[0])
    lines = picture(display, 60, 12)
    assert len(lines) <= 11
    running = [line for line in lines if "RUN 3 " in line or "RUN 39" in line or "RUN 40" in line]
    assert len(running) == 3, "what runs is seen"
    assert lines[0] == "[+] Building 0.0s (37/40)"
    assert len(picture(display, 60, 12, whole=True)) == 41, "at the end everything is"


def test_marks_and_the_end(clock: list[float]) -> None:
    display = Display()
    take = display.trace.take
    take(run_step(1, "RUN a", (1, 2)), clock[0])
    take(Finished(step=1, cached=True), clock[0])
    take(run_step(2, "RUN b", (2, 2)), clock[0])
    take(Finished(step=2, seconds=2.0), clock[0])
    lines = picture(display, 60, 24, whole=True)
    assert lines[0] == "[+] Building 0.0s (2/2) FINISHED"
    assert lines[1].startswith(" => CACHED [build 1/2] RUN a")
    assert lines[2].endswith("2.0s")
    take(run_step(3, "RUN c", (2, 2)), clock[0])
    take(Failed(step=3, error=BuildError("no"), seconds=1.0), clock[0])
    take(run_step(4, "RUN d", (2, 2)), clock[0])
    take(Failed(step=4, error=BuildError("no"), seconds=1.0, cancelled=True), clock[0])
    lines = picture(display, 60, 24, whole=True)
    assert "FINISHED" not in lines[0]
    assert lines[3].startswith(" => ERROR [build 2/2] RUN c")
    assert lines[4].startswith(" => CANCELED [build 2/2] RUN d")


def test_what_is_over_makes_room_for_what_runs() -> None:
    lines = [Line(str(number), is_running=number == 0) for number in range(5)]
    assert [line.text for line in fitting(lines, 3)] == ["0", "3", "4"]
    assert fitting(lines, 0) == []
    assert len(fitting(lines, 9)) == 5


def test_totals_count_what_is_known_to_come() -> None:
    trace = Trace()
    trace.take(run_step(1, "FROM x", (1, 4)), 0.0)
    assert (trace.done, trace.total) == (0, 4)
    trace.take(Finished(step=1, seconds=0.1), 0.0)
    trace.take(run_step(2, "RUN x", (2, 4)), 0.0)
    assert (trace.done, trace.total) == (1, 4)


PROGRAM = """
import sys, time
sys.path.insert(0, {root!r})
from podpy.build.model import Finished, Output, Started, Warned
from podpy.cli import build_progress
with build_progress.shown(build_progress.mode("", quiet=False, to_file=False)) as view:
    view(Started(step=1, stage="build", position=(1, 2), text="FROM busybox"))
    view(Finished(step=1, cached=True))
    view(Started(step=2, stage="build", position=(2, 2), text="RUN sleep \\x1b[31m"))
    view(Output(step=2, stream=1, data=b"half way\\n\\x1b]0;evil\\x07"))
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        time.sleep(0.3)
    view(Finished(step=2, seconds=1.0))
print("the id")
"""


def on_a_terminal(program: str, columns: int, **env: str) -> str:
    """What a program writes to a pseudo-terminal that is ``columns`` wide."""
    main, other = pty.openpty()
    ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=other, stdout=other, stderr=other,
        env={**os.environ, "TERM": "xterm", **env},
    ) as child:  # fmt: skip
        os.close(other)
        data = b""
        while True:
            select.select([main], [], [], 30)
            try:
                chunk = os.read(main, 1 << 16)
            except OSError:
                break
            if not chunk:
                break
            data += chunk
        assert child.wait(10) == 0
    os.close(main)
    return data.decode()


class Screen:
    """As much of a terminal as the display uses: up, erase, carriage return, lines."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.lines = [""]
        self.row = 0
        self.frames: list[list[str]] = []

    def feed(self, text: str) -> None:
        position = 0
        column = 0
        while position < len(text):
            if text[position] == "\x1b":
                end = position + 2
                while not text[end].isalpha():
                    end += 1
                column = self._escape(text[position + 2 : end], text[end], column)
                position = end + 1
                continue
            if text[position] == "\r":
                column = 0
            elif text[position] == "\n":
                self.row += 1
                while len(self.lines) <= self.row:
                    self.lines.append("")
            else:
                line = self.lines[self.row].ljust(column)
                self.lines[self.row] = line[:column] + text[position] + line[column + 1 :]
                column += 1
                assert column < self.columns, "the display never wraps"
            position += 1

    def _escape(self, argument: str, letter: str, column: int) -> int:
        if letter == "A":
            self.row -= int(argument)
            assert self.row >= 0
        elif letter == "K":
            self.lines[self.row] = self.lines[self.row][:column]
        elif letter == "J":
            del self.lines[self.row + 1 :]
            self.lines[self.row] = self.lines[self.row][:column]
            self.frames.append([line.rstrip() for line in self.lines])
        else:
            assert letter in "hlm", letter
        return column


@pytest.mark.parametrize("columns", [40, 100])
def test_on_a_real_terminal_it_is_redrawn_in_place(columns: int) -> None:
    text = on_a_terminal(PROGRAM.format(root=str(ROOT)), columns, NO_COLOR="")
    screen = Screen(columns)
    screen.feed(text)
    assert "evil" not in text
    assert "\x1b[31m" not in text.replace("\x1b[31m =>", "")
    shown = [line.rstrip() for line in screen.lines if line.strip()]
    assert len(shown) == 4
    assert shown[0].endswith("(2/2) FINISHED")
    assert shown[1].startswith(" => CACHED [build 1/2] FROM busybo")
    assert shown[2].startswith(" => [build 2/2] RUN sleep \\x1b[31m")
    assert shown[2].endswith("1.0s")
    assert shown[3] == "the id"
    times = {frame[2].split()[-1] for frame in screen.frames if "RUN" in frame[2]}
    assert len(times) >= 4, "the time goes on while nothing happens"
    assert any("=> => # half way" in line for frame in screen.frames for line in frame)
    assert "\x1b[34m => CACHED" in text, "what is over is blue"
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h"), "the cursor comes back"


def test_a_terminal_that_cannot_draw() -> None:
    text = on_a_terminal(PROGRAM.format(root=str(ROOT)), 80, TERM="dumb")
    assert "\x1b" not in text
    assert "#1 CACHED\r\n" in text


def test_a_terminal_without_colours() -> None:
    text = on_a_terminal(PROGRAM.format(root=str(ROOT)), 80, NO_COLOR="1")
    assert "\x1b[34m" not in text
    assert "\x1b[2m" not in text
    assert "FINISHED" in text


def test_the_environment_chooses_colours_and_how_much_output(
    monkeypatch: pytest.MonkeyPatch, clock: list[float]
) -> None:
    chosen = build_colours.palette({"BUILDKIT_COLORS": "run=light-green:error=1,2,3"})
    assert (chosen["run"], chosen["error"]) == ("\x1b[92m", "\x1b[38;2;1;2;3m")
    for wrong in ("walk=red", "run=mauve", "run=1,2", "run=256,0,0"):
        with pytest.raises(UsageError, match="BUILDKIT_COLORS"):
            build_colours.palette({"BUILDKIT_COLORS": wrong})
    with pytest.raises(UsageError, match="BUILDKIT_TTY_LOG_LINES"):
        build_colours.log_lines({"BUILDKIT_TTY_LOG_LINES": "many"})
    monkeypatch.setenv("BUILDKIT_TTY_LOG_LINES", "2")
    display = Display()
    display.trace.take(run_step(1), clock[0])
    display.trace.take(Output(step=1, stream=1, data=b"a\nb\nc\n"), clock[0])
    assert [line.strip() for line in picture(display, 60, 24)[2:]] == ["=> => # b", "=> => # c"]
