"""What stat(2) and statx(2) write into their caller's memory."""

from __future__ import annotations

import os
import struct

from podpy.records import record

_STAT = {
    # dev, ino, nlink, mode, uid, gid, rdev, size, blksize, blocks, then three times
    "x86_64": struct.Struct("=QQQIII4xQqqq6q24x"),
    # dev, ino, mode, nlink, uid, gid, rdev, size, blksize, blocks, then three times
    "aarch64": struct.Struct("=QQIIIIQ8xqi4xq6q8x"),
}
_STATX = struct.Struct("=IIQIIIHxxQQQQ" + "qIxxxx" * 4 + "IIII112x")
_STATX_BASIC_STATS = 0x7FF
_SECOND = 1_000_000_000


@record
class Shown:
    """A file's status, of which the owner, the mode and the device are told otherwise."""

    status: os.stat_result
    uid: int
    gid: int
    mode: int
    device: int


def stat(shown: Shown, machine: str) -> bytes:
    """``struct stat`` of a 64-bit machine."""
    s = shown.status
    kind = (shown.mode, s.st_nlink) if machine == "aarch64" else (s.st_nlink, shown.mode)
    times = [part for time in _times(s) for part in divmod(time, _SECOND)]
    return _STAT[machine].pack(
        s.st_dev, s.st_ino, *kind, shown.uid, shown.gid, shown.device,
        s.st_size, s.st_blksize, s.st_blocks, *times,
    )  # fmt: skip


def statx(shown: Shown) -> bytes:
    """``struct statx`` with the basic fields, which is what its mask says."""
    s = shown.status
    access, change, data = ((*divmod(time, _SECOND),) for time in _times(s, statx=True))
    return _STATX.pack(
        _STATX_BASIC_STATS, s.st_blksize, 0, s.st_nlink, shown.uid, shown.gid, shown.mode,
        s.st_ino, s.st_size, s.st_blocks, 0, *access, 0, 0, *change, *data,
        os.major(shown.device), os.minor(shown.device), os.major(s.st_dev), os.minor(s.st_dev),
    )  # fmt: skip


def _times(status: os.stat_result, *, statx: bool = False) -> tuple[int, int, int]:
    """Access, then change and modification in the order of the structure."""
    change, data = status.st_ctime_ns, status.st_mtime_ns
    return (status.st_atime_ns, change, data) if statx else (status.st_atime_ns, data, change)
