"""A stage, carried out instruction by instruction.

A stage is a generator for :mod:`podpy.build.execute`: what needs a worker or
another stage is yielded, what only changes the configuration is done at once.
"""

from __future__ import annotations

import os

from podpy import records
from podpy.build import config, copying, dockerfile, instructions, running, workdir
from podpy.build.bench import Bench
from podpy.build.config import Draft
from podpy.build.execute import Work
from podpy.build.instructions import Add, Arg, Copy, Run, Workdir
from podpy.build.model import CopyWork, Failed, Finished, RunWork, Source, Started, StepResult, Tree
from podpy.build.plan import PROXIES
from podpy.build.workdir import DirectoryWork
from podpy.errors import BuildError, PodpyError
from podpy.records import EMPTY, record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from typing import Any

    from podpy.build.bench import Afar
    from podpy.build.context import NamedContext
    from podpy.build.diagnostics import Location
    from podpy.build.dockerfile import Stage
    from podpy.build.execute import Scheduler, Task, Wire
    from podpy.build.instructions import Instruction
    from podpy.build.model import Report
    from podpy.build.plan import Plan
    from podpy.build.run_settings import Settings
    from podpy.paths import Store
    from podpy.storage.collect import Pins
    from podpy.storage.overlay import Driver

    Flow = Generator[Work | Task, Any, Any]

_SHOWN = (Run, Copy, Add, Workdir)


@record
class Base:
    """An image to begin with: its configuration document and its layers, lowest first."""

    document: Mapping[str, Any]
    layers: tuple[StepResult, ...] = ()
    reference: str = ""
    digest: str = ""


@record
class Host:
    """What a build has around it; everything that is not the Dockerfile's.

    ``find_image`` answers the image that the store has for a reference and a
    platform, None when it must be fetched (the last argument says that it was
    just now); ``fetch_image`` fetches it, in a worker.
    """

    store: Store
    driver: Driver
    pins: Pins
    context: Source
    named: Mapping[str, NamedContext] = EMPTY
    settings: Settings
    find_image: Callable[[str, str, bool], Base | None]
    fetch_image: Callable[[str, str, Wire], None]
    proxies: Mapping[str, str] = EMPTY
    timestamp: int | None = None
    uses_cache: bool = True
    uncached_stages: frozenset[str] = frozenset()
    keeps_cache: bool = True
    max_age: float = 0.0
    afar: Callable[[Wire], Afar] | None = None


@record
class Built:
    """What a stage came to: its image in the making and its layers, lowest first."""

    draft: Draft
    layers: tuple[StepResult, ...]
    arguments: Mapping[str, str] = EMPTY
    base: Base | None = None


class Build:
    """All stages of one Dockerfile for one platform."""

    def __init__(
        self, plan: Plan, host: Host, scheduler: Scheduler, report: Report, *, label: str = ""
    ) -> None:
        """``label`` tells the steps of one platform from those of the others."""
        self.plan = plan
        self.label = label
        self.host = host
        self.report = report
        self.used: set[str] = set()
        self.bases: list[Base] = []
        self._scheduler = scheduler
        self._stages: dict[int, Task] = {}

    def stage(self, index: int) -> Task:
        """The task of a stage, begun now if it was not."""
        if index not in self._stages:
            stage = self.plan.dockerfile.stages[index]
            for needed in self.plan.needed_at_once(stage):
                self.stage(needed)
            self._stages[index] = self._scheduler.add(_StageRun(self, stage).run())
        return self._stages[index]

    def every_layer(self) -> list[StepResult]:
        """The layers of all stages that were built."""
        return [layer for task in self._stages.values() for layer in task.result.layers]

    def next_step(self) -> int:
        return self._scheduler.next_step()


class _StageRun:
    """One stage while its instructions are carried out."""

    def __init__(self, build: Build, stage: Stage) -> None:
        self.build = build
        self.host = build.host
        self.plan = build.plan
        self.stage = stage
        self.name = stage.name or f"stage-{stage.index}"
        is_alone = len(self.plan.dockerfile.stages) == 1 and not stage.name
        self._shown = "" if is_alone else self.name
        self.draft: Draft
        self.layers: list[StepResult] = []
        self.arguments: dict[str, str] = {}
        self.base: Base | None = None
        self._location = stage.location  # what is carried out; of a trigger, its FROM
        self._position = 1
        self._total = sum(isinstance(each, _SHOWN) for each in stage.instructions)

    def run(self) -> Flow:
        yield from self._begin()
        for trigger in self.draft.take_triggers():
            yield from self._step(self._trigger(trigger))
        for instruction in self.stage.instructions:
            self._location = instruction.location
            yield from self._step(instruction)
        return Built(
            draft=self.draft, layers=tuple(self.layers), arguments=self.arguments, base=self.base
        )

    # --- FROM ----------------------------------------------------------------

    def _begin(self) -> Flow:
        name = self.plan.base(self.stage)
        before = self.plan.stage_before(name, self.stage.index)
        named = self.host.named.get(name)
        if before is not None:
            built: Built = yield self.build.stage(before)
            self.draft, self.layers = built.draft.copy(), list(built.layers)
            self.arguments, self.base = dict(built.arguments), built.base
        elif name == "scratch" and named is None:
            self.draft = Draft.scratch(self.plan.order.platform)
        elif named is not None and named.kind == "directory":
            self._total += 1
            self.draft = Draft.scratch(self.plan.order.platform)
            yield from self._copy(_all_of(name, self.stage.location))
        else:
            self._total += 1
            platform = self.plan.platform_text(self.stage) or str(self.plan.order.platform)
            self.base = yield from self._image(name, platform, f"FROM {name}", position=True)
            self.draft, self.layers = Draft(self.base.document), list(self.base.layers)

    def _image(self, name: str, platform: str, text: str, *, position: bool = False) -> Flow:
        """The :class:`Base` that a reference or a named context of an image means."""
        named = self.host.named.get(name)
        reference = named.reference if named is not None else name
        title = self._title(text) if position else self._apart(text)
        try:
            found = self.host.find_image(reference, platform, False)
        except PodpyError as error:
            self.build.report(title)
            self.build.report(Failed(step=title.step, error=error, lines=self._lines()))
            raise
        if found is not None:
            self.build.report(title)
            self.build.report(instantly(title))
            self.build.bases.append(found)
            return found

        def fetch(wire: Wire) -> None:
            self.host.fetch_image(reference, platform, wire)

        yield Work(fetch, title, key=f"image {reference} {platform}", lines=self._lines())
        found = self.host.find_image(reference, platform, True)
        if found is None:
            raise BuildError(f"{reference}: vanished while it was fetched")
        self.build.bases.append(found)
        return found

    # --- instructions --------------------------------------------------------

    def _trigger(self, text: str) -> Instruction:
        """An ``ONBUILD`` of the base image, which errors place at the FROM."""
        made = dockerfile.parse_one(text, f"ONBUILD of {self.stage.base}")
        if isinstance(made, _SHOWN):
            self._total += 1
        return made

    def _step(self, instruction: Instruction) -> Flow:
        if isinstance(instruction, Arg):
            self._declare(instruction)
            return
        resolved = instructions.resolve(
            instruction, self._variables(), escape=self.plan.dockerfile.escape
        )
        if isinstance(resolved, Run):
            yield from self._run(resolved)
        elif isinstance(resolved, (Copy, Add)):
            yield from self._copy(resolved)
        elif isinstance(resolved, Workdir):
            yield from self._workdir(resolved)
        else:
            self.draft.note(self.draft.apply(resolved), layer=False)

    def _variables(self) -> dict[str, str]:
        return {**self.arguments, **self.draft.env}

    def _declare(self, instruction: Arg) -> None:
        """ARG: the build's value, the instruction's default, else the global argument's."""
        said = []
        for name, default in instruction.pairs:
            value = self._given(name)
            if value is None and default is not None:
                one = records.replace(instruction, pairs=((name, default),))
                resolved = instructions.resolve(
                    one, self._variables(), escape=self.plan.dockerfile.escape
                )
                value = resolved.pairs[0][1]
            if value is None:
                value = self.plan.globals.get(name, self.plan.given.get(name))
            if value is not None:
                self.arguments[name] = value
            said.append(name if value is None else f"{name}={value}")
        self.draft.note(f"ARG {' '.join(said)}", layer=False)

    def _given(self, name: str) -> str | None:
        self.build.used.add(name)
        return self.plan.order.arguments.get(name)

    # --- steps that make layers ----------------------------------------------

    def _run(self, instruction: Run) -> Flow:
        try:
            running.check(instruction, self.host.settings)
        except BuildError as error:
            where = instruction.location
            raise self.plan.dockerfile.error(error.message, where, hint=error.hint) from None
        sources = {}
        for mount in instruction.mounts:
            if mount.type in ("bind", "cache") and mount.from_ not in sources:
                sources[mount.from_] = yield from self._source(mount.from_)
        settings = self.host.settings
        arguments = {k: v for k, v in self.arguments.items() if k not in PROXIES}
        work = RunWork(
            instruction=instruction,
            env=self.draft.env,
            arguments=arguments,
            proxies={**self.host.proxies, **self._proxy_arguments()},
            user=self.draft.user,
            working_dir=self.draft.working_dir,
            shell=self.draft.shell,
            sources=sources,
        )
        said = _with_arguments(config.run_text(instruction, self.draft.shell), arguments)
        with self._bench(said) as bench:
            key = running.quick_key(work, settings, bench)
            known = bench.lookup(key) if key else None

        def perform(bench: Bench, wire: Wire) -> StepResult:
            placed = records.replace(work, out=wire.out, err=wire.err)
            return running.perform(placed, settings, bench)

        yield from self._layer(instruction, said, perform, key=key, known=known)

    def _proxy_arguments(self) -> dict[str, str]:
        given = self.plan.order.arguments
        self.build.used.update(PROXIES)
        return {name: given[name] for name in PROXIES if name in given}

    def _copy(self, instruction: Copy | Add) -> Flow:
        from_ = instruction.from_ if isinstance(instruction, Copy) else ""
        source = yield from self._source(from_)
        work = CopyWork(instruction=instruction, source=source, working_dir=self.draft.working_dir)
        carry_out = copying.perform
        if isinstance(instruction, Add):
            from podpy.build import adding  # URLs and git: modules that few builds need

            carry_out = adding.perform
            agent = self.host.settings.agents.get("default")
            work = records.replace(work, secret=self._secret, agent=agent)

        def perform(bench: Bench, wire: Wire) -> StepResult:
            return carry_out(work, bench, wire)

        yield from self._layer(instruction, config.copy_text(instruction), perform)

    def _secret(self, name: str) -> str | None:
        """A secret of the build as text."""
        found = self.host.settings.secrets.get(name)
        return os.fsdecode(found.read()).strip() if found else None

    def _workdir(self, instruction: Workdir) -> Flow:
        said = self.draft.apply(instruction)
        work = DirectoryWork(path=self.draft.working_dir, user=self.draft.user)
        if work.path == "/":
            self.draft.note(said, layer=False)
            return
        with self._bench(said) as bench:
            key = workdir.key(work, bench)
            known = bench.lookup(key)

        def perform(bench: Bench, wire: Wire) -> StepResult:
            return workdir.perform(work, bench)

        yield from self._layer(instruction, said, perform, key=key, known=known)

    def _layer(
        self,
        instruction: Instruction,
        said: str,
        perform: Callable[[Bench, Wire], StepResult],
        *,
        key: str = "",
        known: StepResult | None = None,
    ) -> Flow:
        """Carry out a step unless its result is ``known``, and write it down."""
        text = instruction.original
        title = self._title(config.without_logins(text) if isinstance(instruction, Add) else text)
        if known is None:

            def work(wire: Wire) -> Any:
                with self._bench(said, wire) as bench:
                    # Another stage may have made it by now, or another cache know it.
                    made = bench.lookup(key) if key else None
                    return records.to_dict(made or perform(bench, wire))

            value = yield Work(
                work,
                title,
                key=key,
                lines=self._lines(),
                is_cached=lambda made: bool(made["cached"]),
            )
            known = records.from_dict(StepResult, value)
        else:
            self.build.report(title)
            self.build.report(instantly(title, cached=True))
        self.layers.append(known)
        self.draft.note(said, layer=True, created=known.created)

    def _bench(self, text: str, wire: Wire | None = None) -> Bench:
        host = self.host
        afar = host.afar(wire) if wire is not None and host.afar is not None else None
        return Bench(
            host.store,
            host.driver,
            [layer.diff_id for layer in self.layers],
            pins=host.pins,
            timestamp=host.timestamp,
            uses_cache=host.uses_cache and self.name.lower() not in host.uncached_stages,
            keeps_cache=host.keeps_cache,
            max_age=host.max_age,
            text=text,
            afar=afar,
        )

    # --- what steps read -----------------------------------------------------

    def _source(self, name: str) -> Flow:
        """What ``from`` names: a stage, a named context, an image; empty: the build's context."""
        if not name:
            return self.host.context
        before = self.plan.stage_before(name, self.stage.index)
        if before is not None:
            built: Built = yield self.build.stage(before)
            return Source(name=name, tree=_tree(built.layers))
        named = self.host.named.get(name)
        if named is not None and named.kind == "directory":
            return named.source()
        if name == "scratch" and named is None:
            return Source(name=name, tree=Tree())
        platform = str(self.plan.order.platform)
        base: Base = yield from self._image(name, platform, f"FROM {name}")
        return Source(name=name, tree=_tree(base.layers))

    # --- what is shown -------------------------------------------------------

    def _title(self, text: str) -> Started:
        position = (self._position, self._total)
        self._position += 1
        return Started(
            step=self.build.next_step(),
            stage=self._shown,
            position=position,
            text=text,
            platform=self.build.label,
        )

    def _apart(self, text: str) -> Started:
        """A step that is not counted among the stage's."""
        step = self.build.next_step()
        return Started(step=step, stage=self._shown, text=text, platform=self.build.label)

    def _lines(self) -> tuple[int, int]:
        return self._location.first, self._location.last


def instantly(title: Started, *, cached: bool = False) -> Finished:
    """The end of a step that took no time."""
    return Finished(step=title.step, cached=cached)


def _tree(layers: tuple[StepResult, ...]) -> Tree:
    return Tree(layers=tuple(layer.diff_id for layer in layers))


def _all_of(name: str, location: Location) -> Copy:
    """``FROM`` a named context that is a directory: its files, in one layer on nothing."""
    said = f"COPY --from={name} / /"
    return Copy(location=location, original=said, sources=("/",), destination="/", from_=name)


def _with_arguments(said: str, arguments: Mapping[str, str]) -> str:
    """How the history shows the arguments that a RUN could see: ``RUN |2 A=b C=d …``."""
    if not arguments:
        return said
    shown = " ".join(f"{name}={arguments[name]}" for name in sorted(arguments))
    return f"RUN |{len(arguments)} {shown} {said.removeprefix('RUN ')}"
