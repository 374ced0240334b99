"""What a Dockerfile comes to for one platform: global arguments, stages, who needs whom.

Nothing here runs: :mod:`podpy.build.stages` carries it out.  A stage is built
when the target needs it, directly or through another one.
"""

from __future__ import annotations

from podpy.build import variables
from podpy.build.diagnostics import Problem
from podpy.build.instructions import Copy, Run
from podpy.errors import BuildError
from podpy.records import EMPTY, record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

    from podpy.build.diagnostics import DockerfileError
    from podpy.build.dockerfile import Dockerfile, Stage
    from podpy.build.instructions import Instruction
    from podpy.model import Platform

#: Arguments that need no ``ARG`` and that no history mentions (Dockerfile reference).
PROXIES = tuple(
    name
    for lower in ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")
    for name in (lower.upper(), lower)
)


@record
class Order:
    """What is asked of a build, for one platform.

    ``arguments`` are the build arguments, ``native`` the host's platform;
    ``base`` replaces the image of the first ``FROM`` (``--from``), and the named
    contexts ``named`` replace stages of their names.
    """

    dockerfile: Dockerfile
    platform: Platform
    native: Platform
    target: str = ""
    arguments: Mapping[str, str] = EMPTY
    base: str = ""
    named: Container[str] = ()


def platform_arguments(order: Order) -> dict[str, str]:
    """The predefined arguments of the platforms and the target."""
    found = {"TARGETSTAGE": order.target or "default"}
    for prefix, platform in (("BUILD", order.native), ("TARGET", order.platform)):
        found |= {
            f"{prefix}PLATFORM": str(platform),
            f"{prefix}OS": platform.os,
            f"{prefix}ARCH": platform.architecture,
            f"{prefix}VARIANT": platform.variant,
        }
    return found


class Plan:
    """The stages of one Dockerfile with their names and bases made out."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.dockerfile = order.dockerfile
        self.given = platform_arguments(order)
        self.globals: dict[str, str] = {}
        self._read_globals()
        self.names = {
            stage.name.lower(): stage.index for stage in self.dockerfile.stages if stage.name
        }
        self.target = self._target()

    def _read_globals(self) -> None:
        """The values of the ``ARG`` instructions before the first ``FROM``, one after the other."""
        for instruction in self.dockerfile.arguments:
            for name, default in instruction.pairs:
                if name in self.order.arguments:
                    self.globals[name] = self.order.arguments[name]
                elif default is not None:
                    self.globals[name] = self.expand(default, instruction)

    def expand(self, text: str, where: Instruction | Stage) -> str:
        """A text with global arguments in it; ``where`` it stands, for errors."""
        known = {**self.given, **self.globals}
        try:
            return variables.expand(text, known, escape=self.dockerfile.escape)
        except Problem as problem:
            raise self.dockerfile.error(
                problem.reason, where.location, at=problem.at, hint=problem.hint
            ) from None

    def _target(self) -> int:
        wanted, stages = self.order.target, self.dockerfile.stages
        if not wanted:
            return len(stages) - 1
        index = self.names.get(wanted.lower())
        if index is None and wanted.isdigit() and int(wanted) < len(stages):
            index = int(wanted)
        if index is None:
            named = ", ".join(stage.name for stage in stages if stage.name)
            raise BuildError(
                f"target stage {wanted!r} could not be found",
                hint=f"stages with a name: {named}" if named else "no stage has a name (FROM … AS)",
            )
        return index

    def stage_before(self, name: str, index: int) -> int | None:
        """The stage that a name or number means in stage ``index``; None when it means no stage."""
        if name in self.order.named:
            return None
        named = [s.index for s in self.dockerfile.stages[:index] if s.name.lower() == name.lower()]
        if named:
            return named[-1]
        return int(name) if name.isdigit() and int(name) < index else None

    def base(self, stage: Stage) -> str:
        """The base of a stage with its variables expanded."""
        if self.order.base and stage.index == 0:
            return self.order.base
        name = self.expand(stage.base, stage)
        if not name:
            raise self.error(stage, f"base name ({stage.base}) should not be blank", stage.base)
        return name

    def platform_text(self, stage: Stage) -> str:
        """What ``FROM --platform`` asks for; empty when it is the target's."""
        return self.expand(stage.platform, stage) if stage.platform else ""

    def error(self, where: Instruction | Stage, reason: str, at: str = "") -> DockerfileError:
        """An error at an instruction."""
        return self.dockerfile.error(reason, where.location, at=at)

    def needed_at_once(self, stage: Stage) -> Iterable[int]:
        """The stages that a stage needs and that can begin with it."""
        self._check_numbers(stage)
        for name in (self.base(stage), *references(stage.instructions)):
            found = self.stage_before(name, stage.index)
            if found is not None:
                yield found

    def _check_numbers(self, stage: Stage) -> None:
        """A number in ``from`` is never an image, whatever the id of one begins with."""
        for instruction in stage.instructions:
            for name in references((instruction,)):
                is_known = name in self.order.named
                if name.isdigit() and not is_known and self.stage_before(name, stage.index) is None:
                    raise self.dockerfile.error(
                        f"there is no stage {name} before this one",
                        instruction.location,
                        at=name,
                        hint="stages are numbered from 0; an image of that name needs its tag",
                    )


def references(instructions: Iterable[Instruction]) -> Iterable[str]:
    """What the ``from`` of copies and mounts names."""
    for instruction in instructions:
        if isinstance(instruction, Copy) and instruction.from_:
            yield instruction.from_
        elif isinstance(instruction, Run):
            yield from (mount.from_ for mount in instruction.mounts if mount.from_)
