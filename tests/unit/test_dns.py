"""The resolver of the bridge networks: real sockets, real packets, servers of the test."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import dnslib
import pytest

from support.names import (
    A_ID,
    B_ID,
    C_ID,
    OTHER_GATEWAY,
    SERVERS,
    Bench,
    asked,
    code,
    crowd,
    fixed,
    network,
    readable,
    settle,
    values,
)

# --- names of containers -----------------------------------------------------


@pytest.mark.parametrize("name", ["b", "B", "b.", "b.n1", "B.N1.", "b" * 12])
def test_a_container_is_found_by_its_names(bench: Bench, name: str) -> None:
    answer = bench.ask(name)
    assert values(answer) == ["127.1.0.3"]
    assert str(answer.rr[0].rname).rstrip(".") == name.rstrip(".")
    assert answer.rr[0].ttl == 0
    assert (answer.header.aa, answer.header.ra, answer.header.rd) == (1, 1, 1)
    assert asked(bench) == 0


def test_a_name_without_an_address_of_the_family_exists(bench: Bench) -> None:
    """musl takes "no such name" for AAAA to mean that there is no address at all."""
    for kind in ("AAAA", "MX", "TXT", "HTTPS"):
        answer = bench.ask("b", kind)
        assert (code(answer), values(answer)) == ("NOERROR", [])
    assert values(bench.ask("a", "AAAA")) == ["fd00::2"]
    assert sorted(values(bench.ask("a", "ANY"))) == ["127.1.0.2", "fd00::2"]


def test_a_name_that_nobody_has_is_as_the_server_says(bench: Bench) -> None:
    bench.servers[0].answer = fixed(code=3)
    assert code(bench.ask("nobody")) == "NXDOMAIN"
    assert bench.servers[0].names() == ["nobody."]


def test_a_shared_name_gives_all_addresses_each_first_in_turn(bench: Bench) -> None:
    answers = [values(bench.ask("web")) for _ in range(4)]
    assert all(sorted(each) == ["127.1.0.2", "127.1.0.3"] for each in answers)
    assert [each[0] for each in answers[:2]] == [each[0] for each in answers[2:]]
    assert len({each[0] for each in answers}) == 2


def test_programs_that_ask_for_both_families_get_every_address_in_turn(bench: Bench) -> None:
    bench.resolver.names.put(B_ID, "n1", ("b", "web"), ("127.1.0.3", "fd00::3"))
    firsts = [(values(bench.ask("web"))[0], values(bench.ask("web", "AAAA"))[0]) for _ in range(4)]
    assert set(firsts) == {("127.1.0.2", "fd00::2"), ("127.1.0.3", "fd00::3")}


def test_a_name_goes_with_its_container(bench: Bench) -> None:
    bench.servers[0].answer = fixed(code=3)
    bench.resolver.names.drop(B_ID, "n1")
    assert code(bench.ask("b")) == "NXDOMAIN"
    assert values(bench.ask("web")) == ["127.1.0.2"]
    bench.resolver.names.put(B_ID, "n1", ("other",), ("127.1.0.9",))
    assert values(bench.ask("other")) == ["127.1.0.9"]
    assert code(bench.ask("b")) == "NXDOMAIN"


def test_an_address_leads_back_to_the_name(bench: Bench) -> None:
    answer = bench.ask("3.0.1.127.in-addr.arpa", "PTR")
    assert values(answer) == ["b.n1."]
    ip6 = ".".join("2" + "0" * 27 + "00df") + ".ip6.arpa"
    assert values(bench.ask(ip6, "PTR")) == ["a.n1."]


def test_addresses_of_ours_are_asked_of_nobody_else(bench: Bench) -> None:
    for unknown in ("77.0.1.127", "4.0.2.127"):  # unused; of a network the asker is not on
        assert code(bench.ask(f"{unknown}.in-addr.arpa", "PTR")) == "NXDOMAIN"
    assert asked(bench) == 0
    bench.ask("8.8.8.8.in-addr.arpa", "PTR")
    assert asked(bench) == 1


def test_names_are_told_to_members_only(bench: Bench) -> None:
    bench.servers[0].answer = fixed(code=3)
    assert code(bench.ask("c")) == "NXDOMAIN"
    assert code(bench.ask("c.n2")) == "NXDOMAIN"
    # b is on both networks, and asks by the first: it is told of both, that one first.
    assert values(bench.ask("c", source="127.1.0.3")) == ["127.2.0.4"]
    assert sorted(values(bench.ask("web", source="127.1.0.3"))) == ["127.1.0.2", "127.1.0.3"]
    assert values(bench.ask("web.n2", source="127.1.0.3")) == ["127.2.0.4"]
    assert values(bench.ask("a", source="127.2.0.3", to=OTHER_GATEWAY)) == ["127.1.0.2"]


def test_who_is_no_container_is_refused(bench: Bench) -> None:
    assert code(bench.ask("a", source="127.1.0.77")) == "REFUSED"
    # An address of one network says nothing on another.
    assert code(bench.ask("c", source="127.1.0.2", to=OTHER_GATEWAY)) == "REFUSED"
    assert asked(bench) == 0


def test_a_network_that_was_withdrawn_can_come_back(bench: Bench) -> None:
    bench.resolver.withdraw("n1")
    bench.serve(network("n1", "127.1.0.0/16"), "127.1.0.1")
    bench.resolver.names.put(A_ID, "n1", ("a",), ("127.1.0.2",))
    bench.servers[0].answer = fixed(code=3)
    assert values(bench.ask("a")) == ["127.1.0.2"]
    assert code(bench.ask("b")) == "NXDOMAIN"


def test_ten_thousand_look_ups_while_names_come_and_go(bench: Bench) -> None:
    steady = dnslib.DNSRecord.question("b").pack()
    client = bench.client("127.1.0.2")
    for number in range(10_000):
        guest = number % 50
        if number % 100 < 50:
            names = (f"guest{guest}", "guests")
            bench.resolver.names.put(f"{guest:064x}", "n1", names, (f"127.1.3.{guest}",))
            asked_for, there = dnslib.DNSRecord.question(names[0]).pack(), bytes((127, 1, 3, guest))
        else:
            bench.resolver.names.drop(f"{guest:064x}")
            asked_for, there = steady, bytes((127, 1, 0, 3))
        client.send(asked_for)
        assert bench.wait(lambda: readable(client))
        assert client.recv(512).endswith(there)
    assert asked(bench) == 0


def test_while_held_questions_wait(bench: Bench) -> None:
    bench.resolver.hold()
    client = bench.client("127.1.0.2")
    client.send(dnslib.DNSRecord.question("late").pack())
    assert not bench.wait(lambda: readable(client), 0.1)
    bench.resolver.names.put(C_ID, "n1", ("late",), ("127.1.0.8",))
    bench.resolver.release()
    assert bench.wait(lambda: readable(client))
    assert values(dnslib.DNSRecord.parse(client.recv(512))) == ["127.1.0.8"]


# --- size --------------------------------------------------------------------


def test_what_does_not_fit_is_cut_and_comes_whole_by_tcp(bench: Bench) -> None:
    crowd(bench, 100)
    cut = bench.ask("many")
    assert cut.header.tc == 1
    assert 20 < len(cut.rr) <= 30  # 512 bytes
    assert len(cut.pack()) <= 512
    question = dnslib.DNSRecord.question("many")
    question.add_ar(dnslib.EDNS0(udp_len=4096))
    larger = dnslib.DNSRecord.parse(bench.exchange(question.pack(), "127.1.0.2"))
    assert larger.header.tc == 1
    assert len(cut.rr) < len(larger.rr) < 100  # 1232 bytes: no fragments
    assert [record.rtype for record in larger.ar] == [dnslib.QTYPE.OPT]
    whole = bench.ask("many", stream=True)
    assert (whole.header.tc, len(whole.rr)) == (0, 100)


def test_a_later_edns_is_answered_as_its_specification_says(bench: Bench) -> None:
    question = dnslib.DNSRecord.question("a")
    question.add_ar(dnslib.EDNS0(version=1))
    answer = dnslib.DNSRecord.parse(bench.exchange(question.pack(), "127.1.0.2"))
    assert (answer.ar[0].edns_rcode << 4 | answer.header.rcode, answer.rr) == (16, [])


# --- search domains ----------------------------------------------------------


def only(**known: str) -> object:
    """A server that knows these names (dots written as underscores) and no others."""
    table = {name.replace("_", ".") + ".": address for name, address in known.items()}

    def answer(question: dnslib.DNSRecord) -> list[bytes]:
        address = table.get(str(question.q.qname))
        return fixed(address, ttl=30)(question) if address else fixed(code=3)(question)

    return answer


def test_short_names_are_looked_for_in_the_search_domains(bench: Bench) -> None:
    bench.configure(SERVERS[0], search="one.example two.example")
    server = bench.servers[0]
    server.answer = only(nas_two_example="192.0.2.7", router="192.0.2.8")  # type: ignore[assignment]
    answer = bench.ask("NAS")
    assert (values(answer), answer.rr[0].ttl, answer.header.aa) == (["192.0.2.7"], 30, 0)
    assert str(answer.rr[0].rname) == "NAS."
    assert code(bench.ask("nas", "AAAA")) == "NOERROR"
    assert values(bench.ask("router")) == ["192.0.2.8"]
    assert code(bench.ask("nobody")) == "NXDOMAIN"
    assert code(bench.ask("no.body")) == "NXDOMAIN"
    assert server.names()[-4:] == [
        "nobody.one.example.",
        "nobody.two.example.",
        "nobody.",
        "no.body.",
    ]


def test_a_container_has_its_own_search_domains_or_none(bench: Bench) -> None:
    bench.configure(SERVERS[0], search="one.example")
    bench.servers[0].answer = fixed(code=3)
    bench.resolver.names.put(A_ID, "n1", ("a",), ("127.1.0.2",), search=("Mine.example.",))
    bench.ask("nas")
    bench.resolver.names.put(A_ID, "n1", ("a",), ("127.1.0.2",), search=(".",))
    bench.ask("nas")
    assert bench.servers[0].names() == ["nas.mine.example.", "nas.", "nas."]


def test_a_containers_name_is_asked_of_nobody_whatever_the_search(bench: Bench) -> None:
    bench.configure(SERVERS[0], search="wildcard.example")
    assert values(bench.ask("b")) == ["127.1.0.3"]
    assert asked(bench) == 0


# --- egress policy -----------------------------------------------------------


class Allow:
    """Lets one name pass, and remembers what it heard."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.heard: list[tuple[str, str, tuple[str, ...], int, bool]] = []

    def concerns(self, container: str) -> bool:
        return container == A_ID

    def may_ask(self, _container: str, name: str) -> bool:
        return name == self.name

    def answered(
        self, container: str, name: str, addresses: Sequence[str], ttl: int, *, local: bool = False
    ) -> None:
        self.heard.append((container, name, tuple(addresses), ttl, local))


def test_the_policy_decides_what_is_asked_and_hears_the_answer(tmp_path: Path) -> None:
    policy = Allow("good.example")
    bench = Bench(tmp_path, policy)
    settle(bench)

    def answer(question: dnslib.DNSRecord) -> list[bytes]:
        zone = (
            "good.example. 60 IN CNAME www.good.example.",
            "www.good.example. 20 IN A 192.0.2.4",
            "www.good.example. 90 IN A 192.0.2.5",
            "other.example. 90 IN A 192.0.2.6",
        )
        return [question.replyZone("\n".join(zone)).pack()]

    bench.servers[0].answer = answer
    assert code(bench.ask("bad.example")) == "REFUSED"
    assert asked(bench) == 0
    assert len(bench.ask("GOOD.example").rr) == 4
    assert policy.heard == [(A_ID, "good.example", ("192.0.2.4", "192.0.2.5"), 20, False)]
    bench.ask("b")
    assert policy.heard[1:] == [(A_ID, "b", ("127.1.0.3",), 0, True)]
    assert bench.ask("bad.example", source="127.1.0.3").rr  # which has no policy
    bench.close()


def test_the_policy_is_asked_about_the_name_that_goes_out(tmp_path: Path) -> None:
    policy = Allow("nas.one.example")
    bench = Bench(tmp_path, policy)
    settle(bench)
    bench.configure(SERVERS[0], search="zero.example one.example")
    assert values(bench.ask("nas")) == ["192.0.2.1"]
    assert bench.servers[0].names() == ["nas.one.example."]
    assert policy.heard == [(A_ID, "nas.one.example", ("192.0.2.1",), 300, False)]
    assert code(bench.ask("tv")) == "REFUSED"
    bench.close()


def test_an_answer_that_cannot_be_read_does_not_pass_the_policy(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Allow("good.example"))
    settle(bench)
    bench.servers[0].answer = lambda question: [
        question.reply().pack()[:6] + b"\0\1" + question.reply().pack()[8:] + b"\xc0\x1e"
    ]
    assert code(bench.ask("good.example")) == "SERVFAIL"
    bench.close()


def test_dnslib_is_imported_when_the_first_answer_is_due() -> None:
    """25 ms that the start of the first container does not wait for."""
    code = "import sys; sys.path[:] = sys.argv[1:]; import podpy.net.dns; print(*sys.modules)"
    path = [str(Path(__file__).parents[2]), *sys.path]
    loaded = subprocess.run(
        [sys.executable, "-IS", "-c", code, *path], check=True, capture_output=True, text=True
    ).stdout.split()
    assert not {"dnslib", "socket", "re", "typing", "enum", "collections"} & set(loaded)
