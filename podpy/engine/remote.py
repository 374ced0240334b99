"""Reaching registries: what the options of a transfer open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podpy.engine import values
from podpy.registry import auth, client
from podpy.registry.transport import Access

if TYPE_CHECKING:
    from podpy.engine.context import Context
    from podpy.engine.registries import RegistryOptions
    from podpy.registry.client import Repository
    from podpy.registry.shortnames import Source


def access(ctx: Context, options: RegistryOptions) -> Access:
    engine = ctx.config.engine
    return Access(
        tls_verify=options.tls_verify,
        cert_dir=options.cert_dir,
        retries=values.integer(options.retry, "--retry") if options.retry else engine.retry,
        pause=values.duration(options.retry_delay or engine.retry_delay or "1s", "--retry-delay"),
    )


def open_repository(ctx: Context, source: Source, options: RegistryOptions) -> Repository:
    if options.creds:
        credentials: auth.Credentials | None = auth.parse(options.creds)
    else:
        credentials = stored(ctx, source.reference.name, options)
    return client.connect(
        source,
        access(ctx, options),
        credentials=credentials,
        token_servers=ctx.config.engine.token_servers,
    )


def bare(name: str) -> str:
    """A name as other tools write it, without the transport they put before it."""
    return name.removeprefix("docker://")


def stored(ctx: Context, name: str, options: RegistryOptions) -> auth.Credentials | None:
    """The credentials that files and helpers hold for a repository or registry."""
    return auth.find(name, options.authfile, ctx.config.registries.credential_helpers)
