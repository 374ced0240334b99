"""Image archives: what docker-archive, oci-archive and layout directories say they hold.

Pure: an archive is anything with ``has(name)`` and ``read(name, limit)``; what
comes out names members, which the caller brings into the store, and what goes
in is documents, which the caller writes.  Formats: OCI image-spec
``image-layout.md``; docker's image specification 1.2 (``manifest.json``) and
1.0 (``repositories`` and one directory per layer); ``dir`` of containers/image.
"""

from __future__ import annotations

from podpy import files
from podpy.errors import ImageError, UsageError
from podpy.model import Descriptor
from podpy.records import record
from podpy.registry import reference as references

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any, Protocol

    class Members(Protocol):
        """The members of an archive."""

        def has(self, name: str) -> bool: ...

        def read(self, name: str, limit: int = ...) -> bytes: ...


DOCUMENT_LIMIT = 4 << 20
REF_NAME = "org.opencontainers.image.ref.name"
CONTAINERD_NAME = "io.containerd.image.name"


@record
class Packed:
    """One image of an archive.

    From an OCI layout: ``manifest``, the descriptor of its manifest or index
    (``blobs/…`` members hold it and all it names).  From docker's formats:
    ``config`` and ``layers``, the names of the members.  ``names`` are full
    references.
    """

    names: tuple[str, ...] = ()
    manifest: Descriptor | None = None
    config: str = ""
    layers: tuple[str, ...] = ()
    legacy: str = ""
    _nested = {"manifest": Descriptor}


def images(members: Members) -> tuple[Packed, ...]:
    """The images of an archive of any format.

    Where docker writes both its own description and an OCI layout, the layout
    is read: it has the digests.
    """
    if members.has("oci-layout") and members.has("index.json"):
        return tuple(_layout_images(members))
    if members.has("manifest.json"):
        document = _document(members, "manifest.json")
        if isinstance(document, dict):
            return (_directory_image(document),)
        return tuple(_docker_images(document))
    if members.has("repositories"):
        return tuple(_legacy_images(_document(members, "repositories")))
    raise ImageError(
        "archive: holds no image (no index.json, manifest.json or repositories)",
        hint="`podpy import` makes an image of a root file system archive",
    )


def blob_member(digest: str) -> str:
    """The member of an OCI layout that holds a blob."""
    algorithm, _, digits = digest.partition(":")
    return f"blobs/{algorithm}/{digits}"


def _document(members: Members, name: str) -> Any:
    try:
        return files.loads(members.read(name, DOCUMENT_LIMIT))
    except ValueError as error:
        raise ImageError(f"archive: {name}: {error}") from None


def _layout_images(members: Members) -> Iterator[Packed]:
    """Entries that share a manifest are one image with several names."""
    document = _document(members, "index.json")
    entries = document.get("manifests") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ImageError("archive: index.json has no list of manifests")
    found: dict[str, Packed] = {}
    for entry in entries:
        descriptor = _descriptor(entry)
        known = found.get(descriptor.digest)
        names = (*(known.names if known else ()), *_layout_names(descriptor.annotations))
        found[descriptor.digest] = Packed(manifest=descriptor, names=names)
    yield from found.values()


def _layout_names(annotations: Mapping[str, str]) -> Iterator[str]:
    """containerd writes the whole name beside a bare tag; others only ``ref.name``."""
    text = annotations.get(CONTAINERD_NAME) or annotations.get(REF_NAME, "")
    name = full_name(text) if text else ""
    if name:
        yield name


def full_name(text: str) -> str:
    """A name found in an archive as a full reference; empty when it is none.

    A name without registry is nobody's but this machine's: ``localhost/``.
    """
    try:
        if references.is_short(text):
            return str(references.qualify(text, references.LOCAL_REGISTRY))
        return str(references.parse(text))
    except UsageError:
        return ""


def _docker_name(text: str) -> str:
    """docker writes names without ``docker.io/``: short ones are those of Docker Hub."""
    try:
        return str(references.parse(text))
    except UsageError:
        return ""


def _descriptor(values: Any) -> Descriptor:
    """The fields of an index entry that choosing needs; the manifest itself is checked later."""
    fields = values if isinstance(values, dict) else {}
    digest, size = fields.get("digest"), fields.get("size")
    kind, notes = fields.get("mediaType", ""), fields.get("annotations") or {}
    valid = isinstance(digest, str) and references.is_digest(digest)
    if not (valid and isinstance(size, int) and isinstance(kind, str) and isinstance(notes, dict)):
        raise ImageError("archive: index.json has a malformed entry")
    texts = {key: value for key, value in notes.items() if isinstance(value, str)}
    return Descriptor(media_type=kind, digest=str(digest), size=size, annotations=texts)


def _docker_images(document: Any) -> Iterator[Packed]:
    if not isinstance(document, list):
        raise ImageError("archive: manifest.json is not a list")
    for item in document:
        fields = item if isinstance(item, dict) else {}
        config, layers = fields.get("Config"), fields.get("Layers") or []
        tags = fields.get("RepoTags") or []
        if not isinstance(config, str) or not (_are_texts(layers) and _are_texts(tags)):
            raise ImageError("archive: manifest.json has a malformed entry")
        names = tuple(name for name in map(_docker_name, tags) if name)
        yield Packed(names=names, config=config, layers=tuple(layers))


def _are_texts(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def _directory_image(document: Mapping[str, Any]) -> Packed:
    """``dir:`` of containers/image: the manifest itself, blobs beside it by their digits."""
    if not isinstance(document.get("config"), dict):
        raise ImageError("directory: manifest.json is not the manifest of an image")
    return Packed(config="manifest.json", legacy="dir")


def _legacy_images(document: Any) -> Iterator[Packed]:
    """Before docker 1.10: names → tags → the topmost layer's directory."""
    if not isinstance(document, dict):
        raise ImageError("archive: repositories is not an object")
    found: dict[str, list[str]] = {}
    for repository, tags in document.items():
        if not isinstance(tags, dict):
            raise ImageError("archive: repositories is malformed")
        for tag, layer in tags.items():
            if not isinstance(layer, str):
                raise ImageError("archive: repositories is malformed")
            found.setdefault(layer, []).append(f"{repository}:{tag}")
    for layer, names in found.items():
        full = tuple(name for name in map(_docker_name, names) if name)
        yield Packed(names=full, config=f"{layer}/json", legacy="v1")


def legacy_chain(members: Members, top: str) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The layer members of a docker 1.0 image, lowest first, and its topmost description."""
    layers: list[str] = []
    first: dict[str, Any] = {}
    identifier = top.partition("/")[0]
    while identifier and len(layers) < 500:
        document = _document(members, f"{identifier}/json")
        if not isinstance(document, dict):
            raise ImageError(f"archive: {identifier!a}/json is not an object")
        first = first or document
        layers.append(f"{identifier}/layer.tar")
        parent = document.get("parent", "")
        identifier = parent if isinstance(parent, str) else ""
    return tuple(reversed(layers)), first


# --- writing -----------------------------------------------------------------


def docker_manifest(entries: Sequence[tuple[str, Sequence[str], Sequence[str]]]) -> bytes:
    """``manifest.json`` of a docker-archive: (config member, layer members, names) per image."""
    document = [
        {"Config": config, "RepoTags": list(names) or None, "Layers": list(layers)}
        for config, layers, names in entries
    ]
    return files.dumps(document).encode()


def layout_index(entries: Sequence[tuple[Descriptor, str]]) -> bytes:
    """``index.json`` of an OCI layout: manifests with the names they go by."""
    manifests = []
    for descriptor, name in entries:
        values: dict[str, Any] = {
            "mediaType": descriptor.media_type,
            "digest": descriptor.digest,
            "size": descriptor.size,
        }
        if name:
            values["annotations"] = {REF_NAME: name}
        manifests.append(values)
    kind = "application/vnd.oci.image.index.v1+json"
    return files.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": manifests}).encode()
