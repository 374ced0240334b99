"""Talking to the network supervisor, and starting it: what a container's start needs.

The supervisor lives in a directory of the runtime directory, here called its
place (:attr:`podpy.paths.Store.network_run`).  Holding the lock there *is* being
the supervisor: whoever gets it becomes one, and the kernel gives it up when
that process dies, however it dies.  Who finds the lock taken knows that
somebody answers on the socket, or will in a moment.

The words of the protocol (``do``) are told in :mod:`podpy.net.bridge`.
"""

from __future__ import annotations

import _signal
import _socket
import errno
import fcntl
import os
import time

from podpy import errors, files
from podpy.errors import HostError, PodpyError
from podpy.kernel import libc, process
from podpy.net import packets
from podpy.records import from_dict, record, to_dict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from podpy.model import Attachment, Network

LOCK = "lock"
SOCKET = "socket"
ERRORS = "errors"  # what the last supervisor said when it failed
_PATIENCE = 10.0  # seconds until a supervisor that should be there has answered
_PAUSE = 0.005
_ABSENT = (errno.ENOENT, errno.ECONNREFUSED, errno.ECONNRESET, errno.EPIPE)


def ensure(place: str) -> None:
    """Start the network supervisor unless it runs; does not wait for it.

    Call it in a single-threaded process that belongs to no container: the
    supervisor is its child, and outlives it.
    """
    if is_running(place):
        return
    os.makedirs(place, 0o700, exist_ok=True)
    lock = take_lock(place)
    if lock < 0:
        return
    try:
        listener = listen(place)
        process.fork_child(lambda: _become_supervisor(place, lock, listener))
        listener.close()
    finally:
        os.close(lock)


def take_over(place: str, lock: int) -> int:
    """Become the supervisor in a process that inherited the lock; the exit status.

    So a container's supervisor starts a new one where the last was killed.
    """
    os.set_inheritable(lock, False)
    return _become_supervisor(place, lock, listen(place))


def take_lock(place: str) -> int:
    """The lock that makes its holder the supervisor, or -1 when there is one."""
    fd = os.open(f"{place}/{LOCK}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return -1
    return fd


def listen(place: str) -> _socket.socket:
    """The supervisor's listening socket; only for the holder of the lock."""
    name = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    listener = _open_socket()
    try:
        try:
            os.unlink(SOCKET, dir_fd=name)
        except FileNotFoundError:
            pass
        listener.bind(f"/proc/self/fd/{name}/{SOCKET}")
        listener.listen(128)
    finally:
        os.close(name)
    return listener


def _become_supervisor(place: str, lock: int, listener: _socket.socket) -> int:
    os.setsid()
    os.chdir("/")
    os.umask(0o077)
    process.default_signals()
    _signal.signal(_signal.SIGPIPE, _signal.SIG_IGN)  # clients of published ports come and go
    process.set_title("podpy-network", "podpy network supervisor")
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
    for fd, target in ((null, 0), (null, 1), (os.open(f"{place}/{ERRORS}", flags, 0o600), 2)):
        os.dup2(fd, target)
    _keep_only(lock, listener.fileno())
    from podpy.net import bridge

    return bridge.serve(place, lock, listener)


def _keep_only(*kept: int) -> None:
    low = 3
    for fd in sorted(kept):
        if low < fd:
            libc.close_range(low, fd - 1)
        low = fd + 1
    libc.close_range(low)


def accept(listener: _socket.socket) -> _socket.socket:
    """The next connection; ``BlockingIOError`` where there is none and nobody waits."""
    fd, _ = listener._accept()  # type: ignore[attr-defined]  # what socket.accept() is made of
    return _socket.socket(fileno=fd)


# --- conversations -----------------------------------------------------------


def _open_socket() -> _socket.socket:
    return _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)


def _connect(place: str) -> _socket.socket:
    name = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    channel = _open_socket()
    try:
        channel.connect(f"/proc/self/fd/{name}/{SOCKET}")
    except BaseException:
        channel.close()
        raise
    finally:
        os.close(name)
    return channel


def is_running(place: str) -> bool:
    """Whether a network supervisor answers."""
    try:
        _connect(place).close()
    except OSError:
        return False
    return True


class Conversation:
    """A connection to the supervisor, which is started where there is none."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._channel = self._reach()

    def _reach(self) -> _socket.socket:
        give_up = time.monotonic() + _PATIENCE
        while True:
            try:
                return _connect(self._place)
            except OSError as error:
                if error.errno not in _ABSENT or time.monotonic() > give_up:
                    raise HostError(
                        f"network supervisor: {error.strerror}: no answer",
                        hint=f"look at who holds {self._place}/{LOCK}",
                    ) from None
            ensure(self._place)
            time.sleep(_PAUSE)

    def send(self, packet: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """Send one request.  A supervisor that ends at this moment is replaced."""
        try:
            packets.send(self._channel, packet, fds)
        except OSError:
            self._channel.close()
            self._channel = self._reach()
            packets.send(self._channel, packet, fds)

    def receive(self) -> tuple[dict[str, Any], list[int]]:
        """The answer and its descriptors; raises the error that it tells of."""
        self._channel.settimeout(None)
        answer, fds = packets.receive(self._channel)
        if not answer:
            raise HostError(f"network supervisor: {self._last_words()}", hint="try again")
        if "error" in answer:
            raise _revived(answer)
        return answer, fds

    def _last_words(self) -> str:
        try:
            said = files.read_bytes(f"{self._place}/{ERRORS}").decode(errors="replace")
        except OSError:
            said = ""
        return said.strip().removeprefix("Error: ") or "it ended without an answer"

    def detach(self) -> int:
        """The connection's descriptor, which now belongs to the caller."""
        return self._channel.detach()

    def close(self) -> None:
        self._channel.close()


def _revived(answer: dict[str, Any]) -> PodpyError:
    kind = getattr(errors, answer.get("kind", ""), HostError)
    made: PodpyError = kind(answer["error"], hint=answer.get("hint", ""))
    return made


def telling(error: BaseException) -> dict[str, Any]:
    """The packet by which the supervisor reports an error."""
    if isinstance(error, PodpyError):
        return {"error": error.message, "hint": error.hint, "kind": type(error).__name__}
    if isinstance(error, OSError):
        return {"error": f"network: {error.strerror or error}"}
    return {"error": f"network: internal error: {type(error).__name__}: {error}"}


def _ask(place: str, packet: dict[str, Any]) -> dict[str, Any]:
    """One request of a command; an empty answer where no supervisor runs."""
    if not is_running(place):
        return {}
    talk = Conversation(place)
    try:
        talk.send(packet)
        return talk.receive()[0]
    finally:
        talk.close()


def connect(place: str, container_id: str, network: Network, attachment: Attachment) -> None:
    """Plug a running container into a network."""
    member = {"network": to_dict(network), "attachment": to_dict(attachment)}
    _ask(place, {"do": "connect", "container": container_id, **member})


def disconnect(place: str, container_id: str, network: str) -> None:
    """Unplug a running container from a network."""
    _ask(place, {"do": "disconnect", "container": container_id, "network": network})


def rename(place: str, container_id: str, name: str, names: Sequence[str]) -> None:
    """Call a running container otherwise on its networks."""
    _ask(place, {"do": "rename", "container": container_id, "name": name, "names": list(names)})


def reload(place: str, container_id: str = "") -> None:
    """Make a container's interfaces, names and ports anew; every container's without one."""
    _ask(place, {"do": "reload", "container": container_id})


def update(place: str, network: Network) -> None:
    """Tell of a network's changed definition (its name servers)."""
    _ask(place, {"do": "update", "network": to_dict(network)})


# --- registrations -----------------------------------------------------------


@record
class Registration:
    """What a container brings when it is attached, or when it comes back to a new supervisor.

    ``networks`` are pairs ``{"network": …, "attachment": …}`` in the order of
    its interfaces; ``names`` those by which it is known on every network;
    ``links`` pairs of a name that it alone uses and the name of who is meant;
    ``endpoints``, the final ``ports`` and what its egress policy ``denied`` are
    known when it comes back.
    """

    container: str
    name: str
    names: tuple[str, ...] = ()
    networks: tuple[Any, ...] = ()
    ports: tuple[Any, ...] = ()
    egress: Any = None
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    endpoints: tuple[Any, ...] = ()
    denied: tuple[Any, ...] = ()


def registration(values: dict[str, Any]) -> Registration:
    """The registration that a packet holds."""
    return from_dict(Registration, values)
