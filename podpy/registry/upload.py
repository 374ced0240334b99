"""Pushing one blob: skipped where it exists, mounted where a sibling has it, else sent.

Sent in one request first (what every registry takes and the fewest round
trips); a connection that breaks, or a proxy that refuses so large a body, is
answered with chunks, which go on from what the registry says it has.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from podpy.errors import AuthenticationError, NotFound, RegistryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from podpy.model import Descriptor
    from podpy.registry.client import Repository

_READ = 1 << 18
_CHUNK = 16 << 20


def push(
    repository: Repository,
    blob: Descriptor,
    fd: int,
    mounts: tuple[str, ...],
    progress: Callable[[int], None],
) -> bool:
    """Make ``blob``, whose bytes ``fd`` reads, exist in a repository; False when it did.

    ``mounts`` are repositories of the same registry that may have it.
    """
    if repository.has_blob(blob):
        return False
    url = repository.start_upload(blob.digest, mounts[0] if mounts else "")
    if not url:
        return False
    try:
        repository.send_all(url, blob, lambda: _pieces(fd, blob.size, progress))
    except AuthenticationError:
        raise
    except RegistryError:
        _in_chunks(repository, blob, fd)
    return True


def _pieces(fd: int, size: int, progress: Callable[[int], None]) -> Iterator[bytes]:
    offset = 0
    while offset < size and (data := os.pread(fd, _READ, offset)):
        offset += len(data)
        yield data
        progress(len(data))


def _in_chunks(repository: Repository, blob: Descriptor, fd: int) -> None:
    url, offset, failures = repository.start_upload(blob.digest), 0, 0
    while url:
        try:
            while data := os.pread(fd, _CHUNK, offset):
                url = repository.send_chunk(url, data, offset)
                offset += len(data)
            repository.finish_upload(url, blob)
            return
        except AuthenticationError:
            raise
        except RegistryError:
            failures += 1
            if failures > repository.transport.access.retries:
                raise
            repository.transport.wait(failures - 1)
            url, offset = _where_to_go_on(repository, blob, url)


def _where_to_go_on(repository: Repository, blob: Descriptor, url: str) -> tuple[str, int]:
    """The upload and offset after a failure; no upload when the blob did arrive after all."""
    try:
        return url, repository.received(url)
    except NotFound:
        if repository.has_blob(blob):
            return "", blob.size
        return repository.start_upload(blob.digest), 0
