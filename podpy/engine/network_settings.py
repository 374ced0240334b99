"""``NetworkSettings``: the network part of ``inspect`` of a container, with docker's fields.

podpy's own are ``HostConfig.Egress``, ``NetworkSettings.Denied`` and, beside a
published port, ``SourceMasked`` where the container does not see the clients'
own addresses.
"""

from __future__ import annotations

from podpy.engine import values
from podpy.errors import PodpyError
from podpy.net import ports

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from podpy.engine.context import Context
    from podpy.model import Container, ContainerRecord
    from podpy.netmodel import Attachment, Denial, Endpoint, PortMapping

_NOTHING: dict[str, Any] = {
    "EndpointID": "",
    "Gateway": "",
    "IPAddress": "",
    "IPPrefixLen": 0,
    "IPv6Gateway": "",
    "GlobalIPv6Address": "",
    "GlobalIPv6PrefixLen": 0,
    "MacAddress": "",
}


def settings(ctx: Context, found: Container) -> dict[str, Any]:
    """``NetworkSettings``."""
    record, state = found.record, found.state
    live = state.status.is_live
    published = bindings(state.ports if live else record.ports, "0.0.0.0" if live else "")
    exposed = {text: None for text in record.exposed_ports if text not in published}
    return {
        **_own(ctx, found),
        "Bridge": "",
        "SandboxID": record.id if live else "",
        "SandboxKey": f"/proc/{state.init.pid}/ns/net" if live and state.init else "",
        "Ports": dict(sorted({**exposed, **published}.items())),
        "Networks": _networks(ctx, found),
        "Denied": [_denial(each) for each in state.denied],
    }


def mode(record: ContainerRecord) -> str:
    """``HostConfig.NetworkMode``: for bridge networks the first one's name, as docker has it."""
    network = record.network
    if network.kind == "bridge":
        return record.networks[0].network if record.networks else "none"
    options = network.target or ",".join(network.options)
    return ":".join(part for part in (network.kind, options) if part)


def links(record: ContainerRecord) -> list[str] | None:
    """``HostConfig.Links``: ``/db:/web/store``."""
    pairs = [text.partition(":") for text in record.links]
    return [f"/{name}:/{record.name}/{alias}" for name, _, alias in pairs] or None


def bindings(
    mappings: Iterable[PortMapping], default_ip: str
) -> dict[str, list[dict[str, str | bool]]]:
    """Container port → where the host listens for it."""
    found: dict[str, list[dict[str, str | bool]]] = {}
    for mapping in mappings:
        for single in ports.expand(mapping):
            binding: dict[str, str | bool] = {
                "HostIp": single.host_ip or default_ip,
                "HostPort": str(single.host_port) if single.host_port else "",
            }
            if single.masked:
                binding["SourceMasked"] = True
            found.setdefault(f"{single.container_port}/{single.protocol}", []).append(binding)
    return found


def _own(ctx: Context, found: Container) -> dict[str, Any]:
    """The addresses at the top: those on the default network, or of the container's own helper."""
    record, state = found.record, found.state
    if not state.status.is_live:
        return _NOTHING
    if record.network.kind != "bridge":
        prefix = 24 if state.address else 0
        return {**_NOTHING, "IPAddress": state.address, "IPPrefixLen": prefix}
    from podpy.engine import networks

    name = networks.default_name(ctx)
    endpoint = next((each for each in state.networks if each.network == name), None)
    return _addresses(record, endpoint) if endpoint else _NOTHING


def _networks(ctx: Context, found: Container) -> dict[str, Any]:
    record, state = found.record, found.state
    kind = record.network.kind
    if kind != "bridge":
        return {} if kind in ("none", "container", "ns") else {kind: _own(ctx, found)}
    live = {each.network: each for each in state.networks} if state.status.is_live else {}
    return {
        asked.network: _network(ctx, record, asked, live.get(asked.network))
        for asked in record.networks
    }


def _network(
    ctx: Context, record: ContainerRecord, asked: Attachment, endpoint: Endpoint | None
) -> dict[str, Any]:
    aliases = list(asked.aliases)
    names = (record.name, *asked.aliases, record.id[:12], record.hostname)
    return {
        "IPAMConfig": _wanted(asked),
        "Links": links(record),
        "Aliases": aliases,
        "DriverOpts": None,
        "GwPriority": 0,
        "NetworkID": endpoint.network_id if endpoint else _network_id(ctx, asked.network),
        **(_addresses(record, endpoint) if endpoint else _NOTHING),
        "InterfaceName": endpoint.interface if endpoint else asked.interface,
        "DNSNames": list(dict.fromkeys(filter(None, names))),
    }


def _wanted(asked: Attachment) -> dict[str, str] | None:
    given = {"IPv4Address": asked.ip, "IPv6Address": asked.ip6}
    return {key: value for key, value in given.items() if value} or None


def _network_id(ctx: Context, name: str) -> str:
    """The id of a network that the container will be on; empty when it is gone."""
    from podpy.engine import networks

    try:
        return networks.find(ctx, name).id
    except PodpyError:
        return ""


def _addresses(record: ContainerRecord, endpoint: Endpoint) -> dict[str, Any]:
    return {
        "EndpointID": endpoint_id(record.id, endpoint.network_id),
        "Gateway": endpoint.gateway,
        "IPAddress": endpoint.address,
        "IPPrefixLen": endpoint.prefix,
        "IPv6Gateway": endpoint.gateway6,
        "GlobalIPv6Address": endpoint.address6,
        "GlobalIPv6PrefixLen": endpoint.prefix6,
        "MacAddress": endpoint.mac,
    }


def endpoint_id(container: str, network: str) -> str:
    """64 digits that are this container's on this network and no other's."""
    try:
        return f"{int(container, 16) ^ int(network, 16):064x}"
    except ValueError:
        return container


def _denial(denial: Denial) -> dict[str, Any]:
    return {
        "Destination": denial.destination,
        "Port": denial.port,
        "Protocol": denial.protocol,
        "Count": denial.count,
        "Last": values.instant(denial.when),
    }
