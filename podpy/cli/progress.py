"""The progress of a pull or push: bars on a terminal, a line per step anywhere else."""

from __future__ import annotations

import shutil
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from podpy.cli.output import note, safe, size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Report = Callable[[str, str, int, int], None]

_REDRAW_SECONDS = 0.1
_BAR = 24


@contextmanager
def shown(*, quiet: bool) -> Iterator[Report]:
    """A function ``report(item, step, done, total)`` that shows what is told to it.

    ``item`` is a layer (or the reference, for steps of the whole), ``step`` one
    word for what happens to it, ``done`` and ``total`` bytes (0: unknown).
    """
    if quiet:
        yield lambda item, step, done, total: None
    elif not sys.stderr.isatty():
        yield _Lines().report
    else:
        bars = _Bars()
        try:
            yield bars.report
        finally:
            bars.finish()


class _Lines:
    """Each step of each item once, for logs and pipes."""

    def __init__(self) -> None:
        self._told: set[tuple[str, str]] = set()

    def report(self, item: str, step: str, done: int, total: int) -> None:
        if (item, step) not in self._told:
            self._told.add((item, step))
            note(f"{item}: {step}")


class _Bars:
    """One line per item, redrawn in place."""

    def __init__(self) -> None:
        self._items: dict[str, tuple[str, int, int]] = {}
        self._drawn = 0
        self._last = 0.0

    def report(self, item: str, step: str, done: int, total: int) -> None:
        known = self._items.get(item)
        self._items[item] = (step, done, total)
        now = time.monotonic()
        if known is None or known[0] != step or now - self._last > _REDRAW_SECONDS:
            self._last = now
            self._draw()

    def finish(self) -> None:
        if self._items:
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
        text = safe(f"{item}: {step:<12}")
        if not total:
            return f"{text} {size(done)}" if done else text
        filled = min(_BAR, _BAR * done // total)
        bar = "=" * filled + ">" * (filled < _BAR) + " " * (_BAR - filled - 1)
        return f"{text} [{bar}] {size(done)}/{size(total)}"
