"""Logs that went to journald, read back through ``journalctl``."""

from __future__ import annotations

import time

from podpy.errors import HostError
from podpy.files import loads
from podpy.kernel import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from podpy.runtime.logreader import Run

_SETTLING = 0.2  # seconds journald gets to store what its socket has taken


class Journal:
    """The journal's part about one container; reads on like :class:`logreader.LogFile`."""

    def __init__(self, container_id: str, since: bytes, until: bytes, tail: int) -> None:
        self._match = f"CONTAINER_ID_FULL={container_id}"
        self._since = since
        self._until = until
        self._tail = tail
        self._cursor = ""

    def runs(self) -> Iterator[Run]:
        """What has been logged since the last call, within the bounds asked for."""
        time.sleep(_SETTLING)
        found = [run for run in map(self._run, self._entries()) if self._is_wanted(run)]
        if self._tail >= 0:
            found = found[max(len(found) - self._tail, 0) :]
            self._tail = -1
        return iter(found)

    def close(self) -> None:
        """Nothing is held between two calls."""

    def _entries(self) -> Iterator[Mapping[str, Any]]:
        program = process.find_program("journalctl")
        if not program:
            raise HostError("log driver journald: journalctl is not installed")
        position = [f"--after-cursor={self._cursor}"] if self._cursor else []
        done = process.run([program, "-q", "--output=json", "--all", *position, self._match])
        if done.code:
            raise HostError(f"journalctl: {done.stderr.decode(errors='replace').strip()}")
        for line in done.stdout.splitlines():
            entry = loads(line)
            self._cursor = entry["__CURSOR"]
            yield entry

    @staticmethod
    def _run(entry: Mapping[str, Any]) -> Run:
        message = entry.get("MESSAGE") or ""
        # journalctl shows what is not UTF-8 as a list of bytes.
        text = bytes(message) if isinstance(message, list) else message.encode()
        end = b"" if entry.get("CONTAINER_PARTIAL_MESSAGE") == "true" else b"\n"
        moment = int(entry["__REALTIME_TIMESTAMP"])
        date = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment // 1_000_000))
        stamp = f"{date}.{moment % 1_000_000:06}000Z".encode()
        return 2 if entry.get("PRIORITY") == "3" else 1, stamp, text + end

    def _is_wanted(self, run: Run) -> bool:
        return run[1] >= self._since and not (self._until and run[1] > self._until)
