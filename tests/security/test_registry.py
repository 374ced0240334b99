"""Hostile registries: what they send is verified, and what they learn is nothing.

Incidents: CVE-2024-3727, CVE-2021-41190 and CVE-2014-9358 (identifiers and
confused types), CVE-2020-15157 and its kin (credentials), terminal escapes.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import images
from support.fake_registry import INDEX, MANIFEST, Answer, FakeRegistry, Request
from support.podpy import Podpy

LAYER = images.Layer().file("file", b"x" * 50_000).bytes()


@pytest.fixture
def server() -> Iterator[FakeRegistry]:
    registry = FakeRegistry()
    yield registry
    registry.close()


@pytest.fixture
def other() -> Iterator[FakeRegistry]:
    registry = FakeRegistry()
    yield registry
    registry.close()


@pytest.fixture(autouse=True)
def insecure(podpy: Podpy, server: FakeRegistry, other: FakeRegistry) -> None:
    path = podpy.directory / "config/containers/registries.conf"
    path.parent.mkdir(parents=True, exist_ok=True)
    rules = [f'[[registry]]\nlocation="{s.address}"\ninsecure=true\n' for s in (server, other)]
    path.write_text("".join(rules))


def refused(podpy: Podpy, server: FakeRegistry, words: str, name: str = "bad") -> None:
    """The pull fails saying ``words``, and leaves nothing in the store."""
    before = _content(podpy.store)
    done = podpy.fails("pull", "--retry", "0", f"{server.address}/{name}:1")
    assert words in done.stderr, done.stderr
    assert _content(podpy.store) == before
    assert podpy.staging() == []


def _content(store: Path) -> set[str]:
    places = ("content/blobs/sha256", "layers", "names")
    return {f"{place}/{path.name}" for place in places for path in (store / place).iterdir()}


def good(server: FakeRegistry) -> dict[str, Any]:
    """A manifest to be spoiled."""
    import gzip

    return server.document(images.image_config([LAYER]), [gzip.compress(LAYER, 0)])


def serve(server: FakeRegistry, document: Any, kind: str = MANIFEST) -> None:
    server.manifest("bad", "1", document, kind)


def test_a_layer_that_is_not_what_its_digest_says(podpy: Podpy, server: FakeRegistry) -> None:
    document = good(server)
    digest = document["layers"][0]["digest"]
    data = bytearray(server.blobs[digest])
    data[-20] ^= 1
    server.blobs[digest] = bytes(data)
    serve(server, document)
    refused(podpy, server, digest)
    downloads = podpy.directory / "cache/podpy/downloads"
    assert not list(downloads.glob("*")), "damaged bytes would spoil the next attempt"


def test_a_layer_that_is_not_what_the_image_says(podpy: Podpy, server: FakeRegistry) -> None:
    document = good(server)
    config = images.image_config([images.Layer().file("another").bytes()])
    document["config"] = server.blob(config, document["config"]["mediaType"])
    serve(server, document)
    refused(podpy, server, "the image says")


def test_a_configuration_that_is_not_what_its_digest_says(
    podpy: Podpy, server: FakeRegistry
) -> None:
    document = good(server)
    digest = document["config"]["digest"]
    server.blobs[digest] = server.blobs[digest].replace(b"linux", b"Linux")
    serve(server, document)
    refused(podpy, server, digest)


@pytest.mark.parametrize("change", [-1, 1, 1 << 40])
def test_a_size_is_a_promise(podpy: Podpy, server: FakeRegistry, change: int) -> None:
    document = good(server)
    document["layers"][0]["size"] += change
    serve(server, document)
    refused(podpy, server, document["layers"][0]["digest"])


@pytest.mark.parametrize(
    "digest",
    [
        "sha256:../../../../etc/passwd",
        "sha256:" + "a" * 63,
        "sha256:" + "A" * 64,
        "sha256:" + "a" * 64 + "/../x",
        "md5:" + "a" * 32,
        "../" * 20,
        "",
        7,
    ],
)
@pytest.mark.parametrize("where", ["config", "layer"])
def test_a_digest_is_a_digest(
    podpy: Podpy, server: FakeRegistry, digest: object, where: str
) -> None:
    document = good(server)
    entry = document["config"] if where == "config" else document["layers"][0]
    entry["digest"] = digest
    serve(server, document)
    refused(podpy, server, "digest")
    asked = [request.path for request in server.requests]
    assert not any(".." in path for path in asked)


def test_a_diff_id_is_a_digest(podpy: Podpy, server: FakeRegistry) -> None:
    document = good(server)
    config = json.loads(images.image_config([LAYER]))
    config["rootfs"]["diff_ids"] = ["sha256:../../../x"]
    document["config"] = server.blob(json.dumps(config).encode(), document["config"]["mediaType"])
    serve(server, document)
    refused(podpy, server, "digest")


def test_a_manifest_that_is_also_an_index(podpy: Podpy, server: FakeRegistry) -> None:
    document = good(server)
    document["manifests"] = [server.image("bad", "2", LAYER)]
    serve(server, document)
    refused(podpy, server, "both layers and manifests")


def test_a_manifest_under_another_type(podpy: Podpy, server: FakeRegistry) -> None:
    serve(server, good(server), INDEX)
    refused(podpy, server, "announced as")


def test_an_index_of_indexes_has_an_end(podpy: Podpy, server: FakeRegistry) -> None:
    inner: dict[str, Any] = {"schemaVersion": 2, "mediaType": INDEX, "manifests": []}
    entry = server.manifest("bad", "inner", inner, INDEX)
    platform = {"os": "linux", "architecture": images.architecture()}
    outer = {**inner, "manifests": [{**entry, "platform": platform}]}
    serve(server, outer, INDEX)
    refused(podpy, server, "index")


def test_a_manifest_of_many_megabytes(podpy: Podpy, server: FakeRegistry) -> None:
    serve(server, b'{"schemaVersion":2,"x":"' + b"a" * (5 << 20) + b'"}')
    refused(podpy, server, "larger than the limit")


def test_a_pinned_digest_is_held_against_the_registry(podpy: Podpy, server: FakeRegistry) -> None:
    serve(server, good(server))
    pinned = "sha256:" + "1" * 64
    server.manifests["bad", pinned] = server.manifests["bad", "1"]
    done = podpy.fails("pull", f"{server.address}/bad@{pinned}")
    assert "its bytes have the digest" in done.stderr


def test_what_is_no_image_is_refused(podpy: Podpy, server: FakeRegistry) -> None:
    document = good(server)
    document["config"]["mediaType"] = "application/vnd.cncf.helm.config.v1+json"
    serve(server, document)
    refused(podpy, server, "not a container image")


# --- credentials


def log_in(podpy: Podpy, server: FakeRegistry) -> None:
    entry = {"auth": base64.b64encode(b"me:very-secret").decode()}
    path = podpy.directory / "config/containers/auth.json"
    path.write_text(json.dumps({"auths": {server.address: entry}}))


def test_a_redirect_takes_no_credentials_along(
    podpy: Podpy, server: FakeRegistry, other: FakeRegistry
) -> None:
    server.image("app", "1", LAYER)
    other.blobs = server.blobs
    server.require_basic("me", "very-secret")
    server.redirect_blobs(other.url)
    log_in(podpy, server)
    podpy("pull", "-q", f"{server.address}/app:1")
    assert server.authorizations()
    assert [r for r in other.requests if "/blobs/" in r.path]
    assert other.authorizations() == []


def test_a_registry_cannot_have_the_password_sent_elsewhere(
    podpy: Podpy, server: FakeRegistry, other: FakeRegistry
) -> None:
    server.require_token("https://collector.invalid/token")
    log_in(podpy, server)
    done = podpy.fails("pull", "--retry", "0", f"{server.address}/app:1")
    assert "collector.invalid" in done.stderr
    assert "very-secret" not in done.stderr


def test_the_credentials_of_one_registry_are_not_shown_to_another(
    podpy: Podpy, server: FakeRegistry, other: FakeRegistry
) -> None:
    other.image("app", "1", LAYER)
    other.require_basic("somebody", "else")
    log_in(podpy, server)
    podpy.fails("pull", "--retry", "0", f"{other.address}/app:1")
    assert other.authorizations() == []


# --- the terminal


def test_nothing_a_registry_says_reaches_the_terminal_raw(
    podpy: Podpy, server: FakeRegistry
) -> None:
    said = json.dumps({"errors": [{"code": "\x1b]0;x\x07", "message": "\x1b[2Jgone\r\n"}]})

    def hook(request: Request) -> Answer:
        return Answer(400, {"Content-Type": "application/json"}, said.encode())

    server.hooks.append(hook)
    done = podpy.fails("pull", f"{server.address}/app:1")
    assert "gone" in done.stderr
    assert "\x1b" not in done.stderr and "\x07" not in done.stderr
