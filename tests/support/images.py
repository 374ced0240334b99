"""Images made from this machine's static busybox; no registry is asked."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import platform
import subprocess
import tarfile
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from support.host import program

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "riscv64": "riscv64"}
EPOCH = 1_700_000_000
PASSWD = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
GROUP = "root:x:0:\nnogroup:x:65534:\n"
USERS_PASSWD = (
    PASSWD
    + "alice:x:1000:1000:Alice:/home/alice:/bin/sh\n"
    + "bob:x:1001:1001:Bob:/home/bob:/bin/sh\n"
    + "42:x:1042:1042:a name made of digits:/:/bin/sh\n"
)
USERS_GROUP = (
    GROUP + "alice:x:1000:\nbob:x:1001:\nwheel:x:10:alice\naudio:x:29:alice,bob\nstaff:x:50:bob\n"
)


def architecture() -> str:
    return ARCHITECTURES.get(platform.machine(), platform.machine())


class Layer:
    """A layer under construction; every entry is owned by root unless told."""

    def __init__(self) -> None:
        self._buffer = io.BytesIO()
        self._tar = tarfile.TarFile(fileobj=self._buffer, mode="w", format=tarfile.PAX_FORMAT)

    def _add(self, name: str, data: bytes = b"", **fields: Any) -> Layer:
        info = tarfile.TarInfo(name)
        info.mtime = EPOCH
        info.size = len(data)
        for field, value in fields.items():
            setattr(info, field, value)
        self._tar.addfile(info, io.BytesIO(data))
        return self

    def file(self, name: str, data: str | bytes = b"", mode: int = 0o644, **fields: Any) -> Layer:
        content = data.encode() if isinstance(data, str) else data
        return self._add(name, content, mode=mode, **fields)

    def directory(self, name: str, mode: int = 0o755, **fields: Any) -> Layer:
        return self._add(name, type=tarfile.DIRTYPE, mode=mode, **fields)

    def symlink(self, name: str, target: str, **fields: Any) -> Layer:
        return self._add(name, type=tarfile.SYMTYPE, linkname=target, mode=0o777, **fields)

    def hardlink(self, name: str, target: str, **fields: Any) -> Layer:
        return self._add(name, type=tarfile.LNKTYPE, linkname=target, **fields)

    def entry(self, name: str, kind: bytes, data: bytes = b"", **fields: Any) -> Layer:
        """Any tar entry: devices, FIFOs, and what no honest archive holds."""
        return self._add(name, data, type=kind, **fields)

    def bytes(self) -> bytes:
        """The finished, uncompressed tar."""
        self._tar.close()
        return self._buffer.getvalue()


@cache
def applets() -> tuple[str, ...]:
    busybox = program("busybox")
    listed = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True)
    return tuple(name for name in listed.stdout.split() if name != "busybox")


@cache
def busybox_binary() -> bytes:
    return Path(program("busybox")).read_bytes()


def busybox_layer(passwd: str = PASSWD, group: str = GROUP) -> Layer:
    """A root file system of busybox and the directories that programs expect."""
    layer = Layer()
    for name in ("bin", "dev", "etc", "home", "proc", "sys", "usr", "usr/bin", "var", "var/tmp"):
        layer.directory(name)
    layer.directory("root", 0o700).directory("tmp", 0o1777)
    layer.file("bin/busybox", busybox_binary(), 0o755)
    for name in applets():
        layer.symlink(f"bin/{name}", "/bin/busybox")
    return layer.file("etc/passwd", passwd).file("etc/group", group)


def users_layer() -> Layer:
    """busybox with users alice and bob, groups, and files that they own."""
    layer = busybox_layer(USERS_PASSWD, USERS_GROUP)
    for name, number in (("alice", 1000), ("bob", 1001)):
        layer.directory(f"home/{name}", 0o750, uid=number, gid=number)
        layer.file(f"home/{name}/note", f"{name}'s\n", 0o600, uid=number, gid=number)
    return layer


def image_config(layers: Iterable[bytes], config: Mapping[str, Any] | None = None) -> bytes:
    """The image configuration for uncompressed layers, bottom first."""
    diff_ids = [digest(layer) for layer in layers]
    defaults = {"Cmd": ["sh"], "Env": ["PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"]}
    return json.dumps(
        {
            "architecture": architecture(),
            "os": "linux",
            "created": "2023-11-14T22:13:20Z",
            "config": {**defaults, **(config or {})},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": [{"created": "2023-11-14T22:13:20Z", "created_by": "test"}] * len(diff_ids),
        }
    ).encode()


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def docker_archive(
    path: Path,
    *names: str,
    layers: Iterable[Layer | bytes],
    config: Mapping[str, Any] | None = None,
) -> Path:
    """Write what ``docker save`` writes: one image, its names, its layers."""
    blobs = [layer.bytes() if isinstance(layer, Layer) else layer for layer in layers]
    configuration = image_config(blobs, config)
    members = {f"{digest(configuration)[7:]}.json": configuration}
    files = [f"{digest(blob)[7:]}/layer.tar" for blob in blobs]
    members.update(zip(files, blobs))
    manifest = [{"Config": next(iter(members)), "RepoTags": list(names), "Layers": files}]
    members["manifest.json"] = json.dumps(manifest).encode()
    _write_tar(path, members)
    return path


def oci_archive(
    path: Path,
    name: str = "",
    *,
    layers: Iterable[Layer | bytes],
    config: Mapping[str, Any] | None = None,
) -> Path:
    """Write an OCI image layout as one tar, with gzip-compressed layers."""
    blobs = [layer.bytes() if isinstance(layer, Layer) else layer for layer in layers]
    kind = "application/vnd.oci.image"
    members: dict[str, bytes] = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}

    def store(data: bytes, media_type: str) -> dict[str, Any]:
        members[f"blobs/sha256/{digest(data)[7:]}"] = data
        return {"mediaType": media_type, "digest": digest(data), "size": len(data)}

    configuration = store(image_config(blobs, config), f"{kind}.config.v1+json")
    packed = [store(gzip.compress(blob, 6, mtime=0), f"{kind}.layer.v1.tar+gzip") for blob in blobs]
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{kind}.manifest.v1+json",
        "config": configuration,
        "layers": packed,
    }
    entry = store(json.dumps(manifest).encode(), f"{kind}.manifest.v1+json")
    if name:
        entry["annotations"] = {"org.opencontainers.image.ref.name": name}
    members["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    _write_tar(path, members)
    return path


def _write_tar(path: Path, members: Mapping[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            info.mtime = EPOCH
            archive.addfile(info, io.BytesIO(data))
