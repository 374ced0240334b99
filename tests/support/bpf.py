"""What the kernel answers when a seccomp program is run on a system call."""

from __future__ import annotations

import struct
from collections.abc import Sequence

LOAD, AND, JUMP, RETURN = 0x20, 0x54, 0x05, 0x06
CONDITIONS = {
    0x15: lambda accumulator, value: accumulator == value,
    0x25: lambda accumulator, value: accumulator > value,
    0x35: lambda accumulator, value: accumulator >= value,
    0x45: lambda accumulator, value: accumulator & value != 0,
}


def decode(program: bytes) -> list[tuple[int, int, int, int]]:
    return list(struct.iter_unpack("=HBBI", program))


def answer(
    instructions: Sequence[tuple[int, int, int, int]],
    number: int,
    architecture: int,
    arguments: Sequence[int] = (),
) -> int:
    words = [number & 0xFFFFFFFF, architecture, 0, 0]
    for value in (*arguments, 0, 0, 0, 0, 0, 0)[:6]:
        words += [value & 0xFFFFFFFF, value >> 32 & 0xFFFFFFFF]
    accumulator = position = 0
    while True:
        code, yes, no, value = instructions[position]
        position += 1
        if code == RETURN:
            return value
        if code == LOAD:
            accumulator = words[value // 4]
        elif code == AND:
            accumulator &= value
        elif code == JUMP:
            position += value
        else:
            position += yes if CONDITIONS[code](accumulator, value) else no
