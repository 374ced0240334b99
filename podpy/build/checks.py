"""``build --check``: what is legal in a Dockerfile and still likely a mistake.

The names of the rules are BuildKit's, so that ``# check=skip=…`` lines and
habits carry over.  Nothing is built or fetched; what the caller knows of base
images it tells through :class:`~podpy.build.rules.BaseImage`.
"""

from __future__ import annotations

from podpy.build.rules import Checker
from podpy.errors import BuildError, UsageError
from podpy.records import EMPTY, record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from podpy.build.diagnostics import LintWarning
    from podpy.build.dockerfile import Dockerfile
    from podpy.build.rules import BaseImage

# Rules of taste that run only when `experimental=` names them.
_EXPERIMENTAL = ("InvalidDefinitionDescription",)


@record
class Settings:
    """``# check=skip=A,B;error=true;experimental=C``; the word ``all`` stands for every rule."""

    skip: frozenset[str] = frozenset()
    experimental: frozenset[str] = frozenset()
    error: bool = False

    def runs(self, rule: str) -> bool:
        """Whether a rule is asked for."""
        if rule in self.skip or "all" in self.skip:
            return False
        return rule not in _EXPERIMENTAL or bool({rule, "all"} & self.experimental)


def settings(dockerfile: Dockerfile, arguments: Mapping[str, str] = EMPTY) -> Settings:
    """The settings of the build argument BUILDKIT_DOCKERFILE_CHECK, else of the directive."""
    text = arguments.get("BUILDKIT_DOCKERFILE_CHECK", dockerfile.check)
    lists: dict[str, frozenset[str]] = {}
    error = False
    for part in filter(None, (part.strip() for part in text.split(";"))):
        key, _, value = (piece.strip() for piece in part.partition("="))
        if key in ("skip", "experimental"):
            lists[key] = frozenset(name.strip() for name in value.split(","))
        elif key == "error" and value.lower() in ("true", "false", "1", "0"):
            error = value.lower() in ("true", "1")
        else:
            raise UsageError(
                f"check: unknown setting {part!a}",
                hint="known are skip=RULE,…  error=true|false  experimental=RULE,…",
            )
    return Settings(**lists, error=error)


def enforce(
    dockerfile: Dockerfile, arguments: Mapping[str, str], found: Iterable[LintWarning]
) -> None:
    """Raise when there are warnings and the Dockerfile says ``check=error=true``."""
    rules = sorted({warning.rule for warning in found})
    if rules and settings(dockerfile, arguments).error:
        raise BuildError(f"{dockerfile.name}: lint violation found for rules: {', '.join(rules)}")


def check(
    dockerfile: Dockerfile,
    arguments: Mapping[str, str] = EMPTY,
    *,
    ignored: Callable[[str], bool] | None = None,
    images: Callable[[str], BaseImage | None] | None = None,
) -> tuple[LintWarning, ...]:
    """Everything that the rules say, in the order of the lines.

    ``arguments`` are the build arguments.  ``ignored`` says that an ignore file
    keeps a path of the context, with all below it, out of the build.
    ``images`` answers for a base image, or ``None`` when it is not at hand; then
    its environment is unknown and an unset variable is told only when it looks
    like a misspelt one.
    """
    run = Checker(dockerfile, arguments, ignored, images)
    wanted = settings(dockerfile, arguments)
    unique = {(found.rule, found.location.first, found.message): found for found in run.all()}
    return tuple(
        sorted(
            (found for found in unique.values() if wanted.runs(found.rule)),
            key=lambda found: found.location.first,
        )
    )
