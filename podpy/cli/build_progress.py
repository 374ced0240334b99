"""How the progress of a build is shown: which way, and where to.

Everything goes to standard error, or to the file that ``--logfile`` names.
"""

from __future__ import annotations

import os
import sys
import time

from podpy.build.model import Loaded, Started
from podpy.cli.build_view import Quiet, View, to_stderr
from podpy.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
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
    if chosen == "rawjson":
        from podpy.cli.build_json import RawJson

        return RawJson(write)
    if chosen == "quiet":
        return Quiet(write)
    from podpy.cli.build_plain import Plain

    return Plain(write)


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
