"""What a build gives out, read by others: archives, directories, registries."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import stat
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from support.host import program
from support.podman import Podman
from support.podpy import BUSYBOX, Podpy
from support.registry import Registry

NET = ("--network", "none")
RUN = ("run", "--rm", *NET)
EPOCH = "1700000000"
# Everything that a layer can hold and an ordinary user's host can make.
DOCKERFILE = rf"""FROM {BUSYBOX}
RUN mkdir /d && chmod 2750 /d && echo one > /d/one && ln /d/one /d/two && ln -s one /d/link \
 && mkfifo /d/fifo && chown 1000:1001 /d/one && chmod 4755 /d/one
RUN chmod 711 / && rm /bin/ls /etc/group && rm -r /home && mkdir /home && touch /home/new
COPY --chown=7:8 file /long/{"n" * 120}/file
"""


@pytest.fixture
def source(podpy: Podpy) -> Path:
    path = podpy.directory / "context"
    path.mkdir()
    (path / "Dockerfile").write_text(DOCKERFILE)
    (path / "file").write_bytes(b"content" * 100_000)
    return path


def build(podpy: Podpy, source: Path, *options: object) -> str:
    return podpy("build", "-q", *NET, "--timestamp", EPOCH, *options, source).text


def tool(podpy: Podpy, *argv: object) -> str:
    """Run a peer in the same environment; its standard output."""
    command = [program(str(argv[0])), *(str(word) for word in argv[1:])]
    done = subprocess.run(
        command, env=podpy.env, cwd=podpy.directory, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def skopeo(podpy: Podpy, *argv: object) -> str:
    return tool(podpy, "skopeo", "--insecure-policy", *argv)


def manifest(registry: Registry, name: str, tag: str, kind: str) -> dict[str, Any]:
    import urllib.request

    url = f"http://{registry.address}/v2/{name}/manifests/{tag}"
    request = urllib.request.Request(url, headers={"Accept": kind})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return dict(json.load(answer))


OCI = "application/vnd.oci.image.manifest.v1+json"
DOCKER = "application/vnd.docker.distribution"
INDEX = "application/vnd.oci.image.index.v1+json"

LOOK = "stat -c '%a %u %g %F' / /d /d/* /home /home/*; stat -c %h /d/one; ls /etc/group /bin/ls"
SEEN = [
    "711 0 0 directory",
    "2750 0 0 directory",
    "644 0 0 fifo",
    "777 0 0 symbolic link",
    "4755 1000 1001 regular file",
    "4755 1000 1001 regular file",
    "755 0 0 directory",
    "644 0 0 regular empty file",
    "2",
]


def seen(engine: Podpy | Podman, image: str) -> list[str]:
    return engine(*RUN, image, "sh", "-c", f"{LOOK}; true").lines


# --- the same image elsewhere --------------------------------------------------


def test_the_layers_are_as_they_were_seen_while_building(podpy: Podpy, source: Path) -> None:
    build(podpy, source, "-t", "made")
    assert seen(podpy, "made") == SEEN


@pytest.mark.parametrize("form", ["oci", "docker"])
def test_podman_loads_and_runs_what_was_built(
    podpy: Podpy, podman: Podman, source: Path, form: str
) -> None:
    archive = podman.directory / f"{form}.tar"
    build(podpy, source, "-t", "localhost/made:1", "-o", f"type={form},dest={archive}")
    loaded = podman("load", "-q", "-i", archive).text.rpartition(" ")[2]
    assert seen(podman, loaded)[1:] == SEEN[1:]  # podman's top directory is always 555


@pytest.mark.needs("skopeo")
@pytest.mark.parametrize("compression", ["gzip", "uncompressed"])
def test_skopeo_reads_layouts(podpy: Podpy, source: Path, compression: str) -> None:
    place = podpy.directory / "layout"
    build(podpy, source, "-o", f"type=oci,tar=false,dest={place},compression={compression}")
    document = json.loads(skopeo(podpy, "inspect", "--raw", f"oci:{place}"))
    ends = "gzip" if compression == "gzip" else "tar"
    assert [layer["mediaType"].endswith(ends) for layer in document["layers"][1:]] == [True] * 3
    skopeo(podpy, "copy", "-q", f"oci:{place}", "dir:copied")


@pytest.mark.needs("skopeo", "umoci")
def test_umoci_unpacks_the_same_files(podpy: Podpy, source: Path) -> None:
    place, local = podpy.directory / "layout", podpy.directory / "local"
    build(
        podpy, source, "-t", "x:1", "-o", f"type=oci,tar=false,dest={place}",
        "-o", f"type=local,dest={local}",
    )  # fmt: skip
    skopeo(podpy, "copy", "-q", f"oci:{place}", "oci:named:1")
    tool(podpy, "umoci", "unpack", "--rootless", "--image", "named:1", "bundle")
    unpacked = podpy.directory / "bundle/rootfs"
    ours = {str(path.relative_to(local)) for path in local.rglob("*")}
    assert ours == {str(path.relative_to(unpacked)) for path in unpacked.rglob("*")}
    for name in ours:
        one, other = (local / name).lstat(), (unpacked / name).lstat()
        assert stat.S_IFMT(one.st_mode) == stat.S_IFMT(other.st_mode), name
        assert one.st_size == other.st_size or stat.S_ISDIR(one.st_mode), name
        assert int(one.st_mtime) == int(other.st_mtime), name
    subprocess.run(["chmod", "-R", "u+rwX", str(podpy.directory / "bundle")], check=True)


@pytest.mark.needs("docker-registry")
def test_pushed_layers_are_gzip_and_unpack_to_the_same(
    podpy: Podpy, podman: Podman, registry: Registry, source: Path
) -> None:
    name = f"{registry.address}/team/made:1"
    build(podpy, source, "-o", f"type=image,name={name},push=true", "--tls-verify=false")
    document = manifest(registry, "team/made", "1", OCI)
    assert {layer["mediaType"] for layer in document["layers"][1:]} == {
        "application/vnd.oci.image.layer.v1.tar+gzip"
    }
    podman("pull", "-q", "--tls-verify=false", name)
    assert seen(podman, name)[1:] == SEEN[1:]


@pytest.mark.needs("docker-registry")
def test_an_output_may_ask_for_plain_layers_and_annotations(
    podpy: Podpy, registry: Registry, source: Path
) -> None:
    name = f"{registry.address}/team/plain:1"
    about = "push=true,registry.insecure=true,compression=uncompressed,annotation.a=b"
    build(podpy, source, "-o", f"type=image,name={name},{about}")
    document = manifest(registry, "team/plain", "1", OCI)
    assert document["annotations"] == {"a": "b"}
    kinds = {layer["mediaType"] for layer in document["layers"][1:]}
    assert kinds == {"application/vnd.oci.image.layer.v1.tar"}


@pytest.mark.needs("docker-registry")
def test_dockers_format_has_lists_and_types_of_its_own(
    podpy: Podpy, registry: Registry, everywhere: Path
) -> None:
    name = f"{registry.address}/team/docker:1"
    build(podpy, everywhere, *PLATFORMS, "--format", "docker", "-t", name)
    podpy("push", "--tls-verify=false", name)
    document = manifest(registry, "team/docker", "1", f"{DOCKER}.manifest.list.v2+json")
    assert document["mediaType"] == f"{DOCKER}.manifest.list.v2+json"
    for entry in document["manifests"]:
        kind = f"{DOCKER}.manifest.v2+json"
        assert entry["mediaType"] == kind
        inner = manifest(registry, "team/docker", entry["digest"], kind)
        (layer,) = inner["layers"]
        assert layer["mediaType"] == "application/vnd.docker.image.rootfs.diff.tar.gzip"


@pytest.mark.needs("docker-registry")
def test_the_second_push_sends_what_the_first_one_made(
    podpy: Podpy, registry: Registry, source: Path
) -> None:
    name = f"{registry.address}/team/twice:1"
    build(podpy, source, "-t", name)
    first = podpy("push", "--tls-verify=false", name).text
    blobs = set(os.listdir(podpy.store / "content/blobs/sha256"))
    assert podpy("push", "--tls-verify=false", name).text == first
    assert set(os.listdir(podpy.store / "content/blobs/sha256")) == blobs
    # What a push made stays as long as the layer does, and no longer.
    podpy("image", "prune", "-f")
    assert set(os.listdir(podpy.store / "content/blobs/sha256")) == blobs
    podpy("rmi", name, BUSYBOX)
    podpy("builder", "prune", "-a", "-f")
    assert os.listdir(podpy.store / "content/blobs/sha256") == []
    assert os.listdir(podpy.store / "layers") == []


@pytest.mark.needs("docker-registry")
def test_what_was_pushed_is_pulled_with_its_digest(
    podpy: Podpy, registry: Registry, source: Path
) -> None:
    name = f"{registry.address}/team/round:1"
    build(podpy, source, "-t", name)
    pushed = podpy("push", "--tls-verify=false", name).text.split()[2]
    podpy("rmi", name)
    podpy("builder", "prune", "-a", "-f")
    podpy("pull", "-q", "--tls-verify=false", name)
    assert podpy("images", "--format", "{{.Digest}}", name).text == pushed
    assert seen(podpy, name) == SEEN


# --- several platforms ---------------------------------------------------------


@pytest.fixture
def everywhere(podpy: Podpy) -> Path:
    """A context that needs no program of any platform."""
    path = podpy.directory / "everywhere"
    path.mkdir()
    (path / "Dockerfile").write_text("FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /arch\n")
    for name in ("amd64", "arm64"):
        (path / name).write_text(f"{name}\n")
    return path


PLATFORMS = ("--platform", "linux/amd64,linux/arm64")


@pytest.mark.needs("docker-registry", "skopeo")
def test_all_images_of_an_index_are_pushed(
    podpy: Podpy, registry: Registry, everywhere: Path
) -> None:
    name = f"{registry.address}/team/index:1"
    notes = ("--annotation", "index:a=b", "--annotation", "manifest[linux/arm64]:c=d")
    build(podpy, everywhere, *PLATFORMS, *notes, "-t", name)
    podpy("image", "prune", "-f")  # the other platform's image has no name of its own
    podpy("builder", "prune", "-a", "-f")
    podpy("push", "--tls-verify=false", name)
    document = manifest(registry, "team/index", "1", INDEX)
    assert document["annotations"] == {"a": "b"}
    found = [entry["platform"]["architecture"] for entry in document["manifests"]]
    assert found == ["amd64", "arm64"]
    for entry in document["manifests"]:
        inner = manifest(registry, "team/index", entry["digest"], OCI)
        architecture = entry["platform"]["architecture"]
        assert inner.get("annotations", {}) == ({"c": "d"} if architecture == "arm64" else {})
        (layer,) = inner["layers"]
        skopeo(
            podpy, "copy", "-q", "--src-tls-verify=false", "--override-arch", architecture,
            f"docker://{name}", f"dir:{architecture}",
        )  # fmt: skip
        blob = podpy.directory / architecture / layer["digest"].partition(":")[2]
        assert f"{architecture}\n".encode() in gzip.decompress(blob.read_bytes())


def test_each_platform_has_a_directory(podpy: Podpy, everywhere: Path) -> None:
    place, archive = podpy.directory / "out", podpy.directory / "out.tar"
    build(podpy, everywhere, *PLATFORMS, "-o", place, "-o", f"type=tar,dest={archive}")
    for name in ("amd64", "arm64"):
        assert (place / f"linux_{name}/arch").read_text() == f"{name}\n"
    with tarfile.open(archive) as tar:
        assert tar.getnames() == [
            "linux_amd64", "linux_amd64/arch", "linux_arm64", "linux_arm64/arch",
        ]  # fmt: skip


def test_a_layout_holds_the_whole_index(podpy: Podpy, everywhere: Path) -> None:
    place = podpy.directory / "layout"
    build(podpy, everywhere, *PLATFORMS, "-o", f"type=oci,tar=false,dest={place}")
    (top,) = json.loads((place / "index.json").read_text())["manifests"]
    assert top["mediaType"] == INDEX
    waiting = [top["digest"]]
    while waiting:
        blob = (place / "blobs/sha256" / waiting.pop().partition(":")[2]).read_bytes()
        if blob.startswith(b"{"):
            document = json.loads(blob)
            for key in ("manifests", "layers"):
                waiting += [entry["digest"] for entry in document.get(key, ())]
    assert podpy("images", "-q", "--filter", "dangling=true").text == ""


def test_an_archive_of_docker_holds_no_index(podpy: Podpy, everywhere: Path) -> None:
    done = podpy.fails(
        "build", "-q", *PLATFORMS, "-o", f"type=docker,dest={podpy.directory}/x", everywhere
    )
    assert "use type=oci" in done.stderr
    assert not (podpy.directory / "x").exists()


# --- directories and archives --------------------------------------------------


def test_a_directory_belongs_to_the_caller(podpy: Podpy, source: Path) -> None:
    place = podpy.directory / "out"
    place.mkdir()
    (place / "mine").write_text("stays")
    (place / "etc").mkdir()
    (place / "d").symlink_to("etc")  # is replaced and not followed
    build(podpy, source, "-o", place)
    for path in place.rglob("*"):
        assert (path.lstat().st_uid, path.lstat().st_gid) == (os.getuid(), os.getgid()), path
        assert path.is_symlink() or not path.lstat().st_mode & 0o6000, path
    assert (place / "mine").read_text() == "stays"
    assert (place / "d/one").samefile(place / "d/two")
    assert os.readlink(place / "d/link") == "one"
    assert not (place / "etc/one").exists()
    assert int((place / "d/one").stat().st_mtime) == int(EPOCH)
    assert podpy("images", "-q").lines == podpy("images", "-q", BUSYBOX).lines


def test_a_directory_of_the_callers_is_not_replaced_by_a_file(podpy: Podpy, source: Path) -> None:
    place = podpy.directory / "out"
    (place / "d/one/mine").mkdir(parents=True)
    done = podpy.fails("build", "-q", "-o", place, source)
    assert "would have to become something else" in done.stderr
    assert (place / "d/one/mine").is_dir()


def test_places_are_looked_at_before_the_build(podpy: Podpy, source: Path) -> None:
    (source / "Dockerfile").write_text("FROM scratch\nCOPY no-such-file /\n")
    for output, what in (
        ("type=oci,dest=/no/such/directory/x.tar", "there is no directory /no/such"),
        (f"type=tar,dest={source}", "is a directory"),
        (f"type=oci,tar=false,dest={source}", "not an empty directory"),
    ):
        assert what in podpy.fails("build", "-q", "-o", output, source).stderr


def test_an_archive_has_the_images_owners(podpy: Podpy, source: Path) -> None:
    archive = podpy.directory / "out.tar"
    build(podpy, source, "-o", f"type=tar,dest={archive}")
    with tarfile.open(archive) as tar:
        one = tar.getmember("d/one")
        assert (one.uid, one.gid, one.mode) == (1000, 1001, 0o4755)
        assert tar.getmember("d/two").linkname == "d/one"
        assert tar.getmember("d/fifo").isfifo()
        assert "bin/ls" not in tar.getnames()
    shown = podpy("build", "-q", *NET, "--timestamp", EPOCH, "-o", "-", source)
    assert shown.raw_stdout == archive.read_bytes()


def test_an_existing_name_is_not_touched_by_an_archive(podpy: Podpy, source: Path) -> None:
    (source / "other").write_text(f"FROM {BUSYBOX}\n")
    build(podpy, source, "-t", "kept")
    before = podpy("images", "--no-trunc", "--format", "{{.ID}}", "kept").text
    name = "type=docker,name=kept,dest=" + str(podpy.directory / "out.tar")
    build(podpy, source, "-f", source / "other", "-o", name)
    assert podpy("images", "--no-trunc", "--format", "{{.ID}}", "kept").text == before


@pytest.mark.parametrize(
    "output", ["type=oci,dest=x,compression=zstd", "type=image,push-by-digest=true", "type=moon"]
)
def test_what_cannot_be_honoured_is_refused(podpy: Podpy, source: Path, output: str) -> None:
    done = podpy.fails("build", "-q", "-o", output, source)
    assert "--output" in done.stderr


# --- squashing, digests --------------------------------------------------------


def test_squashed_layers_do_what_they_did(podpy: Podpy, source: Path) -> None:
    build(podpy, source, "-t", "made")
    for option, layers in (("--squash", 2), ("--squash-all", 1)):
        build(podpy, source, option, "-t", "squashed")
        (about,) = podpy("image", "inspect", "squashed").json()
        assert len(about["RootFS"]["Layers"]) == layers
        assert seen(podpy, "squashed") == SEEN
        history = podpy("history", "-q", "squashed").lines
        assert len(history) == len(podpy("history", "-q", "made").lines)


def test_what_a_squashed_layer_made_and_deleted_is_not_in_it(podpy: Podpy, source: Path) -> None:
    (source / "Dockerfile").write_text(
        f"FROM {BUSYBOX}\n"
        "RUN mkdir -p /a/b /home/x && touch /a/b/c /f && rm /etc/passwd\n"
        "RUN rm -r /a/b /f && mkdir /f && touch /f/g && rm -r /home && touch /home\n"
    )
    build(podpy, source, "--squash", "-t", "squashed")
    archive = podpy.directory / "saved.tar"
    podpy("save", "--format", "docker-archive", "-o", archive, "squashed")
    with tarfile.open(archive) as outer:
        (about,) = json.load(outer.extractfile("manifest.json"))  # type: ignore[arg-type]
        with tarfile.open(fileobj=outer.extractfile(about["Layers"][-1])) as layer:
            assert layer.getnames() == ["a", "etc", "etc/.wh.passwd", "f", "f/g", "home"]


def test_the_digest_depends_on_no_directory_and_file_system(podpy: Podpy, source: Path) -> None:
    memory = Path(f"/dev/shm/podpy-test.{os.getpid()}")
    shutil.copytree(source, podpy.directory / "elsewhere")
    first = build(podpy, source)
    try:
        podpy("--root", memory / "root", "load", "-q", "-i", _saved(podpy))
        assert podpy(
            "--root", memory / "root", "build", "-q", *NET, "--timestamp", EPOCH,
            podpy.directory / "elsewhere",
        ).text == first  # fmt: skip
    finally:
        podpy("--root", memory / "root", "rmi", "-a", "-f")
        podpy("--root", memory / "root", "builder", "prune", "-a", "-f")
        shutil.rmtree(memory, ignore_errors=True)


def _saved(podpy: Podpy) -> Path:
    path = podpy.directory / "base.tar"
    podpy("save", "-q", "-o", path, BUSYBOX)
    return path
