"""``create`` and ``run``: from options to a container on disk, and to its first exit code."""

from __future__ import annotations

import os
import sys
import time

from podpy import files
from podpy.engine import draft, handed, holding, launching, networks, publishing, pulling, rootfs
from podpy.engine.surroundings import Surroundings
from podpy.errors import Conflict, HostError, PodpyError, UsageError
from podpy.kernel import cgroup, userns
from podpy.net import ports
from podpy.records import record, replace
from podpy.storage import containers, events, states

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from podpy.engine.context import Context
    from podpy.engine.mounts import Wish
    from podpy.engine.namespaces import Ranges
    from podpy.engine.options import ContainerOptions
    from podpy.engine.progress import Progress
    from podpy.model import ContainerRecord, Image
    from podpy.paths import Store


@record
class RunResult:
    """How ``run`` ended: ``exit_code`` is None while the container still runs."""

    id: str
    exit_code: int | None = None


def create(ctx: Context, options: ContainerOptions, *, progress: Progress | None = None) -> str:
    """Make a container and return its id; nothing is left behind when that fails."""
    return _create(ctx, options, progress).id


def run(ctx: Context, options: ContainerOptions, *, progress: Progress | None = None) -> RunResult:
    """Make a container and start it; attached, until it ends or the user detaches.

    A container that cannot be started is removed again.
    """
    wants = _streams(options)
    given = handed.take(options.preserve_fds, options.preserve_fd)
    made = _create(ctx, options, progress)
    try:
        if options.detach:
            launching.launch(ctx, made, handed=given)
            _tell_of_logout(ctx.store, progress)
            return RunResult(id=made.id)
        code = launching.attached(ctx, made, wants=wants, sig_proxy=options.sig_proxy, handed=given)
    except BaseException:
        _forget(ctx.store, made)
        raise
    if options.rmi and code is not None:
        _remove_image(ctx, made)
    return RunResult(id=made.id, exit_code=code)


def _tell_of_logout(store: Store, progress: Progress | None) -> None:
    """Say, once per login, that systemd ends containers with the user's last session."""
    told = f"{store.run}/logout-told"
    if progress is None or not cgroup.has_user_manager() or os.path.exists(told):
        return
    import pwd

    from podpy.kernel import systemd

    try:
        warning = systemd.linger_warning(pwd.getpwuid(os.getuid()).pw_name)
        files.write_atomic(told, b"")
    except (KeyError, OSError):
        return  # the container runs: a warning is no reason to fail
    if warning:
        progress.warn(warning)


def _streams(options: ContainerOptions) -> bytes:
    """What ``--attach`` names, as the letters of :mod:`podpy.runtime.frames`; all by default."""
    if options.detach and options.attach:
        raise UsageError("--attach: conflicting options: --attach and --detach")
    if options.detach and options.rmi:
        raise UsageError("--rmi: needs a command that waits: leave --detach out")
    letters = {"stdin": b"i", "stdout": b"o", "stderr": b"e"}
    for name in options.attach:
        if name.lower() not in letters:
            raise UsageError(f"--attach: invalid stream {name!r}", hint="stdin, stdout or stderr")
    return b"".join(letters[name.lower()] for name in options.attach) or b"ioe"


def _remove_image(ctx: Context, made: ContainerRecord) -> None:
    """``--rmi``: unless other containers use the image."""
    from podpy.engine import image_removal

    others = (other.record.image_id for other in containers.every(ctx.store))
    if made.image_id and made.image_id not in others:
        image_removal.remove(ctx, (made.image_name or made.image_id,))


def rename(ctx: Context, name: str, new_name: str) -> None:
    """Give a container another name, whatever its state."""
    found = containers.resolve(ctx.store, name)
    with holding.hold(ctx.store, found.record):
        found = containers.read(ctx.store, found.record.id)
        containers.rename(ctx.store, found, new_name)
        renamed = containers.read(ctx.store, found.record.id)
        if renamed.record.network.kind == "bridge":
            from podpy.engine import connecting, links

            connecting.renamed(ctx, renamed)
            links.follow(ctx.store, found.record.name, renamed.record.name)
    events.container(ctx.store, renamed.record, "rename", oldName=found.record.name)


# --- the image ---------------------------------------------------------------


def _image(ctx: Context, options: ContainerOptions, progress: Progress | None) -> Image | None:
    """The image to run; None for ``--rootfs``."""
    if not options.rootfs:
        return pulling.find(ctx, options, None if options.quiet else progress)
    path, _ = draft.rootfs_directory(options.image)
    if not os.path.isdir(path):
        raise UsageError(f"--rootfs: {path}: no such directory")
    return None


# --- making ------------------------------------------------------------------


def _create(ctx: Context, options: ContainerOptions, progress: Progress | None) -> ContainerRecord:
    store = ctx.store
    store.prepare()
    if options.cidfile and os.path.exists(options.cidfile):
        raise Conflict(
            f"--cidfile: {options.cidfile}: container ID file exists already",
            hint="remove it, or choose another",
        )
    if options.replace and not options.name:
        raise UsageError("--replace: needs --name")
    image = _image(ctx, options, progress)
    plan = draft.build(options, image, ctx.config, surroundings(ctx))
    if plan.record.log.driver == "journald":
        from podpy.engine import streams

        streams.require_driver("journald")
    _warn(options, image, plan.record, progress)
    if options.replace:
        _remove_namesake(ctx, options.name)
    wanted = plan.record
    if wanted.network.kind == "ns":
        from podpy.engine import netns

        wanted = netns.settle(wanted)
    sources = _Sources(store, plan.wishes)
    try:
        if image is not None or wanted.rootfs_overlay:
            wanted = _with_driver(ctx, wanted, progress)
        made = containers.create(store, wanted, lambda path: _populate(path, sources))
        _write_cidfile(store, made)
    except BaseException:
        sources.undo()
        raise
    events.container(store, made, "create")
    return made


def _with_driver(
    ctx: Context, planned: ContainerRecord, progress: Progress | None
) -> ContainerRecord:
    """The record with the storage driver of this host; copying everything is not done silently."""
    driver = rootfs.driver(ctx)
    if driver.name == "vfs" and not ctx.config.storage.driver and progress is not None:
        progress.warn(f"storage driver vfs copies every layer ({'; '.join(driver.reasons)})")
    space = planned.user_namespace
    if space.uid_map and planned.layers and driver.name != "vfs" and progress is not None:
        wanted = userns.IdMap(uid=space.uid_map, gid=space.gid_map)
        if rootfs.needs_copy(driver.name, wanted):
            progress.warn(
                "the image is copied: neither fuse-overlayfs nor a kernel before 6.16"
                " can shift its owners"
            )
    return replace(planned, driver=driver.name)


def _warn(
    options: ContainerOptions,
    image: Image | None,
    planned: ContainerRecord,
    progress: Progress | None,
) -> None:
    """Say what is not done and need not keep the container from running."""
    if progress is None:
        return
    kind = planned.network.kind
    if (options.publish or options.publish_all) and kind in publishing.UNPUBLISHED:
        progress.warn(f"published ports are discarded when using {kind} network mode")
    for text in publishing.strange_ports(image.config.exposed_ports if image else ()):
        progress.warn(f"the image exposes {text!a}, which is no port: it is left out")
    if options.tty and options.interactive and not os.isatty(0):
        progress.warn("the input device is not a TTY")


def _populate(directory: str, sources: _Sources) -> None:
    """What a container's directory holds before its first start."""
    os.mkdir(f"{directory}/upper", 0o755)
    os.mkdir(f"{directory}/work", 0o700)
    sources.make()


def _write_cidfile(store: Store, made: ContainerRecord) -> None:
    if not made.cidfile:
        return
    try:
        files.write_atomic(made.cidfile, made.id, mode=0o644)
    except OSError as error:
        containers.remove(store, made)
        raise UsageError(f"--cidfile: {made.cidfile}: {error.strerror}") from None


def _remove_namesake(ctx: Context, name: str) -> None:
    from podpy.engine import lifecycle

    lifecycle.remove(ctx, (name,), force=True, volumes=True, ignore=True)


class _Sources:
    """The host directories and volumes that mounts need: made, and unmade on failure."""

    def __init__(self, store: Store, wishes: tuple[Wish, ...]) -> None:
        self._store = store
        self._wishes = wishes
        self._made: list[Callable[[], object]] = []

    def make(self) -> None:
        for wish in self._wishes:
            if wish.mount.type == "bind":
                self._bind(wish)
            elif wish.mount.type == "volume":
                self._volume(wish)

    def _bind(self, wish: Wish) -> None:
        source = wish.mount.source
        if os.path.exists(source):
            return
        if not wish.create_source:
            raise UsageError(
                f'--mount: invalid mount config for type "bind": bind source path does not exist:'
                f" {source}",
                hint="create it; -v would have made a directory",
            )
        try:
            os.makedirs(source, 0o755, exist_ok=True)
        except OSError as error:
            raise HostError(f"--volume: {source}: cannot be made: {error.strerror}") from None
        self._made.append(lambda: os.rmdir(source))

    def _volume(self, wish: Wish) -> None:
        from podpy.storage import volumes

        mount = wish.mount
        if volumes.exists(self._store, mount.source):
            return
        volumes.create(
            self._store, mount.source,
            labels=wish.labels, options=wish.settings, anonymous=mount.anonymous,
        )  # fmt: skip
        self._made.append(lambda: volumes.remove(self._store, mount.source))

    def undo(self) -> None:
        for step in reversed(self._made):
            try:
                step()
            except (OSError, PodpyError):
                continue  # somebody put something there meanwhile: it is his now
        self._made.clear()


# --- what the options are read against ---------------------------------------


def surroundings(ctx: Context) -> Surroundings:
    store = ctx.store

    def lookup(name: str) -> ContainerRecord:
        return containers.resolve(store, name).record

    return Surroundings(
        id=containers.new_id(),
        now=time.time(),
        cwd=_working_directory(),
        env=os.environ,
        hostname=os.uname().nodename,
        ids=(os.geteuid(), os.getegid()),
        command_line=("podpy", *sys.argv[1:]),
        lookup=lookup,
        ranges=_ranges,
        taken=lambda: _taken(store),
        find_network=lambda name: networks.find(ctx, name),
        parse_port=ports.parse,
        new_volume=containers.new_id,
    )


def _working_directory() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        raise HostError("the current directory does not exist any more") from None


def _ranges(name: str) -> tuple[Ranges, Ranges]:
    uids, gids = userns.subordinate_ids(name)
    return uids, gids


def _taken(store: Store) -> tuple[Ranges, Ranges]:
    """The host ids that the maps of ``--userns=auto`` containers hold."""
    uids: list[tuple[int, int]] = []
    gids: list[tuple[int, int]] = []
    for other in containers.every(store):
        space = other.record.user_namespace
        if space.mode == "auto":
            uids += [(extent.outside, extent.count) for extent in space.uid_map]
            gids += [(extent.outside, extent.count) for extent in space.gid_map]
    return uids, gids


def _forget(store: Store, made: ContainerRecord) -> None:
    """Remove a container that never ran, with its anonymous volumes and its id file."""
    try:
        state = states.read(store, made.id)
    except PodpyError:
        return
    if state.status.is_live or state.init is not None:
        return  # it runs or ran: what failed is our part in its session
    from podpy.engine import ending

    ending.discard(store, made)
    if made.cidfile:
        files.unlink(made.cidfile)
