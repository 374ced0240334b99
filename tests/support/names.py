"""The resolver of the bridge networks on this host's loopback, without a network.

Containers are addresses of 127.0.0.0/8.  Resolver, clients and the name servers it
asks run in one loop, one after the other: nothing is left to chance.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path

import dnslib

from podpy.kernel.loop import IN, Loop
from podpy.net.dns import Resolver
from podpy.netmodel import Network, Subnet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podpy.net.dns import Policy

GATEWAY = "127.1.0.1"
OTHER_GATEWAY = "127.2.0.1"
SERVERS = ("127.9.0.1", "127.9.0.2", "127.9.0.3")
A_ID, B_ID, C_ID = "a" * 64, "b" * 64, "c" * 64
PATIENCE = 10.0


def network(name: str, subnet: str, **values: object) -> Network:
    return Network(
        name=name, id=name * 8, created=0.0, subnets=(Subnet(subnet=subnet),), **values  # type: ignore[arg-type]
    )  # fmt: skip


class Server:
    """A name server; ``answer`` makes the packets it sends for a question."""

    def __init__(self, loop: Loop, address: str, port: int = 0) -> None:
        self.asked: list[dnslib.DNSRecord] = []
        self.packets: list[bytes] = []
        self.sources: list[tuple[str, int]] = []
        self.streams = 0
        self.answer: Callable[[dnslib.DNSRecord], list[bytes]] = fixed("192.0.2.1")
        self._loop = loop
        self._datagrams = socket.socket(type=socket.SOCK_DGRAM)
        self._datagrams.bind((address, port))
        self.address, self.port = self._datagrams.getsockname()
        self._listener = socket.create_server((address, self.port))
        self._clients: list[socket.socket] = []
        loop.watch(self._datagrams.fileno(), IN, self._hear)
        loop.watch(self._listener.fileno(), IN, self._accept)

    def _hear(self, _fd: int, _events: int) -> None:
        packet, source = self._datagrams.recvfrom(65535)
        self.sources.append(source)
        for answer in self._answers(packet):
            self._datagrams.sendto(answer, source)

    def _accept(self, _fd: int, _events: int) -> None:
        client, _ = self._listener.accept()
        self._clients.append(client)
        self.streams += 1
        self._loop.watch(client.fileno(), IN, lambda *_: self._read(client))

    def _read(self, client: socket.socket) -> None:
        packet = client.recv(65535)
        if packet:
            for answer in self._answers(packet[2:]):
                client.sendall(len(answer).to_bytes(2, "big") + answer)
        else:
            self._loop.forget(client.fileno())

    def _answers(self, packet: bytes) -> list[bytes]:
        try:
            question = dnslib.DNSRecord.parse(packet)
        except dnslib.DNSError:
            return []
        self.packets.append(packet)
        self.asked.append(question)
        return self.answer(question)

    def names(self) -> list[str]:
        return [str(question.q.qname) for question in self.asked]

    def stop_listening(self) -> None:
        """From now on the host says that nobody is there."""
        self._loop.forget(self._datagrams.fileno())
        self._loop.forget(self._listener.fileno())
        self._datagrams.close()
        self._listener.close()

    def send(self, answer: bytes) -> None:
        """An answer to the first question, whenever."""
        self._datagrams.sendto(answer, self.sources[0])

    def close(self) -> None:
        for each in (self._datagrams, self._listener, *self._clients):
            each.close()


def fixed(*addresses: str, ttl: int = 300, code: int = 0) -> Callable[..., list[bytes]]:
    """Answers every question by these addresses."""

    def answer(question: dnslib.DNSRecord) -> list[bytes]:
        made = question.reply(aa=0)
        made.header.rcode = code
        for address in addresses:
            kind, data = ("AAAA", dnslib.AAAA) if ":" in address else ("A", dnslib.A)
            if kind == dnslib.QTYPE[question.q.qtype]:
                record = dnslib.RR(question.q.qname, question.q.qtype, ttl=ttl, rdata=data(address))
                made.add_answer(record)
        return [made.pack()]

    return answer


def silent(_question: dnslib.DNSRecord) -> list[bytes]:
    return []


class Bench:
    """A resolver with networks ``n1`` and ``n2`` and three servers in its resolv.conf."""

    def __init__(
        self,
        directory: Path,
        policy: Policy | None = None,
        inside: Callable[[int, int], socket.socket] | None = None,
    ) -> None:
        self.loop = Loop()
        self.servers = [Server(self.loop, SERVERS[0])]
        port = self.servers[0].port
        self.servers += [Server(self.loop, address, port) for address in SERVERS[1:]]
        self.resolv_conf = directory / "resolv.conf"
        self.configure(*SERVERS)
        self.resolver = Resolver(
            self.loop, policy, inside=inside, port=port, resolv_conf=str(self.resolv_conf)
        )
        self.ports: dict[str, int] = {}
        self.serve(network("n1", "127.1.0.0/16"), GATEWAY)
        self.serve(network("n2", "127.2.0.0/16"), OTHER_GATEWAY)
        self._open: list[socket.socket] = []

    def configure(self, *servers: str, search: str = "") -> None:
        """Write the host's resolv.conf."""
        lines = [f"nameserver {server}\n" for server in servers]
        self.resolv_conf.write_text("".join(lines) + (f"search {search}\n" if search else ""))

    def serve(self, made: Network, address: str) -> None:
        datagrams = socket.socket(type=socket.SOCK_DGRAM)
        datagrams.bind((address, 0))
        self.ports[address] = datagrams.getsockname()[1]
        listener = socket.create_server((address, self.ports[address]), backlog=64)
        self.resolver.serve(made, [datagrams, listener])

    def client(self, source: str, *, stream: bool = False, to: str = GATEWAY) -> socket.socket:
        made = socket.socket(type=socket.SOCK_STREAM if stream else socket.SOCK_DGRAM)
        made.bind((source, 0))
        made.connect((to, self.ports[to]))
        made.setblocking(False)
        self._open.append(made)
        return made

    def wait(self, ready: Callable[[], bool], seconds: float = PATIENCE) -> bool:
        """Let everybody work until something is so."""
        end = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > end:
                return False
            self.loop.turn(0.01)
        return True

    def exchange(
        self, packet: bytes, source: str, *, stream: bool = False, to: str = GATEWAY
    ) -> bytes:
        """The answer to a packet as it is; ``TimeoutError`` when there is none."""
        client = self.client(source, stream=stream, to=to)
        client.send(len(packet).to_bytes(2, "big") + packet if stream else packet)
        received = bytearray()

        def done() -> bool:
            try:
                received.extend(client.recv(65535))
            except BlockingIOError:
                pass
            if not stream:
                return bool(received)
            return len(received) > 2 and len(received) >= 2 + int.from_bytes(received[:2], "big")

        if not self.wait(done):
            raise TimeoutError("no answer")
        client.close()
        return bytes(received[2:] if stream else received)

    def ask(
        self, name: str, kind: str = "A", *, source: str = "127.1.0.2", **how: object
    ) -> dnslib.DNSRecord:
        packet = dnslib.DNSRecord.question(name, kind).pack()
        answer = self.exchange(packet, source, **how)  # type: ignore[arg-type]
        assert answer[:2] == packet[:2]
        return dnslib.DNSRecord.parse(answer)

    def close(self) -> None:
        self.resolver.close()
        for client in self._open:
            client.close()
        for server in self.servers:
            server.close()


def values(answer: dnslib.DNSRecord) -> list[str]:
    """What the records of an answer say."""
    return [str(record.rdata) for record in answer.rr]


def code(answer: dnslib.DNSRecord) -> str:
    text: str = dnslib.RCODE[answer.header.rcode]
    return text


def settle(made: Bench) -> None:
    """Containers ``a`` and ``b`` on ``n1``; ``b`` and ``c`` on ``n2``."""
    made.resolver.names.put(A_ID, "n1", ("a", "web"), ("127.1.0.2", "fd00::2"))
    made.resolver.names.put(B_ID, "n1", ("b", "web"), ("127.1.0.3",))
    made.resolver.names.put(B_ID, "n2", ("b",), ("127.2.0.3",))
    made.resolver.names.put(C_ID, "n2", ("c", "web"), ("127.2.0.4",))


def crowd(bench: Bench, size: int) -> None:
    """So many containers that are all called ``many``."""
    for number in range(size):
        container = f"{number:064x}"
        bench.resolver.names.put(container, "n1", (f"m{number}", "many"), (f"127.1.3.{number}",))


def asked(bench: Bench) -> int:
    """How many questions went out."""
    return sum(len(server.asked) for server in bench.servers)


def readable(client: socket.socket) -> bool:
    try:
        client.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    return True
