"""What happened: ``events.jsonl``, a line of JSON per event.

Each event is one ``write(2)`` to a file opened for appending, so that lines of
different processes never mix.  Supervisors write theirs by
:mod:`podpy.runtime.diary`, in the same form.  A file that has grown too large becomes
``events.jsonl.1``; the one before it is gone then.  Nobody waits for an event,
and no command fails because one could not be noted.
"""

from __future__ import annotations

import fcntl
import os
import time

from podpy import files
from podpy.records import EMPTY, from_dict, record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from podpy.model import ContainerRecord
    from podpy.netmodel import Network
    from podpy.paths import Store

_LIMIT = 4 << 20  # bytes: some 10,000 events
_BLOCK = 1 << 16
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


@record
class Event:
    """``time`` is in nanoseconds; ``type`` and ``action`` are docker's words, where it has one.

    ``id`` is the object's; ``attributes`` are its name, image and labels, and
    what the action is about.
    """

    time: int
    type: str
    action: str
    id: str
    attributes: Mapping[str, str] = EMPTY


# --- writing -----------------------------------------------------------------


def write(store: Store, kind: str, action: str, object_id: str, **attributes: str) -> None:
    """Note that something happened to an object."""
    line = {
        "time": time.time_ns(),
        "type": kind,
        "action": action,
        "id": object_id,
        "attributes": attributes,
    }
    try:
        _append(store.events, files.dumps(line).encode() + b"\n")
    except OSError:
        return  # a full disk, a store that is read-only: what happened has happened all the same


def _append(path: str, line: bytes) -> None:
    """Add a line, and turn the file over where it has grown too large."""
    fd = os.open(path, _APPEND, 0o600)
    try:
        os.write(fd, line)
        if os.fstat(fd).st_size > _LIMIT:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if files.is_at(fd, path):  # nobody else has turned it over meanwhile
                os.rename(path, f"{path}.1")
    finally:
        os.close(fd)


def container(store: Store, made: ContainerRecord, action: str, **more: str) -> None:
    """An event of a container, with its image, name and labels."""
    write(store, "container", action, made.id, **{**attributes_of(made), **more})


def image(store: Store, action: str, image_id: str, name: str = "") -> None:
    """An event of an image: its id, and the name that was pulled, given or taken."""
    write(store, "image", action, image_id, name=name)


def for_supervisor(store: Store, made: ContainerRecord) -> dict[str, Any]:
    """What a container's supervisor must know to write its events itself."""
    return {
        "path": store.events,
        "limit": _LIMIT,
        "attributes": attributes_of(made),
    }


def attributes_of(made: ContainerRecord) -> dict[str, str]:
    return {**made.labels, "image": made.image_name, "name": made.name}


def network(store: Store, made: Network, action: str, **more: str) -> None:
    """An event of a network."""
    write(store, "network", action, made.id, name=made.name, type=made.driver, **more)


# --- reading -----------------------------------------------------------------


class Reader:
    """The events there are, oldest first, and those that come; :meth:`read` again and again."""

    def __init__(self, store: Store, *, past: bool) -> None:
        self._path = store.events
        newest, older = _open(self._path), _open(f"{self._path}.1")
        if newest >= 0 and older >= 0 and files.is_at(newest, f"{self._path}.1"):
            os.close(older)  # rotated while we opened them: it is the same
            older = -1
        self._fds = [fd for fd in (older, newest) if fd >= 0]
        self._rest = dict.fromkeys(self._fds, b"")
        if not past:
            for fd in self._fds:
                os.lseek(fd, 0, os.SEEK_END)

    def read(self) -> Iterator[Event]:
        """What has been written since the last call."""
        for fd in self._fds:
            yield from self._lines(fd)
        if not self._fds or not files.is_at(self._fds[-1], self._path):
            newer = _open(self._path)
            if newer >= 0:
                # The one before is read once more next time: for who had it open already.
                for old in self._fds[:-1]:
                    os.close(old)
                self._fds = [*self._fds[-1:], newer]
                self._rest[newer] = b""
                yield from self._lines(newer)

    def _lines(self, fd: int) -> Iterator[Event]:
        while block := os.read(fd, _BLOCK):
            *lines, self._rest[fd] = (self._rest[fd] + block).split(b"\n")
            for line in lines:
                if found := _parsed(line):
                    yield found

    def close(self) -> None:
        while self._fds:
            os.close(self._fds.pop())


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return -1


def _parsed(line: bytes) -> Event | None:
    """The event of a line; None for one that a full disk cut off."""
    try:
        return from_dict(Event, files.loads(line))
    except (AttributeError, TypeError, ValueError):
        return None
