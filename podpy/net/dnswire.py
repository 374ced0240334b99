"""DNS messages: reading questions, writing answers (RFC 1035, RFC 6891).

What comes from outside is read here, by code that goes forward only and looks
at nothing it does not need: three microseconds for a question, where dnslib
takes twenty, and no packet can make it loop.  The records of podpy's own answers
are written by dnslib, which is imported when the first is due (25 ms).
"""

from __future__ import annotations

import _socket
from struct import error as struct_error
from struct import pack, unpack_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Labels = tuple[bytes, ...]

A, CNAME, PTR, AAAA, OPT, ANY = 1, 5, 12, 28, 41, 255
IN = 1
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16

HEADER = 12
_RESPONSE, _OPCODE, _AUTHORITATIVE, _TRUNCATED = 0x8000, 0x7800, 0x0400, 0x0200
_DESIRED, _AVAILABLE, _UNCHECKED = 0x0100, 0x0080, 0x0010  # RD, RA, CD
_PLAIN_LIMIT = 512  # what fits without EDNS
_LIMIT = 1232  # what fits every path without fragments (the DNS flag day of 2020)
_STREAM_LIMIT = 65535
_NAME = 255
_JUMPS = 16  # compression pointers followed in one name; real servers need three

_PLAIN = b"abcdefghijklmnopqrstuvwxyz0123456789-_"


class Question:
    """One message that asks something.

    ``name`` is lower case and without the last dot; bytes that are no letter, digit,
    hyphen or underscore are written ``\\DDD``, so that a dot always separates labels.
    ``problem`` is the response code for a message that cannot be understood, else 0.
    """

    __slots__ = (
        "edns", "end", "flags", "id", "kind", "kind_at", "klass",
        "labels", "limit", "name", "packet", "problem", "stream",
    )  # fmt: skip

    def __init__(self, packet: bytes, id: int, flags: int, stream: bool) -> None:
        self.packet = packet
        self.id = id
        self.flags = flags
        self.stream = stream
        self.labels: list[bytes] = []  # as they were sent: an answer repeats their case
        self.name = ""
        self.kind = self.klass = 0
        self.kind_at = self.end = HEADER  # where type and class are, and where the question ends
        self.edns = False
        self.limit = _STREAM_LIMIT if stream else _PLAIN_LIMIT
        self.problem = 0


def read(packet: bytes, *, stream: bool = False) -> Question | None:
    """The question in a message; None for what deserves no answer at all."""
    if len(packet) < HEADER:
        return None
    number, flags, questions, _, _, additional = unpack_from(">6H", packet)
    if flags & _RESPONSE:
        return None  # answering answers could go on for ever
    question = Question(packet, number, flags, stream)
    try:
        question.problem = _understand(question, questions, additional)
    except (IndexError, struct_error):
        question.problem = FORMERR
    return question


def _understand(question: Question, questions: int, additional: int) -> int:
    packet = question.packet
    if question.flags & _OPCODE:
        return NOTIMP
    if questions != 1:
        return FORMERR
    labels = question.labels
    at = HEADER
    while length := packet[at]:
        if length > 63 or at - HEADER + length > _NAME - 2:
            return FORMERR  # a question's name cannot be compressed: nothing comes before it
        labels.append(packet[at + 1 : at + 1 + length])
        at += 1 + length
    question.kind, question.klass = unpack_from(">HH", packet, at + 1)
    question.kind_at, question.end = at + 1, at + 5
    question.name = _text(labels)
    return _read_options(question) if additional else 0


def _read_options(question: Question) -> int:
    """EDNS: how much the asker can take.  Other additional records are ignored."""
    packet, at = question.packet, question.end
    if len(packet) < at + 11 or packet[at]:
        return 0
    kind, size, _, version = unpack_from(">HHBB", packet, at + 1)
    if kind != OPT:
        return 0
    question.edns = True
    if not question.stream:
        question.limit = min(max(size, _PLAIN_LIMIT), _LIMIT)
    return BADVERS if version else 0


def _text(labels: Sequence[bytes]) -> str:
    lowered = [label.lower() for label in labels]
    if not b"".join(lowered).translate(None, _PLAIN):
        return b".".join(lowered).decode("ascii")
    return ".".join(
        "".join(chr(byte) if byte in _PLAIN else f"\\{byte:03d}" for byte in label)
        for label in lowered
    )


# --- answers -----------------------------------------------------------------


def empty(question: Question, code: int, *, own: bool = False, truncated: bool = False) -> bytes:
    """An answer without records; ``own``: podpy itself is the authority for it."""
    flags = _flags(question, own) | code & 15 | (_TRUNCATED if truncated else 0)
    asked = question.packet[HEADER : question.end]
    options = b""
    if question.edns:
        options = pack(">BHHBBHH", 0, OPT, _LIMIT, code >> 4, 0, 0, 0)
    counts = (1 if asked else 0, 0, 0, 1 if options else 0)
    return pack(">6H", question.id, flags, *counts) + asked + options


def answer(question: Question, values: Sequence[str], ttl: int = 0, *, own: bool = True) -> bytes:
    """An answer made here: addresses, or one name where the question was ``PTR``.

    As many records as the asker can take; if some have to stay behind, the asker is
    told so and may come again by TCP.
    """
    bare = empty(question, NOERROR, own=own)
    records = [_record(question.kind == PTR, value, ttl) for value in values]
    flags = _flags(question, own)
    room = question.limit - len(bare)
    if sum(map(len, records)) > room:
        flags |= _TRUNCATED
        del records[room // max(map(len, records)) :]
    counts = pack(">5H", flags, 1, len(records), 0, 1 if question.edns else 0)
    asked, options = bare[HEADER : question.end], bare[question.end :]
    return b"".join((bare[:2], counts, asked, *records, options))


_records: dict[tuple[bool, str, int], bytes] = {}  # dnslib needs 60 us for one
_REMEMBERED = 4096


def prepare() -> None:
    """Load what the first answers need, while there are descriptors and nobody waits."""
    for is_name, value in ((False, "127.0.0.1"), (False, "::1"), (True, "localhost")):
        _record(is_name, value, 0)


def _record(is_name: bool, value: str, ttl: int) -> bytes:
    """A record of the name with which a message begins, the one that was asked for."""
    known = _records.get((is_name, value, ttl))
    if known is not None:
        return known
    import dnslib

    if is_name:
        kind, data = PTR, dnslib.PTR(value.encode())
    else:
        kind, family = (AAAA, _socket.AF_INET6) if ":" in value else (A, _socket.AF_INET)
        data = dnslib.RD(_socket.inet_pton(family, value))
    asked = dnslib.DNSQuestion("x")  # whatever the name is: the record only points to it
    message = dnslib.DNSRecord(q=asked, a=dnslib.RR("x", kind, IN, ttl, data))
    made = bytes(message.pack())[HEADER + len(b"\1x\0") + 4 :]
    if len(_records) >= _REMEMBERED:
        _records.clear()
    _records[is_name, value, ttl] = made
    return made


def _flags(question: Question, own: bool) -> int:
    kept = question.flags & (_OPCODE | _DESIRED | _UNCHECKED)
    return _RESPONSE | _AVAILABLE | kept | (_AUTHORITATIVE if own else 0)


# --- passing on --------------------------------------------------------------


def renamed(question: Question, name: str) -> Question:
    """The same question, asked for another (plain) name."""
    packet = question.packet
    labels = b"".join(pack("B", len(each)) + each for each in name.encode().split(b"."))
    # Of what follows the question only EDNS is kept: nothing in it depends on the name.
    rest = packet[question.end :] if question.edns else b""
    counts = pack(">4H", 1, 0, 0, 1 if rest else 0)
    asked = labels + b"\0" + packet[question.kind_at : question.end]
    made = read(packet[:4] + counts + asked + rest, stream=question.stream)
    assert made is not None  # it is no response, because the original was none
    return made


def answers(question: Question, number: bytes, packet: bytes) -> bool:
    """Whether a message answers a question that was sent with this number.

    Name and type have to be the same, in any case.  Servers that did not
    understand a question may leave it out of their refusal.
    """
    if len(packet) < HEADER or packet[:2] != number or not packet[2] & 0x80:
        return False
    if packet[4:6] == b"\0\0":
        return code(packet) != NOERROR
    asked, at = question.packet, question.kind_at
    return (
        packet[at : question.end] == asked[at : question.end]
        and packet[HEADER:at].lower() == asked[HEADER:at].lower()
    )


def code(packet: bytes) -> int:
    """The response code of an answer."""
    return packet[3] & 15


def is_truncated(packet: bytes) -> bool:
    return bool(packet[2] & 2)


def addresses(question: Question, packet: bytes) -> tuple[tuple[str, ...], int]:
    """The addresses in the answer to a question, and for how many seconds they hold.

    Aliases are followed from the name that was asked for; a record of any other name
    is not believed.  ``ValueError`` for what is no proper message.
    """
    if packet[4:6] == b"\0\0":
        return (), 0
    aliases: dict[Labels, tuple[Labels, int]] = {}
    found: dict[Labels, list[tuple[str, int]]] = {}
    try:
        _read_records(packet, question.end, aliases, found)
    except (IndexError, struct_error):
        raise ValueError("a DNS message is cut short") from None
    name = _labels(packet, HEADER)[0]
    ttls = []
    while name in aliases and name not in found:
        name, ttl = aliases.pop(name)  # so that a ring of aliases comes to an end
        ttls.append(ttl)
    own = found.get(name, [])
    ttls += [ttl for _, ttl in own]
    return tuple(address for address, _ in own), min(ttls, default=0)


def _read_records(
    packet: bytes,
    at: int,
    aliases: dict[Labels, tuple[Labels, int]],
    found: dict[Labels, list[tuple[str, int]]],
) -> None:
    """Sort the records of the answer section into aliases and addresses, by owner."""
    for _ in range(int.from_bytes(packet[6:8], "big")):
        owner, at = _labels(packet, at)
        kind, klass, ttl, size = unpack_from(">HHIH", packet, at)
        at += 10
        data = packet[at : at + size]
        if len(data) < size:
            raise IndexError
        if klass == IN and kind == CNAME:
            aliases[owner] = _labels(packet, at)[0], ttl
        elif klass == IN and (kind, size) in _FAMILIES:
            address = _socket.inet_ntop(_FAMILIES[kind, size], data)
            found.setdefault(owner, []).append((address, ttl))
        at += size


_FAMILIES = {(A, 4): _socket.AF_INET, (AAAA, 16): _socket.AF_INET6}


def _labels(packet: bytes, at: int) -> tuple[Labels, int]:
    """A name, lower case, and where it ends; compression is followed so far and no farther."""
    labels: list[bytes] = []
    after = 0
    size = jumps = 0
    while length := packet[at]:
        if length >= 0xC0 and jumps < _JUMPS:
            jumps += 1
            after = after or at + 2
            at = (length & 0x3F) << 8 | packet[at + 1]
            continue
        size += 1 + length
        if length > 63 or size >= _NAME:
            raise ValueError("a DNS message has an impossible name")
        labels.append(packet[at + 1 : at + 1 + length].lower())
        at += 1 + length
    return tuple(labels), after or at + 1
