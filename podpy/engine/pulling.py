"""The image of a container, fetched when it is missing.

Registries are asked by a child process: pulling imports much and runs threads,
and a process with threads must not fork a container.
"""

from __future__ import annotations

from podpy.engine import images
from podpy.errors import NotFound, PodpyError, UsageError
from podpy.kernel import process
from podpy.runtime.channel import FAILED, Channel, revive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podpy.engine.context import Context
    from podpy.engine.options import ContainerOptions
    from podpy.engine.progress import Progress
    from podpy.model import Image

POLICIES = ("missing", "always", "never", "newer")
_DONE = "done"


def find(ctx: Context, options: ContainerOptions, progress: Progress | None) -> Image:
    """The image that ``--pull``, ``--platform`` and the name ask for."""
    policy = options.pull or ctx.config.engine.pull_policy
    if policy not in POLICIES:
        raise UsageError(f"--pull: invalid policy {policy!r}", hint=", ".join(POLICIES))
    if policy in ("missing", "never"):
        local = _local(ctx, options)
        if isinstance(local, NotFound):
            if policy == "never":
                raise local
        else:
            return local
    return images.find(ctx, _pull(ctx, options, policy, progress))


def _local(ctx: Context, options: ContainerOptions) -> Image | NotFound:
    """The image in the store, if it is for the platform asked for."""
    try:
        if not (options.platform or options.os or options.arch or options.variant):
            return images.find(ctx, options.image)
        from podpy.engine import platforms

        asked = platforms.wanted(options.platform, options.os, options.arch, options.variant)
        return images.find_for(ctx, options.image, asked)
    except NotFound as error:
        return error


def _pull(ctx: Context, options: ContainerOptions, policy: str, progress: Progress | None) -> str:
    """Pull in a child; the id of the image."""
    ours, theirs = Channel.pair()

    def child() -> int:
        ours.close()
        try:
            theirs.send(_DONE, _transfer(ctx, options, policy, progress))
        except PodpyError as error:
            theirs.fail("pull", error)
        return 0

    with ours:
        pid = process.fork_child(child)
        theirs.close()
        try:
            word, details, _ = ours.receive()
        finally:
            status = process.wait(pid)
    if word == FAILED:
        raise revive(details)
    if word != _DONE:
        raise PodpyError(f"pull {options.image}: the pulling process ended with status {status}")
    return details[0]


def _transfer(
    ctx: Context, options: ContainerOptions, policy: str, progress: Progress | None
) -> str:
    from podpy.engine import transfer
    from podpy.engine.registries import RegistryOptions

    how = RegistryOptions(
        authfile=options.authfile,
        creds=options.creds,
        cert_dir=options.cert_dir,
        tls_verify=options.tls_verify,
    )
    if progress is not None and policy == "missing":
        progress.missing(transfer.with_tag(options.image))
    wanted = transfer.PullOptions(
        registry=how,
        policy=policy,
        platform=options.platform,
        os=options.os,
        arch=options.arch,
        variant=options.variant,
    )
    return transfer.pull(ctx, (options.image,), wanted, progress)[0]
