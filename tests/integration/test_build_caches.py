"""Caches elsewhere (``--cache-to``, ``--cache-from``), and attestations of images."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from support.podpy import BUSYBOX, Podpy
from support.registry import Registry

NET = ("--network", "none")
RANDOM = "cat /proc/sys/kernel/random/uuid"
TEXT = (
    f"FROM {BUSYBOX} AS one\nRUN {RANDOM} > /1\n"
    f"FROM {BUSYBOX}\nCOPY --from=one /1 /copy\nRUN {RANDOM} > /2\n"
)


@pytest.fixture
def source(podpy: Podpy) -> Path:
    path = podpy.directory / "context"
    path.mkdir()
    (path / "Dockerfile").write_text(TEXT)
    return path


def build(podpy: Podpy, source: Path, *options: object) -> str:
    return podpy("build", "--progress=plain", *NET, "-t", "x", *options, source).stderr


def contents(podpy: Podpy) -> str:
    return podpy("run", "--rm", *NET, "x", "sh", "-c", "cat /copy /1 /2 2>/dev/null; true").text


def forget(podpy: Podpy) -> None:
    """As on another host: no image, no cache."""
    podpy("rmi", "-f", "x")
    podpy("builder", "prune", "-a", "-f")


# --- caches --------------------------------------------------------------------


def places(kind: str, podpy: Podpy, registry: Registry) -> tuple[str, str]:
    if kind == "local":
        directory = podpy.directory / "cache-of-builds"
        return f"type=local,dest={directory},mode=max", f"type=local,src={directory}"
    name = f"{registry.address}/cache/{podpy.directory.name}"
    return f"type=registry,ref={name},mode=max", f"type=registry,ref={name}"


@pytest.mark.parametrize("kind", ["local", "registry"])
def test_a_cache_elsewhere(podpy: Podpy, source: Path, registry: Registry, kind: str) -> None:
    to, from_ = places(kind, podpy, registry)
    tls = "--tls-verify=false"
    build(podpy, source, "--cache-to", to, tls)
    made = contents(podpy)
    image = podpy("image", "inspect", "x").json()[0]["Id"]
    forget(podpy)
    shown = build(podpy, source, "--cache-from", from_, tls)
    assert shown.count("CACHED") == 3
    assert contents(podpy) == made
    assert podpy("image", "inspect", "x").json()[0]["Id"] == image, "the same image everywhere"
    assert build(podpy, source).count("CACHED") == 3, "what was fetched is here now"


def test_the_least_of_a_cache_is_the_targets_layers(podpy: Podpy, source: Path) -> None:
    directory = podpy.directory / "least"
    build(podpy, source, "--cache-to", f"type=local,dest={directory}")
    made = contents(podpy)
    forget(podpy)
    build(podpy, source, "--cache-from", f"type=local,src={directory}")
    assert contents(podpy) != made, "the other stage runs again"


def test_a_cache_on_another_file_system(podpy: Podpy, source: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        build(podpy, source, "--cache-to", f"type=local,dest={directory}/cache,mode=max")
        made = contents(podpy)
        forget(podpy)
        build(podpy, source, "--cache-from", f"type=local,src={directory}/cache")
        assert contents(podpy) == made


def test_a_cache_within_the_image(podpy: Podpy, source: Path, registry: Registry) -> None:
    name = f"{registry.address}/inline/{podpy.directory.name}:1"
    text = f"FROM {BUSYBOX}\nRUN {RANDOM} > /1\nRUN {RANDOM} > /2\n"
    (source / "Dockerfile").write_text(text)
    tls = "--tls-verify=false"
    podpy("build", *NET, "-t", name, "--cache-to", "type=inline", "--push", tls, source)
    podpy("tag", name, "x")
    made = contents(podpy)
    podpy("rmi", "-f", name)
    forget(podpy)
    shown = build(podpy, source, "--cache-from", name, tls)
    assert shown.count("CACHED") == 2
    assert contents(podpy) == made


def test_a_cache_that_is_not_there_is_a_warning(podpy: Podpy, source: Path) -> None:
    missing = podpy.directory / "nowhere"
    shown = build(podpy, source, "--cache-from", f"type=local,src={missing}")
    assert f"cache {missing}" in shown
    assert contents(podpy)


def test_what_a_cache_may_not_do(podpy: Podpy, source: Path) -> None:
    """Its layers are verified; its records are read strictly."""
    directory = podpy.directory / "hostile"
    build(podpy, source, "--cache-to", f"type=local,dest={directory},mode=max")
    forget(podpy)
    for blob in (directory / "blobs" / "sha256").iterdir():
        data = blob.read_bytes()
        if data.startswith(b"\x1f\x8b"):  # layers
            blob.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    shown = build(podpy, source, "--cache-from", f"type=local,src={directory}")
    assert "CACHED" not in shown
    assert contents(podpy)


@pytest.mark.parametrize("records", [5, [], {"../../x": {}}, {"a" * 64: {"diff_id": "x"}}])
def test_records_of_another_form(podpy: Podpy, source: Path, records: Any) -> None:
    directory = podpy.directory / "odd"
    build(podpy, source, "--cache-to", f"type=local,dest={directory}")
    blobs = directory / "blobs" / "sha256"

    def rewrite(digest: str, change: Any) -> dict[str, Any]:
        document = json.loads((blobs / digest.partition(":")[2]).read_text())
        change(document)
        data = json.dumps(document).encode()
        digits = hashlib.sha256(data).hexdigest()
        (blobs / digits).write_bytes(data)
        return {"digest": f"sha256:{digits}", "size": len(data)}

    index = json.loads((directory / "index.json").read_text())
    top = index["manifests"][0]
    config: dict[str, Any] = {}

    def with_config(document: dict[str, Any]) -> None:
        config.update(
            rewrite(
                document["config"]["digest"],
                lambda about: about.update({"podpy.build.cache": records}),
            )
        )
        document["config"].update(config)

    top.update(rewrite(top["digest"], with_config))
    (directory / "index.json").write_text(json.dumps(index))
    forget(podpy)
    assert "CACHED" not in build(podpy, source, "--cache-from", f"type=local,src={directory}")


# --- attestations ----------------------------------------------------------------


STATUS = """Package: libexample
Status: install ok installed
Architecture: amd64
Version: 1.2-3

Package: removed
Status: deinstall ok config-files
Version: 9

"""


def statements(layout: Path) -> dict[str, dict[str, Any]]:
    """The statements of an OCI layout by predicate type, their subject checked."""

    def blob(digest: str) -> Any:
        data = (layout / "blobs" / "sha256" / digest.partition(":")[2]).read_bytes()
        assert f"sha256:{hashlib.sha256(data).hexdigest()}" == digest
        return json.loads(data)

    index = blob(json.loads((layout / "index.json").read_text())["manifests"][0]["digest"])
    images = {m["digest"] for m in index["manifests"] if m["platform"]["os"] != "unknown"}
    found = {}
    for entry in index["manifests"]:
        if entry["platform"]["os"] == "unknown":
            assert entry["annotations"]["vnd.docker.reference.type"] == "attestation-manifest"
            assert entry["annotations"]["vnd.docker.reference.digest"] in images
            for layer in blob(entry["digest"])["layers"]:
                made = blob(layer["digest"])
                subject = f"sha256:{made['subject'][0]['digest']['sha256']}"
                assert subject in images, "it is about the image that others get"
                found[layer["annotations"]["in-toto.io/predicate-type"]] = made["predicate"]
    return found


def test_provenance_and_bill_of_materials(podpy: Podpy, source: Path) -> None:
    (source / "status").write_text(STATUS)
    (source / "METADATA").write_text("Metadata-Version: 2.1\nName: example\nVersion: 4.5\n\nText\n")
    (source / "Dockerfile").write_text(
        f"FROM {BUSYBOX}\nARG A\nCOPY status /var/lib/dpkg/status\n"
        "COPY METADATA /usr/lib/python3/dist-packages/example-4.5.dist-info/METADATA\n"
    )
    layout = podpy.directory / "attested"
    build(podpy, source, "--sbom=true", "--provenance=mode=max", "--build-arg", "A=b",
          "-o", f"type=oci,tar=false,dest={layout}")  # fmt: skip
    found = statements(layout)
    document = found["https://spdx.dev/Document"]
    assert document["spdxVersion"] == "SPDX-2.3"
    listed = {package["name"]: package for package in document["packages"]}
    assert set(listed) == {"libexample", "example"}
    purl = listed["libexample"]["externalRefs"][0]["referenceLocator"]
    assert purl.startswith("pkg:deb/") and purl.endswith("libexample@1.2-3?arch=amd64")
    provenance = found["https://slsa.dev/provenance/v1"]
    definition = provenance["buildDefinition"]
    assert definition["externalParameters"]["request"]["args"] == {"build-arg:A": "b"}
    base = podpy("image", "inspect", BUSYBOX).json()[0]["Digest"].partition(":")[2]
    assert [d["digest"]["sha256"] for d in definition["resolvedDependencies"]] == [base]
    assert "FROM" in definition["internalParameters"]["dockerfile"]


def test_nothing_is_attached_unasked(podpy: Podpy, source: Path) -> None:
    build(podpy, source, "--provenance=false", "--sbom=false")
    digest = podpy("image", "inspect", "x").json()[0]["Digest"]
    manifest = podpy.store / "content" / "blobs" / "sha256" / digest.partition(":")[2]
    assert "config" in json.loads(manifest.read_text())


def test_a_bill_that_would_not_be_true_is_refused(podpy: Podpy, source: Path) -> None:
    (source / "rpmdb.sqlite").write_text("x")
    (source / "Dockerfile").write_text(f"FROM {BUSYBOX}\nCOPY rpmdb.sqlite /var/lib/rpm/\n")
    done = podpy("build", "--sbom=true", *NET, source, code=None)
    assert done.code == 125
    assert "rpm" in done.stderr
