"""What ``build``'s options come to for its commands: the same as ``run``'s, by the same code."""

from __future__ import annotations

import os

from podpy.build.run_settings import NETWORK_HOST, Settings
from podpy.engine import build_request, containers, draft
from podpy.engine.options import ContainerOptions
from podpy.errors import HostError, UsageError
from podpy.kernel import process
from podpy.records import replace
from podpy.runtime import network

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from podpy.engine.build_options import BuildOptions
    from podpy.engine.build_request import Limits
    from podpy.engine.context import Context
    from podpy.model import ContainerRecord
    from podpy.netmodel import PortMapping
    from podpy.runtime.birth import Network

_OWN_USERNS = ("", "host")


def read(ctx: Context, options: BuildOptions) -> Settings:
    """The settings of every RUN; :class:`UsageError` names the option that is wrong."""
    _check(options)
    isolation = build_request.isolation(options.isolation, os.environ)
    asked = build_request.secrets(options.secret, os.environ)
    agents = build_request.agents(options.ssh, os.environ)
    template = _with_devices(_template(ctx, options), options)

    def driver(record: ContainerRecord, directory: str) -> Network | None:
        return _driver(ctx, record, directory)

    return Settings(
        template=template,
        driver=driver,
        cgroup_manager=ctx.config.engine.cgroup_manager,
        limits=_settings(build_request.limits(options)),
        isolation=isolation,
        stdin=options.stdin,
        allowed=frozenset(_allowed(options)),
        secrets={each.id: each for each in asked},
        agents={each.id: each for each in agents},
    )


def _check(options: BuildOptions) -> None:
    mapped = (options.userns_uid_map, options.userns_gid_map, options.userns_uid_map_user,
              options.userns_gid_map_group)  # fmt: skip
    if options.userns not in _OWN_USERNS or any(mapped):
        raise HostError(
            f"--userns {options.userns or 'map'}: layers are written with the default map:"
            " the container's root is you, and your subordinate ids are 1 and up",
            hint="leave the option out; the finished image runs under any --userns",
        )
    for option in ("ipc", "pid", "uts"):
        value = getattr(options, option)
        if value not in ("", "private", "container", "host"):
            raise UsageError(f"--{option} {value}: a build's command joins nobody else's namespace")
    if options.cgroupns not in ("", "private", "host"):
        raise UsageError(f"--cgroupns {options.cgroupns}: private or host")
    if build_request.isolation(options.isolation, os.environ) == "chroot":
        _check_chroot(options)


def _check_chroot(options: BuildOptions) -> None:
    """With chroot there are new user and mount namespaces, and all others are the host's."""
    for option in ("network", "pid", "ipc", "uts", "cgroupns"):
        value = getattr(options, option)
        if value not in ("", "host", "default"):
            raise UsageError(
                f"--{option} {value}: with --isolation chroot a command shares this with the host",
                hint="leave one of the two options out",
            )


def _private(mode: str) -> str:
    """buildah calls a namespace of the container's own ``container``."""
    return "private" if mode == "container" else mode


def _template(ctx: Context, options: BuildOptions) -> ContainerRecord:
    """The record of a container that runs a step."""
    like = ContainerOptions(
        image="",
        command=("-",),
        rm=True,
        network=(_network(ctx, options.network),),
        add_host=options.add_host,
        dns=options.dns,
        dns_search=options.dns_search,
        dns_option=options.dns_option,
        no_hosts=options.no_hosts,
        no_hostname=options.no_hostname,
        cap_add=options.cap_add,
        cap_drop=options.cap_drop,
        security_opt=options.security_opt,
        group_add=options.group_add,
        device=tuple(each for each in options.device if each.startswith("/")),
        ulimit=options.ulimit,
        shm_size=options.shm_size,
        volume=options.volume,
        cgroup_parent=options.cgroup_parent,
        cgroupns=options.cgroupns,
        ipc=_private(options.ipc),
        pid=_private(options.pid),
        uts=_private(options.uts),
    )
    made = draft.build(like, None, ctx.config, containers.surroundings(ctx))
    for wish in made.wishes:
        if wish.mount.type == "volume":
            raise UsageError(
                f"--volume: {wish.mount.source or wish.mount.destination!r} is a volume:"
                " a build mounts directories of the host",
                hint="--volume HOST-DIR:CONTAINER-DIR[:OPTIONS]",
            )
        if wish.mount.type == "bind" and not os.path.exists(wish.mount.source):
            raise HostError(f"--volume: {wish.mount.source}: no such file or directory")
    return replace(made.record, hostname="", working_dir="/", env=())


def _with_devices(template: ContainerRecord, options: BuildOptions) -> ContainerRecord:
    """The devices that ``--device`` gives by a name of the Container Device Interface."""
    named = [each for each in options.device if not each.startswith("/")]
    if not named:
        return template
    from podpy.build import cdi

    for name in named:
        edits = cdi.find(name)
        if edits is None:
            raise cdi.missing(name)
        template = edits.applied(template)
    return template


def _allowed(options: BuildOptions) -> Iterable[str]:
    """``--allow device`` for all, ``--allow device=NAME`` for one; and the host's network.

    Who gives it to all commands does not mind that one asks for it.
    """
    if options.network == "host":
        yield NETWORK_HOST
    for word in build_request.listed(options.allow):
        name, _, value = word.partition("=")
        if name == "device":
            yield value or "*"
        elif name == NETWORK_HOST:
            yield name


def _network(ctx: Context, wanted: str) -> str:
    """The build's network; by default a helper of each command's own, never a bridge."""
    if wanted in ("private", "container"):
        wanted = ""
    if wanted not in ("", "default"):
        return wanted
    if configured := ctx.config.network.default_rootless_network_cmd:
        return configured
    # slirp4netns is there in 3 ms, pasta in 20.
    installed = (name for name in ("slirp4netns", "pasta") if process.find_program(name))
    return next(installed, "slirp4netns")


def _driver(ctx: Context, record: ContainerRecord, directory: str) -> Network | None:
    def nobody(_mapping: PortMapping) -> str:
        return ""

    if record.network.kind == "bridge":
        from podpy.engine import bridging

        bridging.prepare(ctx, record)
        return bridging.driver(ctx, record, nobody, directory)
    return network.driver(record.network, (), directory=directory, holder=nobody)


def _settings(limits: Limits) -> Mapping[str, str]:
    """Limits as the files of a version 2 cgroup."""
    found = {}
    if limits.memory is not None:
        found["memory.max"] = str(limits.memory)
        # docker's rule: as much swap again, unless --memory-swap says otherwise.
        found["memory.swap.max"] = str(limits.memory)
    if limits.swap is not None:
        swap = limits.swap - (limits.memory or 0)
        found["memory.swap.max"] = "max" if limits.swap < 0 else str(swap)
    if limits.cpu_quota is not None or limits.cpu_period is not None:
        quota = "max" if limits.cpu_quota is None else str(limits.cpu_quota)
        found["cpu.max"] = f"{quota} {limits.cpu_period or 100000}"
    if limits.cpu_shares is not None:
        # The map of systemd and the OCI runtimes: 2 … 262144 to 1 … 10000.
        found["cpu.weight"] = str(1 + (limits.cpu_shares - 2) * 9999 // 262142)
    if limits.cpuset_cpus:
        found["cpuset.cpus"] = limits.cpuset_cpus
    if limits.cpuset_mems:
        found["cpuset.mems"] = limits.cpuset_mems
    return found
