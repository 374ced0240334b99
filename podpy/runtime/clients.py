"""The supervisor's side of one attached client: a socket that never blocks.

What the client does not take at once waits in a queue.  Small writes are joined
there, so a queue is a few large frames, never a list of a million small ones.
"""

from __future__ import annotations

import _socket
import posix
import sys

from podpy.runtime import frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Output that may wait for one client.  Beyond it, a client reads on in the log
# file; where there is no such file, the foreground client slows the payload
# down (as a pipe would), and any other client is sent away.
BOUND = 1 << 20

_CARRIED = ("lagging", "dismissed", "waiting", "mark", "log_fd")


class Client:
    """One connection: what it wants, and what still has to be sent to it."""

    def __init__(self, fd: int, wants: bytes = b"", *, foreground: bool = False) -> None:
        self.fd = fd
        self.wants = wants
        self.foreground = foreground
        self.lagging = False
        self.dismissed = False
        self.gone = False
        self.waiting = 0  # bytes in the queue
        self.mark = 0  # where in the log a client goes on that was too slow
        self.log_fd = -1  # the log, on its way to a client that was too slow
        self._queue: list[tuple[bytearray, int]] = []  # frames, and where the log has them
        posix.set_blocking(fd, False)

    @classmethod
    def restore(cls, carried: dict[str, Any]) -> Client:
        """The client that :meth:`carry` described, after a re-execution."""
        client = cls(carried["fd"], carried["wants"], foreground=carried["foreground"])
        for name in _CARRIED:
            setattr(client, name, carried[name])
        client._queue = [(bytearray(frame), position) for frame, position in carried["queue"]]
        return client

    def carry(self) -> dict[str, Any]:
        """Everything about this client in values that ``marshal`` knows."""
        carried = {name: getattr(self, name) for name in ("fd", "wants", "foreground", *_CARRIED)}
        carried["queue"] = [(bytes(frame), position) for frame, position in self._queue]
        return carried

    @property
    def pending(self) -> bool:
        """Something waits for room in the socket."""
        return bool(self._queue) or self.log_fd >= 0

    def output(self, word: bytes, data: bytes, position: int) -> None:
        """Send output, or the news that the log has some."""
        if self.lagging or b"w" in self.wants:
            self.notify()
        elif (b"o" if word == frames.STDOUT else b"e") in self.wants:
            self.send(word, data, position)

    def send(self, word: bytes, data: bytes = b"", position: int = 0) -> None:
        """Send one frame, now or when the client has room for it."""
        if self.dismissed and word != frames.REFUSED:
            return
        if not self.pending:
            try:
                posix.writev(self.fd, (word, data))
                return
            except BlockingIOError:
                pass
            except OSError:
                self.gone = True
                return
        self._enqueue(word, data, position)

    def flush(self) -> None:
        """Send what waits, as far as the client takes it."""
        try:
            if self.log_fd >= 0:
                self._hand_over_log()
            while self._queue:
                posix.write(self.fd, self._queue[0][0])
                self.waiting -= len(self._queue.pop(0)[0]) - 1
            self.gone = self.dismissed
        except BlockingIOError:
            pass
        except OSError:
            self.gone = True

    def redirect_to_log(self, log_fd: int) -> None:
        """Drop what waits: the client finds it, and all that follows, in the log."""
        self.lagging = True
        self.log_fd = log_fd
        self.mark = self._queue[0][1]
        self._queue.clear()
        self.waiting = 0

    def _hand_over_log(self) -> None:
        rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, self.log_fd.to_bytes(4, sys.byteorder))
        connection = _socket.socket(fileno=self.fd)
        try:
            connection.sendmsg([frames.LAGGED, b"%d " % self.mark, self.wants], [rights])
        finally:
            connection.detach()
        posix.close(self.log_fd)
        self.log_fd = -1

    def dismiss(self, reason: bytes) -> None:
        """End the connection when the client has read so far, and say why."""
        self._queue.clear()
        self.waiting = 0
        self.wants = b""
        self.dismissed = True
        self.send(frames.REFUSED, reason)
        self.gone = self.gone or not self.pending

    def close(self) -> None:
        posix.close(self.fd)
        if self.log_fd >= 0:
            posix.close(self.log_fd)

    def notify(self) -> None:
        """Tell that the log has grown."""
        if self.pending:
            return
        try:
            posix.write(self.fd, frames.GREW)
        except BlockingIOError:
            pass  # earlier news are still unread: they tell the same
        except OSError:
            self.gone = True

    def _enqueue(self, word: bytes, data: bytes, position: int) -> None:
        last = self._queue[-1][0] if self._queue else bytearray()
        is_output = word in (frames.STDOUT, frames.STDERR)
        if is_output and last[:1] == word and len(last) + len(data) <= frames.CHUNK + 1:
            last += data
        else:
            self._queue.append((bytearray(word + data), position))
        self.waiting += len(data)
