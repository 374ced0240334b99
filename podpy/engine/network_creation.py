"""``network create`` and ``network update``: from options to a record."""

from __future__ import annotations

import os
import time

from podpy.engine import attachments, networks, values
from podpy.errors import Conflict, UsageError
from podpy.net import ipam
from podpy.netmodel import Network, Subnet
from podpy.records import record, replace
from podpy.storage import events
from podpy.storage import networks as stored

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from podpy.engine.context import Context

_RESERVED = (
    "bridge", "container", "default", "host", "none", "ns", "pasta", "private", "slirp4netns",
)  # fmt: skip
_REAL_INTERFACES = "a rootless network lies in a namespace that has none of the host's interfaces"
_DRIVERS = {
    "macvlan": _REAL_INTERFACES,
    "ipvlan": _REAL_INTERFACES,
    "overlay": "it joins the hosts of a swarm, and podpy works on one host",
    "host": "it is a mode of a container, --network host, and not a driver of networks",
    "null": "it is a mode of a container, --network none, and not a driver of networks",
    "none": "it is a mode of a container, --network none, and not a driver of networks",
}
_MTU = (68, 65535)  # IPv4's least, and the most that a device takes
_MTU6 = 1280  # RFC 8200
_TAP = "tap0"  # the uplink's device, beside the bridges


@record
class CreateOptions:
    """The options of ``network create`` as they were given; nothing is parsed here."""

    driver: str = "bridge"
    subnet: tuple[str, ...] = ()
    gateway: tuple[str, ...] = ()
    ip_range: tuple[str, ...] = ()
    aux_address: tuple[str, ...] = ()
    ipv4: bool = True
    ipv6: bool = False
    internal: bool = False
    disable_dns: bool = False
    dns: tuple[str, ...] = ()
    route: tuple[str, ...] = ()
    interface_name: str = ""
    label: tuple[str, ...] = ()
    opt: tuple[str, ...] = ()
    ignore: bool = False
    ipam_driver: str = ""
    ipam_opt: tuple[str, ...] = ()
    scope: str = ""
    config_from: str = ""
    config_only: bool = False
    ingress: bool = False


@record
class Created:
    """The network that was made, or was there (``--ignore``), and what to tell about it."""

    name: str
    id: str
    warnings: tuple[str, ...] = ()


def create(ctx: Context, name: str, options: CreateOptions) -> Created:
    """Make a network.  Without a name it is called after its interface: ``podpy1``."""
    _refuse(options)
    if name:
        _check_name(name)
    network = _settings(options)
    wanted = ipam.subnets(
        _listed(options.subnet), _listed(options.gateway), _listed(options.ip_range),
        values.pairs(options.aux_address, "--aux-address"),
    )  # fmt: skip
    with stored.lock(ctx.store):
        there = [network for network in networks.every(ctx) if network.name != name]
        if name in stored.names(ctx.store):
            if options.ignore:
                found = networks.find(ctx, name)
                return Created(name=found.name, id=found.id)
            raise Conflict(f"network name {name} already used: network already exists")
        interface = _interface(network.interface, there)
        made = replace(
            network,
            name=name or interface,
            interface=interface,
            subnets=_subnets(ctx, wanted, options, there),
        )
        made = replace(made, ipv6=any(":" in each.subnet for each in made.subnets))
        _check_mtu(made)
        _check_routes(made)
        stored.create(ctx.store, made)
    events.network(ctx.store, made, "create")
    return Created(name=made.name, id=made.id, warnings=_warnings(wanted))


def _listed(texts: Iterable[str]) -> tuple[str, ...]:
    """An option's values: given several times, or in one text with commas."""
    return tuple(part for text in texts for part in text.split(",") if part)


def _check_name(name: str) -> None:
    if name in _RESERVED:
        raise UsageError(
            f"network name {name} cannot be used because it conflicts with existing network modes"
        )
    if not stored.is_name(name):
        raise UsageError(
            f"network name {name!a}: names must match [a-zA-Z0-9][a-zA-Z0-9_.-]*: invalid argument"
        )


# --- what cannot be honoured -------------------------------------------------


def _refuse(options: CreateOptions) -> None:
    driver = options.driver
    if driver not in ("", "bridge"):
        reason = _DRIVERS.get(driver, "no such driver is known")
        raise UsageError(
            f"--driver {driver}: unsupported driver: {reason}", hint="leave it out: --driver bridge"
        )
    if options.ipam_driver not in ("", "default", "host-local"):
        reason = {
            "dhcp": "no DHCP server is on a network that lies in a namespace of its own",
            "none": "podpy names, routes and guards containers by the addresses it gave them",
        }.get(options.ipam_driver, "no such driver is known")
        raise UsageError(
            f"--ipam-driver {options.ipam_driver}: unsupported ipam driver: {reason}",
            hint="leave it out: podpy hands out addresses of --subnet, or of --ip-range",
        )
    for text in options.ipam_opt:
        raise UsageError(f"--ipam-opt {text!r}: the address management has no such option")
    if options.scope not in ("", "local"):
        raise UsageError(f"--scope {options.scope}: networks of podpy are local to their host")
    for name in ("config_from", "config_only", "ingress"):
        if getattr(options, name):
            raise UsageError(
                f"--{name.replace('_', '-')}: it is for the nodes of a swarm, and podpy has none",
                hint="give the options themselves",
            )
    if not options.ipv4 and not options.ipv6 and not any(":" in text for text in options.subnet):
        raise UsageError("--ipv4=false: IPv4 or IPv6 must be enabled: give --ipv6")


# --- what does not depend on other networks ----------------------------------


def _settings(options: CreateOptions) -> Network:
    """A network of the options, still without name and addresses."""
    given = values.pairs(options.opt, "--opt")
    settings = Network(
        name="",
        id=os.urandom(32).hex(),
        created=time.time(),
        interface=options.interface_name,
        internal=options.internal,
        dns=not options.disable_dns,
        dns_servers=servers(options.dns, "--dns"),
        routes=tuple(_route(text) for text in options.route),
        labels=values.pairs(options.label, "--label", bare=True),
        options=given,
    )
    if settings.dns_servers and options.disable_dns:
        raise UsageError("--dns: cannot set name servers if DNS is disabled (--disable-dns)")
    for key, value in given.items():
        settings = _with_option(settings, key, value)
    if settings.interface:
        attachments.interface(settings.interface, "--interface-name")
    return settings


def servers(texts: Iterable[str], option: str) -> tuple[str, ...]:
    """Addresses of name servers, in their usual form."""
    return tuple(dict.fromkeys(ipam.show(*ipam.address(t, option)) for t in _listed(texts)))


def _route(text: str) -> tuple[str, str]:
    """``DESTINATION,GATEWAY[,METRIC]``."""
    parts = text.split(",")
    if len(parts) not in (2, 3):
        raise UsageError(
            f"--route: invalid route {text!r}", hint="DESTINATION,GATEWAY: 10.9.0.0/16,10.89.0.7"
        )
    if len(parts) == 3:
        raise UsageError(
            f"--route {text!r}: a metric chooses between routes to one destination,"
            " and a network has one for each",
            hint="leave the metric out",
        )
    destination = ipam.cidr(parts[0], "--route")
    family, number = ipam.address(parts[1], "--route")
    if family != destination.family:
        raise UsageError(f"--route {text!r}: the gateway is of another IP version")
    return str(destination), ipam.show(family, number)


# --- --opt -------------------------------------------------------------------


def _with_option(network: Network, key: str, value: str) -> Network:
    """``network`` with one ``--opt``; what cannot be honoured is refused with the reason."""
    docker = key.removeprefix("com.docker.network.")
    if key == "mtu" or docker == "driver.mtu":
        mtu = values.integer(value, f"--opt {key}", lowest=0, highest=_MTU[1])
        return replace(network, mtu=mtu)
    if key == "isolate":
        # "strict" keeps even networks out that isolate nothing, which isolation means here.
        isolate = value == "strict" or values.boolean(value, "--opt isolate")
        return replace(network, isolate=isolate)
    if key == "host_loopback":
        wanted = values.boolean(value, "--opt host_loopback")
        if wanted and network.internal:
            raise _refused(key, value, "an internal network has no way out, to the host neither")
        return replace(network, host_loopback=wanted)
    if docker == "bridge.name":
        if network.interface not in ("", value):
            raise UsageError(f"--opt {key}: --interface-name says {network.interface}")
        return replace(network, interface=value)
    if docker == "bridge.host_binding_ipv4":
        bound = attachments.address(value, f"--opt {key}")
        return replace(network, publish_on="" if bound == "0.0.0.0" else bound)
    if key in _ONE_VALUE:
        if value not in _ONE_VALUE[key][0]:
            raise _refused(key, value, _ONE_VALUE[key][1])
        return network
    if docker in _SWITCHES:
        only, reason = _SWITCHES[docker]
        if values.boolean(value, f"--opt {key}") != only:
            raise _refused(key, value, reason)
        return network
    if docker in _REFUSED:
        raise _refused(key, value, _REFUSED[docker])
    raise UsageError(
        f"--opt {key}: unsupported bridge network option",
        hint="mtu, isolate, host_loopback, com.docker.network.driver.mtu, "
        "com.docker.network.bridge.name, com.docker.network.bridge.host_binding_ipv4",
    )


def _refused(key: str, value: str, reason: str) -> UsageError:
    return UsageError(f"--opt {key}={value}: {reason}")


_NATIVE = "what leaves the network bears the host's address: an ordinary user's must"
#: docker's switches that have one position here, and why not the other.
_SWITCHES = {
    "bridge.enable_ip_masquerade": (True, _NATIVE),
    "bridge.enable_ip6_masquerade": (True, _NATIVE),
    "bridge.enable_icc": (
        True, "the containers of a network reach each other: give those that must not"
        " networks of their own"),
    "bridge.inhibit_ipv4": (
        False, "the bridge's address is the gateway of the containers, and answers for names"),
    "bridge.default_bridge": (
        False, "the default network is named in containers.conf: network.default_network"),
}  # fmt: skip
#: Options whose one possible value is the default.
_ONE_VALUE = {
    "mode": (("managed",), "nobody but podpy can make a bridge in the networks' own namespace"),
    "bclim": (("0",), "macvlan alone copies broadcasts"),
    "com.docker.network.bridge.gateway_mode_ipv4": (("nat",), _NATIVE),
    "com.docker.network.bridge.gateway_mode_ipv6": (("nat",), _NATIVE),
    "com.docker.network.bridge.host_binding_ipv6": (
        ("::",), "the address of a port is said where it is published: -p ADDRESS:HOST:PORT"),
}  # fmt: skip
_REFUSED = {
    "host_ipv4": _NATIVE,
    "host_ipv6": _NATIVE,
    "parent": _REAL_INTERFACES,
    "vlan": _REAL_INTERFACES,
    "vrf": "containers are kept apart by a routing table for each network already",
    "metric": "the first network of a container has its default route: order them in --network",
    "no_default_route": "a network without a way out is made by --internal",
    "container_iface_prefix": "a name is chosen per container: --network NAME:interface_name=eth7",
    "bridge.trusted_host_interfaces": _REAL_INTERFACES,
}


# --- what depends on other networks ------------------------------------------


def _interface(wanted: str, there: Iterable[Network]) -> str:
    """The name of the bridge: the one asked for, or the first free ``podpyN``."""
    used = {network.interface for network in there} | {_TAP, networks.DEFAULT_INTERFACE}
    if wanted:
        if wanted in used or _is_veth(wanted):
            raise Conflict(f"--interface-name: bridge name {wanted} already in use")
        return wanted
    used |= {network.name for network in there}  # a network without a name is called after it
    number = 1
    while f"podpy{number}" in used:
        number += 1
    return f"podpy{number}"


def _is_veth(name: str) -> bool:
    """``v<8 hexadecimal digits>.<n>``: what podpy calls the containers' ends."""
    digits, dot, number = name[1:].partition(".")
    is_hex = len(digits) == 8 and frozenset("0123456789abcdef").issuperset(digits)
    return name[:1] == "v" and is_hex and bool(dot) and number.isdigit()


def _subnets(
    ctx: Context, wanted: tuple[Subnet, ...], options: CreateOptions, there: Iterable[Network]
) -> tuple[Subnet, ...]:
    """The subnets that were asked for, checked, and those that podpy chooses."""
    for subnet in wanted:
        whole = ipam.cidr(subnet.subnet, "--subnet")
        for network in there:
            if any(whole.overlaps(ipam.cidr(s.subnet, "subnet")) for s in network.subnets):
                raise Conflict(
                    f"--subnet: subnet {subnet.subnet} is already used by network {network.name}",
                    hint="leave it out: podpy finds a free one",
                )
    families = {6 if ":" in subnet.subnet else 4 for subnet in wanted}
    if 4 in families and not options.ipv4:
        raise UsageError("--subnet: an IPv4 subnet together with --ipv4=false")
    found = wanted
    # Subnets of IPv6 alone make a network of IPv6 alone; --ipv6 means both.
    if 4 not in families and options.ipv4 and (options.ipv6 or not families):
        found = (networks.free_subnet(ctx), *found)
    if 6 not in families and options.ipv6:
        found = (*found, ipam.choose6(os.urandom(7)))
    return found


def _check_mtu(network: Network) -> None:
    lowest = _MTU6 if network.ipv6 else _MTU[0]
    if network.mtu and network.mtu < lowest:
        raise UsageError(f"--opt mtu={network.mtu}: too small", hint=f"{lowest} … {_MTU[1]}")


def _check_routes(network: Network) -> None:
    """A gateway that no container could reach is a mistake."""
    inside = [ipam.cidr(subnet.subnet, "subnet") for subnet in network.subnets]
    for destination, gateway in network.routes:
        family, number = ipam.address(gateway, "--route")
        if not any(each.family == family and each.holds(number) for each in inside):
            raise UsageError(f"--route {destination},{gateway}: the gateway is in no subnet of it")


def _warnings(wanted: Iterable[Subnet]) -> tuple[str, ...]:
    """What a chosen subnet hides from its containers is the user's to know."""
    found = []
    routes = [ipam.cidr(text, "route") for text in networks.host_routes()] if wanted else []
    for subnet in wanted:
        whole = ipam.cidr(subnet.subnet, "--subnet")
        hidden = ", ".join(dict.fromkeys(str(each) for each in routes if each.overlaps(whole)))
        if hidden:
            found.append(
                f"subnet {subnet.subnet} overlaps what the host reaches elsewhere ({hidden}):"
                " containers on the network will not reach that"
            )
    return tuple(found)


# --- update ------------------------------------------------------------------


def update(
    ctx: Context, name: str, *, dns_add: Iterable[str] = (), dns_drop: Iterable[str] = ()
) -> str:
    """Change a network's name servers, for its running containers at once; its name."""
    added, dropped = servers(dns_add, "--dns-add"), servers(dns_drop, "--dns-drop")
    if not added and not dropped:
        raise UsageError(f"network {name}: nothing to update", hint="give --dns-add or --dns-drop")
    settled = networks.settle(ctx, networks.find(ctx, name))
    with stored.lock(ctx.store):
        network = _changing(networks.find(ctx, settled.name))
        for server in dropped:
            if server not in network.dns_servers:
                raise UsageError(f"--dns-drop: {server} is no name server of {network.name}")
        kept = tuple(server for server in network.dns_servers if server not in dropped)
        changed = replace(network, dns_servers=tuple(dict.fromkeys((*kept, *added))))
        stored.write(ctx.store, changed)
    _tell(ctx, changed)
    events.network(ctx.store, changed, "update")
    return changed.name


def _changing(network: Network) -> Network:
    """What is written now was, perhaps, the default network without a record."""
    if not network.dns:
        raise UsageError(
            f"network {network.name}: DNS is disabled on it: it asks no name servers",
            hint="make another one, without --disable-dns",
        )
    return replace(network, created=network.created or time.time())


def _tell(ctx: Context, network: Network) -> None:
    from podpy.net import client

    client.update(ctx.store.network_run, network)
