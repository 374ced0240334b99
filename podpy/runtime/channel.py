"""The closed vocabulary between the processes that start a container.

Two channels of one form, ``SOCK_SEQPACKET`` pairs on which a packet is a
message: P ↔ S (what became of it) and S ↔ M, I (the steps of the way).  The
end of M and I closes by itself at ``execve``; that silence after ``GO`` is the
news that the payload runs.  Whatever fails between ``fork`` and ``execve`` is
sent as one ``FAILED`` message with the step, the errno and the text, and P alone
tells the user.
"""

from __future__ import annotations

import _socket
import os
import select

from podpy import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# M → S, in this order.
UNSHARED = "unshared"  # the namespaces exist: write the id map; with a lender, user and net
FORKED = "forked"  # the container's first process: its pid as the host sees it
PTY = "pty"  # the terminal's master, as a descriptor
READY = "ready"  # I has mounted everything and waits for GO
LISTENER = "listener"  # after GO: a descriptor to answer the payload's calls by, its uid and gid
# S → M, I.
MAPPED = "mapped"  # the id map is written and the cgroup entered
GO = "go"  # state.json and the network stand: execute the command
# S → P.
STARTED = "started"  # the payload runs: its pid
# From anybody.
FAILED = "failed"  # error class, step, hint

_LIMIT = 32768
_SEPARATOR = "\x1f"
_CLASSES = {
    name: cls
    for name, cls in vars(errors).items()
    if isinstance(cls, type) and issubclass(cls, errors.PodpyError)
}


class Channel:
    """One end of a channel; a context manager that closes it."""

    def __init__(self, sock: _socket.socket) -> None:
        self._socket = sock
        self._early: dict[str, tuple[list[str], list[int]]] = {}

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        left, right = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        return cls(left), cls(right)

    def __enter__(self) -> Channel:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def send(self, kind: str, *details: object, fds: Sequence[int] = ()) -> None:
        """Send one message; nobody listening any more is no error of the sender."""
        text = _SEPARATOR.join((kind, *(str(detail) for detail in details)))
        packet = text.encode(errors="surrogateescape")[:_LIMIT]
        ancillary = []
        if fds:
            packed = b"".join(fd.to_bytes(4, "little") for fd in fds)
            ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, packed)]
        try:
            self._socket.sendmsg([packet], ancillary, _socket.MSG_NOSIGNAL)
        except (BrokenPipeError, ConnectionError):
            pass

    def receive(self) -> tuple[str, list[str], list[int]]:
        """The next message as kind, details and descriptors; kind is empty at the end."""
        try:
            packet, ancillary, _, _ = self._socket.recvmsg(
                _LIMIT, _socket.CMSG_SPACE(16), _socket.MSG_CMSG_CLOEXEC
            )
        except ConnectionError:
            return "", [], []
        fds = []
        for level, kind, data in ancillary:
            if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
                fds += [
                    int.from_bytes(data[i : i + 4], "little") for i in range(0, len(data) - 3, 4)
                ]
        word, *details = packet.decode(errors="surrogateescape").split(_SEPARATOR)
        return word, details, fds

    def expect(self, kind: str, *, sender: int = -1) -> list[str]:
        """The details of the message of that kind; raises what FAILED carries.

        ``sender`` is a pidfd: where others hold the far end as well, the death of
        the one who was to speak is no silence.
        """
        return self._await(kind, sender)[0]

    def expect_descriptor(self, kind: str) -> int:
        """Like :meth:`expect`, for a message that carries one descriptor."""
        _, fds = self._await(kind)
        if len(fds) != 1:
            raise _silence(kind)
        return fds[0]

    def expect_descriptors(self, kind: str) -> list[int]:
        """Like :meth:`expect`, for a message that may carry descriptors."""
        return self._await(kind)[1]

    def _await(self, kind: str, sender: int = -1) -> tuple[list[str], list[int]]:
        """The next message of that kind; others are kept for when they are asked for.

        M and I share one end: I may be READY before M has said that it FORKED.
        """
        while kind not in self._early:
            if sender >= 0 and not self._has_news(sender):
                raise _silence(kind)
            word, details, fds = self.receive()
            if word == FAILED:
                raise revive(details)
            if not word:
                raise _silence(kind)
            self._early[word] = (details, fds)
        return self._early.pop(kind)

    def _has_news(self, sender: int) -> bool:
        """Wait for a message or the sender's death; False when it died without one."""
        poll = select.poll()
        poll.register(self, select.POLLIN)
        poll.register(sender, select.POLLIN)
        return self.fileno() in dict(poll.poll())

    def fail(self, step: str, error: BaseException) -> None:
        """Report an exception of a child: the step it broke off, and why."""
        if isinstance(error, errors.PodpyError):
            self.send(FAILED, type(error).__name__, error.message, error.hint)
            return
        self.send(FAILED, "LaunchError", f"{step}: {describe(error)}", "")


def _silence(kind: str) -> errors.LaunchError:
    return errors.LaunchError(f"start the container: no answer ({kind} was expected)")


def describe(error: BaseException) -> str:
    """An exception in words: the kernel's for an ``OSError``, with the path it is about."""
    if isinstance(error, OSError) and error.errno:
        where = f" {os.fsdecode(error.filename)}:" if error.filename else ""
        return f"{where} {os.strerror(error.errno)}".strip()
    return f"{type(error).__name__}: {error}"


def revive(details: Sequence[str]) -> errors.PodpyError:
    """The exception that :meth:`Channel.fail` sent."""
    name, message, hint = (*details, "", "", "")[:3]
    return _CLASSES.get(name, errors.LaunchError)(message, hint=hint)
