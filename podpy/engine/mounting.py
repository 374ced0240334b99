"""Which mounts a container gets, from all who ask for some."""

from __future__ import annotations

import os

from podpy.engine import mounts
from podpy.engine.mounts import Wish
from podpy.errors import UsageError
from podpy.model import Mount
from podpy.records import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from podpy.engine.options import ContainerOptions
    from podpy.engine.surroundings import Surroundings
    from podpy.model import ImageConfig
    from podpy.settings import Config

_IMAGE_VOLUMES = ("", "anonymous", "bind", "ignore", "tmpfs")
_ZONES = "/usr/share/zoneinfo"


def choose(
    options: ContainerOptions,
    about: ImageConfig,
    config: Config,
    around: Surroundings,
) -> tuple[Wish, ...]:
    """Explicit mounts, then those of other containers, of containers.conf and of the image.

    A destination is taken by the first who names it; naming it twice in
    options is an error.
    """
    explicit = [mounts.parse_volume(text, around.cwd) for text in options.volume]
    explicit += [mounts.parse_mount(text, around.cwd) for text in options.mount]
    explicit += [Wish(mount=mounts.parse_tmpfs(text)) for text in options.tmpfs]
    taken: dict[str, Wish] = {}
    for wish in explicit:
        if wish.mount.destination in taken:
            raise UsageError(f"{wish.mount.destination}: duplicate mount destination")
        taken[wish.mount.destination] = wish
    for wish in _implicit(options, about, config, around):
        taken.setdefault(wish.mount.destination, wish)
    if zone := options.tz or config.containers.tz:
        localtime = Wish(mount=_timezone(zone))
        taken.setdefault(localtime.mount.destination, localtime)
    return tuple(_named(wish, around) for wish in taken.values())


def _implicit(
    options: ContainerOptions, about: ImageConfig, config: Config, around: Surroundings
) -> Iterable[Wish]:
    for text in options.volumes_from:
        yield from _from_container(text, around)
    for text in config.containers.volumes:
        yield mounts.parse_volume(text, around.cwd)
    for text in config.containers.mounts:
        yield mounts.parse_mount(text, around.cwd)
    mode = options.image_volume
    if mode not in _IMAGE_VOLUMES:
        raise UsageError(f"--image-volume: invalid mode {mode!r}", hint="bind, tmpfs or ignore")
    if mode == "ignore":
        return
    for path in about.volumes:
        destination = mounts.check_destination(path, "image volume")
        if mode == "tmpfs":
            yield Wish(mount=Mount(type="tmpfs", destination=destination, options=("exec",)))
        else:
            yield Wish(mount=Mount(type="volume", destination=destination, anonymous=True))


def _from_container(text: str, around: Surroundings) -> Iterable[Wish]:
    """``--volumes-from NAME[:ro|rw|z]``: the other container's binds and volumes, by reference."""
    name, _, options = text.partition(":")
    words = [word for word in options.split(",") if word]
    for word in words:
        if word not in ("ro", "rw", "z"):
            raise UsageError(f"--volumes-from: invalid option {word!r} in {text!r}")
    for mount in around.lookup(name).mounts:
        if mount.type not in ("bind", "volume"):
            continue
        kept = tuple(o for o in mount.options if not (words and o in ("ro", "rw")))
        # The volume stays the other container's: removing this one must not remove it.
        yield Wish(mount=replace(mount, anonymous=False, options=(*kept, *words)))


def _named(wish: Wish, around: Surroundings) -> Wish:
    mount = wish.mount
    if mount.type == "volume" and not mount.source:
        return replace(wish, mount=replace(mount, source=around.new_volume()))
    return wish


def _timezone(zone: str) -> Mount:
    if zone == "local":
        path = os.path.realpath("/etc/localtime")
    else:
        path = os.path.normpath(f"{_ZONES}/{zone}")
    if not path.startswith(f"{_ZONES}/") or not os.path.isfile(path):
        raise UsageError(
            f"--tz: unknown timezone {zone!r}", hint=f"a file below {_ZONES}, or local"
        )
    return Mount(type="bind", source=path, destination="/etc/localtime", options=("ro",))
