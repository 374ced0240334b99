"""pasta: the container gets a copy of the host's address and routes, translated by sockets.

Started in the foreground on a process's namespaces; it says that it is ready by
writing its pid to a FIFO.  Its defaults would open the host's loopback to the
container and the container's ports to the host: podpy switches all of that off
and forwards what is published, nothing else (passt(1)).
"""

from __future__ import annotations

import os

from podpy import files
from podpy.errors import HostError, UsageError
from podpy.kernel import netlink
from podpy.net import ports
from podpy.net.helper import Helper, locate, open_log, spawn_with_parent
from podpy.netmodel import PortMapping
from podpy.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

#: An address that pasta answers for by asking the host's first resolver.
RESOLVER = "169.254.1.1"

_WITH_VALUE = frozenset(
    (
        "-a", "--address", "-n", "--netmask", "-M", "--mac-addr", "--ns-mac-addr",
        "-g", "--gateway", "-i", "--interface", "-o", "--outbound", "--outbound-if4",
        "--outbound-if6", "-D", "--dns", "--dns-forward", "-S", "--search", "-m", "--mtu",
        "-I", "--ns-ifname", "-t", "--tcp-ports", "-u", "--udp-ports", "-T", "--tcp-ns",
        "-U", "--udp-ns", "--map-host-loopback", "--map-guest-addr",
    )
)  # fmt: skip
_SWITCHES = frozenset(
    (
        "-4", "--ipv4-only", "-6", "--ipv6-only", "--map-gw", "--no-map-gw", "--no-tcp",
        "--no-udp", "--no-icmp", "--no-dhcp", "--no-ndp", "--no-dhcpv6", "--no-ra",
        "--no-copy-routes", "--no-copy-addrs", "--config-net",
    )
)  # fmt: skip
_OWN = frozenset(("--map-gw", "--no-map-gw", "--config-net"))


@record
class Settings:
    """The options of ``--network pasta:OPTION,…``: pasta's own, checked against those known.

    ``is_shared``: for the namespace of all bridge networks, whose device the
    network supervisor sets up and whose names it answers for itself.
    ``forwards``: it answers at :attr:`resolver` for the host's first resolver.
    """

    map_gateway: bool = False
    options: tuple[str, ...] = ()
    is_shared: bool = False
    forwards: bool = True

    def has(self, *names: str) -> bool:
        return any(option.partition("=")[0] in names for option in self.options)

    def value(self, *names: str) -> str:
        """The first value given to an option by any of its names; empty without one."""
        for number, option in enumerate(self.options):
            name, separator, value = option.partition("=")
            if name in names:
                return value if separator else self.options[number + 1]
        return ""

    @property
    def address(self) -> str:
        """The container's own address, where it is not the host's."""
        return self.value("-a", "--address").partition("/")[0]

    @property
    def resolver(self) -> str:
        return self.value("--dns-forward") or RESOLVER


def parse_options(options: Iterable[str]) -> Settings:
    """The settings for pasta's command-line options, separated at the commas.

    ``--map-gw`` opens the host's loopback at the gateway's address.
    """
    passed: list[str] = []
    map_gateway = False
    words = iter(options)
    for word in words:
        name, separator, _ = word.partition("=")
        if name in _SWITCHES and not separator:
            map_gateway = map_gateway or name == "--map-gw"
            passed += [] if name in _OWN else [name]
        elif name in _WITH_VALUE:
            passed += [word] if separator else [word, _value(word, words)]
        else:
            raise UsageError(
                f"unknown network option {word!r} for pasta",
                hint="an option of pasta(1) that concerns addresses, ports or DNS, "
                "as in `--network pasta:--map-gw,--mtu,1500`",
            )
    return Settings(map_gateway=map_gateway, options=tuple(passed))


def _value(option: str, words: Iterator[str]) -> str:
    for value in words:
        return value
    raise UsageError(f"network option {option} for pasta needs a value")


def arguments(settings: Settings, mappings: Sequence[PortMapping]) -> list[str]:
    """pasta's options for these settings and ports."""
    command = [] if settings.is_shared else ["--config-net"]
    if not settings.map_gateway:
        command.append("--no-map-gw")
    # What it answers for cannot be asked directly any more: replies come from RESOLVER.
    if settings.forwards and not (settings.is_shared or settings.has("--dns-forward")):
        command += ["--dns-forward", RESOLVER]
    command += settings.options
    for short, long, protocol in (("-t", "--tcp-ports", "tcp"), ("-u", "--udp-ports", "udp")):
        published = [_forward(m) for m in mappings if m.protocol == protocol]
        for forward in published:
            command += [short, forward]
        if not published and not settings.has(short, long):
            command += [short, "none"]
    # The defaults are `auto`: every port on which the host's loopback listens.
    for short, long in (("-T", "--tcp-ns"), ("-U", "--udp-ns")):
        if not settings.has(short, long):
            command += [short, "none"]
    return command


def _forward(mapping: PortMapping) -> str:
    address = f"{mapping.host_ip}/" if mapping.host_ip else ""
    return f"{address}{mapping.host_port}:{mapping.container_port}"


def start(
    pid: int, settings: Settings, mappings: Sequence[PortMapping], *,
    directory: str, namespaces: Sequence[str] = (),
) -> Helper:  # fmt: skip
    """Start pasta for the namespaces of ``pid``, with its ports; it is not ready yet.

    ``pid`` must be dumpable and its id map written, or ``namespaces`` be paths of
    its user and network namespace.  ``directory`` is private
    to the container and holds the FIFO.  The kernel kills pasta when this
    process dies; the caller kills it when the container ends.
    """
    program = locate("pasta", "slirp4netns")
    fifo = f"{directory}/pasta.ready"
    files.unlink(fifo)
    os.mkfifo(fifo, 0o600)
    ready = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    log, null = open_log(), os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    command = [program, "--foreground", "--quiet", "--stderr", "--pid", fifo]
    command += arguments(settings, mappings)
    # Inherited, and as the streams it does not use: pasta opens the network namespace when it is
    # in the user namespace already, where /proc/PID/fd is closed to it, and later versions close
    # every descriptor above 2 first.
    given = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in namespaces] or [null, null]
    if namespaces:
        command += ["--userns", "/proc/self/fd/0", "--netns", "/proc/self/fd/1"]
    else:
        command.append(str(pid))
    try:
        helper = spawn_with_parent(command, (*given, log))
    except BaseException:
        os.close(ready)
        os.close(log)
        raise
    finally:
        for fd in {*given, null}:
            os.close(fd)
    return Helper("pasta", helper, ready_fd=ready, log_fd=log)


def wait_ready(
    helper: Helper, mappings: Sequence[PortMapping], *, holder: ports.Holder | None = None
) -> None:
    """:meth:`Helper.wait_ready`, with a port that is used by somebody told apart."""
    try:
        helper.wait_ready()
    except HostError:
        for mapping in mappings:
            reason = ports.diagnose(mapping)
            if reason is not None:
                raise ports.refusal(reason, mapping, holder) from None
        raise


def default_gateway() -> str:
    """The host's IPv4 default gateway, which is the container's too; empty without one."""
    for _, gateway in netlink.default_gateways():
        if ":" not in gateway:
            return gateway
    return ""
