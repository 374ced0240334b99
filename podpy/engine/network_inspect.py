"""``network inspect``: a network in docker's shape and in podman's."""

from __future__ import annotations

from podpy.engine import networks
from podpy.engine.network_settings import endpoint_id
from podpy.engine.values import instant
from podpy.errors import NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from podpy.engine.context import Context
    from podpy.model import Container
    from podpy.netmodel import Endpoint, Network, Subnet

    Connected = Sequence[tuple[Container, Endpoint]]


def inspect(ctx: Context, name: str) -> dict[str, Any]:
    """podman's keys, which are lower case, then docker's.

    Programs that do not mind the case of a key read the last of two that differ
    in it: both have the same value, but for the containers.
    """
    network = _find(ctx, name)
    connected = tuple(_connected(ctx, network))
    return {**_podman(network, connected), **_docker(network, connected)}


def _find(ctx: Context, name: str) -> Network:
    try:
        return networks.find(ctx, name)
    except NotFound:
        for mode in networks.modes():
            if name == mode.name:
                return mode
        raise


def _connected(ctx: Context, network: Network) -> Iterator[tuple[Container, Endpoint]]:
    """The running containers on a network, with what they have there."""
    for container in networks.users(ctx).get(network.name, ()):
        if not container.status.is_live:
            continue
        for endpoint in container.state.networks:
            if endpoint.network == network.name:
                yield container, endpoint


# --- podman ------------------------------------------------------------------


def _podman(network: Network, connected: Connected) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "name": network.name,
        "id": network.id,
        "driver": network.driver,
        "network_interface": network.interface,
        "created": instant(network.created),
        "subnets": [_subnet(subnet) for subnet in network.subnets],
        "routes": [{"destination": to, "gateway": through} for to, through in network.routes],
        "ipv6_enabled": network.ipv6,
        "internal": network.internal,
        "dns_enabled": network.dns,
        "network_dns_servers": [*network.dns_servers],
        "labels": dict(network.labels),
        "options": dict(network.options),
        "ipam_options": {"driver": "host-local" if network.subnets else "none"},
        "containers": {
            container.record.id: {
                "name": container.record.name,
                "interfaces": {endpoint.interface: _interface(endpoint)},
            }
            for container, endpoint in connected
        },
    }
    for key in ("routes", "network_dns_servers", "labels", "options"):
        if not shown[key]:
            del shown[key]  # as podman does
    return shown


def _subnet(subnet: Subnet) -> dict[str, Any]:
    shown: dict[str, Any] = {"subnet": subnet.subnet, "gateway": subnet.gateway}
    if subnet.first:
        shown["lease_range"] = {"start_ip": subnet.first, "end_ip": subnet.last}
    return shown


def _interface(endpoint: Endpoint) -> dict[str, Any]:
    found = [
        {"ipnet": f"{address}/{prefix}", "gateway": gateway}
        for address, prefix, gateway in (
            (endpoint.address, endpoint.prefix, endpoint.gateway),
            (endpoint.address6, endpoint.prefix6, endpoint.gateway6),
        )
        if address
    ]
    return {"subnets": found, "mac_address": endpoint.mac}


# --- docker ------------------------------------------------------------------


def _docker(network: Network, connected: Connected) -> dict[str, Any]:
    families = {":" in subnet.subnet for subnet in network.subnets}
    return {
        "Name": network.name,
        "Id": network.id,
        "Created": instant(network.created),
        "Scope": "local",
        "Driver": network.driver,
        "EnableIPv4": False in families,
        "EnableIPv6": True in families,
        "IPAM": {
            "Driver": "default",
            "Options": {},
            "Config": [_pool(subnet) for subnet in network.subnets],
        },
        "Internal": network.internal,
        # Containers can be connected by hand to every network but to what is only a mode.
        "Attachable": bool(network.subnets),
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": {
            container.record.id: _member(container, endpoint) for container, endpoint in connected
        },
        "Options": dict(network.options),
        "Labels": dict(network.labels),
    }


def _pool(subnet: Subnet) -> dict[str, Any]:
    shown: dict[str, Any] = {"Subnet": subnet.subnet, "Gateway": subnet.gateway}
    if subnet.first:
        shown["IPRange"] = _range(subnet)
    if subnet.reserved:
        shown["AuxiliaryAddresses"] = dict(subnet.reserved)
    return shown


def _range(subnet: Subnet) -> str:
    """In CIDR form where the range is one, as docker writes it; else ``FIRST-LAST``."""
    from podpy.net import ipam

    return ipam.show_range(subnet)


def _member(container: Container, endpoint: Endpoint) -> dict[str, str]:
    return {
        "Name": container.record.name,
        "EndpointID": endpoint_id(container.record.id, endpoint.network_id),
        "MacAddress": endpoint.mac,
        "IPv4Address": f"{endpoint.address}/{endpoint.prefix}" if endpoint.address else "",
        "IPv6Address": f"{endpoint.address6}/{endpoint.prefix6}" if endpoint.address6 else "",
    }
