"""nf_tables in raw netlink messages: tables of the netdev family, their sets and rules.

A rule is a list of expressions that run one after the other over one packet:
they load parts of it into registers, compare them, look them up in sets and
end in a verdict; the first that does not match ends the rule.  The functions
below make one expression each, in the kernel's encoding
(``linux/netfilter/nf_tables.h``), so that a rule reads like the line that
``nft list`` prints for it.

A :class:`Batch` takes effect as a whole or not at all.  As with
:mod:`podpy.kernel.netlink`, messages go to the kernel's explicit address, so
that the owner of a user namespace writes rules from outside, through a socket
that was opened inside.
"""

from __future__ import annotations

import _socket
from _struct import pack

from podpy.kernel import netlink
from podpy.kernel.netlink import attribute

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

NETLINK_NETFILTER = 12
NFPROTO_NETDEV = 5

# nfnetlink.h: subsystems, and the messages around a batch
NFNL_SUBSYS_ULOG = 4
NFNL_SUBSYS_NFTABLES = 10
NFNL_MSG_BATCH_BEGIN = 16
NFNL_MSG_BATCH_END = 17

NEWTABLE, GETTABLE, DELTABLE, NEWCHAIN, GETCHAIN, DELCHAIN, NEWRULE = range(7)
NEWSET, NEWSETELEM, DELSETELEM = 9, 12, 14

# Hooks of the netdev family (netfilter_netdev.h)
INGRESS = 0
EGRESS = 1

# Bases of the payload expression
LINK, NETWORK, TRANSPORT = 0, 1, 2

# Registers: the first one, and the first of sixteen that are four bytes long.
_REGISTER = 1
_REGISTER32 = 8

SET_CONSTANT, SET_INTERVAL, SET_TIMEOUT, SET_EVAL = 0x2, 0x4, 0x10, 0x20
_INTERVAL_END = 1

_CMP_EQ, _CMP_NEQ, _CMP_LTE = 0, 1, 3
_META_LEN, _META_L4PROTO = 0, 16
_NF_DROP, _NF_ACCEPT, _GOTO = 0, 1, -4
_DYNSET_UPDATE = 1
_BYTEORDER_HTON = 1

_REJECT_ICMP, _REJECT_RESET = 0, 1

#: What ``nft list`` shows keys as; the kernel does not care (datatype.h of nftables).
TYPE_IPV4, TYPE_IPV6, TYPE_PROTOCOL, TYPE_PORT = 7, 8, 12, 13
_TYPE_BITS = 6

_PART = 1 << 16  # bytes of one transaction
_ELEMENTS = 400  # in one message: an attribute is at most 64 KiB long


# --- attributes --------------------------------------------------------------


def number(kind: int, value: int) -> bytes:
    """nf_tables speaks big-endian, unlike rtnetlink."""
    return attribute(kind, pack(">I", value & 0xFFFFFFFF))


def text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def nested(kind: int, *content: bytes) -> bytes:
    return attribute(kind | netlink.NLA_F_NESTED, b"".join(content))


# --- expressions -------------------------------------------------------------


def _expression(name: str, *content: bytes) -> bytes:
    return nested(1, text(1, name), nested(2, *content))


def _data(kind: int, value: bytes) -> bytes:
    return nested(kind, attribute(1, value))


def load(base: int, offset: int, length: int, register: int = _REGISTER) -> bytes:
    """Load bytes of a header: ``@nh,OFFSET,LENGTH`` in nft's words."""
    return _expression(
        "payload", number(1, register), number(2, base), number(3, offset), number(4, length)
    )


def load_key(*parts: tuple[int, int, int] | None) -> bytes:
    """Load a concatenation of parts ``(base, offset, length)``; None is the protocol."""
    register, loads = _REGISTER32, []
    for part in parts:
        if part is None:
            loads.append(_meta(_META_L4PROTO, register))
            register += 1
        else:
            loads.append(load(*part, register))
            register += (part[2] + 3) // 4
    return b"".join(loads)


def store(base: int, offset: int, value: bytes) -> bytes:
    """Overwrite bytes of a header that no checksum covers."""
    immediate = _expression("immediate", number(1, _REGISTER), _data(2, value))
    written = _expression(
        "payload", number(5, _REGISTER), number(2, base), number(3, offset), number(4, len(value)),
        number(6, 0), number(7, 0),
    )  # fmt: skip
    return immediate + written


def _meta(key: int, register: int = _REGISTER) -> bytes:
    return _expression("meta", number(1, register), number(2, key))


def protocol(value: int) -> bytes:
    """``meta l4proto VALUE``."""
    return _meta(_META_L4PROTO) + is_(bytes((value,)))


def at_most(length: int) -> bytes:
    """The packet, from its network header on, is at most so long."""
    turned = _expression(
        "byteorder", number(1, _REGISTER), number(2, _REGISTER), number(3, _BYTEORDER_HTON),
        number(4, 4), number(5, 4),
    )  # fmt: skip
    return _meta(_META_LEN) + turned + _compare(_CMP_LTE, pack(">I", length))


def _compare(operator: int, value: bytes) -> bytes:
    return _expression("cmp", number(1, _REGISTER), number(2, operator), _data(3, value))


def is_(value: bytes) -> bytes:
    return _compare(_CMP_EQ, value)


def is_not(value: bytes) -> bytes:
    return _compare(_CMP_NEQ, value)


def masked(mask: bytes) -> bytes:
    """Keep the bits of ``mask`` of what was loaded."""
    zero = bytes(len(mask))
    return _expression(
        "bitwise", number(1, _REGISTER), number(2, _REGISTER), number(3, len(mask)),
        _data(4, mask), _data(5, zero),
    )  # fmt: skip


def in_set(name: str) -> bytes:
    return _expression("lookup", text(1, name), number(2, _REGISTER))


def update(name: str, seconds: int) -> bytes:
    """Put what was loaded into a set, or renew it there, for so long."""
    return _expression(
        "dynset", text(1, name), number(3, _DYNSET_UPDATE), number(4, _REGISTER),
        attribute(6, pack(">Q", seconds * 1000)),
    )  # fmt: skip


def limit(rate: int, burst: int) -> bytes:
    """No more than ``rate`` packets a second, after the first ``burst``."""
    return _expression(
        "limit", attribute(1, pack(">Q", rate)), attribute(2, pack(">Q", 1)), number(3, burst),
        number(4, 0), number(5, 0),
    )  # fmt: skip


def log(group: int, prefix: str, length: int) -> bytes:
    """Hand a copy of the packet's first bytes to whoever listens to the group."""
    return _expression(
        "log", attribute(1, pack(">H", group)), text(2, prefix), number(3, length),
        attribute(4, pack(">H", 0)),
    )  # fmt: skip


def reject(code: int) -> bytes:
    """Drop, and tell the sender by an ICMP error of the packet's family."""
    return _expression("reject", number(1, _REJECT_ICMP), attribute(2, bytes((code,))))


def reset() -> bytes:
    """Drop a TCP packet, and answer with a reset."""
    return _expression("reject", number(1, _REJECT_RESET))


def _verdict(code: int, chain: str = "") -> bytes:
    named = text(2, chain) if chain else b""
    return _expression("immediate", number(1, 0), nested(2, nested(2, number(1, code), named)))


ACCEPT = _verdict(_NF_ACCEPT)
DROP = _verdict(_NF_DROP)


def goto(chain: str) -> bytes:
    return _verdict(_GOTO, chain)


# --- batches -----------------------------------------------------------------


class Batch:
    """Changes of one table of the netdev family that the kernel makes together.

    More than a socket takes at once (:data:`_PART`) is made in several parts, in order.
    """

    def __init__(self, table: str) -> None:
        self._table = table
        self._messages: list[tuple[int, int, bytes]] = []

    def add_table(self) -> None:
        self._add(NEWTABLE, text(1, self._table), number(2, 0))

    def delete_table(self, name: str) -> None:
        self._add(DELTABLE, text(1, name), flags=0)

    def add_chain(self, name: str) -> None:
        """A chain that others go to."""
        self._add(NEWCHAIN, text(1, self._table), text(3, name))

    def add_base_chain(self, name: str, hook: int, device: str, *, drop: bool) -> None:
        """A chain that sees every packet of a device; ``drop`` is its last word."""
        place = nested(4, number(1, hook), number(2, 0), text(3, device))
        policy = number(5, _NF_DROP if drop else _NF_ACCEPT)
        body = (text(1, self._table), text(3, name), place, policy, text(7, "filter"))
        self._add(NEWCHAIN, *body)

    def delete_chain(self, name: str) -> None:
        """A chain that nothing goes to, with its rules."""
        self._add(DELCHAIN, text(1, self._table), text(3, name), flags=0)

    def add_rule(self, chain: str, *expressions: bytes) -> None:
        listed = nested(4, *expressions)
        appended = netlink.NLM_F_CREATE | 0x800  # NLM_F_APPEND
        self._add(NEWRULE, text(1, self._table), text(2, chain), listed, flags=appended)

    def add_set(
        self, name: str, types: Sequence[int], length: int, flags: int, *, size: int = 0
    ) -> None:
        """A set of keys of ``length`` bytes; ``types`` are their parts, for those who read."""
        shown = 0
        for part in types:
            shown = shown << _TYPE_BITS | part
        body = [text(1, self._table), text(2, name), number(3, flags)]
        body += [number(4, shown), number(5, length), number(10, len(self._messages) + 1)]
        if size:
            body.append(nested(9, number(1, size)))
        self._add(NEWSET, *body)

    def add_elements(
        self, name: str, keys: Iterable[bytes], *, seconds: int = 0, new: bool = False
    ) -> None:
        """Elements, which live for ``seconds``; 0: for good.

        Of those that are there already, a kernel before 6.12 keeps the old end;
        ``new`` makes them a ``FileExistsError``.
        """
        life = attribute(4, pack(">Q", seconds * 1000)) if seconds else b""
        listed = [_data(1, key) + life for key in keys]
        flags = netlink.NLM_F_CREATE | (netlink.NLM_F_EXCL if new else 0)
        self._elements(NEWSETELEM, name, listed, flags)

    def add_intervals(self, name: str, intervals: Iterable[tuple[bytes, bytes]]) -> None:
        """Sorted intervals that do not touch, both ends included."""
        elements = []
        for low, high in intervals:
            elements.append(_data(1, low))
            above = int.from_bytes(high, "big") + 1
            if above < 1 << 8 * len(high):
                end = _data(1, above.to_bytes(len(high), "big"))
                elements.append(end + number(3, _INTERVAL_END))
        self._elements(NEWSETELEM, name, elements, netlink.NLM_F_CREATE)

    def delete_elements(self, name: str, keys: Iterable[bytes]) -> None:
        """Elements that must be there: ``FileNotFoundError`` otherwise."""
        self._elements(DELSETELEM, name, [_data(1, key) for key in keys], 0)

    def _elements(self, kind: int, name: str, elements: list[bytes], flags: int) -> None:
        for first in range(0, len(elements), _ELEMENTS):
            some = elements[first : first + _ELEMENTS]
            listed = nested(3, *(nested(1, element) for element in some))
            self._add(kind, text(1, self._table), text(2, name), listed, flags=flags)

    def _add(self, kind: int, *body: bytes, flags: int = netlink.NLM_F_CREATE) -> None:
        self._messages.append((NFNL_SUBSYS_NFTABLES << 8 | kind, flags, b"".join(body)))

    def parts(self) -> Iterator[bytes]:
        """The datagrams: messages between a begin and an end."""
        part, size = [], 0
        for kind, flags, body in self._messages:
            part.append(message(kind, flags, body, NFPROTO_NETDEV))
            size += len(part[-1])
            if size > _PART:
                yield _enclosed(part)
                part, size = [], 0
        if part:
            yield _enclosed(part)


def _enclosed(messages: Iterable[bytes]) -> bytes:
    begin, end = (
        message(kind, 0, b"", _socket.AF_UNSPEC, NFNL_SUBSYS_NFTABLES)
        for kind in (NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END)
    )
    return b"".join((begin, *messages, end))


def message(kind: int, flags: int, body: bytes, family: int, resource: int = 0) -> bytes:
    """One netlink message; ``resource`` is what nfnetlink calls it, in network order."""
    content = pack("=BB", family, 0) + pack(">H", resource) + body
    header = pack("=IHHII", 16 + len(content), kind, netlink.NLM_F_REQUEST | flags, 1, 0)
    return header + content


class Nftables:
    """The netdev tables of the network namespace in which ``channel`` was opened."""

    def __init__(self, channel: _socket.socket) -> None:
        self._channel = channel

    def close(self) -> None:
        self._channel.close()

    def commit(self, batch: Batch) -> None:
        """Make the changes; ``OSError`` with the kernel's first complaint.

        Then nothing of the part that it is about has changed, nor of those after it.
        """
        for part in batch.parts():
            self._channel.sendto(part, (0, 0))
            # All is done when sendto returns, and only failures are told.
            refused = 0
            while complaint := self._heard():
                for kind, content in netlink.messages(complaint):
                    if kind == netlink.NLMSG_ERROR:
                        refused = refused or netlink.error_number(content)
            netlink.fail_on(refused)

    def _heard(self) -> bytes:
        try:
            return self._channel.recv(1 << 17, _socket.MSG_DONTWAIT)
        except BlockingIOError:
            return b""

    def tables(self) -> list[str]:
        """The names of all tables."""
        return [found[1][:-1].decode() for found in self._dump(GETTABLE, b"")]

    def chains(self, table: str) -> list[str]:
        """The names of a table's chains."""
        found = self._dump(GETCHAIN, b"")
        return [c[3][:-1].decode() for c in found if c[1][:-1].decode() == table]

    def _dump(self, kind: int, body: bytes) -> list[dict[int, bytes]]:
        asked = NFNL_SUBSYS_NFTABLES << 8 | kind
        self._channel.sendto(message(asked, netlink.NLM_F_DUMP, body, NFPROTO_NETDEV), (0, 0))
        found: list[dict[int, bytes]] = []
        while True:
            for answer, content in netlink.messages(self._channel.recv(1 << 17)):
                if answer == netlink.NLMSG_DONE:
                    return found
                if answer == netlink.NLMSG_ERROR:
                    netlink.fail_on(netlink.error_number(content))
                found.append(netlink.attributes(content[4:]))
