"""Talking to the network supervisor: what a container's start needs, and what commands ask.

The supervisor lives in a directory of the runtime directory, here called its
place (:attr:`podpy.paths.Store.network_run`).  Holding the lock there *is* being
the supervisor: whoever gets it becomes one, and the kernel gives it up when
that process dies, however it dies.  Who finds the lock taken knows that
somebody answers on the socket, or will in a moment.

The words of the protocol (``do``) are told in :mod:`podpy.net.bridge`; how one comes
to life in :mod:`podpy.net.birth`.
"""

from __future__ import annotations

import _socket
import errno
import fcntl
import os
import time

from podpy import errors, files
from podpy.errors import HostError, PodpyError
from podpy.net import packets
from podpy.records import from_dict, record, to_dict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from podpy.netmodel import Attachment, Network

LOCK = "lock"
SOCKET = "socket"
ERRORS = "errors"  # what the last supervisor said when it failed
_PATIENCE = 10.0  # seconds until a supervisor that should be there has answered
_PAUSE = 0.005
_ATTEMPTS = 3  # supervisors that may end over one request
_ABSENT = (errno.ENOENT, errno.ECONNREFUSED, errno.ECONNRESET, errno.EPIPE)


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
    """A connection to the supervisor at a place.

    ``start`` is called where there is none; it gets the place.
    """

    def __init__(self, place: str, start: Callable[[str], None] = lambda _place: None) -> None:
        self._place = place
        self._start = start
        self._asked: tuple[dict[str, Any], Sequence[int]] = ({}, ())
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
            self._start(self._place)
            time.sleep(_PAUSE)

    def send(self, packet: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """Send one request; its descriptors stay open until it is answered."""
        self._asked = (packet, fds)
        try:
            packets.send(self._channel, packet, fds)
        except OSError:
            self._ask_again()

    def _ask_again(self) -> None:
        """The supervisor ended at this very moment: ask its successor."""
        self._channel.close()
        self._channel = self._reach()
        packets.send(self._channel, *self._asked)

    def receive(self) -> tuple[dict[str, Any], list[int]]:
        """The answer and its descriptors; raises the error that it tells of."""
        for attempt in range(_ATTEMPTS):
            if attempt:
                self._ask_again()
            answer, fds = packets.receive(self._channel)
            if "error" in answer:
                raise _revived(answer)
            if answer:
                return answer, fds
        raise HostError(f"network supervisor: {self._last_words()}", hint="try again")

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
