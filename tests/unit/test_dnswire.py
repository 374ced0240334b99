"""Our own reader of DNS messages, against dnslib's."""

from __future__ import annotations

import random
import time

import dnslib
import pytest

from podpy.net import dnswire


def read(packet: bytes) -> dnswire.Question:
    question = dnswire.read(bytes(packet))
    assert question is not None
    return question


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("example.com", "example.com"),
        ("ExAmple.COM.", "example.com"),
        ("_sip._tcp.example.com", "_sip._tcp.example.com"),
        (".", ""),
        ([b"www.example", b"com"], "www\\046example.com"),
        ([b"a\0b", b"caf\xc3\xa9"], "a\\000b.caf\\195\\169"),
        ([b"a\\b"], "a\\092b"),
        ([b"x" * 63] * 3 + [b"y" * 61], ".".join(["x" * 63] * 3 + ["y" * 61])),
    ],
)
def test_a_name_is_read_so_that_a_dot_always_separates(name: str | list[bytes], text: str) -> None:
    packet = dnslib.DNSRecord(q=dnslib.DNSQuestion(dnslib.DNSLabel(name), 28)).pack()
    question = read(packet)
    assert (question.name, question.kind, question.klass) == (text, 28, 1)
    assert question.end == len(packet)


def test_edns_says_how_much_the_asker_can_take() -> None:
    limits = []
    for size in (None, 100, 512, 1000, 65535):
        record = dnslib.DNSRecord.question("example.com")
        if size is not None:
            record.add_ar(dnslib.EDNS0(udp_len=size))
        limits.append(read(record.pack()).limit)
    assert limits == [512, 512, 512, 1000, 1232]


@pytest.mark.parametrize(
    ("packet", "code"),
    [
        (b"\1\2\1\0\0\0\0\0\0\0\0\0", 1),  # no question
        (b"\1\2\1\0\0\2\0\0\0\0\0\0" + b"\1a\0\0\1\0\1" * 2, 1),  # two
        (b"\1\2\1\0\0\1\0\0\0\0\0\0" + b"\1a\0\0\1\0", 1),  # cut short
        (b"\1\2\1\0\0\1\0\0\0\0\0\0" + b"\x3fabc", 1),
        (b"\1\2\1\0\0\1\0\0\0\0\0\0" + b"\xc0\x0c\0\1\0\1", 1),  # a name that contains itself
        (
            b"\1\2\1\0\0\1\0\0\0\0\0\0" + b"\x3f" + b"x" * 63 + b"\x40" + b"y" * 64 + b"\0\0\1\0\1",
            1,
        ),
        (b"\1\2\1\0\0\1\0\0\0\0\0\0" + (b"\x3f" + b"x" * 63) * 4 + b"\0\0\1\0\1", 1),  # too long
        (b"\1\2\x28\0\0\1\0\0\0\0\0\0" + b"\1a\0\0\6\0\1", 4),  # an update
    ],
)
def test_what_is_no_question_is_answered_as_such(packet: bytes, code: int) -> None:
    question = read(packet)
    assert question.problem == code
    answer = dnslib.DNSRecord.parse(dnswire.empty(question, question.problem))
    assert (answer.header.id, answer.header.qr, answer.header.rcode) == (0x0102, 1, code)


def test_what_dnslib_understands_is_understood_alike() -> None:
    noise = random.Random(3)
    alike = 0
    for _ in range(20000):
        record = dnslib.DNSRecord.question("web.example.com", noise.choice(("A", "AAAA", "MX")))
        if noise.random() < 0.5:
            record.add_ar(dnslib.EDNS0(udp_len=noise.randrange(65536)))
        packet = bytearray(record.pack())
        for _ in range(noise.randint(0, 3)):
            packet[noise.randrange(12, len(packet))] = noise.randrange(256)
        if noise.random() < 0.1:
            del packet[noise.randrange(len(packet)) :]
        question = dnswire.read(bytes(packet))
        try:
            other = dnslib.DNSRecord.parse(bytes(packet))
        except (dnslib.DNSError, UnicodeError):
            continue
        assert question is not None
        if not question.problem:
            alike += 1
            assert tuple(question.labels) == other.q.qname.label
            assert (question.kind, question.klass) == (other.q.qtype, other.q.qclass)
    assert alike > 8000


def answer_of(zone: str, name: str = "www.example.com") -> tuple[dnswire.Question, bytes]:
    packet = dnslib.DNSRecord.question(name).pack()
    return read(packet), bytes(dnslib.DNSRecord.parse(packet).replyZone(zone).pack())


def test_addresses_are_those_of_the_name_that_was_asked_for() -> None:
    question, answer = answer_of(
        "other.example.com. 5 IN A 192.0.2.66\n"
        "end.example.net. 70 IN A 192.0.2.2\n"
        "WWW.example.com. 60 IN CNAME middle.example.org.\n"
        "middle.example.org. 50 IN CNAME end.example.net.\n"
        "end.example.net. 80 IN AAAA 2001:db8::1\n"
        'end.example.net. 80 IN TXT "noise"'
    )
    assert dnswire.addresses(question, answer) == (("192.0.2.2", "2001:db8::1"), 50)


def test_rings_of_aliases_and_empty_answers_have_no_addresses() -> None:
    question, ring = answer_of(
        "www.example.com. 60 IN CNAME b.example.com.\nb.example.com. 60 IN CNAME www.example.com."
    )
    assert dnswire.addresses(question, ring)[0] == ()
    assert dnswire.addresses(question, dnswire.empty(question, 3)) == ((), 0)
    assert dnswire.addresses(question, b"\1\2\x80\1" + b"\0" * 8) == ((), 0)


def test_hostile_answers_end_soon() -> None:
    """Pointers to themselves, to each other, and chains as long as a message can hold."""
    question = read(dnslib.DNSRecord.question("a").pack())
    head = b"\1\2\x81\x80\0\1\xff\xff\0\0\0\0" + b"\1a\0\0\1\0\1"
    at = len(head)
    ring = (0xC000 | at).to_bytes(2, "big")
    pair = (0xC000 | at + 2).to_bytes(2, "big") + ring
    chain = b"".join((0xC000 | at + 2 * n).to_bytes(2, "big") for n in range(8000))
    begin = time.monotonic()
    for body in (ring, pair, b"\0" + chain, b"\xc0", b"\x3f"):
        with pytest.raises(ValueError, match=r"DNS message"):
            dnswire.addresses(question, head + body)
    record = b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4abcd"
    many = head[:6] + (4000).to_bytes(2, "big") + head[8:] + record * 4000
    assert len(dnswire.addresses(question, many)[0]) == 4000
    assert time.monotonic() - begin < 2


def test_a_question_is_asked_under_another_name() -> None:
    record = dnslib.DNSRecord.question("NAS", "AAAA")
    record.add_ar(dnslib.EDNS0(udp_len=1400, flags="do"))
    made = dnslib.DNSRecord.parse(dnswire.renamed(read(record.pack()), "nas.example.com").packet)
    record.q.qname = dnslib.DNSLabel("nas.example.com")
    assert made == record
    assert made.header.id == record.header.id
