"""slirp4netns: a user-mode network stack behind a tap device in the container.

The container has 10.0.2.100, its gateway and host are 10.0.2.2, 10.0.2.3
answers DNS by asking the host's first resolver (slirp4netns(1)).  The host's
loopback is closed unless it is asked for.  Published ports go through the
helper's API socket, so the container sees the client's real address.
"""

from __future__ import annotations

import _socket
import errno
import os

from podpy import files
from podpy.errors import HostError, UsageError, suppress
from podpy.kernel import libc, process
from podpy.net import ports
from podpy.net.helper import Helper, boolean, locate, open_log
from podpy.netmodel import PortMapping
from podpy.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

DEVICE = "tap0"
MTU = 65520
_PATIENCE = 3.0  # seconds until a helper that is alive has answered
_MTU_RANGE = range(68, 65522)


@record
class Settings:
    """The options of ``--network slirp4netns:OPTION,…``, checked.

    ``is_shared``: for the namespace of all bridge networks, whose ``device`` the
    network supervisor sets up and whose names it answers for itself; there
    slirp4netns listens on published ports of the protocols in ``forwards``.
    """

    allow_host_loopback: bool = False
    mtu: int = MTU
    cidr: str = "10.0.2.0/24"
    enable_ipv6: bool = True
    outbound_addr: str = ""
    outbound_addr6: str = ""
    is_shared: bool = False
    device: str = DEVICE
    forwards: tuple[str, ...] = ("tcp", "udp")

    @property
    def gateway(self) -> str:
        """What reaches the host's loopback, where that is allowed."""
        return self._host(2)

    @property
    def resolver(self) -> str:
        return self._host(3)

    @property
    def address(self) -> str:
        """The container's own address."""
        return self._host(100)

    def _host(self, number: int) -> str:
        network, _ = _parse_cidr(self.cidr)
        return _socket.inet_ntoa((network + number).to_bytes(4, "big"))


def parse_options(options: Iterable[str]) -> Settings:
    """The settings for ``key=value`` options; :class:`UsageError` for what cannot be honoured."""
    values: dict[str, Any] = {}
    for option in options:
        key, _, value = option.partition("=")
        if key == "port_handler":
            _check_port_handler(value)
        elif key in ("allow_host_loopback", "enable_ipv6"):
            values[key] = boolean(key, value)
        elif key == "mtu":
            values[key] = _mtu(value)
        elif key == "cidr":
            _parse_cidr(value)
            values[key] = value
        elif key in ("outbound_addr", "outbound_addr6"):
            values[key] = _outbound(key, value)
        else:
            raise UsageError(
                f"unknown network option {option!r} for slirp4netns",
                hint="allow_host_loopback, mtu, cidr, enable_ipv6, outbound_addr, outbound_addr6, "
                "port_handler",
            )
    settings = Settings(**values)
    if settings.outbound_addr6 and not settings.enable_ipv6:
        raise UsageError("network option outbound_addr6 needs enable_ipv6=true")
    return settings


def _check_port_handler(value: str) -> None:
    if value == "rootlesskit":
        raise UsageError(
            "network option port_handler=rootlesskit cannot be honoured: "
            "podpy forwards ports by slirp4netns itself, which keeps the client's address",
            hint="leave the option out, or say port_handler=slirp4netns",
        )
    if value != "slirp4netns":
        raise UsageError(f"unknown port_handler {value!r} for slirp4netns", hint="slirp4netns")


def _mtu(value: str) -> int:
    if not (value.isascii() and value.isdigit()) or int(value[:8]) not in _MTU_RANGE:
        raise UsageError(f"invalid value {value!r} of network option mtu", hint="68 to 65521")
    return int(value)


def _parse_cidr(text: str) -> tuple[int, int]:
    """Network and prefix length; slirp4netns hands out host number 100, so /25 is the smallest."""
    address, _, prefix = text.partition("/")
    try:
        number = int.from_bytes(_socket.inet_pton(_socket.AF_INET, address), "big")
        length = int(prefix)
    except (OSError, ValueError):
        raise UsageError(f"invalid value {text!r} of network option cidr") from None
    if not 1 <= length <= 25 or number & (0xFFFFFFFF >> length):
        raise UsageError(
            f"invalid value {text!r} of network option cidr",
            hint="the address of a network, with a prefix length of at most 25",
        )
    return number, length


def _outbound(key: str, value: str) -> str:
    """An address of the right family, or the name of an interface of this host."""
    family = _socket.AF_INET6 if key.endswith("6") else _socket.AF_INET
    try:
        _socket.inet_pton(family, value)
    except OSError:
        if not value or "/" in value or not os.path.exists(f"/sys/class/net/{value}"):
            raise UsageError(
                f"network option {key}={value}: neither an address nor an interface of this host"
            ) from None
    return value


def arguments(
    program: str, pid: int, settings: Settings, namespaces: Sequence[str] = ()
) -> list[str]:
    """The command line, without the descriptors of this one start."""
    command = [program, f"--mtu={settings.mtu}", f"--cidr={settings.cidr}"]
    command.append("--disable-dns" if settings.is_shared else "--configure")
    # The sandbox is made in the user namespace of a pid; by paths the helper stays the caller.
    command += ["--enable-seccomp"] if namespaces else ["--enable-sandbox", "--enable-seccomp"]
    if not settings.allow_host_loopback:
        command.append("--disable-host-loopback")
    if settings.enable_ipv6:
        command.append("--enable-ipv6")
    if settings.outbound_addr:
        command.append(f"--outbound-addr={settings.outbound_addr}")
    if settings.outbound_addr6:
        command.append(f"--outbound-addr6={settings.outbound_addr6}")
    if namespaces:
        user, net = namespaces
        return [*command, f"--userns-path={user}", "--netns-type=path", net, settings.device]
    return [*command, str(pid), settings.device]


def start(
    pid: int, settings: Settings, *, api_socket: str = "", namespaces: Sequence[str] = (),
    life_line: int = -1, announce: Callable[[int], None] = lambda _pid: None,
) -> Helper:  # fmt: skip
    """Start slirp4netns for the network namespace of ``pid``; it is not ready yet.

    ``pid`` must be dumpable and its id map written (the helper becomes root of
    its user namespace), or ``namespaces`` be paths of its user and network
    namespace.  ``api_socket`` (needed for published ports) is the path where
    the helper will listen.  The helper ends when the last copy of
    :attr:`Helper.exit_fd` is closed; where ``life_line`` is given, that of the
    caller's own pipe, which may outlast several helpers.  ``announce`` is called
    with the helper's pid by itself, before it can do anything.
    """
    program = locate("slirp4netns", "pasta")
    ready, ready_end = os.pipe2(os.O_CLOEXEC)
    exit_end, exit_fd = _life_line(life_line)
    log, null = open_log(), os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    given = {0: null, 1: null, 2: log, ready_end: ready_end, exit_end: exit_end}
    ours = [ready_end, exit_end, null]
    command = arguments(program, pid, settings, namespaces)
    command[1:1] = [f"--ready-fd={ready_end}", f"--exit-fd={exit_end}"]
    try:
        if api_socket:
            path, directory = _by_directory(api_socket)
            command.insert(1, f"--api-socket={path}")
            given[directory] = directory
            ours.append(directory)
        helper = _fork(command, given, announce)
    except BaseException:
        for fd in {ready, exit_fd, log} - {life_line}:
            os.close(fd)
        raise
    finally:
        for fd in ours:
            os.close(fd)
    return Helper(
        "slirp4netns",
        helper,
        ready_fd=ready,
        log_fd=log,
        exit_fd=exit_fd if life_line < 0 else -1,
        api_socket=api_socket,
    )


def _life_line(existing: int) -> tuple[int, int]:
    """The helper's end and ours of the pipe whose hang-up ends it.

    Whoever has the end for writing can open the other one, too.
    """
    if existing < 0:
        return os.pipe2(os.O_CLOEXEC)
    end = os.open(f"/proc/self/fd/{existing}", os.O_RDONLY | os.O_CLOEXEC)
    return end, existing


def _leave_the_hosts_mounts() -> None:
    """Let the sandbox of root's helper unmount nothing of the host.

    It makes a mount namespace and its root alone private, then takes everything
    off: what is mounted below, where mounts are shared, would go on the host as
    well.  An ordinary user's helper does that in a user namespace, from where
    nothing propagates (mount_namespaces(7)).
    """
    with suppress(PermissionError):  # then its sandbox cannot be made either
        libc.unshare(libc.CLONE_NEWNS)
        libc.mount(None, "/", None, libc.MS_REC | libc.MS_PRIVATE)


def _fork(command: list[str], files: dict[int, int], announce: Callable[[int], None]) -> int:
    """Start the helper with ``files`` (its descriptors → ours); its pid.

    ``posix_spawn`` could not have it announced before it exists (its parent may be
    killed between any two steps), nor kept off the host's mounts.
    """

    def become() -> int:
        announce(os.getpid())
        if not os.geteuid():
            _leave_the_hosts_mounts()
        process.default_signals()
        os.umask(0)  # the API socket is made by the container's root, who may be another
        for theirs, ours in files.items():
            if theirs == ours:
                os.set_inheritable(ours, True)
            else:
                os.dup2(ours, theirs)
        os.execv(command[0], command)

    return process.fork_child(become)


def _by_directory(path: str) -> tuple[str, int]:
    """A path that fits ``sun_path`` and needs no rights above its directory, and that directory."""
    directory, name = os.path.split(path)
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    return f"/proc/self/fd/{fd}/{name}", fd


def publish(
    api_socket: str,
    mapping: PortMapping,
    *,
    address: str = "",
    holder: ports.Holder | None = None,
) -> int:
    """Forward one host port to ``address``, the container's own by default; the forwarding's id.

    ``mapping`` is a single port with its final number.  Raises
    :class:`~podpy.errors.Conflict` when somebody else listens there.
    """
    arguments = {
        "proto": mapping.protocol,
        "host_addr": mapping.host_ip or "0.0.0.0",
        "host_port": mapping.host_port,
        "guest_port": mapping.container_port,
    }
    if address:
        arguments["guest_addr"] = address
    answer = request(api_socket, "add_hostfwd", arguments)
    if "error" not in answer:
        return int(answer["return"]["id"])
    reason = ports.diagnose(mapping)
    if reason is not None:
        raise ports.refusal(reason, mapping, holder)
    raise HostError(
        f"cannot publish {ports.bound_address(mapping)}/{mapping.protocol}: "
        f"slirp4netns: {answer['error'].get('desc', 'no reason given')}"
    )


def request(api_socket: str, what: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The helper's answer to one request; ``OSError`` when it gives none."""
    packet = files.dumps({"execute": what, "arguments": arguments}).encode()
    answer: dict[str, Any] = files.loads(_ask(api_socket, packet))
    return answer


def check_publishable(mappings: Iterable[PortMapping]) -> None:
    """Refuse what slirp4netns cannot forward, before anything is started."""
    for mapping in mappings:
        if ":" in mapping.host_ip:
            raise UsageError(
                f"cannot publish {ports.bound_address(mapping)}/{mapping.protocol}: "
                "slirp4netns listens on IPv4 addresses only",
                hint="use `--network bridge` or `--network pasta`",
            )


def _ask(api_socket: str, request: bytes) -> bytes:
    """One request, one answer: the helper reads up to the end of the stream."""
    path, directory = _by_directory(api_socket)
    client = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    client.settimeout(_PATIENCE)
    try:
        client.connect(path)
        client.sendall(request)
        client.shutdown(_socket.SHUT_WR)
        answer = b""
        while part := client.recv(1 << 16):
            answer += part
        if not answer:
            raise OSError(errno.ECONNRESET, "slirp4netns has ended")
        return answer
    finally:
        client.close()
        os.close(directory)
