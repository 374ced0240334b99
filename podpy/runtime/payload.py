"""What a container's record says about the processes that run in it."""

from __future__ import annotations

import resource

from podpy.kernel import capabilities, seccomp
from podpy.records import replace
from podpy.runtime.spec import Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podpy.model import ContainerRecord


def process_of(record: ContainerRecord, *, may_set_groups: bool) -> Process:
    """The container's own command with its rights and limits; ``exec`` changes some of it."""
    return Process(
        argv=record.argv,
        env=record.env,
        cwd=record.working_dir,
        user=record.user,
        groups=record.groups,
        capabilities=capabilities.bits(record.capabilities),
        seccomp=seccomp.for_container(record.seccomp, record.capabilities),
        no_new_privileges=record.no_new_privileges,
        rlimits=rlimits(record),
        umask=record.umask,
        oom_score_adj=record.oom_score_adj,
        last_capability=capabilities.last_known(),
        may_set_groups=may_set_groups,
    )


def privileged(process: Process, record: ContainerRecord) -> Process:
    """``process`` with every capability of this kernel, and the calls these allow."""
    everything = capabilities.select(privileged=True)
    return replace(
        process,
        capabilities=capabilities.bits(everything),
        seccomp=seccomp.for_container(record.seccomp, everything),
        no_new_privileges=False,
    )


def rlimits(record: ContainerRecord) -> tuple[tuple[int, int, int], ...]:
    """The record's limits as ``setrlimit`` takes them."""
    return tuple(
        (getattr(resource, f"RLIMIT_{limit.name.upper()}"), limit.soft, limit.hard)
        for limit in record.ulimits
    )
