"""The world beyond the test's host: another network namespace, where servers and clients run.

``tests/run.sh`` puts the tests' host and the world into a network namespace each, with a
cable between them (``world.sh``; by hand: ``bash tests/run.sh`` is the only one who can).
The fixture ``world`` is a :class:`World`; everything that a test starts ends with the test.

=====================  ==========================================================
198.51.100.2           the tests' host (``world.host``), 2001:db8:1::2 (``host6``)
198.51.100.1           the world's end of the cable (``address``, ``address6``), and the
                       resolver in the host's resolv.conf
203.0.113.0/24         all addresses of it are the world's (``server`` is .10, .53 a second
                       resolver that nobody configured), as are 2001:db8:2::/64
=====================  ==========================================================

::

    world("ip", "address")                  # a program there, as the same user: a Completed
    world.python("print(1)", "argument")    # code there, by the system's Python
    world.start("sleep", "9")               # in the background: a Background
    server = world.serve()                  # TCP and UDP on one free port of 203.0.113.10;
    server = world.serve(port=80, address="2001:db8:2::10")
    server.address, server.port             # greets with the address that it sees, then echoes
    server.lines                            # "tcp ADDRESS" or "udp ADDRESS" for each client
    world.http("text")                      # an HTTP server that answers with the text
    world.iperf3()                          # the port of an iperf3 server on world.server
    world.visit("198.51.100.2", 8080)       # what a client there is told; "" if by nobody
    world.visit(..., udp=True, send="x")
    world.pings("198.51.100.2")             # whether an echo request from there is answered
    world.name("db.test", A=["203.0.113.7"], ttl=1)   # a name that the resolver knows (AAAA,
                                                      # CNAME, TXT, PTR, rcode, drop, delay)
    world.unname("db.test")
    world.questions("db.test")              # who asked for it: Question(server, client, …)

``server.world.test`` is ``world.server``; ``203-0-113-9.ip.test`` is that address.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from support import host, processes
from support.command import Background, Completed, Tool
from support.polling import eventually

AGENT = Path(__file__).with_name("world_agent.py")

#: Answers on one port by TCP and UDP: the address of the client, then what the client sends.
SERVER = """
import select, socket, sys, threading
address, port = sys.argv[1], int(sys.argv[2])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
while True:
    tcp, udp = socket.socket(family), socket.socket(family, socket.SOCK_DGRAM)
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        tcp.bind((address, port))
        udp.bind((address, tcp.getsockname()[1]))
        break
    except OSError:
        if port:
            raise
tcp.listen(256)
print("port", tcp.getsockname()[1], flush=True)

def converse(client, sender):
    print("tcp", sender, flush=True)
    client.sendall(sender.encode() + b"\\n")
    while data := client.recv(65536):
        client.sendall(data)
    client.close()

def datagrams():
    while True:
        data, sender = udp.recvfrom(65536)
        print("udp", sender[0], flush=True)
        udp.sendto(sender[0].encode() + b" " + data, sender)

threading.Thread(target=datagrams, daemon=True).start()
while True:
    client, sender = tcp.accept()
    threading.Thread(target=converse, args=(client, sender[0]), daemon=True).start()
"""

HTTP = """
import http.server, socket, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = sys.argv[3].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
server = Server((sys.argv[1], int(sys.argv[2])), Handler)
print("port", server.server_address[1], flush=True)
server.serve_forever()
"""

VISIT = """
import socket, sys
address, port, udp, words = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "udp", sys.argv[4]
family = socket.AF_INET6 if ":" in address else socket.AF_INET
with socket.socket(family, socket.SOCK_DGRAM if udp else socket.SOCK_STREAM) as client:
    client.settimeout(float(sys.argv[5]))
    try:
        client.connect((address, port))
        if words or udp:
            client.send(words.encode())
        print(client.recv(65536).decode(), end="")
    except OSError:
        pass
"""


class Question(NamedTuple):
    """One question that a name server of the world was asked."""

    server: str
    client: str
    transport: str
    name: str
    type: str


class Server:
    """A server that runs in the world."""

    def __init__(self, address: str, process: Background) -> None:
        self.address = address
        self.process = process
        first = eventually(lambda: process.stdout.partition("\n")[0], what="a server in the world")
        self.port = int(first.split()[1])

    @property
    def lines(self) -> list[str]:
        """What it printed of its clients."""
        return self.process.stdout.splitlines()[1:]

    def close(self) -> None:
        self.process.kill()
        self.process.process.wait(5)


class World(Tool):
    """Programs run in the world; see this module's head."""

    host, host6 = "198.51.100.2", "2001:db8:1::2"
    address, address6 = "198.51.100.1", "2001:db8:1::1"
    server, server6 = "203.0.113.10", "2001:db8:2::10"

    def __init__(self, directory: Path, watch: processes.Watch | None = None) -> None:
        command = [host.SYSTEM_PYTHON, "-IS", str(AGENT), "run", str(directory)]
        super().__init__(command, {"PATH": host.SEARCH, "LANG": "C.UTF-8"}, Path("/"))
        self._world = directory
        self._watch = watch
        self._named: list[str] = []

    def start(self, *arguments: object, **options: Any) -> Background:
        child = super().start(*arguments, **options)
        if self._watch:
            self._watch.allow(child.pid)  # it ends with this fixture, not with podpy's
        return child

    def python(self, code: str, *arguments: object, **options: Any) -> Completed:
        return self(host.SYSTEM_PYTHON, "-IS", "-c", code, *arguments, **options)

    def start_python(self, code: str, *arguments: object) -> Background:
        return self.start(host.SYSTEM_PYTHON, "-IS", "-c", code, *arguments)

    def serve(self, *, address: str = "", port: int = 0) -> Server:
        address = address or self.server
        return Server(address, self.start_python(SERVER, address, port))

    def http(self, text: str, *, address: str = "", port: int = 0) -> Server:
        address = address or self.server
        return Server(address, self.start_python(HTTP, address, port, text))

    def iperf3(self, *, address: str = "") -> int:
        """A free port of ``server`` on which iperf3 serves, client after client."""
        host.require("iperf3")
        found = self.python(
            "import socket; s = socket.create_server(('', 0)); print(s.getsockname()[1])"
        )
        port = int(found.text)
        process = self.start(
            "iperf3", "-s", "-B", address or self.server, "-p", port, "--forceflush"
        )
        process.expect_output("Server listening")
        return port

    def visit(
        self, address: str, port: int, *, udp: bool = False, send: str = "", timeout: float = 3
    ) -> str:
        words = (address, port, "udp" if udp else "tcp", send, timeout)
        return self.python(VISIT, *words).stdout

    def pings(self, address: str) -> bool:
        """Whether an echo request from there is answered."""
        return self("ping", "-c", "1", "-W", "3", "-n", address, code=None).code == 0

    def name(self, name: str, **answer: object) -> str:
        """Make a name known to the world's resolvers until the test's end."""
        file = self._world / "zone" / name
        partial = self._world / f"zone.{os.getpid()}"
        partial.write_text(json.dumps(answer))
        partial.rename(file)
        self._named.append(name)
        return name

    def unname(self, name: str) -> None:
        (self._world / "zone" / name).unlink(missing_ok=True)

    def questions(self, name: str = "") -> list[Question]:
        """The questions so far, of all tests; or those for one name."""
        lines = (self._world / "questions").read_text().splitlines()
        asked = [Question(*words) for line in lines if len(words := line.split()) == 5]
        return [each for each in asked if not name or each.name.lower() == name]

    def close(self) -> None:
        self.end_background()
        for name in self._named:
            self.unname(name)


def directory() -> Path:
    return Path(os.environ["PODPY_TEST_WORLD"])


def made(watch: processes.Watch | None = None) -> Iterator[World]:
    """The fixture's body; a test without a world is skipped, and fails in CI."""
    host.require("world")
    world = World(directory(), watch)
    yield world
    world.close()
