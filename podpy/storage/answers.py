"""What a child process that works on a layer says in the end: one JSON object in a pipe."""

from __future__ import annotations

import os

from podpy import files
from podpy.errors import ImageError, PodpyError, StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def reply(answer: int, work: Callable[[], dict[str, Any]]) -> None:
    """Do a piece of work and write its values, or its error, for :func:`result`."""
    try:
        values = work()
    except PodpyError as error:
        values = {"error": error.message, "hint": error.hint, "kind": type(error).__name__}
    except OSError as error:
        values = {"error": f"layer: {error}", "hint": "", "kind": "StoreError"}
    try:
        files.write_all(answer, files.dumps(values).encode())
    except BrokenPipeError:
        pass  # whoever asked has given up on this layer


def result(answer: int) -> dict[str, Any]:
    """What came of a layer: ``size``, ``inodes``, ``records``; raises its error."""
    try:
        pieces = []
        while piece := os.read(answer, 1 << 16):
            pieces.append(piece)
    finally:
        os.close(answer)
    if not pieces:
        raise StoreError("the process that works on a layer was killed")
    values: dict[str, Any] = files.loads(b"".join(pieces))
    if "error" in values:
        kinds = {kind.__name__: kind for kind in (ImageError, StoreError)}
        raise kinds.get(values["kind"], PodpyError)(values["error"], hint=values["hint"])
    return values


def raise_descriptor_limit() -> None:
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
