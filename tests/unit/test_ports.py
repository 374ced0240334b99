"""``-p`` in all its forms, host ports found by binding them, and how they are shown."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from podpy.errors import Conflict, HostError, UsageError
from podpy.net import ports
from podpy.netmodel import PortMapping


def mapping(
    container: int, host: int = 0, ip: str = "", protocol: str = "tcp", **more: int
) -> PortMapping:
    return PortMapping(
        container_port=container, host_port=host, host_ip=ip, protocol=protocol, **more
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("80", mapping(80)),
        ("8080:80", mapping(80, 8080)),
        ("0:80", mapping(80)),
        (":80", mapping(80)),
        ("80/udp", mapping(80, protocol="udp")),
        ("80/UDP", mapping(80, protocol="udp")),
        ("80/", mapping(80)),
        ("53:5353/sctp", mapping(5353, 53, protocol="sctp")),
        ("127.0.0.1:8080:80", mapping(80, 8080, "127.0.0.1")),
        ("127.0.0.1::80", mapping(80, 0, "127.0.0.1")),
        ("[::1]:8080:80", mapping(80, 8080, "::1")),
        ("[::1]::80", mapping(80, 0, "::1")),
        ("::1:8080:80", mapping(80, 8080, "::1")),
        ("[0:0:0:0:0:0:0:1]:8080:80", mapping(80, 8080, "::1")),
        ("8000-8010:80-90", mapping(80, 8000, count=11)),
        ("8000-8010:80", mapping(80, 8000, choices=11)),
        ("127.0.0.1:8000-8001:80-81/udp", mapping(80, 8000, "127.0.0.1", "udp", count=2)),
        ("8000-8001", mapping(8000, count=2)),
        ("65535:65535", mapping(65535, 65535)),
        ("published=8080,target=80", mapping(80, 8080)),
        ("target=53,protocol=udp", mapping(53, protocol="udp")),
    ],
)
def test_every_form_is_read(text: str, expected: PortMapping) -> None:
    assert ports.parse(text) == (expected,)


@pytest.mark.parametrize(
    ("one", "other", "clash"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("0.0.0.0", "127.0.0.2", True),
        ("0.0.0.0", "::", False),
        ("::", "::1", True),
        ("::1", "127.0.0.1", False),
        ("", "::1", True),
        ("", "127.0.0.1", True),
        ("", "", True),
    ],
)
def test_which_addresses_stand_in_each_others_way(one: str, other: str, clash: bool) -> None:
    assert ports.overlap(one, other) is ports.overlap(other, one) is clash
    same = [mapping(80, 8080, ip) for ip in (one, other)]
    assert ports.is_same(*same) is clash
    assert not ports.is_same(same[0], mapping(80, 8080, other, "udp"))
    assert not ports.is_same(same[0], mapping(80, 8081, other))


def test_a_port_without_an_address_is_taken_for_both_families() -> None:
    taken, bound = ports.take(*ports.parse("80"))
    assert [(each.host_ip, each.container_port) for each in taken] == [("0.0.0.0", 80), ("::", 80)]
    assert {each.host_port for each in taken} == {each.getsockname()[1] for each in bound}
    assert len({each.host_port for each in taken}) == 1
    for each in bound:
        each.close()


def test_a_number_that_one_family_has_no_more_is_not_chosen() -> None:
    with socket.socket(socket.AF_INET6) as other:
        other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        other.bind(("::1", 0))
        port = other.getsockname()[1]
        with pytest.raises(Conflict, match=f":{port}/tcp: port is already allocated"):
            ports.take(*ports.parse(f"{port}:80"))
        with pytest.raises(Conflict, match=r"\[::\]:"):
            ports.take(*ports.parse(f"{port}:80"))
        taken, bound = ports.take(*ports.parse(f"{port}-{port + 20}:80"))
        assert {each.host_port for each in taken} - {port}
        for each in bound:
            each.close()


def test_a_range_in_which_nothing_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as used:
        port = used.getsockname()[1]
        mapping = ports.parse(f"127.0.0.1:{port}-{port}:80")[0]
        with pytest.raises(Conflict, match=f":{port}/tcp: port is already allocated"):
            ports.take(mapping)
        both = ports.refusal(OSError(98, "in use"), ports.parse(f"{port}-{port + 1}:80")[0])
        assert f"0.0.0.0:{port}-{port + 1}/tcp: all of these ports are" in both.message


def test_an_error_of_the_network_supervisor_gets_the_holders_name() -> None:
    error, wanted = Conflict("port is already allocated"), [mapping(80, 8080), mapping(81, 8081)]
    named = ports.blame(error, wanted, lambda each: "web" if each.host_port == 8081 else "")
    assert ":8081/tcp: port is already allocated to container web" in named.message
    assert ports.blame(error, wanted, lambda each: "") is error
    other = HostError("something else")
    assert ports.blame(other, wanted, lambda each: "web") is other


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no port specified"),
        ("8080:", "no port specified"),
        ("a", "invalid containerPort"),
        ("0", "invalid containerPort"),
        ("65536", "invalid containerPort"),
        ("-1", "invalid containerPort"),
        ("+80", "invalid containerPort"),
        ("٨٠", "invalid containerPort"),
        ("90-80", "invalid containerPort"),
        ("80-", "invalid containerPort"),
        ("x:80", "invalid hostPort"),
        ("127.0.0.1:80", "invalid hostPort"),
        ("0-5:80-85", "invalid hostPort"),
        ("80/http", "invalid proto"),
        ("256.0.0.1:80:80", "invalid IP address"),
        ("example.com:80:80", "invalid IP address"),
        ("1:2:3:4", "invalid IP address"),
        ("8000-8002:80-81", "invalid ranges specified for container and host ports"),
        ("8000:80-81", "invalid ranges specified for container and host ports"),
        ("published=8080", "no port specified"),
        ("hostport=8080,target=80", "invalid publish opts format"),
        ("published,target=80", "invalid publish opts format"),
    ],
)
def test_what_makes_no_sense_is_refused_in_dockers_words(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        ports.parse(text)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server


def port_of(server: socket.socket) -> int:
    number: int = server.getsockname()[1]
    return number


def test_a_random_port_is_free_and_stays_taken() -> None:
    first = ports.assign(ports.parse("127.0.0.1::80"))
    second = ports.assign(ports.parse("127.0.0.1::80"))
    chosen = [taken.mappings[0].host_port for taken in (first, second)]
    assert len(set(chosen)) == 2
    assert min(chosen) >= 1024
    with pytest.raises(Conflict):
        ports.assign(ports.parse(f"127.0.0.1:{chosen[0]}:80"))
    first.close()
    ports.assign(ports.parse(f"127.0.0.1:{chosen[0]}:80")).close()
    second.close()


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_helper_can_bind_what_was_handed_over(protocol: str) -> None:
    taken = ports.assign(ports.parse(f"127.0.0.1::80/{protocol}"))
    taken.hand_over()
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(type=kind) as helper:
        if protocol == "tcp":
            helper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        helper.bind(("127.0.0.1", taken.mappings[0].host_port))
        if protocol == "tcp":
            helper.listen()
    taken.close()


def test_a_used_port_is_named_with_its_holder(listener: socket.socket) -> None:
    port = port_of(listener)
    with pytest.raises(Conflict) as caught:
        ports.assign(ports.parse(f"{port}:80"), holder=lambda used: f"web{used.container_port}")
    assert f"0.0.0.0:{port}/tcp" in caught.value.message
    assert "port is already allocated to container web80" in caught.value.message


def test_a_used_port_of_nobody_known(listener: socket.socket) -> None:
    with pytest.raises(Conflict, match="address already in use"):
        ports.assign(ports.parse(f"127.0.0.1:{port_of(listener)}:80"), holder=lambda used: "")


def test_any_free_port_of_a_range_is_taken(listener: socket.socket) -> None:
    port = port_of(listener)
    taken = ports.assign(ports.parse(f"127.0.0.1:{port}-{port + 20}:80"))
    assert port < taken.mappings[0].host_port <= port + 20
    taken.close()


def test_a_failed_assignment_lets_everything_go(listener: socket.socket) -> None:
    free = ports.assign(ports.parse("127.0.0.1::80"))
    port = free.mappings[0].host_port
    free.close()
    with pytest.raises(Conflict):
        ports.assign(
            ports.parse(f"127.0.0.1:{port}:80") + ports.parse(f"127.0.0.1:{port_of(listener)}:81")
        )
    ports.assign(ports.parse(f"127.0.0.1:{port}:80")).close()


def test_time_wait_does_not_keep_a_port() -> None:
    """A helper that closed its connections first leaves them in TIME_WAIT for a minute."""
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", 0))
        server.listen()
        client = socket.create_connection(server.getsockname())
        served, _ = server.accept()
        served.close()
        client.recv(1)
        client.close()
        port = port_of(server)
    ports.assign(ports.parse(f"127.0.0.1:{port}:80")).close()


def test_the_same_mapping_twice_is_once() -> None:
    twice = ports.parse("127.0.0.1:18999:80") * 2
    taken = ports.assign(twice)
    assert len(taken.mappings) == 1
    taken.close()


@pytest.mark.parametrize("other", ["127.0.0.1:18998:81", "18998:81", "0.0.0.0:18998:80"])
def test_one_host_port_for_two_is_refused(other: str) -> None:
    with pytest.raises(UsageError, match="published twice"):
        ports.assign(ports.parse("18998:80") + ports.parse(other))


def test_sctp_is_refused_before_anything_starts() -> None:
    with pytest.raises(UsageError, match="80/sctp"):
        ports.assign(ports.parse("80/sctp"))


def test_a_foreign_address_is_told() -> None:
    with pytest.raises(UsageError, match=r"this host has no address 203\.0\.113\.1"):
        ports.assign(ports.parse("203.0.113.1:8080:80"))


def test_a_privileged_port_names_the_sysctl() -> None:
    start = ports.unprivileged_start()
    error = ports.refusal(PermissionError(13, "Permission denied"), mapping(80, 80))
    assert isinstance(error, HostError)
    assert "cannot expose privileged port 80" in error.message
    assert f"from {start} on" in error.message
    assert "net.ipv4.ip_unprivileged_port_start=80" in error.hint


def test_diagnose_tells_why_a_helper_failed(listener: socket.socket) -> None:
    reason = ports.diagnose(mapping(80, port_of(listener), "127.0.0.1"))
    assert reason is not None
    assert "in use" in str(reason)
