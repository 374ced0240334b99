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
from podpy.records import from_dict, to_dict
from podpy.settings import Candidates, Config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FORMAT = 3
_USR, _ETC = "/usr/share/containers", "/etc/containers"


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
