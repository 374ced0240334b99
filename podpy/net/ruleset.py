"""The packet filter of a container with an egress policy.

It sits on the host's end of the container's interface, in the netdev family:
before the bridge, so that a sibling on the same network is a destination like
any other, and where nobody in the container has a right.  No connection is
tracked by the kernel, which would cost every other container and could be
filled by one; a set per container remembers what was begun.  In the words of
``nft``, for a container at 10.88.0.7 behind 10.88.0.1, with rules for
``example.org:443`` and ``192.0.2.0/24``::

    table netdev podpy-CONTAINER-POLICY {
      set known4 { type ipv4_addr . inet_proto . inet_service . inet_service; flags timeout }
      set closed4 { type ipv4_addr; flags interval; elements = { 10.0.2.0/24, 127.0.0.0/8, … } }
      set range0-4 { type ipv4_addr; flags interval; elements = { 192.0.2.0/24 } }
      set name443-4 { type ipv4_addr; flags timeout }        # filled by the resolver

      chain from-DEVICE-PLUG {
        type filter hook ingress device DEVICE priority 0; policy drop;
        ether saddr != 02:42:0a:58:00:07 drop
        ether type arp, about itself alone, at most 20 a second: accept
        ether type ip, no options, no fragment, ip saddr 10.88.0.7: goto four-DEVICE-PLUG
      }
      chain four-DEVICE-PLUG {
        ip daddr 224.0.0.0/3 drop                            # silence about broadcasts
        ether daddr set BRIDGE                               # no sibling but by way of the router
        ip daddr 10.88.0.1 tcp dport 53 accept               # the resolver that knows the policy
        ip daddr 10.88.0.1 udp dport 53 accept
        goto policy4
      }
      chain policy4 {
        what is known4 and does not begin a connection: accept, and renew
        ip daddr @closed4 goto refuse4
        ip daddr @gateways4 goto refuse4
        ip daddr @range0-4 goto allow4
        ip daddr @name443-4 tcp dport 443 goto allow4
        ip daddr @name443-4 udp dport 443 goto allow4
        goto refuse4
      }
      chain allow4 { tcp, udp: update @known4, accept; icmp echo-request: accept; goto refuse4 }
      chain refuse4 {
        limit rate 64/second burst 64 packets log prefix CONTAINER group 1
        tcp: reject with tcp reset
        reject with icmp admin-prohibited
      }
      chain to-DEVICE-PLUG {
        type filter hook egress device DEVICE priority 0; policy accept;
        what begins a connection from outside: update @known4
      }
    }

and the same for IPv6, with neighbour discovery in place of ARP.
"""

from __future__ import annotations

from binascii import crc32

from podpy.kernel import nftables as nft
from podpy.net import addressing
from podpy.net.allowance import ANY_PORT, Group
from podpy.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from podpy.kernel.nftables import Batch
    from podpy.net.ipam import Range

LOG_GROUP = 1
LOG_LENGTH = 64  # bytes of a refused packet: both headers
_PREFIX = "podpy-"
_CONNECTIONS = 16384  # that one container can have begun, in each family
ADDRESSES = 4096  # that the names of one group can have
# What the chains of an interface begin with, those first that go to others.
_PLUG_CHAINS = ("from-", "to-", "four-", "six-")
_DAY, _UDP, _HALF_OPEN, _PING = 86400, 180, 120, 30

_ARP = b"\x08\x06"
_TCP, _UDP_NUMBER, _ICMP6 = 6, 17, 58
_FIN_RST, _SYN_ACK, _SYN = b"\x05", b"\x12", b"\x02"
_DNS = (53).to_bytes(2, "big")


@record
class Family:
    """Where things are in the headers of IPv4 or IPv6 (RFC 791, RFC 8200)."""

    number: int
    word: str
    ether_type: bytes
    length: int
    source: int
    target: int
    shown: int
    icmp: int
    prohibited: int
    echo: bytes
    echo_reply: bytes
    errors: bytes


_FAMILIES = (
    Family(
        number=4, word="four", ether_type=b"\x08\x00", length=4, source=12, target=16,
        shown=nft.TYPE_IPV4, icmp=1, prohibited=13, echo=b"\x08", echo_reply=b"\x00",
        errors=b"\3\x0b\x0c",
    ),
    Family(
        number=6, word="six", ether_type=b"\x86\xdd", length=16, source=8, target=24,
        shown=nft.TYPE_IPV6, icmp=_ICMP6, prohibited=1, echo=b"\x80", echo_reply=b"\x81",
        errors=b"\1\2\3\4",
    ),
)  # fmt: skip


@record
class Plug:
    """One interface of a container, as the shared namespace sees it."""

    device: str
    index: int
    mac: bytes
    bridge_mac: bytes
    address: str = ""
    gateway: str = ""
    address6: str = ""
    gateway6: str = ""

    @property
    def name(self) -> str:
        """What its chains are called by: they change with any of this.

        With the index too: of a device that went, the chains may stand and see nothing.
        """
        return f"{self.device}-{crc32(repr(self).encode()):08x}"

    @property
    def base_chains(self) -> tuple[str, str]:
        return f"from-{self.name}", f"to-{self.name}"

    @property
    def chains(self) -> tuple[str, ...]:
        return tuple(kind + self.name for kind in _PLUG_CHAINS)

    def side(self, family: Family) -> tuple[bytes, bytes]:
        """Its address and its gateway's in a family; empty where it has none."""
        if family.number == 4:
            return _packed(self.address), _packed(self.gateway)
        return _packed(self.address6), _packed(self.gateway6)

    @property
    def link_local(self) -> bytes:
        """The address that the kernel makes of the MAC (RFC 4291, appendix A)."""
        mac = self.mac
        middle = bytes((mac[0] ^ 2,)) + mac[1:3] + b"\xff\xfe" + mac[3:]
        return b"\xfe\x80" + bytes(6) + middle


def prefix(container: str) -> str:
    """What the names of a container's tables begin with."""
    return f"{_PREFIX}{container[:12]}-"


def table(container: str, groups: Sequence[Group]) -> str:
    """The table of a container with this policy.

    Which names it is about is for the resolver to know, and the uplink's subnet
    stays what it was at first.
    """
    told = repr([(group.port, list(map(str, group.ranges))) for group in groups])
    return f"{prefix(container)}{crc32(told.encode()):08x}"


def is_ours(table_name: str) -> bool:
    return table_name.startswith(_PREFIX)


def names_set(group: Group, family: int) -> str:
    """The set that the resolver fills."""
    return f"name{group.port}-{family}"


# --- what is common to all interfaces ----------------------------------------


def add_policy(batch: Batch, groups: Sequence[Group], closed: tuple[Range, ...], name: str) -> None:
    """The table, its sets, and the chains that every interface's packets go through.

    ``closed`` are ranges that no rule opens, ``name`` is the one under which
    refused packets are logged.
    """
    batch.add_table()
    _add_bytes(batch, "plain6", bytes((_TCP, _UDP_NUMBER, _ICMP6)))
    for family in _FAMILIES:
        known = (family.shown, nft.TYPE_PROTOCOL, nft.TYPE_PORT, nft.TYPE_PORT)
        batch.add_set(
            f"known{family.number}", known, family.length + 12,
            nft.SET_EVAL | nft.SET_TIMEOUT, size=_CONNECTIONS,
        )  # fmt: skip
        _add_bytes(batch, f"errors{family.number}", family.errors)
        _add_ranges(batch, family, f"closed{family.number}", Group(port=0, ranges=closed))
        batch.add_set(f"gateways{family.number}", (family.shown,), family.length, 0)
        for group in groups:
            _add_ranges(batch, family, _ranges_set(group, family), group)
            batch.add_set(
                names_set(group, family.number), (family.shown,), family.length,
                nft.SET_TIMEOUT, size=ADDRESSES,
            )  # fmt: skip
        _add_chains(batch, family, groups, name)


def _add_bytes(batch: Batch, name: str, values: bytes) -> None:
    batch.add_set(name, (nft.TYPE_PROTOCOL,), 1, nft.SET_CONSTANT)
    batch.add_elements(name, [bytes((value,)) for value in values])


def _ranges_set(group: Group, family: Family) -> str:
    return f"range{group.port}-{family.number}"


def _add_ranges(batch: Batch, family: Family, name: str, group: Group) -> None:
    batch.add_set(name, (family.shown,), family.length, nft.SET_INTERVAL)
    intervals = [
        (low.to_bytes(family.length, "big"), high.to_bytes(family.length, "big"))
        for low, high in group.intervals(family.number)
    ]
    if intervals:
        batch.add_intervals(name, intervals)


def _add_chains(batch: Batch, family: Family, groups: Iterable[Group], name: str) -> None:
    number = family.number
    refuse, allow, policy = f"refuse{number}", f"allow{number}", f"policy{number}"
    for chain in (refuse, allow, policy):
        batch.add_chain(chain)
    _add_refusal(batch, family, refuse, name)
    _add_allowance(batch, family, allow, refuse)
    _add_known(batch, family, policy)
    target = nft.load(nft.NETWORK, family.target, family.length)
    for listed in (f"closed{number}", f"gateways{number}"):
        batch.add_rule(policy, target, nft.in_set(listed), nft.goto(refuse))
    for group in groups:
        for listed in (_ranges_set(group, family), names_set(group, number)):
            for ports in _ports(group):
                batch.add_rule(policy, target, nft.in_set(listed), ports, nft.goto(allow))
    batch.add_rule(policy, nft.goto(refuse))


def _ports(group: Group) -> tuple[bytes, ...]:
    if group.port == ANY_PORT:
        return (b"",)
    port = group.port.to_bytes(2, "big")
    return tuple(_to_port(transport, port) for transport in (_TCP, _UDP_NUMBER))


def _to_port(transport: int, port: bytes) -> bytes:
    return nft.protocol(transport) + nft.load(nft.TRANSPORT, 2, 2) + nft.is_(port)


def _add_refusal(batch: Batch, family: Family, chain: str, name: str) -> None:
    # ICMP errors are the kernel's own answers to what came in: nobody's attempt.
    error = nft.load(nft.TRANSPORT, 0, 1) + nft.in_set(f"errors{family.number}")
    batch.add_rule(chain, nft.protocol(family.icmp), error, nft.DROP)
    batch.add_rule(chain, nft.limit(64, 64), nft.log(LOG_GROUP, name, LOG_LENGTH))
    # connect(2) does not hear an ICMP error that comes while it still sends: it would
    # wait for a second.  A reset it hears.
    batch.add_rule(chain, nft.protocol(_TCP), nft.reset())
    batch.add_rule(chain, nft.reject(family.prohibited))


def _add_allowance(batch: Batch, family: Family, chain: str, refuse: str) -> None:
    known, key = f"known{family.number}", _outgoing(family)
    for transport, seconds in ((_TCP, _DAY), (_UDP_NUMBER, _UDP)):
        # Two rules: a full set must not stop what the policy allows.
        batch.add_rule(chain, nft.protocol(transport), key, nft.update(known, seconds))
        batch.add_rule(chain, nft.protocol(transport), nft.ACCEPT)
    echo = nft.load(nft.TRANSPORT, 0, 1) + nft.is_(family.echo)
    batch.add_rule(chain, nft.protocol(family.icmp), echo, nft.ACCEPT)
    batch.add_rule(chain, nft.goto(refuse))


def _add_known(batch: Batch, family: Family, chain: str) -> None:
    """Packets of what has begun.  A TCP connection is begun by the policy alone."""
    known, key = f"known{family.number}", _outgoing(family)
    flags = nft.load(nft.TRANSPORT, 13, 1)
    goes_on = nft.protocol(_TCP) + flags + nft.masked(_SYN_ACK) + nft.is_not(_SYN)
    ends = flags + nft.masked(_FIN_RST) + nft.is_not(b"\0")
    found = key + nft.in_set(known)
    batch.add_rule(chain, goes_on, ends, found, nft.update(known, _HALF_OPEN), nft.ACCEPT)
    batch.add_rule(chain, goes_on, found, nft.update(known, _DAY), nft.ACCEPT)
    udp = nft.protocol(_UDP_NUMBER)
    batch.add_rule(chain, udp, found, nft.update(known, _UDP), nft.ACCEPT)
    reply = nft.load(nft.TRANSPORT, 0, 1) + nft.is_(family.echo_reply)
    answered = _ping(family, family.target) + nft.in_set(known)
    batch.add_rule(chain, nft.protocol(family.icmp), reply, answered, nft.ACCEPT)


def _outgoing(family: Family) -> bytes:
    """The key of a connection, of a packet that goes out: the far end first."""
    far = (nft.NETWORK, family.target, family.length)
    return nft.load_key(far, None, (nft.TRANSPORT, 2, 2), (nft.TRANSPORT, 0, 2))


def _incoming(family: Family) -> bytes:
    far = (nft.NETWORK, family.source, family.length)
    return nft.load_key(far, None, (nft.TRANSPORT, 0, 2), (nft.TRANSPORT, 2, 2))


def _ping(family: Family, far: int) -> bytes:
    """An echo's identifier stands for both ports."""
    identifier = (nft.TRANSPORT, 4, 2)
    return nft.load_key((nft.NETWORK, far, family.length), None, identifier, identifier)


# --- one interface -----------------------------------------------------------


def devices(chains: Iterable[str]) -> set[str]:
    """The devices that the chains of a table are about."""
    return {chain[5:].rpartition("-")[0] for chain in chains if chain.startswith("from-")}


def change_plugs(batch: Batch, chains: Iterable[str], plugs: Sequence[Plug]) -> None:
    """Go from the chains that stand to those of ``plugs``; what is right is left alone."""
    standing = set(chains)
    right = [plug for plug in plugs if standing.issuperset(plug.base_chains)]
    wrong = standing.difference(*(plug.chains for plug in right))
    for kind in _PLUG_CHAINS:
        for chain in sorted(wrong):
            if chain.startswith(kind):
                batch.delete_chain(chain)
    for plug in plugs:
        if plug not in right:
            add_plug(batch, plug)


def add_plug(batch: Batch, plug: Plug) -> None:
    """The chains of one interface; its device must exist."""
    ingress, egress = plug.base_chains
    batch.add_base_chain(ingress, nft.INGRESS, plug.device, drop=True)
    batch.add_rule(ingress, nft.load(nft.LINK, 6, 6), nft.is_not(plug.mac), nft.DROP)
    if plug.address:
        _add_arp(batch, ingress, plug)
    if plug.address6:
        _add_discovery(batch, ingress, plug)
    for family in _FAMILIES:
        address, gateway = plug.side(family)
        if address:
            chain = f"{family.word}-{plug.name}"
            batch.add_chain(chain)
            _add_side(batch, chain, family, gateway, plug.bridge_mac)
            batch.add_rule(ingress, *_own_packet(family, address), nft.goto(chain))
    batch.add_base_chain(egress, nft.EGRESS, plug.device, drop=False)
    for family in _FAMILIES:
        _add_incoming(batch, egress, family)


def _of_type(ether_type: bytes) -> bytes:
    """The type in the frame itself: ``meta protocol`` looks behind a VLAN tag."""
    return nft.load(nft.LINK, 12, 2) + nft.is_(ether_type)


def _add_arp(batch: Batch, chain: str, plug: Plug) -> None:
    """ARP about itself, too short to carry anything else (RFC 826)."""
    ethernet_ipv4 = nft.load(nft.NETWORK, 0, 6) + nft.is_(b"\0\1\x08\0\6\4")
    sender = nft.load(nft.NETWORK, 8, 10) + nft.is_(plug.mac + _packed(plug.address))
    batch.add_rule(
        chain, _of_type(_ARP), nft.at_most(46), ethernet_ipv4, sender,
        nft.limit(20, 100), nft.ACCEPT,
    )  # fmt: skip


def _add_discovery(batch: Batch, chain: str, plug: Plug) -> None:
    """Neighbour solicitations by itself and advertisements of itself (RFC 4861)."""
    address = _packed(plug.address6)
    common = _of_type(b"\x86\xdd") + nft.at_most(80)
    common += nft.load(nft.NETWORK, 6, 2) + nft.is_(bytes((_ICMP6, 255)))
    for own in (address, plug.link_local):
        source = nft.load(nft.NETWORK, 8, 16) + nft.is_(own)
        solicitation = nft.load(nft.NETWORK, 40, 1) + nft.is_(b"\x87")
        batch.add_rule(chain, common, source, solicitation, nft.limit(20, 100), nft.ACCEPT)
        for told in (address, plug.link_local):
            advertisement = nft.load(nft.NETWORK, 40, 1) + nft.is_(b"\x88")
            about = nft.load(nft.NETWORK, 48, 16) + nft.is_(told)
            batch.add_rule(
                chain, common, source, advertisement, about, nft.limit(20, 100), nft.ACCEPT
            )


def _own_packet(family: Family, address: bytes) -> tuple[bytes, ...]:
    """A packet from the container's address with a plain header: no options, no fragments."""
    source = nft.load(nft.NETWORK, family.source, family.length) + nft.is_(address)
    if family.number == 4:
        plain = nft.load(nft.NETWORK, 0, 1) + nft.is_(b"\x45")
        whole = nft.load(nft.NETWORK, 6, 2) + nft.masked(b"\x3f\xff") + nft.is_(b"\0\0")
        return _of_type(family.ether_type), plain, whole, source
    version = nft.load(nft.NETWORK, 0, 1) + nft.masked(b"\xf0") + nft.is_(b"\x60")
    # Extension headers are fragments and source routes; they begin where a protocol is named.
    plain = nft.load(nft.NETWORK, 6, 1) + nft.in_set("plain6")
    return _of_type(family.ether_type), version, plain, source


def _add_side(batch: Batch, chain: str, family: Family, gateway: bytes, bridge_mac: bytes) -> None:
    first = nft.load(nft.NETWORK, family.target, 1)
    if family.number == 4:
        batch.add_rule(chain, first, nft.masked(b"\xe0"), nft.is_(b"\xe0"), nft.DROP)
    else:
        batch.add_rule(chain, first, nft.is_(b"\xff"), nft.DROP)
    batch.add_rule(chain, nft.store(nft.LINK, 0, bridge_mac))
    if gateway:
        to_gateway = nft.load(nft.NETWORK, family.target, family.length) + nft.is_(gateway)
        for transport in (_TCP, _UDP_NUMBER):
            batch.add_rule(chain, to_gateway, _to_port(transport, _DNS), nft.ACCEPT)
        batch.add_elements(f"gateways{family.number}", [gateway])
    batch.add_rule(chain, nft.goto(f"policy{family.number}"))


def _add_incoming(batch: Batch, chain: str, family: Family) -> None:
    """Remember what the outside begins: it may be answered."""
    known, is_ours_ = f"known{family.number}", _of_type(family.ether_type)
    begins = nft.load(nft.TRANSPORT, 13, 1) + nft.masked(_SYN_ACK) + nft.is_(_SYN)
    key = _incoming(family)
    tcp = is_ours_ + nft.protocol(_TCP) + begins
    batch.add_rule(chain, tcp, key, nft.update(known, _HALF_OPEN))
    udp = is_ours_ + nft.protocol(_UDP_NUMBER)
    batch.add_rule(chain, udp, key, nft.update(known, _UDP))
    echo = is_ours_ + nft.protocol(family.icmp) + nft.load(nft.TRANSPORT, 0, 1)
    ping = _ping(family, family.source)
    batch.add_rule(chain, echo, nft.is_(family.echo), ping, nft.update(known, _PING))


def _packed(address: str) -> bytes:
    return addressing.packed(address) if address else b""
