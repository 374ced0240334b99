"""``build``: from a Dockerfile and its context to images in the store and elsewhere."""

from __future__ import annotations

import os

from podpy.build import context, dockerfile
from podpy.build.execute import Scheduler
from podpy.build.model import Warned
from podpy.build.plan import PROXIES, Order, Plan
from podpy.build.stages import Build, Host
from podpy.engine import build_publish, build_request, build_settings, platforms, rootfs
from podpy.engine.build_images import Images
from podpy.engine.remote import RegistryOptions
from podpy.records import EMPTY, record
from podpy.storage import staging
from podpy.storage.collect import Pins

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from podpy.build.context import Prepared
    from podpy.build.model import Report
    from podpy.engine.build_options import BuildOptions
    from podpy.engine.build_publish import Made
    from podpy.engine.context import Context
    from podpy.model import Platform

#: Arguments that are no mistake when no ARG takes them (BuildKit's own).
_UNCLAIMED = ("SOURCE_DATE_EPOCH", "BUILDKIT_")


@record
class BuildResult:
    """What a build made: the image's id (hex) and manifest digest, and the names it got.

    With several platforms ``digest`` is the index's, and ``id`` that of the image
    for this machine, or of the first.  ``metadata`` is docker's ``--metadata-file``.
    """

    id: str = ""
    digest: str = ""
    names: tuple[str, ...] = ()
    metadata: Mapping[str, object] = EMPTY


def build(ctx: Context, options: BuildOptions, report: Report) -> BuildResult:
    """Build what the options ask for; ``report`` is told of each step."""
    ctx.store.prepare()
    pins = Pins(ctx.store)
    try:
        with context.prepare(ctx.store, options.context) as prepared:
            return _Building(ctx, options, prepared, pins, report).run()
    finally:
        pins.close()
        staging.sweep(ctx.store)


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
        self._dockerfile = dockerfile.parse(prepared.dockerfile, prepared.dockerfile_name)

    def run(self) -> BuildResult:
        asked = build_request.wanted_platforms(self._options, os.environ)
        host = self._host()
        scheduler = Scheduler(self._report, build_request.jobs(self._options.jobs))
        builds = []
        for platform in asked or (platforms.host(),):
            one = Build(Plan(self._order(platform)), host, scheduler, self._report)
            builds.append((platform, one, one.stage(one.plan.target)))
        scheduler.run()
        self._tell_of_unused([one for _, one, _ in builds])
        made = [
            build_publish.finish(
                self._ctx,
                self._options,
                task.result,
                platform,
                timestamp=self._timestamp,
                uses_cache=host.uses_cache,
            )
            for platform, _, task in builds
        ]
        return self._deliver(made)

    def _order(self, platform: Platform) -> Order:
        return Order(
            dockerfile=self._dockerfile,
            platform=platform,
            native=platforms.host(),
            target=self._options.target,
            arguments=self._arguments,
            base=self._options.from_,
        )

    def _host(self) -> Host:
        options = self._options
        registry = RegistryOptions(
            authfile=options.authfile,
            creds=options.creds,
            cert_dir=options.cert_dir,
            tls_verify=options.tls_verify,
            retry=options.retry,
            retry_delay=options.retry_delay,
        )
        policy = build_request.pull_policy(options.pull)
        found = Images(self._ctx, self._pins, policy=policy, registry=registry)
        layered = build_request.layered(options, os.environ)
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
            uses_cache=layered and not options.no_cache,
            uncached_stages=frozenset(
                name.lower() for name in build_request.listed(options.no_cache_filter)
            ),
            keeps_cache=layered,
            max_age=build_request.cache_age(options.cache_ttl) or 0.0,
        )

    def _tell_of_unused(self, builds: Iterable[Build]) -> None:
        used = {name for one in builds for name in (*one.used, *one.plan.globals)}
        unused = [
            name
            for name in self._arguments
            if name not in used and name not in PROXIES and not name.startswith(_UNCLAIMED)
        ]
        if unused:
            self._report(
                Warned(text=f"one or more build args were not consumed: [{' '.join(unused)}]")
            )

    def _deliver(self, made: Sequence[Made]) -> BuildResult:
        own = platforms.host()
        main = next((one for one in made if platforms.fits(one.platform, own)), made[0])
        given = build_publish.references(self._options)
        described = build_publish.store(self._ctx, self._pins, made, given, main)
        return BuildResult(
            id=main.id,
            digest=described.digest,
            names=given,
            metadata=build_publish.metadata(main, described, given),
        )


def _proxies() -> dict[str, str]:
    """The proxies of the caller's environment, which RUN sees as podman passes them on."""
    return {name: os.environ[name] for name in PROXIES if name in os.environ}
