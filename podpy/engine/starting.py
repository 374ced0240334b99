"""From a container's record to running processes: everything ``start`` and ``run`` share.

The record says what was asked for; this module looks up what that means on
this host now (ids, living containers to join, volumes, files) and hands the
finished plan to :mod:`podpy.runtime.launch`.
"""

from __future__ import annotations

import os

from podpy import files
from podpy.engine import rootfs
from podpy.errors import HostError, StateError
from podpy.kernel import libc, process
from podpy.kernel.userns import IdMap
from podpy.model import ContainerState, Status
from podpy.netmodel import NetworkMode
from podpy.records import replace, to_dict
from podpy.runtime import launch, network, payload, spec, supervisor
from podpy.storage import containers, events

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from podpy.engine.context import Context
    from podpy.engine.filling import Fill
    from podpy.engine.handed import Handed
    from podpy.kernel.mounts import Operation
    from podpy.model import ContainerRecord, ProcessIdentity
    from podpy.netmodel import PortMapping
    from podpy.paths import Store
    from podpy.runtime.birth import Network

_ALL_NEW = {
    "network": libc.CLONE_NEWNET,
    "pid": libc.CLONE_NEWPID,
    "ipc": libc.CLONE_NEWIPC,
    "uts": libc.CLONE_NEWUTS,
    "cgroup": libc.CLONE_NEWCGROUP,
}
#: Statically linked ones: the container need not have the libraries of another.
_INIT_PROGRAMS = ("catatonit", "tini-static", "docker-init")
_INIT_DIRECTORIES = "/usr/libexec/podman:/usr/lib/podman:/usr/libexec/docker:/usr/bin:/usr/sbin"


def start(
    ctx: Context, record: ContainerRecord, *, client_fd: int = -1, client_wants: bytes = b"ioe",
    detached: bool, handed: Handed,
) -> int:  # fmt: skip
    """Start a container that is not live; the host's pid of its first process.

    ``client_fd`` is the supervisor's end of an attach socket, or -1;
    ``client_wants`` the streams that the other end attaches to; ``handed`` are
    descriptors of the caller's that the command gets.
    """
    store = ctx.store
    directory = store.container(record.id)
    run_directory = store.container_run(record.id)
    files.make_directory(run_directory)
    fills = _fills(ctx, record)
    try:
        if record.network.kind == "bridge":
            from podpy.engine import bridging

            bridging.prepare(ctx, record)
        if record.links:
            from podpy.engine import links

            record = links.effective(store, record)
        order = _order(
            ctx, record, directory, run_directory, fills=fills, detached=detached, handed=handed
        )
        order.task["client_wants"] = client_wants
        return launch.start(order, client_fd=client_fd)
    except BaseException:
        files.remove_tree(run_directory)
        if fills:
            from podpy.engine import filling

            filling.abandon(store, fills)
        raise


def _fills(ctx: Context, record: ContainerRecord) -> tuple[Fill, ...]:
    """The volumes that the image fills on this start."""
    if not any(mount.type == "volume" for mount in record.mounts):
        return ()
    from podpy.engine import filling

    return filling.plan(ctx.store, record, rootfs.id_map(ctx, record))


def _completion(store: Store, fills: tuple[Fill, ...]) -> Callable[[], None] | None:
    if not fills:
        return None
    from podpy.engine import filling

    owner = process.identity()
    return lambda: filling.complete(store, fills, owner)


def _order(
    ctx: Context, record: ContainerRecord, directory: str, run_directory: str,
    *, fills: tuple[Fill, ...], detached: bool, handed: Handed,
) -> launch.Order:  # fmt: skip
    id_map = rootfs.id_map(ctx, record)
    joined = _joined(ctx.store, record)
    plan = _plan(ctx, record, directory, id_map, joined, fills=fills, handed=handed)
    return launch.Order(
        plan=plan,
        directory=directory,
        task=_task(ctx, record, directory, run_directory, detached),
        state=ContainerState(
            status=Status.RUNNING, address=network.outlook(record.network).address
        ),
        network=_network(ctx, record, run_directory),
        cgroup_parent=record.cgroup_parent,
        cgroup_manager=ctx.config.engine.cgroup_manager,
        before_go=_completion(ctx.store, fills),
    )


def _task(
    ctx: Context, record: ContainerRecord, directory: str, run_directory: str, detached: bool
) -> dict[str, Any]:
    """What the supervisor is told (see :func:`podpy.runtime.supervisor.run`)."""
    log = to_dict(record.log)
    log["path"] = log["path"] or f"{directory}/log/ctr.log"
    files.make_directory(os.path.dirname(log["path"]))
    return {
        "id": record.id,
        "name": record.name,
        "directory": directory,
        "run_directory": run_directory,
        "tmp": ctx.store.tmp,
        "tty": record.tty,
        "stdin_open": record.interactive,
        "detached": detached,
        "log": log,
        "remove": record.remove,
        "stop_signal": record.stop_signal,
        "stop_timeout": record.stop_timeout,
        "timeout": record.timeout,
        "listen_fd": supervisor.listen(run_directory),
        "cgroup": "",
        "release": [f"{ctx.store.container_names}/{record.name}"],
        "discard": _anonymous_volumes(ctx.store, record),
        "sweep": "podpy.storage.staging:remove_tree",
        "events": events.for_supervisor(ctx.store, record),
    }


def _anonymous_volumes(store: Store, record: ContainerRecord) -> list[str]:
    mounts = (mount for mount in record.mounts if mount.type == "volume" and mount.anonymous)
    return [f"{store.volumes}/{mount.source}" for mount in mounts]


# --- namespaces --------------------------------------------------------------


def _modes(record: ContainerRecord) -> dict[str, str]:
    """Kind of namespace → ``private``, ``host`` or ``container:ID``."""
    net = record.network
    return {
        "network": f"container:{net.target}" if net.kind == "container" else net.kind,
        "pid": record.pid_mode,
        "ipc": record.ipc_mode,
        "uts": record.uts_mode,
        "cgroup": record.cgroup_mode,
    }


def _joined(store: Store, record: ContainerRecord) -> dict[str, ProcessIdentity]:
    """Kind of namespace → the living first process of the container that lends it."""
    found = {}
    modes = _modes(record)
    if record.user_namespace.mode == "container":
        modes["user"] = f"container:{record.user_namespace.target}"
    for kind, mode in modes.items():
        if mode.startswith("container:"):
            found[kind] = _lender(store, mode.partition(":")[2], kind)
    return found


def _lender(store: Store, container_id: str, kind: str) -> ProcessIdentity:
    other = containers.resolve(store, container_id)
    if not other.status.can_exec() or other.state.init is None:
        raise StateError(
            f"container {other.record.name} lends its {kind} namespace and is not running:"
            " cannot join it",
            hint=f"start it first: `podpy start {other.record.name}`",
        )
    return other.state.init


def _at_the_host(store: Store, record: ContainerRecord) -> ContainerRecord:
    """The record with ``host`` for what its lenders share with the host: nobody can join that."""
    shared = {
        kind
        for kind, mode in _modes(record).items()
        if mode.startswith("container:") and _lent(store, mode, kind) == "host"
    }
    if not shared:
        return record
    return replace(
        record,
        network=NetworkMode(kind="host") if "network" in shared else record.network,
        pid_mode="host" if "pid" in shared else record.pid_mode,
        ipc_mode="host" if "ipc" in shared else record.ipc_mode,
        uts_mode="host" if "uts" in shared else record.uts_mode,
    )


def _lent(store: Store, mode: str, kind: str) -> str:
    """What ``container:ID`` comes down to: a mode that is no other container's."""
    while mode.startswith("container:"):
        mode = _modes(containers.resolve(store, mode.partition(":")[2]).record)[kind]
    return mode


def _namespaces(record: ContainerRecord, joined: Mapping[str, ProcessIdentity]) -> spec.Namespaces:
    new = libc.CLONE_NEWNS
    by_lender: dict[tuple[int, int], tuple[ProcessIdentity, int]] = {}
    for kind, mode in _modes(record).items():
        if mode in ("host", "ns"):
            continue
        if kind in joined:
            who = joined[kind]
            _, flags = by_lender.get((who.pid, who.start), (who, 0))
            by_lender[who.pid, who.start] = (who, flags | _ALL_NEW[kind])
        else:
            new |= _ALL_NEW[kind]
    path = None
    if record.network.kind == "ns":
        from podpy.engine import netns

        path = netns.of(record)
    if path is not None and path.id_map is not None:
        return spec.Namespaces(new=new, user="join", network=path)
    lender = joined.get("user") or next(iter(joined.values()), None)
    if lender is None:
        return spec.Namespaces(new=new | libc.CLONE_NEWUSER, network=path)
    # The namespaces of a container belong to its user namespace: whoever joins
    # one without the other has no power over it (kernel: EPERM).
    _, flags = by_lender.get((lender.pid, lender.start), (lender, 0))
    by_lender[lender.pid, lender.start] = (lender, flags | libc.CLONE_NEWUSER)
    return spec.Namespaces(new=new, join=tuple(by_lender.values()), user="join", network=path)


# --- the plan ----------------------------------------------------------------


def _plan(
    ctx: Context, record: ContainerRecord, directory: str, id_map: IdMap,
    joined: Mapping[str, ProcessIdentity], *, fills: tuple[Fill, ...], handed: Handed,
) -> spec.Plan:  # fmt: skip
    effective = _at_the_host(ctx.store, record)
    namespaces = _namespaces(effective, joined)
    owns_network = effective.network.kind != "host" and (
        namespaces.network is None or namespaces.user == "join"
    )
    gids = sum(extent.count for extent in id_map.gid)
    first, last = spec.operations(
        effective,
        owns_network=owns_network,
        new_network=bool(namespaces.new & libc.CLONE_NEWNET),
        volume_paths=_volume_paths(ctx.store, record),
        files=_made_files(ctx, record, directory, joined),
        overlays=_overlays(record, directory),
        gid_count=gids,
        init_program=_init_program(ctx, handed) if record.init else "",
    )
    return spec.Plan(
        rootfs=rootfs.plan(ctx, record, directory, id_map),
        namespaces=namespaces,
        id_map=id_map,
        operations=(*fills, *first, *_accounts(record, directory), *_shared_memory(record, joined)),
        late_operations=tuple(last),
        owned=tuple(m.destination for m in spec.in_order(record.mounts) if "U" in m.options),
        read_only_root=record.read_only,
        hostname=_hostname(record) if namespaces.new & libc.CLONE_NEWUTS else "",
        domainname=record.domainname,
        process=handed.give(_payload(record, id_map)),
        tty=record.tty,
        interactive=record.interactive,
        loopback=bool(namespaces.new & libc.CLONE_NEWNET),
        bridged=effective.network.kind == "bridge",
    )


def _shared_memory(
    record: ContainerRecord, joined: Mapping[str, ProcessIdentity]
) -> tuple[Operation, ...]:
    """The lender's ``/dev/shm``, unless something else is mounted there."""
    if "ipc" not in joined or any(m.destination == "/dev/shm" for m in record.mounts):
        return ()
    from podpy.runtime.sharing import SharedMemory

    return (SharedMemory(lender=joined["ipc"]),)


def _accounts(record: ContainerRecord, directory: str) -> tuple[Operation, ...]:
    """The account that a keep-id container gets for its user."""
    if record.user_namespace.mode != "keep-id":
        return ()
    from podpy.engine import namespaces
    from podpy.runtime.accounts import Account

    kept = namespaces.kept_user(record.user_namespace, (os.geteuid(), os.getegid()))
    uid, _, gid = kept.partition(":")
    return (
        Account(
            name=os.environ.get("USER") or f"user{uid}",
            uid=int(uid),
            gid=int(gid),
            home=_home(record),
            path=f"{directory}/passwd",
        ),
    )


def _home(record: ContainerRecord) -> str:
    """The caller's own home directory where it is mounted; else where the payload starts."""
    home = os.environ.get("HOME", "")
    mounted = {mount.destination for mount in record.mounts}
    return home if home in mounted else record.working_dir


def _payload(record: ContainerRecord, id_map: IdMap) -> spec.Process:
    made = payload.process_of(record, may_set_groups=not id_map.is_single)
    if not record.init:
        return made
    return replace(made, argv=(spec.INIT_TARGET, "--", *record.argv))


def _init_program(ctx: Context, handed: Handed) -> str:
    path = ctx.config.containers.init_path or _first_init_program()
    handed.pass_through(path)
    return path


def _first_init_program() -> str:
    for name in _INIT_PROGRAMS:
        if path := process.find_program(name, _INIT_DIRECTORIES):
            return path
    raise HostError("--init: no init program on this host", hint="install the package catatonit")


def _volume_paths(store: Store, record: ContainerRecord) -> dict[str, str]:
    named = (mount.source for mount in record.mounts if mount.type == "volume")
    return {name: f"{store.volumes}/{name}/_data" for name in named}


def _overlays(record: ContainerRecord, directory: str) -> str:
    """The directory for what a container changes below its mounts with option ``O``."""
    for mount in record.mounts:
        if "O" in mount.options:
            for path in spec.overlay_directories(f"{directory}/overlays", mount):
                files.make_directory(path, 0o755)
    return f"{directory}/overlays"


# --- the files podpy makes for a container -----------------------------------


def _hostname(record: ContainerRecord) -> str:
    if record.hostname:
        return record.hostname
    shares_name = record.uts_mode == "host" or record.network.kind == "host"
    return os.uname().nodename if shares_name else record.id[:12]


def _made_files(
    ctx: Context, record: ContainerRecord, directory: str,
    joined: Mapping[str, ProcessIdentity],
) -> dict[str, str]:  # fmt: skip
    """Container path → host path of ``/etc/hosts``, ``resolv.conf``, ``hostname`` and the marker.

    A container that joins another's network shares that one's files.
    """
    source = directory
    contents = {"hostname": f"{_hostname(record)}\n", "containerenv": _container_env(record)}
    if "network" in joined:
        other = containers.resolve(ctx.store, record.network.target)
        source = ctx.store.container(other.record.id)
    else:
        resolv_conf = network.resolv_text(record)
        if resolv_conf is not None:
            contents["resolv.conf"] = resolv_conf
        if not record.no_hosts:
            contents["hosts"] = _hosts(ctx.store, record)
    for name, text in contents.items():
        # In place, not by rename: a bind mount follows the inode.
        files.write_atomic(f"{directory}/{name}", text, mode=0o644)
    found = {"/run/.containerenv": f"{directory}/containerenv"}
    if not record.no_hostname:
        found["/etc/hostname"] = f"{directory}/hostname"
    for name in ("resolv.conf", "hosts"):
        if os.path.exists(f"{source}/{name}"):
            found[f"/etc/{name}"] = f"{source}/{name}"
    if record.no_hosts:
        found.pop("/etc/hosts", None)
    return found


def _hosts(store: Store, record: ContainerRecord) -> str:
    base = None
    if record.hosts_file:
        from podpy.engine import hosts_base

        base = hosts_base.text(store, record)
    return network.hosts_text(record, _hostname(record), base)


def _container_env(record: ContainerRecord) -> str:
    """What podman's ``/run/.containerenv`` says; the file alone tells where one is.

    Only the privileged learn the container's name and image.
    """
    if not record.privileged:
        return ""
    lines = {
        "engine": "podpy",
        "name": record.name,
        "id": record.id,
        "image": record.image_name,
        "imageid": record.image_id,
        "rootless": "1",
    }
    return "".join(f'{key}="{value}"\n' for key, value in lines.items())


# --- the network -------------------------------------------------------------


def _network(ctx: Context, record: ContainerRecord, run_directory: str) -> Network | None:
    def holder(mapping: PortMapping) -> str:
        return _port_holder(ctx.store, record.id, mapping)

    if record.network.kind == "bridge":
        from podpy.engine import bridging

        return bridging.driver(ctx, record, holder)
    return network.driver(record.network, record.ports, directory=run_directory, holder=holder)


def _port_holder(store: Store, own_id: str, mapping: PortMapping) -> str:
    """The name of the running container that publishes a host port, or an empty string."""
    from podpy.net import ports

    for other in containers.every(store):
        if other.record.id == own_id or not other.status.is_live:
            continue
        if any(ports.is_same(port, mapping) for port in other.state.ports):
            return other.record.name
    return ""
