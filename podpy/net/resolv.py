"""A container's ``/etc/hosts`` and ``/etc/resolv.conf``: text from text.

Decided here: a container with its own network gets a clean hosts file as in
docker, with its own names and nothing of the host's; one on the host's network
gets the host's file.  ``host.containers.internal`` and ``host.docker.internal``
are there only where the host's loopback was opened to the container, because
elsewhere they would lead nowhere.  Name servers are those of the host; podpy
never invents one.  On bridge networks with names the first network's gateway
answers, and asks those; see :func:`network_files`.  There ``host-gateway`` is the
host's own address, or its loopback on a network that was made to lead there.
"""

from __future__ import annotations

import _socket

from podpy import files
from podpy.errors import UsageError
from podpy.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from podpy.model import ContainerRecord
    from podpy.netmodel import Endpoint, Network

HOSTS = "/etc/hosts"
RESOLV_CONF = "/etc/resolv.conf"
SYSTEMD_RESOLV_CONF = "/run/systemd/resolve/resolv.conf"
HOST_GATEWAY = "host-gateway"
HOST_NAMES = ("host.containers.internal", "host.docker.internal")

CLEAN_HOSTS = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
ff00::0\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


# --- hosts -------------------------------------------------------------------


def hosts_file(
    *,
    names: Sequence[str],
    addresses: Sequence[str] = ("127.0.0.1",),
    extra: Iterable[str] = (),
    links: Iterable[tuple[str, Sequence[str]]] = (),
    gateway: str = "",
    host_access: bool = False,
    base: str = CLEAN_HOSTS,
) -> str:
    """The container's hosts file.

    ``names`` are its host name, name and short id, all for each of ``addresses``;
    ``extra`` the values of ``--add-host``, ``links`` addresses with their names;
    ``gateway`` the address that ``host-gateway`` stands for (empty: the host
    cannot be reached); ``host_access`` says that the host's own names lead there too.
    """
    lines = [_extra_line(value, gateway) for value in extra]
    lines += [_line(address, linked) for address, linked in links]
    if host_access and gateway:
        lines.append(_line(gateway, HOST_NAMES))
    own = tuple(dict.fromkeys(name for name in names if name))
    if own:
        lines += [_line(address, own) for address in addresses]
    text = base if not base or base.endswith("\n") else base + "\n"
    return text + "".join(f"{line}\n" for line in lines)


def _line(address: str, names: Iterable[str]) -> str:
    return f"{address}\t{' '.join(names)}"


def _extra_line(value: str, gateway: str) -> str:
    names, address = split_host(value)
    if address == HOST_GATEWAY:
        if not gateway:
            raise UsageError(
                f"--add-host {value}: this network does not reach the host",
                hint="use `--network bridge`, `host`, `slirp4netns` or `pasta:--map-gw`",
            )
        address = gateway
    return _line(address, names)


def extra_hosts(values: Iterable[str], gateway: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Address and names of each ``--add-host``, but of those that need an absent host."""
    for value in values:
        names, address = split_host(value)
        if address != HOST_GATEWAY:
            yield address, names
        elif gateway:
            yield gateway, names


def split_host(value: str) -> tuple[tuple[str, ...], str]:
    """``NAME[;NAME…]:ADDRESS`` (or ``=``) of ``--add-host``, checked.

    The address is IPv4, IPv6 (brackets allowed) or the word ``host-gateway``.
    """
    cut = min((value.find(c) for c in ":=" if c in value), default=-1)
    names = tuple(value[:cut].split(";")) if cut > 0 else ()
    address = value[cut + 1 :]
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    if not names or not all(names) or any(c.isspace() or c == "#" for c in value):
        raise UsageError(f"--add-host: invalid entry {value!r}", hint="NAME:ADDRESS")
    if address != HOST_GATEWAY and not is_address(address):
        raise UsageError(f"--add-host: invalid IP address {address!r}")
    return names, address


def is_address(text: str) -> bool:
    """An IPv4 or IPv6 address, without zone or prefix length."""
    family = _socket.AF_INET6 if ":" in text else _socket.AF_INET
    try:
        _socket.inet_pton(family, text)
    except (OSError, ValueError):
        return False
    return True


# --- resolv.conf -------------------------------------------------------------


def resolv_conf(
    host: str,
    *,
    servers: Sequence[str] = (),
    search: Sequence[str] = (),
    options: Sequence[str] = (),
    forwarder: str = "",
    host_network: bool = False,
    fallback: str = "",
) -> str:
    """The container's resolv.conf.

    ``host`` is the host's own file; ``servers``, ``search`` and ``options``
    are ``--dns``, ``--dns-search`` and ``--dns-option`` and each replaces that
    part of the host's.  ``forwarder`` is the network helper's address that
    asks the host's first IPv4 resolver: it takes that one's place, and so the
    place of a resolver on the host's loopback.  ``fallback`` is the file used
    when the host has loopback resolvers only and there is no forwarder.
    """
    check_servers(servers)
    found, host_search, host_options = parse_resolv_conf(host)
    if not servers:
        servers = found if host_network else _reachable(found, forwarder, fallback)
    if not search:
        search = host_search
    lines = []
    if domains := [domain for domain in search if domain != "."]:
        lines.append(f"search {' '.join(domains)}")
    lines += [f"nameserver {server}" for server in servers]
    if chosen := options or host_options:
        lines.append(f"options {' '.join(chosen)}")
    return "".join(f"{line}\n" for line in lines)


def check_servers(servers: Sequence[str]) -> None:
    """Refuse name servers that are no addresses; ``none`` stands alone."""
    for server in servers if own_files_wanted(servers) else ():
        if not is_address(server):
            raise UsageError(f"--dns {server}: not an IP address")


def _reachable(found: Sequence[str], forwarder: str, fallback: str) -> Sequence[str]:
    """What of the host's resolvers a container with its own loopback can ask."""
    remote = [server for server in found if not _is_local(server)]
    if not forwarder:
        if remote:
            return remote
        return [s for s in parse_resolv_conf(fallback)[0] if not _is_local(s)]
    first = next((server for server in found if ":" not in server), "")
    if not first and remote:
        return remote
    return [forwarder, *(server for server in remote if server != first)]


def _is_local(server: str) -> bool:
    """On the loopback, or of a link that the container does not have."""
    return server.startswith("127.") or server == "::1" or "%" in server


def parse_resolv_conf(text: str) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Name servers, search domains and options of a resolv.conf(5)."""
    servers: list[str] = []
    search: list[str] = []
    options: list[str] = []
    for line in text.splitlines():
        words = line.split("#")[0].split(";")[0].split()
        if len(words) < 2:
            continue
        if words[0] == "nameserver":
            servers.append(words[1])
        elif words[0] in ("search", "domain"):
            search = words[1:]
        elif words[0] == "options":
            options += words[1:]
    return tuple(servers), tuple(search), tuple(options)


# --- bridge networks ---------------------------------------------------------


@record
class Host:
    """What of the host the files of its containers are made of.

    ``resolv_conf`` is the host's own, ``fallback`` that of systemd-resolved,
    ``address`` the one by which it reaches others.
    """

    resolv_conf: str = ""
    fallback: str = ""
    address: str = ""

    @classmethod
    def now(cls) -> Host:
        return cls(
            resolv_conf=host_resolv_conf(), fallback=systemd_resolv_conf(), address=host_address()
        )


def network_files(
    container: ContainerRecord,
    endpoints: Sequence[Endpoint],
    hostname: str,
    links: Iterable[tuple[str, Sequence[str]]] = (),
    *,
    networks: Sequence[Network],
    host: Host,
    base: str = CLEAN_HOSTS,
) -> dict[str, str]:
    """``hosts`` and ``resolv.conf`` of a container on bridge networks, as far as it has them.

    ``endpoints`` are what it got on ``networks``; ``links`` what ``--link`` adds
    to its hosts file.  Names are asked of the gateway of the first network that
    has them: the resolver behind it knows the asker, and so all its networks
    and its own ``--dns`` servers.
    """
    found = {}
    if not container.no_hosts:
        outward = any(not network.internal for network in networks)
        loopback = next((each.host for each in endpoints if each.host), "")
        found["hosts"] = hosts_file(
            names=own_names(container, hostname),
            addresses=_addresses(endpoints) or ("127.0.0.1",),
            extra=container.hosts,
            links=links,
            gateway=loopback or (host.address if outward else ""),
            host_access=bool(loopback),
            base=base,
        )
    if own_files_wanted(container.dns):
        gateway = _answering(endpoints, networks)
        named = container.dns or tuple(server for each in networks for server in each.dns_servers)
        found["resolv.conf"] = resolv_conf(
            host.resolv_conf,
            servers=(gateway,) if gateway else named,
            search=container.dns_search,
            options=_options(container, host) if gateway else container.dns_options,
            fallback=host.fallback,
        )
    return found


def own_names(container: ContainerRecord, hostname: str) -> tuple[str, ...]:
    """A container's names for its own address; with its domain the full one comes first."""
    full = f"{hostname}.{container.domainname}" if container.domainname else ""
    return tuple(filter(None, (full, hostname, container.name)))


def _addresses(endpoints: Iterable[Endpoint]) -> tuple[str, ...]:
    return tuple(address for each in endpoints for address in each.addresses)


def _answering(endpoints: Iterable[Endpoint], networks: Iterable[Network]) -> str:
    """The gateway that answers questions; empty where no network has names."""
    answering = {network.name for network in networks if network.dns}
    for endpoint in endpoints:
        gateway = endpoint.gateway or endpoint.gateway6
        if endpoint.network in answering and gateway:
            return gateway
    return ""


def _options(container: ContainerRecord, host: Host) -> tuple[str, ...]:
    """The options with which names of containers are asked for as they are, as in docker.

    Else ``db`` would first be asked for as ``db.example.com`` where that is searched, and
    the host's servers hear of it.  The resolver tries the search domains by itself.
    """
    options = container.dns_options or parse_resolv_conf(host.resolv_conf)[2]
    if any(option.startswith("ndots:") for option in container.dns_options):
        return options
    return (*(option for option in options if not option.startswith("ndots:")), "ndots:0")


# --- the host's files --------------------------------------------------------


def host_resolv_conf() -> str:
    """The host's resolv.conf; empty where there is none."""
    return _text(RESOLV_CONF)


def host_hosts() -> str:
    return _text(HOSTS)


def systemd_resolv_conf() -> str:
    """The resolvers behind systemd-resolved's loopback stub; empty where it does not run."""
    return _text(SYSTEMD_RESOLV_CONF)


def _text(path: str) -> str:
    try:
        return files.read_bytes(path).decode(errors="replace")
    except OSError:
        return ""


def host_address() -> str:
    """The IPv4 address by which this host reaches others; empty when it reaches none.

    Connecting a UDP socket chooses a route and a source and sends nothing;
    192.0.2.1 is a documentation address (RFC 5737), so the default route decides.
    """
    probe = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
    try:
        probe.connect(("192.0.2.1", 9))
        address: str = probe.getsockname()[0]
    except OSError:
        return ""
    finally:
        probe.close()
    return address


def own_files_wanted(servers: Sequence[str]) -> bool:
    """``--dns none`` leaves the image's own resolv.conf in place."""
    if "none" not in servers:
        return True
    if len(servers) > 1:
        raise UsageError("--dns none cannot be used together with other name servers")
    return False
