"""``--output type=oci`` and ``type=docker``: a built image as an archive, without a name here."""

from __future__ import annotations

from podpy.engine import build_outputs, pushing, saving
from podpy.model import Descriptor
from podpy.registry import archives
from podpy.storage import content, manifests

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from podpy.engine.build_outputs import Output
    from podpy.engine.context import Context
    from podpy.engine.pushing import Outgoing
    from podpy.engine.saving import Target
    from podpy.paths import Store
    from podpy.storage.collect import Pins
    from podpy.storage.names import Name

_WHAT = "--output"


def write(ctx: Context, pins: Pins, output: Output, built: Name, names: Sequence[str]) -> None:
    """Write what ``built`` stands for, under other names, to where the output says.

    ``built`` need not be a name of the store; its documents and layers are there.
    """

    def fill(target: Target) -> None:
        if output.kind == "docker":
            _docker(ctx.store, built, names, target)
        else:
            compress = build_outputs.is_compressed(output)
            outgoing = pushing.prepare(ctx.store, pins, built, compress=compress)
            _layout(ctx.store, outgoing, names, target)

    deliver = saving.to_archive if build_outputs.is_archive(output) else saving.to_directory
    deliver(output.destination, fill, _WHAT)


def _docker(store: Store, built: Name, names: Sequence[str], target: Target) -> None:
    image = manifests.load(store, built)
    chosen = saving.Chosen(image=image, manifest=built.manifest, names=tuple(names))
    saving.docker_archive(store, [chosen], target)


def _layout(
    store: Store, outgoing: Sequence[Outgoing], names: Sequence[str], target: Target
) -> None:
    """An OCI layout with all manifests and the blobs that they name."""
    for name in ("blobs", "blobs/sha256"):
        target.directory(name)
    blobs = {blob.digest: blob for one in outgoing for blob in one.blobs}
    for digest in blobs:
        saving.copy_blob(store, digest, archives.blob_member(digest), target)
    for digest, data in {one.digest: one.data for one in outgoing}.items():
        target.add(archives.blob_member(digest), data)
    top = outgoing[-1]
    described = Descriptor(media_type=top.media_type, digest=top.digest, size=len(top.data))
    target.add("index.json", archives.layout_index([(described, name) for name in names or ("",)]))
    target.add("oci-layout", content.LAYOUT.encode())
