"""Configuration: podpy's own file and the ecosystem's, merged into one record.

:func:`load` is on the path of every command.  It compares path, size and time
of every candidate file with those of the last merge, kept as JSON in the cache
directory; only when one changed are the TOML files read again (by
``podpy.conffiles``, which no hot command imports).

Read, each later one over the earlier (see ``conffiles`` for the details):
``containers.conf`` and its ``.d`` directories, ``storage.conf``,
``registries.conf`` and its ``.d`` directories, the recorded short-name
aliases, and ``podpy/podpy.toml``, which takes the same tables as
``containers.conf`` for podpy alone, and ``[storage]``.
"""

from __future__ import annotations

import os

from podpy import files, paths
from podpy.model import _EMPTY, from_dict, record, to_dict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_FORMAT = 2
_USR, _ETC = "/usr/share/containers", "/etc/containers"


@record
class ContainerDefaults:
    """``[containers]``: what a container gets when no option says otherwise.

    An empty string, an empty sequence and ``None`` mean: not configured.
    """

    annotations: tuple[str, ...] = ()
    base_hosts_file: str = ""
    cgroupns: str = ""
    cgroups: str = ""
    default_capabilities: tuple[str, ...] | None = None
    default_sysctls: tuple[str, ...] = ()
    default_ulimits: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    dns_searches: tuple[str, ...] = ()
    dns_servers: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    env_host: bool = False
    host_containers_internal_ip: str = ""
    http_proxy: bool = True
    init: bool = False
    init_path: str = ""
    ipcns: str = ""
    log_driver: str = ""
    log_size_max: int | None = None
    log_tag: str = ""
    mounts: tuple[str, ...] = ()
    netns: str = ""
    no_hosts: bool = False
    oom_score_adj: int | None = None
    pidns: str = ""
    pids_limit: int | None = None
    read_only: bool = False
    seccomp_profile: str = ""
    shm_size: str = ""
    tz: str = ""
    umask: str = ""
    userns: str = ""
    utsns: str = ""
    volumes: tuple[str, ...] = ()


@record
class NetworkDefaults:
    """``[network]``: how rootless containers reach the network."""

    default_rootless_network_cmd: str = ""
    pasta_options: tuple[str, ...] = ()


@record
class EngineDefaults:
    """``[engine]``: how podpy itself behaves.  Times are seconds.

    ``token_servers`` is podpy's own: hosts outside a registry's domain that may
    be shown its credentials (see ``podpy.registry.tokens``).
    """

    cgroup_manager: str = ""
    detach_keys: str = "ctrl-p,ctrl-q"
    env: tuple[str, ...] = ()
    helper_binaries_dir: tuple[str, ...] = ()
    image_parallel_copies: int = 0
    network_cmd_options: tuple[str, ...] = ()
    network_cmd_path: str = ""
    pull_policy: str = "missing"
    retry: int = 3
    retry_delay: str = ""
    stop_timeout: int = 10
    token_servers: tuple[str, ...] = ()


@record
class StorageConfig:
    """Where the store is and how layers are joined.

    ``root`` and ``runroot`` are podpy's own directories: what podman keeps in
    a ``graphroot`` is podman's, so podpy lives in ``<graphroot>/podpy``.  Empty
    means the XDG default.  ``driver`` is empty, ``overlay``,
    ``fuse-overlayfs`` or ``vfs``.
    """

    root: str = ""
    runroot: str = ""
    driver: str = ""
    mount_program: str = ""
    mount_options: tuple[str, ...] = ()


@record
class Endpoint:
    """A place images are fetched from: a registry's location or one of its mirrors.

    ``pull`` says for which references a mirror is asked: ``all``,
    ``digest-only`` or ``tag-only``.
    """

    location: str
    insecure: bool = False
    pull: str = "all"


@record
class RegistryRule:
    """One ``[[registry]]`` table: what happens to names below ``prefix``."""

    prefix: str
    location: str = ""
    insecure: bool = False
    blocked: bool = False
    mirrors: tuple[Endpoint, ...] = ()
    _nested = {"mirrors": Endpoint}


@record
class Registries:
    """``registries.conf``, version 2.

    ``short_name_mode`` is ``enforcing``, ``permissive`` or ``disabled``.
    """

    search: tuple[str, ...] = ()
    aliases: Mapping[str, str] = _EMPTY
    short_name_mode: str = "enforcing"
    rules: tuple[RegistryRule, ...] = ()
    credential_helpers: tuple[str, ...] = ()
    _nested = {"rules": RegistryRule}


@record
class Config:
    """All configuration, merged.

    ``files`` were read, in that order; ``unused`` are the keys in them that
    podpy does not act on, as ``file: table.key``, for ``podpy info`` to show.
    """

    containers: ContainerDefaults = ContainerDefaults()
    network: NetworkDefaults = NetworkDefaults()
    engine: EngineDefaults = EngineDefaults()
    storage: StorageConfig = StorageConfig()
    registries: Registries = Registries()
    files: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    _nested = {
        "containers": ContainerDefaults,
        "network": NetworkDefaults,
        "engine": EngineDefaults,
        "storage": StorageConfig,
        "registries": Registries,
    }


@record
class Candidates:
    """The files that may hold configuration, in the order they are merged."""

    containers: tuple[str, ...]
    storage: tuple[str, ...]
    registries: tuple[str, ...]
    podpy: tuple[str, ...]

    def all(self) -> tuple[str, ...]:
        return (*self.containers, *self.storage, *self.registries, *self.podpy)


def load() -> Config:
    """The merged configuration; :class:`UsageError` names a file that is wrong."""
    candidates = find()
    key = _signature(candidates)
    cache = f"{paths.cache_home()}/config.json"
    if (cached := _cached(cache, key)) is not None:
        return from_dict(Config, cached)
    from podpy import conffiles

    config = conffiles.merge(candidates)
    _remember(cache, key, config)
    return config


def find() -> Candidates:
    """The candidate files of this user and environment, whether they exist or not."""
    home = f"{paths.config_home()}/containers"
    return Candidates(
        containers=_containers_files(home),
        storage=_storage_files(home),
        registries=_registries_files(home),
        podpy=("/etc/podpy/podpy.toml", f"{paths.config_home()}/podpy/podpy.toml"),
    )


def _containers_files(home: str) -> tuple[str, ...]:
    """containers.conf(5): a file named by ``CONTAINERS_CONF`` replaces all others."""
    if only := os.environ.get("CONTAINERS_CONF"):
        found = [only]
    else:
        found = [f"{_USR}/containers.conf"]
        for directory in (_ETC, home):
            found += [f"{directory}/containers.conf", *_drop_ins(f"{directory}/containers.conf.d")]
    if last := os.environ.get("CONTAINERS_CONF_OVERRIDE"):
        found.append(last)
    return tuple(found)


def _storage_files(home: str) -> tuple[str, ...]:
    """The system's files apply to users too, unless their own says otherwise."""
    if only := os.environ.get("CONTAINERS_STORAGE_CONF"):
        return (only,)
    return (f"{_USR}/storage.conf", f"{_ETC}/storage.conf", f"{home}/storage.conf")


def _registries_files(home: str) -> tuple[str, ...]:
    """containers-registries.conf(5): a user's file stands for the system's file and directory."""
    own = f"{home}/registries.conf"
    aliases = f"{os.path.dirname(paths.cache_home())}/containers/short-name-aliases.conf"
    user = _drop_ins(f"{home}/registries.conf.d")
    system = _drop_ins(f"{_ETC}/registries.conf.d")
    if main := os.environ.get("CONTAINERS_REGISTRIES_CONF"):
        found = [main, *system, *user]
    elif os.path.exists(own):
        found = [own, *user]
    else:
        found = [f"{_ETC}/registries.conf", *system, *user]
    return (*found, aliases)


def _drop_ins(directory: str) -> list[str]:
    names = files.list_directory(directory)
    return [f"{directory}/{name}" for name in names if name.endswith(".conf")]


def _signature(candidates: Candidates) -> list[str]:
    """What must be unchanged for the cached merge to hold.

    ``HOME`` and the user id are in it because storage.conf may refer to them.
    """
    stamps = [f"{_FORMAT} {os.getuid()} {paths.home()} {os.environ.get('STORAGE_DRIVER', '')}"]
    for path in candidates.all():
        try:
            status = os.stat(path)
        except OSError:
            stamps.append(path)
        else:
            stamps.append(f"{path} {status.st_mtime_ns} {status.st_size} {status.st_ino}")
    return stamps


def _cached(path: str, key: list[str]) -> dict[str, Any] | None:
    """The last merge, when it is of these very files and the cache is the caller's own."""
    try:
        if os.stat(path).st_uid != os.geteuid():
            return None
        held = files.loads(files.read_bytes(path))
    except (OSError, ValueError):
        return None
    if not isinstance(held, dict) or held.get("key") != key:
        return None
    merged: dict[str, Any] = held["config"]
    return merged


def _remember(path: str, key: list[str], config: Config) -> None:
    """A cache that cannot be written (read-only home, full disk) costs time, not the command."""
    try:
        files.make_directory(os.path.dirname(path))
        files.write_json(path, {"key": key, "config": to_dict(config)})
    except OSError:
        return
