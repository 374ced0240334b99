"""What becomes of a built stage: an image in the store, a directory, an archive, a registry.

``--output`` may be given several times; an image in the store is what happens
when it is not.  Caches are written last, when everything else has succeeded.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager

from podpy.build.model import Failed, Finished, Started, Transfer, Warned
from podpy.engine import (
    build_changes,
    build_context,
    build_outputs,
    build_publish,
    build_request,
    images,
    platforms,
)
from podpy.errors import PodpyError, UsageError
from podpy.model import Descriptor
from podpy.records import EMPTY, record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    from podpy.build.model import Report, StepResult
    from podpy.build.stages import Build, Built
    from podpy.engine.attesting import Wanted
    from podpy.engine.build_options import BuildOptions
    from podpy.engine.build_outputs import CachePlace, Output
    from podpy.engine.build_publish import Attestation, Made
    from podpy.engine.context import Context
    from podpy.storage.collect import Pins
    from podpy.storage.names import Name

    Done = Sequence[tuple[Build, Built]]


# What docker calls the writing of each kind of output.
_EXPORTS = {
    "local": "exporting to client directory",
    "tar": "exporting to client tarball",
    "oci": "exporting to oci image format",
    "docker": "exporting to docker image format",
}


@record
class BuildResult:
    """What a build made: the image's id (hex) and manifest digest, and the names it got.

    With several platforms ``digest`` is the index's, and ``id`` that of the image
    for this machine, or of the first.  ``metadata`` is docker's
    ``--metadata-file``.  All are empty when no image was stored.
    """

    id: str = ""
    digest: str = ""
    names: tuple[str, ...] = ()
    metadata: Mapping[str, object] = EMPTY


class Delivery:
    """The end of one build.

    ``begun`` is when it began, ``timestamp`` the time that everything gets (None:
    its own), ``uses_cache`` whether an image of the same content may be taken
    for this one.
    """

    def __init__(
        self,
        ctx: Context,
        options: BuildOptions,
        pins: Pins,
        *,
        begun: float,
        timestamp: int | None,
        uses_cache: bool,
        report: Report,
        next_step: Callable[[], int],
    ) -> None:
        self._ctx = ctx
        self._report = report
        self._next_step = next_step
        self._options = options
        self._pins = pins
        self._begun = begun
        self._timestamp = timestamp
        self._uses_cache = uses_cache
        self._outputs = build_outputs.outputs(options)
        noted = build_outputs.annotated(self._outputs)
        self._options = replace(options, annotation=(*options.annotation, *noted))
        self._caches = build_outputs.caches(options.cache_to, "--cache-to")

    def check(self, platforms: int) -> None:
        """Refuse what the result of a build for that many platforms has no place for."""
        is_listed = bool(self._options.manifest)
        has_index = platforms > 1 or is_listed or self._attestations_asked() is not None
        build_changes.check(self._options, has_index=has_index)
        for output in self._outputs:
            given = build_publish.references(self._options, output.names)
            if output.push and not given:
                raise UsageError("--push: the image has no name", hint="give one with --tag")
            build_outputs.check(output, has_index=has_index)

    def run(self, done: Done) -> BuildResult:
        """Deliver the targets, one for each platform."""
        asked = self._attestations_asked()
        made = [self._finish(build, built, asked) for build, built in done]
        attestations = self._attest(asked, done, made)
        stored = self._stored(made, attestations)
        result = BuildResult()
        for output in self._outputs:
            if stored is None or output.kind in ("local", "tar"):
                with self._step(_EXPORTS[output.kind]):
                    self._export(output, done)
            elif output.kind in ("oci", "docker"):
                with self._step(_EXPORTS[output.kind]):
                    self._save(output, stored)
            else:
                with self._step("exporting to image") as tell:
                    result = self._store(output, made, stored, tell)
        for place in self._caches:
            if place.kind != "inline":
                with self._step(f"exporting cache to {place.kind}"):
                    self._write_cache(place, done)
        return result

    @contextmanager
    def _step(self, text: str) -> Iterator[Callable[[str], None]]:
        """A step of the coordinator's own; what it gives tells what is being done."""
        begun, step = time.monotonic(), self._next_step()
        self._report(Started(step=step, text=text))
        try:
            yield lambda text: self._report(Transfer(step=step, text=text))
        except PodpyError as error:
            seconds = time.monotonic() - begun
            self._report(Failed(step=step, error=error, seconds=seconds))
            raise
        self._report(Finished(step=step, seconds=time.monotonic() - begun))

    # --- images --------------------------------------------------------------

    def _finish(self, build: Build, built: Built, asked: Wanted | None) -> Made:
        built = self._squashed(built)
        inline = any(place.kind == "inline" for place in self._caches)
        return build_publish.finish(
            self._ctx,
            self._options,
            built,
            build.plan.order.platform,
            timestamp=self._timestamp,
            uses_cache=self._uses_cache,
            extra=self._records(built) if inline else EMPTY,
            packed=self._packed() if asked else _plain,
        )

    def _squashed(self, built: Built) -> Built:
        """``--squash``: one layer for all that were made here; ``--squash-all``: one for all."""
        options = self._options
        if not (options.squash or options.squash_all or options.layers is False):
            return built
        from podpy.build import squash

        kept = 0 if options.squash_all or built.base is None else len(built.base.layers)
        new = built.layers[kept:]
        if len(new) < 2:
            return built
        below = [layer.diff_id for layer in built.layers[:kept]]
        one = squash.squash(self._ctx.store, self._pins, below, new, self._timestamp)
        draft = built.draft.copy()
        draft.join_layers(kept)
        return replace(built, draft=draft, layers=(*built.layers[:kept], one))

    def _records(self, built: Built) -> Mapping[str, Any]:
        """The image's own cache, for ``--cache-to type=inline``."""
        from podpy.engine import build_cache

        diff_ids = [layer.diff_id for layer in built.layers]
        return {build_cache.RECORDS: build_cache.records_of(self._ctx, diff_ids)}

    def _packed(self) -> Callable[[StepResult], Descriptor | None]:
        """Layers as they will be pushed: a statement names the manifest that others see."""
        from podpy.storage import compressing

        def packed(layer: StepResult) -> Descriptor | None:
            if layer.blob is None or not compressing.is_plain(layer.blob):
                return layer.blob
            return compressing.pack(self._ctx.store, self._pins, layer.diff_id, layer.blob)

        return packed

    def _attestations_asked(self) -> Wanted | None:
        options = self._options
        if not (options.sbom or options.provenance or options.attest):
            return None
        from podpy.engine import attesting

        asked = attesting.wanted(options)
        return asked if asked.any else None

    def _attest(self, asked: Wanted | None, done: Done, made: Sequence[Made]) -> list[Attestation]:
        if asked is None:
            return []
        from podpy.engine import attesting

        return [
            attesting.attest(self._ctx, asked, build, one, begun=self._begun)
            for (build, _), one in zip(done, made)
        ]

    def _stored(self, made: Sequence[Made], attestations: Sequence[Attestation]) -> Name | None:
        """The image's documents in the store, unless nothing needs them there."""
        if all(output.kind in ("local", "tar") for output in self._outputs):
            return None
        return build_publish.put(
            self._ctx,
            self._pins,
            made,
            _main(made),
            attestations=attestations,
            options=self._options,
        )

    def _store(
        self, output: Output, made: Sequence[Made], stored: Name, tell: Callable[[str], None]
    ) -> BuildResult:
        given = build_publish.references(self._options, output.names)
        main = _main(made)
        for one in made:
            tell(f"writing image sha256:{one.id}")
        if stored.index is not None:
            tell(f"writing index {stored.index.digest}")
        for name in given:
            tell(f"naming to {name}")
        stored = self._named(given, stored, made)
        described = stored.index or stored.manifest
        if output.push:
            described = self._push(output, given, tell)
        return BuildResult(
            id=main.id,
            digest=described.digest,
            names=given,
            metadata=build_publish.metadata(main, described, given),
        )

    def _named(self, given: Sequence[str], stored: Name, made: Sequence[Made]) -> Name:
        """Give the image its names; that of ``--manifest`` is a list it is added to."""
        listed = images.image_name(self._options.manifest) if self._options.manifest else ""
        others = [name for name in given if name != listed]
        if others or not listed:
            build_publish.give(self._ctx, stored, others)
        if not listed:
            return stored
        from podpy.engine import build_lists

        added = build_lists.add(
            self._ctx, self._pins, listed, stored, made=made, options=self._options
        )
        return stored if others else added

    def _push(
        self, output: Output, given: Sequence[str], tell: Callable[[str], None]
    ) -> Descriptor:
        """Send the image to all its names; what the registries have now."""
        from podpy.engine import pushing

        registry = build_context.registry(self._options)
        if build_outputs.is_insecure(output):
            registry = replace(registry, tls_verify=False)
        how = pushing.PushOptions(registry=registry, compress=build_outputs.is_compressed(output))
        for name in given:
            tell(f"pushing {name}")
            (last, *_) = pushing.push(self._ctx, name, options=how)
        return Descriptor(media_type=last.media_type, digest=last.digest, size=last.size)

    # --- elsewhere -----------------------------------------------------------

    def _export(self, output: Output, done: Done) -> None:
        """The root file systems themselves."""
        from podpy.build import export

        several = len(done) > 1 and build_outputs.is_split(output)
        roots = [
            export.Root(
                layers=tuple(layer.diff_id for layer in built.layers),
                name=str(build.plan.order.platform).replace("/", "_") if several else "",
            )
            for build, built in done
        ]
        store, driver = self._ctx.store, done[0][0].host.driver
        if output.kind == "local":
            export.to_directory(store, driver, roots, output.destination, self._timestamp)
        elif output.destination == "-":
            export.to_archive(store, driver, roots, 1, self._timestamp)
        else:
            from podpy.engine import saving

            with saving.replacing(output.destination, "--output") as out:
                export.to_archive(store, driver, roots, out, self._timestamp)

    def _save(self, output: Output, stored: Name) -> None:
        from podpy.engine import build_archives

        given = build_publish.references(self._options, output.names)
        build_archives.write(self._ctx, self._pins, output, stored, given)

    def _write_cache(self, place: CachePlace, done: Done) -> None:
        from podpy.engine import build_cache_export

        layers: list[StepResult] = []
        for build, built in done:
            layers += build.every_layer() if place.complete else built.layers
        registry = build_context.registry(self._options)
        try:
            build_cache_export.write(self._ctx, self._pins, place, layers, registry)
        except (PodpyError, OSError) as error:
            if not place.ignore_error:
                raise
            self._report(Warned(text=f"--cache-to {place.place}: {error}"))


def _plain(layer: StepResult) -> Descriptor | None:
    return layer.blob


def _main(made: Sequence[Made]) -> Made:
    """The image that a command of this host means."""
    own = platforms.host()
    return next((one for one in made if platforms.fits(one.platform, own)), made[0])


def caches_from(options: BuildOptions) -> tuple[CachePlace, ...]:
    """What ``--cache-from`` names; nothing with ``--no-cache``."""
    if options.no_cache or not build_request.layered(options, os.environ):
        return ()
    return build_outputs.caches(options.cache_from, "--cache-from")
