"""The progress of a build as text: plain lines as BuildKit's, JSON, or nothing.

:func:`shown` chooses; the display of a terminal is :mod:`podpy.cli.build_display`.
Everything goes to standard error, or to the file that ``--logfile`` names.
"""

from __future__ import annotations

import os
import sys
import time

from podpy.build.model import Failed, Finished, Loaded, Output, Started, Transfer, Warned
from podpy.cli import output
from podpy.cli.build_steps import Trace
from podpy.cli.build_text import amount, base64, line_of, one_line, seconds
from podpy.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from podpy.build.model import Event
    from podpy.cli.build_steps import Moved, Step

    Write = Callable[[str], None]

MODES = ("auto", "plain", "tty", "rawjson", "quiet", "none")
_PATIENCE = 5.0  # seconds that one step's output keeps others' waiting
_IDLE = 1.0  # seconds of silence after which another step's output gets its turn
_STEP_OF_PROGRESS = 0.05


def mode(asked: str, *, quiet: bool, to_file: bool) -> str:
    """What is shown: ``--progress``, else BUILDKIT_PROGRESS, else what the terminal allows."""
    chosen = asked or os.environ.get("BUILDKIT_PROGRESS", "") or "auto"
    if chosen not in MODES:
        name = "--progress" if asked else "BUILDKIT_PROGRESS"
        raise UsageError(f"{name}: unknown {chosen!r}", hint=f"known: {', '.join(MODES)}")
    if quiet:
        return "quiet"
    if chosen == "tty" and (to_file or not sys.stderr.isatty()):
        raise UsageError("--progress tty: standard error is no terminal", hint="use plain or auto")
    if chosen == "auto":
        return "tty" if sys.stderr.isatty() and not to_file else "plain"
    return "quiet" if chosen == "none" else chosen


def shown(chosen: str, log: str = "", *, split: bool = False) -> View:
    """What a build reports to, a context manager that is drawn a last time at its end."""
    if chosen == "tty":
        from podpy.cli.build_display import Display

        return Display()
    if split:
        return Split(log, chosen)
    write = _appending(log) if log else to_stderr
    return {"plain": Plain, "rawjson": RawJson, "quiet": Quiet}[chosen](write)


def to_stderr(text: str) -> None:
    """At once, and after what standard output was told before."""
    sys.stdout.flush()
    sys.stderr.write(text)
    sys.stderr.flush()


def _appending(path: str) -> Write:
    """Writes to a fresh file, each text at once."""
    try:
        file = open(path, "w", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
    except OSError as error:
        raise UsageError(f"--logfile: {path}: {error.strerror}") from None

    def write(text: str) -> None:
        file.write(text)
        file.flush()

    return write


class View:
    """Called with each event of a build; a context manager around it."""

    def __init__(self, write: Write) -> None:
        self.write = write
        self.trace = Trace()

    def __enter__(self) -> View:
        return self

    def __exit__(self, *exc: Any) -> None:
        self.finish()
        if exc[1] is not None and not isinstance(exc[1], KeyboardInterrupt):
            self.write("".join(f"{line}\n" for line in failure(self.trace)))

    def __call__(self, event: Event) -> None:
        raise NotImplementedError(type(self).__name__)

    def finish(self) -> None:
        """The build is over; show what was not shown yet."""


def failure(trace: Trace) -> Iterator[str]:
    """What failed, the end of its output, and the lines of the Dockerfile it stands in."""
    for step in trace.failures():
        yield "------"
        yield f" > {step.title}:"
        for when, data in step.lines:
            yield f"{seconds(when)} {line_of(data, colours=colours())}"
        yield "------"
        yield from trace.excerpt(step)


def colours() -> bool:
    """NO_COLOR (no-color.org): any value but the empty one turns colours off."""
    return not os.environ.get("NO_COLOR")


class Quiet(View):
    """Nothing but what failed, and what was wrong before."""

    def __call__(self, event: Event) -> None:
        self.trace.take(event, time.monotonic())

    def __exit__(self, *exc: Any) -> None:
        if exc[0] is not None:
            tell_warnings(self.trace, self.write)
        super().__exit__(*exc)


class Plain(View):
    """Every step's output behind its number; one step at a time, as far as that is possible."""

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
        if isinstance(event, Loaded):
            return
        if isinstance(event, Warned):
            if not event.step:
                return
            texts = [f"WARN: {one_line(event.text)}"]
        else:
            texts = [f"{seconds(when)} {line_of(data, colours=colours())}" for when, data in lines]
            texts += self._told(event, now)
        step = self.trace.steps.get(event.step)
        if step is None:
            return
        self._held.setdefault(step.number, []).extend(f"#{step.number} {text}" for text in texts)
        self._let_speak(step, now)

    def _told(self, event: Event, now: float) -> list[str]:
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


def tell_warnings(trace: Trace, write: Write) -> None:
    """What concerns the whole build, after all else."""
    texts = [one_line(warned.text) for warned in trace.warnings if not warned.step]
    if not texts or not output.warnings:
        return
    count = f"{len(texts)} warning{'s' if len(texts) > 1 else ''} found"
    write("".join(f"{line}\n" for line in ("", f" {count}:", *(f" - {text}" for text in texts))))


class RawJson(View):
    """Objects like BuildKit's ``SolveStatus``, one on a line (client/graph.go has the fields)."""

    def __init__(self, write: Write) -> None:
        super().__init__(write)
        self._clock = time.time() - time.monotonic()
        self._sent = 0

    def __exit__(self, *exc: object) -> None:
        """The last status has the error; text would not be JSON."""

    def __call__(self, event: Event) -> None:
        now = time.monotonic()
        self.trace.take(event, now)
        if isinstance(event, Loaded):
            return
        step = self.trace.steps.get(event.step)
        digest = self._digest(step) if step else ""
        stamp = self._stamp(now)
        if isinstance(event, Warned):
            self._send("warnings", {"vertex": digest, "level": 1, "short": base64(event.text)})
        elif step is None:
            return
        elif isinstance(event, Output):
            data = {"vertex": digest, "stream": event.stream, "data": base64(event.data)}
            self._send("logs", {**data, "timestamp": stamp})
        elif isinstance(event, Transfer):
            self._send("statuses", self._status(step.moved[event.text], digest, stamp))
        else:
            self._send("vertexes", self._vertex(step, digest))

    def _vertex(self, step: Step, digest: str) -> dict[str, Any]:
        vertex: dict[str, Any] = {"digest": digest, "name": step.title}
        vertex["started"] = self._stamp(step.began)
        if step.is_done:
            vertex["completed"] = self._stamp(step.began + step.seconds)
        if step.cached:
            vertex["cached"] = True
        if step.error:
            vertex["error"] = "context canceled" if step.cancelled else step.error
        return vertex

    def _status(self, moved: Moved, digest: str, stamp: str) -> dict[str, Any]:
        status: dict[str, Any] = {"id": moved.text, "vertex": digest, "current": moved.current}
        if moved.total:
            status["total"] = moved.total
        status |= {"timestamp": stamp, "started": self._stamp(moved.began)}
        if moved.total and moved.current >= moved.total:
            status["completed"] = stamp
        return status

    def _digest(self, step: Step) -> str:
        import hashlib

        return f"sha256:{hashlib.sha256(f'{step.number} {step.title}'.encode()).hexdigest()}"

    def _stamp(self, moment: float) -> str:
        return output.rfc3339(self._clock + moment)

    def _send(self, kind: str, value: dict[str, Any]) -> None:
        from podpy import files

        self.write(files.dumps({kind: [value]}) + "\n")


class Split(View):
    """``--logsplit``: a log per platform, ``FILE_OS_ARCH``; what is of none is in all of them."""

    def __init__(self, log: str, chosen: str) -> None:
        super().__init__(to_stderr)
        self._log = log
        self._chosen = chosen
        self._views: dict[str, View] = {}
        self._platforms: dict[int, str] = {}
        self._common: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.trace.take(event, time.monotonic())
        if isinstance(event, Started) and event.platform:
            self._platforms[event.step] = event.platform
            if event.platform not in self._views:
                self._open(event.platform)
        platform = "" if isinstance(event, Loaded) else self._platforms.get(event.step, "")
        if platform:
            self._views[platform](event)
            return
        self._common.append(event)
        for view in self._views.values():
            view(event)

    def _open(self, platform: str) -> None:
        path = "_".join((self._log, *platform.split("/")))
        view = self._views[platform] = shown(self._chosen, path)
        for event in self._common:
            view(event)

    def __exit__(self, *exc: Any) -> None:
        for view in self._views.values():
            view.__exit__(*exc)
        if not self._views:  # nothing was built for any platform
            with open(self._log, "w", encoding="utf-8"):
                pass
