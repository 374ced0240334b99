"""``inspect`` of a container, in the shape that docker and podman share.

Where the two differ, names and ids are podman's (no ``/`` before a name, no
``sha256:`` before an id), lists and signal names docker's.
"""

from __future__ import annotations

from podpy.engine import network_settings, values
from podpy.kernel import capabilities
from podpy.storage import containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from podpy.engine.context import Context
    from podpy.model import Container, ContainerRecord, ContainerState, Mount
    from podpy.paths import Store

_PROPAGATION = (
    "shared", "rshared", "slave", "rslave", "private", "rprivate", "unbindable", "runbindable",
)  # fmt: skip


def container(ctx: Context, name: str, *, size: bool = False) -> dict[str, Any]:
    """Everything about one container; ``size`` measures what it wrote."""
    found = containers.resolve(ctx.store, name)
    record, state = found.record, found.state
    directory = ctx.store.container(record.id)
    described = {
        "Id": record.id,
        "Created": values.instant(record.created),
        "Path": record.argv[0] if record.argv else "",
        "Args": list(record.argv[1:]),
        "State": _state(state),
        "Image": record.image_id,
        "ImageName": record.image_name,
        "ImageDigest": record.image_digest,
        "Rootfs": record.rootfs,
        "Pod": "",
        "ResolvConfPath": f"{directory}/resolv.conf",
        "HostnamePath": f"{directory}/hostname",
        "HostsPath": "" if record.no_hosts else f"{directory}/hosts",
        "StaticDir": directory,
        "LogPath": _log_path(record, directory),
        "PidFile": record.pidfile,
        "Name": record.name,
        "RestartCount": state.restarts,
        "Driver": record.driver,
        "Platform": record.platform,
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "EffectiveCaps": list(record.capabilities) if _is_root(record) else [],
        "BoundingCaps": list(record.capabilities),
        "ExecIDs": [],
        "GraphDriver": _graph_driver(ctx.store, record, directory),
        "Mounts": [_mount(ctx.store, m) for m in record.mounts if m.type in ("bind", "volume")],
        "Dependencies": sorted(record.lenders),
        "NetworkSettings": network_settings.settings(ctx, found),
        "Config": _config(record),
        "HostConfig": _host_config(record, directory),
    }
    if size:
        described.update(_sizes(ctx, found))
    return described


def _is_root(record: ContainerRecord) -> bool:
    """Whether the process starts as the container's root: nobody else has capabilities."""
    return record.user.partition(":")[0] in ("", "0", "root")


def _sizes(ctx: Context, found: Container) -> dict[str, int]:
    from podpy.engine import listing

    sizes = listing.sizes(ctx, found)
    return {"SizeRw": sizes.rw, "SizeRootFs": sizes.root_fs}


def _state(state: ContainerState) -> dict[str, Any]:
    live = state.status.is_live
    return {
        "OciVersion": "1.0.2",
        "Status": str(state.status),
        "Running": state.status in ("running", "paused"),
        "Paused": state.status == "paused",
        "Restarting": False,
        "OOMKilled": state.oom_killed,
        "Dead": False,
        "Pid": state.init.pid if live and state.init else 0,
        "ConmonPid": state.supervisor.pid if live and state.supervisor else 0,
        "ExitCode": 0 if live else state.exit_code,
        "Error": state.error,
        "StartedAt": values.instant(state.started),
        "FinishedAt": values.instant(0.0 if live else state.finished),
        "CgroupPath": state.cgroup,
        "Health": {"Status": "", "FailingStreak": 0, "Log": []},
    }


def _log_path(record: ContainerRecord, directory: str) -> str:
    if record.log.driver not in ("k8s-file", "json-file"):
        return ""
    return record.log.path or f"{directory}/log/ctr.log"


def _graph_driver(store: Store, record: ContainerRecord, directory: str) -> dict[str, Any]:
    if record.rootfs:
        return {"Name": "none", "Data": {"MergedDir": record.rootfs}}
    lower = [f"{store.layers}/{layer.removeprefix('sha256:')}/diff" for layer in record.layers]
    return {
        "Name": record.driver,
        "Data": {
            "LowerDir": ":".join(reversed(lower)),
            "MergedDir": f"{directory}/rootfs",
            "UpperDir": f"{directory}/upper",
            "WorkDir": f"{directory}/work",
        },
    }


def _mount(store: Store, mount: Mount) -> dict[str, Any]:
    is_volume = mount.type == "volume"
    source = f"{store.volumes}/{mount.source}/_data" if is_volume else mount.source
    described: dict[str, Any] = {"Type": mount.type}
    if is_volume:
        described["Name"] = mount.source
    propagation = [option for option in mount.options if option in _PROPAGATION]
    return described | {
        "Source": source,
        "Destination": mount.destination,
        "Driver": "local" if is_volume else "",
        "Mode": ",".join(option for option in mount.options if option in ("z", "Z")),
        "Options": list(mount.options) or ["rbind"],
        "RW": "ro" not in mount.options,
        "Propagation": propagation[0] if propagation else "rprivate",
    }


# --- what was asked for ------------------------------------------------------


def _config(record: ContainerRecord) -> dict[str, Any]:
    volumes: dict[str, dict[str, str]] = {
        m.destination: {} for m in record.mounts if m.type == "volume" and m.anonymous
    }
    return {
        "Hostname": record.hostname,
        "Domainname": record.domainname,
        "User": record.user,
        "AttachStdin": record.interactive,
        "AttachStdout": False,
        "AttachStderr": False,
        "ExposedPorts": {
            text: {}
            for text in sorted(
                {*record.exposed_ports, *network_settings.bindings(record.ports, "")}
            )
        },
        "Tty": record.tty,
        "OpenStdin": record.interactive,
        "StdinOnce": False,
        "Env": list(record.env),
        "Cmd": list(record.command),
        "Image": record.image_name,
        "Volumes": volumes or None,
        "WorkingDir": record.working_dir,
        "Entrypoint": list(record.entrypoint) if record.entrypoint else None,
        "OnBuild": None,
        "Labels": dict(sorted(record.labels.items())),
        "Annotations": dict(record.annotations),
        "StopSignal": record.stop_signal,
        "StopTimeout": record.stop_timeout,
        "CreateCommand": list(record.create_command),
        "Umask": f"{record.umask:04o}",
        "Timeout": record.timeout,
    }


def _host_config(record: ContainerRecord, directory: str) -> dict[str, Any]:
    return {
        "Binds": [_bind(m) for m in record.mounts if m.type in ("bind", "volume")],
        "CgroupMode": record.cgroup_mode,
        "CgroupParent": record.cgroup_parent,
        "ContainerIDFile": record.cidfile,
        "LogConfig": {
            "Type": record.log.driver,
            "Config": _log_options(record),
            "Path": _log_path(record, directory),
            "Tag": record.log.tag,
            "Size": values.show_decimal_size(record.log.max_size),
        },
        "NetworkMode": network_settings.mode(record),
        "Links": network_settings.links(record),
        "Egress": list(record.egress.rules) if record.egress else None,
        "PortBindings": network_settings.bindings(record.ports, ""),
        "RestartPolicy": {"Name": record.restart, "MaximumRetryCount": 0},
        "AutoRemove": record.remove,
        "CapAdd": _difference(record.capabilities, capabilities.DEFAULT),
        "CapDrop": _difference(capabilities.DEFAULT, record.capabilities),
        "Dns": list(record.dns),
        "DnsOptions": list(record.dns_options),
        "DnsSearch": list(record.dns_search),
        "ExtraHosts": list(record.hosts),
        "GroupAdd": list(record.groups),
        "Init": record.init,
        "IpcMode": record.ipc_mode,
        "OomScoreAdj": record.oom_score_adj or 0,
        "PidMode": record.pid_mode,
        "Privileged": record.privileged,
        "ReadonlyRootfs": record.read_only,
        "SecurityOpt": _security_options(record),
        "Sysctls": dict(record.sysctls),
        "Tmpfs": {m.destination: ",".join(m.options) for m in record.mounts if m.type == "tmpfs"},
        "UTSMode": record.uts_mode,
        "UsernsMode": _user_namespace(record),
        "IDMappings": _id_mappings(record),
        "ShmSize": record.shm_size,
        "Devices": [
            {
                "PathOnHost": d.host,
                "PathInContainer": d.container,
                "CgroupPermissions": d.permissions,
            }
            for d in record.devices
        ],
        "Ulimits": [
            {"Name": f"RLIMIT_{u.name.upper()}", "Soft": u.soft, "Hard": u.hard}
            for u in record.ulimits
        ],
        # No limits are set on a container's resources: docker's and podman's zeros.
        "CpuShares": 0,
        "Memory": 0,
        "NanoCpus": 0,
        "PidsLimit": 0,
    }  # fmt: skip


def _bind(mount: Mount) -> str:
    options = mount.options if "ro" in mount.options else ("rw", *mount.options)
    return f"{mount.source}:{mount.destination}:{','.join(options)}"


def _log_options(record: ContainerRecord) -> dict[str, str]:
    log = record.log
    given = {"path": log.path, "tag": log.tag}
    found = {key: value for key, value in given.items() if value}
    if log.max_size:
        found |= {"max-size": str(log.max_size), "max-file": str(log.max_file)}
    return found


def _difference(one: Iterable[str], other: Iterable[str]) -> list[str]:
    return sorted(set(one) - set(other))


def _security_options(record: ContainerRecord) -> list[str]:
    found = ["no-new-privileges"] if record.no_new_privileges else []
    if record.seccomp != "default":
        found.append(f"seccomp={record.seccomp}")
    if record.masked:
        found.append(f"mask={':'.join(record.masked)}")
    if record.unmasked:
        found.append(f"unmask={':'.join(record.unmasked)}")
    if record.proc_options:
        found.append(f"proc-opts={','.join(record.proc_options)}")
    return found


def _user_namespace(record: ContainerRecord) -> str:
    space = record.user_namespace
    if space.mode == "container":
        return f"container:{space.target}"
    return "" if space.mode == "host" else space.mode


def _id_mappings(record: ContainerRecord) -> dict[str, list[str]]:
    space = record.user_namespace
    return {
        "UidMap": [f"{m.inside}:{m.outside}:{m.count}" for m in space.uid_map],
        "GidMap": [f"{m.inside}:{m.outside}:{m.count}" for m in space.gid_map],
    }
