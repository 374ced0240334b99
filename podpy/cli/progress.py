"""The progress of a pull or push: bars on a terminal, a line per step anywhere else."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from podpy.cli import output
from podpy.cli.output import note, safe, size, warning
from podpy.engine.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator

_REDRAW_SECONDS = 0.1
_BAR = 24


class _Words:
    """What docker says of a pull."""

    waiting = "Waiting"
    moving = "Downloading"
    present = "Already exists"
    done = "Pull complete"

    @staticmethod
    def start(source: str) -> str:
        name, _, selector = source.partition("@")
        if not selector:
            name, _, selector = source.rpartition(":")
        return f"{selector}: Pulling from {name}"


class _PushWords(_Words):
    """What docker says of a push."""

    moving = "Pushing"
    present = "Layer already exists"
    done = "Pushed"

    @staticmethod
    def start(source: str) -> str:
        name = source.partition("@")[0]
        if ":" in name.rpartition("/")[2]:
            name = name.rpartition(":")[0]
        return f"The push refers to repository [{name}]"


def _ending(reference: str, digest: str, fresh: bool) -> tuple[str, str]:
    news = "Downloaded newer image" if fresh else "Image is up to date"
    return f"Digest: {digest}", f"Status: {news} for {reference}"


@contextmanager
def shown(*, quiet: bool, push: bool = False) -> Iterator[Progress]:
    """What a transfer reports to while it runs; it is drawn a last time at the end."""
    words = _PushWords() if push else _Words()
    if quiet:
        yield _Quiet()
    elif not sys.stderr.isatty():
        yield _Lines(words)
    else:
        bars = _Bars(words)
        try:
            yield bars
        finally:
            bars.finish()


def current() -> Progress:
    """The one progress of this process, for callers that cannot say when it ends."""
    if not _CURRENT:
        _CURRENT.append((_Bars if sys.stderr.isatty() else _Lines)(_Words()))
    return _CURRENT[0]


_CURRENT: list[Progress] = []


def _short(digest: str) -> str:
    return digest.partition(":")[2][:12]


class _Quiet(Progress):
    """Only what must not be missed."""

    def warn(self, text: str) -> None:
        warning(text)


class _Lines(_Quiet):
    """Each step once, for logs and pipes."""

    def __init__(self, words: _Words) -> None:
        self._words = words

    def trying(self, source: str) -> None:
        note(self._words.start(source))

    def missing(self, name: str) -> None:
        note(f"Unable to find image '{name}' locally")

    def pulled(self, reference: str, digest: str, *, fresh: bool) -> None:
        note("\n".join(_ending(reference, digest, fresh)))

    def blob(self, digest: str, size: int, *, present: bool) -> None:
        if present:
            note(f"{_short(digest)}: {self._words.present}")

    def done(self, digest: str) -> None:
        note(f"{_short(digest)}: {self._words.done}")


class _Bars(Progress):
    """One line per blob, redrawn in place; told from several threads."""

    def __init__(self, words: _Words) -> None:
        self._words = words
        self._lock = threading.Lock()
        self._items: dict[str, tuple[str, int, int]] = {}
        self._drawn = 0
        self._last = 0.0

    def trying(self, source: str) -> None:
        self._above(self._words.start(source))

    def missing(self, name: str) -> None:
        self._above(f"Unable to find image '{name}' locally")

    def pulled(self, reference: str, digest: str, *, fresh: bool) -> None:
        """The bars of this image are complete: what follows comes below them."""
        with self._lock:
            self._draw()
            self._items.clear()
            self._drawn = 0
        for text in _ending(reference, digest, fresh):
            self._above(text)

    def warn(self, text: str) -> None:
        if output.warnings:
            self._above(f"warning: {text}")

    def blob(self, digest: str, size: int, *, present: bool) -> None:
        step = self._words.present if present else self._words.waiting
        self._set(digest, step, 0, 0 if present else size)

    def advance(self, digest: str, count: int) -> None:
        _, done, total = self._items[digest]
        self._set(digest, self._words.moving, done + count, total)

    def done(self, digest: str) -> None:
        self._set(digest, self._words.done, 0, 0)

    def ask(self, question: str, answers: tuple[str, ...]) -> int:
        """The picked answer's index; asked again until it is one of the numbers."""
        lines = "".join(f"  {number}. {safe(text)}\n" for number, text in enumerate(answers, 1))
        while True:
            sys.stderr.write(f"{safe(question)}\n{lines}> ")
            sys.stderr.flush()
            reply = sys.stdin.readline()
            if not reply:
                return super().ask(question, answers)
            if reply.strip().isdigit() and 0 < int(reply) <= len(answers):
                return int(reply) - 1

    def finish(self) -> None:
        with self._lock:
            self._draw()

    def _set(self, digest: str, step: str, done: int, total: int) -> None:
        with self._lock:
            known = self._items.get(digest)
            self._items[digest] = (step, done, total)
            now = time.monotonic()
            if known is None or known[0] != step or now - self._last > _REDRAW_SECONDS:
                self._last = now
                self._draw()

    def _above(self, text: str) -> None:
        """A line that stays, above the bars."""
        with self._lock:
            up = f"\x1b[{self._drawn}A\x1b[J" if self._drawn else ""
            sys.stderr.write(f"{up}{safe(text)}\n")
            self._drawn = 0
            self._draw()

    def _draw(self) -> None:
        columns, rows = shutil.get_terminal_size()
        lines = [self._line(item)[: columns - 1] for item in self._items][-(rows - 1) :]
        up = f"\x1b[{self._drawn}A" if self._drawn else ""
        sys.stderr.write(up + "".join(f"\r{line}\x1b[K\n" for line in lines))
        sys.stderr.flush()
        self._drawn = len(lines)

    def _line(self, item: str) -> str:
        step, done, total = self._items[item]
        text = safe(f"{_short(item)}: {step:<14}")
        if not total:
            return f"{text} {size(done)}" if done else text
        filled = min(_BAR, _BAR * done // total)
        bar = "=" * filled + ">" * (filled < _BAR) + " " * (_BAR - filled - 1)
        return f"{text} [{bar}] {size(done)}/{size(total)}"
