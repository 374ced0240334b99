#!/usr/bin/env python3
"""Write podpy/kernel/seccomp_{numbers,default}.py from containers-common's seccomp.json.

    python3 packaging/seccomp_tables.py [/usr/share/containers/seccomp.json]

Run it when the profile or the names libseccomp knows have changed; a unit test
compares the result with what libseccomp itself makes of the profile.  Last run on
Debian 13: containers-common 0.62.2 (podman 5.4.2), libseccomp 2.6.0.
"""

from __future__ import annotations

import ctypes
import json
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from podpy.kernel import capabilities, seccomp_profile  # noqa: E402

PROFILE = "/usr/share/containers/seccomp.json"
#: Calls whose rule is more than one capability: seccomp_tables has a rule by each name.
OWN_RULES = ("bpf", "perf_event_open", "personality", "socket")
ABIS = {
    "x86_64": ("SCMP_ARCH_X86_64", "SCMP_ARCH_X32", "SCMP_ARCH_X86"),
    "aarch64": ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"),
}
HIGHEST = {"SCMP_ARCH_ARM": 0xF0010}  # set_tls and its neighbours lie apart
HEADER = '''"""{}

Written by packaging/seccomp_tables.py.
"""

from __future__ import annotations

# fmt: off
'''


def known_calls(abi: str) -> dict[int, str]:
    """Every system call number of an ABI that libseccomp has a name for."""
    library = ctypes.CDLL("libseccomp.so.2")
    resolve = library.seccomp_syscall_resolve_num_arch
    resolve.restype, resolve.argtypes = ctypes.c_void_p, [ctypes.c_uint32, ctypes.c_int]
    library.free = ctypes.CDLL(None).free
    library.free.argtypes = [ctypes.c_void_p]
    base = seccomp_profile.X32_BIT if abi == "SCMP_ARCH_X32" else 0
    calls = {}
    for number in range(base, base + HIGHEST.get(abi, 1024)):
        pointer = resolve(seccomp_profile.TOKENS[abi], number)
        if pointer:
            calls[number] = ctypes.string_at(pointer).decode()
            library.free(pointer)
    return calls


def rules(document: dict, machine: str) -> dict[str, str]:
    """Which rule of ``seccomp_tables.RULES`` holds for each name of the profile."""
    here = seccomp_profile.GO_NAMES[machine]
    found: dict[str, str] = {}
    for entry in document["syscalls"]:
        arches = entry["includes"].get("arches")
        if arches and here not in arches:
            continue
        needs = entry["includes"].get("caps") or entry["excludes"].get("caps")
        for name in entry["names"]:
            if name in OWN_RULES:
                rule = name
            elif needs:
                rule = needs[0]
            else:
                rule = "allow" if entry["action"] == "SCMP_ACT_ALLOW" else "eperm"
            found.setdefault(name, rule)  # libseccomp keeps the first of two rules
    return found


def table(document: dict, machine: str, abi: str) -> list[tuple[int, str]]:
    """(first number, rule) wherever the rule changes."""
    by_name = rules(document, machine)
    by_number = {n: by_name.get(name, "enosys") for n, name in known_calls(abi).items()}
    runs: list[tuple[int, str]] = [(0, "enosys")]
    for number in sorted(by_number):
        for at in (number, number + 1):
            rule = by_number.get(at, "enosys")
            if runs[-1][0] == at:
                runs.pop()
            if not runs or runs[-1][1] != rule:
                runs.append((at, rule))
    return runs


def tables(document: dict) -> str:
    lines = []
    for machine, abis in ABIS.items():
        joined: dict[int, list[tuple[int, str]]] = {}
        for abi in abis:
            token = seccomp_profile.TOKENS[abi.replace("X32", "X86_64")]
            runs = table(document, machine, abi)
            joined[token] = [*joined[token], *runs[1:]] if token in joined else runs
        lines.append(f'    "{machine}": (')
        for token, runs in joined.items():
            lines += [f"        ({token:#X},".replace("0X", "0x"), "         ("]
            text = " ".join(f'({start:#x},~"{rule}"),' for start, rule in runs)
            wrapped = textwrap.wrap(text, 87, break_long_words=False, break_on_hyphens=False)
            lines += ["          " + line.replace("~", " ") for line in wrapped]
            lines += ["         )),"]
        lines.append("    ),")
    return "\n".join(lines)


def write(document: dict) -> None:
    target = ROOT / "podpy/kernel/seccomp_numbers.py"
    target.write_text(
        HEADER.format(
            "The default profile by system call number: (first number, rule) where it changes.\n\n"
            "The facts of containers-common's seccomp.json."
        )
        + "TABLES: dict[str, tuple[tuple[int, tuple[tuple[int, str], ...]], ...]] = {\n"
        + tables(document)
        + "\n}\n"
    )
    from podpy.kernel import seccomp_tables

    programs = []
    for machine in ABIS:
        program = seccomp_tables.assemble(machine, frozenset(capabilities.DEFAULT))
        assert program is not None
        programs.append(f'    "{machine}": bytes.fromhex(')
        programs += [f'        "{line}"' for line in textwrap.wrap(program.hex(), 80)]
        programs.append("    ),")
    (ROOT / "podpy/kernel/seccomp_default.py").write_text(
        HEADER.format("The default filter for the default capabilities, assembled.")
        + "PROGRAMS = {\n" + "\n".join(programs) + "\n}\n"
    )  # fmt: skip


if __name__ == "__main__":
    write(json.loads(Path(sys.argv[1] if len(sys.argv) > 1 else PROFILE).read_text()))
