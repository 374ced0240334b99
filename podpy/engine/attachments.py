"""A container on a network: what ``--network NAME:OPTIONS`` asks for, read and checked.

Two spellings are known, podman's ``NAME:ip=10.1.2.3,alias=db`` and docker's
``name=NAME,ip=10.1.2.3,alias=db``.  Reading needs nothing but the text;
:func:`check` holds attachments against the networks they name.
"""

from __future__ import annotations

from podpy.errors import UsageError
from podpy.net import ipam
from podpy.netmodel import Attachment
from podpy.records import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from podpy.engine.options import ContainerOptions
    from podpy.netmodel import Network

_FORM = "ip=, ip6=, mac=, alias= and interface_name="
_DOCKER_FORM = "name=NETWORK with ip=, ip6=, mac-address=, alias= and driver-opt="
#: docker's option of an endpoint, the one that can be honoured.
INTERFACE_OPTION = "com.docker.network.endpoint.ifname"
_INTERFACE_LIMIT = 15  # IFNAMSIZ less the NUL
_ALIAS_LIMIT = 253  # a domain name (RFC 1035)
_ALIAS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
#: docker's words, which podman spells as the field is named.
_FIELDS = {
    "ip": "ip",
    "ip6": "ip6",
    "mac": "mac",
    "mac-address": "mac",
    "alias": "aliases",
    "interface_name": "interface",
}
_REFUSED = {
    "link-local-ip": "addresses on the link are the kernel's to choose",
    "gw-priority": "the first network given has the default route",
    "mode": "the kernel of a rootless container chooses no bridge mode",
    "host_interface_name": "the other end lies in a namespace of podpy's, not on the host",
}


# --- reading -----------------------------------------------------------------


def named(network: str, options: str = "") -> Attachment:
    """``NAME[:ip=,ip6=,mac=,alias=,interface_name=]``; ``options`` is what follows the colon."""
    if not network:
        raise UsageError("--network: network name cannot be empty")
    made = Attachment(network=network)
    for option in filter(None, options.split(",")):
        key, _, value = option.partition("=")
        if key in ("mac-address", "driver-opt", "name"):
            raise _unknown(option, network, _FORM)
        made = _with(made, key, value, f"--network {network}", _FORM)
    return made


def long_form(text: str) -> Attachment:
    """docker's ``name=NETWORK,KEY=VALUE,…``."""
    pairs = [_pair(option, text) for option in _fields(text)]
    network = dict(pairs).get("name", "")
    if not network:
        raise UsageError(f"--network: network name/id is not specified in {text!r}")
    where = f"--network {network}"
    made = Attachment(network=network)
    for key, value in pairs:
        if key in ("mac", "interface_name"):
            raise _unknown(key, network, _DOCKER_FORM)
        if key == "driver-opt":
            made = _with(made, "interface_name", _driver_option(value), where, _DOCKER_FORM)
        elif key != "name":
            made = _with(made, key, value, where, _DOCKER_FORM)
    return made


def _driver_option(text: str) -> str:
    """The value of the one option of an endpoint that there is."""
    name, _, value = text.partition("=")
    if name != INTERFACE_OPTION:
        raise UsageError(
            f"--network: driver-opt {name!r} cannot be honoured:"
            f" the only option of an endpoint is {INTERFACE_OPTION}"
        )
    return value


def _fields(text: str) -> list[str]:
    """The fields of a line of CSV, as docker reads it: a quoted one may hold commas."""
    found, field, quoted = [], "", False
    for character in text:
        if character == '"':
            quoted = not quoted
        elif character == "," and not quoted:
            found.append(field)
            field = ""
        else:
            field += character
    return [*found, field]


def _pair(option: str, text: str) -> tuple[str, str]:
    key, separator, value = option.partition("=")
    if not separator:
        raise UsageError(f"--network: invalid field {option!r} in {text!r}", hint=_DOCKER_FORM)
    return key.strip().lower(), value.strip()


def _with(made: Attachment, key: str, value: str, where: str, form: str) -> Attachment:
    """``made`` with one more option; only aliases may be given several times."""
    if key in _REFUSED:
        raise UsageError(f"{where}: {key} cannot be honoured: {_REFUSED[key]}")
    if key not in _FIELDS:
        raise _unknown(key, made.network, form)
    field = _FIELDS[key]
    if field == "aliases":
        return replace(made, aliases=(*made.aliases, alias(value, where)))
    if getattr(made, field):
        raise UsageError(f"{where}: {key} is given twice")
    return replace(made, **{field: _READERS[field](value, where)})


def _unknown(option: str, network: str, form: str) -> UsageError:
    return UsageError(
        f"--network {network}: invalid option: unknown bridge network option: {option}", hint=form
    )


# --- values ------------------------------------------------------------------


def address(text: str, where: str) -> str:
    return _address(text, 4, where)


def address6(text: str, where: str) -> str:
    return _address(text, 6, where)


def _address(text: str, wanted: int, where: str) -> str:
    """An address of the wanted family in its usual spelling."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    family, number = ipam.address(bare, where)
    if family != wanted:
        raise UsageError(f"{where}: {text} is no IPv{wanted} address")
    return ipam.show(family, number)


def alias(text: str, where: str) -> str:
    if not text:
        raise UsageError(f"{where}: alias cannot be empty")
    if len(text) > _ALIAS_LIMIT or not _ALIAS.issuperset(text) or text[0] in "-.":
        raise UsageError(f"{where}: invalid alias {text!r}", hint="letters, digits and - _ .")
    return text


def interface(text: str, where: str) -> str:
    """What the kernel takes as a device's name."""
    plain = text.isascii() and text.isprintable() and not set(" /:%").intersection(text)
    if not text or len(text) > _INTERFACE_LIMIT or not plain or text in (".", "..", "lo"):
        raise UsageError(
            f"{where}: invalid interface name {text!r}",
            hint=f"1 to {_INTERFACE_LIMIT} characters, without space, slash and colon",
        )
    return text


_READERS: Mapping[str, Callable[[str, str], str]] = {
    "ip": address,
    "ip6": address6,
    "mac": ipam.mac,
    "interface": interface,
}


# --- several, and the networks themselves ------------------------------------


def with_options(
    wanted: tuple[Attachment, ...], options: ContainerOptions
) -> tuple[Attachment, ...]:
    """``--ip``, ``--ip6`` and ``--mac-address`` on the first, ``--network-alias`` on all."""
    first, *others = wanted
    for name, field in (("ip", "ip"), ("ip6", "ip6"), ("mac_address", "mac")):
        text = getattr(options, name)
        if not text:
            continue
        option = f"--{name.replace('_', '-')}"
        if getattr(first, field):
            raise UsageError(
                f"conflicting options: cannot specify both {option} and that of the network"
            )
        first = replace(first, **{field: _READERS[field](text, option)})
    given = [name for text in options.network_alias for name in text.split(",")]
    aliases = tuple(alias(name, "--network-alias") for name in given)
    if aliases and any(each.aliases for each in wanted):
        raise UsageError(
            "conflicting options: cannot specify both --network-alias and per-network alias"
        )
    if not aliases:
        return (first, *others)
    return tuple(replace(each, aliases=aliases) for each in (first, *others))


def check(wanted: Sequence[Attachment], networks: Mapping[str, Network]) -> None:
    """Refuse what is wrong with one attachment, or with one beside the others."""
    seen: set[str] = set()
    interfaces: list[str] = []
    for each in wanted:
        if each.network in seen:
            raise UsageError(f'--network: network "{each.network}" is specified multiple times')
        if each.interface in interfaces:
            raise UsageError(f"--network: two interfaces would be named {each.interface}")
        seen.add(each.network)
        free = (f"eth{number}" for number in range(len(wanted)))
        interfaces.append(each.interface or next(name for name in free if name not in interfaces))
        for text in filter(None, (each.ip, each.ip6)):
            _check_address(text, networks[each.network])


def _check_address(text: str, network: Network) -> None:
    ipam.check_static(network.subnets, text, f"--network {network.name}")
