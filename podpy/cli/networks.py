"""Verbs over networks."""

from __future__ import annotations

from podpy.cli import output, values
from podpy.cli.outcomes import confirm, report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from podpy.cli import options as opt
    from podpy.engine.context import Context
    from podpy.engine.network_listing import Row

_SHORT_ID = 12


def create(
    ctx: Context,
    *,
    name: opt.NewNetwork = "",
    driver: opt.NetworkDriver = "bridge",
    subnet: opt.Subnets = (),
    gateway: opt.Gateways = (),
    ip_range: opt.IpRanges = (),
    aux_address: opt.AuxAddresses = (),
    ipv4: opt.Ipv4 = True,
    ipv6: opt.Ipv6 = False,
    internal: opt.Internal = False,
    disable_dns: opt.DisableDns = False,
    dns: opt.NetworkDns = (),
    route: opt.Routes = (),
    interface_name: opt.InterfaceName = "",
    label: opt.NetworkLabels = (),
    options: opt.NetworkOptions = (),
    ignore: opt.IgnoreExisting = False,
    ipam_driver: opt.IpamDriver = "",
    ipam_opt: opt.IpamOptions = (),
    attachable: opt.Attachable = False,
    scope: opt.NetworkScope = "",
    config_from: opt.ConfigFrom = "",
    config_only: opt.ConfigOnly = False,
    ingress: opt.Ingress = False,
) -> None:
    """Make a network and print its name."""
    from podpy.engine import network_creation

    del attachable  # every network is
    wanted = network_creation.CreateOptions(
        driver=driver, subnet=subnet, gateway=gateway, ip_range=ip_range, aux_address=aux_address,
        ipv4=ipv4, ipv6=ipv6, internal=internal, disable_dns=disable_dns, dns=dns, route=route,
        interface_name=interface_name, label=label, opt=options, ignore=ignore,
        ipam_driver=ipam_driver, ipam_opt=ipam_opt, scope=scope, config_from=config_from,
        config_only=config_only, ingress=ingress,
    )  # fmt: skip
    made = network_creation.create(ctx, name, wanted)
    for warning in made.warnings:
        output.warning(warning)
    output.line(made.name)


def ls(
    ctx: Context,
    *,
    filters: opt.Filters = (),
    format_: opt.Format = "",
    quiet: opt.Quiet = False,
    no_trunc: opt.NoTrunc = False,
    noheading: opt.NoHeadingShort = False,
) -> None:
    """List networks, and the modes that docker lists with them."""
    from podpy.engine import network_listing

    found = network_listing.list(ctx, filters=filters)
    shown = _fields(no_trunc)
    if quiet and not format_:
        for row in found:
            output.line(shown["ID"](row))
        return
    listing = output.Listing(shown, {"ID": "NETWORK ID"}, _SHOWN)
    listing.print(found, ("ID", "Name", "Driver", "Scope"), format_, headings=not noheading)


# What `--format json` shows: docker's fields, which are texts.
_SHOWN = ("CreatedAt", "Driver", "ID", "IPv4", "IPv6", "Internal", "Labels", "Name", "Scope")


def _fields(no_trunc: bool) -> Mapping[str, Callable[..., Any]]:
    """Every field of a line of ``network ls``, docker's names and podman's."""
    fields: dict[str, Callable[[Row], Any]] = {
        "ID": lambda row: row.network.id if no_trunc else row.network.id[:_SHORT_ID],
        "Name": lambda row: row.network.name,
        "Driver": lambda row: row.network.driver,
        "Scope": lambda _row: "local",
        "CreatedAt": lambda row: output.timestamp(row.network.created),
        "Created": lambda row: output.rfc3339(row.network.created),
        "IPv4": lambda row: _truth(any(":" not in s.subnet for s in row.network.subnets)),
        "IPv6": lambda row: _truth(any(":" in s.subnet for s in row.network.subnets)),
        "Internal": lambda row: _truth(row.network.internal),
        "Labels": lambda row: ",".join(f"{k}={v}" for k, v in sorted(row.network.labels.items())),
        "NetworkInterface": lambda row: row.network.interface,
        "Subnets": lambda row: [_subnet(subnet) for subnet in row.network.subnets],
        "IPv6Enabled": lambda row: row.network.ipv6,
        "DNSEnabled": lambda row: row.network.dns,
        "NetworkDNSServers": lambda row: [*row.network.dns_servers],
        "Options": lambda row: dict(row.network.options),
    }
    return {**fields, "Label": lambda row, key: row.network.labels.get(key, "")}


def _truth(value: bool) -> str:
    return "true" if value else "false"


def _subnet(subnet: Any) -> dict[str, str]:
    return {"Subnet": subnet.subnet, "Gateway": subnet.gateway}


def rm(
    ctx: Context,
    *,
    names: opt.Networks,
    force: opt.ForceNetwork = False,
    seconds: opt.StopSeconds = "",
) -> int:
    """Remove networks that no container is on."""
    from podpy.engine import network_removal

    outcomes = network_removal.remove(ctx, names, force=force, time=seconds)
    return report("network rm", outcomes, removal=True, force=force)


def prune(ctx: Context, *, force: opt.NoQuestion = False, filters: opt.LongFilters = ()) -> int:
    """Remove all networks that no container is on, but for the default one."""
    from podpy.engine import network_removal

    if not confirm("This will remove all custom networks that no container is on.", force=force):
        return 1
    outcomes = network_removal.prune(ctx, filters=filters)
    removed = any(outcome.error is None for outcome in outcomes)
    if removed:
        output.line("Deleted Networks:")
    code = report("network prune", outcomes)
    if removed:
        output.line()
    return code


def exists(ctx: Context, *, name: opt.Network) -> int:
    """Tell by the exit code whether a network exists: 0 or 1."""
    from podpy.engine import networks

    return 0 if networks.exists(ctx, name) else 1


def connect(
    ctx: Context,
    *,
    network: opt.Network,
    container: opt.Container,
    alias: opt.Aliases = (),
    ip: opt.Ip = "",
    ip6: opt.Ip6 = "",
    mac_address: opt.MacAddress = "",
    driver_opt: opt.EndpointOptions = (),
    link: opt.ConnectLinks = (),
    link_local_ip: opt.LinkLocalIps = (),
    gw_priority: opt.GatewayPriority = "",
) -> None:
    """Connect a container to one more network."""
    from podpy.engine import connecting

    options = connecting.ConnectOptions(
        alias=alias, ip=ip, ip6=ip6, mac_address=mac_address, driver_opt=driver_opt, link=link,
        link_local_ip=link_local_ip, gw_priority=gw_priority,
    )  # fmt: skip
    connecting.connect(ctx, network, container, options)


def disconnect(
    ctx: Context,
    *,
    network: opt.Network,
    container: opt.Container,
    force: opt.ForceDisconnect = False,
) -> None:
    """Disconnect a container from a network."""
    from podpy.engine import connecting

    connecting.disconnect(ctx, network, container, force=force)


def update(
    ctx: Context,
    *,
    network: opt.Network,
    dns_add: opt.DnsAdd = (),
    dns_drop: opt.DnsDrop = (),
) -> None:
    """Change the name servers of a network."""
    from podpy.engine import network_creation

    output.line(network_creation.update(ctx, network, dns_add=dns_add, dns_drop=dns_drop))


def reload(
    ctx: Context,
    *,
    names: opt.Containers = (),
    every: opt.All = False,
    latest: opt.Latest = False,
) -> int:
    """Make the network of running containers anew: interfaces, rules, names and ports."""
    from podpy.engine import connecting

    outcomes = connecting.reload(ctx, names, all=every, latest=latest)
    return report("network reload", outcomes, ids=True)


# --- inspect -----------------------------------------------------------------


class Inspected(values.View):
    """A network for templates, with docker's and podman's field names; as JSON, both shapes."""

    __slots__ = ("_document",)

    def __init__(self, document: dict[str, Any]) -> None:
        super().__init__(document, _INSPECTED)
        self._document = document

    def to_dict(self) -> dict[str, Any]:
        return self._document


def inspected(ctx: Context, name: str) -> Inspected:
    from podpy.engine import network_inspect

    return Inspected(network_inspect.inspect(ctx, name))


def _field(key: str, empty: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda document: document.get(key, empty)


_DOCKERS = (
    "Name", "Id", "Created", "Scope", "Driver", "EnableIPv4", "EnableIPv6", "IPAM", "Internal",
    "Attachable", "Ingress", "ConfigFrom", "ConfigOnly", "Containers", "Options", "Labels",
)  # fmt: skip
_INSPECTED: Mapping[str, Callable[..., Any]] = {
    **{key: _field(key, "") for key in _DOCKERS},
    "NetworkInterface": _field("network_interface", ""),
    "Subnets": _field("subnets", []),
    "Routes": _field("routes", []),
    "IPv6Enabled": _field("ipv6_enabled", False),
    "DNSEnabled": _field("dns_enabled", False),
    "NetworkDNSServers": _field("network_dns_servers", []),
    "IPAMOptions": _field("ipam_options", {}),
}
