"""``version`` and ``info``."""

from __future__ import annotations

from podpy import version as this
from podpy.cli import output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from podpy.cli import options as opt
    from podpy.engine.context import Context


def version(*, format_: opt.InspectFormat = "") -> None:
    """Show podpy's version."""
    about = this.about()
    if format_:
        # No daemon: the server that docker's templates ask for is podpy itself.
        output.formatted([{"Client": about, "Server": about, **about}], format_)
        return
    for key, value in about.items():
        output.line(f"{key + ':':<15}{value}")


def info(ctx: Context, *, format_: opt.InspectFormat = "") -> None:
    """Show what this host lets podpy do, and why not more."""
    from podpy.engine import system

    found = system.info(ctx)
    if format_:
        output.formatted([{**_docker_info(found), **found}], format_)
    else:
        output.tree(found)


def _docker_info(found: dict[str, Any]) -> dict[str, Any]:
    """The fields of ``docker info`` that templates ask for."""
    host, store = found["host"], found["store"]
    containers = store["containers"]
    return {
        "Name": host["hostname"],
        "ServerVersion": this.VERSION,
        "KernelVersion": host["kernel"],
        "OperatingSystem": host["distribution"],
        "OSType": host["os"],
        "Architecture": host["arch"],
        "NCPU": host["cpus"],
        "MemTotal": host["memTotal"],
        "Driver": store["driver"],
        "DockerRootDir": store["root"],
        "Images": store["images"],
        "Containers": containers["number"],
        "ContainersRunning": containers["running"],
        "ContainersPaused": containers["paused"],
        "ContainersStopped": containers["stopped"],
        "CgroupVersion": "2" if found["modes"]["cgroup"]["directory"] else "",
        "SecurityOptions": [
            "name=seccomp,profile=default",
            "name=cgroupns",
            *(["name=rootless"] if host["rootless"] else []),
        ],
    }
