"""Options of ``build`` as settings of its commands: limits, networks, what is refused."""

from __future__ import annotations

import pytest

from podpy.engine import build_request, build_settings
from podpy.engine.build_options import BuildOptions
from podpy.errors import HostError, PodpyError, UsageError

CHROOT = {"isolation": "chroot", "network": "host"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {}),
        ({"memory": "64m"}, {"memory.max": "67108864", "memory.swap.max": "67108864"}),
        (
            {"memory": "64m", "memory_swap": "96m"},
            {"memory.max": "67108864", "memory.swap.max": "33554432"},
        ),
        (
            {"memory": "64m", "memory_swap": "-1"},
            {"memory.max": "67108864", "memory.swap.max": "max"},
        ),
        ({"cpu_quota": "50000"}, {"cpu.max": "50000 100000"}),
        ({"cpu_period": "20000"}, {"cpu.max": "max 20000"}),
        ({"cpu_shares": "1024"}, {"cpu.weight": "39"}),
        ({"cpu_shares": "2"}, {"cpu.weight": "1"}),
        ({"cpu_shares": "262144"}, {"cpu.weight": "10000"}),
        ({"cpuset_cpus": "0-1", "cpuset_mems": "0"}, {"cpuset.cpus": "0-1", "cpuset.mems": "0"}),
    ],
)
def test_limits_are_settings_of_a_cgroup(options: dict[str, str], expected: dict[str, str]) -> None:
    given = BuildOptions(**options)  # type: ignore[arg-type]
    assert build_settings._settings(build_request.limits(given)) == expected


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"userns": "keep-id"}, HostError),
        ({"userns": "auto"}, HostError),
        ({"userns_uid_map": ("0:1:1",)}, HostError),
        ({"pid": "container:x"}, UsageError),
        ({"ipc": "/proc/1/ns/ipc"}, UsageError),
        ({"uts": "container:x"}, UsageError),
        ({"cgroupns": "x"}, UsageError),
        ({"isolation": "chroot", "network": "none"}, UsageError),
        ({"isolation": "chroot", "pid": "private"}, UsageError),
    ],
)
def test_what_a_build_cannot_do_is_refused(
    options: dict[str, object], error: type[PodpyError]
) -> None:
    with pytest.raises(error):
        build_settings._check(BuildOptions(**options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options", [{}, {"userns": "host"}, {"pid": "host"}, {"ipc": "container"}, CHROOT]
)
def test_what_it_can(options: dict[str, object]) -> None:
    build_settings._check(BuildOptions(**options))  # type: ignore[arg-type]


def test_what_is_allowed() -> None:
    def allowed(*words: str) -> set[str]:
        return set(build_settings._allowed(BuildOptions(allow=words)))

    assert allowed() == set()
    assert allowed("network.host", "device") == {"network.host", "*"}
    assert allowed("device=vendor.com/gpu=0") == {"vendor.com/gpu=0"}
    assert set(build_settings._allowed(BuildOptions(network="host"))) == {"network.host"}
