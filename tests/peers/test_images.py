"""Images exchanged with real tools: what they write is read here, and the other way round."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest

from support import images
from support.host import program
from support.podman import Podman
from support.podpy import BUSYBOX, Podpy

RUN = ("run", "--rm", "--network", "none")


def tool(podpy: Podpy, *argv: object) -> bytes:
    """Run a peer that is no podman in the same environment; its standard output."""
    command = [program(str(argv[0])), *(str(word) for word in argv[1:])]
    done = subprocess.run(command, env=podpy.env, cwd=podpy.directory, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def skopeo(podpy: Podpy, *argv: object) -> bytes:
    return tool(podpy, "skopeo", "--insecure-policy", *argv)


def manifest_digest(podpy: Podpy, name: str) -> str:
    return podpy("images", "--format", "{{.Digest}}", name).text


def users_image(podman: Podman) -> str:
    """An image of the peer's with owners, modes and links worth looking at."""
    layer = images.users_layer()
    layer.directory("opt").file("opt/suid", "x", 0o4755, uid=1000).symlink("opt/s", "suid")
    layer.hardlink("opt/h", "opt/suid", mode=0o4755, uid=1000).directory("opt/sticky", 0o1777)
    archive = podman.directory / "users.tar"
    images.docker_archive(archive, "localhost/users:latest", layers=[layer])
    podman("load", "-q", "-i", archive)
    return "localhost/users:latest"


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive", "oci-dir", "docker-dir"])
def test_what_podman_saved_loads_and_runs(empty_podpy: Podpy, podman: Podman, form: str) -> None:
    name = users_image(podman)
    path = empty_podpy.directory / "tmp" / "saved"
    podman("save", "-q", "--format", form, "-o", path, name)
    loaded = empty_podpy("load", "-q", "-i", path).text.rpartition(" ")[2]
    look = ("stat", "-c", "%n %u:%g %a %h", "/opt/suid", "/opt/h", "/opt/sticky", "/home/bob/note")
    ours = empty_podpy(*RUN, loaded, *look).text
    assert ours == podman(*RUN, name, *look).text
    if form.startswith("docker"):  # for the others podman writes the configuration anew
        identity = podman("image", "inspect", "--format", "{{.Id}}", name).text
        assert empty_podpy("images", "-q", "--no-trunc").text == f"sha256:{identity}"


@pytest.mark.needs("skopeo")
def test_the_store_is_an_oci_layout_for_skopeo(podpy: Podpy) -> None:
    digest = manifest_digest(podpy, BUSYBOX)
    layout = f"oci:{podpy.store}/content:{BUSYBOX}"
    raw = skopeo(podpy, "inspect", "--raw", layout)
    assert f"sha256:{hashlib.sha256(raw).hexdigest()}" == digest
    skopeo(podpy, "copy", "-q", "--preserve-digests", layout, "dir:copied")
    copied = (podpy.directory / "copied" / "manifest.json").read_bytes()
    assert f"sha256:{hashlib.sha256(copied).hexdigest()}" == digest


@pytest.mark.needs("skopeo")
@pytest.mark.parametrize("transport", ["oci-archive", "docker-archive"])
def test_an_ordinary_users_skopeo_reads_saved_archives(podpy: Podpy, transport: str) -> None:
    podpy("save", "--format", transport, "-o", "saved.tar", BUSYBOX)
    skopeo(podpy, "copy", "-q", f"{transport}:saved.tar", "dir:copied")
    assert (podpy.directory / "copied" / "manifest.json").exists()


@pytest.mark.needs("skopeo")
@pytest.mark.parametrize("transport", ["oci-archive", "docker-archive", "oci", "dir"])
def test_what_skopeo_copied_loads_with_its_digest(podpy: Podpy, transport: str) -> None:
    source = f"oci:{podpy.store}/content:{BUSYBOX}"
    keep = [] if transport == "docker-archive" else ["--preserve-digests"]
    name = "" if transport == "dir" else ":localhost/copied:1"
    skopeo(podpy, "copy", "-q", *keep, source, f"{transport}:copied{name}")
    digest = manifest_digest(podpy, BUSYBOX)
    podpy("rmi", BUSYBOX)
    loaded = podpy("load", "-q", "-i", podpy.directory / "copied").text.rpartition(" ")[2]
    if transport != "docker-archive":
        assert manifest_digest(podpy, "") == digest
    assert podpy(*RUN, loaded, "echo", "works").text == "works"


@pytest.mark.needs("skopeo")
@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_compressed_layers_are_kept_as_they_came(podpy: Podpy, compression: str) -> None:
    source = f"oci:{podpy.store}/content:{BUSYBOX}"
    options = ["--dest-compress-format", compression, "--dest-compress"]
    skopeo(podpy, "copy", "-q", *options, source, "oci:packed:localhost/packed:1")
    podpy("load", "-q", "-i", podpy.directory / "packed")
    index = json.loads((podpy.directory / "packed" / "index.json").read_text())
    assert manifest_digest(podpy, "localhost/packed") == index["manifests"][0]["digest"]
    packed = set(os.listdir(podpy.directory / "packed" / "blobs" / "sha256"))
    assert packed <= set(os.listdir(podpy.store / "content" / "blobs" / "sha256"))
    assert podpy(*RUN, "packed:1", "echo", "works").text == "works"


@pytest.mark.needs("umoci")
def test_what_umoci_wrote_loads(podpy: Podpy) -> None:
    """umoci adds a layer with a deletion to the busybox of the store."""
    skopeo(podpy, "copy", "-q", f"oci:{podpy.store}/content:{BUSYBOX}", "oci:layout:base")
    tool(podpy, "umoci", "unpack", "--rootless", "--image", "layout:base", "bundle")
    root = podpy.directory / "bundle" / "rootfs"
    (root / "etc" / "group").unlink()
    (root / "etc" / "new").write_text("from umoci\n")
    tool(podpy, "umoci", "repack", "--image", "layout:localhost/changed:1", "bundle")
    podpy("load", "-q", "-i", podpy.directory / "layout")
    look = "cat /etc/new; test -e /etc/group; echo $?"
    done = podpy(*RUN, "localhost/changed:1", "sh", "-c", look)
    assert done.lines == ["from umoci", "1"]


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive", "docker-dir"])
def test_what_is_saved_here_podman_loads_and_runs(podpy: Podpy, podman: Podman, form: str) -> None:
    podpy("tag", BUSYBOX, "localhost/ours:1")
    path: Path = podman.directory / f"ours.{form}"
    podpy("save", "--format", form, "-o", path, "localhost/ours:1")
    loaded = podman("load", "-q", "-i", path).text.rpartition(" ")[2]
    assert podman(*RUN, loaded, "echo", "works").text == "works"
    identity = podpy("images", "-q", "--no-trunc", "localhost/ours").text
    assert identity == "sha256:" + podman("image", "inspect", "--format", "{{.Id}}", loaded).text
