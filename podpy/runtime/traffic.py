"""What flows through a supervisor: output to log and clients, input to the payload.

* Output is logged first, then sent.  The log has everything, whoever reads.
* A client that does not keep up is no brake: after ``clients.BOUND`` bytes it
  reads on in the log file by itself.  Without a complete log file (drivers
  ``none``, ``journald``, ``json-file``, or a size limit) the foreground client
  of ``run`` slows the payload down, as a pipe would, because it must get every
  byte; any other client is sent away with the reason.
* Standard input is passed on at the payload's pace; what clients send meanwhile
  stays in their sockets.
"""

from __future__ import annotations

import _socket
import posix
import sys
import time

from podpy.kernel.loop import IN, OUT
from podpy.runtime import frames
from podpy.runtime.clients import BOUND, Client

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from podpy.kernel.loop import Loop
    from podpy.runtime.logs import Log

_STDIN_BOUND = 4 * frames.CHUNK
_SHORT = 16  # more than any request but input needs
_DRAIN_BOUND = 64  # chunks read from one stream after the end; somebody else may still write
_FAREWELL = 2.0  # seconds the last frame waits for a client that is not in the foreground
_TIOCGPTPEER = 0x5441
_END_OF_FILE = b"\x04"  # what a terminal takes for it
_WORDS = {1: frames.STDOUT, 2: frames.STDERR}


class Traffic:
    """The streams of one payload and the clients attached to it."""

    def __init__(
        self, loop: Loop, task: dict[str, Any], log: Log, signal: Callable[[int], None]
    ) -> None:
        self._loop = loop
        self._task = task
        self._log = log
        self._signal = signal
        self._clients: dict[int, Client] = {}
        self._outputs: dict[int, int] = {}
        self._paused = False
        self._stdin = bytearray()
        self._stdin_ends = False
        self._pty_peer = -1
        self._open_streams()
        posix.set_blocking(task["listen_fd"], False)
        loop.watch(task["listen_fd"], IN, self._on_connect)

    def _open_streams(self) -> None:
        task = self._task
        for stream, fd in ((1, task["stdout_fd"]), (2, task["stderr_fd"])):
            if fd >= 0:
                self._outputs.setdefault(fd, stream)  # a pty is both: then it is stdout
        if task["tty"] and self._outputs:
            self._hold_pty_open()
        for fd in self._streams():
            posix.set_blocking(fd, False)
            self._loop.watch(fd, IN, self._on_stream)

    def _streams(self) -> list[int]:
        """Every stream that is open, once: a pty is output and input."""
        stdin = self._task["stdin_fd"]
        return [*self._outputs, *([stdin] if stdin >= 0 and stdin not in self._outputs else [])]

    def _hold_pty_open(self) -> None:
        """Hold a slave end: a pty whose last slave is closed for a moment reads as ended."""
        import fcntl

        flags = posix.O_RDWR | posix.O_NOCTTY | posix.O_CLOEXEC
        try:
            self._pty_peer = fcntl.ioctl(self._task["stdout_fd"], _TIOCGPTPEER, flags)
        except OSError:
            pass  # then the first moment without a slave is taken for the end of output

    # --- carried over a re-execution -----------------------------------------

    def carry(self) -> dict[str, Any]:
        """Clients and waiting input, in values that ``marshal`` knows."""
        return {
            "clients": [client.carry() for client in self._clients.values()],
            "stdin": bytes(self._stdin),
            "stdin_ends": self._stdin_ends,
        }

    def restore(self, carried: dict[str, Any]) -> None:
        for each in carried["clients"]:
            self._add(Client.restore(each))
        self._stdin += carried["stdin"]
        self._stdin_ends = carried["stdin_ends"]
        self._settle()

    def descriptors(self) -> list[int]:
        """The descriptors that a re-executed supervisor needs."""
        held = [*self._outputs, *self._clients, self._task["stdin_fd"], self._task["listen_fd"]]
        held += [client.log_fd for client in self._clients.values()]
        return [fd for fd in held if fd >= 0]

    # --- clients -------------------------------------------------------------

    def add_foreground(self, fd: int, wants: bytes) -> None:
        self._add(Client(fd, wants, foreground=True))

    def replace_listener(self, fd: int) -> None:
        """Take connections from a new socket: the old one's name is gone."""
        self._loop.forget(self._task["listen_fd"])
        posix.close(self._task["listen_fd"])
        self._task["listen_fd"] = fd
        posix.set_blocking(fd, False)
        self._loop.watch(fd, IN, self._on_connect)

    def _add(self, client: Client) -> None:
        self._clients[client.fd] = client
        self._loop.watch(client.fd, IN, self._on_client)

    def _on_connect(self, fd: int, _events: int) -> None:
        listener: Any = _socket.socket(fileno=fd)
        try:
            accepted, _ = listener._accept()
        except OSError:
            return  # the client has thought better of it
        finally:
            listener.detach()
        posix.set_inheritable(accepted, False)
        client = Client(accepted)
        self._add(client)
        self._receive(client)  # what it wants counts from now, not from the next turn
        self._settle()

    def _on_client(self, fd: int, events: int) -> None:
        client = self._clients[fd]
        if events & OUT:
            client.flush()
        if events & ~OUT:
            self._receive(client)
        self._settle()

    def _receive(self, client: Client) -> None:
        try:
            frame = posix.read(client.fd, frames.CHUNK + 1)
        except BlockingIOError:
            return
        except OSError:
            frame = b""
        if not frame:
            client.gone = True
        elif frame[:1] == frames.STDIN:
            self._take_input(client, frame[1:])
        elif frame[:1] == frames.HELLO:
            client.wants = frame[1:]
            if b"w" in client.wants:
                client.notify()  # for what was logged before we knew
        elif frame[:1] == frames.SIGNAL and frame[1:4].isdigit():
            self._signal(int(frame[1:4]))
        elif frame[:1] == frames.SIZE:
            self._resize(frame[1:])
        else:
            client.dismiss(b"unknown request")

    def _resize(self, text: bytes) -> None:
        sizes = text[:_SHORT].split()
        if not self._task["tty"] or len(sizes) != 2 or not all(map(bytes.isdigit, sizes)):
            return
        import fcntl
        import termios

        window = b"".join(min(int(n), 0xFFFF).to_bytes(2, sys.byteorder) for n in sizes)
        try:
            fcntl.ioctl(self._task["stdout_fd"], termios.TIOCSWINSZ, window + bytes(4))
        except OSError:
            pass  # the pty has ended under us

    def _settle(self) -> None:
        """Give every client and stream the attention that its queue calls for."""
        pause = False
        for client in list(self._clients.values()):
            if client.waiting > BOUND:
                pause |= self._is_brake(client)
            elif self._paused and client.foreground and client.waiting > BOUND // 2:
                pause = True
            if client.gone:
                self._drop(client)
                continue
            is_full = len(self._stdin) > _STDIN_BOUND and b"i" in client.wants
            self._loop.change(client.fd, (0 if is_full else IN) | (OUT if client.pending else 0))
        self._paused = pause
        self._pump()

    def _is_brake(self, client: Client) -> bool:
        """A client's queue is over the bound: True when the payload has to wait for it."""
        if self._log.keeps_all:
            try:
                client.redirect_to_log(self._log.open_to_read())
            except OSError:
                pass
            else:
                return False
        if client.foreground:
            return True
        client.dismiss(b"too slow for the container's output, and no complete log to read on in")
        return False

    def _drop(self, client: Client) -> None:
        self._loop.forget(client.fd)
        del self._clients[client.fd]
        client.close()
        if b"i" in client.wants and self._task["stdin_once"] and not self._task["tty"]:
            self._stdin_ends = True

    # --- streams -------------------------------------------------------------

    def _on_stream(self, fd: int, events: int) -> None:
        if events & ~OUT and fd in self._outputs:
            self._read_output(fd)
        self._settle()

    def _read_output(self, fd: int) -> bool:
        """Read, log and send one chunk; False when there is none (now, or ever again)."""
        try:
            data = posix.read(fd, frames.CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            data = b""  # EIO: a pty without slaves
        if not data:
            self._close_output(fd)
            return False
        stream = self._outputs[fd]
        self._log.write(stream, data)
        word = _WORDS[stream]
        position = self._log.start
        for client in self._clients.values():
            client.output(word, data, position)
        return True

    def _close_output(self, fd: int) -> None:
        del self._outputs[fd]
        if fd == self._task["stdin_fd"]:
            return  # a pty whose input is still open
        self._loop.forget(fd)
        posix.close(fd)
        for name in ("stdout_fd", "stderr_fd"):
            if self._task[name] == fd:
                self._task[name] = -1

    def _take_input(self, client: Client, data: bytes) -> None:
        if b"i" not in client.wants or self._task["stdin_fd"] < 0:
            return
        if data:
            self._stdin += data
        elif self._task["stdin_once"]:
            if self._task["tty"]:
                self._stdin += _END_OF_FILE
            else:
                self._stdin_ends = True

    def _pump(self) -> None:
        """Pass input on as far as the payload takes it; see what to wait for next."""
        fd = self._task["stdin_fd"]
        if self._stdin and fd >= 0:
            try:
                del self._stdin[: posix.write(fd, self._stdin)]
            except BlockingIOError:
                pass
            except OSError:
                self._stdin.clear()
                self._stdin_ends = not self._task["tty"]  # the payload has closed its end
        if self._stdin_ends and not self._stdin and fd >= 0:
            self._loop.forget(fd)
            posix.close(fd)
            self._task["stdin_fd"] = -1
        for each in self._streams():
            self._await(each)

    def _await(self, fd: int) -> None:
        mask = IN if fd in self._outputs and not self._paused else 0
        if fd == self._task["stdin_fd"] and self._stdin:
            mask |= OUT
        if mask:
            self._loop.change(fd, mask)
        else:
            self._loop.pause(fd)

    # --- the end -------------------------------------------------------------

    def drain(self) -> None:
        """Read what the payload left behind.

        Everybody in its pid namespace is dead by now; a process elsewhere that
        got hold of a stream is not waited for.
        """
        if self._pty_peer >= 0:
            posix.close(self._pty_peer)
        for fd in list(self._outputs):
            for _chunk in range(_DRAIN_BOUND):
                if not self._read_output(fd):
                    break
        self._close_streams()
        self._settle()

    def _close_streams(self) -> None:
        for fd in self._streams():
            self._loop.forget(fd)
            posix.close(fd)
        self._outputs.clear()
        self._task.update(stdin_fd=-1, stdout_fd=-1, stderr_fd=-1)

    def stop_listening(self) -> None:
        self._loop.forget(self._task["listen_fd"])
        posix.close(self._task["listen_fd"])

    def farewell(self, code: int) -> None:
        """Tell every client how the container ended; those with room know it at once."""
        for client in self._clients.values():
            client.send(frames.EXITED, b"%d" % code)
        self._settle()

    def linger(self) -> None:
        """Stay until the foreground client has taken everything, others for a moment."""
        patience = time.monotonic() + _FAREWELL
        while any(client.pending for client in self._clients.values()):
            left = patience - time.monotonic()
            if any(c.pending and c.foreground for c in self._clients.values()):
                self._loop.turn()
            elif left <= 0 or not self._loop.turn(left):
                break
