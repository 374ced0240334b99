"""Askers and servers of bad manners: the resolver goes on serving the others."""

from __future__ import annotations

import random
import socket
import time

import dnslib
import pytest

from podpy.kernel.loop import Loop
from podpy.net import dns, dnsserver, upstream
from support.names import (
    Bench,
    asked,
    code,
    crowd,
    fixed,
    readable,
    silent,
    values,
)


def test_a_container_has_its_share_of_questions_and_no_more(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dns, "_PER_CONTAINER", 20)
    monkeypatch.setattr(upstream, "PATIENCE", 0.2)
    for server in bench.servers:
        server.answer = silent
    greedy = bench.client("127.1.0.2")
    for number in range(30):
        greedy.send(dnslib.DNSRecord.question(f"{number}.example").pack())
    assert bench.wait(lambda: readable(greedy))
    assert bench.wait(lambda: asked(bench) == 20)
    bench.servers[0].answer = fixed("192.0.2.1")
    assert values(bench.ask("example.com", source="127.1.0.3")) == ["192.0.2.1"]
    assert values(bench.ask("b")) == ["127.1.0.3"]
    answers = []

    def all_failed() -> bool:
        while readable(greedy):
            answers.append(code(dnslib.DNSRecord.parse(greedy.recv(512))))
        return len(answers) == 30

    assert bench.wait(all_failed)
    assert set(answers) <= {"SERVFAIL", "NOERROR"}
    bench.servers[0].answer = fixed("192.0.2.1")
    assert values(bench.ask("example.com")) == ["192.0.2.1"]


def test_slow_tcp_clients_are_few_and_do_not_stay(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dnsserver, "PATIENCE", 0.3)
    monkeypatch.setattr(dnsserver, "_SWEEP", 0.1)
    slow = [bench.client("127.1.0.2", stream=True) for _ in range(12)]
    for client in slow:
        client.send(b"\0")
    assert bench.wait(lambda: sum(ended(client) for client in slow) == 4)
    assert values(bench.ask("b", source="127.1.0.3", stream=True)) == ["127.1.0.3"]
    assert bench.wait(lambda: all(ended(client) for client in slow), 2.0)
    assert values(bench.ask("b", stream=True)) == ["127.1.0.3"]


def ended(client: socket.socket) -> bool:
    try:
        return not client.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True


@pytest.mark.parametrize(
    "frame", [b"\0\0", b"\0\5hello", b"\xff\xffmuch", b"GET / HTTP/1.1\r\n\r\n"]
)
def test_what_is_no_question_ends_the_connection(bench: Bench, frame: bytes) -> None:
    client = bench.client("127.1.0.2", stream=True)
    client.send(frame)
    assert bench.wait(lambda: ended(client), 2.0)


def test_many_questions_over_one_connection(bench: Bench) -> None:
    client = bench.client("127.1.0.2", stream=True)
    sent = b""
    for number in range(300):
        packet = dnslib.DNSRecord.question("b" if number % 2 else "example.com").pack()
        sent += len(packet).to_bytes(2, "big") + packet
    received = b""
    for start in range(0, len(sent), 7):  # in pieces that fit no boundary
        client.send(sent[start : start + 7])
    client.shutdown(socket.SHUT_WR)
    while bench.wait(lambda: readable(client)) and (data := client.recv(65535)):
        received += data
    count = 0
    while received:
        size = int.from_bytes(received[:2], "big")
        assert values(dnslib.DNSRecord.parse(received[2 : 2 + size]))
        received = received[2 + size :]
        count += 1
    assert count == 300


def test_a_client_that_reads_nothing_is_left_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dnsserver, "PATIENCE", 0.5)
    monkeypatch.setattr(dnsserver, "_SWEEP", 0.1)
    crowd(bench, 250)
    client = bench.client("127.1.0.2", stream=True)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    packet = dnslib.DNSRecord.question("many").pack()
    frame = len(packet).to_bytes(2, "big") + packet
    end = time.monotonic() + 5
    with pytest.raises(OSError, match=r"reset|pipe"):  # the resolver hung up
        while time.monotonic() < end:
            try:
                client.send(frame * 50)
            except BlockingIOError:
                pass
            bench.loop.turn(0.001)
    assert values(bench.ask("b", source="127.1.0.3")) == ["127.1.0.3"]


def test_no_packet_stops_the_resolver(bench: Bench) -> None:
    """Noise, damaged questions and damaged answers; in between it goes on answering."""
    noise = random.Random(20)
    good = dnslib.DNSRecord.question("web.example.com")
    good.add_ar(dnslib.EDNS0(udp_len=4096))
    bench.servers[0].answer = lambda question: [
        damaged(noise, fixed("192.0.2.1")(question)[0]),
        *fixed("192.0.2.1")(question),
    ]
    client = bench.client("127.1.0.2")
    for number in range(2000):
        size = noise.choice((0, 1, 11, 12, 13, 40, 512, 4000))
        packet = noise.randbytes(size) if number % 3 == 0 else damaged(noise, good.pack())
        client.send(packet)
        bench.loop.turn(0)
        if number % 200 == 0:
            assert values(bench.ask("b", source="127.1.0.3")) == ["127.1.0.3"]
    assert values(bench.ask("example.com", source="127.1.0.3")) == ["192.0.2.1"]


def damaged(noise: random.Random, packet: bytes) -> bytes:
    made = bytearray(packet)
    for _ in range(noise.randint(1, 4)):
        made[noise.randrange(len(made))] = noise.randrange(256)
    return bytes(made[: noise.randint(1, len(made))] if noise.random() < 0.2 else made)


def test_a_message_that_is_an_answer_is_not_answered(bench: Bench) -> None:
    """Two resolvers could otherwise talk to each other for ever."""
    client = bench.client("127.1.0.2")
    client.send(dnslib.DNSRecord.question("a").reply().pack())
    client.send(b"\1\2\3")
    assert not bench.wait(lambda: readable(client), 0.1)


def test_who_asks_without_end_is_not_heard_for_a_while(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel drops his questions: he cannot keep the socket full, where others' get lost."""
    monkeypatch.setattr(dnsserver, "_PENANCE", 0.3)
    flooder = bench.client("127.1.0.2")
    question = dnslib.DNSRecord.question("b").pack()
    for _ in range(dnsserver._SHARE + 20):
        flooder.send(question)
    bench.loop.turn(1)
    answers = 0
    while readable(flooder):
        flooder.recv(512)
        answers += 1
    assert answers == dnsserver._SHARE
    for _ in range(2000):  # far more than the socket holds
        flooder.send(question)
    assert values(bench.ask("a", source="127.1.0.3")) == ["127.1.0.2"]
    assert not readable(flooder)
    assert bench.wait(lambda: flooder.send(question) > 0 and readable(flooder), seconds=3)


def test_a_flood_by_ipv6_is_dropped_by_its_source() -> None:
    loop, heard = Loop(), []
    server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    server.bind(("::1", 0))
    datagrams = dnsserver.Datagrams(loop, server, lambda packet, *_: heard.append(packet))
    client = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    client.connect(server.getsockname())
    for muted, expected in (({"::2", "fd00::1"}, [b"1"]), ({"::2", "::1"}, []), (set(), [b"3"])):
        heard.clear()
        datagrams._muted = muted
        datagrams._filter()
        client.send(str(1 + ({"::1"} <= muted) + 2 * (not muted)).encode())
        loop.turn(0.1)
        assert heard == expected
    datagrams.close()
    client.close()


def test_one_that_asks_much_leaves_room_for_the_others(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream, "_PENDING", 60)
    bench.servers[0].answer = silent
    for source in ("127.1.0.2", "127.1.0.3"):
        client = bench.client(source)
        for number in range(60):
            client.send(dnslib.DNSRecord.question(f"x{number}.example.com").pack())
    bench.wait(lambda: asked(bench) >= 30 + dns._OF_RIGHT, seconds=0.5)
    bench.servers[0].answer = fixed("192.0.2.9")
    bench.resolver.names.put("d" * 64, "n1", ("d",), ("127.1.0.5",))
    assert values(bench.ask("www.example.com", source="127.1.0.5")) == ["192.0.2.9"]
