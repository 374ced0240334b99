"""Users' own seccomp profiles: docker's JSON format, compiled by libseccomp.

Format: docker's ``default.json`` and the OCI runtime specification's
``linux.seccomp``.  Rules may depend on the machine, the container's capabilities
and the kernel version (``includes``, ``excludes``).  Not on the hot path: the
result is cached by :mod:`podpy.kernel.seccomp`.
"""

from __future__ import annotations

import os

from podpy import files
from podpy.errors import HostError, PodpyError, UsageError
from podpy.kernel import bpf, libc
from podpy.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

EPERM, ENOSYS = 1, 38

ACTIONS = {
    "SCMP_ACT_ALLOW": bpf.ALLOW,
    "SCMP_ACT_ERRNO": bpf.ERRNO,
    "SCMP_ACT_KILL": bpf.KILL_THREAD,
    "SCMP_ACT_KILL_THREAD": bpf.KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": bpf.KILL_PROCESS,
    "SCMP_ACT_LOG": bpf.LOG,
    "SCMP_ACT_TRACE": bpf.TRACE,
    "SCMP_ACT_TRAP": bpf.TRAP,
}
OPERATORS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}
# linux/audit.h; x32 shares x86_64's token and libseccomp names it apart.
TOKENS = {
    "SCMP_ARCH_X86": 0x40000003,
    "SCMP_ARCH_X86_64": 0xC000003E,
    "SCMP_ARCH_X32": 0x4000003E,
    "SCMP_ARCH_ARM": 0x40000028,
    "SCMP_ARCH_AARCH64": 0xC00000B7,
}
NATIVE = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}
GO_NAMES = {"x86_64": "amd64", "aarch64": "arm64"}
X32_BIT = 0x40000000

_PROFILE_KEYS = frozenset(
    (
        *("defaultAction", "defaultErrnoRet", "defaultErrno"),
        *("archMap", "architectures", "syscalls", "flags"),
    )
)
_RULE_KEYS = frozenset(
    ("names", "name", "action", "errnoRet", "errno", "args", "includes", "excludes", "comment")
)


@record
class Rule:
    """One action for some system calls; every comparison must hold.

    A comparison is (argument, operator, value, second value).
    """

    names: tuple[str, ...]
    action: int
    comparisons: tuple[tuple[int, int, int, int], ...] = ()


@record
class Profile:
    """What is left of a profile on this machine, for these capabilities."""

    default_action: int
    architectures: tuple[str, ...]
    rules: tuple[Rule, ...]


def read(path: str) -> str:
    """The profile in a file, checked, as compact JSON."""
    try:
        document = files.loads(files.read_bytes(path, limit=4 << 20))
    except OSError as error:
        raise UsageError(f"seccomp profile {path}: {error.strerror}") from None
    except (ValueError, PodpyError) as error:
        raise UsageError(f"seccomp profile {path}: {error}") from None
    parse(document, frozenset(), os.uname().machine)
    return files.dumps(document)


def compile_text(text: str, capabilities: frozenset[str]) -> bytes:
    """The BPF program of a profile for the running machine."""
    profile = parse(files.loads(text), capabilities, os.uname().machine)
    return assemble(profile)


def parse(document: Any, capabilities: frozenset[str], machine: str) -> Profile:
    """Resolve a profile's conditions; :class:`UsageError` for anything not understood."""
    _require(isinstance(document, dict), "is not a JSON object")
    _only(document, _PROFILE_KEYS)
    _require(not document.get("flags"), "flags are not supported")
    default_action = _action(document, "defaultAction", document.get("defaultErrnoRet"))
    rules: list[Rule] = []
    for entry in document.get("syscalls") or ():
        _require(isinstance(entry, dict), "has a rule that is not an object")
        if _applies(entry, capabilities, machine):
            rules += _rules(entry)
    return Profile(
        default_action=default_action,
        architectures=tuple(dict.fromkeys(_architectures(document, machine))),
        rules=tuple(rule for rule in rules if rule.action != default_action),
    )


def _require(condition: object, what: str) -> None:
    if not condition:
        raise UsageError(f"seccomp profile: {what}")


def _only(document: dict[str, Any], known: frozenset[str]) -> None:
    for key in document:
        _require(key in known, f"{key!r} is not supported")


def _action(document: dict[str, Any], key: str, errno: Any) -> int:
    name = document.get(key)
    _require(name in ACTIONS, f"{key} {name!r} is not supported")
    action = ACTIONS[str(name)]
    if action in (bpf.ERRNO, bpf.TRACE):
        number = EPERM if errno is None else errno
        _require(isinstance(number, int) and 0 <= number < 4096, f"errno {number!r}")
        action |= number
    return action


def _architectures(document: dict[str, Any], machine: str) -> Iterator[str]:
    """The machine's own architecture, and those the profile adds to it."""
    if machine not in NATIVE:
        raise HostError(f"seccomp profiles are not supported on {machine}")
    native = NATIVE[machine]
    listed, mapped = document.get("architectures"), document.get("archMap")
    _require(not (listed and mapped), "has both architectures and archMap")
    yield native
    for entry in mapped or ():
        if entry.get("architecture") == native:
            yield from (name for name in entry.get("subArchitectures") or () if name in TOKENS)
    # A name of another machine's architecture can never be met on this one.
    yield from (name for name in listed or () if name in TOKENS and name != native)


def _applies(entry: dict[str, Any], capabilities: frozenset[str], machine: str) -> bool:
    _only(entry, _RULE_KEYS)
    includes, excludes = entry.get("includes") or {}, entry.get("excludes") or {}
    for conditions in (includes, excludes):
        _only(conditions, frozenset(("caps", "arches", "minKernel")))
    here = GO_NAMES[machine]
    return not (
        (includes.get("caps") and not capabilities.issuperset(includes["caps"]))
        or (includes.get("arches") and here not in includes["arches"])
        or (includes.get("minKernel") and _kernel() < _version(includes["minKernel"]))
        or not capabilities.isdisjoint(excludes.get("caps") or ())
        or here in (excludes.get("arches") or ())
        or (excludes.get("minKernel") and _kernel() >= _version(excludes["minKernel"]))
    )


def _kernel() -> tuple[int, int]:
    return _version(".".join(os.uname().release.split("-")[0].split(".")[:2]))


def _version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    _require(major.isdigit() and minor.isdigit(), f"kernel version {text!r}")
    return int(major), int(minor)


def _rules(entry: dict[str, Any]) -> Iterator[Rule]:
    names = tuple(entry.get("names") or ())
    _require(not (names and entry.get("name")), "has a rule with both name and names")
    names = names or ((entry["name"],) if entry.get("name") else ())
    action = _action(entry, "action", entry.get("errnoRet"))
    comparisons = tuple(_comparison(argument) for argument in entry.get("args") or ())
    if len({comparison[0] for comparison in comparisons}) == len(comparisons):
        yield Rule(names=names, action=action, comparisons=comparisons)
        return
    # libseccomp takes one comparison per argument: several of one are alternatives, as in runc.
    for comparison in comparisons:
        yield Rule(names=names, action=action, comparisons=(comparison,))


def _comparison(argument: Any) -> tuple[int, int, int, int]:
    _require(isinstance(argument, dict), "has an argument that is not an object")
    _only(argument, frozenset(("index", "value", "valueTwo", "op")))
    index, operator = argument.get("index"), argument.get("op")
    _require(index in range(6), f"argument index {index!r}")
    _require(operator in OPERATORS, f"operator {operator!r} is not supported")
    first, second = argument.get("value", 0), argument.get("valueTwo", 0)
    for value in (first, second):
        _require(isinstance(value, int) and 0 <= value < 1 << 64, f"value {value!r}")
    return int(index), OPERATORS[str(operator)], first, second


def assemble(profile: Profile) -> bytes:
    """Let libseccomp compile; calls newer than every rule then answer ENOSYS."""
    try:
        context = libc.LibSeccomp(profile.default_action)
        for name in profile.architectures:
            context.add_architecture(TOKENS[name])
        context.optimise()
        for rule in profile.rules:
            for call in rule.names:
                number = context.resolve(context.NATIVE, call)
                if number != -1:  # this libseccomp does not know it: the default action holds
                    context.add_rule(rule.action, number, rule.comparisons)
        program = context.export()
    except OSError as error:
        if error.errno == 2 and error.filename == "libseccomp.so.2":
            raise HostError(
                "a seccomp profile needs libseccomp to be compiled", hint="install libseccomp2"
            ) from None
        raise UsageError(f"seccomp profile: libseccomp refused: {error}") from None
    return _enosys_prefix(profile, context) + program


def _enosys_prefix(profile: Profile, context: libc.LibSeccomp) -> bytes:
    """Instructions before a filter that answer ENOSYS to calls newer than all its rules.

    A profile with the default answer EPERM was written before such calls
    existed; programs fall back from ENOSYS and not from EPERM (as in runc).
    Profiles whose default already is ENOSYS or lets the call through need none.
    """
    if profile.default_action in (bpf.ALLOW, bpf.LOG, bpf.ERRNO | ENOSYS):
        return b""
    if profile.default_action & 0x7FFF0000 == bpf.TRACE:
        return b""
    newest: dict[int, list[tuple[int, int]]] = {}
    for name in profile.architectures:
        base = X32_BIT if name == "SCMP_ARCH_X32" else 0
        last = _last_number(profile.rules, TOKENS[name], context)
        newest.setdefault(_audit_token(name), []).append((base, last))
    return bpf.encode(_newer_than(newest))


def _audit_token(name: str) -> int:
    return TOKENS["SCMP_ARCH_X86_64" if name == "SCMP_ARCH_X32" else name]


def _last_number(rules: Iterable[Rule], token: int, context: libc.LibSeccomp) -> int:
    numbers = [context.resolve(token, name) for rule in rules for name in rule.names]
    return max((number for number in numbers if number >= 0), default=0)


def _newer_than(newest: dict[int, list[tuple[int, int]]]) -> bpf.Program:
    """Per architecture: above the last number of a range and below the next range, ENOSYS."""
    go_on: bpf.Program = []
    for token, ranges in newest.items():
        body: bpf.Program = [(bpf.LOAD, 0, 0, bpf.NUMBER)]
        ordered = sorted(ranges)
        for position, (base, last) in enumerate(ordered):
            upper = ordered[position + 1][0] if position + 1 < len(ordered) else 0x80000000
            if not base and upper == 0x80000000:
                upper = X32_BIT
            body += [
                (bpf.JUMP_NOT_LESS, 2, 0, upper),
                (bpf.JUMP_GREATER, 0, 1, max(last, base)),
                (bpf.RETURN, 0, 0, bpf.ERRNO | ENOSYS),
            ]
        go_on += [(bpf.JUMP_EQUAL, 0, len(body), token), *body, (bpf.LOAD, 0, 0, bpf.ARCHITECTURE)]
    return [(bpf.LOAD, 0, 0, bpf.ARCHITECTURE), *go_on]
