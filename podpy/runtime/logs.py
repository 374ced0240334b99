"""The writing side of container logs: one class per driver.

A driver's :meth:`write` takes what one ``read`` of the payload's output gave.
It never looks at single lines: one time stamp serves the whole chunk, and one
``bytes.replace`` puts it in front of every line.  What does not end in a
newline is written at once as a partial entry, so a crash loses nothing and a
follower sees a prompt before it is answered.

File formats:

* ``k8s-file``: ``TIME stdout F line``, with ``P`` for a part of a line (CRI).
* ``json-file``: ``{"log":"line\\n","stream":"stdout","time":"TIME"}`` (docker).

When a log cannot be written (a full disk), the container goes on: its clients
still get the output, the log loses whole chunks, and the first chunk that can
be written again is preceded by an entry on stderr that says how much is missing.
"""

from __future__ import annotations

import _socket
import posix
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

NAMES = {1: b"stdout", 2: b"stderr"}
JOURNAL = "/run/systemd/journal/socket"
_JOURNAL_PATIENCE = 5  # seconds; a datagram that journald does not take by then is lost


class Log:
    """The drivers ``none`` and ``passthrough``, which keep nothing; the others' base."""

    start = 0  # where the entries of the latest chunk begin in the file
    keeps_all = False  # a slow client can read on in the file: it has every byte

    def write(self, stream: int, data: bytes) -> None:
        """Log one chunk of stdout (1) or stderr (2)."""

    def open_to_read(self) -> int:
        """A descriptor for a client that reads on in the file."""
        raise OSError("there is no log file")

    def close(self) -> None:
        """Nothing more will be written."""


class Clock:
    """Time stamps ``2023-11-21T13:28:00.123456789Z``; the calendar is asked once a second."""

    def __init__(self) -> None:
        self._second = -1
        self._date = ""

    def stamp(self) -> bytes:
        second, nano = divmod(time.time_ns(), 1_000_000_000)
        if second != self._second:
            self._second = second
            self._date = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._date}.{nano:09}Z".encode()


class K8sFormat:
    """``TIME STREAM F|P text``: the bytes of the output, unchanged."""

    def encode(self, stream: int, data: bytes, stamp: bytes) -> bytes:
        prefix = b"%b %b " % (stamp, NAMES[stream])
        cut = data.rfind(b"\n")
        entries = b""
        if cut >= 0:
            whole = prefix + b"F "
            entries = whole + data[:cut].replace(b"\n", b"\n" + whole) + b"\n"
        if cut + 1 < len(data):
            entries += b"%bP %b\n" % (prefix, data[cut + 1 :])
        return entries


class JsonFormat:
    """Docker's object per line; bytes that are not UTF-8 become U+FFFD.

    A character cut in two by the end of a chunk waits for its other half.
    """

    def __init__(self) -> None:
        from _json import encode_basestring

        self._quote = encode_basestring
        self._halves = {1: b"", 2: b""}

    def encode(self, stream: int, data: bytes, stamp: bytes) -> bytes:
        data = self._halves[stream] + data
        cut = len(data) - _incomplete(data)
        self._halves[stream] = data[cut:]
        text = data[:cut].decode("utf-8", "replace")
        if not text:
            return b""
        tail = f'","stream":"{NAMES[stream].decode()}","time":"{stamp.decode()}"}}\n'
        # Ends of lines are marked inside one big string by a character that the
        # encoder leaves alone: DEL, which keeps ASCII text compact, or else a
        # lone surrogate, which no decoder makes.
        mark = "\ud800" if "\x7f" in text else "\x7f"
        quoted = self._quote(text.replace("\n", mark))[1:-1]
        whole = quoted.endswith(mark)
        entries = quoted[:-1] if whole else quoted
        entries = entries.replace(mark, "\\n" + tail + '{"log":"')
        return ('{"log":"' + entries + ("\\n" if whole else "") + tail).encode()


def _incomplete(data: bytes) -> int:
    """How many bytes at the end of ``data`` begin a UTF-8 character without ending it."""
    for back in range(1, min(4, len(data) + 1)):
        byte = data[-back]
        if byte >= 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return back if back < length else 0
        if byte < 0x80:
            break
    return 0


class FileLog(Log):
    """A log file with rotation by size: ``ctr.log``, ``ctr.log.1`` (older), …

    ``max_size`` 0 means no limit.  ``max_file`` counts all files; with one,
    what was logged before is given up.  A line is never cut by a rotation.
    """

    def __init__(
        self, path: str, encoder: K8sFormat | JsonFormat, max_size: int = 0, max_file: int = 1
    ) -> None:
        self._path = path
        self._format = encoder
        self._max_size = max_size
        self._max_file = max(max_file, 1)
        self._clock = Clock()
        self._lost = 0
        self._fd = -1
        self._size = 0
        self._open()

    @property
    def keeps_all(self) -> bool:  # type: ignore[override]
        return self._max_size == 0 and isinstance(self._format, K8sFormat) and not self._lost

    def open_to_read(self) -> int:
        return posix.open(self._path, posix.O_RDONLY | posix.O_CLOEXEC)

    def write(self, stream: int, data: bytes) -> None:
        self.start = self._size
        entries = self._format.encode(stream, data, self._clock.stamp())
        if self._lost:
            entries = self._confession() + entries
        try:
            self._put(entries)
        except OSError:
            self._lost += len(data)
        else:
            self._lost = 0

    def close(self) -> None:
        posix.close(self._fd)

    def _open(self) -> None:
        flags = posix.O_WRONLY | posix.O_CREAT | posix.O_APPEND | posix.O_CLOEXEC
        self._fd = posix.open(self._path, flags, 0o600)
        self._size = posix.fstat(self._fd).st_size

    def _confession(self) -> bytes:
        text = b"podpy: %d bytes of output could not be logged\n" % self._lost
        return self._format.encode(2, text, self._clock.stamp())

    def _put(self, entries: bytes) -> None:
        while self._max_size and self._size + len(entries) > self._max_size:
            room = entries.rfind(b"\n", 0, max(self._max_size - self._size, 0)) + 1
            if room == 0 and self._size:
                self._rotate()
                continue
            room = room or entries.find(b"\n") + 1  # a line longer than a file has one alone
            self._append(entries[:room])
            entries = entries[room:]
        self._append(entries)

    def _append(self, entries: bytes) -> None:
        written = 0
        try:
            while written < len(entries):
                written += posix.write(self._fd, entries[written:] if written else entries)
        except OSError:
            if written:  # half an entry would spoil the next one
                posix.ftruncate(self._fd, self._size)
            raise
        self._size += written

    def _rotate(self) -> None:
        """Make room for a new file; a reader holds on to the old one by its descriptor."""
        for number in range(self._max_file - 1, 0, -1):
            older = f"{self._path}.{number}"
            newer = f"{self._path}.{number - 1}" if number > 1 else self._path
            try:
                posix.rename(newer, older)
            except FileNotFoundError:
                pass
        if self._max_file == 1:
            posix.unlink(self._path)
        posix.close(self._fd)
        self._open()


class JournalLog(Log):
    """journald's native protocol: one datagram of ``FIELD=value`` lines per line of output."""

    def __init__(self, task: Mapping[str, Any]) -> None:
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
        self._socket.settimeout(_JOURNAL_PATIENCE)
        self._socket.connect(JOURNAL)
        tag = task["log"].get("tag") or task["name"]
        self._fields = (
            f"\nCONTAINER_ID={task['id'][:12]}\nCONTAINER_ID_FULL={task['id']}"
            f"\nCONTAINER_NAME={task['name']}\nCONTAINER_TAG={tag}\nSYSLOG_IDENTIFIER={tag}\n"
        ).encode()

    def write(self, stream: int, data: bytes) -> None:
        priority = b"\nPRIORITY=6" if stream == 1 else b"\nPRIORITY=3"
        fields = priority + self._fields
        *whole, partial = data.split(b"\n")
        try:
            for line in whole:
                self._socket.send(b"MESSAGE=" + line + fields)
            if partial:
                self._socket.send(
                    b"MESSAGE=" + partial + fields + b"CONTAINER_PARTIAL_MESSAGE=true\n"
                )
        except OSError:
            pass  # journald is gone or does not keep up: the payload is not stopped for it

    def close(self) -> None:
        self._socket.close()


def open_log(task: Mapping[str, Any]) -> Log:
    """The log that ``task["log"]`` describes: ``driver path max_size max_file tag``."""
    settings = task["log"]
    driver = settings["driver"]
    if driver == "journald":
        return JournalLog(task)
    if driver in ("k8s-file", "json-file"):
        encoder = K8sFormat() if driver == "k8s-file" else JsonFormat()
        return FileLog(
            settings["path"], encoder, settings.get("max_size", 0), settings.get("max_file", 1)
        )
    return Log()
