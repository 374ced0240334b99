"""Layers of builds: kept and collected, after a power failure, for several platforms."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from support import host
from support.podpy import BUSYBOX, Podpy

NET = ("--network", "none")
RUN = ("run", "--rm", *NET)


@pytest.fixture
def source(podpy: Podpy) -> Path:
    path = podpy.directory / "context"
    path.mkdir()
    (path / "Dockerfile").write_text(
        f"FROM {BUSYBOX}\nRUN echo first > /first\nRUN echo second > /second\n"
    )
    return path


def build(podpy: Podpy, source: Path, *options: object) -> str:
    return podpy("build", *NET, *options, source).stderr


def blobs(podpy: Podpy) -> set[str]:
    return set(os.listdir(podpy.store / "content/blobs/sha256"))


def layers(podpy: Podpy) -> set[str]:
    return set(os.listdir(podpy.store / "layers"))


def records(podpy: Podpy) -> list[Path]:
    return [path for path in podpy.store.glob("build/*/*.json") if json.loads(path.read_text())]


def of_an_earlier_boot(podpy: Podpy, *, synced: bool) -> list[Path]:
    """Every layer as a machine that lost power would have left it."""
    found = []
    for path in podpy.store.glob("layers/*/layer.json"):
        about = json.loads(path.read_text())
        about |= {"boot": "00000000-0000-0000-0000-000000000000", "synced": synced}
        path.write_text(json.dumps(about))
        found.append(path.parent)
    return found


# --- kept and collected --------------------------------------------------------


def test_the_cache_keeps_layers_that_no_image_has(podpy: Podpy, source: Path) -> None:
    build(podpy, source, "-t", "made")
    podpy("rmi", "made")
    podpy("image", "prune", "-f")
    assert build(podpy, source, "-t", "again").count("CACHED") == 2
    assert podpy(*RUN, "again", "cat", "/first", "/second").text == "first\nsecond"
    podpy("rmi", "again", BUSYBOX)
    podpy("builder", "prune", "-a", "-f")
    assert (blobs(podpy), layers(podpy)) == (set(), set())


def test_a_layer_is_stored_once_and_synced_in_the_end(podpy: Podpy, source: Path) -> None:
    before = layers(podpy)
    build(podpy, source, "-t", "made")
    new = layers(podpy) - before
    assert len(new) == 2
    for digits in new:
        about = json.loads((podpy.store / "layers" / digits / "layer.json").read_text())
        assert about["synced"] is True
        assert about["blob"]["digest"] == f"sha256:{digits}"
        assert sorted(os.listdir(podpy.store / "layers" / digits)) == ["diff", "layer.json"]
    assert podpy.staging() == []


def test_one_layer_for_equal_changes(podpy: Podpy, source: Path) -> None:
    before = layers(podpy)
    for name in ("one", "other"):
        (source / "Dockerfile").write_text(f"FROM {BUSYBOX}\nLABEL a={name}\nRUN echo x >/x\n")
        build(podpy, source, "--timestamp", "1", "--no-cache", "-t", name)
    assert len(layers(podpy) - before) == 1


# --- after a power failure -----------------------------------------------------


def test_layers_that_nobody_synced_are_believed_when_they_are_whole(
    podpy: Podpy, source: Path
) -> None:
    build(podpy, source, "-t", "made")
    of_an_earlier_boot(podpy, synced=False)
    assert build(podpy, source, "-t", "again").count("CACHED") == 2
    assert podpy(*RUN, "again", "cat", "/second").text == "second"


@pytest.mark.parametrize("damage", ["", "wrong"])
def test_a_damaged_archive_is_a_miss_and_made_again(
    podpy: Podpy, source: Path, damage: str
) -> None:
    build(podpy, source, "-t", "made")
    podpy("rmi", "made")
    for place in of_an_earlier_boot(podpy, synced=False):
        if (place / "diff/second").exists():
            blob = podpy.store / "content/blobs/sha256" / place.name
            size = blob.stat().st_size
            blob.write_bytes(damage.encode().ljust(size, b"\0") if damage else b"")
    text = build(podpy, source, "-t", "again")
    assert text.count("CACHED") == 1
    assert podpy(*RUN, "again", "cat", "/first", "/second").text == "first\nsecond"
    podpy("save", "-q", "-o", podpy.directory / "saved.tar", "again")  # reads all archives


def test_a_damaged_tree_is_unpacked_from_its_archive(podpy: Podpy, source: Path) -> None:
    build(podpy, source, "-t", "made")
    for place in of_an_earlier_boot(podpy, synced=False):
        (place / "diff/second").unlink(missing_ok=True)
    assert build(podpy, source, "-t", "again").count("CACHED") == 2
    assert podpy(*RUN, "again", "cat", "/second").text == "second"


def test_a_record_that_is_cut_off_is_a_miss(podpy: Podpy, source: Path) -> None:
    build(podpy, source, "-t", "made")
    podpy("rmi", "made")
    for path in podpy.store.glob("build/*/*.json"):
        path.write_text("")
    for place in podpy.store.glob("layers/*"):
        if (place / "diff/second").exists():
            (place / "layer.json").write_text("")
    assert build(podpy, source, "-t", "again").count("CACHED") == 0
    assert podpy(*RUN, "again", "cat", "/second").text == "second"


# --- several platforms ---------------------------------------------------------


def test_images_for_other_platforms_are_found(podpy: Podpy, source: Path) -> None:
    (source / "Dockerfile").write_text("FROM scratch\nARG TARGETARCH\nLABEL a=$TARGETARCH\n")
    build(podpy, source, "--platform", "linux/amd64,linux/arm64", "-t", "several")
    for name in ("amd64", "arm64"):
        identity = podpy(
            "create", "--pull", "never", "--platform", f"linux/{name}", "several", "x"
        ).text
        (about,) = podpy("container", "inspect", identity).json()
        (image,) = podpy("image", "inspect", about["Image"]).json()
        assert (image["Architecture"], image["Config"]["Labels"]) == (name, {"a": name})
        podpy("rm", identity)
    podpy.fails("create", "--pull", "never", "--platform", "linux/s390x", "several", "x")


def test_a_stage_begins_with_the_image_for_its_platform(podpy: Podpy, source: Path) -> None:
    (source / "Dockerfile").write_text("FROM scratch\nARG TARGETARCH\nENV A=$TARGETARCH\n")
    build(podpy, source, "--platform", "linux/amd64,linux/arm64", "-t", "several")
    (source / "Dockerfile").write_text("FROM --platform=linux/arm64 localhost/several\nENV B=$A\n")
    build(podpy, source, "--pull=never", "-t", "derived")
    (image,) = podpy("image", "inspect", "derived").json()
    assert image["Architecture"] == "arm64"
    assert image["Config"]["Env"][-2:] == ["A=arm64", "B=arm64"]


# --- drivers -------------------------------------------------------------------


def test_every_driver_gives_the_same_layers(podpy: Podpy, source: Path) -> None:
    host.require("fuse-overlayfs", "/dev/fuse")
    (source / "Dockerfile").write_text(
        f"FROM {BUSYBOX}\n"
        "RUN mkdir -p /a/b/c && touch /a/b/c/d && ln /a/b/c/d /a/b/c/e && rm /bin/ls\n"
        "RUN rm -r /a/b && mkdir /a/b && touch /a/b/new && rm -r /home && chmod 700 /etc\n"
        "COPY Dockerfile /a/b/\n"
    )
    digests = {}
    for driver in ("overlay", "fuse-overlayfs", "vfs"):
        place = podpy.directory / "config/containers/storage.conf"
        place.parent.mkdir(exist_ok=True)
        place.write_text(f'[storage]\ndriver = "{driver}"\n')
        options = ("--timestamp", "1", "--no-cache", "--quiet")
        digests[driver] = podpy("build", *NET, *options, source).text
    assert len(set(digests.values())) == 1, digests
