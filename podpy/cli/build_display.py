"""The progress of a build on a terminal: every step with its time, redrawn in place.

A timer redraws while nothing happens.  It is a signal (setitimer(2)), not a
thread: a build forks, and what is forked has no timer.
"""

from __future__ import annotations

import _signal
import os
import sys
import time

from podpy.build.model import Warned
from podpy.cli import build_colours
from podpy.cli.build_colours import palette
from podpy.cli.build_text import amount, columns, cut, one_line
from podpy.cli.build_view import View, tell_warnings, to_stderr

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podpy.build.model import Event
    from podpy.cli.build_steps import Step

_REFRESH = 0.15  # seconds between two drawings
_FRAME = 2  # lines that are not steps': the heading, and where the cursor ends up
_PREFIX = " => "
_NARROWEST = 12

_PLAIN = "\x1b[0m"
_HIDE, _SHOW = "\x1b[?25l", "\x1b[?25h"


class Line:
    """A line of the display, as wide as it is shown; its state has a colour."""

    __slots__ = ("is_running", "state", "text")

    def __init__(self, text: str, state: str = "", *, is_running: bool = False) -> None:
        self.text = text
        self.state = state
        self.is_running = is_running


class Display(View):
    """``[+] Building 3.2s (7/9)`` and a line per step, the running ones with their output."""

    def __init__(self) -> None:
        super().__init__(to_stderr)
        self._drawn: list[int] = []  # the width of each line that is on the screen
        self._drawn_at = 0.0
        self._is_busy = False
        self._palette = palette(os.environ) if build_colours.wanted() else {}
        self._most = build_colours.log_lines(os.environ)

    def __enter__(self) -> Display:
        self._before = _signal.signal(_signal.SIGALRM, lambda *_: self._tick())
        _signal.siginterrupt(_signal.SIGALRM, False)
        _signal.setitimer(_signal.ITIMER_REAL, _REFRESH, _REFRESH)
        return self

    def finish(self) -> None:
        _signal.setitimer(_signal.ITIMER_REAL, 0)
        _signal.signal(_signal.SIGALRM, self._before or _signal.SIG_DFL)
        self._draw(whole=True)
        tell_warnings(self.trace, self.write)

    def __call__(self, event: Event) -> None:
        self._is_busy = True
        now = time.monotonic()
        self.trace.take(event, now)
        if now - self._drawn_at > _REFRESH:
            self._draw()
        self._is_busy = False

    def _tick(self) -> None:
        if not self._is_busy:
            self._draw()

    # --- drawing -------------------------------------------------------------

    def _draw(self, *, whole: bool = False) -> None:
        """One write, so that no half picture is seen; ``whole`` shows every step, at the end."""
        now = self._drawn_at = time.monotonic()
        width, height = _size()
        lines = self.picture(now, width, height, whole=whole)
        up = sum(max(1, -(-drawn // width)) for drawn in self._drawn)
        parts = [_HIDE, f"\x1b[{up}A" if up else "", "\r"]
        for line in lines:
            parts.append(f"{self._painted(line)}\x1b[K\n")
        parts += ["\x1b[J", _SHOW]
        self._drawn = [columns(line.text) for line in lines]
        self.write("".join(parts))

    def _painted(self, line: Line) -> str:
        colour = self._palette.get(line.state, "")
        return f"{colour}{line.text}{_PLAIN}" if colour else line.text

    def picture(self, now: float, width: int, height: int, *, whole: bool) -> list[Line]:
        """The lines to show on a terminal of this size."""
        steps = list(self.trace.steps.values())
        room = height - _FRAME
        tails = {} if whole else self._tails(steps, room)
        lines: list[Line] = []
        for step in steps:
            lines += self._lines(step, now, width)
            lines += [
                Line(cut(f"{_PREFIX}=> # {text}", width - 1), "output", is_running=True)
                for text in tails.get(step.number, ())
            ]
        if not whole:
            lines = fitting(lines, room)
        return [self._heading(now, width, whole=whole), *lines]

    def _heading(self, now: float, width: int, *, whole: bool) -> Line:
        done, total = self.trace.done, self.trace.total
        is_over = whole and not any(step.error for step in self.trace.steps.values())
        if is_over:
            total = done
        end = " FINISHED" if is_over and done else ""
        elapsed = now - self.trace.began
        return Line(cut(f"[+] Building {elapsed:.1f}s ({done}/{total}){end}", width - 1))

    def _tails(self, steps: list[Step], room: int) -> dict[int, list[str]]:
        """The output of running steps, as many as there is room for; the newest first."""
        running = [step for step in steps if not step.is_done]
        free = room - len(running)
        tails: dict[int, list[str]] = {}
        for step in reversed(running):
            tail = step.tail(min(self._most, free)) if free > 0 else []
            tails[step.number] = tail
            free -= len(tail)
        return tails

    def _lines(self, step: Step, now: float, width: int) -> list[Line]:
        lines = [
            Line(
                _spread(_PREFIX + _marked(step), "", step.elapsed(now), width),
                _state(step),
                is_running=not step.is_done,
            )
        ]
        for moved in step.moved.values():
            is_over = step.is_done or bool(moved.total and moved.current >= moved.total)
            took = moved.seconds if is_over and moved.seconds >= 0 else now - moved.began
            moved.seconds = took if is_over else -1.0
            text = f"{_PREFIX}=> {moved.text}"
            size = amount(moved.current, moved.total)
            state = "run" if is_over else ""
            lines.append(Line(_spread(text, size, took, width), state, is_running=not is_over))
        for warned in self.trace.warnings:
            if isinstance(warned, Warned) and warned.step == step.number:
                text = f"{_PREFIX}=> WARN: {one_line(warned.text)}"
                lines.append(Line(cut(text, width - 1), "warning"))
        return lines


def fitting(lines: list[Line], room: int) -> list[Line]:
    """The last lines; of those before, what still runs takes the place of what is over."""
    if len(lines) <= room:
        return lines
    if room <= 0:
        return []
    spare = len(lines) - room
    kept = []
    for line in lines:
        if spare and not line.is_running:
            spare -= 1
        else:
            kept.append(line)
    return kept[-room:]


def _marked(step: Step) -> str:
    if step.cancelled:
        return f"CANCELED {step.title}"
    if step.error:
        return f"ERROR {step.title}"
    return f"CACHED {step.title}" if step.cached else step.title


def _state(step: Step) -> str:
    if not step.is_done:
        return ""
    return "cancel" if step.cancelled else "error" if step.error else "run"


def _spread(text: str, size: str, took: float, width: int) -> str:
    """Text at the left, the time at the right end of the line but one column."""
    timer = f" {0.0 if took < 0.05 else took:.1f}s"
    left = width - 1 - len(timer)
    if left < _NARROWEST:
        return cut(text, width - 1)
    shown = cut(text, left)
    if size and columns(text) + len(size) + 1 <= left:
        shown = f"{text} {size}"
    return shown + " " * (left - columns(shown)) + timer


def _size() -> tuple[int, int]:
    """Columns and rows of the terminal; those of a small one when it will not say."""
    try:
        width, height = os.get_terminal_size(sys.stderr.fileno())
    except (OSError, ValueError):
        return 80, 24
    return width or 80, height or 24
