"""``poll`` with a handler per descriptor: all the event loop that podpy needs."""

from __future__ import annotations

import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Handler = Callable[[int, int], None]

IN, OUT = select.POLLIN, select.POLLOUT


class Loop:
    """Calls ``handler(fd, events)`` for every descriptor that has something to say."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._handlers: dict[int, Handler] = {}
        self._masks: dict[int, int] = {}
        self._timers: dict[object, tuple[float, Callable[[], None]]] = {}

    def later(self, seconds: float, call: Callable[[], None], key: object = None) -> None:
        """Call ``call`` once when so many seconds are over.

        A timer with the same ``key`` is replaced.  Meant for a handful of timers:
        every turn looks at all of them.
        """
        self._timers[call if key is None else key] = (time.monotonic() + seconds, call)

    def cancel(self, key: object) -> None:
        """Forget a timer; one that is not set is no error."""
        self._timers.pop(key, None)

    def watch(self, fd: int, mask: int, handler: Handler) -> None:
        """Start with a descriptor; ends of file and errors are always reported."""
        self._handlers[fd] = handler
        self.change(fd, mask)

    def change(self, fd: int, mask: int) -> None:
        """Ask for other events of a watched descriptor."""
        if self._masks.get(fd) != mask:
            self._poll.register(fd, mask)
            self._masks[fd] = mask

    def pause(self, fd: int) -> None:
        """Hear nothing of a descriptor, not even its end, until :meth:`change`."""
        if self._masks.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def forget(self, fd: int) -> None:
        """Be done with a descriptor; call it before closing."""
        self.pause(fd)
        self._handlers.pop(fd, None)

    def turn(self, seconds: float | None = None) -> bool:
        """Wait for events and handle them, or for a timer; False when the time ran out first."""
        if self._timers:
            now = time.monotonic()
            due = max(min(when for when, _ in self._timers.values()) - now, 0.0)
            seconds = due if seconds is None else min(due, seconds)
        # Rounded up: a poll that ends a fraction too early would turn in vain.
        ready = self._poll.poll(seconds and int(seconds * 1000) + 1)
        for fd, events in ready:
            handler = self._handlers.get(fd)  # an earlier handler may have closed it
            if handler is not None:
                handler(fd, events)
        self._fire()
        return bool(ready)

    def _fire(self) -> None:
        if not self._timers:
            return
        now = time.monotonic()
        for key in [key for key, (when, _) in self._timers.items() if when <= now]:
            timer = self._timers.pop(key, None)  # an earlier one may have cancelled it
            if timer is not None:
                timer[1]()
