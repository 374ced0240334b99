"""What is known of a running build: its steps, kept up to date by its events."""

from __future__ import annotations

import time

from podpy.build.model import Failed, Finished, Loaded, Output, Started, Transfer, Warned
from podpy.cli.build_text import line_of, one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from podpy.build.model import Event

KEPT_LINES = 100
#: Bytes of a line without an end that are waited for: more is shown as several lines.
_LONGEST = 1 << 16
_CONTEXT = 2


class Moved:
    """A download or an export within a step."""

    __slots__ = ("began", "current", "seconds", "shown", "shown_at", "text", "total")

    def __init__(self, text: str, now: float) -> None:
        self.text = one_line(text)
        self.began = now
        self.current = self.total = 0
        self.shown = -1
        self.shown_at = 0.0
        self.seconds = -1.0


class Step:
    """A step as far as it is; ``lines`` are the last of its output, each with its second."""

    __slots__ = (
        "began", "cached", "cancelled", "error", "lines", "moved", "number", "partial", "platform",
        "seconds", "source", "title",
    )  # fmt: skip

    def __init__(self, event: Started, now: float) -> None:
        self.number = event.step
        self.title = title(event)
        self.platform = event.platform
        self.began = now
        self.seconds = -1.0
        self.cached = self.cancelled = False
        self.error = ""
        self.lines: list[tuple[float, bytes]] = []
        self.partial: dict[int, bytes] = {}
        self.moved: dict[str, Moved] = {}
        self.source = (0, 0)

    @property
    def is_done(self) -> bool:
        return self.seconds >= 0

    def elapsed(self, now: float) -> float:
        return self.seconds if self.is_done else now - self.began

    def write(self, event: Output, now: float) -> list[bytes]:
        """The lines that output completes."""
        data = self.partial.pop(event.stream, b"") + event.data
        *whole, rest = data.split(b"\n")
        if len(rest) > _LONGEST:
            whole, rest = [*whole, rest], b""
        if rest:
            self.partial[event.stream] = rest
        return self._keep(whole, now)

    def flush(self, now: float) -> list[bytes]:
        """The lines that nobody ended, when the step is over."""
        left = [data for _, data in sorted(self.partial.items())]
        self.partial.clear()
        return self._keep(left, now)

    def _keep(self, whole: list[bytes], now: float) -> list[bytes]:
        timed = [(now - self.began, data) for data in whole[-KEPT_LINES:]]
        self.lines = (self.lines + timed)[-KEPT_LINES:] if timed else self.lines
        return whole

    def tail(self, count: int) -> list[str]:
        """The last lines that show anything, without colours; a line still being written too."""
        if count <= 0:
            return []
        parts = [data for _, data in self.lines] + list(self.partial.values())
        shown = [line_of(data).expandtabs() for data in parts[-4 * count :]]
        return [text for text in shown if text.strip()][-count:]


def title(event: Started) -> str:
    """``[build 2/3] RUN make``: stage and position as BuildKit writes them."""
    text = one_line(event.text)
    place, total = event.position
    if not total:
        return text
    number = f"{place:>{len(str(total))}}/{total}"
    return f"[{' '.join(filter(None, (event.platform, event.stage, number)))}] {text}"


class Trace:
    """All steps in the order they began, the Dockerfile, and what the user is warned of."""

    def __init__(self) -> None:
        self.steps: dict[int, Step] = {}
        self.warnings: list[Warned] = []
        self.began = time.monotonic()
        self._lines: tuple[str, ...] = ()
        self._name = ""
        self._stages: dict[tuple[str, str], list[int]] = {}

    def take(self, event: Event, now: float) -> list[bytes]:
        """Note an event; the lines of output that are complete by it."""
        if isinstance(event, Loaded):
            self._name, self._lines = event.name, event.lines
            return []
        if isinstance(event, Warned):
            self.warnings.append(event)
            return []
        if isinstance(event, Started):
            return self._start(event, now)
        step = self.steps.get(event.step)
        if step is None:
            return []
        if isinstance(event, Output):
            return step.write(event, now)
        if isinstance(event, Transfer):
            moved = step.moved.setdefault(event.text, Moved(event.text, now))
            moved.current, moved.total = event.current, event.total
            return []
        return _end(step, event, now)

    def _start(self, event: Started, now: float) -> list[bytes]:
        if event.step not in self.steps:
            self.steps[event.step] = Step(event, now)
            place, total = event.position
            known = self._stages.setdefault((event.platform, event.stage), [0, 0])
            known[:] = max(known[0], place), max(known[1], total)
        return []

    @property
    def done(self) -> int:
        return sum(step.is_done for step in self.steps.values())

    @property
    def total(self) -> int:
        """The steps that are known of: those that began, and the rest of their stages."""
        return len(self.steps) + sum(total - place for place, total in self._stages.values())

    def failures(self) -> list[Step]:
        return [step for step in self.steps.values() if step.error and not step.cancelled]

    def excerpt(self, step: Step) -> list[str]:
        """The lines of the Dockerfile that a step stands in."""
        return excerpt(self._name, self._lines, *step.source)


def excerpt(name: str, file: Sequence[str], first: int, last: int) -> list[str]:
    """The lines ``first`` to ``last`` of a Dockerfile, marked, with two before and after."""
    if not 0 < first <= len(file):
        return []
    low = max(1, first - _CONTEXT)
    high = min(len(file), max(first, last) + _CONTEXT)
    lines = [f"{one_line(name)}:{first}", "-" * 20]
    for number in range(low, high + 1):
        mark = ">>> " if first <= number <= last else "    "
        text = line_of(file[number - 1].encode("utf-8", "surrogateescape"))
        lines.append(f" {number:>3} | {mark}{text}".rstrip())
    return [*lines, "-" * 20]


def _end(step: Step, event: Finished | Failed, now: float) -> list[bytes]:
    step.seconds = event.seconds
    if isinstance(event, Failed):
        step.error = event.error.message
        step.cancelled = event.cancelled
        step.source = event.lines
    else:
        step.cached = event.cached
    return step.flush(now)
