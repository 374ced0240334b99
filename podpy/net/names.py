"""Who is called what on which network: the tables behind the resolver, and no socket.

A container asks from one of its addresses, and that is how it is known.  It is
told the names of every network it is on, first those of the network its
question came by; nobody else is told them.  Several containers may share a
name: then it stands for all their addresses.

A name is known bare (``db``) and with its network (``db.backend``), as in
docker; the second is also what an address is given back as.  Every container
is known by the first twelve digits of its id, too.
"""

from __future__ import annotations

import _socket

from podpy.net import addressing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from podpy.netmodel import Network

SHORT_ID = 12
_LONGEST, _LONGEST_LABEL = 253, 63
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")


class Asker:
    """A container: its own name servers, its search domains, what it is on each network.

    ``links`` are names for others that it alone uses (``--link``), with theirs.
    """

    __slots__ = ("container", "dns", "entries", "links", "search")

    def __init__(self, container: str) -> None:
        self.container = container
        self.dns: tuple[str, ...] = ()
        self.search: tuple[str, ...] = ()
        self.links: dict[str, str] = {}
        # Names and addresses by network, in the order in which the networks were joined.
        self.entries: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {}


class Zone:
    """The names of one network."""

    __slots__ = ("members", "name", "names", "network", "subnets", "suffix")

    def __init__(self, name: str) -> None:
        self.name = name
        self.suffix = "." + folded(name)
        self.network: Network | None = None
        self.subnets: tuple[tuple[int, int, int], ...] = ()  # family, base, host bits
        self.members: dict[str, Asker] = {}  # by address
        self.names: dict[str, list[Asker]] = {}

    def define(self, network: Network) -> None:
        self.network = network
        self.subnets = tuple(_subnet(each.subnet) for each in network.subnets)

    def holds(self, family: int, number: int) -> bool:
        """Whether an address is one of this network's."""
        return any(
            family == own and number >> bits == base >> bits for own, base, bits in self.subnets
        )

    def enter(self, asker: Asker) -> None:
        names, addresses = asker.entries[self.name]
        for name in names:
            self.names.setdefault(name, []).append(asker)
        for address in addresses:
            self.members[address] = asker

    def leave(self, asker: Asker) -> None:
        names, addresses = asker.entries.pop(self.name, ((), ()))
        for name in names:
            self.names[name].remove(asker)
            if not self.names[name]:
                del self.names[name]
        for address in addresses:
            if self.members.get(address) is asker:  # it may be another's by now
                del self.members[address]

    def find(self, name: str) -> list[Asker]:
        return self.names.get(name) or self.names.get(name.removesuffix(self.suffix)) or []


class Names:
    """The containers of all networks."""

    def __init__(self) -> None:
        self._zones: dict[str, Zone] = {}
        self._askers: dict[str, Asker] = {}

    # --- what changes ---

    def define(self, network: Network) -> None:
        """A network that is served from now on, or the new definition of one that is."""
        self._zone(network.name).define(network)

    def undefine(self, network: str) -> None:
        self._zones.pop(network, None)
        for asker in self._askers.values():
            asker.entries.pop(network, None)

    def put(
        self,
        container: str,
        network: str,
        names: Iterable[str],
        addresses: Iterable[str],
        *,
        dns: Iterable[str] = (),
        search: Iterable[str] = (),
        links: Iterable[tuple[str, str]] = (),
    ) -> None:
        """What a container is called on a network; replaces what was said before.

        ``dns`` are its own name servers and ``search`` its search domains, on all its
        networks; empty stands for those of the network or the host.  ``links`` are pairs
        of a name that it alone uses and the name of the container it means.

        The first name is the one its address is given back as.  What no question could
        hold (a name of 64 letters) is left out: podpy allows containers to be so called.
        """
        asker = self._askers.setdefault(container, Asker(container))
        asker.dns, asker.search = tuple(dns), tuple(folded(domain) for domain in search)
        asker.links = {folded(alias): folded(name) for alias, name in links}
        wanted = dict.fromkeys([*map(folded, names), container[:SHORT_ID]])
        known = tuple(filter(is_name, wanted))
        zone = self._zone(network)
        zone.leave(asker)
        asker.entries[network] = known, tuple(canonical(each) for each in addresses if each)
        zone.enter(asker)

    def drop(self, container: str, network: str = "") -> None:
        """A container left a network, or (empty) all of them."""
        asker = self._askers.get(container)
        if asker is None:
            return
        for left in [network] if network else list(asker.entries):
            zone = self._zone(left)
            zone.leave(asker)
            if zone.network is None and not zone.names:
                del self._zones[left]
        if not asker.entries:
            del self._askers[container]

    def _zone(self, network: str) -> Zone:
        return self._zones.setdefault(network, Zone(network))

    # --- what is asked ---

    def asker(self, network: str, address: str) -> Asker | None:
        """The container behind a question, by the network it came by and its source."""
        zone = self._zones.get(network)
        return zone.members.get(address.partition("%")[0]) if zone else None

    def lookup(self, asker: Asker, network: str, name: str) -> tuple[str, ...] | None:
        """The addresses behind a name, of both families; None for a name nobody has."""
        for known in dict.fromkeys((asker.links.get(name, name), name)):
            for zone in self._view(asker, network):
                if found := zone.find(known):
                    return tuple(a for each in found for a in each.entries[zone.name][1])
        return None

    def reverse(self, asker: Asker, network: str, name: str) -> str | None:
        """The name of the address that a reverse name (``2.0.88.10.in-addr.arpa``) means.

        Empty for an address of one of podpy's networks that nobody has whom the asker
        may know; None for other addresses and for names that are no address.
        """
        parsed = parse_reverse(name)
        if parsed is None:
            return None
        family, packed = parsed
        for zone in self._view(asker, network):
            member = zone.members.get(_socket.inet_ntop(family, packed))
            if member is not None:
                first = member.entries[zone.name][0][0]
                return first + zone.suffix if is_name(first + zone.suffix) else first
        number = int.from_bytes(packed, "big")
        return "" if any(zone.holds(family, number) for zone in self._zones.values()) else None

    def networks(self, asker: Asker, network: str) -> Iterator[Network]:
        """The networks of a container, first the one its question came by."""
        for zone in self._view(asker, network):
            assert zone.network is not None
            yield zone.network

    def reaches(self, asker: Asker, address: str) -> bool:
        """Whether an address is one of a podpy network that the container is on."""
        bare = address.partition("%")[0]
        family, number = addressing.family(bare), int.from_bytes(addressing.packed(bare), "big")
        return any(self._zones[each].holds(family, number) for each in asker.entries)

    def _view(self, asker: Asker, network: str) -> Iterator[Zone]:
        for name in dict.fromkeys([network, *asker.entries]):
            zone = self._zones.get(name)
            if zone is not None and zone.network is not None and zone.network.dns:
                yield zone


# --- text --------------------------------------------------------------------


def folded(name: str) -> str:
    """A name as it is compared: lower case, no dot at its end."""
    return name.rstrip(".").lower()


def is_name(text: str) -> bool:
    """Whether a folded name can be asked for, and needs no escapes."""
    return (
        len(text) <= _LONGEST
        and _PLAIN.issuperset(text.replace(".", ""))
        and all(0 < len(label) <= _LONGEST_LABEL for label in text.split("."))
    )


def canonical(address: str) -> str:
    """An address in the one spelling the kernel uses."""
    return _socket.inet_ntop(addressing.family(address), addressing.packed(address))


def _subnet(text: str) -> tuple[int, int, int]:
    address, _, prefix = text.partition("/")
    base = addressing.packed(address)
    return addressing.family(address), int.from_bytes(base, "big"), len(base) * 8 - int(prefix)


def parse_reverse(name: str) -> tuple[int, bytes] | None:
    """Family and packed address of a complete reverse name (RFC 1035 3.5, RFC 3596 2.5)."""
    labels = name.split(".")[::-1]
    try:
        if labels[:2] == ["arpa", "in-addr"] and len(labels) == 6:
            return _socket.AF_INET, bytes(_decimal(label) for label in labels[2:])
        if labels[:2] == ["arpa", "ip6"] and len(labels) == 34:
            return _socket.AF_INET6, bytes.fromhex("".join(map(_nibble, labels[2:])))
    except ValueError:
        pass
    return None


def _decimal(label: str) -> int:
    if not (label.isascii() and label.isdigit()) or (len(label) > 1 and label[0] == "0"):
        raise ValueError(label)
    return int(label)


def _nibble(label: str) -> str:
    if len(label) != 1 or label not in "0123456789abcdef":
        raise ValueError(label)
    return label
