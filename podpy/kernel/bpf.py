"""Seccomp programs in classic BPF, assembled from tables of system call numbers.

A table says from which number on which rule holds.  Neighbours with the same
outcome are merged and found by binary search, so that a filter is some hundred
instructions and a call passes about eight of them; the kernel, which tries
every number when a filter is loaded to remember what is always allowed, is
done sooner as well.
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Instruction = tuple[int, int, int, int]
    Program = list[Instruction]

# linux/filter.h, linux/bpf_common.h
LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
JUMP = 0x05  # BPF_JMP | BPF_JA
JUMP_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
JUMP_GREATER = 0x25  # BPF_JMP | BPF_JGT | BPF_K
JUMP_NOT_LESS = 0x35  # BPF_JMP | BPF_JGE | BPF_K
AND = 0x54  # BPF_ALU | BPF_AND | BPF_K
RETURN = 0x06  # BPF_RET | BPF_K
FARTHEST = 255

# linux/seccomp.h: struct seccomp_data and the actions
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16
KILL_PROCESS = 0x80000000
KILL_THREAD = 0x00000000
TRAP = 0x00030000
ERRNO = 0x00050000
USER_NOTIFY = 0x7FC00000
TRACE = 0x7FF00000
LOG = 0x7FFC0000
ALLOW = 0x7FFF0000


def encode(program: Program) -> bytes:
    """``struct sock_filter`` of this machine's byte order."""
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def answer(action: int) -> Program:
    return [(RETURN, 0, 0, action)]


def argument_is_one_of(index: int, values: Sequence[int], yes: Program, no: Program) -> Program:
    """``yes`` when the low half of an argument is among ``values``.

    The high half is not looked at: an ``int`` argument has none for the kernel,
    and a comparison of all 64 bits could be avoided by setting it.
    """
    tests = [
        (JUMP_EQUAL, len(values) - 1 - position + len(no), 0, value)
        for position, value in enumerate(values)
    ]
    return [(LOAD, 0, 0, ARGUMENTS + 8 * index), *tests, *no, *yes]


def search(table: Sequence[tuple[int, Program]]) -> Program:
    """Find the last entry whose number is not above the system call's, and run it.

    ``table`` is sorted and begins at number 0; the number is in the accumulator.
    """
    merged: list[tuple[int, Program]] = []
    for start, program in table:
        if not merged or merged[-1][1] != program:
            merged.append((start, program))
    return _search(merged)


def _search(table: Sequence[tuple[int, Program]]) -> Program:
    if len(table) == 1:
        return table[0][1]
    middle = len(table) // 2
    low, high = _search(table[:middle]), _search(table[middle:])
    if len(low) <= FARTHEST:
        return [(JUMP_NOT_LESS, len(low), 0, table[middle][0]), *low, *high]
    return [(JUMP_NOT_LESS, 0, 1, table[middle][0]), (JUMP, 0, 0, len(low)), *low, *high]


def by_architecture(programs: Sequence[tuple[int, Program]], others: int = KILL_THREAD) -> Program:
    """The program of the caller's architecture, with the call's number loaded.

    ``others`` is the answer to callers of an architecture that is not there.
    """
    result: Program = answer(others)
    for token, program in reversed(programs):
        body: Program = [(LOAD, 0, 0, NUMBER), *program]
        result = [(JUMP_EQUAL, 1, 0, token), (JUMP, 0, 0, len(body)), *body, *result]
    return [(LOAD, 0, 0, ARCHITECTURE), *result]
