"""The name server of the world: the resolver that the host's resolv.conf names.

``world_dns.py DIRECTORY`` answers on port 53 of the world's addresses from ``DIRECTORY/zone``,
where the file ``NAME`` holds JSON such as ``{"A": ["203.0.113.10"], "ttl": 5}`` (also ``AAAA``,
``CNAME``, ``TXT``, ``PTR``; ``rcode`` to answer an error, ``drop`` to answer nothing, ``delay``
in seconds).  Without a file, ``server.world.test`` and names such as ``203-0-113-9.ip.test``
exist.  Every question is a line of ``DIRECTORY/questions``: server, client, transport, name,
type.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator

ADDRESSES = ("198.51.100.1", "2001:db8:1::1", "203.0.113.53")
TYPES = {1: "A", 5: "CNAME", 12: "PTR", 16: "TXT", 28: "AAAA"}
NUMBERS = {name: number for number, name in TYPES.items()}
SERVER = {"A": ["203.0.113.10"], "AAAA": ["2001:db8:2::10"]}
NAME_ERROR = 3


class Names:
    def __init__(self, directory: str) -> None:
        self._zone = os.path.join(directory, "zone")
        self._log = os.path.join(directory, "questions")

    def note(self, *words: str) -> None:
        with open(self._log, "a") as log:
            log.write(" ".join(words) + "\n")

    def find(self, name: str) -> dict[str, object] | None:
        try:
            with open(os.path.join(self._zone, name.replace("/", "_"))) as file:
                found: dict[str, object] = json.load(file)
                return found
        except FileNotFoundError:
            pass
        if name == "server.world.test":
            return {**SERVER}
        label, _, rest = name.partition(".")
        if rest == "ip.test":
            return {"A": [label.replace("-", ".")]}
        if name == "10.113.0.203.in-addr.arpa":
            return {"PTR": ["server.world.test"]}
        return None


def answer(names: Names, question: bytes, *where: str, limit: int) -> bytes:
    """The reply to one message; empty when there shall be none."""
    identity, flags = struct.unpack_from(">HH", question)
    name, place = read_name(question, 12)
    (wanted,) = struct.unpack_from(">H", question, place)
    asked = question[12 : place + 4]
    shown = TYPES.get(wanted, str(wanted))
    names.note(*where, name or ".", shown)
    found = names.find(name.lower())
    time.sleep(float(str((found or {}).get("delay", 0))))
    if found and found.get("drop"):
        return b""
    code = NAME_ERROR if found is None else int(str(found.get("rcode", 0)))
    records = list(answers(name, shown, found or {}))
    body = b"".join(records)
    truncated = 0x0200 if len(body) + len(asked) + 12 > limit else 0
    if truncated:
        records, body = [], b""
    head = struct.pack(
        ">HHHHHH", identity, 0x8480 | truncated | flags & 0x0100 | code, 1, len(records), 0, 0
    )
    return head + asked + body


def answers(name: str, wanted: str, found: dict[str, object]) -> Iterator[bytes]:
    ttl = int(str(found.get("ttl", 5)))
    for kind in ("CNAME", wanted):
        for value in found.get(kind, []) if kind in found else []:  # type: ignore[attr-defined]
            data = encode(kind, value)
            yield (write_name(name) + struct.pack(">HHIH", NUMBERS[kind], 1, ttl, len(data)) + data)
        if wanted == "CNAME":
            return


def encode(kind: str, value: str) -> bytes:
    if kind == "A":
        return socket.inet_aton(value)
    if kind == "AAAA":
        return socket.inet_pton(socket.AF_INET6, value)
    if kind == "TXT":
        parts = [value.encode()[at : at + 255] for at in range(0, len(value), 255)]
        return b"".join(bytes([len(part)]) + part for part in parts)
    return write_name(value)


def write_name(name: str) -> bytes:
    labels = [label.encode() for label in name.split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def read_name(message: bytes, place: int) -> tuple[str, int]:
    labels = []
    while length := message[place]:
        labels.append(message[place + 1 : place + 1 + length].decode(errors="replace"))
        place += 1 + length
    return ".".join(labels), place + 1


def datagrams(server: socket.socket, address: str, names: Names) -> None:
    def reply(question: bytes, client: tuple[str, int]) -> None:
        said = answer(names, question, address, client[0], "udp", limit=512)
        if said:
            server.sendto(said, client)

    while True:
        question, client = server.recvfrom(4096)
        threading.Thread(target=reply, args=(question, client), daemon=True).start()


def connections(server: socket.socket, address: str, names: Names) -> None:
    def converse(client: socket.socket, sender: str) -> None:
        with client:
            while len(head := client.recv(2, socket.MSG_WAITALL)) == 2:
                question = client.recv(struct.unpack(">H", head)[0], socket.MSG_WAITALL)
                said = answer(names, question, address, sender, "tcp", limit=65535)
                client.sendall(struct.pack(">H", len(said)) + said)

    while True:
        client, sender = server.accept()
        threading.Thread(target=converse, args=(client, sender[0]), daemon=True).start()


def main(directory: str) -> None:
    names = Names(directory)
    threads = []
    for address in ADDRESSES:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        for kind, work in ((socket.SOCK_DGRAM, datagrams), (socket.SOCK_STREAM, connections)):
            server = socket.socket(family, kind)
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind((address, 53))
            if kind is socket.SOCK_STREAM:
                server.listen(64)
            threads.append(threading.Thread(target=work, args=(server, address, names)))
    for thread in threads:
        thread.start()
    print("ready", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
