"""``-v``, ``--mount`` and ``--tmpfs`` as mounts: parsed once, strictly, purely.

Every key and option of docker and podman is either understood or an error that
names it.  ``z`` and ``Z`` are understood and need nothing: podpy does not
confine containers by SELinux labels, so content is accessible without.
"""

from __future__ import annotations

import os

from podpy.engine import values
from podpy.errors import UsageError
from podpy.model import Mount
from podpy.records import EMPTY, record
from podpy.storage import volumes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: Of these options at most one of each group may be given.
_EXCLUSIVE = (
    ("ro", "rw", "O"),
    ("z", "Z"),
    ("dev", "nodev"),
    ("exec", "noexec"),
    ("suid", "nosuid"),
    ("bind", "rbind"),
    ("copy", "nocopy"),
    ("shared", "rshared", "slave", "rslave", "private", "rprivate", "unbindable", "runbindable"),
)
_PROPAGATION = _EXCLUSIVE[-1]
_VOLUME_OPTIONS = frozenset(word for group in _EXCLUSIVE for word in group) | {"U"}
#: Hints for other platforms; documented to do nothing on Linux.
_HINTS = ("cached", "delegated", "consistent", "default")
_TMPFS_WORDS = frozenset(
    ["ro", "rw", "exec", "noexec", "suid", "nosuid", "dev", "nodev", "noatime", "notmpcopyup"]
)
_TMPFS_KEYS = ("size", "mode", "nr_inodes", "nr_blocks", "uid", "gid")


@record
class Wish:
    """A mount that was asked for, and what making it may need first.

    ``create_source`` lets a missing host directory be made (``-v``, as docker
    documents it; ``--mount`` reports it).  ``labels`` and ``settings`` are for
    a volume that does not exist yet.
    """

    mount: Mount
    create_source: bool = False
    labels: Mapping[str, str] = EMPTY
    settings: Mapping[str, str] = EMPTY


def parse_volume(text: str, cwd: str) -> Wish:
    """``-v [SOURCE:]DESTINATION[:OPTIONS]``."""
    parts = text.split(":")
    if len(parts) > 3 or "" in parts[:2]:
        raise UsageError(
            f"--volume: invalid specification {text!r}",
            hint="[SOURCE-VOLUME|HOST-DIR:]CONTAINER-DIR[:OPTIONS]",
        )
    if len(parts) == 1:
        destination = check_destination(parts[0], "--volume")
        return Wish(mount=Mount(type="volume", destination=destination, anonymous=True))
    source, destination = parts[0], check_destination(parts[1], "--volume")
    options = _options(parts[2].split(",") if len(parts) == 3 and parts[2] else (), text)
    if source[0] in "/.":
        _refuse_copy_words(options, text)
        mount = Mount(
            type="bind", source=_absolute(source, cwd), destination=destination, options=options
        )
        return Wish(mount=mount, create_source=True)
    check_volume_name(source)
    return Wish(mount=Mount(type="volume", source=source, destination=destination, options=options))


def _options(words: Iterable[str], text: str) -> tuple[str, ...]:
    given = [word for word in words if word not in _HINTS]
    for word in given:
        if word not in _VOLUME_OPTIONS:
            raise UsageError(f"--volume: invalid option {word!r} in {text!r}")
    for group in _EXCLUSIVE:
        both = [word for word in given if word in group]
        if len(both) > 1:
            raise UsageError(
                f"--volume: {both[0]!r} and {both[1]!r} exclude each other in {text!r}"
            )
    return tuple(given)


def _refuse_copy_words(options: Iterable[str], text: str) -> None:
    for word in options:
        if word in ("copy", "nocopy"):
            raise UsageError(f"--volume: {word!r} is for volumes, not for host paths: {text!r}")


def _absolute(source: str, cwd: str) -> str:
    return os.path.normpath(os.path.join(cwd, source))


def check_destination(path: str, option: str) -> str:
    """A normal absolute path in the container, not its root."""
    if not path.startswith("/"):
        raise UsageError(f"{option}: invalid container path {path!r}: it must be absolute")
    if "\0" in path:
        raise UsageError(f"{option}: container path contains a NUL character")
    normal = "/" + os.path.normpath(path).lstrip("/")
    if normal == "/":
        raise UsageError(f"{option}: the container path can't be '/'")
    return normal


def check_volume_name(name: str) -> None:
    if not volumes.is_name(name):
        raise UsageError(
            f"volume name {name!r} includes invalid characters",
            hint="names match [a-zA-Z0-9][a-zA-Z0-9_.-]*; a host path starts with / or .",
        )


# --- --tmpfs -----------------------------------------------------------------


def parse_tmpfs(text: str) -> Mount:
    """``--tmpfs DESTINATION[:OPTIONS]``."""
    path, _, rest = text.partition(":")
    destination = check_destination(path, "--tmpfs")
    words = [word for word in rest.split(",") if word]
    return Mount(type="tmpfs", destination=destination, options=_tmpfs_options(words, text))


def _tmpfs_options(words: Iterable[str], text: str) -> tuple[str, ...]:
    found = []
    for word in words:
        key, separator, value = word.partition("=")
        if separator and key in _TMPFS_KEYS:
            found.append(_tmpfs_setting(key, value, text))
        elif word in _TMPFS_WORDS:
            if word not in ("rw", "notmpcopyup"):
                found.append(word)
        else:
            raise UsageError(f"--tmpfs: invalid option {word!r} in {text!r}")
    return tuple(found)


def _tmpfs_setting(key: str, value: str, text: str) -> str:
    if key == "mode":
        if not value or not set("01234567").issuperset(value):
            raise UsageError(f"tmpfs: invalid mode {value!r} in {text!r}: it is octal")
        return f"mode={value}"
    if key == "size" and value.endswith("%"):
        return f"size={values.integer(value[:-1], 'tmpfs size', highest=100)}%"
    return f"{key}={values.size(value, f'tmpfs {key}')}"


# --- --mount -----------------------------------------------------------------


def parse_mount(text: str, cwd: str) -> Wish:
    """``--mount type=bind|volume|tmpfs,KEY=VALUE…`` (docker's default type is volume)."""
    given = _fields(text)
    kind = given.pop("type", "volume")
    makers = {"bind": _bind, "volume": _volume, "tmpfs": _tmpfs}
    if kind not in makers:
        raise UsageError(
            f"--mount: mount type {kind!r} is not supported", hint="bind, volume or tmpfs"
        )
    if "destination" not in given:
        raise UsageError(f"--mount: no destination in {text!r}", hint="destination=/path")
    destination = check_destination(given.pop("destination"), "--mount")
    wish = makers[kind](given, destination, cwd)
    if given:
        key = next(iter(given))
        raise UsageError(f"--mount: key {key!r} is not one of type {kind}: {text!r}")
    return wish


_ALIASES = {
    "src": "source",
    "dst": "destination",
    "target": "destination",
    "ro": "readonly",
    "chown": "U",
}


def _fields(text: str) -> dict[str, str]:
    """The keys of a ``--mount`` value; a field in double quotes may contain commas."""
    found: dict[str, str] = {}
    for field in _split_csv(text):
        key, separator, value = field.partition("=")
        name = _ALIASES.get(key, key)
        if name == "rw":
            name, value = "readonly", "false" if not separator or _true(value, key) else "true"
        if name in found:
            raise UsageError(f"--mount: {key!r} is given twice in {text!r}")
        found[name] = value if separator or key == "rw" else "true"
    found.pop("consistency", None)
    return found


def _split_csv(text: str) -> list[str]:
    found, start, quoted = [], 0, False
    for position, character in enumerate(text):
        if character == '"':
            quoted = not quoted
        elif character == "," and not quoted:
            found.append(text[start:position])
            start = position + 1
    found.append(text[start:])
    if quoted:
        raise UsageError(f"--mount: unbalanced quotes in {text!r}")
    return [field.replace('"', "") for field in found if field]


def _true(value: str, key: str) -> bool:
    return values.boolean(value, f"--mount: {key}")


def _switch(given: dict[str, str], key: str) -> bool:
    return key in given and _true(given.pop(key), key)


def _bind(given: dict[str, str], destination: str, cwd: str) -> Wish:
    if not given.get("source"):
        raise UsageError("--mount: type=bind needs source=/host/path")
    options = []
    if _switch(given, "readonly"):
        options.append("ro")
    if propagation := given.pop("bind-propagation", ""):
        if propagation not in _PROPAGATION:
            raise UsageError(f"--mount: invalid bind-propagation {propagation!r}")
        options.append(propagation)
    if _switch(given, "bind-nonrecursive"):
        options.append("bind")
    if recursive := given.pop("bind-recursive", ""):
        options += _recursive(recursive)
    options += _relabel(given.pop("relabel", ""))
    if _switch(given, "U"):
        options.append("U")
    source = _absolute(given.pop("source"), cwd)
    mount = Mount(type="bind", source=source, destination=destination, options=tuple(options))
    return Wish(mount=mount, create_source=_switch(given, "bind-create-src"))


def _recursive(value: str) -> list[str]:
    """docker's four ways; read-only is always recursive here, as it is by default there."""
    if value in ("enabled", "readonly"):
        return []
    if value == "disabled":
        return ["bind"]
    raise UsageError(f"--mount: bind-recursive={value} is not supported", hint="enabled, disabled")


def _relabel(value: str) -> list[str]:
    words = {"": [], "shared": ["z"], "private": ["Z"]}
    if value not in words:
        raise UsageError(f"--mount: invalid relabel {value!r}", hint="shared or private")
    return words[value]


def _volume(given: dict[str, str], destination: str, cwd: str) -> Wish:
    name = given.pop("source", "")
    if name:
        check_volume_name(name)
    options = ["ro"] if _switch(given, "readonly") else []
    if _switch(given, "volume-nocopy"):
        options.append("nocopy")
    if _switch(given, "U"):
        options.append("U")
    if (driver := given.pop("volume-driver", "local")) != "local":
        raise UsageError(f"--mount: volume driver {driver!r} is not supported", hint="local")
    mount = Mount(
        type="volume", source=name, destination=destination, options=tuple(options),
        anonymous=not name, subpath=_subpath(given.pop("volume-subpath", "")),
    )  # fmt: skip
    return Wish(
        mount=mount,
        labels=_sub_pairs(given, "volume-label"),
        settings=_sub_pairs(given, "volume-opt"),
    )


def _sub_pairs(given: dict[str, str], key: str) -> dict[str, str]:
    """``volume-label=a=b``: a pair in a value."""
    return values.pairs([given.pop(key)], f"--mount: {key}", bare=True) if key in given else {}


def _subpath(text: str) -> str:
    if text.startswith("/") or ".." in text.split("/"):
        raise UsageError(f"--mount: volume-subpath {text!r} leaves the volume")
    return text


def _tmpfs(given: dict[str, str], destination: str, cwd: str) -> Wish:
    if "source" in given:
        raise UsageError("--mount: type=tmpfs takes no source")
    options = ["ro"] if _switch(given, "readonly") else []
    for key in ("size", "mode"):
        if value := given.pop(f"tmpfs-{key}", ""):
            options.append(_tmpfs_setting(key, value, f"tmpfs-{key}={value}"))
    _switch(given, "notmpcopyup")
    return Wish(mount=Mount(type="tmpfs", destination=destination, options=tuple(options)))
