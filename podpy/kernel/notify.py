"""Seccomp user notification: another process answers a system call (seccomp_unotify(2)).

A filter that answers ``USER_NOTIFY`` stops the caller until the holder of the
filter's listener has said what the call returns, or that the kernel shall carry
it out after all.  (The filter is loaded by ``seccomp.load_with_listener``.)

While a call waits, its caller may die and its process id be given to somebody
else: what was opened through ``/proc/PID`` is the caller's only if
:meth:`Listener.waits` says so *afterwards*.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct

# linux/seccomp.h: the SECCOMP_IOCTL_NOTIF_ requests
_RECEIVE = 0xC0502100
_SEND = 0xC0182101
_ID_VALID = 0x40082102
_SET_FLAGS = 0x40082104
_SYNC_WAKE_UP = 1  # Linux 6.6
_CONTINUE = 1

# struct seccomp_notif (id, pid, flags, and struct seccomp_data) and struct seccomp_notif_resp
_NOTIFICATION = struct.Struct("=QIIiIQ6Q")
_RESPONSE = struct.Struct("=QqiI")
_NOTHING = bytes(_NOTIFICATION.size)


class Call:
    """A system call that waits: whose it is (a thread of the listener's pid namespace), and what.

    ``arguments`` are registers: what is an ``int`` for the kernel may have any upper half.
    """

    __slots__ = ("architecture", "arguments", "id", "number", "pid")

    def __init__(self, notification: bytes | bytearray) -> None:
        fields = _NOTIFICATION.unpack(notification)
        self.id, self.pid, _, self.number, self.architecture, _ = fields[:6]
        self.arguments: tuple[int, ...] = fields[6:]


def as_int(register: int) -> int:
    """The ``int`` in a register."""
    low = register & 0xFFFFFFFF
    return low - (1 << 32) if low >> 31 else low


class Listener:
    """The end at which calls arrive; owns the descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._buffer = bytearray(_NOTIFICATION.size)
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)
        try:
            fcntl.ioctl(fd, _SET_FLAGS, _SYNC_WAKE_UP)
        except OSError:
            pass  # an older kernel: answers cost a little more

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        os.close(self._fd)

    def receive(self) -> Call | None:
        """The next call; None when nobody is left who could make one."""
        while True:
            ((_, events),) = self._poll.poll()
            if not events & select.POLLIN:
                return None
            self._buffer[:] = _NOTHING  # the kernel insists
            try:
                fcntl.ioctl(self._fd, _RECEIVE, self._buffer)
            except FileNotFoundError:
                continue  # its caller died between the two
            return Call(self._buffer)

    def waits(self, call: Call) -> bool:
        """Whether the caller still waits, and so its pid is still its own."""
        try:
            fcntl.ioctl(self._fd, _ID_VALID, call.id.to_bytes(8, "little"))
        except FileNotFoundError:
            return False
        return True

    def answer(self, call: Call, value: int = 0, *, error: int = 0) -> None:
        """What the call returns: ``value``, or the errno ``error``."""
        self._send(_RESPONSE.pack(call.id, value, -error, 0))

    def proceed(self, call: Call) -> None:
        """Let the kernel carry the call out, with the arguments it finds *then*."""
        self._send(_RESPONSE.pack(call.id, 0, 0, _CONTINUE))

    def _send(self, response: bytes) -> None:
        try:
            fcntl.ioctl(self._fd, _SEND, response)
        except FileNotFoundError:
            pass  # the caller is dead
