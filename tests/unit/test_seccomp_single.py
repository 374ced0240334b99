"""The filter of single-id mode, run as the kernel would run it."""

from __future__ import annotations

import ctypes
import ctypes.util

import pytest

from podpy.kernel import bpf as kernel_bpf
from podpy.kernel import seccomp, seccomp_single
from podpy.kernel.capabilities import DEFAULT
from support import bpf

ALLOW, NOTIFY, DONE = kernel_bpf.ALLOW, kernel_bpf.USER_NOTIFY, kernel_bpf.ERRNO
MACHINES = ("x86_64", "aarch64")
CHARACTER, BLOCK, FIFO = 0o020644, 0o060600, 0o010644
#: The order of seccomp(2), the strictest first.
STRICTNESS = (0x80000000, 0, 0x30000, 0x50000, 0x7FC00000, 0x7FF00000, 0x7FFC0000, 0x7FFF0000)


def answer(machine: str, token: int, number: int, *arguments: int) -> int:
    program = bpf.decode(seccomp_single.program(machine))
    return bpf.answer(program, number, token, arguments)


def architectures() -> list[tuple[str, int]]:
    return [
        (machine, token)
        for machine in MACHINES
        for token in {token for token, _ in seccomp_single.calls(machine)}
    ]


@pytest.mark.parametrize(("machine", "token"), architectures())
def test_every_number_has_its_answer_and_no_other_has_one(machine: str, token: int) -> None:
    numbers = seccomp_single.NUMBERS[token]
    waiting = {number for arch, number in seccomp_single.calls(machine) if arch == token}
    for number in range(600):
        got = answer(machine, token, number, 0, CHARACTER, CHARACTER)
        if number in waiting:
            assert got == NOTIFY
        elif number in numbers.values():
            assert got == DONE
        else:
            assert got == ALLOW


@pytest.mark.parametrize(("machine", "token"), architectures())
def test_only_devices_wait_for_an_answer(machine: str, token: int) -> None:
    numbers = seccomp_single.NUMBERS[token]
    for name, index in (("mknod", 1), ("mknodat", 2)):
        if name not in numbers:
            continue
        for mode, expected in ((CHARACTER, NOTIFY), (BLOCK, NOTIFY), (FIFO, ALLOW), (0, ALLOW)):
            arguments = [0] * 6
            arguments[index] = mode
            assert answer(machine, token, numbers[name], *arguments) == expected


def test_the_upper_half_of_the_mode_is_not_looked_at() -> None:
    mode = CHARACTER | 1 << 40
    assert answer("x86_64", seccomp_single.X86_64, 133, 0, mode) == NOTIFY


def test_unknown_architectures_and_x32_are_the_profiles_business() -> None:
    assert answer("x86_64", 0x1234, 92) == ALLOW
    assert answer("x86_64", seccomp_single.X86_64, 0x40000000 + 92) == ALLOW


def test_becoming_somebody_else_returns_zero() -> None:
    assert DONE & 0xFFFF == 0
    assert answer("x86_64", seccomp_single.X86_64, 105, 33) == DONE


def test_a_machine_without_numbers_has_no_filter() -> None:
    assert seccomp_single.program("riscv64") == b""
    assert seccomp_single.calls("riscv64") == {}


def test_what_the_profile_refuses_stays_refused() -> None:
    """The kernel takes the strictest answer, and of equal ones that of the later filter."""
    profile = bpf.decode(seccomp.default_filter(()))
    token = seccomp_single.X86_64
    number = seccomp_single.NUMBERS[token]["chroot"]  # needs a capability in the profile
    later, earlier = bpf.answer(profile, number, token), answer("x86_64", token, number)
    strictest = min((later, earlier), key=lambda each: STRICTNESS.index(each & 0xFFFF0000))
    assert (earlier, strictest) == (NOTIFY, kernel_bpf.ERRNO | 1)


def test_the_default_profile_lets_every_recorded_call_through() -> None:
    profile = bpf.decode(seccomp.default_filter(DEFAULT))
    token = seccomp_single.X86_64
    for name, number in seccomp_single.NUMBERS[token].items():
        if name not in ("pivot_root", "setns"):
            assert bpf.answer(profile, number, token) == ALLOW, name


@pytest.mark.parametrize(("machine", "token"), architectures())
def test_the_numbers_are_libseccomps(machine: str, token: int) -> None:
    library = ctypes.util.find_library("seccomp")
    if not library:
        pytest.skip("needs libseccomp")
    resolve = ctypes.CDLL(library).seccomp_syscall_resolve_name_arch
    narrow = token in (seccomp_single.I386, seccomp_single.ARM)
    wide = {"mknod", "mknodat", "fchownat", "statx", "chroot", "pivot_root", "setns"}
    for name, number in seccomp_single.NUMBERS[token].items():
        full = f"{name}32" if narrow and name not in wide else name
        assert resolve(ctypes.c_uint32(token), full.encode()) == number, full
