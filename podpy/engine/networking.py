"""How a container is reached and named: networks or mode, hosts, host name.

``--network`` names either one mode (none, host, a helper of its own, another
container's network, a namespace) or bridge networks, as many as wanted.
``--ip``, ``--ip6`` and ``--mac-address`` are for the first network, as docker has
it; ``--network-alias`` is for all of them, as podman has it.
"""

from __future__ import annotations

from podpy.engine import publishing
from podpy.errors import NotFound, PodpyError, UsageError
from podpy.net import slirp
from podpy.netmodel import Attachment, NetworkMode
from podpy.records import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from podpy.engine.options import ContainerOptions
    from podpy.engine.surroundings import Surroundings
    from podpy.model import ContainerRecord, ImageConfig
    from podpy.netmodel import Egress, Network, PortMapping
    from podpy.settings import Config

    Attachments = tuple[Attachment, ...]

#: What ``--network`` may name besides networks; ``bridge`` and the like stand for one.
MODES = ("none", "host", "slirp4netns", "pasta", "container", "ns")
_DEFAULT = ("", "default", "private")
_HOSTNAME_LIMIT = 64
#: Options that are about an interface on a bridge network.
_OF_BRIDGES = ("ip", "ip6", "mac_address", "network_alias", "link", "egress")


# --- modes and networks ------------------------------------------------------


def choose(
    options: ContainerOptions, config: Config, around: Surroundings
) -> tuple[NetworkMode, Attachments]:
    """What ``--network`` and its companions ask for; without it, what is configured."""
    if options.link_local_ip:
        raise UsageError("--link-local-ip: cannot be honoured: these addresses are the kernel's")
    asked = [word for text in options.network or ("",) for word in _words(text)]
    texts = [_settled(text, config, around) for text in asked]
    mode = next((text for text in texts if text.partition(":")[0] in MODES), "")
    if not mode:
        return NetworkMode(kind="bridge"), _attachments(texts, options, around)
    kind = mode.partition(":")[0]
    if len(texts) > 1:
        raise UsageError(
            "--network: conflicting options: cannot set multiple networks without bridge network"
            f" mode, selected mode {kind}",
            hint="a mode stands alone; networks can be given several times",
        )
    for name in _OF_BRIDGES:
        if getattr(options, name) and kind != "container":
            raise _only_for_bridges(name, kind)
    return _mode(mode, config, around), ()


def _words(text: str) -> list[str]:
    """One ``--network``: podman lets several names stand in it, with commas."""
    words = [text] if ":" in text or "=" in text else text.split(",")
    if len(words) > 1 and not all(words):
        raise UsageError(f"--network {text}: network name cannot be empty")
    return words


def _settled(text: str, config: Config, around: Surroundings) -> str:
    """A mode, or a network with its options, in place of a word for the default."""
    if _is_long_form(text):
        from podpy.engine import attachments

        bare = attachments.long_form(text)
        alone = bare == Attachment(network=bare.network)
        return _settled(bare.network, config, around) if alone else text
    if text == "default" and _is_network(text, around):
        return text
    if text in _DEFAULT:
        return default(config)
    return text


def default(config: Config) -> str:
    """What a container gets when nothing is said: the default network, unless configured."""
    named = config.containers.netns
    if named in _DEFAULT:
        named = config.network.default_rootless_network_cmd
    return named or "bridge"


def _is_long_form(text: str) -> bool:
    """docker's ``name=NET,alias=db``: it begins with a key, podman's form with a network."""
    return "=" in text.partition(":")[0]


def _is_network(name: str, around: Surroundings) -> bool:
    """Whether a network is called so, and is not merely meant by it."""
    try:
        return around.find_network(name).name == name
    except PodpyError:
        return False


def _only_for_bridges(name: str, kind: str) -> UsageError:
    option = f"--{name.replace('_', '-')}"
    if name == "link":
        return UsageError(
            f"{option}: conflicting options: {kind} type networking can't be used with links",
            hint="put both containers on one bridge network",
        )
    return UsageError(
        f"{option} can only be set when the network mode is bridge, not {kind}",
        hint="name a network: --network bridge",
    )


def _mode(text: str, config: Config, around: Surroundings) -> NetworkMode:
    """One of :data:`MODES`; options of ``containers.conf`` come before those given, which win."""
    kind, separator, rest = text.partition(":")
    if kind in ("container", "ns"):
        return _joined(kind, rest, around)
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


def _joined(kind: str, target: str, around: Surroundings) -> NetworkMode:
    if kind == "container":
        if not target:
            raise UsageError("--network: container: needs the name or id of a container")
        return NetworkMode(kind=kind, target=around.lookup(target).id)
    if not target.startswith("/"):
        raise UsageError(f"--network: ns: needs the absolute path of a namespace, not {target!r}")
    return NetworkMode(kind=kind, target=target)


def _attachments(
    texts: Sequence[str], options: ContainerOptions, around: Surroundings
) -> Attachments:
    """The networks, each by its own name; most containers are on one and ask for nothing."""
    wanted = tuple(_attachment(text) for text in texts)
    named = {each.network: _find(each.network, around) for each in wanted}
    wanted = tuple(replace(each, network=named[each.network].name) for each in wanted)
    plain = wanted == (Attachment(network=wanted[0].network),)
    if plain and not (options.ip or options.ip6 or options.mac_address or options.network_alias):
        return wanted
    from podpy.engine import attachments

    wanted = attachments.with_options(wanted, options)
    attachments.check(wanted, {network.name: network for network in named.values()})
    return wanted


def _find(name: str, around: Surroundings) -> Network:
    try:
        return around.find_network(name)
    except NotFound as error:
        raise NotFound(f"--network {name}: {error.message}", hint="`podpy network ls`") from None


def _attachment(text: str) -> Attachment:
    name, _, rest = text.partition(":")
    if name and not rest and not _is_long_form(text):
        return Attachment(network=name)
    from podpy.engine import attachments

    return attachments.long_form(text) if _is_long_form(text) else attachments.named(name, rest)


# --- ports, names and hosts --------------------------------------------------


def details(
    base: ContainerRecord,
    options: ContainerOptions,
    about: ImageConfig,
    config: Config,
    around: Surroundings,
) -> ContainerRecord:
    """``base`` with its ports, name servers, hosts and host name."""
    defaults = config.containers
    if base.network.kind == "container":
        _refuse_with_container(options)
    exposed = publishing.exposed(options.expose, about.exposed_ports)
    return replace(
        base,
        ports=_ports(base, options, exposed, around),
        exposed_ports=exposed,
        links=_links(options, base, around),
        egress=_egress(options),
        dns=_dns(options.dns or defaults.dns_servers),
        dns_search=options.dns_search or defaults.dns_searches,
        dns_options=options.dns_option or defaults.dns_options,
        hosts=_hosts(options.add_host, base.network.kind, defaults.host_containers_internal_ip),
        no_hosts=_no_hosts(options, defaults.no_hosts),
        hosts_file=_hosts_file(options, defaults.base_hosts_file),
        hostname=_hostname(base, options, around),
        no_hostname=options.no_hostname,
        domainname=_domainname(base, options),
    )


def _ports(
    base: ContainerRecord, options: ContainerOptions, exposed: Iterable[str], around: Surroundings
) -> tuple[PortMapping, ...]:
    """Published ports; those without an address have that of the first network that names one."""
    found = publishing.ports(options, base.network.kind, exposed, around.parse_port)
    if all(port.host_ip for port in found):
        return found
    named = (around.find_network(each.network).publish_on for each in base.networks)
    address = next(filter(None, named), "")
    return tuple(replace(port, host_ip=port.host_ip or address) for port in found)


def _refuse_with_container(options: ContainerOptions) -> None:
    for name in ("publish", "publish_all", "expose", "hostname", "dns", "dns_search",
                 "dns_option", "add_host", "no_hosts", "hosts_file", *_OF_BRIDGES):  # fmt: skip
        if getattr(options, name):
            raise UsageError(
                f"--{name.replace('_', '-')}: conflicting options: with --network container:…"
                " it is that container's",
                hint="give it to the container that owns the network",
            )


def _links(
    options: ContainerOptions, base: ContainerRecord, around: Surroundings
) -> tuple[str, ...]:
    if not options.link:
        return ()
    from podpy.engine import links

    return links.wanted(options.link, base, around.lookup)


def _egress(options: ContainerOptions) -> Egress | None:
    if not options.egress:
        return None
    from podpy.engine import egress

    return egress.policy(options.egress)


def _dns(servers: tuple[str, ...]) -> tuple[str, ...]:
    """``--dns``: addresses, or ``none`` alone, which keeps the image's resolv.conf."""
    if servers:
        from podpy.net import resolv

        resolv.check_servers(servers)
    return servers


def _no_hosts(options: ContainerOptions, configured: bool) -> bool:
    if options.no_hosts and options.add_host:
        raise UsageError("--no-hosts and --add-host cannot be set together")
    return options.no_hosts or (configured and not options.add_host)


def _hosts_file(options: ContainerOptions, configured: str) -> str:
    chosen = options.hosts_file or configured
    if options.no_hosts and options.hosts_file:
        raise UsageError("--no-hosts and --hosts-file cannot be set together")
    if not chosen:
        return ""
    from podpy.engine import hosts_base

    return hosts_base.check(chosen)


def _hosts(texts: Iterable[str], kind: str, configured: str) -> tuple[str, ...]:
    """``--add-host``, and the host's names where containers.conf says which address it has."""
    from podpy.net import resolv

    pairs = [resolv.split_host(text) for text in texts]
    if configured in ("", "none") or kind in ("none", "container"):
        return tuple(texts)
    if not resolv.is_address(configured):
        raise UsageError(
            f"containers.conf: host_containers_internal_ip: invalid IP address {configured!r}"
        )
    pairs.append((resolv.HOST_NAMES, resolv.HOST_GATEWAY))
    return tuple(
        f"{';'.join(names)}:{configured if address == resolv.HOST_GATEWAY else address}"
        for names, address in pairs
    )


def _hostname(base: ContainerRecord, options: ContainerOptions, around: Surroundings) -> str:
    if options.hostname:
        if base.uts_mode != "private":
            raise UsageError(f"--hostname: conflicting options: with --uts {base.uts_mode}")
        return _name_of_host(options.hostname, "--hostname")
    if base.network.kind == "container":
        return around.lookup(base.network.target).hostname
    if base.uts_mode.startswith("container:"):
        return around.lookup(base.uts_mode.partition(":")[2]).hostname
    if base.uts_mode == "host" or base.network.kind == "host":
        return around.hostname
    return base.id[:12]


def _domainname(base: ContainerRecord, options: ContainerOptions) -> str:
    name = options.domainname
    if name and base.uts_mode != "private":
        raise UsageError(f"--domainname: conflicting options: with --uts {base.uts_mode}")
    return _name_of_host(name, "--domainname")


def _name_of_host(name: str, option: str) -> str:
    """A name that the kernel takes and that is one word in a hosts file, its own or another's."""
    if len(name.encode()) > _HOSTNAME_LIMIT:
        raise UsageError(f"{option}: longer than {_HOSTNAME_LIMIT} bytes")
    if not name.isprintable() or set(name) & set(" #"):
        raise UsageError(f"{option}: invalid hostname format: {name!a}")
    return name
