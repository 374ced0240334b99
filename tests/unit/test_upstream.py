"""The resolver's way to other servers, over real sockets."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import dnslib
import pytest

from podpy.net import upstream
from support.names import (
    A_ID,
    SERVERS,
    Bench,
    Server,
    asked,
    code,
    fixed,
    network,
    settle,
    silent,
    values,
)


def test_an_answer_is_passed_on_byte_for_byte(bench: Bench) -> None:
    strange = os.urandom(300)
    sent: list[bytes] = []

    def answer(question: dnslib.DNSRecord) -> list[bytes]:
        made = question.reply()
        made.add_answer(dnslib.RR("eXample.com", dnslib.QTYPE.TXT, rdata=dnslib.RD(strange)))
        sent.append(made.pack() + b"and more")
        return sent

    bench.servers[0].answer = answer
    question = dnslib.DNSRecord.question("eXample.com", "TXT").pack()
    got = bench.exchange(question, "127.1.0.2")
    assert got == question[:2] + sent[0][2:]
    assert bench.servers[0].packets[0][2:] == question[2:]


def test_numbers_and_ports_cannot_be_guessed(bench: Bench) -> None:
    for _ in range(50):
        packet = b"\x12\x34" + dnslib.DNSRecord.question("example.com").pack()[2:]
        bench.exchange(packet, "127.1.0.2")
    server = bench.servers[0]
    assert len({packet[:2] for packet in server.packets}) > 45
    assert len({port for _, port in server.sources}) > 40


@pytest.mark.parametrize("what", ["number", "name", "type", "no answer", "short"])
def test_what_does_not_answer_the_question_is_not_heard(bench: Bench, what: str) -> None:
    def answer(question: dnslib.DNSRecord) -> list[bytes]:
        (right,) = fixed("192.0.2.1")(question)
        (false,) = fixed("192.0.2.66")(question)
        wrong = {
            "number": bytes([false[0] ^ 1]) + false[1:],
            "name": false.replace(b"example", b"exemple"),
            "type": false[:26] + b"\2" + false[27:],
            "no answer": question.pack(),
            "short": false[:11],
        }[what]
        assert wrong != false
        return [wrong, right]

    bench.servers[0].answer = answer
    assert values(bench.ask("example.com")) == ["192.0.2.1"]


def test_nobody_else_can_answer(bench: Bench) -> None:
    """The socket hears the server's address and port only."""

    def answer(question: dnslib.DNSRecord) -> list[bytes]:
        with socket.socket(type=socket.SOCK_DGRAM) as liar:
            liar.bind((SERVERS[0], 0))
            liar.sendto(fixed("192.0.2.66")(question)[0], bench.servers[0].sources[-1])
        return fixed("192.0.2.1")(question)

    bench.servers[0].answer = answer
    assert values(bench.ask("example.com")) == ["192.0.2.1"]


def test_a_silent_server_is_left_after_a_second_and_asked_last_then(bench: Bench) -> None:
    bench.servers[0].answer = silent
    begin = time.monotonic()
    assert values(bench.ask("example.com")) == ["192.0.2.1"]
    assert 0.9 < time.monotonic() - begin < 1.8
    begin = time.monotonic()
    bench.ask("example.org")
    assert time.monotonic() - begin < 0.5
    assert bench.servers[0].names() == ["example.com."]


def test_a_late_answer_counts(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "PATIENCE", 0.1)
    late: list[dnslib.DNSRecord] = []

    def postpone(question: dnslib.DNSRecord) -> list[bytes]:
        late.append(question)
        return []

    first = bench.servers[0]
    first.answer = postpone
    for other in bench.servers[1:]:
        other.answer = silent
    bench.loop.later(0.25, lambda: first.send(fixed("192.0.2.9")(late[0])[0]))
    assert values(bench.ask("example.com")) == ["192.0.2.9"]


def test_with_every_server_silent_there_is_an_answer_before_clients_give_up(
    bench: Bench,
) -> None:
    for server in bench.servers:
        server.answer = silent
    begin = time.monotonic()
    assert code(bench.ask("example.com")) == "SERVFAIL"
    assert 3.5 < time.monotonic() - begin < 5
    assert asked(bench) == 4


def test_where_nobody_listens_the_next_is_asked_at_once(bench: Bench) -> None:
    bench.servers[0].stop_listening()
    begin = time.monotonic()
    assert values(bench.ask("example.com")) == ["192.0.2.1"]
    assert values(bench.ask("example.com", stream=True)) == ["192.0.2.1"]
    assert time.monotonic() - begin < 0.5
    for server in bench.servers[1:]:
        server.stop_listening()
    assert code(bench.ask("example.com")) == "SERVFAIL"
    assert time.monotonic() - begin < 0.9


def test_a_server_that_fails_is_not_the_last_word(bench: Bench) -> None:
    bench.servers[0].answer = fixed(code=2)
    bench.servers[1].answer = lambda question: [question.pack()[:2] + b"\x80\5" + b"\0" * 8]
    assert values(bench.ask("example.com")) == ["192.0.2.1"]
    for server in bench.servers:
        server.answer = fixed(code=5)
    assert code(bench.ask("example.com")) == "REFUSED"


def test_tcp_is_asked_by_tcp_and_truncation_is_passed_on(bench: Bench) -> None:
    def answer(question: dnslib.DNSRecord) -> list[bytes]:
        many = [f"192.0.2.{number}" for number in range(1, 101)]
        whole = fixed(*many)(question)[0]
        made = question.reply()
        made.header.tc = 1
        return [whole if bench.servers[0].streams else made.pack()]

    bench.servers[0].answer = answer
    assert bench.ask("example.com").header.tc == 1
    assert len(values(bench.ask("example.com", stream=True))) == 100
    assert bench.servers[0].streams == 1


def test_without_servers_there_is_no_answer_and_no_question(bench: Bench) -> None:
    begin = time.monotonic()
    bench.configure()
    assert code(bench.ask("example.com")) == "SERVFAIL"
    bench.resolv_conf.unlink()
    assert code(bench.ask("example.com")) == "SERVFAIL"
    bench.resolv_conf.write_text("nameserver none\nnameserver example.com\n")
    assert code(bench.ask("example.com")) == "SERVFAIL"
    assert time.monotonic() - begin < 0.5
    assert asked(bench) == 0


def test_the_hosts_resolv_conf_may_change(bench: Bench, tmp_path: Path) -> None:
    bench.ask("example.com")
    bench.configure(SERVERS[1])
    bench.ask("example.com")
    other = tmp_path / "new"
    other.write_text(bench.resolv_conf.read_text().replace(SERVERS[1], SERVERS[2]))
    other.rename(bench.resolv_conf)
    bench.ask("example.com")
    assert [len(server.asked) for server in bench.servers] == [1, 1, 1]


def test_servers_of_container_and_network_come_before_the_hosts(bench: Bench) -> None:
    bench.resolver.names.define(network("n1", "127.1.0.0/16", dns_servers=(SERVERS[1],)))
    bench.ask("example.com")
    bench.resolver.names.put(A_ID, "n1", ("a",), ("127.1.0.2",), dns=(SERVERS[2],))
    bench.ask("example.com")
    assert [len(server.asked) for server in bench.servers] == [0, 1, 1]


def test_a_network_without_a_way_out_asks_nobody(bench: Bench) -> None:
    bench.resolver.names.define(network("n1", "127.1.0.0/16", internal=True))
    assert code(bench.ask("example.com")) == "NXDOMAIN"
    assert values(bench.ask("b")) == ["127.1.0.3"]
    assert asked(bench) == 0
    # b has another network, which leads out.
    assert values(bench.ask("example.com", source="127.1.0.3")) == ["192.0.2.1"]


def test_a_container_may_be_the_name_server(tmp_path: Path) -> None:
    """It is asked inside the shared network namespace, even where no way leads out."""
    opened = []

    def inside(family: int, kind: int) -> socket.socket:
        opened.append((family, kind))
        return socket.socket(family, kind)

    bench = Bench(tmp_path, inside=inside)
    settle(bench)
    pihole = Server(bench.loop, "127.1.0.53", bench.servers[0].port)
    pihole.answer = fixed("192.0.2.53")
    bench.resolver.names.put(A_ID, "n1", ("a",), ("127.1.0.2",), dns=("127.1.0.53",))
    assert values(bench.ask("example.com")) == ["192.0.2.53"]
    bench.resolver.names.define(network("n1", "127.1.0.0/16", internal=True))
    assert values(bench.ask("example.com", stream=True)) == ["192.0.2.53"]
    assert opened == [
        (socket.AF_INET, socket.SOCK_DGRAM),
        (socket.AF_INET, socket.SOCK_STREAM),
    ]
    bench.resolver.names.put(A_ID, "n1", ("a",), ("127.1.0.2",), dns=(SERVERS[0],))
    assert code(bench.ask("example.com")) == "NXDOMAIN"
    assert asked(bench) == 0
    pihole.close()
    bench.close()
