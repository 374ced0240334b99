"""Timing two programs against each other, fairly.

Both run in turns (A B A B …), so that a slow second of the machine hits both,
and the median of each is compared.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

Work = Callable[[], None]


@dataclass(frozen=True)
class Row:
    """One line of the result: milliseconds (or kB) of both, and their ratio."""

    name: str
    ours: float
    theirs: float
    unit: str = "ms"
    budget: float | None = None
    spread: tuple[float, float] = field(default=(0.0, 0.0))

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs if self.theirs else float("nan")

    @property
    def has_peer(self) -> bool:
        """The peer may lack what was measured: its value is NaN then."""
        return self.theirs == self.theirs

    @property
    def verdict(self) -> str:
        if self.budget is None:
            return ""
        return "met" if self.ratio <= self.budget else "MISSED"


def command(argv: Sequence[str], env: Mapping[str, str]) -> Work:
    """A run of a program with its output thrown away; a failure ends the benchmark."""

    def work() -> None:
        done = subprocess.run(
            argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )  # fmt: skip
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(argv)}: exit {done.returncode}\n{done.stderr.decode()}")

    return work


def parallel(argv: Sequence[str], env: Mapping[str, str], count: int) -> Work:
    """``count`` runs at the same time."""

    def work() -> None:
        running = [
            subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            for _ in range(count)
        ]
        codes = [child.wait() for child in running]
        if any(codes):
            raise SystemExit(f"{' '.join(argv)}: exit codes {codes}")

    return work


def timed(work: Work) -> float:
    """Milliseconds that ``work`` takes."""
    begin = time.perf_counter()
    work()
    return (time.perf_counter() - begin) * 1000


def pair(
    name: str,
    ours: Work,
    theirs: Work,
    *,
    rounds: int,
    budget: float | None = None,
    between: Work = lambda: None,
) -> Row:
    """Run both once to warm up, then ``rounds`` times in turns; compare the medians.

    ``between`` runs, untimed, after each of them: it undoes what was done.
    """
    for work in (ours, theirs):
        work()
        between()
    mine: list[float] = []
    peer: list[float] = []
    for _ in range(rounds):
        for work, times in ((ours, mine), (theirs, peer)):
            times.append(timed(work))
            between()
    spread = (_spread(mine), _spread(peer))
    return Row(name, statistics.median(mine), statistics.median(peer), "ms", budget, spread)


def _spread(values: Sequence[float]) -> float:
    """Half of the range of the middle half: what a repetition may differ by."""
    if len(values) < 4:
        return (max(values) - min(values)) / 2
    quarters = statistics.quantiles(values, n=4)
    return (quarters[2] - quarters[0]) / 2


def memory(pid: int) -> tuple[int, int]:
    """Resident and private memory of a process, in kB."""
    values: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        values[name] = int(rest.split()[0])
    return values["Rss"], values["Private_Clean"] + values["Private_Dirty"]


def proportional(pid: int) -> int:
    """Memory of a process in kB, shared pages divided among those who share them."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


def parent(pid: int) -> int:
    text = Path(f"/proc/{pid}/stat").read_text()
    return int(text[text.rindex(")") + 2 :].split()[1])


def table(rows: Sequence[Row]) -> str:
    """The result as aligned text."""
    head = ("", "podpy", "podman", "ratio", "budget", "")
    lines = [head]
    for row in rows:
        lines.append(
            (
                row.name,
                f"{row.ours:.1f} ±{row.spread[0]:.1f} {row.unit}",
                f"{row.theirs:.1f} ±{row.spread[1]:.1f} {row.unit}" if row.has_peer else "–",
                f"{row.ratio:.2f}" if row.has_peer else "",
                f"≤ {row.budget:.2f}" if row.budget is not None else "",
                row.verdict,
            )
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            text.ljust(width) if column == 0 else text.rjust(width)
            for column, (text, width) in enumerate(zip(line, widths))
        ).rstrip()
        for line in lines
    )


def cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return f"{line.partition(':')[2].strip()} × {os.cpu_count()}"
    return f"{os.uname().machine} × {os.cpu_count()}"
