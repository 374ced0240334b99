"""Images through the command line: they come in, are listed, named, saved and removed."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import subprocess
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support import images
from support.host import program
from support.podpy import BUSYBOX, Podpy

RUN = ("run", "--rm", "--network", "none")


def archive(podpy: Podpy, *names: str, form: str = "docker", layers: list[images.Layer]) -> Path:
    path = podpy.directory / "tmp" / f"{form}.tar"
    if form == "docker":
        return images.docker_archive(path, *names, layers=layers)
    return images.oci_archive(path, *names, layers=layers)


def small(text: str = "hello") -> images.Layer:
    return images.Layer().directory("etc").file("etc/text", text)


def names(podpy: Podpy) -> list[str]:
    return podpy("images", "--format", "{{.Repository}}:{{.Tag}}").lines


def disk(podpy: Podpy) -> list[str]:
    """Every blob and layer of the store."""
    return sorted(os.listdir(podpy.store / "content/blobs/sha256")) + sorted(
        os.listdir(podpy.store / "layers")
    )


# --- coming in -------------------------------------------------------------------


@pytest.mark.parametrize("form", ["docker", "oci"])
@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_an_archive_is_loaded_however_it_is_compressed(
    podpy: Podpy, form: str, compress: object
) -> None:
    path = archive(podpy, "localhost/small:1", form=form, layers=[small()])
    path.write_bytes(compress(path.read_bytes()))  # type: ignore[operator]
    assert podpy("load", "-i", path).text == "Loaded image: localhost/small:1"
    assert "localhost/small:1" in names(podpy)


@pytest.mark.parametrize("form", ["docker", "oci"])
def test_an_archive_from_standard_input(podpy: Podpy, form: str) -> None:
    path = archive(podpy, "localhost/small:1", form=form, layers=[small()])
    podpy("load", input=path.read_bytes())
    assert "localhost/small:1" in names(podpy)


def test_loading_again_changes_nothing(podpy: Podpy) -> None:
    path = archive(podpy, "localhost/small:1", layers=[small()])
    podpy("load", "-i", path)
    before = disk(podpy)
    podpy("load", "-i", path)
    assert disk(podpy) == before


def test_an_archive_without_a_name_is_an_image_without_a_name(podpy: Podpy) -> None:
    path = archive(podpy, form="oci", layers=[small()])
    loaded = podpy("load", "-i", path).text
    assert loaded.startswith("Loaded image ID: sha256:")
    identity = loaded.partition("sha256:")[2]
    assert podpy("images", "-q", "--no-trunc", "--filter", "dangling=true").text == (
        f"sha256:{identity}"
    )


def test_import_makes_an_image_of_a_root_file_system(podpy: Podpy) -> None:
    tar = podpy.directory / "tmp" / "root.tar"
    tar.write_bytes(images.busybox_layer().bytes())
    identity = podpy(
        "import", "-m", "a note", "-c", "ENV GREETING=hi", "-c", 'CMD ["sh"]', tar, "made:1"
    ).text
    assert podpy(*RUN, "made:1", "sh", "-c", "echo $GREETING").text == "hi"
    found = json.loads(podpy("image", "inspect", "localhost/made:1").stdout)[0]
    assert identity.endswith(found["Id"].removeprefix("sha256:"))
    assert found["Comment"] == "a note"


def test_import_from_standard_input_compressed(podpy: Podpy) -> None:
    data = gzip.compress(images.busybox_layer().bytes(), 1)
    podpy("import", "-", "made:2", input=data)
    assert podpy(*RUN, "made:2", "echo", "works").text == "works"


# --- what cannot come in ---------------------------------------------------------


def broken_layer(podpy: Podpy) -> Path:
    """An archive whose configuration names another diff id than the layer has."""
    path = archive(podpy, "localhost/small:1", layers=[small()])
    with tarfile.open(path) as made:
        members = {m.name: made.extractfile(m).read() for m in made}  # type: ignore[union-attr]
    layer = next(name for name in members if name.endswith("layer.tar"))
    members[layer] = small("other").bytes()
    images._write_tar(path, members)
    return path


def damaged_blob(podpy: Podpy) -> Path:
    path = archive(podpy, "localhost/small:1", form="oci", layers=[small("x" * 2000)])
    with tarfile.open(path) as made:
        members = {m.name: made.extractfile(m).read() for m in made}  # type: ignore[union-attr]
    largest = max(
        (n for n in members if n.startswith("blobs/") and members[n][:2] == b"\x1f\x8b"), key=len
    )
    members[largest] = gzip.compress(small("y" * 2000).bytes(), 6, mtime=0)
    images._write_tar(path, members)
    return path


def hostile_layer(podpy: Podpy) -> Path:
    return archive(podpy, "localhost/small:1", layers=[small().file("../../../evil", "x")])


@pytest.mark.parametrize("make", [broken_layer, damaged_blob, hostile_layer])
def test_a_bad_archive_leaves_nothing(podpy: Podpy, make: object) -> None:
    before = disk(podpy)
    done = podpy.fails("load", "-i", make(podpy))  # type: ignore[operator]
    assert "digest" in done.stderr or "blob" in done.stderr or "leaves the tree" in done.stderr
    assert names(podpy) == [BUSYBOX]
    assert podpy.staging() == []
    podpy("image", "prune", "-f")
    assert disk(podpy) == before


@pytest.mark.parametrize(
    "data",
    [b"", b"no archive at all" * 100, gzip.compress(b"x" * 5000)],
    ids=["empty", "text", "compressed"],
)
def test_what_is_no_archive(podpy: Podpy, data: bytes) -> None:
    path = podpy.directory / "tmp" / "x.tar"
    path.write_bytes(data)
    podpy.fails("load", "-i", path)
    assert podpy.staging() == []


def test_a_missing_file(podpy: Podpy) -> None:
    assert "no such file" in podpy.fails("load", "-i", "/none.tar").stderr.lower()


def bomb(compress: Callable[[bytes], bytes], size: int) -> bytes:
    """A tar of one file of zeroes: a few compressed bytes, again and again."""
    head = tarfile.TarInfo("zeroes")
    head.size = size
    return compress(head.tobuf(tarfile.GNU_FORMAT)) + compress(bytes(16 << 20)) * (size >> 24)


def zstd(data: bytes) -> bytes:
    command = [program("zstd"), "-qc"]
    return subprocess.run(command, input=data, capture_output=True, check=True).stdout


@pytest.mark.parametrize(
    ("name", "compress"),
    [("gzip", gzip.compress), pytest.param("zstd", zstd, marks=pytest.mark.needs("zstd"))],
)
def test_a_decompression_bomb_stops_early_and_leaves_nothing(
    podpy: Podpy, name: str, compress: Callable[[bytes], bytes]
) -> None:
    layer = bomb(compress, 10 << 30)
    kind = "application/vnd.oci.image"
    members = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}

    def put(data: bytes, media_type: str) -> dict[str, object]:
        members[f"blobs/sha256/{images.digest(data)[7:]}"] = data
        return {"mediaType": media_type, "digest": images.digest(data), "size": len(data)}

    config = images.image_config([b"x"])
    manifest = {
        "schemaVersion": 2,
        "config": put(config, f"{kind}.config.v1+json"),
        "layers": [put(layer, f"{kind}.layer.v1.tar+{name}")],
    }
    entry = put(json.dumps(manifest).encode(), f"{kind}.manifest.v1+json")
    members["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    path = podpy.directory / "tmp" / "bomb.tar"
    images._write_tar(path, members)
    started = time.monotonic()
    done = podpy.fails("load", "-i", path)
    assert "decompression bomb" in done.stderr
    # Less than a second by itself; the whole ten GiB would take many times this.
    assert time.monotonic() - started < 10
    assert podpy.staging() == []


@pytest.mark.parametrize("verb", [("load", "-i"), ("import",)])
def test_an_archive_that_is_a_bomb_stops_early(podpy: Podpy, verb: tuple[str, ...]) -> None:
    path = podpy.directory / "tmp" / "bomb.tar.gz"
    path.write_bytes(bomb(gzip.compress, 10 << 30))
    done = podpy.fails(*verb, path)
    assert "decompression bomb" in done.stderr
    inflated = int(done.stderr.partition("more than ")[2].partition(":")[0])
    assert inflated < 300 << 20, "of ten GiB"
    assert podpy.staging() == []


# --- names -----------------------------------------------------------------------


def test_tags_come_and_go(podpy: Podpy) -> None:
    podpy("tag", BUSYBOX, "other:1", "quay.io/me/third:2")
    assert set(names(podpy)) == {BUSYBOX, "localhost/other:1", "quay.io/me/third:2"}
    assert podpy("image", "exists", "third:2").code == 0
    podpy("untag", BUSYBOX, "other:1")
    assert set(names(podpy)) == {BUSYBOX, "quay.io/me/third:2"}
    assert podpy("rmi", "quay.io/me/third:2").text == "Untagged: quay.io/me/third:2"
    assert names(podpy) == [BUSYBOX]


def test_an_image_is_found_by_name_id_and_prefix(podpy: Podpy) -> None:
    identity = podpy("images", "-q", "--no-trunc", BUSYBOX).text.removeprefix("sha256:")
    prefixes = (identity, identity[:12], f"sha256:{identity}")
    for name in ("busybox", "busybox:latest", BUSYBOX, *prefixes):
        found = json.loads(podpy("image", "inspect", name).stdout)[0]
        assert found["Id"].endswith(identity), name
    digest = json.loads(podpy("image", "inspect", "busybox").stdout)[0]["Digest"]
    assert podpy("image", "exists", f"localhost/busybox@{digest}").code == 0


@pytest.mark.parametrize("name", ["nothing", "UPPER", "../x", "a" * 64, "busybox:other"])
def test_a_missing_image_is_not_known(podpy: Podpy, name: str) -> None:
    assert podpy("image", "exists", name, code=1).code == 1
    assert "image not known" in podpy.fails("rmi", name, code=1).stderr


def test_history_tells_the_steps(podpy: Podpy) -> None:
    assert podpy("history", "--format", "{{.CreatedBy}}", BUSYBOX).text == "test"


# --- going -----------------------------------------------------------------------


def test_the_last_name_takes_the_image_and_its_layers_along(podpy: Podpy) -> None:
    before = disk(podpy)
    podpy("load", "-q", "-i", archive(podpy, "localhost/small:1", layers=[small()]))
    done = podpy("rmi", "small:1").lines
    assert done[0] == "Untagged: localhost/small:1"
    assert done[1].startswith("Deleted: sha256:")
    assert disk(podpy) == before


def test_a_shared_layer_stays_with_the_other_image(podpy: Podpy) -> None:
    base, top = images.busybox_layer(), small()
    blob = base.bytes()
    path = podpy.directory / "tmp" / "two.tar"
    images.docker_archive(path, "localhost/two:1", layers=[blob, top])
    podpy("load", "-q", "-i", path)
    podpy("rmi", BUSYBOX)
    assert podpy(*RUN, "two:1", "cat", "/etc/text").text == "hello"


def test_an_image_in_use_stays(podpy: Podpy, busybox: str) -> None:
    podpy.run_detached("--name", "user", "--network", "none", busybox, "sleep", "1000")
    assert "in use" in podpy.fails("rmi", busybox, code=2).stderr
    assert "in use" in podpy.fails("rmi", "-f", busybox, code=2).stderr
    podpy("stop", "-t", "0", "user")
    assert "in use" in podpy.fails("rmi", busybox, code=2).stderr
    podpy("rmi", "-f", busybox)
    podpy("start", "user")  # what it stands on is its own until it goes
    podpy("rm", "-f", "-t", "0", "user")
    podpy("image", "prune", "-f")
    assert disk(podpy) == []


def test_prune_takes_what_has_no_name(podpy: Podpy) -> None:
    podpy("load", "-q", "-i", archive(podpy, "localhost/a:1", layers=[small("1")]))
    podpy("load", "-q", "-i", archive(podpy, "localhost/a:1", layers=[small("2")]))
    assert len(podpy("images", "-q", "--filter", "dangling=true").lines) == 1
    lines = podpy("image", "prune", "-f").lines
    assert lines[0] == "Deleted Images:" and lines[1].startswith("deleted: sha256:")
    assert lines[-1].startswith("Total reclaimed space: ")
    assert set(names(podpy)) == {BUSYBOX, "localhost/a:1"}
    podpy("image", "prune", "-f", "-a")
    assert disk(podpy) == []


def test_a_layer_that_is_gone_fails_its_images_and_no_listing(podpy: Podpy, busybox: str) -> None:
    podpy("load", "-q", "-i", archive(podpy, "localhost/small:1", layers=[small()]))
    digits = json.loads(podpy("image", "inspect", busybox).stdout)[0]["RootFS"]["Layers"][0]
    (podpy.store / "layers" / digits.removeprefix("sha256:")).rename(podpy.directory / "away")
    assert set(names(podpy)) == {BUSYBOX, "localhost/small:1"}
    assert "not in the store" in podpy.fails(*RUN, busybox, "true").stderr
    podpy("rmi", "-f", busybox)


# --- leaving as archives ---------------------------------------------------------


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive", "oci-dir", "docker-dir"])
def test_what_is_saved_can_be_loaded(podpy: Podpy, form: str) -> None:
    identity = podpy("images", "-q", "--no-trunc", BUSYBOX).text
    path = podpy.directory / "tmp" / "saved"
    podpy("save", "--format", form, "-o", path, BUSYBOX)
    podpy("rmi", BUSYBOX)
    podpy("load", "-i", path)
    assert podpy("images", "-q", "--no-trunc").text == identity
    assert podpy(*RUN, identity, "echo", "works").text == "works"


def test_save_to_standard_output_with_two_images(podpy: Podpy) -> None:
    podpy("load", "-q", "-i", archive(podpy, "localhost/small:1", layers=[small()]))
    path = podpy.directory / "tmp" / "both.tar"
    with path.open("wb") as out:
        podpy("save", BUSYBOX, "small:1", stdout=out)
    podpy("rmi", "-a")
    assert podpy("load", "-i", path).lines == [
        f"Loaded image: {BUSYBOX}", "Loaded image: localhost/small:1",
    ]  # fmt: skip


def test_an_oci_archive_keeps_the_digest(podpy: Podpy) -> None:
    path = archive(podpy, "localhost/small:1", form="oci", layers=[small()])
    podpy("load", "-q", "-i", path)
    digest = podpy("images", "--format", "{{.Digest}}", "localhost/small").text
    saved = podpy.directory / "tmp" / "saved.tar"
    podpy("save", "--format", "oci-archive", "-o", saved, "small:1")
    with tarfile.open(saved) as made:
        index = json.loads(made.extractfile("index.json").read())  # type: ignore[union-attr]
    assert index["manifests"][0]["digest"] == digest


# --- at the same time, and killed ------------------------------------------------


def test_two_loads_of_one_image_at_once(podpy: Podpy) -> None:
    layers = [small("x" * 100), *(images.Layer().file(f"f{n}", "y" * 5000) for n in range(5))]
    path = archive(podpy, "localhost/small:1", layers=layers)
    running = [podpy.start("load", "-q", "-i", path) for _ in range(3)]
    assert [process.wait(60).code for process in running] == [0, 0, 0]
    assert "localhost/small:1" in names(podpy)
    assert podpy.staging() == []


def test_a_killed_load_leaves_nothing_that_prune_does_not_find(podpy: Podpy) -> None:
    before = disk(podpy)
    layer = images.Layer()
    for number in range(3000):
        layer.file(f"d{number % 50}/f{number}", "x" * 3000)
    path = archive(podpy, "localhost/big:1", layers=[layer])
    for delay in (0.1, 0.2, 0.3, 0.4):
        process = podpy.start("load", "-q", "-i", path)
        time.sleep(delay)
        process.kill()
        process.wait(10)
    podpy("load", "-q", "-i", path)
    podpy("rmi", "big:1")
    assert disk(podpy) == before
    assert podpy.staging() == []
