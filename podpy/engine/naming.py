"""The hosts file and resolv.conf of a container on bridge networks.

Both are bind-mounted before the addresses are known, and networks come and go
while a container runs: they are written in place, since a bind mount follows
the file and not its name.

``containers/<id>/linked/`` names the containers that are linked to one and have
its address in their hosts files.  It hardly ever exists, so a start that looks
there for whom to tell of a new address pays one system call.
"""

from __future__ import annotations

import os

from podpy import files
from podpy.engine import networks
from podpy.errors import NotFound, PodpyError
from podpy.net import resolv
from podpy.storage import containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from podpy.engine.context import Context
    from podpy.model import Container, ContainerRecord
    from podpy.netmodel import Endpoint, Network


def write(
    ctx: Context, record: ContainerRecord, endpoints: Sequence[Endpoint],
    known: Sequence[Network], directory: str = "",
) -> None:  # fmt: skip
    """Write both files for what a container has got on the networks ``known``.

    They lie in the container's directory, unless another one is named.
    """
    lines: Iterable[tuple[str, tuple[str, ...]]] = ()
    if record.links:
        from podpy.engine import links

        lines = links.host_lines(ctx.store, record)
    base = resolv.CLEAN_HOSTS
    if record.hosts_file:
        from podpy.engine import hosts_base

        base = hosts_base.text(ctx.store, record)
    hostname = record.hostname or record.id[:12]
    made = resolv.network_files(
        record, endpoints, hostname, lines, networks=known, host=resolv.Host.now(), base=base
    )
    for name, text in made.items():
        files.overwrite(f"{directory or ctx.store.container(record.id)}/{name}", text)


def rewrite(ctx: Context, container: Container) -> None:
    """Write both files anew for what a running container has on its networks now."""
    endpoints = container.state.networks
    write(ctx, container.record, endpoints, _known(ctx, endpoints))


def _known(ctx: Context, endpoints: Iterable[Endpoint]) -> list[Network]:
    found = []
    for endpoint in endpoints:
        try:
            found.append(networks.find(ctx, endpoint.network))
        except NotFound:
            continue  # removed under its containers (`network rm -f`)
    return found


# --- when a linked container starts again ------------------------------------


def started(ctx: Context, record: ContainerRecord) -> None:
    """A container has started: note what it is linked to, and tell those linked to it."""
    for text in record.links:
        _note(ctx, text.partition(":")[0], record.id)
    directory = f"{ctx.store.container(record.id)}/linked"
    for container_id in files.list_directory(directory):
        if not _told(ctx, container_id):
            files.unlink(f"{directory}/{container_id}")


def _note(ctx: Context, target: str, container_id: str) -> None:
    try:
        found = containers.resolve(ctx.store, target)
        directory = f"{ctx.store.container(found.record.id)}/linked"
        if not os.path.isdir(directory):
            os.mkdir(directory, 0o700)
        files.write_atomic(f"{directory}/{container_id}", b"")
    except (NotFound, OSError):
        return  # the other one is being removed, or somebody else makes the same note


def _told(ctx: Context, container_id: str) -> bool:
    """Write a linked container's hosts file anew; False when it does not run any more."""
    try:
        linked = containers.read(ctx.store, container_id)
    except PodpyError:
        return False
    if linked.status.is_live:
        rewrite(ctx, linked)
    return linked.status.is_live
