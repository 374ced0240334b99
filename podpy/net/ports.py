"""Published ports: what ``-p`` says, which host ports it gets, how they are shown.

:func:`parse` is pure.  :func:`assign` finds free host ports by binding them and
keeps them taken until the network helper has bound them itself, so that two
containers that start together never get the same port.
"""

from __future__ import annotations

import _socket
import errno
import os

from podpy.errors import Conflict, HostError, PodpyError, UsageError
from podpy.netmodel import PortMapping
from podpy.records import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    Holder = Callable[[PortMapping], str]

UNPRIVILEGED_START = "/proc/sys/net/ipv4/ip_unprivileged_port_start"
PROTOCOLS = ("tcp", "udp", "sctp")
WILDCARDS = ("", "0.0.0.0")
_LAST_PORT = 65535
_RANDOM_TRIES = 16
_NO_FAMILY = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


# --- parsing -----------------------------------------------------------------


def parse(text: str) -> tuple[PortMapping, ...]:
    """The mappings that one ``-p`` value asks for.

    ``[[IP:][HOST]:]CONTAINER[/PROTOCOL]``; ``HOST`` and ``CONTAINER`` are ports
    or ranges ``A-B``; an IPv6 address stands in brackets.  Also docker's long
    form ``published=8080,target=80,protocol=tcp``.  A range of host ports for
    one container port means any free one of them.
    """
    short = _from_long_form(text) if "=" in text else text
    addresses, _, protocol = short.partition("/")
    protocol = protocol.lower() or "tcp"
    if protocol not in PROTOCOLS:
        raise UsageError(f"invalid proto: {protocol!r} in {text!r}", hint="tcp, udp or sctp")
    rest, _, container = addresses.rpartition(":")
    ip, _, host = rest.rpartition(":")
    if not container:
        raise UsageError(f"no port specified: {text!r}")
    first, count = _range(container, "containerPort", text, lowest=1)
    mapping = PortMapping(
        container_port=first, host_ip=_address(ip, text), protocol=protocol, count=count
    )
    return (_with_host(mapping, host, text),)


def _with_host(mapping: PortMapping, host: str, text: str) -> PortMapping:
    if not host:
        return mapping
    first, count = _range(host, "hostPort", text, lowest=0)
    if count == mapping.count:
        return replace(mapping, host_port=first)
    if mapping.count == 1:
        return replace(mapping, host_port=first, choices=count)
    raise UsageError(
        f"invalid ranges specified for container and host ports: {text!r}",
        hint="both ranges must have the same length, or the container's side be one port",
    )


def _from_long_form(text: str) -> str:
    values = {"published": "", "target": "", "protocol": "tcp"}
    for item in text.split(","):
        key, separator, value = item.partition("=")
        if not separator or key not in values or not value:
            raise UsageError(
                f"invalid publish opts format: {item!r} in {text!r}",
                hint="published=HOST,target=CONTAINER[,protocol=tcp|udp|sctp]",
            )
        values[key] = value
    return f"{values['published']}:{values['target']}/{values['protocol']}"


def _range(text: str, kind: str, whole: str, *, lowest: int) -> tuple[int, int]:
    first, separator, last = text.partition("-")
    low = _port(first, lowest)
    high = _port(last, lowest) if separator else low
    if low < 0 or high < low or (low == 0 and high > 0):
        raise UsageError(f"invalid {kind}: {text!r} in {whole!r}")
    return low, high - low + 1


def _port(text: str, lowest: int) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > len(str(_LAST_PORT)):
        return -1
    number = int(text)
    return number if lowest <= number <= _LAST_PORT else -1


def _address(text: str, whole: str) -> str:
    if not text:
        return ""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    family = _socket.AF_INET6 if ":" in bare else _socket.AF_INET
    try:
        return _socket.inet_ntop(family, _socket.inet_pton(family, bare))
    except OSError:
        raise UsageError(f"invalid IP address: {text!r} in {whole!r}") from None


# --- showing -----------------------------------------------------------------


def bound_address(mapping: PortMapping) -> str:
    """``0.0.0.0:8080``, ``[::1]:8080``: where the host listens."""
    ip = mapping.host_ip or "0.0.0.0"
    return f"{_bracketed(ip)}:{_span(mapping.host_port, mapping.count)}"


def expand(mapping: PortMapping) -> Iterator[PortMapping]:
    """The single ports of a mapping, in order."""
    for step in range(mapping.count):
        yield replace(
            mapping,
            container_port=mapping.container_port + step,
            host_port=mapping.host_port and mapping.host_port + step,
            count=1,
        )


def is_loopback_udp(mapping: PortMapping) -> bool:
    """A UDP port on the loopback alone, which no helper serves (see :mod:`podpy.net.loopback`)."""
    return mapping.protocol == "udp" and mapping.host_ip.startswith("127.")


def need_relay(mappings: Iterable[PortMapping]) -> tuple[PortMapping, ...]:
    """The ports that clients on the host's loopback can reach only by the relay."""
    return tuple(
        m for m in mappings
        if is_loopback_udp(m) or (m.protocol == "udp" and m.host_ip in WILDCARDS)
    )  # fmt: skip


def _bracketed(ip: str) -> str:
    return f"[{ip}]" if ":" in ip else ip


def _span(first: int, count: int) -> str:
    return str(first) if count == 1 else f"{first}-{first + count - 1}"


# --- finding free ports ------------------------------------------------------


class Assignment:
    """Host ports that are taken for a container, until its helper listens on them.

    ``mappings`` are single ports with their final numbers.  Call
    :meth:`hand_over` just before the helper binds them, :meth:`close` when it
    has.  A process that forks holds a copy and must close its own.
    """

    def __init__(self) -> None:
        self.mappings: tuple[PortMapping, ...] = ()
        self._held: list[_socket.socket] = []

    def take(self, mapping: PortMapping, holder: Holder | None) -> None:
        """Bind one port, chosen when the mapping leaves a choice."""
        taken, bound = _bind_one(mapping, holder)
        self.mappings = (*self.mappings, taken)
        self._held.append(bound)

    def hand_over(self) -> None:
        """Let the helper bind the same ports, at once.

        TCP ports stay bound beside the helper's; slirp4netns does not set
        SO_REUSEADDR on UDP sockets, so those are let go.
        """
        for held in self._held:
            hand_over(held)

    def close(self) -> None:
        for held in self._held:
            held.close()
        self._held.clear()


def assign(mappings: Sequence[PortMapping], *, holder: Holder | None = None) -> Assignment:
    """Take a host port for each single port of ``mappings``.

    ``holder`` may name the container that has a port (empty: unknown); it is
    asked only when a port turns out to be used.  Raises :class:`Conflict` for
    a used port, :class:`HostError` for a privileged one.
    """
    assignment = Assignment()
    try:
        for mapping in dict.fromkeys(single for given in mappings for single in expand(given)):
            refuse_twice(mapping, assignment.mappings)
            assignment.take(mapping, holder)
    except BaseException:
        assignment.close()
        raise
    return assignment


def hand_over(bound: _socket.socket) -> None:
    """Let somebody else bind the port that ``bound`` has, at once."""
    if bound.type == _socket.SOCK_DGRAM:
        bound.close()
    else:
        bound.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)


def refuse_twice(mapping: PortMapping, taken: Iterable[PortMapping]) -> None:
    if not mapping.host_port or mapping.choices > 1:
        return
    for other in taken:
        if is_same(other, mapping):
            raise UsageError(f"port {bound_address(mapping)}/{mapping.protocol} is published twice")


def overlap(one: str, other: str) -> bool:
    """Whether two host addresses of one port stand in each other's way.

    The empty one means all addresses, of either family.
    """
    if not one or not other:
        return True
    if (":" in one) != (":" in other):
        return False
    return one == other or bool({one, other} & {"0.0.0.0", "::"})


def is_same(one: PortMapping, other: PortMapping) -> bool:
    """Whether two published ports cannot be had together."""
    return (one.host_port, one.protocol) == (other.host_port, other.protocol) and overlap(
        one.host_ip, other.host_ip
    )


def _bind_one(mapping: PortMapping, holder: Holder | None) -> tuple[PortMapping, _socket.socket]:
    refuse_sctp(mapping)
    last: OSError | None = None
    for port in candidates(mapping):
        try:
            bound = bind(mapping, port)
        except OSError as error:
            last = error
            continue
        return replace(mapping, host_port=bound.getsockname()[1], choices=1), bound
    raise refusal(last or OSError(errno.EADDRINUSE, ""), mapping, holder)


def take(
    mapping: PortMapping, holder: Holder | None = None
) -> tuple[list[PortMapping], list[_socket.socket]]:
    """One port on each address it is to listen on, on a number that is free on all of them.

    A mapping without an address listens on all addresses of both families, where
    the host has both.  Errors as those of :func:`assign`.
    """
    hosts = (mapping.host_ip,) if mapping.host_ip else ("0.0.0.0", "::")
    last, where = OSError(errno.EADDRINUSE, ""), mapping
    for port in candidates(mapping):
        bound: list[_socket.socket] = []
        taken: list[PortMapping] = []
        try:
            for host in hosts:
                where = replace(mapping, host_ip=host)
                _take_one(replace(where, choices=1), port, taken, bound)
        except OSError as error:
            last = error
            for each in bound:
                each.close()
            continue
        return taken, bound
    raise refusal(last, where, holder)


def _take_one(
    mapping: PortMapping, port: int, taken: list[PortMapping], bound: list[_socket.socket]
) -> None:
    """Another address for the port that the first one got."""
    try:
        made = bind(mapping, taken[0].host_port if taken else port)
    except OSError as error:
        if taken and error.errno in _NO_FAMILY:
            return
        raise
    bound.append(made)
    taken.append(replace(mapping, host_port=made.getsockname()[1]))


def refuse_sctp(mapping: PortMapping) -> None:
    if mapping.protocol == "sctp":
        raise UsageError(
            f"cannot publish port {mapping.container_port}/sctp: "
            "a port reaches a rootless container through user-mode networking, "
            "which knows tcp and udp only",
            hint="use `--network host`",
        )


def candidates(mapping: PortMapping) -> Iterable[int]:
    """The host ports to try in turn; 0 lets the kernel choose."""
    if mapping.host_port:
        return range(mapping.host_port, mapping.host_port + mapping.choices)
    return (0,) * _RANDOM_TRIES


def bind(mapping: PortMapping, port: int) -> _socket.socket:
    """A socket that has the port for itself and listens on nothing.

    Where the port is not free for that, TCP tries again with SO_REUSEADDR:
    connections of an earlier container in TIME_WAIT keep a port for a minute
    from those who do not ask so.  A listening socket refuses both.
    """
    ip = mapping.host_ip or "0.0.0.0"
    family = _socket.AF_INET6 if ":" in ip else _socket.AF_INET
    is_tcp = mapping.protocol == "tcp"
    bound = _socket.socket(family, _socket.SOCK_STREAM if is_tcp else _socket.SOCK_DGRAM)
    try:
        if family == _socket.AF_INET6:
            bound.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 1)
        try:
            bound.bind((ip, port))
        except OSError as error:
            if not is_tcp or error.errno != errno.EADDRINUSE:
                raise
            bound.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
            bound.bind((ip, port))
    except BaseException:
        bound.close()
        raise
    return bound


def bind_beside(mapping: PortMapping) -> _socket.socket:
    """A UDP socket on an address whose port a helper has on all addresses.

    A datagram goes to the socket that is bound to its destination most exactly.
    """
    outer = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
    try:
        outer.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        outer.bind((mapping.host_ip, mapping.host_port))
    except BaseException:
        outer.close()
        raise
    return outer


def diagnose(mapping: PortMapping) -> OSError | None:
    """Why a helper could not listen on a port, found by trying it; None when we could."""
    try:
        bound = bind(mapping, mapping.host_port)
    except OSError as error:
        return error
    try:
        if mapping.protocol == "tcp":
            bound.listen(1)
    except OSError as error:
        return error
    finally:
        bound.close()
    return None


def refusal(error: OSError, mapping: PortMapping, holder: Holder | None = None) -> PodpyError:
    """The error to raise for a host port that could not be bound."""
    where = f"{bound_address(replace(mapping, count=mapping.choices))}/{mapping.protocol}"
    if error.errno == errno.EADDRINUSE and mapping.choices > 1:
        return Conflict(
            f"cannot publish {where}: all of these ports are already allocated"
            " (address already in use)",
            hint="choose other host ports, or stop what uses them",
        )
    if error.errno == errno.EADDRINUSE:
        name = holder(mapping) if holder else ""
        owner = f" to container {name}" if name else ""
        return Conflict(
            f"cannot publish {where}: port is already allocated{owner} (address already in use)",
            hint="choose another host port, or stop what uses it",
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return _privileged(mapping)
    if error.errno == errno.EADDRNOTAVAIL:
        return UsageError(f"cannot publish {where}: this host has no address {mapping.host_ip}")
    return HostError(f"cannot publish {where}: {error.strerror or error}")


def blame(error: PodpyError, mappings: Iterable[PortMapping], holder: Holder) -> PodpyError:
    """``error`` of the network supervisor, which knows its own containers only, put better.

    Where ``holder`` knows whose port it is that was asked for, the error names them.
    """
    if isinstance(error, Conflict):
        for mapping in (single for given in mappings for single in expand(given)):
            if mapping.host_port and mapping.choices == 1 and holder(mapping):
                return refusal(OSError(errno.EADDRINUSE, ""), mapping, holder)
    return error


def _privileged(mapping: PortMapping) -> HostError:
    start = unprivileged_start()
    return HostError(
        f"cannot expose privileged port {mapping.host_port}: "
        f"this host lets users bind ports from {start} on",
        hint=f"choose a host port from {start} on, or as root: "
        f"sysctl net.ipv4.ip_unprivileged_port_start={mapping.host_port}",
    )


def unprivileged_start() -> int:
    """The first port that needs no privilege (``net.ipv4.ip_unprivileged_port_start``)."""
    try:
        fd = os.open(UNPRIVILEGED_START, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 1024
    try:
        return int(os.read(fd, 32))
    finally:
        os.close(fd)
