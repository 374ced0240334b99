"""The filter of a namespace with one id: who owns what is asked of another process.

Where only root is mapped, the kernel refuses every other owner.  Calls that
give one, or that make a device, wait for an answer
(:mod:`podpy.kernel.notify`); so do those that tell an owner, for programs that
copy it, and those that change what a path means.  Becoming somebody else
succeeds and changes nothing: there is nobody else, and the kernel is not asked.

It is loaded before the container's own profile.  Of several filters the
strictest answer counts, and of equally strict ones that of the filter loaded
last: what the profile refuses stays refused.
"""

from __future__ import annotations

from podpy.kernel import bpf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podpy.kernel.bpf import Program

#: Calls of which a process is told that they succeeded.
_DONE = (
    "setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid",
    "setfsuid", "setfsgid", "setgroups",
)  # fmt: skip
_FORMAT, _CHARACTER, _BLOCK = 0o170000, 0o020000, 0o060000

X86_64, I386, AARCH64, ARM = 0xC000003E, 0x40000003, 0xC00000B7, 0x40000028

# Numbers from the kernel's tables (arch/*/…/syscall*.tbl, asm-generic/unistd.h).
_32_BIT = {
    "mknod": 14, "lchown": 198, "fchown": 207, "chown": 212, "setreuid": 203, "setregid": 204,
    "setgroups": 206, "setresuid": 208, "setresgid": 210, "setuid": 213, "setgid": 214,
    "setfsuid": 215, "setfsgid": 216, "chroot": 61,
}  # fmt: skip
NUMBERS: dict[int, dict[str, int]] = {
    X86_64: {
        "stat": 4, "fstat": 5, "lstat": 6, "newfstatat": 262, "statx": 332,
        "chown": 92, "fchown": 93, "lchown": 94, "fchownat": 260, "mknod": 133, "mknodat": 259,
        "setuid": 105, "setgid": 106, "setreuid": 113, "setregid": 114, "setgroups": 116,
        "setresuid": 117, "setresgid": 119, "setfsuid": 122, "setfsgid": 123,
        "chroot": 161, "pivot_root": 155, "setns": 308,
    },
    I386: {
        **_32_BIT, "mknodat": 297, "fchownat": 298, "statx": 383, "pivot_root": 217, "setns": 346,
    },
    AARCH64: {
        "newfstatat": 79, "fstat": 80, "statx": 291, "mknodat": 33, "fchownat": 54, "fchown": 55,
        "setregid": 143, "setgid": 144, "setreuid": 145, "setuid": 146, "setresuid": 147,
        "setresgid": 149, "setfsuid": 151, "setfsgid": 152, "setgroups": 159,
        "chroot": 51, "pivot_root": 41, "setns": 268,
    },
    ARM: {
        **_32_BIT, "mknodat": 324, "fchownat": 325, "statx": 397, "pivot_root": 218, "setns": 375,
    },
}  # fmt: skip
_ARCHITECTURES = {"x86_64": (X86_64, I386), "aarch64": (AARCH64, ARM)}


def calls(machine: str) -> dict[tuple[int, int], str]:
    """The names of the calls that wait for an answer, by architecture and number."""
    return {
        (token, number): name
        for token in _ARCHITECTURES.get(machine, ())
        for name, number in NUMBERS[token].items()
        if name not in _DONE
    }


def program(machine: str) -> bytes:
    """The filter; empty for a machine whose numbers are not known."""
    tokens = _ARCHITECTURES.get(machine, ())
    if not tokens:
        return b""
    searches = [(token, bpf.search(_table(NUMBERS[token]))) for token in tokens]
    return bpf.encode(bpf.by_architecture(searches, others=bpf.ALLOW))


def _table(numbers: dict[str, int]) -> list[tuple[int, Program]]:
    """From which number on which answer holds."""
    allow = bpf.answer(bpf.ALLOW)
    table = [(0, allow)]
    for number, name in sorted((number, name) for name, number in numbers.items()):
        if table[-1][0] == number:
            table.pop()
        table += [(number, _answer(name)), (number + 1, allow)]
    return table


def _answer(name: str) -> Program:
    if name in _DONE:
        return bpf.answer(bpf.ERRNO)  # with the errno 0: it returns 0
    if name in ("mknod", "mknodat"):
        return _of_devices(argument=1 if name == "mknod" else 2)
    return bpf.answer(bpf.USER_NOTIFY)


def _of_devices(argument: int) -> Program:
    """FIFOs, sockets and files are the kernel's business."""
    return [
        (bpf.LOAD, 0, 0, bpf.ARGUMENTS + 8 * argument),
        (bpf.AND, 0, 0, _FORMAT),
        (bpf.JUMP_EQUAL, 2, 0, _CHARACTER),
        (bpf.JUMP_EQUAL, 1, 0, _BLOCK),
        *bpf.answer(bpf.ALLOW),
        *bpf.answer(bpf.USER_NOTIFY),
    ]
