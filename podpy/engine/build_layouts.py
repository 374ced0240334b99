"""Images of OCI layouts that a build is given by name: ``oci-layout://DIRECTORY[:TAG][@DIGEST]``.

They come into the store without a name, as a pulled image would, when a stage
asks for them and the store does not have them.
"""

from __future__ import annotations

import os

from podpy import files
from podpy.errors import BuildError
from podpy.records import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podpy.engine.context import Context
    from podpy.model import Platform
    from podpy.registry.archives import Packed
    from podpy.storage.archive import Archive

_SCHEME = "oci-layout://"
_LATEST = "latest"


def is_layout(reference: str) -> bool:
    return reference.startswith(_SCHEME)


def image_id(ctx: Context, reference: str, wanted: Platform) -> str:
    """The id of the image that a reference means, by the layout's own documents."""
    from podpy.engine import archiving, platforms
    from podpy.registry import archives
    from podpy.storage import manifests

    source, packed = _open(ctx, reference)
    with source:
        entry = packed.manifest
        while entry is not None:
            member = archives.blob_member(entry.digest)
            document = manifests.parse(archiving.verified(source, member, entry), entry.digest)
            if manifests.media_type(document, entry.media_type) not in manifests.INDEX_TYPES:
                return manifests.config_descriptor(document).digest
            entry = platforms.choose(manifests.index_entries(document), wanted)
    raise BuildError(f"{reference}: no manifest")


def bring(ctx: Context, reference: str, wanted: Platform) -> None:
    """Load the image of a layout into the store."""
    from podpy.engine import archiving
    from podpy.storage.importer import Importer

    source, packed = _open(ctx, reference)
    with Importer(ctx.store) as importer, source:
        archiving.load_one(importer, source, replace(packed, names=()), wanted)


def _open(ctx: Context, reference: str) -> tuple[Archive, Packed]:
    """The layout, and the entry of its index that is meant."""
    from podpy.registry import archives
    from podpy.storage import archive

    directory = _parts(reference)[0]
    try:
        fd = os.open(directory, files.O_DIR)
    except OSError as error:
        raise BuildError(f"{reference}: {error.strerror}") from None
    source = archive.open_archive(ctx.store, fd)
    try:
        if not source.has("oci-layout"):
            raise BuildError(f"{reference}: is no OCI layout")
        return source, _chosen(reference, archives.images(source), _tags(source))
    except BaseException:
        source.__exit__()
        raise


def _parts(reference: str) -> tuple[str, str, str]:
    """``(directory, tag, digest)`` of a reference."""
    path, _, digest = reference.removeprefix(_SCHEME).partition("@")
    head, slash, last = path.rpartition("/")
    name, _, tag = last.partition(":")
    return f"{head}{slash}{name}", tag, digest


def _tags(source: Archive) -> dict[str, set[str]]:
    """The tags that a layout's index gives each manifest: bare, or at the end of a name."""
    from podpy.registry import archives

    found: dict[str, set[str]] = {}
    for entry in files.loads(source.read("index.json", archives.DOCUMENT_LIMIT))["manifests"]:
        text = (entry.get("annotations") or {}).get(archives.REF_NAME, "")
        found.setdefault(entry["digest"], set()).add(str(text).rpartition(":")[2])
    return {digest: tags - {""} for digest, tags in found.items()}


def _chosen(reference: str, found: tuple[Packed, ...], tags: dict[str, set[str]]) -> Packed:
    """By digest or tag; without either ``latest``, or the only image there is."""
    _, tag, digest = _parts(reference)
    for packed in found:
        about = packed.manifest.digest if packed.manifest is not None else ""
        if about == digest if digest else (tag or _LATEST) in tags.get(about, ()):
            return packed
    if len(found) == 1 and not (tag or digest):
        return found[0]
    known = ", ".join(sorted(each for some in tags.values() for each in some))
    raise BuildError(
        f"{reference}: no such image in the layout",
        hint=f"its tags: {known}" if known else "name one by its digest: @sha256:…",
    )
