"""``--link CONTAINER[:ALIAS]``, docker's old way to another container on the same network.

The container gets a line in its hosts file (alias, short id and name of the
other) and variables about the other's address, ports and environment.  Both
are looked up at each start, so the other must run then.  When the other one
starts again, perhaps at a new address, hosts files follow
(:func:`podpy.engine.naming.started`); variables stay what they were, as with docker.
"""

from __future__ import annotations

from podpy.engine import holding
from podpy.errors import NotFound, PodpyError, StateError, UsageError
from podpy.records import record, replace
from podpy.storage import containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from podpy.model import Container, ContainerRecord
    from podpy.netmodel import Endpoint
    from podpy.paths import Store

# What every container has of its own, so that nobody asks for the other's.
_NOT_PASSED = ("PATH", "HOME", "HOSTNAME", "TERM", "container")


@record
class Link:
    """Another container as one that is linked to it sees it.

    ``names`` are those of the hosts file, ``addresses`` the other's on a
    network that both are on, ``ports`` single ``port/protocol``.
    """

    alias: str
    names: tuple[str, ...]
    addresses: tuple[str, ...]
    ports: tuple[str, ...] = ()
    env: tuple[str, ...] = ()


# --- asking for one ----------------------------------------------------------


def wanted(
    texts: Iterable[str], base: ContainerRecord, lookup: Callable[[str], ContainerRecord]
) -> tuple[str, ...]:
    """``NAME:ALIAS`` for the record; the other container must exist."""
    found: dict[str, str] = {}
    for text in texts:
        name, alias = _split(text)
        try:
            target = lookup(name)
        except NotFound as error:
            raise NotFound(f"--link {text}: could not get container: {error.message}") from None
        if target.network.kind != "bridge":
            raise UsageError(
                f"--link {text}: cannot link to /{target.name}, as it does not belong to the"
                f" default network: its network mode is {target.network.kind}"
            )
        alias = alias or target.name
        if found.get(alias, target.name) != target.name:
            raise UsageError(f"--link: alias {alias} stands for both {found[alias]} and {name}")
        found[alias] = target.name
    return tuple(f"{name}:{alias}" for alias, name in found.items())


def _split(text: str) -> tuple[str, str]:
    from podpy.engine import attachments

    name, separator, alias = text.removeprefix("/").partition(":")
    if not name or ":" in alias or (separator and not alias):
        raise UsageError(f"--link: bad format for links: {text}", hint="CONTAINER[:ALIAS]")
    return name, attachments.alias(alias, "--link") if alias else ""


# --- what it means now -------------------------------------------------------


def effective(store: Store, linked: ContainerRecord) -> ContainerRecord:
    """The record to start from: with variables about the links, which must all lead somewhere."""
    found = [_resolve(store, linked, text) for text in linked.links]
    return replace(linked, env=environment(found, linked))


def with_present(store: Store, linked: ContainerRecord) -> ContainerRecord:
    """The record of a running container with variables about the links that run."""
    return replace(linked, env=environment(present(store, linked), linked))


def host_lines(store: Store, linked: ContainerRecord) -> list[tuple[str, tuple[str, ...]]]:
    """What the hosts file says of the links that run: addresses with their names."""
    return [(address, link.names) for link in present(store, linked) for address in link.addresses]


def present(store: Store, linked: ContainerRecord) -> list[Link]:
    """Those of a container's links whose other end runs."""
    found = []
    for text in linked.links:
        try:
            found.append(_resolve(store, linked, text))
        except PodpyError:
            continue
    return found


def _resolve(store: Store, linked: ContainerRecord, text: str) -> Link:
    name, _, alias = text.partition(":")
    target = containers.resolve(store, name)
    if not target.status.can_exec():
        raise StateError(
            f"cannot link to a non running container: /{name} AS /{linked.name}/{alias}",
            hint=f"start it first: `podpy start {name}`",
        )
    shared = _shared(linked, target)
    if shared is None:
        names = ", ".join(each.network for each in linked.networks)
        raise StateError(
            f"cannot link to /{name}, as it does not belong to the network {names}",
            hint=f"`podpy network connect {linked.networks[0].network} {name}`",
        )
    other = target.record
    return Link(
        alias=alias,
        names=tuple(dict.fromkeys((alias, other.id[:12], other.hostname, other.name))),
        addresses=shared.addresses,
        ports=_ports(other),
        env=other.env,
    )


def _shared(linked: ContainerRecord, target: Container) -> Endpoint | None:
    """The other's end on the first network that both are on."""
    theirs = {each.network: each for each in target.state.networks}
    return next((theirs[each.network] for each in linked.networks if each.network in theirs), None)


def _ports(other: ContainerRecord) -> tuple[str, ...]:
    """Its exposed and published ports by number, TCP before UDP."""
    published = [
        f"{mapping.container_port + step}/{mapping.protocol}"
        for mapping in other.ports
        for step in range(mapping.count)
    ]
    every = {*other.exposed_ports, *published}
    return tuple(sorted(every, key=lambda text: (int(text.partition("/")[0]), text)))


# --- what the container gets -------------------------------------------------


def environment(links: Iterable[Link], linked: ContainerRecord) -> tuple[str, ...]:
    """The container's variables with docker's about its links, which never replace its own."""
    found: dict[str, str] = {}
    for link in links:
        found.update(_variables(link, linked.name))
    own = {text.partition("=")[0] for text in linked.env}
    return (
        *(f"{name}={value}" for name, value in found.items() if name not in own),
        *linked.env,
    )


def _variables(link: Link, own_name: str) -> dict[str, str]:
    prefix = link.alias.upper().replace("-", "_")
    address = link.addresses[0]
    found = {f"{prefix}_NAME": f"/{own_name}/{link.alias}"}
    for text in link.ports:
        port, _, protocol = text.partition("/")
        url = f"{protocol}://{_in_url(address)}:{port}"
        key = f"{prefix}_PORT_{port}_{protocol.upper()}"
        found.setdefault(f"{prefix}_PORT", url)
        found |= {
            key: url,
            f"{key}_ADDR": address,
            f"{key}_PORT": port,
            f"{key}_PROTO": protocol,
        }
    found |= _ranges(prefix, address, link.ports)
    for text in link.env:
        name, _, value = text.partition("=")
        if name not in _NOT_PASSED:
            found[f"{prefix}_ENV_{name}"] = value
    return found


def _in_url(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _ranges(prefix: str, address: str, ports: Sequence[str]) -> dict[str, str]:
    """Neighbouring ports of one protocol also stand as a range, by its first and last."""
    found: dict[str, str] = {}
    for protocol in ("tcp", "udp"):
        numbers = {int(text.partition("/")[0]) for text in ports if text.endswith(protocol)}
        for first in (n for n in numbers if n - 1 not in numbers and n + 1 in numbers):
            last = first
            while last + 1 in numbers:
                last += 1
            key = f"{prefix}_PORT_{first}_{protocol.upper()}"
            for name, port in (("START", first), ("END", last)):
                found[f"{key}_{name}"] = f"{protocol}://{_in_url(address)}:{port}"
                found[f"{key}_PORT_{name}"] = str(port)
    return found


def follow(store: Store, old: str, new: str) -> None:
    """A container was renamed: those that are linked to it know it by its new name."""
    for other in containers.every(store):
        if not any(text.startswith(f"{old}:") for text in other.record.links):
            continue
        with holding.hold(store, other.record):
            record = containers.read(store, other.record.id).record
            links = tuple(
                f"{new}:{text.partition(':')[2]}" if text.startswith(f"{old}:") else text
                for text in record.links
            )
            containers.update(store, replace(record, links=links))
