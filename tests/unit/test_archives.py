"""What image archives say they hold, in every format, honest or not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from podpy.errors import ImageError
from podpy.registry import archives

DIGEST = "sha256:" + "a" * 64


class Members(dict[str, bytes]):
    """An archive in memory."""

    def has(self, name: str) -> bool:
        return name in self

    def read(self, name: str, limit: int = 1 << 20) -> bytes:
        return self[name]


def members(**documents: Any) -> Members:
    names = {"index": "index.json", "manifest": "manifest.json", "layout": "oci-layout"}
    return Members(
        {names.get(key, key): json.dumps(value).encode() for key, value in documents.items()}
    )


def entry(name: str = "", **annotations: str) -> dict[str, Any]:
    notes = {archives.REF_NAME: name} if name else {}
    return {"mediaType": "x", "digest": DIGEST, "size": 5, "annotations": {**notes, **annotations}}


def layout(*entries: Any) -> Members:
    return members(layout={}, index={"schemaVersion": 2, "manifests": list(entries)})


@pytest.mark.parametrize(
    ("given", "full"),
    [
        ("localhost/a:1", "localhost/a:1"),
        ("docker.io/library/b:2", "docker.io/library/b:2"),
        ("c", "localhost/c:latest"),
        ("c:3", "localhost/c:3"),
        ("", ""),
        ("NOT A NAME", ""),
        ("../../x", ""),
    ],
)
def test_names_in_a_layout(given: str, full: str) -> None:
    (found,) = archives.images(layout(entry(given)))
    assert found.names == ((full,) if full else ())


def test_containerd_writes_the_whole_name_beside_the_tag() -> None:
    whole = {archives.CONTAINERD_NAME: "docker.io/library/a:latest"}
    (found,) = archives.images(layout(entry("latest", **whole)))
    assert found.names == ("docker.io/library/a:latest",)


def test_one_manifest_with_two_names_is_one_image() -> None:
    (found,) = archives.images(layout(entry("a:1"), entry("b:1")))
    assert found.names == ("localhost/a:1", "localhost/b:1")


def test_dockers_names_are_those_of_docker_hub() -> None:
    document = [{"Config": "c.json", "RepoTags": ["a:1", "q.io/b:2"], "Layers": ["l/layer.tar"]}]
    (found,) = archives.images(members(manifest=document))
    assert found.names == ("docker.io/library/a:1", "q.io/b:2")
    assert (found.config, found.layers) == ("c.json", ("l/layer.tar",))


def test_a_layout_is_preferred_because_it_has_the_digests() -> None:
    both = layout(entry("a:1"))
    both["manifest.json"] = b'[{"Config":"c.json","Layers":[]}]'
    (found,) = archives.images(both)
    assert found.manifest is not None


def test_what_docker_1_0_wrote() -> None:
    old = members(
        repositories={"a": {"1": "top"}},
        **{"top/json": {"parent": "base", "config": {}}, "base/json": {"id": "base"}},
    )
    (found,) = archives.images(old)
    layers, about = archives.legacy_chain(old, found.config)
    assert found.names == ("docker.io/library/a:1",)
    assert layers == ("base/layer.tar", "top/layer.tar")
    assert about["parent"] == "base"


def test_a_chain_that_bites_its_tail_ends() -> None:
    layers, _ = archives.legacy_chain(members(**{"a/json": {"parent": "a"}}), "a/json")
    assert len(layers) == 500


@pytest.mark.parametrize(
    "bad",
    [
        members(),
        members(manifest="x"),
        members(manifest=[1]),
        members(manifest=[{"Config": 1, "Layers": []}]),
        members(manifest=[{"Config": "c", "Layers": "l"}]),
        members(manifest=[{"Config": "c", "Layers": [1]}]),
        members(manifest={"schemaVersion": 2}),
        members(repositories=[]),
        members(repositories={"a": []}),
        members(repositories={"a": {"1": 5}}),
        members(layout={}, index=[]),
        layout(5),
        layout({"digest": "sha256:../x", "size": 1}),
        layout({"digest": DIGEST, "size": "1"}),
        layout({"digest": DIGEST, "size": 1, "annotations": ["x"]}),
        Members({"manifest.json": b"{"}),
    ],
)
def test_what_is_no_archive_of_images(bad: Members) -> None:
    with pytest.raises(ImageError):
        archives.images(bad)
