"""Credentials: where users of docker and podman keep them, read and written.

Looked up in (containers-auth.json(5)): ``--authfile`` or ``REGISTRY_AUTH_FILE``
alone; else ``$XDG_RUNTIME_DIR/containers/auth.json``,
``$XDG_CONFIG_HOME/containers/auth.json``, ``$DOCKER_CONFIG/config.json`` or
``~/.docker/config.json``, ``~/.dockercfg``.  In a file, the longest key that
covers the repository wins; for one key a helper of ``credHelpers`` comes
before ``credsStore``, and that before what ``auths`` holds.

``login`` writes to ``$XDG_CONFIG_HOME/containers/auth.json``, where it outlives
a reboot as docker's does, unless a file that is read earlier has the key.
"""

from __future__ import annotations

import base64
import binascii
import os
from typing import TYPE_CHECKING, Any

from podpy import files, paths
from podpy.errors import AuthenticationError, StoreError, UsageError
from podpy.kernel import process
from podpy.records import record

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCKER_HUB = "https://index.docker.io/v1/"
_HUB_KEYS = ("docker.io", "index.docker.io", "registry-1.docker.io")
_TOKEN_USER = "<token>"


@record
class Credentials:
    """A name and password, or an identity token; ``origin`` says where they came from."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    origin: str = ""

    def __repr__(self) -> str:
        return f"Credentials(username={self.username!r}, origin={self.origin!r})"


def parse(text: str) -> Credentials:
    """``--creds NAME:PASSWORD``."""
    name, colon, password = text.partition(":")
    if not name or not colon:
        raise UsageError("--creds must be NAME:PASSWORD")
    return Credentials(username=name, password=password, origin="--creds")


def find(name: str, authfile: str = "", helpers: tuple[str, ...] = ()) -> Credentials | None:
    """The credentials for ``registry/repository`` or a registry; None when there are none.

    ``helpers`` is ``credential-helpers`` of registries.conf: programs to ask
    in that order, where ``containers-auth.json`` stands for the files.
    """
    for helper in helpers or ("containers-auth.json",):
        if helper != "containers-auth.json":
            found = _ask_helper(helper, name.partition("/")[0])
        else:
            found = _find_in_files(name, authfile)
        if found is not None:
            return found
    return None


def _find_in_files(name: str, authfile: str) -> Credentials | None:
    for path in candidates(authfile):
        held = _AuthFile(path)
        for key in _keys(name):
            if (found := held.get(key)) is not None:
                return found
    return None


def candidates(authfile: str = "") -> tuple[str, ...]:
    """The files that are looked into, first to last."""
    if only := authfile or os.environ.get("REGISTRY_AUTH_FILE", ""):
        return (only,)
    docker = os.environ.get("DOCKER_CONFIG") or f"{paths.home()}/.docker"
    return (
        runtime_file(),
        persistent_file(),
        f"{docker}/config.json",
        f"{paths.home()}/.dockercfg",
    )


def runtime_file() -> str:
    """podman's default: gone after a reboot."""
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    return f"{base}/containers/auth.json" if base else f"/run/containers/{os.getuid()}/auth.json"


def persistent_file() -> str:
    return f"{paths.config_home()}/containers/auth.json"


def _keys(name: str) -> Iterator[str]:
    """A repository, each of its parents, the registry: the most exact first."""
    yield name
    while "/" in name:
        name = name.rpartition("/")[0]
        yield name


def _host_of(key: str) -> str:
    """What a key of ``auths`` means: docker wrote URLs such as ``https://host/v1/``."""
    bare = key
    for scheme in ("https://", "http://"):
        if key.startswith(scheme):
            bare = key.removeprefix(scheme).partition("/")[0]
    return "docker.io" if bare in _HUB_KEYS else bare


class _AuthFile:
    """One credentials file; a missing one is empty, a damaged one an error that names it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.values: dict[str, Any] = {}
        try:
            held = files.loads(files.read_bytes(path))
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return
        except ValueError as error:
            raise StoreError(f"{path}: {error}") from None
        if not isinstance(held, dict):
            raise StoreError(f"{path}: not a JSON object")
        self.values = {"auths": held} if path.endswith(".dockercfg") else held

    def table(self, name: str) -> dict[str, Any]:
        found = self.values.get(name) or {}
        if not isinstance(found, dict):
            raise StoreError(f"{self.path}: {name} is not an object")
        return found

    def helper_for(self, key: str) -> str:
        """The credential helper in charge of a registry, or an empty string."""
        chosen = {_host_of(host): name for host, name in self.table("credHelpers").items()}
        return str(chosen.get(_host_of(key)) or self.values.get("credsStore") or "")

    def get(self, key: str) -> Credentials | None:
        if "/" not in key and (helper := self.helper_for(key)):
            found = _ask_helper(helper, key)
            if found is not None:
                return found
        for name, entry in self.table("auths").items():
            if _host_of(name) == _host_of(key) and isinstance(entry, dict):
                found = _decode(entry, self.path)
                if found is not None:
                    return found
        return None

    def put(self, key: str, entry: dict[str, Any]) -> None:
        auths = self.table("auths")
        for name in [name for name in auths if _host_of(name) == _host_of(key)]:
            del auths[name]
        if self.path.endswith(("/.docker/config.json", ".dockercfg")):
            key = _server(key)  # docker looks for its hub under this name alone
        self.values["auths"] = {**auths, key: entry}

    def drop(self, key: str) -> bool:
        auths = self.table("auths")
        names = [name for name in auths if _host_of(name) == _host_of(key)]
        for name in names:
            del auths[name]
        return bool(names)

    def save(self) -> None:
        """Replace the file: 0600 from its first byte, whatever mode it had."""
        path = os.path.realpath(self.path)  # a symbolic link stays one
        files.make_directory(os.path.dirname(path))
        content = self.values
        if self.path.endswith(".dockercfg"):
            content = self.table("auths")
        files.write_atomic(path, _pretty(content), mode=0o600, durable=True)


def _pretty(content: dict[str, Any]) -> str:
    import json

    return json.dumps(content, indent="\t") + "\n"


def _decode(entry: dict[str, Any], path: str) -> Credentials | None:
    """An entry of ``auths``: ``auth`` is base64 of ``name:password``."""
    token = entry.get("identitytoken")
    encoded = entry.get("auth")
    name, password = entry.get("username") or "", entry.get("password") or ""
    if isinstance(encoded, str) and encoded:
        try:
            text = base64.b64decode(encoded, validate=True).decode("utf-8").rstrip("\x00")
        except (ValueError, binascii.Error):
            raise StoreError(f"{path}: an auth entry is not base64 of name:password") from None
        name, _, password = text.partition(":")
    if isinstance(token, str) and token:
        return Credentials(username=name, identity_token=token, origin=path)
    if not name:
        return None
    return Credentials(username=name, password=password, origin=path)


# --- helpers -----------------------------------------------------------------


def _server(key: str) -> str:
    """How docker's helpers know a registry."""
    return DOCKER_HUB if _host_of(key) == "docker.io" else key


def _run_helper(name: str, verb: str, text: str) -> process.Completed:
    if not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise UsageError(f"credential helper {name!a}: not a program's name")
    program = process.find_program(f"docker-credential-{name}")
    if not program:
        raise AuthenticationError(
            f"credential helper docker-credential-{name}: not found in PATH",
            hint="install it, or take credsStore and credHelpers out of the credentials file",
        )
    return process.run([program, verb], input=text.encode(), timeout=60)


def _ask_helper(name: str, key: str) -> Credentials | None:
    done = _run_helper(name, "get", _server(key))
    if done.code != 0:
        said = (done.stdout + done.stderr).decode(errors="replace")
        if "not found" in said.lower():
            return None
        raise AuthenticationError(f"docker-credential-{name}: {said.strip()[:200]!a}")
    try:
        answer = files.loads(done.stdout)
        user, secret = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, KeyError, TypeError):
        raise AuthenticationError(f"docker-credential-{name}: answered no credentials") from None
    origin = f"docker-credential-{name}"
    if user == _TOKEN_USER:
        return Credentials(identity_token=secret, origin=origin)
    return Credentials(username=user, password=secret, origin=origin) if user else None


# --- login and logout ----------------------------------------------------------


def store(key: str, credentials: Credentials, authfile: str = "") -> str:
    """Keep credentials for a registry or repository; return where they went."""
    path = _target(key, authfile)
    held = _AuthFile(path)
    helper = "" if "/" in key else held.helper_for(key)
    if helper:
        secret = {
            "ServerURL": _server(key),
            "Username": credentials.username,
            "Secret": credentials.password,
        }
        done = _run_helper(helper, "store", files.dumps(secret))
        if done.code != 0:
            said = (done.stdout + done.stderr).decode(errors="replace").strip()
            raise AuthenticationError(f"docker-credential-{helper}: {said[:200]!a}")
        return f"docker-credential-{helper}"
    pair = f"{credentials.username}:{credentials.password}".encode()
    held.put(key, {"auth": base64.b64encode(pair).decode()})
    held.save()
    return path


def _target(key: str, authfile: str) -> str:
    """The file a login belongs into: the one that would otherwise hide it, else the lasting one."""
    if only := authfile or os.environ.get("REGISTRY_AUTH_FILE", ""):
        return only
    if _AuthFile(runtime_file()).get(key) is not None:
        return runtime_file()
    return persistent_file()


def erase(key: str, authfile: str = "") -> tuple[str, ...]:
    """Forget a registry's credentials; return the places they were in."""
    places = []
    for path in candidates(authfile):
        held = _AuthFile(path)
        helper = "" if "/" in key else held.helper_for(key)
        if helper and _run_helper(helper, "erase", _server(key)).code == 0:
            places.append(f"docker-credential-{helper}")
        if held.drop(key):
            held.save()
            places.append(path)
    return tuple(places)


def erase_all(authfile: str = "") -> tuple[str, ...]:
    """Forget every registry of every file; return the places that held one."""
    places: list[str] = []
    for path in candidates(authfile):
        for key in list(_AuthFile(path).table("auths")):
            places += erase(_host_of(key), path)
        for key in list(_AuthFile(path).table("credHelpers")):
            places += erase(_host_of(key), path)
    return tuple(dict.fromkeys(places))
