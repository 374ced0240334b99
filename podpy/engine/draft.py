"""From the user's options, an image and the configuration to a container's record.

:func:`build` decides everything about a container and does nothing: what it
must ask of the host comes in as its surroundings, what must be made before
the container can exist goes out as the wishes beside the record.
"""

from __future__ import annotations

import os

from podpy.engine import environment, namespaces, networking, security, values
from podpy.errors import UsageError
from podpy.kernel import capabilities, seccomp, signals
from podpy.model import ContainerRecord, ImageConfig, LogConfig, UserNamespace
from podpy.netmodel import NetworkMode
from podpy.records import record, replace
from podpy.runtime import spec, terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podpy.engine.mounts import Wish
    from podpy.engine.options import ContainerOptions
    from podpy.engine.surroundings import Surroundings
    from podpy.model import Device, Image
    from podpy.settings import Config

FILE_DRIVERS = ("k8s-file", "json-file")
LOG_DRIVERS = ("k8s-file", "json-file", "journald", "none", "passthrough")


@record
class Draft:
    """A record, and the mounts whose sources must be made or checked first."""

    record: ContainerRecord
    wishes: tuple[Wish, ...] = ()


def build(
    options: ContainerOptions, image: Image | None, config: Config, around: Surroundings
) -> Draft:
    """The record that ``options`` ask for; :class:`UsageError` names the option that is wrong."""
    about = image.config if image is not None else ImageConfig()
    base = _identity(options, image, around)
    base = _spaces(base, options, config, around)
    base = networking.details(base, options, about, config, around)
    base = _process(base, options, about, config, around)
    base = _rights(base, options, config, around)
    base = _running(base, options, about, config)
    wishes = _wishes(options, about, config, around)
    chosen = tuple(wish.mount for wish in wishes)
    if options.sysctl and any(mount.destination == "/proc" for mount in chosen):
        raise UsageError(
            "--sysctl: cannot be set where something else is mounted on /proc",
            hint="leave that mount out, or set it in the container",
        )
    return Draft(record=replace(base, mounts=chosen), wishes=wishes)


def rootfs_directory(text: str) -> tuple[str, bool]:
    """The directory of ``--rootfs PATH[:O]``, and whether it keeps as it is (``O``)."""
    path = text.removesuffix(":O")
    return path, path != text


def _identity(
    options: ContainerOptions, image: Image | None, around: Surroundings
) -> ContainerRecord:
    rootfs, keeps = rootfs_directory(options.image) if options.rootfs else ("", False)
    return ContainerRecord(
        id=around.id,
        name=options.name.removeprefix("/"),
        created=around.now,
        image_id=image.id if image else "",
        image_digest=image.digest if image else "",
        image_name=(image.names[0] if image.names else options.image) if image else "",
        layers=image.diff_ids if image else (),
        platform=str(image.platform) if image else "",
        rootfs=os.path.normpath(os.path.join(around.cwd, rootfs)) if rootfs else "",
        rootfs_overlay=keeps,
        argv=(),
        network=NetworkMode(kind="none"),
        user_namespace=UserNamespace(),
        log=LogConfig(),
        tty=options.tty,
        interactive=options.interactive,
        remove=options.rm or options.rmi,
        read_only=options.read_only,
        read_only_tmpfs=options.read_only_tmpfs,
        cgroup_parent=options.cgroup_parent,
        cidfile=_path(options.cidfile, around.cwd),
        pidfile=_path(options.pidfile, around.cwd),
        create_command=around.command_line,
    )


def _path(text: str, cwd: str) -> str:
    return os.path.normpath(os.path.join(cwd, text)) if text else ""


# --- namespaces --------------------------------------------------------------


def _spaces(
    base: ContainerRecord, options: ContainerOptions, config: Config, around: Surroundings
) -> ContainerRecord:
    defaults = config.containers

    def lookup(name: str) -> str:
        return around.lookup(name).id

    def lookup_shareable(name: str) -> str:
        lender = around.lookup(name)
        if lender.ipc_mode in ("private", "none"):
            raise UsageError(
                f"--ipc: container {lender.name}: non-shareable IPC",
                hint="make that container with --ipc=shareable",
            )
        return lender.id

    network, networks = networking.choose(options, config, around)
    made = replace(
        base,
        network=network,
        networks=networks,
        pid_mode=namespaces.simple(options.pid or defaults.pidns, "--pid", ("host",), lookup),
        ipc_mode=namespaces.simple(
            options.ipc or defaults.ipcns, "--ipc", ("host", "shareable", "none"), lookup_shareable
        ),
        uts_mode=namespaces.simple(options.uts or defaults.utsns, "--uts", ("host",), lookup),
        cgroup_mode=namespaces.simple(
            options.cgroupns or defaults.cgroupns, "--cgroupns", ("host",), None
        ),
    )
    user = namespaces.user(
        options, configured=defaults.userns or around.env.get("PODPY_USERNS", ""),
        joined=_joined(made), lookup=lookup, ids=around.ids,
        ranges=around.ranges, taken=around.taken,
    )  # fmt: skip
    return replace(made, user_namespace=user)


def _joined(made: ContainerRecord) -> str:
    """The container whose namespaces are joined, if any; it can only be one."""
    found = made.lenders
    if len(found) > 1:
        raise UsageError(
            "namespaces of more than one container are asked for",
            hint="a container can join one user namespace, and with it that container's others",
        )
    return next(iter(found), "")


# --- the process -------------------------------------------------------------


def _process(
    base: ContainerRecord,
    options: ContainerOptions,
    about: ImageConfig,
    config: Config,
    around: Surroundings,
) -> ContainerRecord:
    entrypoint, command = _command(options, about)
    argv = (*entrypoint, *command)
    if not argv:
        raise UsageError(
            "no command or entrypoint provided, and the image names none",
            hint="give a command after the image",
        )
    defaults = config.containers
    env = environment.build(
        options, host=around.env, configured=defaults.env, image=about.env,
        hostname=base.hostname, proxies=defaults.http_proxy,
    )  # fmt: skip
    umask = options.umask or defaults.umask or "0022"
    if not set("01234567").issuperset(umask):
        raise UsageError(f"--umask: invalid umask {umask!r}: it is octal")
    return replace(
        base,
        entrypoint=entrypoint,
        command=command,
        argv=argv,
        env=env,
        user=options.user or namespaces.kept_user(base.user_namespace, around.ids) or about.user,
        groups=tuple(name for text in options.group_add for name in text.split(",") if name),
        umask=int(umask, 8),
        working_dir=_working_dir(options.workdir or about.working_dir or "/"),
        init=options.init or defaults.init,
        oom_score_adj=_score(options.oom_score_adj, defaults.oom_score_adj),
    )


def _command(
    options: ContainerOptions, about: ImageConfig
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """docker's rule: ``--entrypoint`` clears the image's command as well."""
    if options.entrypoint is not None:
        return _entrypoint(options.entrypoint), options.command
    return about.entrypoint, options.command or about.cmd


def _entrypoint(text: str) -> tuple[str, ...]:
    if not text.startswith("["):
        return (text,) if text else ()
    from podpy import files

    try:
        words = files.loads(text)
    except ValueError:
        return (text,)
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise UsageError(f"--entrypoint: {text!r} is not a list of words")
    return tuple(words)


def _working_dir(path: str) -> str:
    if not path.startswith("/"):
        raise UsageError(f"--workdir: the working directory {path!r} is not an absolute path")
    return path


def _score(text: str, configured: int | None) -> int | None:
    if not text:
        return configured
    return values.integer(text, "--oom-score-adj", lowest=-1000, highest=1000)


# --- rights ------------------------------------------------------------------


def _rights(
    base: ContainerRecord, options: ContainerOptions, config: Config, around: Surroundings
) -> ContainerRecord:
    defaults = config.containers
    said = security.options(options.security_opt, around.cwd)
    if said.proc_options and base.pid_mode == "host":
        raise UsageError("--security-opt: proc-opts conflicts with --pid host: /proc is the host's")
    default_set = defaults.default_capabilities
    return replace(
        base,
        privileged=options.privileged,
        capabilities=capabilities.select(
            options.cap_add,
            options.cap_drop,
            options.privileged,
            capabilities.DEFAULT if default_set is None else default_set,
        ),
        no_new_privileges=said.no_new_privileges,
        seccomp=said.seccomp or _default_seccomp(options.privileged, defaults.seccomp_profile),
        masked=said.masked,
        unmasked=security.opened(said.unmasked, (*spec.MASKED, *spec.READ_ONLY)),
        proc_options=said.proc_options,
        devices=_devices(options, defaults.devices),
        ulimits=security.ulimits(options.ulimit, defaults.default_ulimits),
        sysctls=security.sysctls(
            options.sysctl,
            defaults.default_sysctls,
            own_network=base.network.kind not in ("host", "container", "ns"),
            own_ipc=base.ipc_mode in ("private", "shareable", "none"),
        ),
    )


def _devices(options: ContainerOptions, configured: tuple[str, ...]) -> tuple[Device, ...]:
    named = security.devices((*configured, *options.device))
    if not options.privileged:
        return named
    places = {device.container for device in named}
    return (*named, *(d for d in security.host_devices() if d.container not in places))


def _default_seccomp(privileged: bool, configured: str) -> str:
    if privileged:
        return seccomp.UNCONFINED
    return seccomp.read_profile(configured) if configured else seccomp.DEFAULT


# --- while it runs -----------------------------------------------------------


def _running(
    base: ContainerRecord, options: ContainerOptions, about: ImageConfig, config: Config
) -> ContainerRecord:
    engine = config.engine
    stop = options.stop_signal or about.stop_signal or "SIGTERM"
    keys = options.detach_keys
    if keys:
        terminal.parse_keys(keys)
    return replace(
        base,
        labels={**about.labels, **_labels(options)},
        annotations={
            **values.pairs(config.containers.annotations, "containers.conf: annotations"),
            **values.pairs(options.annotation, "--annotation"),
        },
        stop_signal=signals.name(signals.number(stop)),
        stop_timeout=values.integer(options.stop_timeout, "--stop-timeout", lowest=-1)
        if options.stop_timeout
        else engine.stop_timeout,
        timeout=values.integer(options.timeout, "--timeout") if options.timeout else 0,
        shm_size=_shm_size(base, options, config),
        detach_keys=engine.detach_keys if keys is None else keys,
        log=_log(options, config),
    )


def _labels(options: ContainerOptions) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in options.label_file:
        found.update(values.pairs(values.lines(path, "--label-file"), "--label-file", bare=True))
    found.update(values.pairs(options.label, "--label", bare=True))
    return found


def _shm_size(base: ContainerRecord, options: ContainerOptions, config: Config) -> int:
    if options.shm_size:
        if base.ipc_mode not in ("private", "shareable"):
            raise UsageError(f"--shm-size: conflicts with --ipc {base.ipc_mode}")
        return values.size(options.shm_size, "--shm-size")
    configured = config.containers.shm_size
    return values.size(configured, "containers.conf: shm_size") if configured else base.shm_size


def _log(options: ContainerOptions, config: Config) -> LogConfig:
    driver = options.log_driver or config.containers.log_driver or "k8s-file"
    if driver not in LOG_DRIVERS:
        raise UsageError(f"--log-driver: invalid driver {driver!r}", hint=", ".join(LOG_DRIVERS))
    given = values.pairs(options.log_opt, "--log-opt")
    if driver not in FILE_DRIVERS and (misplaced := {"path", "max-size", "max-file"} & set(given)):
        raise UsageError(f"--log-opt {min(misplaced)}: log driver {driver} writes no file")
    maximum = max(config.containers.log_size_max or 0, 0)
    made = LogConfig(
        driver=driver,
        path=given.pop("path", ""),
        tag=given.pop("tag", config.containers.log_tag),
        max_size=values.decimal_size(given.pop("max-size"), "--log-opt max-size")
        if "max-size" in given
        else maximum,
        max_file=values.integer(given.pop("max-file", "1"), "--log-opt max-file", lowest=1),
    )
    if given:
        raise UsageError(
            f"--log-opt: invalid option {next(iter(given))!r}", hint="path, max-size, max-file, tag"
        )
    if made.path and not made.path.startswith("/"):
        raise UsageError(f"--log-opt: path {made.path!r} must be absolute")
    return made


# --- mounts ------------------------------------------------------------------


def _wishes(
    options: ContainerOptions, about: ImageConfig, config: Config, around: Surroundings
) -> tuple[Wish, ...]:
    """The mounts; most containers have none, and then their languages are not imported."""
    defaults = config.containers
    given = (options.volume, options.mount, options.tmpfs, options.volumes_from,
             options.image_volume, options.tz, about.volumes,
             defaults.volumes, defaults.mounts, defaults.tz)  # fmt: skip
    if not any(given):
        return ()
    from podpy.engine import mounting

    return mounting.choose(options, about, config, around)
