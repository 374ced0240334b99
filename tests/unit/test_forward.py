"""Relayed ports: real sockets in this process's own namespace, no container."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from podpy.kernel.loop import Loop
from podpy.net import forward
from podpy.net.forward import Forwarder, Target

SIZE = 8 << 20


class Here:
    """Opens sockets where we are: the inner child's part of the work."""

    def open(self, family: int, kind: int, protocol: int = 0, **_options: object) -> socket.socket:
        return socket.socket(family, kind, protocol)


class Running:
    """A forwarder in a thread, with ports of the loopback."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.forwarder = Forwarder(self.loop, Here())  # type: ignore[arg-type]
        self._orders: list[Callable[[], Any]] = []
        self._stop = False
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop:
            self.loop.turn(0.02)
            while self._orders:
                self._orders.pop()()

    def start(self) -> None:
        self._thread.start()

    def do(self, order: Callable[[], Any]) -> None:
        """Something in the loop's thread; returns when it is done."""
        done = threading.Event()
        self._orders.append(lambda: (order(), done.set()))
        assert done.wait(5)

    def stop(self) -> None:
        self._stop = True
        self._thread.join(5)

    def stream(
        self, target_port: int, family: int = socket.AF_INET, target: str = "127.0.0.1"
    ) -> int:
        address = "::1" if family == socket.AF_INET6 else "127.0.0.1"
        listener = socket.socket(family)
        listener.bind((address, 0))
        port: int = listener.getsockname()[1]
        self.opened = self.forwarder.stream(listener, Target(address=target, port=target_port))
        return port

    def datagrams(self, target_port: int, address: str = "127.0.0.1") -> int:
        outer = socket.socket(
            socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM
        )
        outer.bind((address, 0))
        port: int = outer.getsockname()[1]
        self.forwarder.datagrams(outer, Target(address="127.0.0.1", port=target_port))
        return port


@pytest.fixture
def running() -> Iterator[Running]:
    made = Running()
    yield made
    if made._thread.is_alive():
        made.stop()


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.settimeout(5)
        yield made


def port_of(made: socket.socket) -> int:
    port: int = made.getsockname()[1]
    return port


def connected(running: Running, server: socket.socket) -> tuple[socket.socket, socket.socket]:
    """A client and the server's end of its connection."""
    port = running.stream(port_of(server))
    running.start()
    client = socket.create_connection(("127.0.0.1", port), 5)
    inside, _ = server.accept()
    inside.settimeout(5)
    return client, inside


def read_all(source: socket.socket) -> bytes:
    return b"".join(iter(lambda: source.recv(1 << 16), b""))


def test_both_directions_arrive_whole_at_the_same_time(
    running: Running, server: socket.socket
) -> None:
    client, inside = connected(running, server)
    sent = {name: bytes([number]) * SIZE for number, name in enumerate(("to", "fro"))}
    got: dict[str, bytes] = {}

    def write(sink: socket.socket, name: str) -> None:
        sink.sendall(sent[name])
        sink.shutdown(socket.SHUT_WR)

    def read(source: socket.socket, name: str) -> None:
        got[name] = read_all(source)

    threads = [
        threading.Thread(target=work, args=(end, name))
        for work, end, name in (
            (write, client, "to"), (read, inside, "to"), (write, inside, "fro"),
            (read, client, "fro"),
        )
    ]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert got == sent


def test_half_closed_connections_go_on_in_the_other_direction(
    running: Running, server: socket.socket
) -> None:
    client, inside = connected(running, server)
    client.sendall(b"question")
    client.shutdown(socket.SHUT_WR)
    assert read_all(inside) == b"question"
    inside.sendall(b"a long answer")
    inside.close()
    assert read_all(client) == b"a long answer"


def test_a_slow_reader_slows_its_writer_down(running: Running, server: socket.socket) -> None:
    client, inside = connected(running, server)
    client.settimeout(0.5)
    sent = 0
    with pytest.raises(TimeoutError):
        while sent < 256 << 20:
            sent += client.send(bytes(1 << 20))
    assert sent < 64 << 20, "the relay keeps what nobody reads"
    client.close()
    assert len(read_all(inside)) == sent


def test_a_client_is_told_when_nobody_listens(running: Running) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = running.stream(port_of(unused))
        running.start()
        with pytest.raises(ConnectionResetError):  # of either call
            socket.create_connection(("127.0.0.1", port), 5).recv(1)


@pytest.mark.parametrize("broken", ["client", "server"])
def test_a_broken_connection_is_passed_on_as_broken(
    running: Running, server: socket.socket, broken: str
) -> None:
    ends = dict(zip(("client", "server"), connected(running, server), strict=True))
    first = ends.pop(broken)
    first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    first.close()
    (other,) = ends.values()
    other.settimeout(5)
    with pytest.raises(ConnectionResetError):
        other.recv(1)


def test_ipv6_clients_reach_an_ipv4_server(running: Running, server: socket.socket) -> None:
    port = running.stream(port_of(server), socket.AF_INET6)
    running.start()
    client = socket.create_connection(("::1", port), 5)
    inside, _ = server.accept()
    inside.sendall(b"hello")
    assert client.recv(10) == b"hello"


def test_connections_are_bounded_and_the_next_ones_wait(
    running: Running, server: socket.socket
) -> None:
    running.forwarder.most_connections = 3
    port = running.stream(port_of(server))
    running.start()
    clients = [socket.create_connection(("127.0.0.1", port), 5) for _ in range(5)]
    inside = [server.accept()[0] for _ in range(3)]
    server.settimeout(0.2)
    with pytest.raises(TimeoutError):
        server.accept()
    clients.pop(0).close()
    inside.pop(0).close()
    server.settimeout(5)
    inside.append(server.accept()[0])
    inside[-1].sendall(b"now")
    assert clients[2].recv(10) == b"now"


def test_a_container_with_many_connections_leaves_room_for_another(
    running: Running, server: socket.socket
) -> None:
    running.forwarder.most_connections = 20
    crowded = running.stream(port_of(server))
    other = socket.create_server(("127.0.0.2", port_of(server)))
    quiet = running.stream(port_of(server), target="127.0.0.2")
    running.start()
    clients = [socket.create_connection(("127.0.0.1", crowded), 5) for _ in range(40)]
    server.settimeout(0.3)
    inside: list[socket.socket] = []
    with pytest.raises(TimeoutError):
        while True:
            inside.append(server.accept()[0])
    assert 10 < len(inside) < 20
    other.settimeout(5)
    client = socket.create_connection(("127.0.0.1", quiet), 5)
    other.accept()[0].sendall(b"welcome")
    assert client.recv(10) == b"welcome"
    for each in (*clients, *inside, client, other):
        each.close()


def test_a_closed_port_is_free_at_once_and_its_connections_live_on(
    running: Running, server: socket.socket
) -> None:
    client, inside = connected(running, server)
    port = client.getpeername()[1]
    running.do(running.opened.close)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 5)
    client.sendall(b"still")
    assert inside.recv(10) == b"still"
    inside.close()  # first: its side of the relay is the one that goes to TIME_WAIT
    assert client.recv(1) == b""
    client.close()
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_udp_clients_get_their_own_answers(running: Running) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        port = running.datagrams(port_of(server))
        running.start()
        clients = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3)]
        for number, client in enumerate(clients):
            client.settimeout(5)
            client.connect(("127.0.0.1", port))
            client.send(b"%d" % number)
        asked = [server.recvfrom(100) for _ in clients]
        assert len({sender for _, sender in asked}) == len(clients)
        for data, sender in reversed(asked):
            server.sendto(b"answer to " + data, sender)
        assert [client.recv(100) for client in clients] == [
            b"answer to %d" % number for number in range(len(clients))
        ]


@pytest.mark.parametrize(("wildcard", "asked"), [("0.0.0.0", "127.0.0.2"), ("::", "::1")])
def test_udp_answers_come_from_the_address_that_was_asked(
    running: Running, wildcard: str, asked: str
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        port = running.datagrams(port_of(server), wildcard)
        running.start()
        family = socket.AF_INET6 if ":" in asked else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as client:
            client.settimeout(5)
            client.connect((asked, port))  # hears nobody else
            client.send(bytes(9000))
            data, sender = server.recvfrom(10000)
            server.sendto(data, sender)
            assert client.recv(10000) == bytes(9000)


def test_silent_udp_clients_are_forgotten(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward, "_SWEEP", 0.05)
    monkeypatch.setattr(forward, "_SILENCE", 0.05)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        port = running.datagrams(port_of(server))
        running.start()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(0.3)
            client.connect(("127.0.0.1", port))
            client.send(b"hello")
            _, sender = server.recvfrom(100)
            with pytest.raises(TimeoutError):
                client.recv(1)
            server.sendto(b"too late", sender)
            with pytest.raises(TimeoutError):
                client.recv(1)


@pytest.mark.parametrize(
    ("target", "client", "shown"),
    [
        ("10.88.0.2", "203.0.113.9", True),
        ("10.88.0.2", "127.0.0.1", False),
        ("10.88.0.2", "169.254.7.7", False),
        ("10.88.0.2", "2001:db8::9", False),
        ("fd77::2", "2001:db8::9", True),
        ("fd77::2", "203.0.113.9", False),
        ("fd77::2", "::1", False),
        ("fd77::2", "fe80::1", False),
        ("fd77::2", "FEBF::1", False),
    ],
)
def test_which_clients_can_be_shown(target: str, client: str, shown: bool) -> None:
    assert Target(address=target, port=80, is_open=True).shows(client) is shown
    assert not Target(address=target, port=80).shows(client)
