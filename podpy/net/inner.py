"""The inner child of the network supervisor: whatever must be done inside its namespace.

The shared network namespace belongs to a user namespace in which only the
caller is mapped.  This child is root there and nowhere else.  It opens
sockets and hands them out, writes the namespace's sysctls and runs programs
such as ``nft``; that is its whole vocabulary.  Everything else is done from
outside, through the sockets.

It ends with its parent, whose end of the channel closes.  The namespace lives
on for as long as anybody holds a descriptor of it: every supervisor does, so a
new inner child can :func:`Inner.enter` what an old one has left.
"""

from __future__ import annotations

import _signal
import _socket
import errno
import fcntl
import os
from _struct import pack

from podpy import files
from podpy.errors import HostError, suppress
from podpy.kernel import libc, netlink, process, userns
from podpy.kernel import packets as kernel_packets
from podpy.net import packets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    Answer = tuple[dict[str, Any], _socket.socket | None]

TUNSETIFF, TUNSETPERSIST = 0x400454CA, 0x400454CB  # linux/if_tun.h
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
_TUN = "/dev/net/tun"
_SYSCTLS = "/proc/sys/net/"


class Inner:
    """The inner child as its parent sees it: requests and answers.

    ``netns`` is a descriptor of the shared network namespace, ``route`` an
    rtnetlink socket in it.  A child that is killed is replaced when it is needed.
    """

    def __init__(self, pid: int, channel: _socket.socket) -> None:
        self._pid = pid
        self._channel = channel
        self.netns, route = _greeted(pid, channel)
        self.route = netlink.Route(_socket.socket(fileno=route))

    @classmethod
    def create(cls) -> Inner:
        """Make a new user and network namespace."""
        return cls(*_fork(_make_namespaces))

    @classmethod
    def enter(cls, netns: int) -> Inner:
        """Enter an existing network namespace and the user namespace that owns it."""
        return cls(*_fork(lambda: _join(netns)))

    @property
    def pid(self) -> int:
        """The child's; a network helper can be given it."""
        try:
            has_ended = os.waitpid(self._pid, os.WNOHANG)[0]
        except ChildProcessError:
            has_ended = True
        if has_ended:
            self._replace()
        return self._pid

    def open(
        self, family: int, kind: int, protocol: int = 0, *, device: str = "",
        bind: tuple[str, int] | None = None, transparent: bool = False, listen: int = 0,
    ) -> _socket.socket:  # fmt: skip
        """A socket of the shared namespace.

        ``device`` binds it to an interface, ``bind`` to an address;
        ``transparent`` lets that address be a foreign one (ip(7)); ``listen`` is
        the length of the queue.  ``OSError`` when the kernel refuses.
        """
        request = {
            "do": "open",
            "family": family,
            "kind": kind,
            "protocol": protocol,
            "device": device,
            "bind": bind,
            "transparent": transparent,
            "listen": listen,
        }
        return _socket.socket(fileno=self._ask(request)[1][0])

    def make_tap(self, name: str) -> None:
        """Make a tap device that stays when whoever serves it ends; that it exists is no error."""
        self._ask({"do": "tap", "name": name})

    def sysctl(self, path: str, value: str) -> None:
        """Write ``/proc/sys/net/PATH`` of the shared namespace."""
        self._ask({"do": "sysctl", "path": path, "value": value})

    def run(self, argv: Sequence[str], text: str = "") -> str:
        """Run a program inside, with ``text`` as its input; what it printed.

        ``HostError`` with its last words when it fails.
        """
        answer, _ = self._ask({"do": "run", "argv": list(argv), "input": text})
        return str(answer["output"])

    def close(self) -> None:
        """End the child and wait for it."""
        self._channel.close()
        self.route.close()
        os.close(self.netns)
        self._reap()

    def _ask(self, request: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        """The answer and its descriptors, of a second child if the first has ended."""
        packet, fds = self._exchange(request)
        if not packet:
            self._replace()
            packet, fds = self._exchange(request)
        if not packet:
            raise HostError("network namespace: the process inside it is killed again and again")
        answer = files.loads(packet)
        if "errno" in answer:
            raise OSError(answer["errno"], answer["error"])
        if "error" in answer:
            raise HostError(answer["error"])
        return answer, fds

    def _exchange(self, request: dict[str, Any]) -> tuple[bytes, list[int]]:
        try:
            packets.send(self._channel, request)
        except ConnectionError:
            return b"", []
        return kernel_packets.receive(self._channel)

    def _replace(self) -> None:
        self._channel.close()
        self._reap()
        self._pid, self._channel = _fork(lambda: _join(self.netns))
        for fd in _greeted(self._pid, self._channel):
            os.close(fd)  # we have these

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            os.waitpid(self._pid, 0)


def _greeted(pid: int, channel: _socket.socket) -> list[int]:
    """A new child's namespace and rtnetlink socket."""
    greeting, fds = packets.receive(channel)
    if "error" in greeting:
        os.waitpid(pid, 0)
        raise HostError(f"network namespace: {greeting['error']}", hint=greeting["hint"])
    if len(fds) != 2:
        raise HostError("network namespace: the process inside it was killed")
    return fds


# --- the child ---------------------------------------------------------------


def _fork(enter: Callable[[], None]) -> tuple[int, _socket.socket]:
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    pid = process.fork_child(lambda: _live(enter, ours, theirs))
    theirs.close()
    return pid, ours


def _live(enter: Callable[[], None], ours: _socket.socket, channel: _socket.socket) -> int:
    ours.close()
    _signal.signal(_signal.SIGINT, _signal.SIG_IGN)
    _signal.signal(_signal.SIGTERM, _signal.SIG_DFL)
    process.set_title("podpy-netns", "podpy network supervisor, inside")
    try:
        enter()
        route = netlink.open_socket()
        netns = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        refused = userns.unshare_error(error)
        packets.send(channel, {"error": refused.message, "hint": refused.hint})
        return 1
    # The lock, the sockets and the pipes of the parent are nothing for this process.
    process.close_others((channel.fileno(), netns, route.fileno()), first=3)
    packets.send(channel, {}, (netns, route.fileno()))
    os.close(netns)
    route.close()
    while True:
        request, _ = packets.receive(channel)
        if not request:
            return 0
        _answer(channel, request)


def _make_namespaces() -> None:
    own = userns.own_map()
    libc.unshare(libc.CLONE_NEWUSER | libc.CLONE_NEWNET)
    userns.write_maps(os.getpid(), own)
    netlink.set_loopback_up()


def _join(netns: int) -> None:
    owner = userns.owner_of(netns)
    libc.setns(owner, libc.CLONE_NEWUSER)
    libc.setns(netns, libc.CLONE_NEWNET)
    os.close(owner)


def _answer(channel: _socket.socket, request: dict[str, Any]) -> None:
    try:
        answer, opened = _VERBS[request.pop("do")](**request)
    except OSError as error:
        packets.send(channel, {"errno": error.errno or 0, "error": error.strerror or str(error)})
    except HostError as error:
        packets.send(channel, {"error": error.message})
    else:
        packets.send(channel, answer, () if opened is None else (opened.fileno(),))
        if opened is not None:
            opened.close()


def _open(
    *, family: int, kind: int, protocol: int, device: str, bind: Sequence[Any] | None,
    transparent: bool, listen: int,
) -> Answer:  # fmt: skip
    made = _socket.socket(family, kind | _socket.SOCK_CLOEXEC, protocol)
    try:
        if family == _socket.AF_INET6 and kind != _socket.SOCK_RAW:
            made.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 1)
        if family in (_socket.AF_INET, _socket.AF_INET6):
            made.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        if device:
            made.setsockopt(_socket.SOL_SOCKET, _socket.SO_BINDTODEVICE, device.encode())
        if transparent:
            _make_transparent(made, family)
        if bind is not None:
            made.bind(tuple(bind))
        if listen:
            made.listen(listen)
    except BaseException:
        made.close()
        raise
    return {}, made


def _make_transparent(made: _socket.socket, family: int) -> None:
    IP_TRANSPARENT, IPV6_TRANSPARENT = 19, 75  # ip(7), ipv6(7): the socket module lacks them
    if family == _socket.AF_INET6:
        made.setsockopt(_socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
    else:
        made.setsockopt(_socket.IPPROTO_IP, IP_TRANSPARENT, 1)


def _tap(name: str) -> Answer:
    fd = os.open(_TUN, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, TUNSETIFF, pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
        fcntl.ioctl(fd, TUNSETPERSIST, 1)
    except OSError as error:
        if error.errno != errno.EBUSY:  # it is there, and served
            raise
    finally:
        os.close(fd)
    return {}, None


def _sysctl(path: str, value: str) -> Answer:
    fd = os.open(os.path.join(_SYSCTLS, path), os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)
    return {}, None


def _run(argv: Sequence[str], input: str) -> Answer:
    done = process.run(argv, input=input.encode())
    if done.code:
        said = done.stderr.decode(errors="replace").strip() or f"status {done.code}"
        raise HostError(f"{argv[0]}: {said}")
    return {"output": done.stdout.decode(errors="replace")}, None


_VERBS: dict[str, Callable[..., Answer]] = {
    "open": _open,
    "tap": _tap,
    "sysctl": _sysctl,
    "run": _run,
}
