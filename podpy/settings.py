"""What can be configured: the records that :func:`podpy.config.load` returns.

A field is named as its key in the file it comes from.
"""

from __future__ import annotations

from podpy.records import EMPTY, record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


DRIVERS = ("overlay", "fuse-overlayfs", "vfs")
"""The storage drivers (:mod:`podpy.storage.overlay`), the best first."""


@record
class ContainerDefaults:
    """``[containers]``: what a container gets when no option says otherwise.

    An empty string, an empty sequence and ``None`` mean: not configured.
    """

    annotations: tuple[str, ...] = ()
    base_hosts_file: str = ""
    cgroupns: str = ""
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
    """``[network]``: how rootless containers reach the network.

    ``default_network`` is the network of containers that name none, with the
    subnet ``default_subnet``.  ``default_subnet_pools`` are where new networks
    get theirs from: each is ``BASE SIZE``, such as ``10.89.0.0/16 24``.
    """

    default_network: str = ""
    default_rootless_network_cmd: str = ""
    default_subnet: str = ""
    default_subnet_pools: tuple[str, ...] = ()
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
    image_parallel_copies: int = 0
    network_cmd_options: tuple[str, ...] = ()
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
    aliases: Mapping[str, str] = EMPTY
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
