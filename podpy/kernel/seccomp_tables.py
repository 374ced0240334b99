"""The default profile assembled for any set of capabilities."""

from __future__ import annotations

from podpy.kernel import bpf
from podpy.kernel.seccomp_numbers import TABLES

EPERM, EINVAL, ENOSYS = 1, 22, 38

#: personality(2): PER_LINUX, PER_LINUX32, both with UNAME26, and the query.
PERSONALITIES = (0, 8, 0x20000, 0x20008, 0xFFFFFFFF)
AF_NETLINK, NETLINK_AUDIT = 16, 9


def assemble(machine: str, capabilities: frozenset[str]) -> bytes | None:
    """The filter for ``machine`` and these capabilities, or None for an unknown machine."""
    if machine not in TABLES:
        return None
    rules = _Rules(capabilities)
    return bpf.encode(
        bpf.by_architecture(
            [
                (token, bpf.search([(start, rules.program(rule)) for start, rule in table]))
                for token, table in TABLES[machine]
            ]
        )
    )


class _Rules:
    """What the names of rules in the tables mean for one set of capabilities."""

    def __init__(self, capabilities: frozenset[str]) -> None:
        self._capabilities = capabilities
        allow, refuse = bpf.answer(bpf.ALLOW), bpf.answer(bpf.ERRNO | EPERM)
        unknown = bpf.answer(bpf.ERRNO | ENOSYS)
        self._allow, self._refuse = allow, refuse
        admin = "CAP_SYS_ADMIN" in capabilities
        perf = unknown if admin else refuse  # as the profile's rules, in their order, have it
        self._programs = {
            "allow": allow,
            "eperm": refuse,
            "enosys": unknown,
            "bpf": allow if admin or "CAP_BPF" in capabilities else refuse,
            "perf_event_open": allow if admin and "CAP_PERFMON" in capabilities else perf,
            "personality": bpf.argument_is_one_of(0, PERSONALITIES, allow, unknown),
            "socket": allow if "CAP_AUDIT_WRITE" in capabilities else _no_audit_socket(),
        }

    def program(self, rule: str) -> bpf.Program:
        """``rule`` is one of the names above, or a capability that allows the call."""
        if rule in self._programs:
            return self._programs[rule]
        return self._allow if rule in self._capabilities else self._refuse


def _no_audit_socket() -> bpf.Program:
    """socket(AF_NETLINK, …, NETLINK_AUDIT) answers EINVAL: programs take it for "no audit"."""
    allow = bpf.answer(bpf.ALLOW)
    audit = bpf.argument_is_one_of(2, (NETLINK_AUDIT,), bpf.answer(bpf.ERRNO | EINVAL), allow)
    return bpf.argument_is_one_of(0, (AF_NETLINK,), audit, allow)
