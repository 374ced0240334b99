"""What a build reads, from its options: the context, the Dockerfile, named contexts."""

from __future__ import annotations

import os

from podpy.build import context
from podpy.build.places import Request
from podpy.engine import build_request
from podpy.engine.registries import RegistryOptions
from podpy.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podpy.build.context import Prepared
    from podpy.build.model import Report
    from podpy.engine.build_options import BuildOptions
    from podpy.engine.context import Context
    from podpy.registry.transport import Access

_KEEP_GIT = "BUILDKIT_CONTEXT_KEEP_GIT_DIR"


def prepare(ctx: Context, options: BuildOptions, report: Report = lambda _: None) -> Prepared:
    """See :func:`podpy.build.context.prepare`; a context manager."""
    if list(options.file).count("-") + (options.context == "-") > 1:
        raise UsageError("-: only one of the context and the Dockerfile can be standard input")
    arguments = build_request.arguments(options, os.environ)
    secrets = {each.id: each for each in build_request.secrets(options.secret, os.environ)}
    agents = {each.id: each for each in build_request.agents(options.ssh, os.environ)}

    def secret(name: str) -> str | None:
        found = secrets.get(name)
        return os.fsdecode(found.read()).strip() if found else None

    request = Request(
        source=options.context,
        files=options.file,
        ignore_file=options.ignorefile,
        named=build_request.contexts(options.build_context),
        keep_git_dir=arguments.get(_KEEP_GIT, "").lower() in ("1", "t", "true"),
        preprocessor=(*os.environ.get("BUILDAH_CPPFLAGS", "").split(), *options.cpp_flag),
        secret=secret,
        agent=agents["default"].paths[0] if "default" in agents else "",
        access=_access(ctx, options),
        report=report,
    )
    return context.prepare(ctx.store, request)


def registry(options: BuildOptions) -> RegistryOptions:
    """How registries and other servers are reached."""
    return RegistryOptions(
        authfile=options.authfile,
        creds=options.creds,
        cert_dir=options.cert_dir,
        tls_verify=options.tls_verify,
        retry=options.retry,
        retry_delay=options.retry_delay,
    )


def _access(ctx: Context, options: BuildOptions) -> Access | None:
    """How downloads are made, where that is not the usual way (whose code takes 60 ms to load)."""
    if options.tls_verify is None and not (options.cert_dir or options.retry):
        return None
    from podpy.engine import remote

    return remote.access(ctx, registry(options))
