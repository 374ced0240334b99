"""Seccomp filters, answered for every system call number and compared with libseccomp's own."""

from __future__ import annotations

import ctypes.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from podpy.errors import UsageError
from podpy.kernel import bpf, libc, seccomp, seccomp_profile, seccomp_tables
from podpy.kernel import capabilities as caps
from podpy.kernel.seccomp_profile import TOKENS
from support import bpf as kernel

PROFILE = Path("/usr/share/containers/seccomp.json")
ABIS = {
    "x86_64": ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"),
    "aarch64": ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"),
}
NUMBERS = [*range(700), *range(0xF0000, 0xF0010)]
ARGUMENTS = [(), (8,), (0x20000,), (0xFFFFFFFF,), (3,), (16, 3, 9), (16, 3, 0), (2, 1, 9)]
EPERM, EINVAL, ENOSYS = (bpf.ERRNO | n for n in (1, 22, 38))

# Between containers-common 0.50 (Debian 12) and 0.62 (Debian 13), which the tables follow.
DROPPED = {"readdir", "sigaction", "sigpending", "sigsuspend", "syscall", "timerfd"}
MOVED = {"bpf", "perf_event_open"}
REFUSED = (
    "cachestat", "futex_requeue", "futex_wait", "futex_waitv", "futex_wake",
    "io_pgetevents_time64", "map_shadow_stack",
)  # fmt: skip
ADDED = [
    (["fchmodat2"], "ALLOW", {}, {}),
    (REFUSED, "ERRNO", {}, {}),
    (["bpf", "quotactl_fd"], "ALLOW", {"caps": ["CAP_SYS_ADMIN"]}, {}),
    (["perf_event_open", "quotactl_fd"], "ERRNO", {}, {"caps": ["CAP_SYS_ADMIN"]}),
    (["bpf", "perf_event_open"], "ERRNO", {}, {"caps": ["CAP_SYS_ADMIN", "CAP_BPF"]}),
    (["bpf"], "ALLOW", {"caps": ["CAP_BPF"]}, {}),
    (["perf_event_open"], "ALLOW", {"caps": ["CAP_PERFMON"]}, {}),
]

needs_profile = pytest.mark.skipif(
    not PROFILE.exists() or not ctypes.util.find_library("seccomp"),
    reason="needs containers-common's seccomp.json and libseccomp",
)


def answers(program: bytes, machine: str, arguments: tuple[int, ...]) -> dict[tuple, int]:
    instructions = kernel.decode(program)
    found = {}
    for abi in ABIS[machine]:
        token = TOKENS[abi.replace("X32", "X86_64")]
        base = 0x40000000 if abi.endswith("X32") else 0
        for number in NUMBERS:
            found[abi, number] = kernel.answer(instructions, base + number, token, arguments)
    return found


def current_profile() -> dict:
    """The installed profile; where it is Debian 12's, with what has changed since."""
    document = json.loads(PROFILE.read_text())
    rules = document["syscalls"]
    if not any("fchmodat2" in rule["names"] for rule in rules):
        for rule in rules:
            rule["names"] = [name for name in rule["names"] if name not in DROPPED | MOVED]
        for names, action, includes, excludes in ADDED:
            rule = {"names": names, "action": f"SCMP_ACT_{action}"}
            rules.append(rule | {"includes": includes, "excludes": excludes})
    return document


def unnamed() -> set[tuple[str, int]]:
    """libseccomp before 2.6 does not know that x32 has a map_shadow_stack."""
    number = libc.LibSeccomp(bpf.ALLOW).resolve(TOKENS["SCMP_ARCH_X32"], "map_shadow_stack")
    return {("SCMP_ARCH_X32", 453)} if number < 0 else set()


def by_libseccomp(machine: str, capabilities: frozenset[str]) -> bytes:
    profile = seccomp_profile.parse(current_profile(), capabilities, machine)
    return seccomp_profile.assemble(profile)


SETS = {
    "default": caps.DEFAULT,
    "none": (),
    "all": caps.NAMES,
    "admin": ("CAP_SYS_ADMIN",),
    "audit": ("CAP_AUDIT_WRITE",),
    "bpf": ("CAP_BPF",),
    "perfmon": ("CAP_PERFMON",),
    "admin-perfmon": ("CAP_SYS_ADMIN", "CAP_PERFMON"),
}


@needs_profile
@pytest.mark.parametrize("capabilities", SETS.values(), ids=SETS)
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_tables_answer_as_libseccomp_does(machine: str, capabilities) -> None:
    ours = seccomp_tables.assemble(machine, frozenset(capabilities))
    assert ours is not None
    reference = by_libseccomp(machine, frozenset(capabilities))
    for arguments in ARGUMENTS:
        found = answers(ours, machine, arguments)
        expected = answers(reference, machine, arguments)
        # Only what differs, not two tables of thousands.
        differing = {call: (found[call], expected[call]) for call in found}
        differing = {call: pair for call, pair in differing.items() if pair[0] != pair[1]}
        assert not differing.keys() - unnamed(), differing


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_shipped_program_is_current(machine: str) -> None:
    from podpy.kernel import seccomp_default

    assembled = seccomp_tables.assemble(machine, frozenset(caps.DEFAULT))
    assert seccomp_default.PROGRAMS[machine] == assembled


def default(number: int, *arguments: int, abi: str = "SCMP_ARCH_X86_64", extra=()) -> int:
    program = seccomp_tables.assemble("x86_64", frozenset((*caps.DEFAULT, *extra)))
    assert program is not None
    return kernel.answer(kernel.decode(program), number, TOKENS[abi], arguments)


def test_what_the_default_profile_says() -> None:
    assert default(0) == bpf.ALLOW  # read
    assert default(246) == EPERM  # kexec_load
    assert default(9999) == default(0xFFFFFFFF) == default(0x40000000 + 9999) == ENOSYS
    assert default(135, 0) == bpf.ALLOW  # personality(PER_LINUX)
    assert default(135, 0x0400000) == ENOSYS  # personality(READ_IMPLIES_EXEC)
    assert default(41, 16, 3, 9) == EINVAL  # socket(AF_NETLINK, SOCK_RAW, NETLINK_AUDIT)
    assert default(41, 1 << 32 | 16, 3, 9) == EINVAL  # the kernel does not see the high half
    assert default(41, 16, 3, 9, extra=["CAP_AUDIT_WRITE"]) == bpf.ALLOW
    assert default(321) == EPERM  # bpf
    assert default(321, extra=["CAP_SYS_ADMIN"]) == bpf.ALLOW
    assert default(0, abi="SCMP_ARCH_ARM") == bpf.KILL_THREAD
    assert default(452) == bpf.ALLOW  # fchmodat2
    assert default(449) == default(453) == default(0x40000000 + 453) == EPERM
    assert default(298) == default(298, extra=["CAP_PERFMON"]) == EPERM  # perf_event_open
    assert default(298, extra=["CAP_SYS_ADMIN"]) == ENOSYS
    assert default(298, extra=["CAP_SYS_ADMIN", "CAP_PERFMON"]) == bpf.ALLOW
    assert default(321, extra=["CAP_BPF"]) == bpf.ALLOW


@needs_profile
def test_a_program_is_smaller_than_libseccomps() -> None:
    ours = seccomp_tables.assemble("x86_64", frozenset(caps.DEFAULT))
    assert ours is not None
    assert len(ours) < len(by_libseccomp("x86_64", frozenset(caps.DEFAULT))) / 2


# --- users' profiles


def compiled(document: dict, capabilities=()) -> list:
    program = seccomp_profile.compile_text(json.dumps(document), frozenset(capabilities))
    return kernel.decode(program)


def ask(program: list, number: int, *arguments: int) -> int:
    native = seccomp_profile.NATIVE[os.uname().machine]
    return kernel.answer(program, number, TOKENS[native], arguments)


X86 = pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of x86_64")


@X86
@needs_profile
def test_calls_newer_than_an_eperm_profile_answer_enosys() -> None:
    document = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
        "syscalls": [{"names": ["read", "openat2"], "action": "SCMP_ACT_ALLOW"}],
    }
    program = compiled(document)
    assert ask(program, 0) == ask(program, 437) == bpf.ALLOW
    assert ask(program, 1) == EPERM
    assert ask(program, 438) == ask(program, 600) == ENOSYS
    assert kernel.answer(program, 3, TOKENS["SCMP_ARCH_X86"]) == bpf.ALLOW
    assert kernel.answer(program, 500, TOKENS["SCMP_ARCH_X86"]) == ENOSYS
    assert kernel.answer(program, 0, TOKENS["SCMP_ARCH_ARM"]) == bpf.KILL_THREAD
    permissive = compiled({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []})
    assert ask(permissive, 600) == bpf.ALLOW


@X86
@needs_profile
def test_conditions_on_arguments_and_capabilities() -> None:
    document = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            {
                "names": ["socket"],
                "action": "SCMP_ACT_ERRNO",
                "errnoRet": 97,
                "args": [
                    {"index": 0, "value": 40, "op": "SCMP_CMP_EQ"},
                    {"index": 0, "value": 41, "op": "SCMP_CMP_EQ"},
                ],
            },
            {
                "names": ["clone"],
                "action": "SCMP_ACT_ERRNO",
                "args": [
                    {"index": 0, "value": 0x10000000, "valueTwo": 0x10000000,
                     "op": "SCMP_CMP_MASKED_EQ"}
                ],
                "excludes": {"caps": ["CAP_SYS_ADMIN"]},
            },
            {"name": "chmod", "action": "SCMP_ACT_KILL_PROCESS", "includes": {"arches": ["s390x"]}},
        ],
    }  # fmt: skip
    program = compiled(document)
    assert ask(program, 41, 40) == ask(program, 41, 41) == bpf.ERRNO | 97
    assert ask(program, 41, 2) == bpf.ALLOW
    assert ask(program, 56, 0x10000011) == EPERM
    assert ask(program, 56, 0x11) == bpf.ALLOW
    assert ask(program, 90) == bpf.ALLOW
    assert ask(compiled(document, ["CAP_SYS_ADMIN"]), 56, 0x10000011) == bpf.ALLOW


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        {"defaultAction": "SCMP_ACT_SHRUG"},
        {"defaultAction": "SCMP_ACT_NOTIFY"},
        {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x"},
        {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": "EPERM"},
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "action": "NO"}]},
        {
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["read"], "name": "x", "action": "SCMP_ACT_LOG"}],
        },
        {
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [
                {"names": ["a"], "action": "SCMP_ACT_LOG", "args": [{"index": 6, "op": "x"}]}
            ],
        },
    ],
)
def test_a_profile_that_is_not_understood_is_refused(tmp_path, document) -> None:
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(document))
    with pytest.raises(UsageError, match=r"seccomp profile|not supported"):
        seccomp.read_profile(str(path))


def test_a_profile_that_cannot_be_read_is_refused(tmp_path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        seccomp.read_profile(str(tmp_path / "none"))
    (tmp_path / "text").write_text("{")
    with pytest.raises(UsageError, match="text: "):
        seccomp.read_profile(str(tmp_path / "text"))


@needs_profile
def test_compiled_profiles_are_cached_and_damage_is_noticed(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    profile = '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[]}'
    program = seccomp.for_container(profile, caps.DEFAULT)
    (cached,) = (tmp_path / "podpy/seccomp").iterdir()
    assert cached.stat().st_mode & 0o777 == 0o600
    whole = cached.read_bytes()
    assert whole.endswith(program)
    monkeypatch.setattr(seccomp_profile, "compile_text", lambda *_: b"compiled again")
    assert seccomp.for_container(profile, caps.DEFAULT) == program
    for damaged in (whole[:-1], whole[:40] + b"\0" + whole[41:], b"", b"x"):
        cached.write_bytes(damaged)
        assert seccomp.for_container(profile, caps.DEFAULT) == b"compiled again"
    cached.chmod(0o644)
    assert seccomp.for_container(profile, caps.DEFAULT) == b"compiled again"


def test_no_filter_at_all() -> None:
    assert seccomp.for_container("unconfined", ()) == b""


def test_the_kernel_takes_and_obeys_the_default_filter() -> None:
    script = (
        "import os, ctypes; from podpy.kernel import seccomp, libc, capabilities as c\n"
        "libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)\n"
        "libc.seccomp_set_filter(seccomp.default_filter(c.DEFAULT))\n"
        "call = ctypes.CDLL(None, use_errno=True).syscall\n"
        "assert call(9999) == -1 and ctypes.get_errno() == 38\n"
        "print(os.getpid() > 0)"
    )
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root)
    assert done.stdout == "True\n", done.stderr
