"""The client's side of a supervisor: connect, forward, and tell how it ended."""

from __future__ import annotations

import os

import _signal
import _socket
import select
import time

from podpy.errors import HostError, StateError
from podpy.kernel import process
from podpy.model import record
from podpy.runtime import frames, terminal
from podpy.runtime.loop import IN, OUT, Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podpy.model import ProcessIdentity


@record
class AttachResult:
    """How a session ended: with the container (``exit_code``), or without it.

    ``exit_code`` is None when the user detached (``detached``) or the
    supervisor vanished; then the container's state tells what is known.
    """

    exit_code: int | None = None
    detached: bool = False


def connect(run_directory: str, supervisor: ProcessIdentity | None = None) -> int:
    """A connection to a container's supervisor; say what it is for by :func:`hello`.

    A missing socket is asked for: ``supervisor`` makes a new one when signalled.
    """


def client(
    fd: int,
    *,
    tty: bool,
    stdin: bool,
    detach_keys: str = "ctrl-p,ctrl-q",
    sig_proxy: bool = True,
) -> AttachResult:
    """Be the terminal of a container until it ends or the user detaches.

    ``fd`` is the foreground socket that ``run`` made, or a connection
    (:func:`connect`, :func:`hello`).  Output goes to descriptors 1 and 2; with
    ``stdin``, descriptor 0 is forwarded, in raw mode where it is a terminal and
    the container has one (``tty``).  The terminal is put back on every way out.
    """
    raise StateError("not connected")
