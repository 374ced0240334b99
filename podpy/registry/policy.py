"""``policy.json``: which images may be brought in at all (containers-policy.json(5)).

The user's ``$XDG_CONFIG_HOME/containers/policy.json`` stands for the system's
``/etc/containers/policy.json``; with neither, everything is accepted, as
docker does.  podpy knows the requirements ``insecureAcceptAnything`` and
``reject``.  One that asks for signatures cannot be met, so it refuses: a
policy is never taken for weaker than it says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from podpy import files, paths
from podpy.errors import ImageError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from podpy.registry.reference import Reference

SYSTEM = "/etc/containers/policy.json"


def check(reference: Reference) -> None:
    """Raise :class:`ImageError` when the policy forbids pulling ``reference``."""
    path, policy = _load()
    if not path:
        return
    scope, requirements = _requirements(policy, reference)
    if not isinstance(requirements, list) or not requirements:
        raise StoreError(f"{path}: no requirements for {scope}")
    for requirement in requirements:
        kind = requirement.get("type") if isinstance(requirement, dict) else None
        if kind == "reject":
            raise ImageError(f"{reference}: rejected by the policy for {scope} in {path}")
        if kind != "insecureAcceptAnything":
            raise ImageError(
                f"{reference}: the policy for {scope} in {path} requires {kind!a},"
                " which podpy cannot check",
                hint="allow this repository with insecureAcceptAnything if you trust it",
            )


def _load() -> tuple[str, dict[str, Any]]:
    """The policy in force and its path; an empty path when there is none."""
    for path in (f"{paths.config_home()}/containers/policy.json", SYSTEM):
        try:
            policy = files.loads(files.read_bytes(path))
        except FileNotFoundError:
            continue
        except ValueError as error:
            raise StoreError(f"{path}: {error}") from None
        if not isinstance(policy, dict):
            raise StoreError(f"{path}: not a JSON object")
        return path, policy
    return "", {}


def _requirements(policy: dict[str, Any], reference: Reference) -> tuple[str, Any]:
    """The requirements of the most specific scope, with that scope's name."""
    scopes = (policy.get("transports") or {}).get("docker") or {}
    for scope in _scopes(reference):
        if scope in scopes:
            return scope or "all registries", scopes[scope]
    return "default", policy.get("default")


def _scopes(reference: Reference) -> Iterator[str]:
    """What a policy may call ``reference``, from the exact to the general."""
    yield str(reference)
    name = reference.name
    yield name
    while "/" in name:
        name = name.rpartition("/")[0]
        yield name
    labels = reference.registry.split(".")
    for first in range(1, len(labels)):
        yield "*." + ".".join(labels[first:])
    yield ""
