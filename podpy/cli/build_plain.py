"""The progress of a build as plain lines, as BuildKit writes them."""

from __future__ import annotations

import time

from podpy.build.model import Failed, Finished, Loaded, Transfer, Warned
from podpy.cli.build_colours import wanted
from podpy.cli.build_text import amount, lines_of, one_line, seconds
from podpy.cli.build_view import View, tell_warnings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podpy.build.model import Event
    from podpy.cli.build_steps import Moved, Step
    from podpy.cli.build_view import Write

_PATIENCE = 5.0  # seconds that one step's output keeps others' waiting
_IDLE = 1.0  # seconds of silence after which another step's output gets its turn
_STEP_OF_PROGRESS = 0.05


class Plain(View):
    """Every step's output behind its number; one step at a time, as far as that is possible."""

    repeated = 20  # all of them were seen before

    def __init__(self, write: Write) -> None:
        super().__init__(write)
        self._current: Step | None = None
        self._since = self._spoke = 0.0
        self._held: dict[int, list[str]] = {}
        self._first = True
        self._warned = 0

    def __call__(self, event: Event) -> None:
        now = time.monotonic()
        lines = self.trace.take(event, now)
        if isinstance(event, Loaded) or event.step not in self.trace.steps:
            return
        step = self.trace.steps[event.step]
        number = f"#{step.number} "
        held = self._held.setdefault(step.number, [])
        if lines:
            prefix = f"{number}{seconds(now - step.began)} "
            held += [prefix + text for text in lines_of(lines, colours=wanted())]
        held += [number + text for text in self._told(event, now)]
        self._let_speak(step, now)

    def _told(self, event: Event, now: float) -> list[str]:
        if isinstance(event, Warned):
            return [f"WARN: {one_line(event.text)}"]
        if isinstance(event, Transfer):
            return self._moved(self.trace.steps[event.step].moved[event.text], now)
        if isinstance(event, Failed):
            return ["CANCELED" if event.cancelled else f"ERROR: {one_line(event.error.message)}"]
        if isinstance(event, Finished):
            return ["CACHED" if event.cached else f"DONE {event.seconds:.1f}s"]
        return []

    @staticmethod
    def _moved(moved: Moved, now: float) -> list[str]:
        """A line for every twentieth of a transfer, or every five seconds."""
        grown = moved.current - max(moved.shown, 0)
        is_whole = moved.total and moved.current >= moved.total
        is_due = grown >= moved.total * _STEP_OF_PROGRESS if moved.total else False
        if moved.shown >= 0 and not is_whole and not is_due and now - moved.shown_at < _PATIENCE:
            return []
        if moved.shown == moved.current:
            return []
        moved.shown, moved.shown_at = moved.current, now
        size = amount(moved.current, moved.total)
        took = now - moved.began
        time_taken = f"{took:.1f}s" if took > 0.01 else ""
        done = "done" if is_whole else ""
        return [" ".join(filter(None, (moved.text, size, time_taken, done)))]

    # --- whose turn it is ----------------------------------------------------

    def _let_speak(self, step: Step, now: float) -> None:
        current = self._current
        if step is current or current is None or step.is_done:
            self._print(step, now)
            self._print_waiting(now)
            return
        if now - self._spoke > _IDLE or now - self._since > _PATIENCE:
            self._print(step, now)

    def _print_waiting(self, now: float) -> None:
        """Nobody speaks: the next that has something to say does."""
        for number, texts in list(self._held.items()):
            if self._current is None and texts:
                self._print(self.trace.steps[number], now)

    def _print(self, step: Step, now: float) -> None:
        lines: list[str] = []
        if step is not self._current:
            if self._current is not None:
                lines.append(f"#{self._current.number} ...")
            lines += [*([] if self._first else [""]), f"#{step.number} {step.title}"]
            self._first, self._current, self._since = False, step, now
        lines += self._held.pop(step.number, [])
        self._spoke = now
        if step.is_done:
            self._current = None
        self.write("".join(f"{line}\n" for line in lines))

    def finish(self) -> None:
        now = time.monotonic()
        for number in list(self._held):
            self._print(self.trace.steps[number], now)
        tell_warnings(self.trace, self.write)
