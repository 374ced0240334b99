"""``--egress``: what a container may reach outside, read into a policy.

::

    --egress none                                       nothing at all
    --egress pypi.org:443,*.pythonhosted.org            a host at one port, any host below a domain
    --egress 10.1.2.3 --egress 10.4.0.0/16:5432         an address, a range of them
    --egress fd00::7,[fd00:1::/64]:443                  IPv6; with a port it is in brackets

A rule in the policy has one spelling: lower case, without a final dot, ranges
from their first address on.
"""

from __future__ import annotations

from podpy.errors import UsageError
from podpy.net import allowance, ipam, resolv
from podpy.netmodel import Egress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from podpy.netmodel import Network

_LABEL = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")
_LABEL_LIMIT, _NAME_LIMIT = 63, 253
_LAST_PORT = 65535
_FORMS = "none, HOST[:PORT], *.DOMAIN[:PORT], ADDRESS[:PORT], CIDR[:PORT], [IPV6]:PORT"


def policy(texts: Iterable[str]) -> Egress:
    """The policy of all ``--egress`` options; each is a list with commas."""
    given = [rule.strip() for text in texts for rule in text.split(",")]
    if "none" in given:
        if len(given) > 1:
            raise UsageError("--egress none: conflicting options: nothing else can be allowed")
        return Egress()
    return Egress(rules=tuple(dict.fromkeys(_rule(text) for text in given)))


def _rule(text: str) -> str:
    if text.startswith("["):
        target, port = _bracketed(text)
    elif text.count(":") > 1:
        target, port = _range(text, text), ""
    else:
        name, colon, port = text.partition(":")
        target, port = _target(name, text), _port(port, text) if colon else ""
    if not port:
        return target
    return f"[{target}]:{port}" if ":" in target else f"{target}:{port}"


def _bracketed(text: str) -> tuple[str, str]:
    """``[ADDRESS]``, ``[CIDR]:PORT`` of IPv6."""
    inside, bracket, rest = text[1:].partition("]")
    if not bracket or ":" not in inside or (rest and not rest.startswith(":")):
        raise _invalid(text)
    return _range(inside, text), _port(rest[1:], text) if rest else ""


def _target(name: str, text: str) -> str:
    if "/" in name or set("0123456789.").issuperset(name):
        return _range(name, text)
    return _host(name, text)


def _range(text: str, whole: str) -> str:
    """An address or a range in its usual spelling."""
    if not text:
        raise _invalid(whole)
    where = f"--egress {whole}"
    return str(ipam.cidr(text, where)) if "/" in text else ipam.show(*ipam.address(text, where))


def _host(name: str, text: str) -> str:
    """A host's name, or ``*.`` and a domain's; in ASCII, as resolvers know it."""
    plain = name.lower().removesuffix(".")
    labels = plain.removeprefix("*.").split(".")
    if plain == "*":
        raise UsageError("--egress *: allows everything", hint="leave --egress out")
    if not name.isascii():
        raise UsageError(
            f"--egress {text}: {name!r} is not ASCII", hint="write it as resolvers know it: xn--…"
        )
    valid = all(label and _LABEL.issuperset(label) and label[0] != "-" for label in labels)
    short = len(plain) <= _NAME_LIMIT and all(len(label) <= _LABEL_LIMIT for label in labels)
    if not valid or not short or labels[-1].isdigit():
        raise _invalid(text)
    return plain


def _port(text: str, whole: str) -> str:
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text[:6]) <= _LAST_PORT:
        raise UsageError(f"--egress {whole}: invalid port {text!r}", hint=f"1 to {_LAST_PORT}")
    return str(int(text))


def _invalid(text: str) -> UsageError:
    return UsageError(f"--egress: invalid rule {text!r}", hint=_FORMS)


# --- at a container's start --------------------------------------------------


def in_force(
    allowed: Egress, hosts: Iterable[tuple[str, Iterable[str]]], networks: Iterable[Network]
) -> Egress:
    """The policy with the addresses of what stands in the container's own hosts file.

    ``hosts`` are addresses with names.  All other names are opened by the
    answers of the networks' resolvers, so there must be one.
    """
    listed, found = tuple(hosts), tuple(networks)
    unknown = allowance.names(allowed) - {name.lower() for _, names in listed for name in names}
    if any(network.host_loopback for network in found):
        unknown -= set(resolv.HOST_NAMES)
    if unknown and not any(network.dns for network in found):
        raise UsageError(
            f"--egress {min(unknown)}: none of the container's networks resolves names",
            hint="list addresses, or create the network without --disable-dns",
        )
    return allowance.with_hosts(allowed, listed)
