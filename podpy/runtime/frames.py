"""What a supervisor and its clients say to each other: one word, one datagram.

The socket is ``SOCK_SEQPACKET``: a frame is sent or received whole, so nothing
is parsed and nothing is half sent.  The first byte of a frame is its word.

A client's first frame is ``HELLO`` with what it wants:

    ``i``  it forwards standard input        ``o``, ``e``  it gets stdout, stderr
    ``w``  it follows the log: ``GREW`` whenever there is more to read
    (nothing: it waits for ``EXITED`` alone)

This module and everything else a lean supervisor runs import built-in modules
only: ``posix`` for ``os``, ``_signal`` for ``signal`` (see :mod:`.lean`).
"""

from __future__ import annotations

import _socket
import posix

# client → supervisor
HELLO = b"h"
STDIN = b"i"  # bytes for the payload; none: end of file
SIZE = b"w"  # "ROWS COLUMNS" of the client's terminal
SIGNAL = b"k"  # "NUMBER": send it to pid 1 of the container

# supervisor → client
STDOUT = b"1"
STDERR = b"2"
GREW = b"n"  # the log has grown since you last looked
LAGGED = b"l"  # "OFFSET WANTS": too slow; read on in the log, whose descriptor comes along
REFUSED = b"!"  # the reason why the supervisor ends this connection
EXITED = b"x"  # "CODE": the last frame of all

CHUNK = 65536  # bytes of output or input in one frame, and a pipe's capacity
SOCKET = "attach"  # the socket's name in the container's runtime directory


def address(directory_fd: int) -> str:
    """The socket's address through a descriptor of its directory.

    ``sun_path`` holds 107 bytes; a runtime directory may be longer than that.
    """
    return f"/proc/self/fd/{directory_fd}/{SOCKET}"


def open_socket() -> _socket.socket:
    """An unconnected socket of the kind both sides use."""
    return _socket.socket(
        _socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK
    )


def open_directory(path: str) -> int:
    """A descriptor that names a directory and can do nothing else."""
    return posix.open(path, posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)


def make_directories(path: str) -> None:
    """Make a directory and the one above it: the runtime directory may have been cleaned."""
    for end in (path.rfind("/"), len(path)):
        try:
            posix.mkdir(path[:end], 0o700)
        except FileExistsError:
            pass
