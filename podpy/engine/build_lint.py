"""The rules of ``build --check`` with what this store knows of base images."""

from __future__ import annotations

from podpy import files
from podpy.build import checks
from podpy.build.rules import BaseImage
from podpy.engine import images
from podpy.errors import PodpyError
from podpy.storage import content

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from podpy.build.diagnostics import LintWarning
    from podpy.build.dockerfile import Dockerfile
    from podpy.build.ignore import Ignore
    from podpy.engine.context import Context


def check(
    ctx: Context,
    dockerfile: Dockerfile,
    arguments: Mapping[str, str],
    *,
    ignore: Ignore,
    named: Collection[str] = (),
) -> tuple[LintWarning, ...]:
    """What the rules say; ``named`` are the build contexts that stand for images."""

    def base(name: str) -> BaseImage | None:
        if name in named:
            return None
        try:
            image = images.find(ctx, name)
            document = content.read_blob(ctx.store, f"sha256:{image.id}", content.CONFIG_LIMIT)
            config = files.loads(document).get("config") or {}
        except (PodpyError, ValueError):
            return None
        return BaseImage(
            environment=tuple(config.get("Env") or ()), has_shell=bool(config.get("Shell"))
        )

    ignored = ignore.hides if ignore else None
    return checks.check(dockerfile, arguments, ignored=ignored, images=base)
