"""Calls as the kernel describes them, and statuses as it would write them."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from podpy.kernel import statbuf
from podpy.kernel.notify import Call, as_int
from podpy.kernel.statbuf import Shown


def test_a_notification_is_read_field_by_field() -> None:
    told = struct.pack("=QIIiIQ6Q", 7, 4242, 0, 260, 0xC000003E, 0xDEAD, 1, 2, 3, 4, 5, 6)
    call = Call(told)
    assert (call.id, call.pid, call.number, call.architecture) == (7, 4242, 260, 0xC000003E)
    assert call.arguments == (1, 2, 3, 4, 5, 6)


@pytest.mark.parametrize(
    ("register", "value"),
    [(0, 0), (5, 5), (0xFFFFFF9C, -100), (0xFFFFFFFFFFFFFF9C, -100), (1 << 32 | 3, 3)],
)
def test_an_int_is_the_low_half_of_its_register(register: int, value: int) -> None:
    assert as_int(register) == value


@pytest.fixture
def shown(tmp_path: Path) -> Shown:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 1234)
    os.utime(path, ns=(1_500_000_001, 2_600_000_002))
    return Shown(status=path.stat(), uid=101, gid=102, mode=0o020666, device=os.makedev(1, 3))


@pytest.mark.parametrize(
    ("machine", "size", "at"),
    [
        ("x86_64", 144, {"mode": 24, "uid": 28, "gid": 32, "nlink": 16, "rdev": 40, "size": 48}),
        ("aarch64", 128, {"mode": 16, "uid": 24, "gid": 28, "nlink": 20, "rdev": 32, "size": 48}),
    ],
)
def test_struct_stat(shown: Shown, machine: str, size: int, at: dict[str, int]) -> None:
    """Offsets of the kernel's own header (asm/stat.h)."""
    made = statbuf.stat(shown, machine)
    assert len(made) == size
    wanted = {"mode": 0o020666, "uid": 101, "gid": 102, "nlink": 1, "rdev": 0x103, "size": 1234}
    for name, value in wanted.items():
        form = "=Q" if name in ("rdev", "size") else "=I"
        assert struct.unpack_from(form, made, at[name])[0] == value, name
    times = 72
    assert struct.unpack_from("=4q", made, times) == (1, 500_000_001, 2, 600_000_002)


def test_struct_statx(shown: Shown) -> None:
    made = statbuf.statx(shown)
    assert len(made) == 256
    assert struct.unpack_from("=III", made, 16) == (1, 101, 102)  # links, uid, gid
    assert struct.unpack_from("=H", made, 28)[0] == 0o020666
    assert struct.unpack_from("=QQ", made, 32) == (shown.status.st_ino, 1234)
    assert struct.unpack_from("=qI", made, 64) == (1, 500_000_001)  # access
    assert struct.unpack_from("=qI", made, 112) == (2, 600_000_002)  # modification
    assert struct.unpack_from("=II", made, 128) == (1, 3)  # the device
