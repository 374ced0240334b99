"""What every way to show a build has in common, and the one that shows nothing but failures."""

from __future__ import annotations

import sys
import time

from podpy.cli import output
from podpy.cli.build_colours import wanted
from podpy.cli.build_steps import KEPT_LINES, Trace
from podpy.cli.build_text import line_of, one_line, seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from podpy.build.model import Event

    Write = Callable[[str], None]


def to_stderr(text: str) -> None:
    """At once, and after what standard output was told before."""
    sys.stdout.flush()
    sys.stderr.write(text)
    sys.stderr.flush()


class View:
    """Called with each event of a build; a context manager around it.

    ``repeated`` is how many lines of output are shown again with what failed.
    """

    repeated = KEPT_LINES

    def __init__(self, write: Write) -> None:
        self.write = write
        self.trace = Trace()

    def __enter__(self) -> View:
        return self

    def __exit__(self, *exc: Any) -> None:
        self.finish()
        if exc[1] is not None and not isinstance(exc[1], KeyboardInterrupt):
            self.write("".join(f"{line}\n" for line in failure(self.trace, self.repeated)))

    def __call__(self, event: Event) -> None:
        self.trace.take(event, time.monotonic())

    def finish(self) -> None:
        """The build is over; show what was not shown yet."""


class Quiet(View):
    """Nothing but what failed, and what was wrong before."""

    def __exit__(self, *exc: Any) -> None:
        if exc[0] is not None:
            tell_warnings(self.trace, self.write)
        super().__exit__(*exc)


def failure(trace: Trace, most: int) -> Iterator[str]:
    """What failed, the end of its output, and the lines of the Dockerfile it stands in."""
    for step in trace.failures():
        yield "------"
        yield f" > {step.title}:"
        for when, data in step.lines[-most:]:
            yield f"{seconds(when)} {line_of(data, colours=wanted())}"
        yield "------"
        yield from trace.excerpt(step)


def tell_warnings(trace: Trace, write: Write) -> None:
    """What concerns the whole build, after all else."""
    texts = [one_line(warned.text) for warned in trace.warnings if not warned.step]
    if not texts or not output.warnings:
        return
    count = f"{len(texts)} warning{'s' if len(texts) > 1 else ''} found"
    write("".join(f"{line}\n" for line in ("", f" {count}:", *(f" - {text}" for text in texts))))
