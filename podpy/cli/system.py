"""``version`` and ``info``."""

from __future__ import annotations

import sys

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
        fields = {
            **_docker_info(found),
            **found,
            "host": {**_podman_host(ctx, found), **found["host"]},
            "store": {**_podman_store(ctx, found), **found["store"]},
        }
        output.formatted([fields], format_)
    else:
        output.tree(found)


def _docker_info(found: dict[str, Any]) -> dict[str, Any]:
    """The fields of ``docker info`` that templates ask for."""
    host, store, cgroup = found["host"], found["store"], found["modes"]["cgroup"]
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
        "CgroupDriver": cgroup["manager"],
        "CgroupVersion": "2" if cgroup["manager"] != "none" else "",
        "SecurityOptions": [
            "name=seccomp,profile=default",
            "name=cgroupns",
            *(["name=rootless"] if host["rootless"] else []),
        ],
    }


def _podman_host(ctx: Context, found: dict[str, Any]) -> dict[str, Any]:
    """The fields below ``.Host`` of ``podman info`` that templates ask for."""
    host, modes = found["host"], found["modes"]
    manager = modes["cgroup"]["manager"]
    return {
        "cgroupVersion": "v2" if manager != "none" else "v1",
        "cgroupManager": manager,
        "eventLogger": "none",
        "idMappings": modes["idMap"],
        "logDriver": ctx.config.containers.log_driver or "k8s-file",
        "networkBackend": modes["network"]["default"],
        "rootlessNetworkCmd": modes["network"]["default"],
        "ociRuntime": {"name": "podpy", "path": sys.argv[0], "version": this.VERSION},
        "remoteSocket": {"exists": False, "path": ""},
        "security": {
            "rootless": host["rootless"],
            "seccompEnabled": True,
            "selinuxEnabled": False,
            "apparmorEnabled": False,
        },
        "serviceIsRemote": False,
    }


def _podman_store(ctx: Context, found: dict[str, Any]) -> dict[str, Any]:
    """The fields below ``.Store``."""
    store = found["store"]
    return {
        "graphDriverName": store["driver"],
        "graphRoot": ctx.store.root,
        "graphOptions": {},
        "runRoot": ctx.store.run,
        "volumePath": ctx.store.volumes,
        "imageStore": {"number": store["images"]},
        "containerStore": store["containers"],
    }
