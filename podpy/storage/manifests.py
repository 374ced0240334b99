"""Manifests and image configurations: parsed once, strictly, into records.

OCI image-spec ``manifest.md``, ``image-index.md``, ``config.md`` and docker's
image manifest version 2 schema 2.  What comes from a registry or an archive is
hostile until every field that podpy uses was checked for its type.  Hot path:
``run`` parses a manifest and a configuration on every start.
"""

from __future__ import annotations

from podpy import files
from podpy.errors import ImageError
from podpy.model import Descriptor, HealthCheck, Image, ImageConfig, Platform
from podpy.storage import content
from podpy.storage.content import CONFIG_LIMIT, MANIFEST_LIMIT, hex_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from podpy.paths import Store
    from podpy.storage.names import Name

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"

MANIFEST_TYPES = (OCI_MANIFEST, DOCKER_MANIFEST)
INDEX_TYPES = (OCI_INDEX, DOCKER_LIST)

MAX_LAYERS = 500
_INT64 = 1 << 63


def parse(data: bytes, what: str, limit: int = MANIFEST_LIMIT) -> dict[str, Any]:
    """A JSON object out of untrusted bytes; ``what`` names it for the error."""
    if len(data) > limit:
        raise ImageError(f"{what}: {len(data)} bytes is more than the limit of {limit}")
    try:
        value = files.loads(data)
    except ValueError as error:
        raise ImageError(f"{what}: {error}") from None
    if not isinstance(value, dict):
        raise ImageError(f"{what}: not a JSON object")
    return value


def media_type(document: Mapping[str, Any], declared: str = "") -> str:
    """What a manifest or index is; its own word must agree with what was declared.

    A document that could be read both as manifest and as index is refused
    (CVE-2021-41190), whatever it calls itself.
    """
    own = document.get("mediaType", "")
    if not isinstance(own, str):
        raise ImageError("manifest: mediaType is not a string")
    if document.get("layers") and document.get("manifests"):
        raise ImageError("manifest: has both layers and manifests")
    if document.get("schemaVersion") != 2:
        raise ImageError(
            f"manifest: schema version {document.get('schemaVersion')!a} is not supported",
            hint="docker's schema 1 was retired in 2019: build or push the image again",
        )
    is_index = "manifests" in document
    known = own or declared or (OCI_INDEX if is_index else OCI_MANIFEST)
    if declared in MANIFEST_TYPES + INDEX_TYPES and own and own != declared:
        raise ImageError(f"manifest: is {own!a} and was announced as {declared!a}")
    if known not in (INDEX_TYPES if is_index else MANIFEST_TYPES):
        raise ImageError(f"manifest: {known!a} is not a type of {'index' if is_index else 'image'}")
    return known


def descriptor(values: Any, what: str) -> Descriptor:
    """A content descriptor, checked field by field."""
    if not isinstance(values, dict):
        raise ImageError(f"{what}: a descriptor is not an object")
    digest, size = values.get("digest"), values.get("size")
    if not isinstance(digest, str):
        raise ImageError(f"{what}: a descriptor without digest")
    hex_of(digest)
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < _INT64:
        raise ImageError(f"{what}: {digest} has no valid size")
    return Descriptor(
        media_type=_text(values, "mediaType", what),
        digest=digest,
        size=size,
        urls=_texts(values, "urls", what),
        annotations=_text_map(values, "annotations", what),
        platform=_platform(values["platform"], what) if values.get("platform") else None,
    )


def index_entries(document: Mapping[str, Any]) -> tuple[Descriptor, ...]:
    """The manifests of an index, in their order."""
    entries = document.get("manifests")
    if not isinstance(entries, list):
        raise ImageError("image index: manifests is not a list")
    return tuple(descriptor(entry, "image index") for entry in entries)


def layer_descriptors(document: Mapping[str, Any]) -> tuple[Descriptor, ...]:
    """The layers of a manifest, lowest first."""
    entries = document.get("layers")
    if not isinstance(entries, list):
        raise ImageError("manifest: layers is not a list")
    if len(entries) > MAX_LAYERS:
        raise ImageError(f"manifest: {len(entries)} layers, more than the limit of {MAX_LAYERS}")
    return tuple(descriptor(entry, "manifest") for entry in entries)


def config_descriptor(document: Mapping[str, Any]) -> Descriptor:
    found = descriptor(document.get("config"), "manifest")
    if found.size > CONFIG_LIMIT:
        raise ImageError(f"config {found.digest}: larger than the limit of {CONFIG_LIMIT} bytes")
    return found


def diff_ids(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The digests of an image's uncompressed layers, lowest first."""
    found = _texts(_object(config, "rootfs", "image config"), "diff_ids", "image config")
    for item in found:
        hex_of(item)
    return found


def image(
    manifest: Mapping[str, Any],
    config: Mapping[str, Any],
    *,
    digest: str,
    kind: str,
    names: tuple[str, ...] = (),
) -> Image:
    """The record of an image out of its two documents.

    ``digest`` and ``kind`` are the manifest's digest and media type.
    """
    layers, identities = layer_descriptors(manifest), diff_ids(config)
    if len(layers) != len(identities):
        raise ImageError(
            f"manifest {digest}: {len(layers)} layers, but its config names {len(identities)}"
        )
    about = config_descriptor(manifest)
    return Image(
        id=hex_of(about.digest),
        digest=digest,
        media_type=kind,
        names=names,
        platform=_platform(config, "image config"),
        created=timestamp(config.get("created")),
        diff_ids=identities,
        layers=layers,
        config=_run_config(_object(config, "config", "image config")),
        size=sum(layer.size for layer in layers) + about.size,
    )


def load(store: Store, name: Name) -> Image:
    """The image behind a name of the store, from its manifest and configuration."""
    digest = name.manifest.digest
    manifest = parse(content.read_blob(store, digest), f"manifest {digest}")
    about = config_descriptor(manifest)
    data = content.read_blob(store, about.digest, CONFIG_LIMIT)
    config = parse(data, f"image config {about.digest}", CONFIG_LIMIT)
    kept = (name.reference,) if name.reference else ()
    return image(manifest, config, digest=digest, kind=name.manifest.media_type, names=kept)


def _run_config(values: Mapping[str, Any]) -> ImageConfig:
    what = "image config"
    return ImageConfig(
        user=_text(values, "User", what),
        env=_texts(values, "Env", what),
        entrypoint=_words(values, "Entrypoint"),
        cmd=_words(values, "Cmd"),
        working_dir=_text(values, "WorkingDir", what),
        volumes=tuple(_object(values, "Volumes", what)),
        exposed_ports=tuple(_object(values, "ExposedPorts", what)),
        labels=_text_map(values, "Labels", what),
        stop_signal=_text(values, "StopSignal", what),
        healthcheck=_health_check(values.get("Healthcheck")),
    )


def _health_check(values: Any) -> HealthCheck | None:
    """Docker's extension: durations are nanoseconds, 0 means the default."""
    if not isinstance(values, dict) or not values.get("Test"):
        return None
    given: dict[str, Any] = {}
    for field, key in (
        ("interval", "Interval"),
        ("timeout", "Timeout"),
        ("start_period", "StartPeriod"),
        ("start_interval", "StartInterval"),
    ):
        value = values.get(key)
        if isinstance(value, (int, float)) and value > 0:
            given[field] = value / 1e9
    retries = values.get("Retries")
    if isinstance(retries, int) and retries > 0:
        given["retries"] = retries
    return HealthCheck(test=_texts(values, "Test", "image config"), **given)


def _platform(values: Any, what: str) -> Platform:
    if not isinstance(values, dict):
        raise ImageError(f"{what}: platform is not an object")
    return Platform(
        os=_text(values, "os", what) or "linux",
        architecture=_text(values, "architecture", what),
        variant=_text(values, "variant", what),
    )


def _object(values: Mapping[str, Any], key: str, what: str) -> dict[str, Any]:
    found = values.get(key)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ImageError(f"{what}: {key} is not an object")
    return found


def _text(values: Mapping[str, Any], key: str, what: str) -> str:
    found = values.get(key)
    if found is None:
        return ""
    if not isinstance(found, str):
        raise ImageError(f"{what}: {key} is not a string")
    return found


def _texts(values: Mapping[str, Any], key: str, what: str) -> tuple[str, ...]:
    found = values.get(key)
    if found is None:
        return ()
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise ImageError(f"{what}: {key} is not a list of strings")
    return tuple(found)


def _words(values: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """``Cmd`` and ``Entrypoint``: a list, or (before docker 1.0) one shell line."""
    found = values.get(key)
    if isinstance(found, str):
        return ("/bin/sh", "-c", found) if found else ()
    return _texts(values, key, "image config")


def _text_map(values: Mapping[str, Any], key: str, what: str) -> dict[str, str]:
    found = _object(values, key, what)
    if not all(isinstance(value, str) for value in found.values()):
        raise ImageError(f"{what}: {key} holds something else than strings")
    return found


def timestamp(text: Any) -> float:
    """RFC 3339 as seconds since the epoch; 0.0 when it is absent or malformed.

    ``datetime`` costs 3 ms to import, and ``run`` needs no more than this.
    """
    if not isinstance(text, str) or len(text) < 20 or text[10] not in "Tt":
        return 0.0
    try:
        year, month, day = int(text[0:4]), int(text[5:7]), int(text[8:10])
        clock = int(text[11:13]) * 3600 + int(text[14:16]) * 60 + int(text[17:19])
        fraction, offset = _split_zone(text[19:])
    except ValueError:
        return 0.0
    return (_days(year, month, day) * 86400 + clock) - offset + fraction


def _split_zone(tail: str) -> tuple[float, int]:
    """``.123Z`` or ``+02:00`` as (fraction of a second, seconds east of UTC)."""
    for sign, factor in (("+", 1), ("-", -1)):
        digits, found, zone = tail.partition(sign)
        if found:
            seconds = int(zone[0:2]) * 3600 + int(zone[3:5]) * 60
            return float(f"0{digits}"), factor * seconds
    return float(f"0{tail.rstrip('Zz')}"), 0


def _days(year: int, month: int, day: int) -> int:
    """Days from 1970-01-01 in the Gregorian calendar (months counted from March)."""
    if month < 3:
        year, month = year - 1, month + 12
    leap_days = year // 4 - year // 100 + year // 400
    return 365 * year + leap_days + (153 * (month - 3) + 2) // 5 + day - 719469


def build(config: bytes, layers: list[Descriptor]) -> bytes:
    """An OCI manifest of a configuration and the layers it names, for images that had none."""
    import hashlib

    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {
            "mediaType": OCI_CONFIG,
            "digest": f"sha256:{hashlib.sha256(config).hexdigest()}",
            "size": len(config),
        },
        "layers": [
            {"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size}
            for layer in layers
        ],
    }
    return files.dumps(document).encode()


def layer_type(compression: str) -> str:
    """The OCI media type of a layer by its compression (``gzip``, ``zstd``, ``plain``)."""
    if compression == "plain":
        return OCI_LAYER
    if compression not in ("gzip", "zstd"):
        raise ImageError(
            f"layer: {compression} is not a compression that layers may have",
            hint="OCI layers are plain, gzip or zstd",
        )
    return f"{OCI_LAYER}+{compression}"


_DOCKER_TYPES = {
    OCI_CONFIG: DOCKER_CONFIG,
    DOCKER_CONFIG: DOCKER_CONFIG,
    OCI_LAYER: DOCKER_LAYER,
    DOCKER_LAYER: DOCKER_LAYER,
    f"{OCI_LAYER}+gzip": f"{DOCKER_LAYER}.gzip",
    f"{DOCKER_LAYER}.gzip": f"{DOCKER_LAYER}.gzip",
}


def to_docker(manifest: Mapping[str, Any]) -> bytes:
    """The docker schema 2 manifest of the same configuration and layers.

    Raises :class:`ImageError` for layers that docker's format cannot name (zstd).
    """

    def converted(found: Descriptor) -> dict[str, Any]:
        kind = _DOCKER_TYPES.get(found.media_type)
        if kind is None:
            raise ImageError(
                f"manifest: docker's format has no {found.media_type!a}",
                hint="save it in an OCI format",
            )
        return {"mediaType": kind, "size": found.size, "digest": found.digest}

    document = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": converted(config_descriptor(manifest)),
        "layers": [converted(layer) for layer in layer_descriptors(manifest)],
    }
    return files.dumps(document).encode()
