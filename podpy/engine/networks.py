"""Networks: which there are, what a name stands for, and who uses them.

The default network is the one a container gets when nothing is said.  It needs
no record: until there is one it is what containers.conf says, or
10.88.0.0/16 where that clashes with nothing (see :func:`settle`).  ``default``,
``podman`` and ``bridge`` mean it unless a network bears that name.
"""

from __future__ import annotations

import os

from podpy.errors import Ambiguous, Conflict, NotFound, StoreError, UsageError
from podpy.netmodel import Network, Subnet
from podpy.records import replace
from podpy.storage import containers
from podpy.storage import networks as stored

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from podpy.engine.context import Context
    from podpy.model import Container

DEFAULT = "bridge"
DEFAULT_INTERFACE = "podpy0"
_ALIASES = (DEFAULT, "default", "podman")
_DEFAULT_SUBNET = Subnet(subnet="10.88.0.0/16", gateway="10.88.0.1")
#: Of a unique local prefix (RFC 4193).  Where a name has addresses of both families, libraries
#: prefer IPv4 to going out from such a one (RFC 6724), so nobody waits for an IPv6 that is not.
_DEFAULT_SUBNET6 = Subnet(subnet="fd70:6f64:7079::/64", gateway="fd70:6f64:7079::1")
# An address range as broad as this, routed elsewhere, may be given up for one small subnet.
_BROAD = 16
#: Modes that docker lists as networks: name → driver.
MODES = {"host": "host", "none": "null"}
_IDS = {  # SHA-256 of the name, as podman has it for its default network
    "bridge": "17f29b073143d8cd97b5bbe492bdeffec1c5fee55cc1fe2112c8b9335f8b6121",
    "host": "4740ae6347b0172c01254ff55bae5aff5199f4446e7f6d643d40185b3f475145",
    "none": "140bedbf9c3f6d56a9846d2ba7088798683f4da0c248231336e6a05679e4fdfe",
}


# --- names -------------------------------------------------------------------


def default_name(ctx: Context) -> str:
    """The name of the default network: containers.conf ``network.default_network``."""
    named = ctx.config.network.default_network
    if named in ("", *_ALIASES) and (named != "podman" or stored.find(ctx.store, named) is None):
        return DEFAULT
    if not stored.is_name(named) or named in MODES:
        raise UsageError(
            f"containers.conf: network.default_network: {named!a} is no network's name"
        )
    return named


def find(ctx: Context, name: str) -> Network:
    """The network of a name, or of the beginning of an id; :class:`NotFound` without one."""
    if found := stored.find(ctx.store, name):
        return found
    default = default_name(ctx)
    if name in (*_ALIASES, default):
        return stored.find(ctx.store, default) or _unwritten(ctx, default)
    return _by_id(ctx, name)


def default(ctx: Context) -> Network:
    """What a container gets when nothing is said."""
    return find(ctx, default_name(ctx))


def _by_id(ctx: Context, text: str) -> Network:
    found = [network for network in every(ctx) if network.id.startswith(text)] if text else []
    if len(found) > 1:
        names = ", ".join(network.name for network in found)
        raise Ambiguous(
            f"more than one network matches {text!r}: {names}", hint="give more digits of the id"
        )
    if not found:
        raise stored.missing(text)
    return found[0]


def every(ctx: Context) -> list[Network]:
    """All networks that are whole, by name; the default one is always there."""
    found = {network.name: network for network in stored.every(ctx.store)}
    name = default_name(ctx)
    if name not in found and name not in stored.names(ctx.store):
        found[name] = _unwritten(ctx, name)
    return [found[name] for name in sorted(found)]


def modes() -> tuple[Network, ...]:
    """``host`` and ``none`` as docker lists them: they are no networks, and have no addresses."""
    return tuple(
        Network(name=name, id=_IDS[name], created=0.0, driver=driver, dns=False)
        for name, driver in MODES.items()
    )


# --- the default network -----------------------------------------------------


def _unwritten(ctx: Context, name: str) -> Network:
    """The default network that has no record; its ``created`` is 0."""
    subnets = _default_subnets(ctx)
    return Network(
        name=name,
        id=_IDS.get(name) or _id(name),
        created=0.0,
        interface=DEFAULT_INTERFACE,
        subnets=subnets,
        ipv6=len(subnets) > 1,
    )


def _default_subnets(ctx: Context) -> tuple[Subnet, ...]:
    """What containers.conf says; else both families, as far as the host knows them."""
    if ctx.config.network.default_subnet:
        return (_configured_subnet(ctx),)
    has_ipv6 = os.path.exists("/proc/net/if_inet6")
    return (_DEFAULT_SUBNET, _DEFAULT_SUBNET6) if has_ipv6 else (_DEFAULT_SUBNET,)


def _configured_subnet(ctx: Context) -> Subnet:
    text = ctx.config.network.default_subnet
    from podpy.net import ipam

    try:
        return ipam.subnets((text,), (), (), {})[0]
    except UsageError as error:
        reason = error.message.removeprefix("--subnet: ")
        raise UsageError(f"containers.conf: network.default_subnet: {reason}") from None


def _id(name: str) -> str:
    import hashlib

    return hashlib.sha256(name.encode()).hexdigest()


def settle(ctx: Context, network: Network) -> Network:
    """The network as it is from its first use on; call it before a supervisor is started for it.

    Only a default network without a record is looked at: where its subnet
    clashes with a route of the host, another is chosen and written down, so
    that it stays.  A subnet that containers.conf names is not questioned.
    """
    if network.created or ctx.config.network.default_subnet:
        return network
    if _free_for(ctx, network) == network.subnets[0]:
        return network
    with stored.lock(ctx.store):
        if found := stored.find(ctx.store, network.name):
            return found
        import time

        subnets = (_free_for(ctx, network), *network.subnets[1:])
        settled = replace(network, created=time.time(), subnets=subnets)
        stored.write(ctx.store, settled)
        return settled


def _free_for(ctx: Context, network: Network) -> Subnet:
    return free_subnet(ctx, first=network.subnets[0].subnet, besides=network.name)


def free_subnet(ctx: Context, *, first: str = "", besides: str = "") -> Subnet:
    """A subnet that clashes with no network and no route of the host.

    Where the host routes every private range somewhere, a part of a broad one
    is taken rather than nothing.  ``besides`` is the network it is for.
    """
    from podpy.net import ipam

    own = [each.subnet for n in every(ctx) if n.name != besides for each in n.subnets]
    routes = host_routes()
    pools = ctx.config.network.default_subnet_pools or ipam.POOLS
    try:
        return ipam.choose(pools, [*own, *routes], first)
    except Conflict:
        narrow = [text for text in routes if int(text.partition("/")[2]) >= _BROAD]
        return ipam.choose(pools, [*own, *narrow], first)


def host_routes() -> list[str]:
    """The destinations of the host's routes, without the default ones."""
    from podpy.kernel import netlink

    route = netlink.Route.open()
    try:
        return route.subnets()
    finally:
        route.close()


# --- who uses them -----------------------------------------------------------


def users(ctx: Context) -> Mapping[str, list[Container]]:
    """Network name → the containers that are, or will be, on it."""
    found: dict[str, list[Container]] = {}
    for container in containers.every(ctx.store):
        for name in names_of(container):
            found.setdefault(name, []).append(container)
    return found


def names_of(container: Container) -> tuple[str, ...]:
    """The networks of a container, in the order of its interfaces."""
    return tuple(attachment.network for attachment in container.record.networks)


def check_records(ctx: Context) -> None:
    """Nobody knows which networks a container of a damaged record is on: none may go."""
    for container in containers.every(ctx.store):
        if container.problem and not container.record.networks:
            name = container.record.name
            raise StoreError(
                f"networks: container {name} may use them: {container.problem}",
                hint=f"`podpy rm -f {name}` removes it",
            )


def exists(ctx: Context, name: str) -> bool:
    try:
        find(ctx, name)
    except NotFound:
        return name in MODES
    return True
