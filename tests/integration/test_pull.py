"""Pulls from a registry of our own: platforms, compressions, interruptions, repetitions."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from support import host, images
from support.fake_registry import INDEX, OCI, Answer, FakeRegistry, Request
from support.podpy import Podpy
from support.polling import eventually

NOISE = os.urandom(2 << 20)


@pytest.fixture
def server() -> Iterator[FakeRegistry]:
    registry = FakeRegistry()
    yield registry
    registry.close()


@pytest.fixture(autouse=True)
def insecure(podpy: Podpy, server: FakeRegistry) -> None:
    path = podpy.directory / "config/containers/registries.conf"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'[[registry]]\nlocation = "{server.address}"\ninsecure = true\n')


def layer_requests(server: FakeRegistry) -> list[Request]:
    return [r for r in server.requests if "/blobs/" in r.path and r.method == "GET"]


def noisy(name: str = "noise", data: bytes = NOISE) -> images.Layer:
    return images.Layer().file(name, data)


def read(podpy: Podpy, image: str, path: str) -> bytes:
    """A file's content as a container sees it."""
    podpy("run", "--rm", "--network", "none", image, "test", "-f", path)
    return podpy("run", "--rm", "--network", "none", image, "cat", path).raw_stdout


# --- platforms


def add_index(server: FakeRegistry, name: str, *platforms: str) -> dict[str, Any]:
    """An index whose images differ in nothing but the platform."""
    entries = []
    for number, text in enumerate(platforms):
        parts = (*text.split("/"), "")
        described = {"os": parts[0], "architecture": parts[1]}
        if parts[2]:
            described["variant"] = parts[2]
        layer = images.Layer().file("platform", text).bytes()
        config = {**json.loads(images.image_config([layer])), **described}
        manifest = server.document(json.dumps(config).encode(), [gzip.compress(layer)])
        entry = server.manifest(name, f"part-{number}", manifest)
        entries.append({**entry, "platform": described})
    document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
    return server.manifest(name, "1", document, INDEX)


def test_the_hosts_platform_is_chosen_from_an_index(podpy: Podpy, server: FakeRegistry) -> None:
    own = f"linux/{images.architecture()}"
    add_index(server, "multi", "linux/s390x", own, "linux/arm/v7")
    podpy("pull", "-q", f"{server.address}/multi:1")
    (layer,) = (podpy.store / "layers").glob("*/diff/platform")
    assert layer.read_text() == own


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--platform", "linux/s390x"], "linux/s390x"),
        (["--arch", "arm"], "linux/arm/v7"),
        (["--arch", "arm", "--variant", "v6"], "linux/arm/v6"),
        (["--os", "windows", "--arch", "amd64"], "windows/amd64"),
    ],
)
def test_another_platform_can_be_asked_for(
    podpy: Podpy, server: FakeRegistry, options: list[str], expected: str
) -> None:
    platforms = ("linux/s390x", "linux/amd64", "linux/arm/v6", "linux/arm/v7", "windows/amd64")
    add_index(server, "multi", *platforms)
    podpy("pull", "-q", *options, f"{server.address}/multi:1")
    (layer,) = (podpy.store / "layers").glob("*/diff/platform")
    assert layer.read_text() == expected


def test_a_platform_that_is_not_offered_is_an_error(podpy: Podpy, server: FakeRegistry) -> None:
    add_index(server, "multi", "linux/s390x", "linux/ppc64le")
    done = podpy.fails("pull", "--platform", "linux/riscv64", f"{server.address}/multi:1")
    assert "linux/ppc64le, linux/s390x" in done.stderr


def test_an_image_of_another_platform_is_refused_when_one_was_asked_for(
    podpy: Podpy, server: FakeRegistry
) -> None:
    server.image("single", "1", noisy())
    podpy.fails("pull", "--platform", "linux/s390x", f"{server.address}/single:1")


# --- compressions


@pytest.mark.parametrize("kind", ["gzip", "zstd", "plain"])
def test_layers_of_every_compression(podpy: Podpy, server: FakeRegistry, kind: str) -> None:
    plain = [images.busybox_layer().bytes(), noisy().bytes()]
    packed = [compress(kind, data) for data in plain]
    document = server.document(images.image_config(plain), packed)
    for entry in document["layers"]:
        entry["mediaType"] = f"{OCI}.layer.v1.tar" + ("" if kind == "plain" else f"+{kind}")
    server.manifest("packed", "1", document)
    name = f"{server.address}/packed:1"
    podpy("pull", "-q", name)
    assert read(podpy, name, "/noise") == NOISE


def compress(kind: str, data: bytes) -> bytes:
    if kind == "plain":
        return data
    host.require(kind)
    done = subprocess.run([host.program(kind), "-c"], input=data, capture_output=True, check=True)
    return done.stdout


# --- interruptions


def test_answers_cut_at_a_third_cost_no_byte_twice(podpy: Podpy, server: FakeRegistry) -> None:
    server.image("cut", "1", images.busybox_layer(), noisy())
    server.cut(0.3)
    name = f"{server.address}/cut:1"
    podpy("pull", "-q", name)
    assert read(podpy, name, "/noise") == NOISE
    ranges = [r.headers.get("range", "bytes=0-") for r in layer_requests(server)]
    assert len(set(ranges)) >= 4


def test_a_killed_pull_is_resumed_by_the_next(podpy: Podpy, server: FakeRegistry) -> None:
    server.image("killed", "1", noisy())
    halfway, go_on = threading.Event(), threading.Event()

    def hang(request: Request, answer: Answer) -> Answer:
        if not go_on.is_set():
            if halfway.is_set():
                go_on.wait(20)
            halfway.set()
            answer.headers["Content-Length"] = str(len(answer.body))
            answer.sent = len(answer.body) // 2
        return answer

    server.blob_hook(hang)
    name = f"{server.address}/killed:1"
    child = podpy.start("pull", "-q", name)
    downloads = podpy.directory / "cache/podpy/downloads"
    eventually(lambda: [p for p in downloads.glob("*") if p.stat().st_size > 500_000], timeout=20)
    child.signal(signal.SIGKILL)
    child.wait()
    go_on.set()
    server.requests.clear()
    podpy("pull", "-q", name)
    (request,) = [r for r in layer_requests(server) if "range" in r.headers]
    assert int(request.headers["range"][6:-1]) > 500_000
    assert not list(downloads.glob("*")), "what was completed is in the store"
    podpy("image", "prune", "-f")
    assert podpy.staging() == []


def test_what_is_here_is_not_fetched_again(podpy: Podpy, server: FakeRegistry) -> None:
    server.image("first", "1", images.busybox_layer(), noisy())
    podpy("pull", "-q", f"{server.address}/first:1")
    server.image("second", "1", images.busybox_layer(), noisy(), images.Layer().file("more", "x"))
    server.requests.clear()
    podpy("pull", "-q", f"{server.address}/second:1")
    assert len(layer_requests(server)) == 2, "one new layer and one configuration"


def test_a_layer_that_occurs_twice_is_fetched_once(podpy: Podpy, server: FakeRegistry) -> None:
    server.image("twice", "1", images.busybox_layer(), noisy(), noisy())
    name = f"{server.address}/twice:1"
    podpy("pull", "-q", name)
    assert len(layer_requests(server)) == 3
    assert read(podpy, name, "/noise") == NOISE


def test_two_pulls_of_one_image_at_once(podpy: Podpy, server: FakeRegistry) -> None:
    server.image("both", "1", images.busybox_layer(), noisy())
    name = f"{server.address}/both:1"
    children = [podpy.start("pull", "-q", name) for _ in range(3)]
    identities = {child.wait(60).expect(0).text for child in children}
    assert len(identities) == 1
    assert read(podpy, name, "/noise") == NOISE


def test_a_busy_registry_is_waited_for(podpy: Podpy, server: FakeRegistry) -> None:
    server.image("busy", "1", noisy())
    server.busy(2, 429, Retry_After="1")
    podpy("pull", "-q", f"{server.address}/busy:1")


def test_an_interrupted_pull_ends_at_once_and_leaves_nothing(
    podpy: Podpy, server: FakeRegistry
) -> None:
    server.image("interrupted", "1", noisy())
    reached = threading.Event()

    def hang(request: Request, answer: Answer) -> None:
        reached.set()
        threading.Event().wait(30)

    server.blob_hook(hang)
    child = podpy.start("pull", "-q", f"{server.address}/interrupted:1")
    assert reached.wait(20)
    child.signal(signal.SIGINT)
    done = child.wait(10)
    assert done.code != 0
    assert "Traceback" not in done.stderr
    assert podpy("images", "-q", "--filter", "reference=*interrupted*").text == ""
    assert podpy.staging() == []


def test_what_a_killed_pull_leaves_is_found_by_prune(podpy: Podpy, server: FakeRegistry) -> None:
    server.image("killed", "1", noisy())
    reached = threading.Event()

    def hang(request: Request, answer: Answer) -> None:
        reached.set()
        threading.Event().wait(30)

    server.blob_hook(hang)
    child = podpy.start("pull", "-q", f"{server.address}/killed:1")
    assert reached.wait(20)
    child.signal(signal.SIGKILL)
    child.wait(10)
    assert podpy.staging(), "the test has killed it too late"
    podpy("image", "prune", "-f")
    assert podpy.staging() == []


def test_one_tree_compressed_in_two_ways_is_two_blobs(podpy: Podpy, server: FakeRegistry) -> None:
    layer = noisy().bytes()
    packed = [gzip.compress(layer, level, mtime=0) for level in (0, 9)]
    server.manifest("twice", "1", server.document(images.image_config([layer, layer]), packed))
    name = f"{server.address}/twice:1"
    podpy("pull", "-q", name)
    podpy("save", "--format", "oci-archive", "-o", podpy.directory / "twice.tar", name)
