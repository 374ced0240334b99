"""What a network mode gives a container, as a table of cells: the same for podpy and podman.

Each group measures one container and returns ``{cell: what was seen}``; an empty text is
"nobody answered", ``refused`` means that the engine said no.

``outbound``    what the container reaches beyond the host, and from which address
``published``   who reaches it by which form of ``-p``, and with which address it sees them
``closed``      what of the host's own it must not reach
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support import guest
from support.command import Tool
from support.polling import eventually
from support.world import World

#: ``container`` joins one on the default bridge; ``two bridges`` have no IPv6.
MODES = (
    "none", "host", "slirp4netns", "pasta", "bridge", "own", "two bridges", "container",
)  # fmt: skip
REFUSED = "refused"
OUTBOUND_CELLS = (
    "bulk", "dns", "dns tcp", "host", "mtu", "name", "peer", "ping", "ping6",
    "tcp", "tcp6", "udp", "udp6",
)  # fmt: skip
NETWORKS = {"own": ("--ipv6",), "first": (), "second": ()}

_worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
#: Below the ports that the kernel gives to clients; test processes do not share them.
PORT = 20000 + 200 * int(_worker.removeprefix("gw") or 0)

#: Tries everything at once and prints a JSON object of what came back.
OUTBOUND = """
import json, os, socket, struct, sys, threading, time
server, server6, port, resolver, bed, bedport, peer = sys.argv[1:]
found = {}

def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET

def tcp(address, port, send=b""):
    with socket.create_connection((address, int(port)), timeout=4) as peer:
        return peer.makefile().readline().strip()

def udp(address, port):
    with socket.socket(family(address), socket.SOCK_DGRAM) as peer:
        peer.settimeout(4)
        peer.connect((address, int(port)))
        peer.send(b"x")
        return peer.recv(200).decode().split()[0]

def bulk(address, port):
    # Both ways at once, as much as no queue holds: a wrong MTU stalls it.
    data = os.urandom(1 << 16) * 32
    with socket.create_connection((address, int(port)), timeout=4) as peer:
        sender = threading.Thread(target=lambda: (peer.sendall(data), peer.shutdown(1)))
        sender.start()
        stream = peer.makefile("rb")
        stream.readline()
        return "whole" if stream.read() == data else "damaged"

def dns(address, kind):
    question = struct.pack(">HHHHHH", 7, 256, 1, 0, 0, 0)
    question += b"\\6server\\5world\\4test\\0\\0\\1\\0\\1"
    with socket.socket(family(address), kind) as peer:
        peer.settimeout(4)
        peer.connect((address, 53))
        if kind == socket.SOCK_STREAM:
            peer.send(struct.pack(">H", len(question)) + question)
        else:
            peer.send(question)
        return socket.inet_ntoa(peer.recv(512)[-4:])

def name(text):
    found = socket.getaddrinfo(text, 1, type=socket.SOCK_STREAM)
    return " ".join(sorted({each[4][0] for each in found}))

def ping(address):
    six = ":" in address
    kind = (socket.AF_INET6, socket.IPPROTO_ICMPV6) if six else (socket.AF_INET, 1)
    with socket.socket(kind[0], socket.SOCK_DGRAM, kind[1]) as peer:
        peer.settimeout(2)
        for turn in range(2):  # the first may wait for the neighbour's address
            peer.sendto(bytes([128 if six else 8]) + bytes(5) + b"\\0\\1hello", (address, 0))
            try:
                return "echo" if peer.recv(100).endswith(b"hello") else "something else"
            except TimeoutError:
                pass
        return ""

def mtu():
    names = sorted(os.listdir("/sys/class/net"))
    return " ".join(open(f"/sys/class/net/{n}/mtu").read().strip() for n in names if n != "lo")

def attempt(cell, work, *arguments):
    try:
        found[cell] = work(*arguments)
    except OSError as error:
        found[cell] = ""

probes = [
    ("tcp", tcp, server, port), ("udp", udp, server, port), ("bulk", bulk, server, port),
    ("tcp6", tcp, server6, port), ("udp6", udp, server6, port),
    ("dns", dns, resolver, socket.SOCK_DGRAM), ("dns tcp", dns, resolver, socket.SOCK_STREAM),
    ("name", name, "server.world.test"), ("ping", ping, server), ("ping6", ping, server6),
    ("host", tcp, bed, bedport), ("mtu", mtu), ("peer", tcp, peer, 70),
]
threads = [threading.Thread(target=attempt, args=probe) for probe in probes]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps(found))
"""


PINGS = ("--sysctl", "net.ipv4.ping_group_range=0 0")


class Refused(Exception):
    """The engine said no."""


class Container:
    """One engine, one image, one mode: how to start containers that have it."""

    def __init__(self, tool: Tool, image: str, mode: str) -> None:
        self.tool, self.image, self.mode = tool, image, mode

    @property
    def networks(self) -> list[str]:
        return {"own": ["own"], "two bridges": ["first", "second"]}.get(self.mode, [])

    @property
    def options(self) -> list[str]:
        if self.mode == "container":
            return ["--network", "container:holder"]
        words = [word for name in self.networks or [self.mode] for word in ("--network", name)]
        # What podman's own containers.conf has and the suite's has not.
        return words if self.mode in ("host", "none") else [*words, *PINGS]

    @contextmanager
    def made(self, *holder_options: str) -> Iterator[Container]:
        """With the networks, and the container whose network is shared."""
        for name in self.networks:
            self.tool("network", "create", *NETWORKS[name], name)
        if self.mode == "container":
            words = ["--network", "bridge", *PINGS, *holder_options, self.image, *SLEEP]
            if self.tool("run", "-d", "--name", "holder", *words, code=None).code == 125:
                raise Refused
        try:
            yield self
        finally:
            self.tool("rm", "-f", "-a", "-t", "0", code=None)
            self.tool("rm", "-f", "-a", "-t", "0")  # podman: after those that depend on it
            for name in self.networks:
                self.tool("network", "rm", name)

    def run(self, code: str, *arguments: object) -> Any:
        """What the code printed, as JSON; None when the engine refuses the mode."""
        words = [*self.options, *guest.with_python(), self.image]
        done = self.tool("run", "--rm", *words, *guest.script(code, *arguments), code=None)
        return None if done.code == 125 else done.expect(0).json()

    def serve(self, options: list[str], ports: list[str], name: str = "web") -> bool:
        """Start a server; whether the engine would have it so."""
        words = ["--name", name, *self.options, *options, *guest.with_python(), self.image]
        command = guest.script(guest.SERVER, *ports)
        if self.tool("run", "-d", *words, *command, code=None).code != 0:
            self.tool("rm", "-f", "-t", "0", name, code=None)
            return False
        eventually(lambda: "serving" in self.tool("logs", name).stdout)
        return True


SLEEP = ("sleep", "1000")


# --- outbound ----------------------------------------------------------------


def outbound(container: Container, world: World) -> dict[str, str]:
    server = world.serve()
    six = world.serve(address=world.server6, port=server.port)
    with container.made(), greeter(world.host) as bed_port:
        peer = container.networks[:1] or [container.mode]
        if container.mode in ("bridge", "own", "two bridges"):
            other = Container(container.tool, container.image, peer[0])
            assert other.serve([], ["70"], "peer")
        arguments = (world.server, world.server6, server.port, world.address, world.host, bed_port)
        found: dict[str, str] | None = container.run(OUTBOUND, *arguments, "peer")
    six.close()
    server.close()
    if found is None:
        return dict.fromkeys(OUTBOUND_CELLS, REFUSED)
    found["peer"] = found["peer"].partition(" ")[0] and "answers"
    return {cell: _plain(seen) for cell, seen in sorted(found.items())}


@contextmanager
def greeter(address: str) -> Iterator[int]:
    """A server of the host on ``address``; its port.  It says whom it sees."""
    family = socket.AF_UNIX if address.startswith("\0") else _family(address)
    server = socket.socket(family)
    server.bind(address if family == socket.AF_UNIX else (address, 0))
    server.listen()

    def answer() -> None:
        while True:
            try:
                client, sender = server.accept()
            except OSError:
                return
            client.sendall((sender[0] if sender else "unix").encode() + b"\n")
            client.close()

    threading.Thread(target=answer, daemon=True).start()
    try:
        yield 0 if family == socket.AF_UNIX else server.getsockname()[1]
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


# --- published ports ---------------------------------------------------------

#: The options that publish, with the port of the host to visit and the server's in the container.
FORMS = {
    "any": (f"{PORT}:80", PORT, "80"),
    "loopback": (f"127.0.0.1:{PORT + 1}:81", PORT + 1, "81"),
    "address": (f"198.51.100.2:{PORT + 2}:82", PORT + 2, "82"),
    "udp": (f"{PORT + 3}:83/udp", PORT + 3, "83/udp"),
    "range": (f"{PORT + 4}-{PORT + 5}:84-85", PORT + 5, "85"),
    "random": ("86", 0, "86"),
    "loopback6": (f"[::1]:{PORT + 6}:87", PORT + 6, "87"),
    "address6": (f"[2001:db8:1::2]:{PORT + 7}:88", PORT + 7, "88"),
    "exposed": ("", 0, "89"),
}
TOGETHER = ("any", "loopback", "address", "udp", "range", "random")


def published(container: Container, world: World) -> dict[str, str]:
    """``FORM from WHERE``: the address that the server in the container saw."""
    if container.mode == "host":
        return _direct(container, world)
    found: dict[str, str] = {}
    for forms in (TOGETHER, ("loopback6",), ("address6",), ("exposed",)):
        found.update(_publish(container, world, forms))
    return found


def _direct(container: Container, world: World) -> dict[str, str]:
    """A server on the host's own network needs no publishing."""
    with container.made():
        assert container.serve([], [str(PORT)])
        return _visits("direct", PORT, False, world, six=True)


def _publish(container: Container, world: World, forms: tuple[str, ...]) -> dict[str, str]:
    options: list[str] = []
    for form in forms:
        options += ["-p", FORMS[form][0]] if FORMS[form][0] else ["--expose", FORMS[form][2], "-P"]
    joins = container.mode == "container"
    try:
        with container.made(*(options if joins else ())):
            if not container.serve([] if joins else options, [FORMS[form][2] for form in forms]):
                raise Refused
            return _visit_all(container, world, forms)
    except Refused:
        return dict.fromkeys(forms, REFUSED)


def _visit_all(container: Container, world: World, forms: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for form in forms:
        _, port, inside = FORMS[form]
        if not port:
            name = "holder" if container.mode == "container" else "web"
            said = container.tool("port", name, inside, code=None).text
            if not said:
                found[form] = "not published"
                continue
            port = int(said.splitlines()[0].rpartition(":")[2])
        six = form.endswith("6") or form == "any"
        found.update(_visits(form, port, inside.endswith("udp"), world, six=six))
    return found


def _visits(form: str, port: int, udp: bool, world: World, *, six: bool) -> dict[str, str]:
    """The visits of the host by its loopback and of the world; ``six``: by IPv6, too."""
    word = "x" if udp else ""  # not every forwarder passes an empty datagram on
    found = {
        f"{form} from the host": visit("127.0.0.1", port, udp=udp),
        f"{form} from the world": world.visit(world.host, port, udp=udp, send=word, timeout=2),
    }
    if six:
        found[f"{form} from the host, IPv6"] = visit("::1", port, udp=udp)
        seen = world.visit(world.host6, port, udp=udp, send=word, timeout=2)
        found[f"{form} from the world, IPv6"] = seen
    return {cell: _client(_plain(seen.partition(" ")[2])) for cell, seen in found.items()}


def _client(address: str) -> str:
    """``masked`` for an address that is of the container's side, else the address."""
    if address.startswith(("10.", "fd", "127.1.")):
        return "masked"
    return address


def visit(address: str, port: int, *, udp: bool = False) -> str:
    """What a server says to us; an empty text when nobody is there."""
    with socket.socket(_family(address), socket.SOCK_DGRAM if udp else socket.SOCK_STREAM) as peer:
        peer.settimeout(2)
        try:
            peer.connect((address, port))
            if udp:
                peer.send(b"x")
            return peer.recv(200).decode()
        except OSError:
            return ""


def _plain(address: str) -> str:
    return address.removeprefix("::ffff:")


# --- what stays closed -------------------------------------------------------

#: Visits the host's loopback by every name and address that might lead there.
CLOSED = """
import json, os, socket, struct, sys
port, port6, abstract = sys.argv[1:]
targets = [("127.0.0.1", port), ("::1", port6), ("@" + abstract, 0)]
for line in open("/proc/net/route").read().splitlines()[1:]:
    words = line.split()
    if words[1] == "00000000" and int(words[3], 16) & 2:
        gateway = socket.inet_ntoa(struct.pack("=L", int(words[2], 16)))
        targets += [(gateway, port)]
        if gateway == "10.0.2.2":
            targets += [("10.0.2.3", port), ("fd00::2", port6), ("fd00::3", port6)]
targets += [(name, port) for name in ("host.containers.internal", "host.docker.internal")]
targets += [("198.51.100.2", port), ("2001:db8:1::2", port6)]
reached = []
for address, port in targets:
    try:
        if address.startswith("@"):
            peer = socket.socket(socket.AF_UNIX)
            peer.connect("\\0" + address[1:])
        else:
            peer = socket.create_connection((address, int(port)), timeout=2)
        peer.settimeout(2)
        if peer.recv(100):
            reached.append(address)
    except OSError:
        pass
print(json.dumps(" ".join(reached)))
"""


def closed(container: Container, world: World) -> dict[str, str]:
    abstract = f"podpy-test-{os.getpid()}"
    with (
        container.made(),
        greeter("127.0.0.1") as four,
        greeter("::1") as six,
        greeter(f"\0{abstract}"),
    ):
        reached = container.run(CLOSED, four, six, abstract)
    if reached is not None:
        reached = reached.replace(abstract, "abstract")
    return {"of the host's loopback": REFUSED if reached is None else reached}


GROUPS = {"outbound": outbound, "published": published, "closed": closed}


def put_together(directory: Path, target: Path) -> None:
    """Make the checked-in record of what ``--record`` left in a directory."""
    cells: dict[str, dict[str, dict[str, str]]] = {}
    version = ""
    for mode in MODES:
        for group in GROUPS:
            version, found = json.loads((directory / f"{mode} {group}").read_text())
            cells.setdefault(mode, {})[group] = found
    target.write_text(json.dumps({"version": version, "cells": cells}, indent=1) + "\n")


if __name__ == "__main__":
    put_together(Path(sys.argv[1]), Path(sys.argv[2]))
