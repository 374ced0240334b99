"""Layers of an image, several at once: received, verified, inflated and unpacked in one go.

Each layer has a thread: Python releases its lock while it hashes, inflates
and waits for the network.  The processes that unpack are the importer's, and
forked before the first thread is made.
"""

from __future__ import annotations

import errno
import os
import queue
import threading
import time
from typing import TYPE_CHECKING

from podpy.errors import PodpyError, RegistryError
from podpy.registry.download import Download
from podpy.storage import content

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from podpy.engine.progress import Progress
    from podpy.model import Descriptor
    from podpy.registry.client import Repository
    from podpy.storage.importer import Importer

_FAREWELL = 2.0
_PATIENCE = 0.2


class Stopped(Exception):
    """Raised in the threads of a transfer that has failed or was interrupted elsewhere."""


def width(configured: int) -> int:
    """How many blobs are worked on at once."""
    return configured if configured > 0 else max(2, min(6, (os.cpu_count() or 1) + 1))


def in_parallel(
    jobs: Sequence[Callable[[threading.Event], None]],
    workers: int,
    on_stop: Callable[[], None],
) -> None:
    """Run every job; the first error stops the others and is raised.

    A job is given the event that tells it to stop; ``on_stop`` is called to
    wake those that wait for the network.  Threads are daemons: one that hangs
    all the same must not keep an interrupted command alive.
    """
    waiting: queue.SimpleQueue[Callable[[threading.Event], None]] = queue.SimpleQueue()
    for job in jobs:
        waiting.put(job)
    crew = _Crew(waiting)
    count = min(workers, len(jobs))
    for _ in range(count):
        threading.Thread(target=crew.work, daemon=True).start()
    try:
        while crew.ended < count and not crew.stop.is_set():
            crew.wait(_PATIENCE)
    finally:
        if crew.ended < count:
            crew.stop.set()
            on_stop()
        deadline = time.monotonic() + _FAREWELL
        while crew.ended < count and time.monotonic() < deadline:
            crew.wait(_PATIENCE)
    for error in crew.errors:
        if not isinstance(error, Stopped):
            raise error


class _Crew:
    """Threads that share a queue of jobs.

    They say themselves that they have ended: ``Thread.join`` takes a thread
    for dead when the join is interrupted (CPython 3.11).
    """

    def __init__(self, waiting: queue.SimpleQueue[Callable[[threading.Event], None]]) -> None:
        self._waiting = waiting
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.errors: list[BaseException] = []
        self.stop = threading.Event()
        self.ended = 0

    def work(self) -> None:
        try:
            while not self.stop.is_set():
                self._waiting.get_nowait()(self.stop)
        except queue.Empty:
            pass
        except BaseException as error:
            self.errors.append(error)
            self.stop.set()
        self._bell.put(None)

    def wait(self, seconds: float) -> None:
        """Until the next thread ends, or so long."""
        try:
            self._bell.get(timeout=seconds)
        except queue.Empty:
            return
        self.ended += 1


class Layers:
    """Brings the layers of one image from a repository into the store."""

    def __init__(self, importer: Importer, repository: Repository, progress: Progress) -> None:
        self._importer = importer
        self._repository = repository
        self._progress = progress

    def fetch(self, layers: Sequence[tuple[str, Descriptor]], workers: int) -> None:
        """Make every ``(diff id, blob)`` present, as tree and as blob."""
        jobs = []
        # By both digests: one tree may be there twice, compressed in two ways.
        distinct = {(diff_id, blob.digest): blob for diff_id, blob in layers}
        for (diff_id, _), blob in distinct.items():
            has_layer = self._importer.has_layer(diff_id)
            has_blob = self._importer.has_blob(blob.digest)
            self._progress.blob(blob.digest, blob.size, present=has_blob)
            if not has_layer or not has_blob:
                jobs.append(self._job(diff_id, blob, has_layer, has_blob))
        in_parallel(jobs, workers, self._repository.transport.stop)

    def _job(
        self, diff_id: str, blob: Descriptor, has_layer: bool, has_blob: bool
    ) -> Callable[[threading.Event], None]:
        def run(stop: threading.Event) -> None:
            if has_blob:
                self._importer.unpack_blob(diff_id, blob)
            else:
                self._receive(diff_id, blob, unpack=not has_layer, stop=stop)
            self._progress.done(blob.digest)

        return run

    def _receive(
        self, diff_id: str, blob: Descriptor, *, unpack: bool, stop: threading.Event
    ) -> None:
        def advance(count: int) -> None:
            if stop.is_set():
                raise Stopped
            self._progress.advance(blob.digest, count)

        store = self._importer.store
        with (
            self._importer.begin(diff_id, blob, unpack=unpack, keep=False) as sink,
            Download(self._repository, blob, sink.write, advance) as download,
        ):
            try:
                download.run()
                sink.finish()
                content.adopt(store, download.path, blob)
            except RegistryError:
                raise  # what was received is good for the next attempt
            except PodpyError as error:
                download.discard()
                raise type(error)(
                    f"layer {blob.digest}: {error.message}", hint=error.hint
                ) from None
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    download.discard()  # what is kept for later must not fill the disk now
                raise
