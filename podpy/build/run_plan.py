"""From a RUN to the plan of its container: the record, the files made for it, the mounts."""

from __future__ import annotations

import os

from podpy import files
from podpy.build import inside, single
from podpy.build.inline import Inline, InlineFile
from podpy.kernel import libc, userns
from podpy.kernel.mounts import Bind, Symlink
from podpy.netmodel import NetworkMode
from podpy.records import record, replace
from podpy.runtime import network, payload, spec
from podpy.storage import overlay

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from podpy.build.bench import Bench
    from podpy.build.cdi import Edits
    from podpy.build.inside import Upper
    from podpy.build.model import RunWork
    from podpy.build.mounts import Mounts
    from podpy.build.run_settings import Settings
    from podpy.kernel.mounts import Operation
    from podpy.kernel.userns import IdMap
    from podpy.model import ContainerRecord

#: The same in every build: a host name is a thing that commands write into files.
HOSTNAME = "podpy-build"

_NEW = {
    "pid_mode": libc.CLONE_NEWPID,
    "ipc_mode": libc.CLONE_NEWIPC,
    "uts_mode": libc.CLONE_NEWUTS,
    "cgroup_mode": libc.CLONE_NEWCGROUP,
}


@record
class Made:
    """A step's record and plan; ``directory`` is for what its helpers need."""

    record: ContainerRecord
    plan: spec.Plan
    directory: str


def make(
    work: RunWork, settings: Settings, bench: Bench, upper: Upper, mounts: Mounts,
    *, argv: tuple[str, ...], env: tuple[str, ...], edits: Edits | None = None,
) -> Made:  # fmt: skip
    """Everything that M and I need; ``edits`` are those of the instruction's devices."""
    directory, identity = bench.place(), os.urandom(32).hex()
    made = replace(
        _isolated(settings.template, settings.isolation, work.instruction.network),
        id=identity,
        name=f"build-{identity[:12]}",
        hostname=HOSTNAME,
        argv=argv,
        env=(*env, *settings.template.env),  # devices' own
        user=work.user,
        working_dir=work.working_dir,
    )
    if edits is not None:
        made = edits.applied(made)
    return Made(record=made, plan=_plan(made, bench, upper, mounts, directory), directory=directory)


def _isolated(template: ContainerRecord, isolation: str, wanted: str) -> ContainerRecord:
    """The record with the namespaces that this step gets."""
    if wanted in ("none", "host"):
        template = replace(template, network=NetworkMode(kind=wanted), networks=())
    if isolation != "chroot":
        return _without_settings(template, "net.") if wanted == "host" else template
    # For hosts that allow nothing but user and mount namespaces.
    return replace(
        _without_settings(template, ""),
        network=NetworkMode(kind="host"),
        networks=(),
        pid_mode="host",
        ipc_mode="host",
        uts_mode="host",
        cgroup_mode="host",
    )


def _without_settings(made: ContainerRecord, prefix: str) -> ContainerRecord:
    """Without the sysctls of a namespace that is the host's now."""
    kept = {name: made.sysctls[name] for name in made.sysctls if not name.startswith(prefix)}
    return replace(made, sysctls=kept)


def _namespaces(made: ContainerRecord) -> spec.Namespaces:
    new = libc.CLONE_NEWNS | libc.CLONE_NEWUSER
    if made.network.kind != "host":
        new |= libc.CLONE_NEWNET
    for field, flag in _NEW.items():
        if getattr(made, field) != "host":
            new |= flag
    return spec.Namespaces(new=new)


def _plan(
    made: ContainerRecord, bench: Bench, upper: Upper, mounts: Mounts, directory: str
) -> spec.Plan:
    namespaces = _namespaces(made)
    id_map = userns.root_map()
    own_network = bool(namespaces.new & libc.CLONE_NEWNET)
    first, last = spec.operations(
        made,
        owns_network=own_network,
        new_network=own_network,
        volume_paths={},
        files={},
        overlays=_overlays(made, directory),
        gid_count=sum(extent.count for extent in id_map.gid),
    )
    standard = spec.covered(
        (each for each in first if not isinstance(each, Symlink) or each.link != "/etc/mtab"),
        (),
    )
    contents = _uncovered(_contents(made, bench, id_map), (*mounts.targets, *_places(made)))
    operations: tuple[Operation, ...] = (
        *standard,
        *mounts.operations,
        *_files(made, contents, directory),
    )
    return spec.Plan(
        rootfs=inside.rootfs(bench.store, bench.driver, upper),
        namespaces=namespaces,
        id_map=id_map,
        operations=operations,
        late_operations=tuple(last),
        owned=tuple(m.destination for m in spec.in_order(made.mounts) if "U" in m.options),
        hostname=_hostname(made) if namespaces.new & libc.CLONE_NEWUTS else "",
        process=payload.process_of(made, may_set_groups=not id_map.is_single),
        loopback=own_network,
        bridged=made.network.kind == "bridge",
        surveyed=(*_targets(standard), *mounts.targets, *contents),
        recorder=single.filter_program() if id_map.is_single else b"",
    )


def _targets(operations: Iterable[spec.Standard]) -> Iterable[str]:
    return (each.target for each in operations if not isinstance(each, Symlink))


def _overlays(made: ContainerRecord, directory: str) -> str:
    """The directory for what a command changes below volumes with option ``O``."""
    for mount in made.mounts:
        if "O" in mount.options:
            for path in spec.overlay_directories(f"{directory}/overlays", mount):
                files.make_directory(path, 0o755)
    return f"{directory}/overlays"


# --- the files podpy makes for a command -------------------------------------


def _hostname(made: ContainerRecord) -> str:
    shares = made.uts_mode == "host" or made.network.kind == "host"
    return os.uname().nodename if shares else HOSTNAME


def _contents(made: ContainerRecord, bench: Bench, id_map: IdMap) -> dict[str, str]:
    """The files by their place in the container."""
    name = _hostname(made)
    contents = {"/run/.containerenv": ""}
    if not made.no_hostname:
        contents["/etc/hostname"] = f"{name}\n"
    if not made.no_hosts:
        contents["/etc/hosts"] = network.hosts_text(made, name)
    resolv_conf = network.resolv_text(made)
    if resolv_conf is not None:
        contents["/etc/resolv.conf"] = resolv_conf
    if id_map.is_single:
        contents |= single.settings(overlay.lower_directories(bench.store, bench.layers))
    return contents


def _places(made: ContainerRecord) -> Iterable[str]:
    return (mount.destination for mount in made.mounts)


def _uncovered(contents: Mapping[str, str], covered: Iterable[str]) -> dict[str, str]:
    """Those files where none of the mounts lies that were asked for."""
    places = tuple(path.rstrip("/") for path in covered)
    return {
        target: text
        for target, text in contents.items()
        if not any(target == path or target.startswith(f"{path}/") for path in places)
    }


def _files(
    made: ContainerRecord, contents: Mapping[str, str], directory: str
) -> list[Inline | Bind]:
    """The operations that bring the files: of memory, but for those that are rewritten.

    On bridge networks the addresses become known when all is mounted; what is
    then written into the file shows through the mount.
    """
    place = f"{directory}/files"
    os.mkdir(place)
    found: list[Inline | Bind] = []
    inline = []
    for target, text in contents.items():
        name = os.path.basename(target)
        if made.network.kind == "bridge" and name in ("hosts", "resolv.conf"):
            files.write_atomic(f"{directory}/{name}", text, mode=0o644)
            found.append(Bind(source=f"{directory}/{name}", target=target, recursive=False))
        else:
            data = text.encode()
            inline.append(InlineFile(target=target, data=data, mode=0o644, writable=True))
    return [*found, Inline(place=place, files=tuple(inline))]
