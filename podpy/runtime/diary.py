"""What a supervisor notes in the event log (see :mod:`podpy.storage.events`).

``task["events"]`` holds the log's ``path``, the ``limit`` of its size in bytes, and
the container's ``attributes``.
"""

from __future__ import annotations

import fcntl
import posix
import time

from podpy.runtime import teardown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

_APPEND = (
    posix.O_WRONLY | posix.O_APPEND | posix.O_CREAT | posix.O_CLOEXEC | posix.O_NOFOLLOW
)  # fmt: skip
# A container that hammers at its egress policy must not drive out what else happened.
_DENIALS = 64
_DENIAL_PAUSE = 10.0  # seconds between two of them after that


def write(task: Mapping[str, Any], action: str, **more: str) -> None:
    """Note an event of the supervisor's container; a log that cannot be written is no error."""
    log = task.get("events")
    if not log:
        return
    line = {
        "time": time.time_ns(),
        "type": "container",
        "action": action,
        "id": task["id"],
        "attributes": {**log["attributes"], **more},
    }
    try:
        _append(log["path"], teardown.to_json(line).encode() + b"\n", log["limit"])
    except OSError:
        return


def denied(
    task: Mapping[str, Any], before: Iterable[Mapping[str, Any]], now: Iterable[Mapping[str, Any]]
) -> None:
    """Note what the egress policy refused for the first time; ``Denial`` as dicts."""
    log = task.get("events")
    known = {_target(each) for each in before}
    for each in now:
        if log and _target(each) not in known and _is_due(log):
            write(
                task, "egress_denied", destination=each["destination"],
                port=str(each["port"]), protocol=each["protocol"],
            )  # fmt: skip


def _target(denial: Mapping[str, Any]) -> tuple[Any, ...]:
    return denial["destination"], denial["port"], denial["protocol"]


def _is_due(log: dict[str, Any]) -> bool:
    count, last = log.get("denials", (0, 0.0))
    if count >= _DENIALS and time.time() < last + _DENIAL_PAUSE:
        return False
    log["denials"] = (count + 1, time.time())
    return True


def _append(path: str, line: bytes, limit: int) -> None:
    """Add a line, and turn the file over where it has grown too large."""
    fd = posix.open(path, _APPEND, 0o600)
    try:
        posix.write(fd, line)
        held = posix.fstat(fd)
        if held.st_size > limit:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if posix.stat(path).st_ino == held.st_ino:  # nobody has been here meanwhile
                posix.rename(path, f"{path}.1")
    finally:
        posix.close(fd)
