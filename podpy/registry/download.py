"""One blob, resumed where it stopped, and passed on while it arrives.

What was received is kept (see ``podpy.registry.partial``) until it is whole, so
a pull that was cut off, by the network or by the user, goes on at that byte.
Whoever takes the bytes verifies them, and discards the file when they are
wrong: then they are of no use to the next attempt.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from urllib3.exceptions import HTTPError

from podpy import files
from podpy.errors import ImageError, RegistryError
from podpy.registry import partial
from podpy.registry.client import Repository, chunks, open_foreign
from podpy.registry.transport import finish

if TYPE_CHECKING:
    from collections.abc import Callable

    from urllib3.response import BaseHTTPResponse as Response

    from podpy.model import Descriptor

_READ = 1 << 20


class Download:
    """The download of one blob; use as a context manager.

    ``sink`` is given every byte once and in order, those of an earlier
    attempt first.  ``progress`` is told how many bytes arrived.
    """

    def __init__(
        self,
        repository: Repository,
        blob: Descriptor,
        sink: Callable[[bytes], None],
        progress: Callable[[int], None],
    ) -> None:
        self._repository = repository
        self._blob = blob
        self._sink = sink
        self._progress = progress
        self._size = 0
        self.path = ""
        self._fd = -1

    def __enter__(self) -> Download:
        self.path, self._fd = partial.claim(self._blob.digest)
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self._fd)

    def run(self) -> None:
        """Receive the whole blob; afterwards ``path`` holds it, on disk."""
        while data := os.read(self._fd, _READ):
            self._take(data)
        stalls = 0
        while self._size < self._blob.size:
            before, failure = self._size, "the answer ended early"
            try:
                self._receive(self._open())
            except HTTPError as error:
                failure = f"{type(error).__name__}: {error}"
            stalls = 0 if self._size > before else stalls + 1
            if stalls:
                self._pause(stalls, failure)
        os.fsync(self._fd)

    def discard(self) -> None:
        """Remove what was received: it is not the blob, nor the beginning of it."""
        files.unlink(self.path)

    def _pause(self, stalls: int, failure: str) -> None:
        transport = self._repository.transport
        if stalls > transport.access.retries:
            raise RegistryError(
                f"{self._repository.name}: blob {self._blob.digest}: {failure}",
                hint="pull again: what was received is kept",
            )
        transport.wait(stalls - 1)

    def _take(self, data: bytes) -> None:
        self._size += len(data)
        self._sink(data)
        self._progress(len(data))

    def _open(self) -> Response:
        """A stream that goes on at our offset."""
        urls = self._blob.urls
        if urls and "foreign" in self._blob.media_type:
            answer = open_foreign(self._repository.transport, urls[0])
            if answer.status != 200:
                raise RegistryError(f"foreign layer {urls[0]!a}: got status {answer.status}")
            return answer
        answer = self._repository.open_blob(self._blob.digest, self._size)
        if answer.status == 416:
            finish(answer)
            raise self._wrong("the registry's copy is shorter than its manifest says")
        return answer

    def _receive(self, answer: Response) -> None:
        skip = 0
        if answer.status == 200:
            skip = self._size  # the server does not do ranges: what we have goes by unread
        elif not answer.headers.get("Content-Range", "").startswith(f"bytes {self._size}-"):
            answer.close()
            raise RegistryError(f"{self._repository.name}: answers with another range than asked")
        for data in chunks(answer):
            fresh = data[skip:] if skip else data
            skip = max(0, skip - len(data))
            if self._size + len(fresh) > self._blob.size:
                answer.close()
                raise self._wrong(f"more than the {self._blob.size} bytes promised")
            if fresh:
                files.write_all(self._fd, fresh)
                self._take(fresh)
        finish(answer)
        if self._size < self._blob.size and "Content-Length" in answer.headers:
            raise self._wrong(f"{self._size} bytes instead of the {self._blob.size} promised")

    def _wrong(self, why: str) -> ImageError:
        return ImageError(f"{self._repository.name}: blob {self._blob.digest}: {why}")
