"""How a process becomes the network supervisor."""

from __future__ import annotations

import _signal
import os

from podpy.kernel import process
from podpy.net import client

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket


#: What the supervisor and its helpers need of the environment of whoever starts it.
ENVIRONMENT = (
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TMPDIR", "XDG_RUNTIME_DIR",
    "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "DBUS_SESSION_BUS_ADDRESS",
    "CONTAINERS_CONF", "CONTAINERS_CONF_OVERRIDE",
)  # fmt: skip


def ensure(place: str) -> None:
    """Start the network supervisor unless it runs; does not wait for it.

    Call it in a single-threaded process that belongs to no container: the
    supervisor is its child, and outlives it.
    """
    if client.is_running(place):
        return
    os.makedirs(place, 0o700, exist_ok=True)
    lock = client.take_lock(place)
    if lock < 0:
        return
    try:
        listener = client.listen(place)
        process.fork_child(lambda: _become_supervisor(place, lock, listener))
        listener.close()
    finally:
        os.close(lock)


def take_over(place: str, lock: int) -> int:
    """Become the supervisor in a process that inherited the lock; the exit status.

    So a container's supervisor starts a new one where the last was killed.
    """
    os.set_inheritable(lock, False)
    return _become_supervisor(place, lock, client.listen(place))


def _become_supervisor(place: str, lock: int, listener: _socket.socket) -> int:
    os.setsid()
    os.chdir("/")
    os.umask(0o077)
    process.default_signals()
    _signal.signal(_signal.SIGPIPE, _signal.SIG_IGN)  # clients of published ports come and go
    process.set_title("podpy-network", "podpy network supervisor")
    process.forget_environment(ENVIRONMENT)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
    for fd, target in (
        (null, 0),
        (null, 1),
        (os.open(f"{place}/{client.ERRORS}", flags, 0o600), 2),
    ):
        os.dup2(fd, target)
    process.close_others((lock, listener.fileno()), first=3)
    from podpy.net import bridge

    return bridge.serve(place, lock, listener)
