"""Manifests and configurations: what is read, and what is refused before it can do harm."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest

from podpy.errors import ImageError
from podpy.storage import content, manifests

DIGEST = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64


def described(**fields: Any) -> dict[str, Any]:
    return {"mediaType": "x", "digest": DIGEST, "size": 1, **fields}


def manifest(**fields: Any) -> dict[str, Any]:
    return {"schemaVersion": 2, "config": described(), "layers": [described()], **fields}


def config(**fields: Any) -> dict[str, Any]:
    rootfs = {"type": "layers", "diff_ids": [OTHER]}
    return {"architecture": "amd64", "os": "linux", "rootfs": rootfs, **fields}


def image(document: dict[str, Any], about: dict[str, Any]) -> Any:
    return manifests.image(document, about, digest=OTHER, kind=manifests.OCI_MANIFEST)


def test_an_image() -> None:
    about = {
        "User": "1000:10", "Env": ["A=b"], "Entrypoint": ["/x"], "Cmd": ["y"],
        "WorkingDir": "/w", "Volumes": {"/v": {}}, "ExposedPorts": {"80/tcp": {}},
        "Labels": {"l": "m"}, "StopSignal": "SIGINT",
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 5_000_000_000, "Retries": 2},
    }  # fmt: skip
    found = image(manifest(), config(config=about, created="2024-01-02T03:04:05Z"))
    assert (found.id, found.diff_ids) == ("a" * 64, (OTHER,))
    assert found.config.volumes == ("/v",)
    assert (found.config.user, found.config.entrypoint, found.config.cmd) == (
        "1000:10", ("/x",), ("y",),
    )  # fmt: skip
    check = found.config.healthcheck
    assert (check.interval, check.timeout, check.retries) == (5.0, 30.0, 2)
    assert found.created == 1_704_164_645


def test_nulls_mean_nothing() -> None:
    empty = dict.fromkeys(("User", "Env", "Entrypoint", "Cmd", "Volumes", "Labels"))
    assert image(manifest(), config(config=empty)).config == image(manifest(), config()).config


@pytest.mark.parametrize(
    "about",
    [
        {"User": 5}, {"Env": "A=b"}, {"Env": [1]}, {"Volumes": ["/v"]}, {"Labels": {"a": 1}},
        {"WorkingDir": ["/"]}, {"Cmd": {"a": 1}}, {"ExposedPorts": "80"}, {"StopSignal": 9},
    ],
)  # fmt: skip
def test_fields_of_the_wrong_type(about: dict[str, Any]) -> None:
    with pytest.raises(ImageError):
        image(manifest(), config(config=about))


@pytest.mark.parametrize(
    "entry",
    [
        None, "x", {}, {"digest": DIGEST}, described(size=-1), described(size="1"),
        described(size=True), described(size=1 << 64), described(digest=5),
        described(digest="sha256:../../../etc/passwd"), described(digest="sha256:" + "A" * 64),
        described(digest="sha256:" + "a" * 63), described(digest="md5:" + "a" * 64),
        described(digest="a" * 64), described(urls="http://x"), described(annotations={"a": 1}),
        described(digest="sha256:" + "a" * 63 + "\n"),
    ],
)  # fmt: skip
def test_malformed_descriptors(entry: Any) -> None:
    with pytest.raises(ImageError):
        manifests.descriptor(entry, "test")


def test_a_document_that_is_manifest_and_index_at_once() -> None:
    both = manifest(manifests=[described()])
    with pytest.raises(ImageError, match="both layers and manifests"):
        manifests.media_type(both, manifests.OCI_MANIFEST)


@pytest.mark.parametrize(
    ("own", "declared"),
    [
        (manifests.OCI_INDEX, ""),
        ("", manifests.OCI_INDEX),
        (manifests.OCI_MANIFEST, manifests.DOCKER_MANIFEST),
        ("text/html", ""),
    ],
)
def test_a_manifest_that_says_it_is_something_else(own: str, declared: str) -> None:
    document = manifest(mediaType=own) if own else manifest()
    with pytest.raises(ImageError):
        manifests.media_type(document, declared)


def test_schema_1_is_refused_by_name() -> None:
    with pytest.raises(ImageError, match="schema version 1"):
        manifests.media_type({"schemaVersion": 1})


def test_the_type_is_known_without_being_told() -> None:
    assert manifests.media_type(manifest()) == manifests.OCI_MANIFEST
    index = {"schemaVersion": 2, "manifests": []}
    assert manifests.media_type(index) == manifests.OCI_INDEX


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b'{"a":1} x', b"[" * 100_000])
def test_what_is_no_object(data: bytes) -> None:
    with pytest.raises(ImageError):
        manifests.parse(data, "test")


def test_a_manifest_above_its_limit() -> None:
    with pytest.raises(ImageError, match="limit"):
        manifests.parse(b" " * (content.MANIFEST_LIMIT + 1), "test")


def test_a_config_above_its_limit() -> None:
    huge = manifest(config=described(size=content.CONFIG_LIMIT + 1))
    with pytest.raises(ImageError, match="larger than the limit"):
        manifests.config_descriptor(huge)


def test_more_layers_than_overlayfs_has_room_for() -> None:
    with pytest.raises(ImageError, match="501 layers"):
        manifests.layer_descriptors(manifest(layers=[described()] * 501))


def test_layers_and_diff_ids_must_be_as_many() -> None:
    with pytest.raises(ImageError, match="2 layers"):
        image(manifest(layers=[described(), described()]), config())


@pytest.mark.parametrize(
    "text",
    [
        "2024-02-29T12:13:14.5Z", "1970-01-01T00:00:00Z", "2023-01-05T23:59:59+02:00",
        "2000-03-01T00:00:00-05:30", "1969-12-31T23:59:59Z", "2100-12-31T00:00:00Z",
    ],
)  # fmt: skip
def test_times_as_datetime_reads_them(text: str) -> None:
    expected = datetime.datetime.fromisoformat(text.replace("Z", "+00:00").replace(".5", ".500"))
    assert manifests.timestamp(text) == expected.timestamp()


@pytest.mark.parametrize("text", [None, 5, "", "yesterday", "2024-01-01", "2024-xx-01T00:00:00Z"])
def test_a_time_that_is_none(text: Any) -> None:
    assert manifests.timestamp(text) == 0.0


def test_a_docker_manifest_of_an_oci_one() -> None:
    layer = described(mediaType=f"{manifests.OCI_LAYER}+gzip")
    about = described(mediaType=manifests.OCI_CONFIG)
    made = json.loads(manifests.to_docker(manifest(config=about, layers=[layer])))
    assert made["mediaType"] == manifests.DOCKER_MANIFEST
    assert made["layers"][0]["mediaType"] == f"{manifests.DOCKER_LAYER}.gzip"
    zstd = manifest(layers=[described(mediaType=f"{manifests.OCI_LAYER}+zstd")])
    with pytest.raises(ImageError):
        manifests.to_docker(zstd)
