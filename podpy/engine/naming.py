"""The hosts file and resolv.conf of a container on bridge networks, while it runs.

Both are bind-mounted before the addresses are known, and networks come and go
while a container runs: they are written in place, since a bind mount follows
the file and not its name.
"""

from __future__ import annotations

import os

from podpy.engine import networks
from podpy.errors import NotFound
from podpy.net import resolv

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from podpy.engine.context import Context
    from podpy.engine.links import Link
    from podpy.model import Container, ContainerRecord, Endpoint, Network


def write(
    directory: str,
    record: ContainerRecord,
    endpoints: Sequence[Endpoint],
    links: Iterable[Link] = (),
    *,
    known: Sequence[Network],
) -> None:
    """Write both files for what a container has got on the networks ``known``."""
    made = resolv.network_files(
        record,
        endpoints,
        record.hostname or record.id[:12],
        [(address, link.names) for link in links for address in link.addresses],
        networks=known,
        host=resolv.Host.now(),
    )
    for name, text in made.items():
        _in_place(f"{directory}/{name}", text.encode())


def rewrite(ctx: Context, container: Container) -> None:
    """Write both files anew for what a running container has on its networks now."""
    record, endpoints = container.record, container.state.networks
    links: Iterable[Link] = ()
    if record.links:
        from podpy.engine import links as linking

        links = linking.present(ctx.store, record)
    directory = ctx.store.container(record.id)
    write(directory, record, endpoints, links, known=_known(ctx, endpoints))


def _known(ctx: Context, endpoints: Iterable[Endpoint]) -> list[Network]:
    found = []
    for endpoint in endpoints:
        try:
            found.append(networks.find(ctx, endpoint.network))
        except NotFound:
            continue  # removed under its containers (`network rm -f`)
    return found


def _in_place(path: str, data: bytes) -> None:
    """Whoever reads meanwhile may see the beginning of one text and the end of the other."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        os.pwrite(fd, data, 0)
        os.ftruncate(fd, len(data))
    finally:
        os.close(fd)
