"""SIGTERM and SIGHUP end a command as Ctrl-C does: what it was making is taken away first."""

from __future__ import annotations

import _signal
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ENDINGS = (_signal.SIGTERM, _signal.SIGHUP)


class Orderly:
    """Within it these signals raise ``KeyboardInterrupt``; at its end the process dies of the one
    that came, as its caller expects.

    What the caller has ignored (``nohup``) stays ignored, and a second signal does not wait.
    """

    def __init__(self) -> None:
        self._taken: list[int] = []
        self._came = 0

    def __enter__(self) -> Orderly:
        for number in _ENDINGS:
            if _signal.getsignal(number) == _signal.SIG_DFL:
                _signal.signal(number, self._end)
                self._taken.append(number)
        return self

    def __exit__(self, *exc: Any) -> None:
        self._restore()
        if self._came:
            os.kill(os.getpid(), self._came)

    def _end(self, number: int, _frame: object) -> None:
        self._came = number
        self._restore()
        raise KeyboardInterrupt

    def _restore(self) -> None:
        while self._taken:
            _signal.signal(self._taken.pop(), _signal.SIG_DFL)
