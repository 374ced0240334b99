"""An egress policy as it is applied: which names may be asked, what their answers open.

The rules of :class:`podpy.netmodel.Egress` are grouped by port, since the packet
filter has one pair of sets for each group: ranges that stand from the start,
and addresses that names were found to have.

What an answer of an outside name server opens is limited, for whoever serves a
name decides what it means (DNS rebinding): never the loopback, link-local
addresses (where clouds keep credentials), multicast, or the networks of podpy
itself; private addresses only for a host named in full, not by a wildcard.
"""

from __future__ import annotations

from podpy.net import ipam
from podpy.records import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from podpy.net.ipam import Range
    from podpy.netmodel import Egress

ANY_PORT = 0


def ranges(*texts: str) -> tuple[Range, ...]:
    return tuple(ipam.cidr(text, text) for text in texts)


#: Never a destination, whatever the rules say; nor is the uplink's own subnet, where
#: slirp4netns answers (at fd00::2 too) with a resolver that knows no policy.
CLOSED = ranges(
    "0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3",
    "::/96", "::ffff:0:0/96", "fd00::2/127", "fe80::/10", "ff00::/8",
)  # fmt: skip
_LINK_LOCAL = ranges("169.254.0.0/16", "fec0::/10")
_PRIVATE = ranges(
    "10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "198.18.0.0/15",
    "fc00::/7", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16",  # the last three hold any IPv4
)  # fmt: skip


@record
class Group:
    """The rules of one port (:data:`ANY_PORT` for those without)."""

    port: int
    hosts: frozenset[str] = frozenset()
    domains: tuple[str, ...] = ()
    ranges: tuple[Range, ...] = ()

    def names(self, name: str) -> bool:
        """The name is one of the hosts, or below a wildcard's domain."""
        return name in self.hosts or (bool(self.domains) and name.endswith(self.domains))

    def may_open(self, name: str, address: tuple[int, int]) -> bool:
        """Whether an answer of the outside for ``name`` opens an address."""
        if is_within(CLOSED + _LINK_LOCAL, address):
            return False
        return name in self.hosts or not is_within(_PRIVATE, address)

    def intervals(self, family: int) -> list[tuple[int, int]]:
        """The ranges of a family, sorted and joined where they touch."""
        joined: list[tuple[int, int]] = []
        for low, high in sorted((r.first, r.last) for r in self.ranges if r.family == family):
            if joined and low <= joined[-1][1] + 1:
                joined[-1] = (joined[-1][0], max(high, joined[-1][1]))
            else:
                joined.append((low, high))
        return joined


def groups(policy: Egress) -> tuple[Group, ...]:
    """The rules by port, in a fixed order."""
    by_port: dict[int, list[str]] = {}
    for rule in policy.rules:
        target, port = _split(rule)
        by_port.setdefault(port, []).append(target)
    return tuple(_group(port, by_port[port]) for port in sorted(by_port))


def with_hosts(policy: Egress, hosts: Iterable[tuple[str, Iterable[str]]]) -> Egress:
    """The policy with the addresses of listed names that stand in a hosts file.

    Nobody asks the resolver for those.  ``hosts`` are addresses with names.
    """
    known = [(address, {name.lower() for name in names}) for address, names in hosts]
    added = []
    for rule in policy.rules:
        target, port = _split(rule)
        found = [address for address, names in known if target in names]
        added += [_spelled(address, port) for address in found]
    return replace(policy, rules=tuple(dict.fromkeys((*policy.rules, *added))))


def names(policy: Egress) -> set[str]:
    """The hosts and wildcards that a policy lists."""
    targets = {_split(rule)[0] for rule in policy.rules}
    return {target for target in targets if target.startswith("*.") or not _is_address(target)}


def _spelled(target: str, port: int) -> str:
    if port == ANY_PORT:
        return target
    return f"[{target}]:{port}" if ":" in target else f"{target}:{port}"


def _group(port: int, targets: Iterable[str]) -> Group:
    hosts, domains, ranges = set(), [], []
    for target in targets:
        if target.startswith("*."):
            domains.append(target[1:])
        elif _is_address(target):
            ranges.append(_range(target))
        else:
            hosts.add(target)
    return Group(port=port, hosts=frozenset(hosts), domains=tuple(domains), ranges=tuple(ranges))


def _split(rule: str) -> tuple[str, int]:
    """A rule's target and port: ``host:443``, ``[fd00::/8]:443``, ``fd00::7``."""
    if rule.startswith("["):
        target, _, port = rule[1:].partition("]:")
        return target, int(port)
    if rule.count(":") == 1:
        target, _, port = rule.partition(":")
        return target, int(port)
    return rule, ANY_PORT


def _is_address(target: str) -> bool:
    return ":" in target or "/" in target or target.rpartition(".")[2].isdigit()


def _range(target: str) -> Range:
    if "/" in target:
        return ipam.cidr(target, target)
    return ipam.cidr(f"{target}/{128 if ':' in target else 32}", target)


def plain(name: str) -> str:
    """A name as the rules spell it."""
    return name.lower().removesuffix(".")


def parse(address: str) -> tuple[int, int]:
    return ipam.address(address, address)


def is_within(ranges: Iterable[Range], address: tuple[int, int]) -> bool:
    family, number = address
    return any(each.family == family and each.holds(number) for each in ranges)
