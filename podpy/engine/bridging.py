"""Containers on bridge networks: what the network supervisor is told, and what comes back."""

from __future__ import annotations

from podpy.engine import naming, networks
from podpy.errors import UsageError
from podpy.net import birth, client, resolv
from podpy.records import to_dict
from podpy.runtime import network

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from podpy.engine.context import Context
    from podpy.model import ContainerRecord
    from podpy.net.ports import Holder
    from podpy.netmodel import Endpoint, Network


def prepare(ctx: Context, record: ContainerRecord) -> None:
    """Have a network supervisor: where there is none it starts now, beside everything else.

    It is a child of the command and not of the container's supervisor, in
    whose cgroup it would end with the container.
    """
    place = ctx.store.network_run
    if client.is_running(place):
        return
    for attachment in record.networks:
        networks.settle(ctx, networks.find(ctx, attachment.network))
    birth.ensure(place)


def driver(
    ctx: Context, record: ContainerRecord, holder: Holder, directory: str = ""
) -> network.Bridge:
    """The driver that plugs a container into its networks and tells it its addresses.

    ``holder`` may name the container that has a used port; ``directory`` is where its
    hosts file and resolv.conf lie, when they are not in its own.
    """
    found = [networks.find(ctx, attachment.network) for attachment in record.networks]
    if record.ports and all(network.internal for network in found):
        raise UsageError(
            f"--publish {record.ports[0].container_port}: nobody outside reaches a container "
            f"on internal networks only ({', '.join(network.name for network in found)})",
            hint="connect it to a network without --internal, too, or publish no ports",
        )
    told = client.Registration(
        container=record.id,
        name=record.name,
        names=names(record),
        networks=tuple(
            {"network": to_dict(network), "attachment": to_dict(attachment)}
            for network, attachment in zip(found, record.networks, strict=True)
        ),
        ports=tuple(map(to_dict, record.ports)),
        egress=_egress(ctx, record, found),
        dns=record.dns,
        dns_search=record.dns_search,
        links=_links(record),
    )

    def arrived(endpoints: tuple[Endpoint, ...]) -> None:
        naming.write(ctx, record, endpoints, found, directory)

    return network.Bridge(ctx.store.network_run, told, arrived, holder)


def _egress(ctx: Context, record: ContainerRecord, found: list[Network]) -> Any:
    """The container's policy as its networks apply it; None without one."""
    if record.egress is None:
        return None
    from podpy.engine import egress, links

    host = resolv.host_address() if any(not network.internal for network in found) else ""
    hosts = [*resolv.extra_hosts(record.hosts, host), *links.host_lines(ctx.store, record)]
    return to_dict(egress.in_force(record.egress, hosts, found))


def _links(record: ContainerRecord) -> tuple[tuple[str, str], ...]:
    """What ``--link`` lets the container call others: alias and name."""
    pairs = (text.partition(":") for text in record.links)
    return tuple((alias, name) for name, _, alias in pairs)


def names(record: ContainerRecord) -> tuple[str, ...]:
    """What a container is called on every network: its name, its short id, its host name."""
    return tuple(dict.fromkeys(filter(None, (record.name, record.id[:12], record.hostname))))
