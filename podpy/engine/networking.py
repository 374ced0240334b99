"""How a container is reached and named: network mode, ports, hosts, host name."""

from __future__ import annotations

from podpy.engine import values
from podpy.errors import UsageError
from podpy.model import NetworkMode
from podpy.net import slirp
from podpy.records import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from podpy.engine.options import ContainerOptions
    from podpy.engine.surroundings import Surroundings
    from podpy.model import ContainerRecord, ImageConfig, PortMapping
    from podpy.settings import Config

NETWORKS = ("none", "host", "slirp4netns", "pasta")
_HOSTNAME_LIMIT = 64


def mode(
    texts: Iterable[str],
    config: Config,
    helper: Callable[[], str],
    lookup: Callable[[str], str],
) -> NetworkMode:
    """``--network``: one of :data:`NETWORKS` with options, ``container:NAME`` or ``private``.

    Options of ``containers.conf`` come before those given, which win.
    """
    given = tuple(texts)
    if len(given) > 1:
        raise UsageError(f"--network: only one mode can be given, not {', '.join(given)}")
    text = given[0] if given else ""
    if text in ("", "private", "default"):
        text = _default_network(config, helper)
    kind, separator, rest = text.partition(":")
    if kind == "container":
        if not rest:
            raise UsageError("--network: container: needs the name or id of a container")
        return NetworkMode(kind="container", target=lookup(rest))
    if kind not in NETWORKS:
        raise UsageError(
            f"--network: no network or mode {text!r} is known: network not found",
            hint="none, host, slirp4netns, pasta or container:NAME",
        )
    if separator and kind in ("none", "host"):
        raise UsageError(f"--network: {kind} takes no options: {text!r}")
    options = tuple(option for option in rest.split(",") if option)
    if kind == "slirp4netns":
        options = (*config.engine.network_cmd_options, *options)
        slirp.parse_options(options)
    elif kind == "pasta":
        from podpy.net import pasta

        options = (*config.network.pasta_options, *options)
        pasta.parse_options(options)
    return NetworkMode(kind=kind, options=options)


def _default_network(config: Config, helper: Callable[[], str]) -> str:
    """containers.conf first; a rootless container cannot have podman's ``bridge`` by default."""
    named = config.containers.netns
    if named not in ("", "private", "bridge"):
        return named
    return config.network.default_rootless_network_cmd or helper()


def details(
    base: ContainerRecord,
    options: ContainerOptions,
    about: ImageConfig,
    config: Config,
    around: Surroundings,
) -> ContainerRecord:
    """``base`` with its ports, name servers, hosts and host name."""
    defaults = config.containers
    ports = tuple(mapping for text in options.publish for mapping in around.parse_port(text))
    exposed = _exposed(options.expose, about.exposed_ports)
    if options.publish_all:
        ports += _all_exposed(exposed, ports, around)
    if base.network.kind == "container":
        _refuse_with_container(options)
    elif ports and base.network.kind in ("none", "host"):
        ports = ()  # there is nothing to publish to: docker and podman warn and go on
    return replace(
        base,
        ports=ports,
        exposed_ports=exposed,
        dns=options.dns or defaults.dns_servers,
        dns_search=options.dns_search or defaults.dns_searches,
        dns_options=options.dns_option or defaults.dns_options,
        hosts=_hosts(options.add_host),
        no_hosts=_no_hosts(options, defaults.no_hosts),
        hostname=_hostname(base, options, around),
    )


def _exposed(given: Iterable[str], image: Iterable[str]) -> tuple[str, ...]:
    """``PORT[-PORT][/PROTOCOL]`` of ``--expose`` and the image, as single ``port/protocol``."""
    found: dict[str, None] = {}
    for text in (*image, *given):
        ports, _, protocol = text.partition("/")
        first, _, last = ports.partition("-")
        low = values.integer(first, "--expose", lowest=1, highest=65535)
        high = values.integer(last or first, "--expose", lowest=low, highest=65535)
        if (protocol or "tcp") not in ("tcp", "udp", "sctp"):
            raise UsageError(f"--expose: invalid protocol in {text!r}", hint="tcp, udp or sctp")
        found.update((f"{port}/{protocol or 'tcp'}", None) for port in range(low, high + 1))
    return tuple(found)


def _all_exposed(
    exposed: Iterable[str], published: Iterable[PortMapping], around: Surroundings
) -> tuple[PortMapping, ...]:
    """``--publish-all``: a random host port for each exposed one that ``-p`` did not name."""
    done = {
        f"{port}/{m.protocol}"
        for m in published
        for port in range(m.container_port, m.container_port + m.count)
    }
    return tuple(m for text in exposed if text not in done for m in around.parse_port(text))


def _refuse_with_container(options: ContainerOptions) -> None:
    for name in ("publish", "publish_all", "expose", "hostname", "dns", "dns_search",
                 "dns_option", "add_host", "no_hosts"):  # fmt: skip
        if getattr(options, name):
            raise UsageError(
                f"--{name.replace('_', '-')}: conflicting options: with --network container:…"
                " it is that container's",
                hint="give it to the container that owns the network",
            )


def _no_hosts(options: ContainerOptions, configured: bool) -> bool:
    if options.no_hosts and options.add_host:
        raise UsageError("--no-hosts and --add-host cannot be set together")
    return options.no_hosts or (configured and not options.add_host)


def _hosts(texts: Iterable[str]) -> tuple[str, ...]:
    from podpy.net import resolv

    for text in texts:
        resolv.split_host(text)
    return tuple(texts)


def _hostname(base: ContainerRecord, options: ContainerOptions, around: Surroundings) -> str:
    if options.hostname:
        if base.uts_mode != "private":
            raise UsageError(f"--hostname: conflicting options: with --uts {base.uts_mode}")
        if len(options.hostname.encode()) > _HOSTNAME_LIMIT:
            raise UsageError(f"--hostname: longer than {_HOSTNAME_LIMIT} bytes")
        return options.hostname
    if base.network.kind == "container":
        return around.lookup(base.network.target).hostname
    if base.uts_mode.startswith("container:"):
        return around.lookup(base.uts_mode.partition(":")[2]).hostname
    if base.uts_mode == "host" or base.network.kind == "host":
        return around.hostname
    return base.id[:12]
