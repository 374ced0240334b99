"""Programs for the inside of a container: the host's Python, and small network peers."""

from __future__ import annotations

import os
from pathlib import Path

PYTHON = "/usr/bin/python3"

#: Answers every connection and datagram on the given ports with the port's number.
SERVER = """
import select, socket, sys
poll, sockets = select.poll(), {}
for word in sys.argv[1:]:
    port, _, protocol = word.partition("/")
    udp = protocol == "udp"
    server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM if udp else socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    server.bind(("::", int(port)))
    if not udp:
        server.listen()
    poll.register(server, select.POLLIN)
    sockets[server.fileno()] = (server, udp, word)
print("serving", flush=True)
while True:
    for fd, _ in poll.poll():
        server, udp, word = sockets[fd]
        if udp:
            _, sender = server.recvfrom(2048)
            server.sendto(f"{word} {sender[0]}".encode(), sender)
        else:
            client, sender = server.accept()
            client.sendall(f"{word} {sender[0]}".encode())
            client.close()
"""

#: Tries each ``HOST PORT`` (or ``@ABSTRACT``) and prints ``reached`` or ``refused`` for it.
VISITOR = """
import socket, sys
for target in sys.argv[1:]:
    try:
        if target.startswith("@"):
            peer = socket.socket(socket.AF_UNIX)
            peer.connect("\\0" + target[1:])
        else:
            host, _, port = target.rpartition(" ")
            peer = socket.create_connection((host, int(port)), timeout=2)
        peer.settimeout(2)
        print(target, "reached" if peer.recv(100) else "closed")
    except OSError as error:
        print(target, "refused")
"""

#: One echo request by a datagram socket, which ``net.ipv4.ping_group_range`` allows or not.
PING = """
import socket, sys
ping = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
ping.settimeout(5)
ping.sendto(b"\\x08\\0\\0\\0\\0\\0\\0\\1hello", (sys.argv[1], 0))
answer = ping.recv(100)
print("echo" if answer[0] == 0 and answer.endswith(b"hello") else answer)
"""


def with_python() -> list[str]:
    """Options of ``run`` that bring the host's Python into a container that has none."""
    options = []
    for path in ("/usr", "/lib", "/lib64"):
        if Path(path).exists():
            options += ["-v", f"{os.path.realpath(path)}:{path}:ro"]
    return options


def script(code: str, *arguments: object) -> list[str]:
    """The command that runs ``code`` in such a container."""
    return [PYTHON, "-IS", "-c", code, *(str(argument) for argument in arguments)]
