"""How the progress of a build is shown: which way, and where to.

Everything goes to standard error, or to the file that ``--logfile`` names.
"""

from __future__ import annotations

import os
import sys

from podpy.build.model import Loaded, Started
from podpy.cli.build_view import Quiet, View, to_stderr
from podpy.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from podpy.build.model import Event
    from podpy.cli.build_view import Write

MODES = ("auto", "plain", "tty", "rawjson", "quiet", "none")


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
        can_draw = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        return "tty" if can_draw and not to_file else "plain"
    return "quiet" if chosen == "none" else chosen


def shown(chosen: str, log: str = "", platforms: Sequence[str] = ()) -> View:
    """What a build reports to, a context manager that is drawn a last time at its end.

    With ``platforms`` each of them gets a ``log`` of its own.
    """
    if chosen == "tty":
        from podpy.cli.build_display import Display

        return Display()
    if len(platforms) > 1:
        return Split({platform: shown(chosen, _log_of(log, platform)) for platform in platforms})
    log = _log_of(log, *platforms)
    write = _appending(log) if log else to_stderr
    if chosen == "rawjson":
        from podpy.cli.build_json import RawJson

        return RawJson(write)
    if chosen == "quiet":
        return Quiet(write)
    from podpy.cli.build_plain import Plain

    return Plain(write)


def _log_of(log: str, platform: str = "") -> str:
    """``FILE_OS_ARCH``, as buildah calls it."""
    return "_".join((log, *platform.split("/"))) if platform else log


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


class Split(View):
    """``--logsplit``: each platform's steps in its log; what is of none is in all of them."""

    def __init__(self, views: Mapping[str, View]) -> None:
        super().__init__(to_stderr)
        self._views = views
        self._of_step: dict[int, View] = {}

    def __call__(self, event: Event) -> None:
        if isinstance(event, Started) and event.platform in self._views:
            self._of_step[event.step] = self._views[event.platform]
        step = 0 if isinstance(event, Loaded) else event.step
        view = self._of_step.get(step)
        for each in self._views.values() if view is None else (view,):
            each(event)

    def __exit__(self, *exc: Any) -> None:
        for view in self._views.values():
            view.__exit__(*exc)
