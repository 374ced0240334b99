"""The processes of a container, read from the host's ``/proc``.

No program of the container runs and nothing of it is trusted: the columns are
those of ps(1), computed here.
"""

from __future__ import annotations

import os
import time

from podpy.errors import UsageError
from podpy.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from podpy.model import Container

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGESIZE")
_DEFAULT = ("uid", "pid", "ppid", "c", "stime", "tty", "time", "cmd")
_PS_FORMS = {
    "-ef": _DEFAULT,
    "ef": _DEFAULT,
    "-e": ("pid", "tty", "time", "comm"),
    "aux": ("user", "pid", "pcpu", "pmem", "vsz", "rss", "tty", "stat", "start", "time", "args"),
}  # fmt: skip
#: What podman's descriptors mean: the container's view.
_INSIDE = {"pid": "cpid", "ppid": "cppid", "user": "cuser", "uid": "cuser", "group": "cgroup"}


@record
class Process:
    """What ``/proc/PID`` says about one process."""

    pid: int
    name: str
    state: str
    ppid: int
    pgid: int
    session: int
    tty: int
    nice: int
    utime: int
    stime: int
    started: int
    vsize: int
    rss: int
    command: str
    status: dict[str, str]


def table(container: Container, columns: Sequence[str]) -> list[list[str]]:
    """Titles, then a row per process.

    ``columns`` are podman's descriptors (``pid`` is the container's number,
    ``hpid`` the host's), or ps options as docker takes them: ``-ef``, ``aux``,
    ``-o LIST`` with the host's numbers; ``-ef`` when there are none.
    """
    chosen = _columns([word for text in columns for word in text.split()])
    found = members(container)
    pids = {process.pid: process for process in found}
    view = _View(container.state.init.pid if container.state.init else 0, pids)
    return [
        [_COLUMNS[name][0] for name in chosen],
        *([_COLUMNS[name][1](view, process) for name in chosen] for process in found),
    ]


def _columns(words: list[str]) -> tuple[str, ...]:
    if not words:
        return _DEFAULT
    if len(words) == 1 and words[0] in _PS_FORMS:
        return _PS_FORMS[words[0]]
    inside = not (words[0].startswith("-") and words[0].endswith("o") and len(words) > 1)
    if not inside:
        words = words[1:]
    names = [name for word in words for name in word.split(",") if name]
    for name in names:
        if name not in _COLUMNS:
            raise UsageError(
                f"top: unknown descriptor {name!r}",
                hint=f"{', '.join(sorted(_COLUMNS))}; or -ef, aux, -o LIST",
            )
    return tuple(_INSIDE.get(name, name) if inside else name for name in names)


def members(container: Container) -> list[Process]:
    """The processes in the container's pid namespace; with ``--pid=host``, its tree."""
    init = container.state.init
    if init is None:
        return []
    every = [found for found in map(read, _pids()) if found is not None]
    if container.record.pid_mode == "private":
        wanted = _namespace(init.pid)
        return [found for found in every if wanted and _namespace(found.pid) == wanted]
    return _descendants(init.pid, every)


def _pids() -> list[int]:
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())


def _namespace(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""


def _descendants(root: int, every: list[Process]) -> list[Process]:
    family = {root}
    for process in sorted(every, key=lambda p: p.started):
        if process.ppid in family:
            family.add(process.pid)
    return [process for process in every if process.pid in family]


def read(pid: int) -> Process | None:
    """One process; None when it ended meanwhile."""
    try:
        stat = _text(f"/proc/{pid}/stat")
        status = _text(f"/proc/{pid}/status")
        command = _text(f"/proc/{pid}/cmdline")
    except OSError:
        return None
    name = stat[stat.index("(") + 1 : stat.rindex(")")]
    field = stat[stat.rindex(")") + 2 :].split()
    return Process(
        pid=pid, name=name, state=field[0], ppid=int(field[1]), pgid=int(field[2]),
        session=int(field[3]), tty=int(field[4]), utime=int(field[11]), stime=int(field[12]),
        nice=int(field[16]), started=int(field[19]), vsize=int(field[20]), rss=int(field[21]),
        command=command.replace("\0", " ").strip() or f"[{name}]",
        status=dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line),
    )  # fmt: skip


def _text(path: str) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 1 << 20).decode(errors="replace")
    finally:
        os.close(fd)


# --- columns -----------------------------------------------------------------


class _View:
    """What columns need beside their process: the other processes, and the clocks."""

    def __init__(self, init: int, pids: dict[int, Process]) -> None:
        self.init = init
        self.pids = pids
        self._maps: dict[str, list[list[int]]] = {}
        self.uptime = float(_text("/proc/uptime").split()[0])
        self.memory = os.sysconf("SC_PHYS_PAGES")

    def inside(self, number: str, kind: str) -> str:
        """The container's own number for a host id; ``root`` for 0, ``?`` where it has none."""
        if kind not in self._maps:
            text = _text(f"/proc/{self.init}/{kind}_map")
            self._maps[kind] = [[int(word) for word in line.split()] for line in text.splitlines()]
        for inner, outer, count in self._maps[kind]:
            if outer <= int(number) < outer + count:
                return str(inner + int(number) - outer) if inner + int(number) > outer else "root"
        return "?"

    def age(self, process: Process) -> float:
        return max(self.uptime - process.started / _TICKS, 0.0)

    def cpu(self, process: Process) -> float:
        age = self.age(process)
        return 100 * (process.utime + process.stime) / _TICKS / age if age else 0.0


def _inner_pid(view: _View, pid: int) -> str:
    """The number inside the container: the last of ``NSpid``."""
    other = view.pids.get(pid)
    return other.status.get("NSpid", "0").split()[-1] if other else "0"


def _hidden(text: str) -> str:
    """Text of the container on the caller's terminal: without control characters."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _ids(process: Process, key: str, which: int) -> str:
    return process.status.get(key, "").split()[which]


def _tty(process: Process) -> str:
    if not process.tty:
        return "?"
    major, minor = os.major(process.tty), os.minor(process.tty)
    return f"pts/{minor}" if 136 <= major <= 143 else f"tty{minor}"


def _span(seconds: float) -> str:
    """``[[dd-]hh:]mm:ss``, ps(1)'s elapsed time."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}-{hours:02}:{minutes:02}:{rest:02}"
    return f"{hours:02}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"


def _cpu_time(process: Process) -> str:
    minutes, seconds = divmod((process.utime + process.stime) // _TICKS, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}"


def _clock(view: _View, process: Process) -> str:
    return time.strftime("%H:%M", time.localtime(time.time() - view.age(process)))


def _capabilities(process: Process, key: str) -> str:
    from podpy.kernel import capabilities

    names = capabilities.names(int(process.status.get(key, "0"), 16))
    if len(names) == len(capabilities.supported()):
        return "full"
    return ",".join(name.removeprefix("CAP_") for name in names) or "none"


def _namespace_of(kind: str) -> Callable[[_View, Process], str]:
    def column(view: _View, process: Process) -> str:
        try:
            return os.readlink(f"/proc/{process.pid}/ns/{kind}").strip(f"{kind}:[]")
        except OSError:
            return "?"

    return column


_COLUMNS: dict[str, tuple[str, Callable[[_View, Process], str]]] = {
    "args": ("COMMAND", lambda v, p: _hidden(p.command)),
    "c": ("C", lambda v, p: str(int(v.cpu(p)))),
    "capbnd": ("BOUNDING CAPS", lambda v, p: _capabilities(p, "CapBnd")),
    "capeff": ("EFFECTIVE CAPS", lambda v, p: _capabilities(p, "CapEff")),
    "capinh": ("INHERITED CAPS", lambda v, p: _capabilities(p, "CapInh")),
    "capprm": ("PERMITTED CAPS", lambda v, p: _capabilities(p, "CapPrm")),
    "cmd": ("CMD", lambda v, p: _hidden(p.command)),
    "comm": ("COMMAND", lambda v, p: _hidden(p.name)),
    "etime": ("ELAPSED", lambda v, p: _span(v.age(p))),
    "group": ("GROUP", lambda v, p: _ids(p, "Gid", 1)),
    "hgroup": ("HGROUP", lambda v, p: _ids(p, "Gid", 1)),
    "hpid": ("HPID", lambda v, p: str(p.pid)),
    "huser": ("HUSER", lambda v, p: _ids(p, "Uid", 1)),
    "netns": ("NETNS", _namespace_of("net")),
    "nice": ("NI", lambda v, p: str(p.nice)),
    "pcpu": ("%CPU", lambda v, p: f"{v.cpu(p):.1f}"),
    "pgid": ("PGID", lambda v, p: str(p.pgid)),
    "pid": ("PID", lambda v, p: str(p.pid)),
    "cgroup": ("GROUP", lambda v, p: v.inside(_ids(p, "Gid", 1), "gid")),
    "cpid": ("PID", lambda v, p: _inner_pid(v, p.pid)),
    "cppid": ("PPID", lambda v, p: _inner_pid(v, p.ppid)),
    "cuser": ("USER", lambda v, p: v.inside(_ids(p, "Uid", 1), "uid")),
    "pidns": ("PIDNS", _namespace_of("pid")),
    "pmem": ("%MEM", lambda v, p: f"{100 * p.rss / v.memory:.1f}"),
    "ppid": ("PPID", lambda v, p: str(p.ppid)),
    "rss": ("RSS", lambda v, p: str(p.rss * _PAGE // 1024)),
    "seccomp": ("SECCOMP", lambda v, p: {"0": "disabled", "2": "filter"}.get(
        p.status.get("Seccomp", ""), "strict")),
    "sid": ("SID", lambda v, p: str(p.session)),
    "start": ("START", _clock),
    "stat": ("STAT", lambda v, p: p.state),
    "state": ("STATE", lambda v, p: p.state),
    "stime": ("STIME", _clock),
    "time": ("TIME", lambda v, p: _cpu_time(p)),
    "tty": ("TTY", lambda v, p: _tty(p)),
    "uid": ("UID", lambda v, p: _ids(p, "Uid", 1)),
    "user": ("USER", lambda v, p: _ids(p, "Uid", 1)),
    "userns": ("USERNS", _namespace_of("user")),
    "utsns": ("UTSNS", _namespace_of("uts")),
    "vsz": ("VSZ", lambda v, p: str(p.vsize // 1024)),
}  # fmt: skip
