"""The programs that carry the shared namespace's packets to the world and back.

A carrier serves one tap device, which stands by itself: it keeps its
addresses and the routes by it while the program is exchanged.

slirp4netns needs no address translation: it takes and answers whatever source
address a container has (the device answers for all of them), publishes IPv4
ports one by one while it runs (UDP alone, unless it is told to serve TCP too),
and ends when nobody holds its life line any more.  pasta knows one address
only, so the namespace translates (nft), and its ports cannot be changed, so the
network supervisor relays them.
"""

from __future__ import annotations

from podpy.errors import HostError
from podpy.kernel import process
from podpy.net import ipam, pasta, ports, slirp
from podpy.records import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from podpy.net.helper import Helper
    from podpy.net.inner import Inner
    from podpy.netmodel import PortMapping

DEVICE, HOST_DEVICE = "tap0", "tap1"
GATEWAY6 = "fe80::2"  # libslirp's router, and the one that pasta is given
#: The uplink's own subnets, the usual one first; one that the host uses would hide it.
SUBNETS = ("10.0.2.0/24", "10.192.2.0/24", "172.30.255.0/24", "192.168.232.0/24")
HOST_SUBNETS = ("10.0.3.0/24", "10.192.3.0/24", "172.30.254.0/24", "192.168.233.0/24")
#: Which protocols slirp4netns listens for, as ``network_cmd_options`` have it.
_FORWARDED: dict[str, tuple[str, ...]] = {
    "port_handler=slirp4netns": ("tcp", "udp"),
    "port_handler=rootlesskit": (),
}
_FORWARD_FIELDS = ("proto", "host_addr", "host_port", "guest_addr", "guest_port")
_TRANSLATION = """
table inet podpy_uplink
delete table inet podpy_uplink
table inet podpy_uplink {
    chain out {
        type nat hook postrouting priority 100
        oifname "tap0" masquerade
    }
}
"""


@record
class Forward:
    """A port that a carrier forwards by itself: ``proto`` host address and port → guest's."""

    proto: str
    host_addr: str
    host_port: int
    guest_addr: str
    guest_port: int


class Forwarding:
    """The ports that slirp4netns forwards by itself, through its API socket."""

    def __init__(self, api_socket: str, protocols: Sequence[str]) -> None:
        self._socket = api_socket
        self._protocols = protocols

    def can(self, mapping: PortMapping, address: str) -> bool:
        """IPv4 to IPv4; UDP clients on the loopback would get no answer."""
        is_ipv6 = ":" in mapping.host_ip or ":" in address
        return mapping.protocol in self._protocols and not (
            is_ipv6 or ports.is_loopback_udp(mapping)
        )

    def add(self, mapping: PortMapping, address: str) -> int:
        """Start to forward a port; what takes it back.  Raises as :func:`slirp.publish`."""
        return slirp.publish(self._socket, mapping, address=address)

    def remove(self, ident: int) -> None:
        slirp.request(self._socket, "remove_hostfwd", {"id": ident})

    def listed(self) -> dict[Forward, int]:
        """What is forwarded now."""
        answer = slirp.request(self._socket, "list_hostfwd", {})
        return {
            Forward(**{field: each[field] for field in _FORWARD_FIELDS}): int(each["id"])
            for each in answer.get("return", answer)["entries"]  # 1.2 has no envelope
        }


class Slirp:
    """slirp4netns on the shared namespace."""

    name = "slirp4netns"
    hidden = ("fd00::/64",)  # libslirp's own prefix, which cannot be another one

    def __init__(self, directory: str, settings: slirp.Settings) -> None:
        self.settings = settings
        self.device = settings.device
        self.has_ipv6 = settings.enable_ipv6
        self._socket = f"{directory}/slirp.sock" if settings.forwards else ""
        self.forwarding = Forwarding(self._socket, settings.forwards) if self._socket else None

    @property
    def wants_neighbours(self) -> bool:
        """It asks for IPv6 neighbours that somebody must answer for (:mod:`.neighbours`)."""
        return self.has_ipv6

    def addresses(self) -> list[tuple[str, int]]:
        """The device's own, with prefix lengths."""
        return [(self.settings.address, int(self.settings.cidr.partition("/")[2]))]

    def prepare(self, inner: Inner) -> None:
        """The device answers on the uplink for everybody behind it."""
        inner.sysctl(f"ipv4/conf/{self.device}/proxy_arp", "1")
        # By default the kernel answers for others after a random pause of up to 0.8 seconds.
        inner.sysctl(f"ipv4/neigh/{self.device}/proxy_delay", "0")

    def start(self, inner: Inner, life_line: int, announce: Callable[[int], None]) -> Helper:
        """Start the program; it calls ``announce`` with its pid before it does anything."""
        return slirp.start(
            inner.pid,
            self.settings,
            api_socket=self._socket,
            life_line=life_line,
            announce=announce,
        )

    def answers(self) -> bool:
        """Whether a program that lives can be talked to."""
        try:
            return self.forwarding is None or self.forwarding.listed() is not None
        except (OSError, KeyError, ValueError):
            return False


class Host(Slirp):
    """slirp4netns as the way to the host's loopback and nothing else: no port leads in by it.

    Its device has no address, so that nobody finds the way who is not led there.
    """

    def addresses(self) -> list[tuple[str, int]]:
        return []


class Pasta:
    """pasta on the shared namespace.  It has no life line: it ends with who started it."""

    name = "pasta"
    device = DEVICE
    hidden = ()
    wants_neighbours = False
    _ADDRESS6 = "fd70:6f64:7079::100"

    def __init__(self, directory: str, settings: slirp.Settings) -> None:
        self.settings = settings
        self.has_ipv6 = settings.enable_ipv6
        self.forwarding: Forwarding | None = None
        self._directory = directory

    def prepare(self, inner: Inner) -> None:
        """One address is answered to: everybody's packets leave with that."""
        program = process.find_program("nft")
        if not program:
            raise HostError(
                "bridge networks by pasta need the program nft, which is not installed",
                hint="install nftables or slirp4netns",
            )
        inner.run([program, "-f", "-"], _TRANSLATION)

    def start(self, inner: Inner, _life_line: int, announce: Callable[[int], None]) -> Helper:
        settings = pasta.Settings(
            is_shared=True,
            options=(
                "--ns-ifname", DEVICE, "--address", self.settings.address,
                "--netmask", self.settings.cidr.partition("/")[2],
                "--gateway", self.settings.gateway, "--mtu", str(self.settings.mtu),
                *self._ipv6(),
            ),
        )  # fmt: skip
        helper = pasta.start(inner.pid, settings, (), directory=self._directory)
        announce(helper.pid)  # in time: who starts it takes it along
        return helper

    def _ipv6(self) -> tuple[str, ...]:
        if not self.has_ipv6:
            return ("--ipv4-only",)
        return ("--address", self._ADDRESS6, "--gateway", GATEWAY6)

    def addresses(self) -> list[tuple[str, int]]:
        own = [(self.settings.address, int(self.settings.cidr.partition("/")[2]))]
        return [*own, (self._ADDRESS6, 64)] if self.has_ipv6 else own

    def answers(self) -> bool:
        return True


Carrier = Slirp | Pasta


def choose(kind: str, options: Sequence[str], directory: str, busy: Iterable[str]) -> Carrier:
    """The carrier ``kind``, or where that is empty the one that is installed.

    ``options`` are those of slirp4netns (``network_cmd_options``): the MTU, its
    subnet, IPv6 and the address to leave by count here.  Its access to the
    host's loopback does not: that would open it to every bridge network.
    ``port_handler`` says who serves published ports: ``slirp4netns`` as far as it
    can, ``rootlesskit`` (a program that is not used here) the network supervisor;
    without it TCP is the supervisor's, which carries it twice as fast.  ``busy``
    are the subnets that the host reaches, in CIDR form.
    """
    if not kind:
        kind = "slirp4netns" if process.find_program("slirp4netns") else "pasta"
    handlers = [_FORWARDED[option] for option in options if option in _FORWARDED]
    settings = slirp.parse_options(option for option in options if option not in _FORWARDED)
    if not any(option.startswith("cidr=") for option in options):
        settings = replace(settings, cidr=_free_subnet(busy))
    if kind == "pasta":
        return Pasta(directory, settings)
    forwards = handlers[-1] if handlers else ("udp",)
    return Slirp(
        directory, replace(settings, is_shared=True, allow_host_loopback=False, forwards=forwards)
    )


def revive(kind: str, settings: slirp.Settings, directory: str) -> Carrier:
    """The carrier that a predecessor chose."""
    return (Pasta if kind == Pasta.name else Slirp)(directory, settings)


def host_access(directory: str, busy: Iterable[str]) -> Host:
    """The carrier that leads to the host's loopback."""
    if not process.find_program("slirp4netns"):
        raise HostError(
            "access to the host's loopback needs the program slirp4netns, which is not installed",
            hint="install slirp4netns, or leave the network's option host_loopback out",
        )
    settings = slirp.Settings(
        device=HOST_DEVICE,
        cidr=_free_subnet(busy, HOST_SUBNETS),
        is_shared=True,
        allow_host_loopback=True,
        forwards=(),
        enable_ipv6=False,
    )
    return Host(directory, settings)


def _free_subnet(busy: Iterable[str], candidates: Sequence[str] = SUBNETS) -> str:
    taken = [ipam.cidr(each, "") for each in busy]
    for subnet in candidates:
        mine = ipam.cidr(subnet, "")
        if not any(mine.overlaps(each) for each in taken):
            return subnet
    return candidates[0]
