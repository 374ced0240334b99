"""Carrying out a build: stages as tasks, their steps in forked workers.

The coordinator is one process with one loop and no threads.  A stage is a
generator that yields what it waits for: :class:`Work` for a worker, or another
:class:`Task`.  A worker is forked for each piece of work, in the host's user
namespace; it answers by a pipe, and what its payload writes comes by two more.
The first failure ends everything that still runs.
"""

from __future__ import annotations

import itertools
import marshal
import os
import select
import time

from podpy import files
from podpy.build.model import Failed, Finished, Output, Started, Transfer, Warned
from podpy.errors import BuildError, PodpyError
from podpy.kernel import libc, process
from podpy.runtime import channel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from typing import Any

    from podpy.build.model import Report

    Steps = Generator["Work | Task", Any, Any]

_KILL = 9
_CHUNK = 1 << 16


class Wire:
    """A worker's way to speak to the coordinator, and its payload's standard streams."""

    def __init__(self, answer: int, out: int, err: int) -> None:
        self._answer = answer
        self.out = out
        self.err = err

    def transfer(self, text: str, current: int = 0, total: int = 0) -> None:
        """Progress of a download or the like."""
        self._send(("transfer", text, current, total))

    def warn(self, text: str) -> None:
        """Something the user should know."""
        self._send(("warned", text))

    def _send(self, message: tuple[Any, ...]) -> None:
        data = marshal.dumps(message)
        files.write_all(self._answer, len(data).to_bytes(4, "little") + data)


class Work:
    """One step: ``function`` runs in a worker, with a :class:`Wire`; its value is the answer.

    The value must be one that :mod:`marshal` knows.  ``key`` is of works that
    would make the same: they wait for each other, and the later one finds it
    made.  ``title`` is what is shown.
    """

    def __init__(
        self,
        function: Callable[[Wire], Any],
        title: Started,
        *,
        key: str = "",
        lines: tuple[int, int] = (0, 0),
        is_cached: Callable[[Any], bool] = lambda value: False,
    ) -> None:
        self.function = function
        self.title = title
        self.key = key
        self.lines = lines
        self.is_cached = is_cached


class Task:
    """A stage on its way; ``result`` is what its generator returned."""

    def __init__(self, steps: Steps) -> None:
        self.steps = steps
        self.result: Any = None
        self.is_done = False
        self.waiting: list[Task] = []


class _Worker:
    """A forked worker and what has come from it."""

    def __init__(self, task: Task, work: Work) -> None:
        self.task = task
        self.work = work
        self.begun = time.monotonic()
        self.pending = b""
        self.value: Any = None
        self.error: PodpyError | None = None
        self.has_answered = False
        pipes = [os.pipe() for _ in range(3)]
        reading = [pipe[0] for pipe in pipes]
        writing = [pipe[1] for pipe in pipes]
        parent = os.getpid()
        self.pid = process.fork_child(lambda: _work(work, reading, writing, parent))
        for fd in writing:
            os.close(fd)
        self.answer, self.out, self.err = reading
        self.open = set(reading)

    def end(self) -> None:
        for fd in self.open:
            os.close(fd)
        self.open.clear()
        process.wait(self.pid)


def _work(work: Work, reading: list[int], writing: list[int], parent: int) -> int:
    """In the worker: not of the terminal's group, and gone when the coordinator is."""
    for fd in reading:
        os.close(fd)
    os.setsid()
    libc.prctl(libc.PR_SET_PDEATHSIG, _KILL)
    if os.getppid() != parent:
        return 1  # it died before we asked to be told
    wire = Wire(*writing)
    try:
        wire._send(("value", work.function(wire)))
    except PodpyError as error:
        kind = type(error).__name__
        wire._send(("failed", kind, error.message, error.hint, error.exit_code))
    except Exception as error:
        wire._send(("failed", "BuildError", channel.describe(error), "", BuildError.exit_code))
    return 0


class Scheduler:
    """Runs tasks until all are done; ``jobs`` workers at a time.

    ``steps`` numbers the steps, where some were told before.
    """

    def __init__(
        self, report: Report, jobs: int = 0, *, steps: Iterator[int] | None = None
    ) -> None:
        self._report = report
        self._jobs = jobs or len(os.sched_getaffinity(0))
        self._queue: list[tuple[Task, Work]] = []
        self._workers: dict[int, _Worker] = {}
        self._busy: set[str] = set()
        self._poll = select.poll()
        self._steps = steps or itertools.count(1)

    def next_step(self) -> int:
        """The number of one more step of the build."""
        return next(self._steps)

    def add(self, steps: Steps) -> Task:
        """A task that begins with the next turn of :meth:`run`."""
        task = Task(steps)
        self._advance(task, None)
        return task

    def run(self) -> None:
        """Until every task is done; raises the first failure when all workers are gone."""
        try:
            while self._queue or self._workers:
                self._start_workers()
                for fd, _ in self._poll.poll():
                    self._on_data(fd)
        except BaseException:
            self._abort()
            raise

    # --- tasks ---------------------------------------------------------------

    def _advance(self, task: Task, value: Any) -> None:
        """Let a task go on with what it waited for, until it waits again."""
        while True:
            try:
                wanted = task.steps.send(value)
            except StopIteration as end:
                self._complete(task, end.value)
                return
            if isinstance(wanted, Work):
                self._queue.append((task, wanted))
                return
            if not wanted.is_done:
                wanted.waiting.append(task)
                return
            value = wanted.result

    def _complete(self, task: Task, result: Any) -> None:
        task.result, task.is_done = result, True
        waiting, task.waiting = task.waiting, []
        for other in waiting:
            self._advance(other, result)

    # --- workers -------------------------------------------------------------

    def _start_workers(self) -> None:
        held = []
        for task, work in self._queue:
            running = {id(worker) for worker in self._workers.values()}
            if len(running) >= self._jobs or (work.key and work.key in self._busy):
                held.append((task, work))
                continue
            if work.key:
                self._busy.add(work.key)
            self._report(work.title)
            worker = _Worker(task, work)
            for fd in worker.open:
                self._workers[fd] = worker
                self._poll.register(fd, select.POLLIN)
        self._queue = held

    def _on_data(self, fd: int) -> None:
        worker = self._workers[fd]
        data = os.read(fd, _CHUNK)
        if not data:
            self._close(worker, fd)
        elif fd == worker.answer:
            worker.pending += data
            self._read_answers(worker)
        else:
            stream = 1 if fd == worker.out else 2
            self._report(Output(step=worker.work.title.step, stream=stream, data=data))

    def _read_answers(self, worker: _Worker) -> None:
        while len(worker.pending) >= 4:
            size = int.from_bytes(worker.pending[:4], "little")
            if len(worker.pending) < 4 + size:
                return
            message = marshal.loads(worker.pending[4 : 4 + size])
            worker.pending = worker.pending[4 + size :]
            self._on_answer(worker, *message)

    def _on_answer(self, worker: _Worker, word: str, *details: Any) -> None:
        step = worker.work.title.step
        if word == "transfer":
            text, current, total = details
            self._report(Transfer(step=step, text=text, current=current, total=total))
        elif word == "warned":
            self._report(Warned(step=step, text=details[0]))
        else:
            worker.has_answered = True
            if word == "value":
                worker.value = details[0]
            else:
                worker.error = channel.revive(details[:3])
                worker.error.exit_code = details[3]

    def _close(self, worker: _Worker, fd: int) -> None:
        self._poll.unregister(fd)
        del self._workers[fd]
        worker.open.discard(fd)
        os.close(fd)
        if not worker.open:
            self._on_end(worker)

    def _on_end(self, worker: _Worker) -> None:
        """Its pipes are closed: nobody of it, nor of its payload, is left to speak."""
        worker.end()
        work = worker.work
        self._busy.discard(work.key)
        seconds = time.monotonic() - worker.begun
        error = worker.error
        if not worker.has_answered:
            error = BuildError(f"{work.title.text}: the process that works on it was killed")
        if error is not None:
            self._report(
                Failed(step=work.title.step, error=error, seconds=seconds, lines=work.lines)
            )
            raise error
        cached = work.is_cached(worker.value)
        self._report(Finished(step=work.title.step, seconds=seconds, cached=cached))
        self._advance(worker.task, worker.value)

    def _abort(self) -> None:
        """End what still runs: payloads and helpers die with their worker."""
        workers = {id(worker): worker for worker in self._workers.values()}
        for worker in workers.values():
            os.kill(worker.pid, _KILL)
        for worker in workers.values():
            worker.end()
            self._report(
                Failed(
                    step=worker.work.title.step,
                    error=BuildError(f"{worker.work.title.text}: cancelled"),
                    seconds=time.monotonic() - worker.begun,
                    cancelled=True,
                )
            )
        self._workers.clear()
