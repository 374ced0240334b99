"""UDP ports on the host's loopback, where slirp4netns and older pastas do not answer.

slirp4netns shows clients on the loopback to the container as its own gateway,
and with the host's loopback closed it drops everything that the container
sends there, answers included.  A small process relays such ports instead
(:mod:`podpy.net.relay`).  The helper still has the port on every other
address: a datagram goes to the socket that is bound to its destination most exactly.
"""

from __future__ import annotations

import _socket
import marshal
import os
import sys

from podpy.kernel import libc, packets, process
from podpy.net import ports, relay
from podpy.records import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from podpy.netmodel import PortMapping

_LOOPBACK = "127.0.0.1"
_BOOTSTRAP = (
    "import marshal,posix,sys;sys.modules['__future__']=sys;sys.annotations=None;"
    "code,arguments=marshal.loads(posix.pread({0},1<<20,0));posix.close({0});"
    "exec(code);serve(*arguments)"
)


class Relay:
    """A running relay; it ends when ``exit_fd`` is closed."""

    def __init__(self, pid: int, exit_fd: int) -> None:
        self.pid = pid
        self.exit_fd = exit_fd

    def stop(self) -> None:
        process.wait(self.dismiss())

    def dismiss(self) -> int:
        """Let the relay end, and leave it to the caller to reap it: its pid."""
        os.close(self.exit_fd)
        return self.pid


def start(
    namespaces: tuple[str, str],
    address: str,
    mappings: Sequence[PortMapping],
    *,
    holder: ports.Holder | None = None,
) -> Relay:
    """Relay ``mappings`` to ``address``, the container's own.

    ``namespaces`` are paths of the container's user and network namespace.
    The helper has bound its part of the ports.
    """
    opened: list[_socket.socket] = []
    try:
        opened += [_outer_socket(mapping, holder) for mapping in mappings]
        inner = _inner_sockets(namespaces, len(mappings))
        opened += inner
        given = [
            (outer.fileno(), inside.fileno(), address, mapping.container_port)
            for outer, inside, mapping in zip(opened, inner, mappings)
        ]
        return _spawn(given)
    finally:
        for each in opened:
            each.close()


def _outer_socket(mapping: PortMapping, holder: ports.Holder | None) -> _socket.socket:
    """Bound beside the helper's socket, which got SO_REUSEADDR once it was bound."""
    try:
        if mapping.host_ip in ports.WILDCARDS:
            return ports.bind_beside(replace(mapping, host_ip=_LOOPBACK))
        return ports.bind(mapping, mapping.host_port)
    except OSError as error:
        raise ports.refusal(error, mapping, holder) from None


def _inner_sockets(paths: tuple[str, str], count: int) -> list[_socket.socket]:
    """UDP sockets of the container's network namespace, made there by a child and handed out."""
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    namespaces = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in paths]

    def make() -> None:
        libc.prctl(libc.PR_SET_DUMPABLE, 0)
        libc.setns(namespaces[0], libc.CLONE_NEWUSER)
        libc.setns(namespaces[1], libc.CLONE_NEWNET)
        for _ in range(count):
            inner = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
            inner.setsockopt(_socket.IPPROTO_IP, relay.IP_PKTINFO, 1)
            inner.bind(("0.0.0.0", 0))
            packets.send(theirs, b"1", (inner.fileno(),))

    child = process.fork_child(make)
    theirs.close()
    for fd in namespaces:
        os.close(fd)
    try:
        return [_received(ours) for _ in range(count)]
    finally:
        ours.close()
        process.wait(child)


def _received(channel: _socket.socket) -> _socket.socket:
    _, fds = packets.receive(channel)
    if not fds:
        raise OSError("the container's network namespace cannot be joined")
    return _socket.socket(fileno=fds[0])


def _spawn(given: list[tuple[int, int, str, int]]) -> Relay:
    exit_end, exit_fd = os.pipe2(os.O_CLOEXEC)
    program, null = _program((given, exit_end)), os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    inherited = [program, exit_end, *(fd for each in given for fd in each[:2])]
    command = [sys.executable, "-IS", "-c", _BOOTSTRAP.format(program), "podpy udp relay"]
    try:
        pid = process.spawn(
            command,
            environment={"LC_ALL": "POSIX"},
            files={0: null, 1: null, 2: null, **{fd: fd for fd in inherited}},
        )
    except BaseException:
        os.close(exit_fd)
        raise
    finally:
        for fd in (program, exit_end, null):
            os.close(fd)
    return Relay(pid, exit_fd)


def _program(arguments: tuple[Any, ...]) -> int:
    """A memory file with the relay's compiled code and what it works on."""
    loader: Any = relay.__spec__.loader
    fd = os.memfd_create("relay", os.MFD_CLOEXEC)
    os.write(fd, marshal.dumps((loader.get_code(relay.__name__), arguments)))
    return fd
