"""The progress of a build as JSON, for programs."""

from __future__ import annotations

import time

from podpy.build.model import Loaded, Output, Transfer, Warned
from podpy.cli import output
from podpy.cli.build_text import base64
from podpy.cli.build_view import View

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from podpy.build.model import Event
    from podpy.cli.build_steps import Moved, Step
    from podpy.cli.build_view import Write


class RawJson(View):
    """Objects like BuildKit's ``SolveStatus``, one on a line (client/graph.go has the fields)."""

    def __init__(self, write: Write) -> None:
        super().__init__(write)
        self._clock = time.time() - time.monotonic()
        self._sent = 0

    def __exit__(self, *exc: object) -> None:
        """The last status has the error; text would not be JSON."""

    def __call__(self, event: Event) -> None:
        now = time.monotonic()
        self.trace.take(event, now)
        if isinstance(event, Loaded):
            return
        step = self.trace.steps.get(event.step)
        digest = self._digest(step) if step else ""
        stamp = self._stamp(now)
        if isinstance(event, Warned):
            self._send("warnings", {"vertex": digest, "level": 1, "short": base64(event.text)})
        elif step is None:
            return
        elif isinstance(event, Output):
            data = {"vertex": digest, "stream": event.stream, "data": base64(event.data)}
            self._send("logs", {**data, "timestamp": stamp})
        elif isinstance(event, Transfer):
            self._send("statuses", self._status(step.moved[event.text], digest, stamp))
        else:
            self._send("vertexes", self._vertex(step, digest))

    def _vertex(self, step: Step, digest: str) -> dict[str, Any]:
        vertex: dict[str, Any] = {"digest": digest, "name": step.title}
        vertex["started"] = self._stamp(step.began)
        if step.is_done:
            vertex["completed"] = self._stamp(step.began + step.seconds)
        if step.cached:
            vertex["cached"] = True
        if step.error:
            vertex["error"] = "context canceled" if step.cancelled else step.error
        return vertex

    def _status(self, moved: Moved, digest: str, stamp: str) -> dict[str, Any]:
        status: dict[str, Any] = {"id": moved.text, "vertex": digest, "current": moved.current}
        if moved.total:
            status["total"] = moved.total
        status |= {"timestamp": stamp, "started": self._stamp(moved.began)}
        if moved.total and moved.current >= moved.total:
            status["completed"] = stamp
        return status

    def _digest(self, step: Step) -> str:
        import hashlib

        return f"sha256:{hashlib.sha256(f'{step.number} {step.title}'.encode()).hexdigest()}"

    def _stamp(self, moment: float) -> str:
        return output.rfc3339(self._clock + moment)

    def _send(self, kind: str, value: dict[str, Any]) -> None:
        from podpy import files

        self.write(files.dumps({kind: [value]}) + "\n")
