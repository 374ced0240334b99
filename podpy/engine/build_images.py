"""The images a build begins with: found in the store, or fetched by one of its workers."""

from __future__ import annotations

from podpy import files
from podpy.build.model import StepResult
from podpy.build.stages import Base
from podpy.engine import build_layouts, images, platforms
from podpy.engine.progress import Progress
from podpy.errors import NotFound
from podpy.storage import content, layers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podpy.build.execute import Wire
    from podpy.engine.context import Context
    from podpy.engine.registries import RegistryOptions
    from podpy.model import Image
    from podpy.storage.collect import Pins


_SHORT_ID = 12  # the digits of an id that listings show


class Images:
    """Finds base images by one pull policy; what it found stays while ``pins`` live."""

    def __init__(self, ctx: Context, pins: Pins, *, policy: str, registry: RegistryOptions) -> None:
        self._ctx = ctx
        self._pins = pins
        self._policy = policy
        self._registry = registry

    def find(self, reference: str, platform: str, fetched: bool) -> Base | None:
        """The image in the store, if the policy is content with it; ``fetched`` says it is new."""
        asked = platforms.wanted(platform)
        name = reference
        if build_layouts.is_layout(reference):
            name = build_layouts.image_id(self._ctx, reference, asked)
        elif not fetched and self._policy in ("always", "newer"):
            return None
        try:
            image = images.find_for(self._ctx, _no_guess(name), asked)
        except NotFound:
            if fetched or (self._policy == "never" and name == reference):
                raise
            return None
        return self._base(image, reference)

    def _base(self, image: Image, reference: str) -> Base:
        store = self._ctx.store
        for diff_id, blob in zip(image.diff_ids, image.layers):
            whole = self._pins.hold(diff_id, layers.path_of(store, diff_id))
            if not (whole and self._pins.hold(blob.digest, content.blob_path(store, blob.digest))):
                raise NotFound(
                    f"{reference}: layer {diff_id} is not in the store",
                    hint="pull or load the image again",
                )
        document = content.read_blob(store, f"sha256:{image.id}", content.CONFIG_LIMIT)
        return Base(
            document=files.loads(document),
            layers=tuple(
                StepResult(diff_id=diff_id, blob=blob, created=image.created)
                for diff_id, blob in zip(image.diff_ids, image.layers)
            ),
            reference=reference,
            digest=image.digest,
        )

    def fetch(self, reference: str, platform: str, wire: Wire) -> None:
        """Pull an image; for a worker, because pulling runs threads."""
        if build_layouts.is_layout(reference):
            build_layouts.bring(self._ctx, reference, platforms.wanted(platform))
            return
        from podpy.engine import transfer

        options = transfer.PullOptions(
            registry=self._registry, policy=self._policy, platform=platform
        )
        transfer.pull(self._ctx, (reference,), options, Told(wire))


def _no_guess(name: str) -> str:
    """A stage's name that is misspelt is not the beginning of whatever id fits.

    Elsewhere one digit of an id can stand for an image; here it takes as many as are shown.
    """
    is_id = len(name) >= _SHORT_ID or not set(name) <= set("0123456789abcdef")
    return name if is_id else f"{name}:latest"


class Told(Progress):
    """Tells the coordinator how many bytes of the image are there."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._total = self._current = 0

    def blob(self, digest: str, size: int, *, present: bool) -> None:
        self._total += size
        self._current += size if present else 0
        self._tell()

    def advance(self, digest: str, count: int) -> None:
        self._current += count
        self._tell()

    def warn(self, text: str) -> None:
        self._wire.warn(text)

    def _tell(self) -> None:
        self._wire.transfer("layers", self._current, self._total)
