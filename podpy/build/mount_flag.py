"""The values of ``RUN --mount`` and ``RUN --device``: fields as CSV, checked."""

from __future__ import annotations

from podpy.build.diagnostics import Problem, suggest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Expand = Callable[[str], str]

TYPES = ("bind", "cache", "tmpfs", "secret", "ssh")
SHARING = ("shared", "private", "locked")

_ALIASES = {
    "src": "source",
    "read-only": "readonly",
    "tmpfs-size": "size",
    "dst": "target",
    "destination": "target",
    "ro": "readonly",
    "rw": "readwrite",
}
_KEYS = (
    "type", "from", "source", "target", "readonly", "readwrite", "required", "size", "id",
    "sharing", "mode", "uid", "gid", "env",
)  # fmt: skip
# SELinux labels, which podman's Dockerfiles ask for: a mount of a build shows the build's own
# directories, never the user's, and these have the label they need.
_LABELS = ("z", "Z", "relabel=shared", "relabel=private")
# The types that know a key; keys that are not here are known to all.
_OF_TYPES = {
    "required": ("secret", "ssh"),
    "size": ("tmpfs",),
    "sharing": ("cache",),
    "env": ("secret",),
    "mode": ("cache", "secret", "ssh"),
    "uid": ("cache", "secret", "ssh"),
    "gid": ("cache", "secret", "ssh"),
    "from": ("bind", "cache", "tmpfs", "ssh"),
}


def read_mount(text: str, expand: Expand | None) -> dict[str, Any]:
    """The fields of a mount, named as in ``instructions.RunMount``.

    Without ``expand``, values with a variable are left out and so are the
    checks that need all values.  Raises :class:`Problem`.
    """
    given: dict[str, str | None] = {}
    complete = True
    for field in csv(text):
        if field in _LABELS:
            continue
        key, equals, value = field.partition("=")
        name = _key(key, field)
        if name == "from" and "$" in value:
            raise Problem(
                "--mount: from takes no variables",
                at=field,
                hint="name a stage with FROM, which takes them, and mount from that",
            )
        if expand is None and "$" in value:
            complete = False
        else:
            given[name] = _value(name, field, bool(equals), expand(value) if expand else value)
    if complete:
        _check(given, text)
    return _fields(given)


def _key(written: str, field: str) -> str:
    key = written.lower()
    name = _ALIASES.get(key, key)
    if name not in _KEYS:
        hint = suggest(key, (*_KEYS, *_ALIASES)) or f"known are {' '.join(_KEYS)}"
        raise Problem(f"--mount: unknown key {written!a}", at=field, hint=hint)
    return name


def _value(name: str, field: str, given: bool, value: str) -> str:
    if given:
        return value
    if name not in ("readonly", "readwrite", "required"):
        raise Problem(f"--mount: {name} needs a value", at=field, hint=f"write {name}=VALUE")
    return "true"


def _check(given: dict[str, Any], text: str) -> None:
    """The rules between the fields of one mount."""
    kind = given.get("type", "bind").lower()
    if kind not in TYPES:
        hint = suggest(kind, TYPES) or f"known are {' '.join(TYPES)}"
        raise Problem(f"--mount: unknown type {kind!a}", at=f"type={given['type']}", hint=hint)
    for name in given:
        if kind not in _OF_TYPES.get(name, TYPES):
            raise Problem(f"--mount: {name} is not for type={kind}", at=name)
    if kind == "secret":
        if not any(given.get(name) for name in ("source", "target", "id", "env")):
            raise Problem("--mount: a secret needs id= or target=", at=text)
        if given.get("source") and given.get("id"):
            raise Problem("--mount: a secret takes source= or id=, not both", at=text)
    elif kind in ("bind", "cache", "tmpfs") and not given.get("target"):
        raise Problem(f"--mount: type={kind} needs target=", at=text)


def _fields(given: dict[str, str | None]) -> dict[str, Any]:
    """The values with their types; read-only unless the type is one to write to."""
    made: dict[str, Any] = {}
    for name, value in given.items():
        if value is None:
            continue
        if name in ("mode", "uid", "gid"):
            made[name] = _number(name, value)
        elif name == "size":
            made[name] = size(value)
        elif name in ("readonly", "required"):
            made[name] = boolean(name, value)
        elif name == "readwrite":
            made["readonly"] = not boolean(name, value)
        elif name == "sharing":
            made[name] = _sharing(value)
        else:
            made["from_" if name == "from" else name] = value
    made["type"] = made.get("type", "bind").lower()
    made.setdefault("readonly", made["type"] not in ("cache", "tmpfs"))
    return made


def _sharing(value: str) -> str:
    mode = value.lower()
    if mode not in SHARING:
        hint = suggest(mode, SHARING) or f"known are {' '.join(SHARING)}"
        raise Problem(f"--mount: unknown sharing {value!a}", at=f"sharing={value}", hint=hint)
    return mode


def _number(name: str, value: str) -> int:
    digits = "01234567" if name == "mode" else "0123456789"
    sound = 0 < len(value) <= 20 and not value.strip(digits)
    number = int(value, len(digits)) if sound else -1
    if not 0 <= number < 2**32:
        kind = "an octal mode" if name == "mode" else "a number of an id"
        raise Problem(f"--mount: {name}={value!a} is not {kind}", at=f"{name}={value}")
    return number


_TRUE = ("1", "t", "true")
_FALSE = ("0", "f", "false")


def boolean(name: str, value: str) -> bool:
    """A truth value as Go's ``strconv.ParseBool`` reads it, in any case."""
    if value.lower() in _TRUE:
        return True
    if value.lower() in _FALSE:
        return False
    raise Problem(f"{name}: {value!a} is neither true nor false", at=f"{name}={value}")


def size(value: str) -> int:
    """Bytes from ``64m``, ``1.5GiB``, ``4096`` (units are powers of 1024)."""
    text = value.strip().lower()
    number = text.rstrip("bikmgtp ")
    unit = text[len(number) :].strip().removesuffix("b").removesuffix("i")
    exponent = " kmgtp".find(unit or " ")
    try:
        if exponent < 0 or len(unit) > 1 or not number.replace(".", "", 1).isdecimal():
            raise ValueError
        return int(float(number) * 1024**exponent)
    except (ValueError, OverflowError):
        raise Problem(
            f"--mount: size={value!a} is not a size", at=f"size={value}", hint="e.g. size=64m"
        ) from None


def read_device(text: str) -> dict[str, Any]:
    """The fields of a device, named as in ``instructions.RunDevice``."""
    name = ""
    required = False
    for field in csv(text):
        key, equals, value = field.partition("=")
        if key.lower() == "required":
            required = boolean("required", value) if equals else True
        elif not name:
            name = value if key.lower() == "name" else field
        else:
            raise Problem(f"--device: unknown key {key!a}", at=field, hint="known: name required")
    if not name:
        raise Problem("--device needs a name", at=text, hint="e.g. --device=vendor.com/gpu=0")
    return {"name": name, "required": required}


def csv(text: str) -> list[str]:
    """The fields of one line of CSV."""
    if '"' not in text:
        return text.split(",")
    import csv as reader

    try:
        rows = list(reader.reader([text], strict=True))
    except reader.Error as error:
        raise Problem(f"{text!a}: {error}", at=text) from None
    return rows[0] if rows else []
