"""Dockerfile instructions applied to an image's configuration (``--change``)."""

from __future__ import annotations

import shlex
import time

from podpy import files
from podpy.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any


def now() -> str:
    """The present as RFC 3339, or what ``SOURCE_DATE_EPOCH`` says it is."""
    import os

    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    seconds = int(epoch) if epoch.isdigit() else time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def apply(config: Mapping[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """The ``config`` object of an image with instructions applied in their order.

    Raises :class:`UsageError` for an instruction that is not one or does not
    change a configuration.
    """
    made = dict(config)
    for change in changes:
        word, _, rest = change.strip().partition(" ")
        # podman also takes INSTRUCTION=value.
        if "=" in word:
            word, _, first = word.partition("=")
            rest = f"{first} {rest}".strip()
        instruction = _INSTRUCTIONS.get(word.upper())
        if instruction is None:
            known = " ".join(sorted(_INSTRUCTIONS))
            raise UsageError(f"change {change!a}: not one of {known}")
        if not rest.strip():
            raise UsageError(f"change {change!a}: {word.upper()} needs an argument")
        instruction(made, rest.strip())
    return made


def _command(text: str) -> list[str]:
    """The exec form (a JSON list), else the shell form."""
    if text.startswith("["):
        try:
            words = files.loads(text)
        except ValueError:
            words = None
        if isinstance(words, list) and all(isinstance(word, str) for word in words):
            return words
    return ["/bin/sh", "-c", text]


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UsageError(f"change: {text!a}: {error}") from None


def _pairs(text: str) -> list[tuple[str, str]]:
    """``key=value …``, or the old ``key value``."""
    words = _words(text)
    if words and "=" not in words[0]:
        key, _, value = text.partition(" ")
        return [(key, value.strip())]
    return [(key, value) for key, _, value in (word.partition("=") for word in words)]


def _set_env(config: dict[str, Any], text: str) -> None:
    env = dict(item.partition("=")[::2] for item in config.get("Env") or [])
    env.update(_pairs(text))
    config["Env"] = [f"{key}={value}" for key, value in env.items()]


def _set_labels(config: dict[str, Any], text: str) -> None:
    config["Labels"] = {**(config.get("Labels") or {}), **dict(_pairs(text))}


def _expose(config: dict[str, Any], text: str) -> None:
    ports = dict(config.get("ExposedPorts") or {})
    for word in text.split():
        number, _, protocol = word.partition("/")
        if not number.replace("-", "", 1).isdigit():
            raise UsageError(f"change: EXPOSE {word!a}: not a port")
        ports[f"{number}/{protocol.lower() or 'tcp'}"] = {}
    config["ExposedPorts"] = ports


def _volumes(config: dict[str, Any], text: str) -> None:
    paths = _command(text) if text.startswith("[") else text.split()
    config["Volumes"] = {**(config.get("Volumes") or {}), **{path: {} for path in paths}}


def _work_dir(config: dict[str, Any], text: str) -> None:
    import os.path

    config["WorkingDir"] = os.path.normpath(os.path.join(config.get("WorkingDir") or "/", text))


def _append(key: str) -> Callable[[dict[str, Any], str], None]:
    def append(config: dict[str, Any], text: str) -> None:
        config[key] = [*(config.get(key) or []), text]

    return append


def _assign(key: str, value: Callable[[str], Any] = str) -> Callable[[dict[str, Any], str], None]:
    def assign(config: dict[str, Any], text: str) -> None:
        config[key] = value(text)

    return assign


_INSTRUCTIONS: dict[str, Callable[[dict[str, Any], str], None]] = {
    "CMD": _assign("Cmd", _command),
    "ENTRYPOINT": _assign("Entrypoint", _command),
    "ENV": _set_env,
    "EXPOSE": _expose,
    "LABEL": _set_labels,
    "ONBUILD": _append("OnBuild"),
    "STOPSIGNAL": _assign("StopSignal"),
    "USER": _assign("User"),
    "VOLUME": _volumes,
    "WORKDIR": _work_dir,
}
