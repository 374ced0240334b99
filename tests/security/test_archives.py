"""Hostile image archives, loaded by the command: nothing outside the store is touched."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from support import images
from support.podpy import Podpy
from support.polling import eventually

NONE = ("--network", "none")
UP = "../" * 12


def hostile(victim: Path) -> dict[str, list[images.Layer]]:
    """Layers that try to write, link or delete outside of their tree."""
    secret = f"{victim}/secret"
    root = images.busybox_layer
    layer = images.Layer
    return {
        "parent": [root().file(f"{UP}{victim}/new", "x")],
        "absolute": [root().file(f"{victim}/new", "x")],
        "through a link": [root().symlink("l", str(victim)).file("l/new", "x")],
        "through a link below": [root().symlink("l", str(victim)), layer().file("l/new")],
        "through a relative link": [root().symlink("l", UP + str(victim)).file("l/new", "x")],
        "over a link": [root().symlink("l", secret).file("l", "overwritten")],
        "hard link out": [root().hardlink("h", f"{UP}{secret}").file("h", "overwritten")],
        "hard link to a link": [
            root().symlink("s", secret).hardlink("h", "s").file("h", "overwritten")
        ],
        "hard link through a link": [root().symlink("l", str(victim)).hardlink("h", "l/secret")],
        "whiteout of the parent": [root(), layer().file(".wh...")],
        "whiteout through a link": [root().symlink("l", str(victim)), layer().file("l/.wh.secret")],
        "opaque through a link": [root().symlink("l", str(victim)), layer().file("l/.wh..wh..opq")],
        "directory over a link": [root().symlink("l", str(victim)).directory("l", 0o777)],
        "mode through a link": [
            root().symlink("l", str(victim)).entry("l/", tarfile.DIRTYPE, mode=0o777)
        ],
        "name with a NUL": [root().file("a\0b", "x")],
    }


def state(directory: Path) -> list[tuple[str, int, int, str]]:
    found = []
    for path in sorted([directory, *directory.rglob("*")]):
        status = path.lstat()
        content = path.read_text() if path.is_file() else ""
        found.append((str(path), status.st_mode, status.st_nlink, content))
    return found


@pytest.fixture
def victim(podpy: Podpy) -> Path:
    path = podpy.directory / "victim"
    path.mkdir(mode=0o750)
    (path / "secret").write_text("host secret")
    return path


@pytest.mark.parametrize(
    ("write", "count"),
    [(images.docker_archive, 99), (images.oci_archive, 3)],
    ids=["docker", "oci"],
)
def test_cve_2014_6407_and_its_kin_no_layer_reaches_outside(
    podpy: Podpy, victim: Path, write: Callable[..., Path], count: int
) -> None:
    """Also CVE-2016-7569, CVE-2020-10696, CVE-2024-12718, CVE-2025-4517: ways out of a tar."""
    archive = podpy.directory / "tmp" / "hostile.tar"
    before = state(victim)
    for case, layers in list(hostile(victim).items())[:count]:
        write(archive, "localhost/hostile:latest", layers=layers)
        loaded = podpy("load", "-q", "-i", archive, code=None)
        assert loaded.code in (0, 125), (case, loaded.stderr)
        assert "internal error" not in loaded.stderr, (case, loaded.stderr)
        if loaded.code == 0:
            look = "cat /h /l /s /l/* 2>/dev/null"
            shown = podpy("run", "--rm", *NONE, "localhost/hostile:latest", "sh", "-c", look,
                          code=None)  # fmt: skip
            assert "host secret" not in shown.stdout, case
            podpy("rmi", "-f", "localhost/hostile:latest", code=None)
        eventually(lambda: podpy.staging() == [], what=case)
        assert state(victim) == before, case


@pytest.mark.parametrize("place", ["Config", "Layers"])
def test_cve_2024_3727_names_in_a_manifest_lead_nowhere(podpy: Podpy, place: str) -> None:
    """A configuration that is not there is refused; layers are known by their digests."""
    archive = podpy.directory / "tmp" / "named.tar"
    images.docker_archive(archive, "localhost/named:latest", layers=[images.busybox_layer()])
    with tarfile.open(archive) as tar:
        members = {m.name: tar.extractfile(m).read() for m in tar}  # type: ignore[union-attr]
    manifest = members["manifest.json"].decode()
    honest = [n for n in members if n.endswith("layer.tar" if place == "Layers" else ".json")]
    for name in ("../../etc/passwd", "/etc/passwd", "sha256:../../x", "missing"):
        members["manifest.json"] = manifest.replace(honest[0], name).encode()
        images._write_tar(archive, members)
        loaded = podpy("load", "-q", "-i", archive, code=None)
        assert loaded.code == 125 or place == "Layers"
        if loaded.code == 0:
            assert podpy("run", "--rm", *NONE, "localhost/named", "echo", "whole").text == "whole"
            podpy("rmi", "-f", "localhost/named")
        eventually(lambda: podpy.staging() == [])  # a container's tree goes after the answer


@pytest.mark.parametrize("history", [["x", 5], {"a": 1}, "x", [{"created": 5, "comment": [1]}]])
def test_a_history_of_another_shape(podpy: Podpy, history: object) -> None:
    layer = images.Layer().file("f", "x").bytes()
    config = {**json.loads(images.image_config([layer])), "history": history}
    archive = podpy.directory / "history.tar"
    members = {"l.tar": layer, "c.json": json.dumps(config).encode()}
    entry = {"Config": "c.json", "RepoTags": ["localhost/history:1"], "Layers": ["l.tar"]}
    with tarfile.open(archive, "w") as tar:
        for name, data in {**members, "manifest.json": json.dumps([entry]).encode()}.items():
            about = tarfile.TarInfo(name)
            about.size = len(data)
            tar.addfile(about, io.BytesIO(data))
    podpy("load", "-q", "-i", archive)
    podpy("history", "localhost/history:1")
    podpy("image", "inspect", "localhost/history:1")
