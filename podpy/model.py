"""The domain: frozen records that every layer speaks, and nothing else.

Times are seconds since the epoch (float, UTC).  Sizes are bytes.  Ids are 64
lower-case hexadecimal digits, digests ``sha256:`` and 64 of them.
"""

from __future__ import annotations

from podpy.netmodel import Attachment, Denial, Egress, Endpoint, NetworkMode, PortMapping
from podpy.records import EMPTY, record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


# --- processes ---------------------------------------------------------------


@record
class ProcessIdentity:
    """A process that cannot be mistaken for a later one with its number.

    ``start`` is field 22 of ``/proc/PID/stat``, in clock ticks since boot.
    """

    boot_id: str
    pid: int
    start: int


#: Where programs are looked for when nobody says otherwise, as docker and podman have it.
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


# --- images ------------------------------------------------------------------


@record
class Platform:
    """What an image was built for (OCI image index, ``platform``)."""

    os: str = "linux"
    architecture: str = ""
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


@record
class Descriptor:
    """An OCI content descriptor: what a blob is, its digest and its exact size."""

    media_type: str
    digest: str
    size: int
    urls: tuple[str, ...] = ()
    annotations: Mapping[str, str] = EMPTY
    platform: Platform | None = None
    _nested = {"platform": Platform}


@record
class HealthCheck:
    """An image's or container's health check; durations are seconds."""

    test: tuple[str, ...] = ()
    interval: float = 30.0
    timeout: float = 30.0
    start_period: float = 0.0
    start_interval: float = 5.0
    retries: int = 3


@record
class ImageConfig:
    """The part of an OCI image configuration that a container starts from."""

    user: str = ""
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    working_dir: str = ""
    volumes: tuple[str, ...] = ()
    exposed_ports: tuple[str, ...] = ()
    labels: Mapping[str, str] = EMPTY
    stop_signal: str = ""
    healthcheck: HealthCheck | None = None
    _nested = {"healthcheck": HealthCheck}


@record
class Image:
    """An image in the store: its identity and what running it needs.

    ``id`` is the hexadecimal digest of the configuration, ``digest`` that of
    the manifest.  ``diff_ids`` go from the lowest layer to the topmost.
    """

    id: str
    digest: str
    media_type: str
    names: tuple[str, ...] = ()
    platform: Platform
    created: float = 0.0
    diff_ids: tuple[str, ...] = ()
    layers: tuple[Descriptor, ...] = ()
    config: ImageConfig
    size: int = 0
    _nested = {"platform": Platform, "layers": Descriptor, "config": ImageConfig}


@record
class ImageSummary:
    """One line of ``images``: a tag, or an image that has none.

    ``size`` is that of the unpacked layers.  ``names`` are all names of the
    image.  ``problem`` says what is wrong with a damaged one.
    """

    id: str
    repository: str = ""
    tag: str = ""
    digest: str = ""
    created: float = 0.0
    size: int = 0
    names: tuple[str, ...] = ()
    labels: Mapping[str, str] = EMPTY
    problem: str = ""


# --- containers --------------------------------------------------------------


class Status(str):
    """The state of a container, with what may be done in it.

    ``enum`` costs 4 ms to import; a string that knows its rules does as well.
    """

    __slots__ = ()

    CREATED: Status
    RUNNING: Status
    PAUSED: Status
    STOPPING: Status
    EXITED: Status

    @property
    def is_live(self) -> bool:
        """Its pid 1 exists."""
        return self in ("running", "paused", "stopping")

    def can_start(self) -> bool:
        return self in ("created", "exited")

    def can_stop(self) -> bool:
        return self.is_live

    def can_exec(self) -> bool:
        return self == "running"


Status.CREATED = Status("created")
Status.RUNNING = Status("running")
Status.PAUSED = Status("paused")
Status.STOPPING = Status("stopping")
Status.EXITED = Status("exited")


@record
class IdMapping:
    """One extent of a user namespace's map: ``count`` ids from ``inside`` on."""

    inside: int
    outside: int
    count: int


@record
class Mount:
    """One mount of a container.

    ``type`` is ``bind``, ``volume``, ``tmpfs``, ``devpts`` …; ``source`` an
    absolute host path for ``bind``, the volume's name for ``volume``.
    ``options`` are those of mount(8) and podman: ``ro rw nosuid noexec nodev
    z Z U O rbind rprivate rslave rshared …``, ``size=`` and ``mode=`` for tmpfs.
    """

    type: str
    destination: str
    source: str = ""
    options: tuple[str, ...] = ()
    anonymous: bool = False
    subpath: str = ""


@record
class Ulimit:
    """A resource limit: ``name`` without ``RLIMIT_``, -1 for no limit."""

    name: str
    soft: int
    hard: int


@record
class Device:
    """A host device given to a container."""

    host: str
    container: str
    permissions: str = "rwm"


@record
class UserNamespace:
    """Which user namespace a container lives in, and its map.

    ``mode`` is ``host keep-id nomap auto container map ns`` (``host`` is podpy's
    default: container root is the caller; ``ns``: the owner of the network namespace).
    """

    mode: str = "host"
    target: str = ""
    uid_map: tuple[IdMapping, ...] = ()
    gid_map: tuple[IdMapping, ...] = ()
    _nested = {"uid_map": IdMapping, "gid_map": IdMapping}


@record
class LogConfig:
    """Where a container's output goes: driver ``k8s-file json-file journald none passthrough``."""

    driver: str = "k8s-file"
    max_size: int = 0
    max_file: int = 1
    path: str = ""
    tag: str = ""


@record
class ContainerRecord:
    """All that was asked for when a container was made.

    Written once by ``create`` as ``container.json``; only ``rename`` and
    ``update`` replace it.  Paths of the store are not in it.
    """

    version: int = 1
    id: str
    name: str
    created: float
    image_id: str = ""
    image_name: str = ""
    image_digest: str = ""
    layers: tuple[str, ...] = ()
    rootfs: str = ""
    rootfs_overlay: bool = False
    driver: str = "overlay"
    entrypoint: tuple[str, ...] | None = None
    command: tuple[str, ...] = ()
    argv: tuple[str, ...]
    env: tuple[str, ...] = ()
    user: str = ""
    groups: tuple[str, ...] = ()
    umask: int = 0o022
    oom_score_adj: int | None = None
    working_dir: str = "/"
    hostname: str = ""
    no_hostname: bool = False
    domainname: str = ""
    tty: bool = False
    interactive: bool = False
    init: bool = False
    read_only: bool = False
    read_only_tmpfs: bool = True
    remove: bool = False
    privileged: bool = False
    no_new_privileges: bool = False
    seccomp: str = "default"
    capabilities: tuple[str, ...] = ()
    unmasked: tuple[str, ...] = ()
    masked: tuple[str, ...] = ()
    proc_options: tuple[str, ...] = ()
    mounts: tuple[Mount, ...] = ()
    devices: tuple[Device, ...] = ()
    ulimits: tuple[Ulimit, ...] = ()
    sysctls: Mapping[str, str] = EMPTY
    network: NetworkMode
    networks: tuple[Attachment, ...] = ()
    links: tuple[str, ...] = ()
    egress: Egress | None = None
    ports: tuple[PortMapping, ...] = ()
    exposed_ports: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    no_hosts: bool = False
    hosts_file: str = ""
    user_namespace: UserNamespace
    pid_mode: str = "private"
    ipc_mode: str = "private"
    uts_mode: str = "private"
    cgroup_mode: str = "private"
    cgroup_parent: str = ""
    shm_size: int = 65536000
    timeout: int = 0
    log: LogConfig
    labels: Mapping[str, str] = EMPTY
    annotations: Mapping[str, str] = EMPTY
    stop_signal: str = "SIGTERM"
    stop_timeout: int = 10
    restart: str = "no"
    healthcheck: HealthCheck | None = None
    detach_keys: str = "ctrl-p,ctrl-q"
    platform: str = ""
    cidfile: str = ""
    pidfile: str = ""
    create_command: tuple[str, ...] = ()
    _nested = {
        "mounts": Mount,
        "devices": Device,
        "ulimits": Ulimit,
        "network": NetworkMode,
        "networks": Attachment,
        "egress": Egress,
        "ports": PortMapping,
        "user_namespace": UserNamespace,
        "log": LogConfig,
        "healthcheck": HealthCheck,
    }

    @property
    def lenders(self) -> set[str]:
        """The ids of the containers in whose namespaces it lives."""
        modes = (self.pid_mode, self.ipc_mode, self.uts_mode)
        found = {mode.partition(":")[2] for mode in modes if mode.startswith("container:")}
        if self.network.kind == "container":
            found.add(self.network.target)
        return (found | {self.user_namespace.target}) - {""}


@record
class ContainerState:
    """What a container does: ``state.json``, written by its supervisor alone.

    Before the first start there is no such file.  ``init`` and ``supervisor``
    are believed only while :func:`podpy.kernel.process.is_alive` says so.
    """

    version: int = 1
    status: Status
    init: ProcessIdentity | None = None
    supervisor: ProcessIdentity | None = None
    started: float = 0.0
    finished: float = 0.0
    exit_code: int = 0
    oom_killed: bool = False
    error: str = ""
    ports: tuple[PortMapping, ...] = ()
    address: str = ""
    networks: tuple[Endpoint, ...] = ()
    denied: tuple[Denial, ...] = ()
    cgroup: str = ""
    restarts: int = 0
    _nested = {
        "status": Status,
        "init": ProcessIdentity,
        "supervisor": ProcessIdentity,
        "ports": PortMapping,
        "networks": Endpoint,
        "denied": Denial,
    }


@record
class Container:
    """A container as the outside sees it: what was asked for, and what is.

    ``problem`` says why its files cannot be read; then the rest is what is known.
    """

    record: ContainerRecord
    state: ContainerState
    problem: str = ""

    @property
    def status(self) -> Status:
        return self.state.status


@record
class Volume:
    """A named volume: ``volumes/<name>/`` with its ``volume.json`` and ``_data/``."""

    version: int = 1
    name: str
    created: float
    anonymous: bool = False
    filled: bool = False
    labels: Mapping[str, str] = EMPTY
    options: Mapping[str, str] = EMPTY
    mountpoint: str = ""
