"""``info``: what this host lets podpy do, and why not more."""

from __future__ import annotations

import os

from podpy import version
from podpy.engine import networking
from podpy.kernel import cgroup, process, userns
from podpy.runtime import placement
from podpy.storage import containers, overlay

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from podpy.engine.context import Context

_HELPERS = (
    "newuidmap", "newgidmap", "slirp4netns", "pasta", "fuse-overlayfs", "catatonit", "getsubids",
)  # fmt: skip


def info(ctx: Context) -> dict[str, Any]:
    """The host, the store and the modes in use, each with the reason when it is not the best."""
    ctx.store.prepare()
    return {
        "host": _host(ctx),
        "store": _store(ctx),
        "modes": _modes(ctx),
        "helpers": {name: process.find_program(name) for name in _HELPERS},
        "configuration": {
            "files": list(ctx.config.files),
            "unused": list(ctx.config.unused),
        },
        "version": version.about(),
    }


def _host(ctx: Context) -> dict[str, Any]:
    kernel = os.uname()
    return {
        "hostname": kernel.nodename,
        "kernel": kernel.release,
        "arch": kernel.machine,
        "os": "linux",
        "distribution": _distribution(),
        "cpus": os.cpu_count() or 1,
        "memTotal": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGESIZE"),
        "uid": os.geteuid(),
        "rootless": os.geteuid() != 0,
        "runtimeDirectory": ctx.store.run,
    }


def _distribution() -> str:
    from podpy import files

    try:
        text = files.read_bytes("/etc/os-release").decode(errors="replace")
    except OSError:
        return ""
    for line in text.splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return ""


def _store(ctx: Context) -> dict[str, Any]:
    from podpy.storage import names

    store, configured = ctx.store, ctx.config.storage
    chosen = overlay.driver(store, configured.driver, configured.mount_program)
    usage = os.statvfs(store.root)
    found = list(containers.every(store))
    return {
        "root": store.root,
        "driver": chosen.name,
        "driverReasons": list(chosen.reasons),
        "free": usage.f_bavail * usage.f_frsize,
        "size": usage.f_blocks * usage.f_frsize,
        "images": len({name.image for name in names.read_all(store)}),
        "containers": {
            "number": len(found),
            "running": sum(c.status == "running" for c in found),
            "paused": sum(c.status == "paused" for c in found),
            "stopped": sum(not c.status.is_live for c in found),
        },
    }


def _modes(ctx: Context) -> dict[str, Any]:
    """Which way podpy does what, and the reason where a better one is missing."""
    mapping = userns.root_map()
    return {
        "idMap": {
            "mode": "single" if mapping.is_single else "ranges",
            "uids": sum(extent.count for extent in mapping.uid),
            "gids": sum(extent.count for extent in mapping.gid),
            "reason": _id_reason() if mapping.is_single else "",
        },
        "network": _network_mode(ctx),
        "cgroup": _cgroup_mode(),
        "fuse": {"usable": os.access("/dev/fuse", os.R_OK | os.W_OK)},
        "tun": {"usable": os.access("/dev/net/tun", os.R_OK | os.W_OK)},
    }


def _id_reason() -> str:
    uids, gids = userns.subordinate_ids()
    if not (uids and gids):
        return "no ranges for this user in /etc/subuid and /etc/subgid"
    return "newuidmap or newgidmap is missing (package uidmap)"


def _cgroup_mode() -> dict[str, str]:
    manager = placement.manager()
    reason = cgroup.why_not() if manager == "none" else ""
    return {"manager": manager, "directory": cgroup.delegated(), "reason": reason}


def _network_mode(ctx: Context) -> dict[str, str]:
    """What a container gets that names no network, and the helper that leads outside."""
    found = {"default": networking.default(ctx.config), "helper": "", "reason": ""}
    for name in ("slirp4netns", "pasta"):
        if process.find_program(name):
            return {**found, "helper": name}
    return {**found, "reason": "slirp4netns and pasta are missing"}
