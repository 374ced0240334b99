"""``poll`` with a handler per descriptor: all the event loop that podpy needs."""

from __future__ import annotations

import select

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
        """Wait for events and handle them; False when the time ran out first."""
        ready = self._poll.poll(None if seconds is None else seconds * 1000)
        for fd, events in ready:
            handler = self._handlers.get(fd)  # an earlier handler may have closed it
            if handler is not None:
                handler(fd, events)
        return bool(ready)
