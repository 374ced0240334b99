"""The reading side of log files: whole runs of lines at once, hardly ever line by line.

What one ``write`` of the supervisor logged carries one time stamp.  Its entries
follow each other and begin (``k8s-file``) or end (``json-file``) with the same
bytes, so the end of a run is found in a few steps and its text laid bare by ``replace``.
Output cannot forge that: a line of the file always begins with an entry of ours.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    #: stream (1 or 2), time stamp, text: whole lines, or a part of one at the end
    Run: TypeAlias = tuple[int, bytes, bytes]
    Parser: TypeAlias = Callable[[bytes], Iterator[Run]]

_BLOCK = 1 << 20
_TAIL_BLOCK = 1 << 16
_STITCH = 1 << 20  # how much more is read for the beginning of a line logged in parts

_TAGS = {
    b" stdout F ": (1, True),
    b" stderr F ": (2, True),
    b" stdout P ": (1, False),
    b" stderr P ": (2, False),
}
_OPEN = b'{"log":"'
_FIELD = b'","stream":"'


def _last(block: bytes, marker: bytes, shift: int, newline: int) -> int:
    """The last newline of a run: of those, from a first one on, with ``marker`` beside them.

    The marker stands ``shift`` bytes from the newline.  Searched in steps that
    grow while they succeed: runs are short or very long, and neither may cost
    a look at every line.
    """
    step = 4096
    while step > 200:
        probe = block.find(b"\n", newline + step)
        if probe >= 0 and block.startswith(marker, probe + shift):
            newline = probe
            step *= 2
        else:
            step //= 4
    while (probe := block.find(b"\n", newline + 1)) >= 0:
        if not block.startswith(marker, probe + shift):
            break
        newline = probe
    return newline


def k8s_runs(block: bytes) -> Iterator[Run]:
    """The runs in whole entries of a ``k8s-file`` log: ``TIME STREAM F|P text``."""
    position = 0
    while position < len(block):
        end = block.index(b"\n", position)
        space = block.find(b" ", position, end)
        text = space + 10
        stream, is_whole = _TAGS.get(block[space:text], (0, True))
        stamp = block[position:space]
        if not stream:  # not ours: shown as it is
            yield 1, b"", block[position : end + 1]
        elif not is_whole:
            yield stream, stamp, block[text:end]
        else:
            marker = b"\n" + block[position:text]
            if block.startswith(marker, end):
                end = block.index(b"\n", _last(block, marker, 0, end) + 1)
            yield stream, stamp, block[text:end].replace(marker, b"\n") + b"\n"
        position = end + 1


def json_runs(block: bytes) -> Iterator[Run]:
    """The runs in whole entries of a ``json-file`` log: docker's object per line."""
    from _json import scanstring

    position = 0
    while position < len(block):
        end = block.index(b"\n", position)
        field = block.rfind(_FIELD, position, end)
        if field < 0 or not block.startswith(_OPEN, position):
            yield 1, b"", block[position : end + 1]
            position = end + 1
            continue
        marker = block[field : end + 1]
        stream, _, stamp = marker[len(_FIELD) : -3].partition(b'","time":"')
        end = _last(block, marker, 1 - len(marker), end)
        last = end + 1 - len(marker)
        quoted = block[position + len(_OPEN) : last].replace(marker + _OPEN, b"")
        text = scanstring(quoted.decode("utf-8", "replace") + '"', 0, False)[0]
        yield 2 if stream == b"stderr" else 1, stamp, text.encode("utf-8", "surrogatepass")
        position = end + 1


PARSERS: dict[str, Parser] = {"k8s-file": k8s_runs, "json-file": json_runs}


class Cursor:
    """A place in one open log file, behind a whole entry."""

    def __init__(self, fd: int, offset: int = 0) -> None:
        self.fd = fd
        self.offset = offset

    def blocks(self) -> Iterator[bytes]:
        """Whole entries from here to the present end of the file."""
        rest = b""
        while block := os.pread(self.fd, _BLOCK, self.offset + len(rest)):
            block = rest + block
            cut = block.rfind(b"\n") + 1
            rest = block[cut:]
            self.offset += cut
            if cut:
                yield block[:cut]

    def close(self) -> None:
        os.close(self.fd)


class LogFile:
    """A container's log with its rotated files, oldest first, read on as it grows.

    ``since`` and ``until`` are time stamps as logged (they compare as bytes);
    empty means no bound.  ``tail`` is a number of lines; -1 means all.
    """

    def __init__(
        self, path: str, driver: str, *, since: bytes = b"", until: bytes = b"", tail: int = -1
    ) -> None:
        self._path = path
        self._parse = PARSERS[driver]
        self._since = since
        self._until = until
        self._tail = tail
        self._cursors = self._open_files()

    def runs(self) -> Iterator[Run]:
        """What has been logged since the last call, within the bounds asked for."""
        if self._tail >= 0:
            wanted, self._tail = self._tail, -1
            yield from _last_lines(self._cursors, self._runs, wanted)
        while self._cursors:
            for block in self._cursors[0].blocks():
                yield from self._runs(block)
            if len(self._cursors) == 1 and not self._find_newer():
                return
            # Rotated away: what came between our last read and that is still due.
            for block in self._cursors[0].blocks():
                yield from self._runs(block)
            self._cursors.pop(0).close()

    def close(self) -> None:
        while self._cursors:
            self._cursors.pop().close()

    def _runs(self, block: bytes) -> Iterator[Run]:
        runs = self._parse(block)
        since, until = self._since, self._until
        if not since and not until:
            return runs
        return (run for run in runs if run[1] >= since and not (until and run[1] > until))

    # --- files ---------------------------------------------------------------

    def _open_files(self, known: int = 0) -> list[Cursor]:
        """The files, oldest first, down to the one with inode ``known``, which is left out.

        Opened from the newest: a rotation meanwhile shows one file twice, and none never.
        """
        cursors: list[Cursor] = []
        seen = {known}
        number = 0
        while True:
            try:
                fd = os.open(f"{self._path}.{number}" if number else self._path, os.O_RDONLY)
            except FileNotFoundError:
                if number:
                    break
                number += 1
                continue
            inode = os.fstat(fd).st_ino
            if inode in seen:
                os.close(fd)
                if inode == known:
                    break
            else:
                seen.add(inode)
                cursors.insert(0, Cursor(fd))
            number += 1
        return cursors

    def _find_newer(self) -> bool:
        """Whether files newer than the one at hand have come; they are queued."""
        inode = os.fstat(self._cursors[0].fd).st_ino
        try:
            if os.stat(self._path).st_ino == inode:
                return False
        except FileNotFoundError:
            return False  # removed, or just being rotated: then somebody will tell us again
        newer = self._open_files(known=inode)
        self._cursors += newer
        return bool(newer)


def _last_lines(cursors: list[Cursor], runs_of: Parser, wanted: int) -> list[Run]:
    """The last ``wanted`` lines of some files, read from the end; the cursors move there.

    Lines that were logged in parts are put together.
    """
    ends = [_last_entry_end(cursor.fd) for cursor in cursors]
    reach = _TAIL_BLOCK
    while True:
        is_all = reach >= sum(ends)
        lines, certain = _assemble(runs_of(_read_back(cursors, ends, reach)), is_all)
        enough = len(lines) >= wanted and (reach > _STITCH or all(certain[-wanted:]))
        if is_all or enough or not wanted:
            break
        reach *= 4
    for cursor, end in zip(cursors, ends):
        cursor.offset = end
    return lines[max(len(lines) - wanted, 0) :]


def _last_entry_end(fd: int) -> int:
    """Where the last whole entry of a file ends; what follows is just being written."""
    end = os.fstat(fd).st_size
    while end:
        start = max(end - _TAIL_BLOCK, 0)
        newline = os.pread(fd, end - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def _read_back(cursors: list[Cursor], ends: list[int], reach: int) -> bytes:
    """The last ``reach`` bytes of all files together, without the entry they begin within."""
    blocks: list[bytes] = []
    for cursor, end in zip(reversed(cursors), reversed(ends)):
        start = max(end - reach, 0)
        block = os.pread(cursor.fd, end - start, start)
        if start:
            block = block[block.find(b"\n") + 1 :]
        blocks.insert(0, block)
        reach -= end - start
        if reach <= 0:
            break
    return b"".join(blocks)


def _assemble(runs: Iterator[Run], is_all: bool) -> tuple[list[Run], list[bool]]:
    """Single lines, and for each whether its beginning is certain to be there."""
    lines: list[Run] = []
    certain: list[bool] = []
    parts = {1: b"", 2: b""}
    stamps = {1: b"", 2: b""}
    begun = {1: is_all, 2: is_all}
    for stream, stamp, text in runs:
        *whole, rest = text.split(b"\n")
        for line in whole:
            lines.append((stream, stamp, parts[stream] + line + b"\n"))
            certain.append(begun[stream])
            parts[stream] = b""
            begun[stream] = True
        parts[stream] += rest
        stamps[stream] = stamp
    for stream in (1, 2):
        if parts[stream]:
            lines.append((stream, stamps[stream], parts[stream]))
            certain.append(begun[stream])
    return lines, certain
