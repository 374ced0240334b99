"""``build``: from a Dockerfile and its context to images in the store and elsewhere."""

from __future__ import annotations

import os
import time

from podpy.build import checks, dockerfile, leftovers
from podpy.build.execute import Scheduler
from podpy.build.instructions import Arg
from podpy.build.model import Loaded, Warned
from podpy.build.plan import PROXIES, Order, Plan
from podpy.build.stages import Build, Host
from podpy.engine import (
    build_context,
    build_delivery,
    build_lint,
    build_request,
    build_settings,
    platforms,
    rootfs,
)
from podpy.engine.build_delivery import BuildResult, Delivery
from podpy.engine.build_images import Images
from podpy.records import EMPTY
from podpy.storage.collect import Pins

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from podpy.build.bench import Afar
    from podpy.build.context import Prepared
    from podpy.build.execute import Wire
    from podpy.build.model import Report
    from podpy.engine.build_options import BuildOptions
    from podpy.engine.context import Context
    from podpy.engine.registries import RegistryOptions
    from podpy.model import Platform

#: Arguments that are no mistake when no ARG takes them (BuildKit's own).
_UNCLAIMED = ("SOURCE_DATE_EPOCH", "BUILDKIT_")


def build(ctx: Context, options: BuildOptions, report: Report) -> BuildResult:
    """Build what the options ask for; ``report`` is told of each step."""
    ctx.store.prepare()
    pins = Pins(ctx.store)
    try:
        with build_context.prepare(ctx, options, report) as prepared:
            return _Building(ctx, options, prepared, pins, report).run()
    finally:
        pins.close()
        leftovers.sweep(ctx.store, waits=False)


class _Building:
    """One invocation: one Dockerfile, for one platform or several."""

    def __init__(
        self, ctx: Context, options: BuildOptions, prepared: Prepared, pins: Pins, report: Report
    ) -> None:
        self._ctx = ctx
        self._options = options
        self._prepared = prepared
        self._pins = pins
        self._report = report
        self._arguments = build_request.arguments(options, os.environ)
        self._timestamp = build_request.timestamp(options, self._arguments, os.environ)
        parsed = dockerfile.parse(prepared.dockerfile, prepared.dockerfile_name)
        self._dockerfile = build_request.with_mounts(parsed, options.mount)

    def run(self) -> BuildResult:
        self._report(Loaded(name=self._dockerfile.name, lines=self._dockerfile.lines))
        self._lint()
        jobs = build_request.jobs(self._options)
        scheduler = Scheduler(self._report, jobs, steps=self._prepared.steps)
        host = self._host(scheduler)
        delivery = Delivery(
            self._ctx,
            self._options,
            self._pins,
            begun=time.time(),
            timestamp=self._timestamp,
            uses_cache=host.uses_cache,
            report=self._report,
            next_step=scheduler.next_step,
        )
        asked = build_request.wanted_platforms(self._options, os.environ) or (platforms.host(),)
        delivery.check(len(asked))
        tasks = []
        for platform in asked:
            label = str(platform) if len(asked) > 1 else ""
            plan = Plan(self._order(platform))
            one = Build(plan, host, scheduler, self._report, label=label)
            tasks.append((one, one.stage(one.plan.target)))
            for index in () if self._options.skip_unused_stages else range(plan.target):
                one.stage(index)
        scheduler.run()
        self._tell_of_unused([one for one, _ in tasks])
        return delivery.run([(one, task.result) for one, task in tasks])

    def _lint(self) -> None:
        """What the rules say of the Dockerfile: warnings, errors where it asks for that."""
        found = build_lint.check(
            self._ctx,
            self._dockerfile,
            self._arguments,
            ignore=self._prepared.ignore,
            named=self._prepared.named,
        )
        for each in found:
            text = f"{each.rule}: {each.message} (line {each.location.first})"
            self._report(Warned(text=text))
        checks.enforce(self._dockerfile, self._arguments, found)

    def _order(self, platform: Platform) -> Order:
        return Order(
            dockerfile=self._dockerfile,
            platform=platform,
            native=platforms.host(),
            target=self._options.target,
            arguments=self._arguments,
            base=self._options.from_,
            named=self._prepared.named,
        )

    def _host(self, scheduler: Scheduler) -> Host:
        options = self._options
        registry = build_context.registry(options)
        policy = build_request.pull_policy(options.pull)
        found = Images(self._ctx, self._pins, policy=policy, registry=registry)
        layered = build_request.layered(options, os.environ)
        age = build_request.cache_age(options.cache_ttl)
        return Host(
            store=self._ctx.store,
            driver=rootfs.driver(self._ctx),
            pins=self._pins,
            context=self._prepared.source(),
            named=self._prepared.named,
            settings=build_settings.read(self._ctx, options),
            find_image=found.find,
            fetch_image=found.fetch,
            proxies=_proxies() if options.http_proxy else EMPTY,
            timestamp=self._timestamp,
            uses_cache=layered and not options.no_cache and age != 0,
            uncached_stages=build_request.uncached_stages(options, self._dockerfile),
            keeps_cache=layered,
            max_age=age or 0.0,
            afar=self._caches(registry, scheduler),
        )

    def _caches(
        self, registry: RegistryOptions, scheduler: Scheduler
    ) -> Callable[[Wire], Afar] | None:
        """What ``--cache-from`` names, its documents read."""
        places = build_delivery.caches_from(self._options)
        if not places:
            return None
        from podpy.engine import build_cache

        found = build_cache.Caches(self._ctx, places, registry)
        found.read(scheduler, self._report)
        return found.afar

    def _tell_of_unused(self, builds: Iterable[Build]) -> None:
        used = {name for one in builds for name in (*one.used, *one.plan.globals)}
        for stage in self._dockerfile.stages:  # also those that this target does not need
            for each in stage.instructions:
                if isinstance(each, Arg):
                    used.update(name for name, _ in each.pairs)
        unused = [
            name
            for name in self._arguments
            if name not in used and name not in PROXIES and not name.startswith(_UNCLAIMED)
        ]
        if unused:
            self._report(
                Warned(text=f"one or more build args were not consumed: [{' '.join(unused)}]")
            )


def _proxies() -> dict[str, str]:
    """The proxies of the caller's environment, which RUN sees as podman passes them on."""
    return {name: os.environ[name] for name in PROXIES if name in os.environ}
