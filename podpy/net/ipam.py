"""Addresses: subnets for new networks, leases in them, and what users write of either.

Pure.  Addresses are texts at the edges and pairs of a family (4 or 6) and a
number inside; the ``ipaddress`` module costs 8 ms to import, and a container
that starts waits for its lease.
"""

from __future__ import annotations

import _socket

from podpy.errors import Conflict, UsageError
from podpy.netmodel import Subnet
from podpy.records import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

#: podman's pools: the range, and the prefix length of the subnets cut from it.
POOLS = (
    "10.89.0.0/16 24",
    "10.90.0.0/15 24",
    "10.92.0.0/14 24",
    "10.96.0.0/11 24",
    "10.128.0.0/9 24",
)
_BITS = {4: 32, 6: 128}
_FAMILIES = {4: _socket.AF_INET, 6: _socket.AF_INET6}
_HEX = frozenset("0123456789abcdef")
# Pools and subnets of users may lie anywhere but here: these mean something else to every host.
_SPECIAL = (
    ("0.0.0.0/8", "this host"),
    ("127.0.0.0/8", "loopback"),
    ("224.0.0.0/3", "multicast and reserved"),
    ("::/127", "this host and loopback"),
    ("fe80::/10", "link-local"),
    ("ff00::/8", "multicast"),
)


@record
class Range:
    """An address range in CIDR form: ``first`` address and prefix ``length``."""

    family: int
    first: int
    length: int

    def __str__(self) -> str:
        return f"{show(self.family, self.first)}/{self.length}"

    @property
    def last(self) -> int:
        return self.first + (1 << _BITS[self.family] - self.length) - 1

    def holds(self, number: int) -> bool:
        return self.first <= number <= self.last

    def is_within(self, other: Range) -> bool:
        return self.family == other.family and other.holds(self.first) and other.holds(self.last)

    def overlaps(self, other: Range) -> bool:
        return self.family == other.family and (
            self.first <= other.last and other.first <= self.last
        )


# --- texts -------------------------------------------------------------------


def address(text: str, what: str) -> tuple[int, int]:
    """Family and number of an address; ``what`` names it in the :class:`UsageError`."""
    family = 6 if ":" in text else 4
    try:
        packed = _socket.inet_pton(_FAMILIES[family], text)
    except (OSError, ValueError):
        raise UsageError(f"{what}: invalid IP address {text!a}") from None
    return family, int.from_bytes(packed, "big")


def show(family: int, number: int) -> str:
    return _socket.inet_ntop(_FAMILIES[family], number.to_bytes(_BITS[family] // 8, "big"))


def cidr(text: str, what: str) -> Range:
    """``10.1.2.0/24``; bits below the prefix are cleared, as docker and podman do."""
    base, slash, digits = text.partition("/")
    family, number = address(base, what)
    bits = _BITS[family]
    if not (slash and digits.isascii() and digits.isdigit() and int(digits) <= bits):
        raise UsageError(
            f"{what}: invalid CIDR address {text!a}", hint="address/prefix length: 10.1.2.0/24"
        )
    length = int(digits)
    return Range(family=family, first=number >> bits - length << bits - length, length=length)


def mac(text: str, what: str) -> str:
    """A unicast MAC address in the usual form, lower case with colons."""
    plain = text.lower().replace("-", ":")
    parts = plain.split(":")
    valid = len(parts) == 6 and all(len(part) == 2 and _HEX.issuperset(part) for part in parts)
    if not valid or plain == "00:00:00:00:00:00":
        raise UsageError(
            f"{what}: invalid MAC address {text!a}", hint="for example 02:42:0a:59:00:02"
        )
    if int(parts[0], 16) & 1:
        raise UsageError(f"{what}: {text} is a multicast address: no interface can have it")
    return plain


# --- subnets of a network that is made ---------------------------------------


def subnets(
    given: Iterable[str],
    gateways: Iterable[str],
    ranges: Iterable[str],
    reserved: Mapping[str, str],
) -> tuple[Subnet, ...]:
    """``--subnet`` texts with what the other options say about each.

    A gateway, a range or an ``--aux-address`` belongs to the subnet that holds
    it.  A subnet without a gateway has its first address.
    """
    found = [cidr(text, "--subnet") for text in given]
    for position, each in enumerate(found):
        _check_subnet(each, found[:position])
    made = {each: Subnet(subnet=str(each)) for each in found}
    for text in gateways:
        owner = _owner(found, text, "--gateway")
        if made[owner].gateway:
            raise UsageError(f"--gateway: {text}: subnet {owner} has the gateway"
                             f" {made[owner].gateway} already")  # fmt: skip
        made[owner] = replace(made[owner], gateway=_host(owner, text, "--gateway"))
    for text in ranges:
        owner, first, last = _bounds(found, text)
        if made[owner].first:
            raise UsageError(f"--ip-range: subnet {owner} has a range already")
        made[owner] = replace(made[owner], first=first, last=last)
    for name, text in reserved.items():
        owner = _owner(found, text, "--aux-address")
        held = {**made[owner].reserved, name: _host(owner, text, "--aux-address")}
        made[owner] = replace(made[owner], reserved=held)
    return tuple(with_gateway(made[each]) for each in found)


def _check_subnet(wanted: Range, others: Iterable[Range]) -> None:
    bits = _BITS[wanted.family]
    if wanted.length > bits - 2:
        raise UsageError(
            f"--subnet: {wanted} has no room for a gateway and a container",
            hint=f"/{bits - 2} at most",
        )
    for text, use in _SPECIAL:
        if wanted.overlaps(cidr(text, "")):
            raise UsageError(f"--subnet: {wanted} cannot be used: {text} is for {use}")
    for other in others:
        if wanted.overlaps(other):
            raise UsageError(f"--subnet: {wanted} and {other} overlap")


def _owner(found: Iterable[Range], text: str, option: str) -> Range:
    family, number = address(text, option)
    for each in found:
        if each.family == family and each.holds(number):
            return each
    raise UsageError(
        f"{option}: {text}: no --subnet that holds it was given: not in any subnet",
        hint="give the subnet, too: --subnet",
    )


def _host(subnet: Range, text: str, option: str) -> str:
    """An address that something in the subnet can have, in its usual form."""
    family, number = address(text, option)
    if number == subnet.first or (family == 4 and number == subnet.last):
        kind = "network" if number == subnet.first else "broadcast"
        raise UsageError(f"{option}: {text} is the {kind} address of {subnet}")
    return show(family, number)


def _bounds(found: Iterable[Range], text: str) -> tuple[Range, str, str]:
    """``--ip-range``: CIDR form, or ``FIRST-LAST``; without the network's own addresses."""
    option = "--ip-range"
    start, dash, end = text.partition("-")
    if dash:
        family, first = address(start, option)
        last = address(end, option)[1]
    else:
        wanted = cidr(text, option)
        family, first, last = wanted.family, wanted.first, wanted.last
    if first > last:
        raise UsageError(f"{option}: {text}: ends before it begins")
    owner = _owner(found, show(family, first), option)
    if not owner.holds(last):
        raise UsageError(f"{option}: {text}: is not within {owner}")
    low, high = _hosts(owner)
    if first > high or last < low:
        raise UsageError(f"{option}: {text}: holds no address for a container")
    return owner, show(family, max(first, low)), show(family, min(last, high))


def _hosts(subnet: Range) -> tuple[int, int]:
    """The first and the last address that may be somebody's: no network, no broadcast."""
    return subnet.first + 1, subnet.last - (subnet.family == 4)


def with_gateway(subnet: Subnet) -> Subnet:
    """The subnet with a gateway: the first address that has no other use."""
    if subnet.gateway:
        return subnet
    whole = cidr(subnet.subnet, "--subnet")
    low, high = _hosts(whole)
    others = {address(text, "--aux-address")[1] for text in subnet.reserved.values()}
    for number in range(low, min(high, low + len(others)) + 1):
        if number not in others:
            return replace(subnet, gateway=show(whole.family, number))
    raise UsageError(f"--aux-address: subnet {subnet.subnet} has no address left for a gateway")


def show_range(subnet: Subnet) -> str:
    """The range that is handed out, in CIDR form where it is one, else ``FIRST-LAST``.

    The network's own addresses, left out of a range, do not keep it from being one.
    """
    whole = cidr(subnet.subnet, "subnet")
    low, high = _hosts(whole)
    first, last = address(subnet.first, "range")[1], address(subnet.last, "range")[1]
    first, last = whole.first if first == low else first, whole.last if last == high else last
    bits = (last - first + 1).bit_length() - 1
    found = Range(family=whole.family, first=first, length=_BITS[whole.family] - bits)
    is_one = found.last == last and first % (1 << bits) == 0
    return str(found) if is_one else f"{subnet.first}-{subnet.last}"


# --- choosing a subnet -------------------------------------------------------


def choose(pools: Iterable[str], taken: Iterable[str], first: str = "") -> Subnet:
    """A free IPv4 subnet: ``first`` where it clashes with nothing, else one from a pool.

    ``taken`` are the networks there are and the destinations of the host's
    routes.  Raises :class:`Conflict` when every pool is used up.
    """
    busy = [cidr(text, "route") for text in taken]
    if first:
        wanted = cidr(first, "default_subnet")
        if not any(wanted.overlaps(each) for each in busy):
            return with_gateway(Subnet(subnet=str(wanted)))
    for text in pools:
        pool, length = _pool(text)
        if found := _free(pool, length, busy):
            return with_gateway(Subnet(subnet=str(found)))
    raise Conflict(
        "could not find free subnet from subnet pools: all of them clash with networks or routes",
        hint="give one: --subnet, or more in containers.conf: network.default_subnet_pools",
    )


def _pool(text: str) -> tuple[Range, int]:
    base, _, digits = text.partition(" ")
    what = "containers.conf: network.default_subnet_pools"
    pool = cidr(base, what)
    bits = _BITS[pool.family]
    if pool.family != 4 or not digits.isdigit() or not pool.length <= int(digits) <= bits - 2:
        raise UsageError(
            f"{what}: base {base}, size {digits}: no such subnets",
            hint="an IPv4 range and a longer prefix: base 10.89.0.0/16, size 24",
        )
    return pool, int(digits)


def _free(pool: Range, length: int, busy: Iterable[Range]) -> Range | None:
    """The lowest free subnet of a pool: behind each that is in the way comes the next try."""
    size = 1 << _BITS[pool.family] - length
    in_the_way = sorted(
        (each for each in busy if each.overlaps(pool)), key=lambda each: (each.first, each.last)
    )
    number = pool.first
    for each in in_the_way:
        if each.first > number + size - 1:
            break
        if each.last >= number:
            number = -(-(each.last + 1) // size) * size  # rounded up to a whole subnet
    found = Range(family=pool.family, first=number, length=length)
    return found if found.last <= pool.last else None


def choose6(random: bytes) -> Subnet:
    """A ``/64`` of a unique local prefix (RFC 4193): 56 random bits clash with nobody's."""
    packed = b"\xfd" + random[:7] + bytes(8)
    whole = Range(family=6, first=int.from_bytes(packed, "big"), length=64)
    return with_gateway(Subnet(subnet=str(whole)))


# --- leases ------------------------------------------------------------------


def lease(subnet: Subnet, taken: Collection[str], last: str = "") -> str:
    """A free address of a subnet; ``last`` is the one handed out before.

    The search begins behind ``last``, so that the address of a container that
    has just gone is the last choice: neighbours still know it by another MAC
    address.  Raises :class:`Conflict` when the subnet is full.
    """
    whole = cidr(subnet.subnet, "subnet")
    family = whole.family
    low, high = _hosts(whole)
    if subnet.first:
        low, high = address(subnet.first, "range")[1], address(subnet.last, "range")[1]
    used = {address(text, "lease")[1] for text in (*taken, *_not_for_leases(subnet))}
    begin = address(last, "lease")[1] + 1 if last else low
    if not low <= begin <= high:
        begin = low
    # Among so many addresses one must be free, or all are used.
    for step in range(min(high - low + 1, len(used) + 1)):
        number = low + (begin - low + step) % (high - low + 1)
        if number not in used:
            return show(family, number)
    raise Conflict(
        f"no free address in {subnet.subnet}: all are in use",
        hint="remove containers from the network, or make one with a larger --subnet",
    )


def _not_for_leases(subnet: Subnet) -> Iterable[str]:
    return (*((subnet.gateway,) if subnet.gateway else ()), *subnet.reserved.values())


def check_static(given: Iterable[Subnet], text: str, option: str) -> str:
    """An address that a container may ask for on a network, in its usual form.

    It must be in a subnet of the network, and be nobody else's by definition;
    it need not be in the range that is handed out.
    """
    family, number = address(text, option)
    shown = show(family, number)
    for subnet in given:
        whole = cidr(subnet.subnet, "subnet")
        if whole.family != family or not whole.holds(number):
            continue
        _host(whole, text, option)
        if shown == subnet.gateway:
            raise UsageError(f"{option}: {shown} is the gateway of {whole}")
        if shown in subnet.reserved.values():
            raise UsageError(f"{option}: {shown} is reserved in {whole} (--aux-address)")
        return shown
    known = ", ".join(subnet.subnet for subnet in given if (":" in subnet.subnet) == (family == 6))
    raise UsageError(
        f"{option}: requested static ip {text} not in any subnet on the network",
        hint=f"its subnets: {known}" if known else f"the network has no IPv{family} subnet",
    )
