"""The UDP relay, between two sockets of this host's own loopback."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from podpy.net import ports, relay
from podpy.netmodel import PortMapping


def bound(*, inner: bool = False) -> socket.socket:
    made = socket.socket(type=socket.SOCK_DGRAM)
    made.settimeout(5)
    if inner:
        made.setsockopt(socket.IPPROTO_IP, relay.IP_PKTINFO, 1)
    made.bind(("0.0.0.0" if inner else "127.0.0.1", 0))
    return made


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with bound() as found:
        yield found


@pytest.fixture
def outside(server: socket.socket) -> Iterator[tuple[str, int]]:
    """The address whose datagrams a running relay brings to ``server``."""
    outer, inner = bound(), bound(inner=True)
    address: tuple[str, int] = outer.getsockname()
    exit_end, exit_fd = os.pipe()
    given = [(outer.detach(), inner.detach(), *server.getsockname())]
    thread = threading.Thread(target=relay.serve, args=(given, exit_end))
    thread.start()
    yield address
    os.close(exit_fd)
    thread.join(5)
    assert not thread.is_alive()
    os.close(exit_end)


def test_each_client_is_an_address_of_its_own(
    server: socket.socket, outside: tuple[str, int]
) -> None:
    clients = [bound() for _ in range(3)]
    senders = []
    for number, client in enumerate(clients):
        client.sendto(str(number).encode(), outside)
        data, sender = server.recvfrom(100)
        assert data == str(number).encode()
        senders.append(sender)
    assert len({address for address, _ in senders}) == 3
    for number, sender in reversed(list(enumerate(senders))):
        server.sendto(f"answer {number}".encode(), sender)
    for number, client in enumerate(clients):
        assert client.recvfrom(100) == (f"answer {number}".encode(), outside)
        client.close()


def test_a_client_keeps_its_address(server: socket.socket, outside: tuple[str, int]) -> None:
    with bound() as client:
        senders = set()
        for _ in range(3):
            client.sendto(b"again", outside)
            senders.add(server.recvfrom(100)[1])
    assert len(senders) == 1


def test_the_client_that_was_silent_longest_gives_way(
    server: socket.socket, outside: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "_CLIENTS", 2)
    clients = [bound() for _ in range(3)]

    def speak(number: int) -> tuple[str, int]:
        clients[number].sendto(b"x", outside)
        sender: tuple[str, int] = server.recvfrom(100)[1]
        return sender

    first, second = speak(0), speak(1)
    assert speak(0) == first
    speak(2)
    server.sendto(b"late", second)
    server.sendto(b"late", first)
    assert clients[0].recv(100) == b"late"
    clients[1].settimeout(0.1)
    with pytest.raises(TimeoutError):
        clients[1].recv(100)
    assert speak(1) != second
    for client in clients:
        client.close()


def test_a_server_that_is_away_does_not_end_the_relay(
    server: socket.socket, outside: tuple[str, int]
) -> None:
    address = server.getsockname()
    with bound() as client:
        server.close()
        for _ in range(3):
            client.sendto(b"nobody", outside)
        with socket.socket(type=socket.SOCK_DGRAM) as back:
            back.settimeout(5)
            back.bind(address)
            client.sendto(b"somebody", outside)
            while back.recv(100) != b"somebody":
                pass


@pytest.mark.parametrize(
    ("ip", "protocol", "expected"),
    [("", "udp", True), ("0.0.0.0", "udp", True), ("127.0.0.1", "udp", True),
     ("127.9.9.9", "udp", True), ("192.0.2.2", "udp", False), ("::1", "udp", False),
     ("", "tcp", False)],
)  # fmt: skip
def test_which_ports_need_it(ip: str, protocol: str, expected: bool) -> None:
    mapping = PortMapping(container_port=53, host_port=53, host_ip=ip, protocol=protocol)
    assert bool(ports.need_relay([mapping])) is expected
