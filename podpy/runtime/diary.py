"""What a supervisor notes in the event log (see :mod:`podpy.storage.events`)."""

from __future__ import annotations

import posix
import time

from podpy.runtime import teardown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_APPEND = posix.O_WRONLY | posix.O_APPEND | posix.O_CREAT | posix.O_CLOEXEC | posix.O_NOFOLLOW


def write(task: Mapping[str, Any], action: str, **more: str) -> None:
    """Note an event of the supervisor's container; a log that cannot be written is no error.

    ``task["events"]`` is the log's ``path`` and the container's ``attributes``.
    """
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
        fd = posix.open(log["path"], _APPEND, 0o600)
    except OSError:
        return
    try:
        posix.write(fd, teardown.to_json(line).encode() + b"\n")
    except OSError:
        pass
    finally:
        posix.close(fd)
