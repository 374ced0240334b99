"""A D-Bus client small enough for a container start: one connection, calls, replies, signals.

Everything up to the last call can be sent before the first answer is read, so
that the bus works while podpy does something else (D-Bus specification,
"Message Protocol" and "Authentication Protocol").
"""

from __future__ import annotations

import _socket
import os
import select
import time
from _struct import calcsize, pack, unpack_from

from podpy.errors import HostError
from podpy.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

CALL, REPLY, ERROR, SIGNAL = 1, 2, 3, 4
NO_AUTO_START = 2
_PATH, _INTERFACE, _MEMBER, _ERROR_NAME, _REPLY_SERIAL, _DESTINATION, _SENDER, _SIGNATURE = range(
    1, 9
)
_FIXED = {"y": "B", "b": "I", "n": "h", "q": "H", "i": "i", "u": "I", "x": "q", "t": "Q", "d": "d"}
_ALIGNMENT = {"y": 1, "g": 1, "v": 1, "n": 2, "q": 2, "x": 8, "t": 8, "d": 8, "(": 8, "{": 8}
_LARGEST = 1 << 20  # of a message: what systemd answers is a few hundred bytes


class BusError(HostError):
    """The called side answered with an error; ``name`` is D-Bus's name for it."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name


@record
class Message:
    """One message as it was received."""

    kind: int
    path: str = ""
    member: str = ""
    error: str = ""
    reply_to: int = 0
    body: tuple[Any, ...] = ()


# --- marshalling -------------------------------------------------------------


def split_signature(signature: str) -> list[str]:
    """The single complete types of a signature: ``sa(sv)u`` → ``s``, ``a(sv)``, ``u``."""
    found = []
    start = 0
    while start < len(signature):
        end = _type_end(signature, start)
        found.append(signature[start:end])
        start = end
    return found


def _type_end(signature: str, start: int) -> int:
    first = signature[start]
    if first == "a":
        return _type_end(signature, start + 1)
    if first not in "({":
        return start + 1
    depth = 0
    for end in range(start, len(signature)):
        depth += (signature[end] in "({") - (signature[end] in ")}")
        if depth == 0:
            return end + 1
    raise ValueError(f"D-Bus signature {signature!r} is not closed")


def encode(signature: str, values: tuple[Any, ...], out: bytearray | None = None) -> bytearray:
    """Values in little-endian wire format; a variant is a pair of signature and value.

    ``out`` is what precedes them: alignment counts from its beginning.
    """
    out = bytearray() if out is None else out
    for kind, value in zip(split_signature(signature), values, strict=True):
        _encode_one(kind, value, out)
    return out


def _encode_one(kind: str, value: Any, out: bytearray) -> None:
    first = kind[0]
    if first == "a":
        _encode_array(kind[1:], value, out)
        return
    _pad(out, _ALIGNMENT.get(first, 4))
    if first in _FIXED:
        out += pack("<" + _FIXED[first], value)
    elif first in "so":
        raw = value.encode()
        out += pack("<I", len(raw)) + raw + b"\0"
    elif first == "g":
        out += bytes([len(value)]) + value.encode() + b"\0"
    elif first == "v":
        _encode_one("g", value[0], out)
        _encode_one(value[0], value[1], out)
    else:
        encode(kind[1:-1], value, out)


def _encode_array(kind: str, values: Any, out: bytearray) -> None:
    _pad(out, 4)
    at = len(out)
    out += b"\0\0\0\0"
    _pad(out, _ALIGNMENT.get(kind[0], 4))
    start = len(out)
    for value in values:
        _encode_one(kind, value, out)
    out[at : at + 4] = pack("<I", len(out) - start)


def _pad(out: bytearray, alignment: int) -> None:
    out += bytes(-len(out) % alignment)


class Reader:
    """Takes values of a signature out of received bytes; alignment counts from their beginning."""

    def __init__(self, data: bytes, at: int = 0, order: str = "<") -> None:
        self.data = data
        self.at = at
        self._order = order

    def values(self, signature: str) -> tuple[Any, ...]:
        return tuple(self._one(kind) for kind in split_signature(signature))

    def align(self, alignment: int) -> None:
        self.at += -self.at % alignment

    def _one(self, kind: str) -> Any:
        first = kind[0]
        self.align(_ALIGNMENT.get(first, 4))
        if first in _FIXED:
            return self._fixed(_FIXED[first])
        if first in "so":
            return self._text(self._fixed("I"))
        if first == "g":
            return self._text(self._fixed("B"))
        if first == "v":
            return self._one(self._one("g"))
        if first == "a":
            return self._array(kind[1:])
        return self.values(kind[1:-1])

    def _fixed(self, code: str) -> Any:
        (value,) = unpack_from(self._order + code, self.data, self.at)
        self.at += calcsize(self._order + code)
        return value

    def _text(self, length: int) -> str:
        raw = self.data[self.at : self.at + length]
        self.at += length + 1
        return raw.decode(errors="replace")

    def _array(self, kind: str) -> list[Any]:
        length = self._fixed("I")
        self.align(_ALIGNMENT.get(kind[0], 4))
        end = self.at + length
        found = []
        while self.at < end:
            found.append(self._one(kind))
        return found


# --- the connection ----------------------------------------------------------


def session_address() -> str:
    """The session bus of this user; empty when there is none."""
    if address := os.environ.get("DBUS_SESSION_BUS_ADDRESS", ""):
        return address
    path = f"{os.environ.get('XDG_RUNTIME_DIR') or f'/run/user/{os.getuid()}'}/bus"
    return f"unix:path={path}" if os.path.exists(path) else ""


def _socket_names(address: str) -> list[str]:
    """The unix sockets of a D-Bus address, in order; abstract ones with their zero byte."""
    found = []
    for choice in address.split(";"):
        transport, _, rest = choice.partition(":")
        keys = dict(item.split("=", 1) for item in rest.split(",") if "=" in item)
        if transport == "unix" and "path" in keys:
            found.append(_unescape(keys["path"]))
        elif transport == "unix" and "abstract" in keys:
            found.append("\0" + _unescape(keys["abstract"]))
    return found


def _unescape(text: str) -> str:
    first, *rest = text.split("%")
    return first + "".join(chr(int(part[:2], 16)) + part[2:] for part in rest)


class Bus:
    """A connection to a message bus, authenticated by the socket's credentials.

    Raises :class:`HostError` when there is no bus, it does not let us in or it
    does not answer in time.
    """

    def __init__(self, address: str, *, timeout: float = 25.0) -> None:
        self._limit = time.monotonic() + timeout
        self._serial = 0
        self._received = b""
        self._waiting: list[Message] = []
        self._socket = self._connect(address)
        user = str(os.getuid()).encode().hex()
        self._greeted = False
        self._send(f"\0AUTH EXTERNAL {user}\r\nBEGIN\r\n".encode())
        self.call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "Hello")

    def __enter__(self) -> Bus:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def call(
        self, destination: str, path: str, interface: str, member: str,
        signature: str = "", *values: Any,
    ) -> int:  # fmt: skip
        """Send a method call and return its serial number for :meth:`reply`."""
        self._serial += 1
        body = encode(signature, values)
        fields = [
            (_PATH, ("o", path)),
            (_INTERFACE, ("s", interface)),
            (_MEMBER, ("s", member)),
            (_DESTINATION, ("s", destination)),
        ]
        if signature:
            fields.append((_SIGNATURE, ("g", signature)))
        head = (ord("l"), CALL, NO_AUTO_START, 1, len(body), self._serial, fields)
        message = encode("yyyyuua(yv)", head)
        _pad(message, 8)
        self._send(bytes(message + body))
        return self._serial

    def reply(self, serial: int) -> tuple[Any, ...]:
        """Wait for the answer to a call; :class:`BusError` when it is an error."""
        answer = self._await(lambda m: m.kind in (REPLY, ERROR) and m.reply_to == serial)
        if answer.kind == ERROR:
            raise BusError(answer.error, str(answer.body[0]) if answer.body else "")
        return answer.body

    def signal(self, member: str, wanted: Callable[[tuple[Any, ...]], bool]) -> tuple[Any, ...]:
        """Wait for a signal of that name whose body is wanted."""
        found = self._await(lambda m: m.kind == SIGNAL and m.member == member and wanted(m.body))
        return found.body

    def _await(self, wanted: Callable[[Message], bool]) -> Message:
        for message in self._waiting:
            if wanted(message):
                self._waiting.remove(message)
                return message
        while True:
            message = self._receive()
            if wanted(message):
                return message
            self._waiting.append(message)

    def _receive(self) -> Message:
        if not self._greeted:
            self._greet()
        head = self._need(16)
        order = "<" if head[:1] == b"l" else ">"
        body_size, _, fields_size = unpack_from(f"{order}III", head, 4)
        start = 16 + fields_size + -fields_size % 8
        if start + body_size > _LARGEST:
            raise HostError(f"the message bus sent {start + body_size} bytes at once")
        data = self._need(start + body_size)
        self._received = self._received[len(data) :]
        fields = dict(Reader(data, 12, order).values("a(yv)")[0])
        body = Reader(data[start:], 0, order).values(fields.get(_SIGNATURE, ""))
        return Message(
            kind=data[1],
            path=fields.get(_PATH, ""),
            member=fields.get(_MEMBER, ""),
            error=fields.get(_ERROR_NAME, ""),
            reply_to=fields.get(_REPLY_SERIAL, 0),
            body=body,
        )

    def _greet(self) -> None:
        while b"\r\n" not in self._received:
            self._need(len(self._received) + 1)
        line, self._received = self._received.split(b"\r\n", 1)
        if not line.startswith(b"OK "):
            raise HostError(f"the message bus refused us: {line.decode(errors='replace')}")
        self._greeted = True

    def _need(self, size: int) -> bytes:
        """At least ``size`` received bytes; exactly that many are returned, none is consumed."""
        while len(self._received) < size:
            left = self._limit - time.monotonic()
            if left <= 0 or not select.select([self._socket], [], [], left)[0]:
                raise HostError("the message bus did not answer in time")
            part = self._socket.recv(65536)
            if not part:
                raise HostError("the message bus closed the connection")
            self._received += part
        return self._received[:size]

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise HostError(f"the message bus: {error.strerror}") from None

    def _connect(self, address: str) -> _socket.socket:
        reason = "no unix socket in its address"
        for name in _socket_names(address):
            connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
            try:
                connection.connect(name)
                return connection
            except OSError as error:
                connection.close()
                reason = error.strerror or str(error)
        raise HostError(f"the message bus {address or '(none)'} cannot be reached: {reason}")
