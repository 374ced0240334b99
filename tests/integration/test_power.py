"""A layer that lost power before it was on disk is noticed after the boot, and made anew."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from support import images
from support.podpy import Podpy

RUN = ("run", "--rm", "--network", "none")
NAME = "localhost/power:1"


@pytest.fixture
def layer(podpy: Podpy) -> Path:
    """The one layer of an image, as an earlier boot left it."""
    layer = images.busybox_layer().file("etc/text", "whole").hardlink("etc/link", "etc/text")
    podpy.load_layers(NAME, layer)
    digits = podpy("image", "inspect", "--format", "{{index .RootFS.Layers 0}}", NAME).text
    path = podpy.store / "layers" / digits.removeprefix("sha256:")
    record = json.loads((path / "layer.json").read_text())
    record["boot"] = "00000000-0000-0000-0000-000000000000"
    (path / "layer.json").write_text(json.dumps(record))
    return path


def lose_the_data(layer: Path) -> None:
    (layer / "diff/etc/text").write_text("")


def lose_a_name(layer: Path) -> None:
    (layer / "diff/etc/text").unlink()


def test_a_whole_layer_is_settled_for_good(podpy: Podpy, layer: Path) -> None:
    before = (layer / "diff").stat().st_ino
    assert podpy(*RUN, NAME, "cat", "/etc/text").text == "whole"
    assert (layer / "settled").exists()
    assert (layer / "diff").stat().st_ino == before


@pytest.mark.parametrize("damage", [lose_the_data, lose_a_name])
def test_a_damaged_layer_is_unpacked_again(
    podpy: Podpy, layer: Path, damage: Callable[[Path], None]
) -> None:
    damage(layer)
    assert podpy(*RUN, NAME, "cat", "/etc/text", "/etc/link").text == "wholewhole"
    assert (layer / "settled").exists()


def test_a_damaged_archive_beside_a_damaged_layer_is_an_error(podpy: Podpy, layer: Path) -> None:
    lose_the_data(layer)
    digest = json.loads((layer / "layer.json").read_text())["blob"]["digest"]
    blob = podpy.store / "content/blobs/sha256" / digest.removeprefix("sha256:")
    blob.write_bytes(b"x" * 1000)
    done = podpy.fails(*RUN, NAME, "true")
    assert "damaged when the machine went down" in done.stderr
    assert podpy.staging() == []
