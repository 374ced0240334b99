"""``login`` and ``logout``: credentials proved to a registry before they are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podpy.engine import remote
from podpy.engine.registries import RegistryOptions
from podpy.errors import AuthenticationError, NotFound, UsageError
from podpy.records import record
from podpy.registry import auth, client, shortnames
from podpy.registry import reference as references

if TYPE_CHECKING:
    from podpy.engine.context import Context


@record
class LoginResult:
    """``place`` is the file or helper that now holds the credentials of ``registry``."""

    registry: str
    username: str
    place: str


_DEFAULTS = RegistryOptions()


def login_key(ctx: Context, registry: str) -> str:
    """What credentials are kept under: ``registry[/path]``; without one, the default registry."""
    bare = registry.removeprefix("https://").removeprefix("http://").rstrip("/")
    if not bare:
        return (*ctx.config.registries.search, references.DEFAULT_REGISTRY)[0]
    host, _, path = bare.partition("/")
    if host in ("index.docker.io", "registry-1.docker.io") or path in ("v1", "v2"):
        path = ""
    if "." not in host and ":" not in host and host != references.LOCAL_REGISTRY:
        raise UsageError(f"login {registry}: {host!a} is not a registry")
    checked = references.parse(f"{host}/{path or 'x'}")
    return f"{checked.registry}/{path}" if path else checked.registry


def logged_in(ctx: Context, registry: str, options: RegistryOptions = _DEFAULTS) -> str:
    """The name that is logged in at a registry; :class:`NotFound` when nobody is."""
    key = login_key(ctx, registry)
    found = remote.stored(ctx, key, options)
    if found is None:
        raise NotFound(f"not logged into {key}", hint=f"run `podpy login {key}`")
    return found.username


def login(
    ctx: Context,
    registry: str,
    username: str,
    password: str,
    options: RegistryOptions = _DEFAULTS,
) -> LoginResult:
    """Prove a name and password to a registry, then keep them; nothing is kept that it refuses."""
    key = login_key(ctx, registry)
    if not username or ":" in username:
        raise UsageError(f"login {key}: a user name is needed, and it cannot hold a colon")
    if not password:
        raise UsageError(f"login {key}: a password is needed")
    given = auth.Credentials(username=username, password=password, origin="this login")
    probe = references.parse(key if "/" in key else f"{key}/x")
    source = shortnames.origin(probe, ctx.config.registries)
    repository = client.connect(
        source,
        remote.access(ctx, options),
        credentials=given,
        token_servers=ctx.config.engine.token_servers,
    )
    try:
        repository.ping()
    except AuthenticationError as error:
        raise AuthenticationError(
            f"login {key}: {error.message}", hint="check the user name and the password"
        ) from None
    place = auth.store(key, given, options.authfile)
    return LoginResult(registry=key, username=username, place=place)


def logout(
    ctx: Context, registry: str = "", *, all: bool = False, authfile: str = ""
) -> tuple[str, ...]:
    """Forget the credentials of one registry, or of all; return the places they were in."""
    if all:
        return auth.erase_all(authfile)
    key = login_key(ctx, registry)
    places = auth.erase(key, authfile)
    if not places:
        raise NotFound(f"logout {key}: not logged in")
    return places
