"""What a Dockerfile says about itself: mistakes, targets, arguments.  Nothing is built."""

from __future__ import annotations

import os

from podpy.build import checks, dockerfile, secrets
from podpy.build.instructions import Arg, Run
from podpy.build.plan import Order, Plan
from podpy.engine import build_context, build_lint, build_request, platforms
from podpy.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from podpy.build.diagnostics import LintWarning, Location
    from podpy.build.dockerfile import Dockerfile, Stage
    from podpy.build.instructions import RunMount
    from podpy.engine.build_options import BuildOptions
    from podpy.engine.context import Context


@record
class Checked:
    """What the rules say of a Dockerfile; ``is_error``: it asks to fail for that."""

    dockerfile: Dockerfile
    warnings: tuple[LintWarning, ...] = ()
    is_error: bool = False


@record
class Target:
    """A stage that ``--target`` can name; its number when it has no name."""

    name: str
    is_default: bool
    description: str
    base: str
    platform: str
    location: Location


@record
class Argument:
    """An ARG that a build takes; ``value`` is what it has in this build."""

    name: str
    value: str
    description: str
    location: Location


@record
class Mounted:
    """A secret, key or cache that some RUN asks for by its id."""

    name: str
    is_required: bool
    location: Location


@record
class Outline:
    """What can be given to the build of a target."""

    dockerfile: Dockerfile
    target: Target
    arguments: tuple[Argument, ...] = ()
    secrets: tuple[Mounted, ...] = ()
    ssh: tuple[Mounted, ...] = ()
    caches: tuple[Mounted, ...] = ()


def check(ctx: Context, options: BuildOptions) -> Checked:
    with build_context.prepare(ctx, options) as prepared:
        parsed = dockerfile.parse(prepared.dockerfile, prepared.dockerfile_name)
        given = build_request.arguments(options, os.environ)
        return Checked(
            dockerfile=parsed,
            warnings=build_lint.check(
                ctx, parsed, given, ignore=prepared.ignore, named=prepared.named
            ),
            is_error=checks.settings(parsed, given).error,
        )


def targets(ctx: Context, options: BuildOptions) -> tuple[Dockerfile, tuple[Target, ...]]:
    plan = _plan(ctx, options)
    found = tuple(_target(plan, stage) for stage in plan.dockerfile.stages)
    return plan.dockerfile, found


def outline(ctx: Context, options: BuildOptions) -> Outline:
    plan = _plan(ctx, options)
    stages = [plan.dockerfile.stages[index] for index in sorted(_needed(plan, plan.target))]
    mounts = [found for stage in stages for found in _mounts(stage)]
    return Outline(
        dockerfile=plan.dockerfile,
        target=_target(plan, plan.dockerfile.stages[plan.target]),
        arguments=tuple(_arguments(plan, stages)),
        secrets=_mounted(mounts, "secret"),
        ssh=_mounted(mounts, "ssh"),
        caches=_mounted(mounts, "cache"),
    )


def _plan(ctx: Context, options: BuildOptions) -> Plan:
    with build_context.prepare(ctx, options) as prepared:
        parsed = dockerfile.parse(prepared.dockerfile, prepared.dockerfile_name)
    asked = build_request.wanted_platforms(options, os.environ)
    return Plan(
        Order(
            dockerfile=parsed,
            platform=asked[0] if asked else platforms.host(),
            native=platforms.host(),
            target=options.target,
            arguments=build_request.arguments(options, os.environ),
            base=options.from_,
        )
    )


def _target(plan: Plan, stage: Stage) -> Target:
    return Target(
        name=stage.name or str(stage.index),
        is_default=stage.index == len(plan.dockerfile.stages) - 1,
        description=_description(stage.comments, stage.name),
        base=plan.base(stage),
        platform=plan.platform_text(stage),
        location=stage.location,
    )


def _description(comments: Iterable[str], name: str) -> str:
    """What the first comment line above an instruction that begins with the name says."""
    for comment in comments:
        first, _, rest = comment.partition(" ")
        if name and first == name:
            return rest
    return ""


def _needed(plan: Plan, index: int) -> set[int]:
    """A stage and all that it is built from."""
    found: set[int] = set()
    waiting = [index]
    while waiting:
        stage = waiting.pop()
        if stage not in found:
            found.add(stage)
            waiting += plan.needed_at_once(plan.dockerfile.stages[stage])
    return found


def _arguments(plan: Plan, stages: Iterable[Stage]) -> Iterator[Argument]:
    """Each once: global ones first; a stage's own default wins over nothing."""
    found: dict[str, Argument] = {}
    declared = [*plan.dockerfile.arguments]
    for stage in stages:
        declared += [each for each in stage.instructions if isinstance(each, Arg)]
    known: Mapping[str, str] = {**plan.given, **plan.globals, **plan.order.arguments}
    for argument in declared:
        for name, default in argument.pairs:
            description = _description(argument.comments, name)
            before = found.get(name)
            found[name] = Argument(
                name=name,
                value=known.get(name, default or (before.value if before else "")),
                description=description or (before.description if before else ""),
                location=before.location if before else argument.location,
            )
    yield from found.values()


def _mounts(stage: Stage) -> Iterator[tuple[RunMount, Location]]:
    for instruction in stage.instructions:
        if isinstance(instruction, Run):
            for mount in instruction.mounts:
                yield mount, instruction.location


def _mounted(mounts: Iterable[tuple[RunMount, Location]], kind: str) -> tuple[Mounted, ...]:
    found: dict[str, Mounted] = {}
    for mount, location in mounts:
        if mount.type != kind:
            continue
        name = _name_of(mount)
        before = found.get(name)
        found[name] = Mounted(
            name=name,
            is_required=mount.required or (before.is_required if before else False),
            location=before.location if before else location,
        )
    return tuple(found.values())


def _name_of(mount: RunMount) -> str:
    if mount.type == "secret":
        return secrets.identity(mount)
    return mount.id or ("default" if mount.type == "ssh" else mount.target)
