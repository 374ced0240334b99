"""Programs for a container that tries to get past its egress policy, and for who watches it.

They run by the host's Python, see :mod:`support.guest`.
"""

from __future__ import annotations

#: Tries each of the probes, given as JSON: ``[kind, host, port]`` → what came back, seconds.
#: An empty text is "nobody answered"; ``!`` and a number an error of the system.
PROBE = """
import json, socket, struct, sys, time

def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET

def tcp(host, port):
    with socket.create_connection((host, port), timeout=3) as peer:
        return peer.recv(100).decode().strip() or "closed"

def udp(host, port):
    address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0][4]
    with socket.socket(family(address[0]), socket.SOCK_DGRAM) as peer:
        peer.settimeout(1)
        peer.connect(address)
        for turn in range(2):
            peer.send(b"x")
            try:
                return peer.recv(100).decode().split()[0]
            except TimeoutError:
                pass
        return ""

def name(host, port):
    found = socket.getaddrinfo(host, 1, type=socket.SOCK_STREAM)
    return " ".join(sorted(each[4][0] for each in found))

def question(host):
    labels = b"".join(bytes([len(l)]) + l.encode() for l in host.split("."))
    return struct.pack(">HHHHHH", 7, 256, 1, 0, 0, 0) + labels + bytes(1) + b"\\0\\1\\0\\1"

def dns(target, port):
    # Straight to a resolver: SERVER/NAME; the code of the answer and its last four bytes.
    server, _, host = target.partition("/")
    with socket.socket(family(server), socket.SOCK_DGRAM) as peer:
        peer.settimeout(2)
        peer.connect((server, port or 53))
        peer.send(question(host))
        answer = peer.recv(512)
        return f"code {answer[3] & 15} {socket.inet_ntoa(answer[-4:])}"

def dnstcp(target, port):
    server, _, host = target.partition("/")
    with socket.create_connection((server, port or 53), timeout=2) as peer:
        asked = question(host)
        peer.send(struct.pack(">H", len(asked)) + asked)
        answer = peer.recv(512)
        return f"code {answer[5] & 15}"

def ping(host, port):
    six = ":" in host
    kind = (socket.AF_INET6, socket.IPPROTO_ICMPV6) if six else (socket.AF_INET, 1)
    with socket.socket(kind[0], socket.SOCK_DGRAM, kind[1]) as peer:
        peer.settimeout(1)
        for turn in range(2):
            peer.sendto(bytes([128 if six else 8]) + bytes(5) + b"\\0\\1hello", (host, 0))
            try:
                return "echo" if peer.recv(100).endswith(b"hello") else "something else"
            except TimeoutError:
                pass
        return ""

found = []
for kind, host, port in json.loads(sys.argv[1]):
    begin = time.monotonic()
    try:
        seen = globals()[kind](host, port)
    except TimeoutError:
        seen = ""
    except OSError as error:
        seen = f"!{error.errno}"
    found.append((seen, time.monotonic() - begin))
print(json.dumps(found))
"""

#: Hosts of the world: ``PORT PORT ADDRESS…``, each port by TCP and UDP, greet with the address
#: that they see.
HOSTS = """
import select, socket, sys
poll, sockets = select.poll(), {}
for address in sys.argv[3:]:
    for port in map(int, sys.argv[1:3]):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind((address, port))
            if kind == socket.SOCK_STREAM:
                made.listen(64)
            poll.register(made, select.POLLIN)
            sockets[made.fileno()] = made
print("ready", flush=True)
kept = []
while True:
    for fd, _ in poll.poll():
        if sockets[fd].type == socket.SOCK_STREAM:
            client, sender = sockets[fd].accept()
            client.sendall(sender[0].encode() + b"\\n")
            kept = [*kept[-50:], client]
        else:
            data, sender = sockets[fd].recvfrom(2048)
            sockets[fd].sendto(sender[0].encode() + b" " + data, sender)
"""

#: Prints the label of every frame that holds one, whatever else it is.
WATCHER = """
import re, socket
frames = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
frames.bind(("eth0", 0))
print("watching", flush=True)
while True:
    for label in re.findall(rb"ESCAPE<([^>]*)>", frames.recv(65536)):
        print("saw", label.decode(), flush=True)
"""

#: Sends what no honest stack sends, in frames to a sibling: each with its name in it.
FORGER = """
import json, socket, struct, sys, time
at = json.loads(sys.argv[1])  # me, sibling: [mac, ip, ip6]; gateway: [ip, ip6]; world: ip
packed = lambda text: bytes.fromhex(text.replace(":", ""))
four = lambda text: socket.inet_pton(socket.AF_INET, text)
six = lambda text: socket.inet_pton(socket.AF_INET6, text)
me, sibling, gateway = at["me"], at["sibling"], at["gateway"]
MAC, THEIRS, ALL = packed(me[0]), packed(sibling[0]), b"\\xff" * 6
OTHER = b"\\x02\\x42\\x0a\\x58\\xfe\\xfe"

def checksum(data):
    data += b"\\0" * (len(data) & 1)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF

def udp(label):
    data = b"ESCAPE<" + label.encode() + b">"
    return struct.pack(">HHHH", 4000, 4001, 8 + len(data), 0) + data

def ip(payload, source=me[1], target=sibling[1], protocol=17, fragment=0, options=b""):
    words = 5 + len(options) // 4
    head = struct.pack(">BBHHHBBH4s4s", 0x40 | words, 0, words * 4 + len(payload), 7, fragment,
                       64, protocol, 0, four(source), four(target)) + options
    return head[:10] + struct.pack(">H", checksum(head)) + head[12:] + payload

def ip6(payload, source=me[2], target=sibling[2], protocol=17):
    head = struct.pack(">IHBB", 6 << 28, len(payload), protocol, 255)
    return head + six(source) + six(target) + payload

def frame(payload, kind=0x0800, source=MAC, target=THEIRS):
    return target + source + struct.pack(">H", kind) + payload

def arp(label, sender, mac=MAC, operation=2, padding=b""):
    body = struct.pack(">HHBBH6s4s6s4s", 1, 0x0800, 6, 4, operation, mac, four(sender), THEIRS,
                       four(sibling[1]))
    return body + b"ESCAPE<" + label.encode() + b">" + padding

def neighbour(label, kind, about, source=me[2]):
    body = struct.pack(">BBHI", kind, 0, 0, 0x20000000) + six(about)
    body += b"\\2\\1" + MAC + b"ESCAPE<" + label.encode() + b">"
    pseudo = six(source) + six(sibling[2]) + struct.pack(">II", len(body), 58)
    body = body[:2] + struct.pack(">H", checksum(pseudo + body)) + body[4:]
    return ip6(body, source=source, protocol=58)

H = 0x0800
S = 0x86DD
chain = lambda kind, label: bytes([17, 0, 1, 4, 0, 0, 0, 0]) + udp(label)
frames = {
    "plain": frame(ip(udp("plain"))),
    "other mac": frame(ip(udp("other mac")), source=OTHER),
    "other address": frame(ip(udp("other address"), source="10.77.0.99")),
    "as the gateway": frame(ip(udp("as the gateway"), source=gateway[0])),
    "allowed address, sibling's mac": frame(
        ip(udp("allowed address, sibling's mac"), target=at["world"])),
    "broadcast": frame(ip(udp("broadcast"), target="255.255.255.255"), target=ALL),
    "multicast": frame(ip(udp("multicast"), target="224.0.0.251"), target=ALL),
    "vlan": frame(struct.pack(">HH", 5, H) + ip(udp("vlan")), kind=0x8100),
    "vlan 0": frame(struct.pack(">HH", 0, H) + ip(udp("vlan 0")), kind=0x8100),
    "qinq": frame(struct.pack(">HH", 5, H) + ip(udp("qinq")), kind=0x88A8),
    "fragment": frame(ip(udp("fragment"), fragment=0x0010)),
    "first fragment": frame(ip(udp("first fragment"), fragment=0x2000)),
    "source route": frame(ip(udp("source route"), options=bytes([131, 7, 4]) + four(sibling[1])
                             + b"\\0")),
    "gre": frame(ip(udp("gre"), protocol=47)),
    "sctp": frame(ip(udp("sctp"), protocol=132)),
    "icmp": frame(ip(b"\\x08\\0\\0\\0\\0\\0\\0\\0" + udp("icmp"), protocol=1)),
    "unasked echo reply": frame(
        ip(b"\\0\\0\\0\\0\\0\\0\\0\\0" + udp("unasked echo reply"), protocol=1)),
    "tcp ack": frame(ip(struct.pack(">HHIIBBHHH", 4000, 4001, 1, 1, 0x50, 0x10, 999, 0, 0)
                        + udp("tcp ack"), protocol=6)),
    "ipv6": frame(ip6(udp("ipv6")), kind=S),
    "ipv6 other address": frame(ip6(udp("ipv6 other address"), source="fd77:77::99"), kind=S),
    "ipv6 link-local": frame(ip6(udp("ipv6 link-local"), source="fe80::99"), kind=S),
    "hop-by-hop": frame(ip6(chain(0, "hop-by-hop"), protocol=0), kind=S),
    "routing header": frame(ip6(chain(43, "routing header"), protocol=43), kind=S),
    "ipv6 fragment": frame(ip6(chain(44, "ipv6 fragment"), protocol=44), kind=S),
    "destination options": frame(ip6(chain(60, "destination options"), protocol=60), kind=S),
    "local experiment": frame(udp("local experiment"), kind=0x88B5),
    "802.3": frame(b"\\xaa\\xaa\\3\\0\\0\\0" + udp("802.3"), kind=60),
    "pppoe": frame(udp("pppoe"), kind=0x8864),
    "gateway's arp": frame(arp("gw", gateway[0]), kind=0x0806),
    "sibling's arp": frame(arp("sib", sibling[1]), kind=0x0806, target=ALL),
    "arp of another": frame(arp("mac", me[1], mac=OTHER), kind=0x0806),
    "long arp": frame(arp("long arp", me[1], operation=1, padding=b"x" * 900), kind=0x0806),
    "gateway's advertisement": frame(neighbour("na", 136, gateway[1]), kind=S),
    "advertisement by another": frame(neighbour("na2", 136, me[2], source="fe80::77"), kind=S),
    "solicitation by another": frame(neighbour("ns", 135, sibling[2], source="fe80::77"), kind=S),
    "router": frame(neighbour("ra", 134, "fe80::1"), kind=S),
    "redirect": frame(neighbour("redirect", 137, "fe80::1"), kind=S),
}
link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
link.bind((at.get("device", "eth0"), 0))
for name, data in frames.items():
    link.send(data)
    time.sleep(0.01)
print(len(frames))
"""

#: What the labels in the forged frames are: ARP and neighbour discovery have room for short ones.
LABELS = {
    "plain", "other mac", "other address", "as the gateway", "allowed address, sibling's mac",
    "broadcast", "multicast", "vlan", "vlan 0", "qinq", "fragment", "first fragment",
    "source route", "gre", "sctp", "icmp", "unasked echo reply", "tcp ack", "ipv6",
    "ipv6 other address", "ipv6 link-local", "hop-by-hop", "routing header", "ipv6 fragment",
    "destination options", "local experiment", "802.3", "pppoe", "gw", "sib",
    "mac", "long arp", "na", "na2", "ns", "ra", "redirect",
}  # fmt: skip

#: Datagrams to the world under other names than its own, by way of the router.
IMPOSTOR = """
import json, socket, struct, sys, time
server, port, sources, device = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3]), sys.argv[4]
for source in sources:
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    data = struct.pack(">HHHH", 4000, port, 9, 0) + b"x"
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 29, 7, 0, 64, 17, 0, socket.inet_aton(source),
                       socket.inet_aton(server))
    for turn in range(3):
        try:
            raw.sendto(head + data, (server, 0))
        except OSError as error:
            print(source, error)
        time.sleep(0.05)
print("sent")
"""
