"""The use cases ``logs`` and ``attach``: what containers print, past and present."""

from __future__ import annotations

import os
import time

from podpy.engine import values
from podpy.errors import HostError, StateError, UsageError
from podpy.files import write_all
from podpy.kernel.loop import IN, Loop
from podpy.records import record
from podpy.runtime import attach as runtime_attach
from podpy.runtime import frames
from podpy.runtime.logreader import PARSERS, LogFile
from podpy.storage import containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from podpy.engine.context import Context
    from podpy.engine.journal import Journal
    from podpy.model import Container, ContainerRecord
    from podpy.paths import Store
    from podpy.runtime.logreader import Run

    #: receives output: 1 or 2 for the stream, and bytes
    Write = Callable[[int, bytes], None]

JOURNAL_SOCKET = "/run/systemd/journal/socket"
_COLORS = (b"\033[36m", b"\033[33m", b"\033[32m", b"\033[35m", b"\033[34m", b"\033[31m")
_PLAIN = b"\033[0m"


@record
class LogOptions:
    """How to show logs.

    ``since`` and ``until`` are RFC 3339 times, seconds since the epoch or
    durations before now; ``tail`` is a number of lines or ``all``.
    """

    follow: bool = False
    since: str = ""
    until: str = ""
    tail: str = "all"
    timestamps: bool = False
    names: bool = False
    color: bool = False


def logs(ctx: Context, names: Sequence[str], options: LogOptions, write: Write = write_all) -> None:
    """Show the logs of containers; with ``follow``, until the last of them has ended.

    Lines are marked with the container's name (``names``) or, where there are
    several containers, with its short id.
    """
    if not names:
        raise UsageError("you must provide at least one container name or id")
    found = [containers.resolve(ctx.store, name) for name in names]
    bounds = _bounds(options)
    sources = []
    for number, container in enumerate(found):
        printer = _Printer(_label(container, number, len(found), options), options, write)
        sources.append(_Source(ctx.store, container, bounds, printer))
    if options.follow:
        _Follower(ctx.store, sources, options.until).run()
    else:
        for source in sources:
            source.show()


def attach(
    ctx: Context,
    name: str,
    *,
    stdin: bool = True,
    sig_proxy: bool = True,
    detach_keys: str | None = None,
) -> int:
    """Be a terminal of a running container; its exit code, 0 after detaching.

    ``detach_keys`` None means the container's own, an empty text none.
    """
    container = containers.resolve(ctx.store, name)
    about, state = container.record, container.state
    if state.status == "paused":
        raise StateError(
            f"container {about.name}: is paused: you cannot attach to it",
            hint=f"`podpy unpause {about.name}`",
        )
    if state.status != "running":
        raise StateError(
            f"container {about.name}: is {state.status}: you can only attach to running containers",
            hint=f"`podpy start --attach {about.name}`",
        )
    if about.log.driver == "passthrough":
        raise StateError(
            f"container {about.name}: log driver passthrough: its output is not podpy's to show"
        )
    stdin = stdin and about.interactive
    fd = runtime_attach.connect(
        ctx.store.container_run(about.id), "ioe" if stdin else "oe", state.supervisor
    )
    result = runtime_attach.client(
        fd,
        tty=about.tty,
        stdin=stdin,
        sig_proxy=sig_proxy,
        detach_keys=about.detach_keys if detach_keys is None else detach_keys,
    )
    if result.detached:
        return 0
    if result.exit_code is not None:
        return result.exit_code
    from podpy.engine import ending

    settled = ending.settle(ctx.store, about)  # the supervisor was killed
    return settled.exit_code if settled else 128 + ending.SIGKILL


def require_driver(driver: str) -> None:
    """:class:`HostError` where this host lacks what a log driver needs."""
    if driver == "journald" and not os.path.exists(JOURNAL_SOCKET):
        raise HostError(
            f"log driver journald: no journal listens at {JOURNAL_SOCKET}",
            hint="use --log-driver k8s-file, or start systemd-journald",
        )


# --- what is asked for -------------------------------------------------------


@record
class _Bounds:
    since: bytes
    until: bytes
    tail: int


def _bounds(options: LogOptions) -> _Bounds:
    return _Bounds(
        since=_stamp(options.since, "--since"),
        until=_stamp(options.until, "--until"),
        tail=_line_count(options.tail),
    )


def _line_count(text: str) -> int:
    if text in ("", "all"):
        return -1
    return values.integer(text, "--tail", lowest=-(2**31))


def _instant(text: str, option: str) -> tuple[int, str]:
    """A time as whole seconds and nine digits, exact where it was given so.

    The time stamp that ``logs -t`` shows must find its own line again.
    """
    fraction = ""
    if text[19:20] == "." and text[4:5] == "-":
        digits = len(text[20:]) - len(text[20:].lstrip("0123456789"))
        fraction = text[20 : 20 + digits]
        text = text[:19] + text[20 + digits :]
    moment = values.moment(text, option, time.time())
    whole, _, decimals = text.partition(".")
    if not fraction:
        exact = (whole + decimals).isdigit()
        fraction = decimals if exact else f"{moment % 1:.9f}"[2:]
    return int(moment // 1), f"{fraction[:9]:0<9}"


def _stamp(text: str, option: str) -> bytes:
    """A time as it stands in logs."""
    if not text:
        return b""
    seconds, fraction = _instant(text, option)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{fraction}Z".encode()


def _label(container: Container, number: int, total: int, options: LogOptions) -> bytes:
    if options.names:
        label = container.record.name.encode()
    elif total > 1:
        label = container.record.id[:12].encode()
    else:
        return b""
    color = _COLORS[number % len(_COLORS)]
    return color + label + _PLAIN + b" " if options.color else label + b" "


class _Printer:
    """Writes runs of lines to the streams they were printed on."""

    def __init__(self, label: bytes, options: LogOptions, write: Write) -> None:
        self._label = label
        self._timestamps = options.timestamps
        self._write = write
        self._within = {1: False, 2: False}  # a line was begun and not ended

    def show(self, runs: Iterable[Run]) -> None:
        for stream, stamp, text in runs:
            mark = self._label + stamp + b" " if self._timestamps else self._label
            self._write(stream, self._marked(stream, text, mark) if mark else text)

    def _marked(self, stream: int, text: bytes, mark: bytes) -> bytes:
        """``text`` with ``mark`` before every line that begins in it."""
        is_whole = text.endswith(b"\n")
        marked = text[: -1 if is_whole else None].replace(b"\n", b"\n" + mark)
        if not self._within[stream]:
            marked = mark + marked
        self._within[stream] = not is_whole
        return marked + b"\n" if is_whole else marked


# --- where it comes from -----------------------------------------------------


class _Source:
    """One container's log on its way to the user."""

    def __init__(
        self, store: Store, container: Container, bounds: _Bounds, printer: _Printer
    ) -> None:
        self.container = container
        self._log = _open_log(store, container.record, bounds)
        self._printer = printer

    def show(self) -> None:
        """Print what has been logged since the last time."""
        self._printer.show(self._log.runs())

    def close(self) -> None:
        self._log.close()


def _open_log(store: Store, about: ContainerRecord, bounds: _Bounds) -> LogFile | Journal:
    driver = about.log.driver
    if driver in PARSERS:
        path = about.log.path or f"{store.container(about.id)}/log/ctr.log"
        return LogFile(path, driver, since=bounds.since, until=bounds.until, tail=bounds.tail)
    if driver == "journald":
        from podpy.engine.journal import Journal

        return Journal(about.id, bounds.since, bounds.until, bounds.tail)
    raise StateError(
        f"container {about.name}: log driver {driver} keeps no log: it does not support reading",
        hint="k8s-file, json-file and journald do: --log-driver",
    )


class _Follower:
    """Prints what comes, told by the supervisors when there is something, and when it is over."""

    def __init__(self, store: Store, sources: Sequence[_Source], until: str) -> None:
        self._store = store
        self._loop = Loop()
        self._watched: dict[int, _Source] = {}
        seconds, fraction = _instant(until, "--until") if until else (0, "0")
        self._end = seconds + float(f"0.{fraction}")
        for source in sources:
            # First the subscription, then the log: nothing falls between the two.
            self._subscribe(source)
            source.show()

    def run(self) -> None:
        while self._watched:
            left = self._end - time.time() if self._end else None
            if left is not None and (left <= 0 or not self._loop.turn(left)):
                return
            if left is None:
                self._loop.turn()

    def _subscribe(self, source: _Source) -> None:
        about, state = source.container.record, source.container.state
        if not state.status.is_live:
            return
        try:
            fd = runtime_attach.connect(self._store.container_run(about.id), "w", state.supervisor)
        except StateError:
            return  # it has just ended: what it printed is in the log
        os.set_blocking(fd, False)
        self._watched[fd] = source
        self._loop.watch(fd, IN, self._on_news)

    def _on_news(self, fd: int, _events: int) -> None:
        source = self._watched[fd]
        is_over = _is_over(fd)
        source.show()
        if is_over:
            self._loop.forget(fd)
            del self._watched[fd]
            os.close(fd)
            source.close()


def _is_over(fd: int) -> bool:
    """Take all the news there are; True when they are the last."""
    try:
        while news := os.read(fd, 64):
            if news[:1] in (frames.EXITED, frames.REFUSED):
                return True
    except BlockingIOError:
        return False
    except ConnectionResetError:
        pass
    return True
