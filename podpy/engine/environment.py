"""The environment of a container's process, from all its sources in their order."""

from __future__ import annotations

import os

from podpy.engine import values
from podpy.errors import UsageError
from podpy.model import DEFAULT_PATH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from podpy.engine.options import ContainerOptions

PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy")


def build(
    options: ContainerOptions,
    *,
    host: Mapping[str, str],
    configured: Iterable[str],
    image: Iterable[str],
    hostname: str,
    proxies: bool,
) -> tuple[str, ...]:
    """``KEY=value`` texts; each source overrides those before it.

    Built-in values, containers.conf, the image, the host's proxy settings,
    ``--env-host``, ``--env-file``, ``--env``.  ``--unsetenv`` takes out what
    the first three gave.  ``HOME`` is left to the moment of the start, when the
    user is known; ``container`` tells programs inside that they are in one.
    """
    found = {"PATH": DEFAULT_PATH, "container": "podpy"}
    if options.tty:
        found["TERM"] = "xterm"
    found["HOSTNAME"] = hostname
    found.update(values.pairs(configured, "containers.conf: env", bare=True))
    found.update(values.pairs(image, "image environment", bare=True))
    if options.unsetenv_all:
        found.clear()
    for name in options.unsetenv:
        found.pop(name, None)
    if proxies and options.http_proxy:
        found.update({n: host[n] for p in PROXIES for n in (p, p.upper()) if n in host})
    if options.env_host:
        found.update(host)
    _apply(found, _from_files(options.env_file), host, "--env-file")
    _apply(found, options.env, host, "--env")
    return tuple(f"{name}={value}" for name, value in found.items())


def _from_files(paths: Iterable[str]) -> Iterable[str]:
    for path in paths:
        for line in values.lines(path, "--env-file"):
            name = line.partition("=")[0]
            if name != name.rstrip() or " " in name or "\t" in name:
                raise UsageError(f"--env-file: {path}: variable {name!r} contains white space")
            yield line


def apply(found: dict[str, str], given: Iterable[str], host: Mapping[str, str]) -> None:
    """Add ``--env`` texts to an environment (``exec`` has them too)."""
    _apply(found, given, host, "--env")


def apply_files(found: dict[str, str], paths: Iterable[str], host: Mapping[str, str]) -> None:
    """Add the variables of ``--env-file`` files to an environment."""
    _apply(found, _from_files(paths), host, "--env-file")


def _apply(
    found: dict[str, str], given: Iterable[str], host: Mapping[str, str], option: str
) -> None:
    """``NAME=value`` sets; ``NAME`` takes the host's value or removes; ``PREFIX*`` takes many."""
    for text in given:
        name, separator, value = text.partition("=")
        if not name:
            raise UsageError(f"{option}: {text!r} has no variable name")
        if "\0" in text:
            raise UsageError(f"{option}: {name!r} contains a NUL character")
        if separator:
            found[name] = value
        elif name.endswith("*"):
            found.update({n: v for n, v in host.items() if n.startswith(name[:-1])})
        elif name in host:
            found[name] = host[name]
        else:
            found.pop(name, None)


def of_host() -> Mapping[str, str]:
    """The caller's own environment."""
    return os.environ
