"""``save``: images of the store as archives and layout directories."""

from __future__ import annotations

import os
from contextlib import contextmanager

from podpy import files
from podpy.engine import images
from podpy.errors import HostError, ImageError, UsageError
from podpy.model import Descriptor
from podpy.records import record
from podpy.registry import archives
from podpy.storage import content, events, inflate, layers, manifests
from podpy.storage.packing import TarWriter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Protocol

    from podpy.engine.context import Context
    from podpy.model import Image
    from podpy.paths import Store
    from podpy.storage.names import Name

    class Target(Protocol):
        """An archive or a directory that takes members."""

        def add(self, name: str, data: bytes) -> None: ...

        def stream(self, name: str, size: int, pieces: Iterator[bytes]) -> None: ...

        def directory(self, name: str) -> None: ...


FORMATS = ("docker-archive", "oci-archive", "oci-dir", "docker-dir")
_CHUNK = 1 << 20


@record
class Chosen:
    """An image to be saved and the names it was asked for by."""

    image: Image
    manifest: Descriptor
    names: tuple[str, ...] = ()


def save(ctx: Context, names: Sequence[str], output: str = "", *, format: str = "") -> None:
    """Write images as an archive (to standard output without ``output``) or a directory.

    docker-archive holds uncompressed layers, as docker writes it; the OCI
    formats hold manifests and blobs byte for byte as they are in the store.
    """
    kind = format or FORMATS[0]
    if kind not in FORMATS:
        raise UsageError(f"save: format {kind!a}", hint=f"one of {', '.join(FORMATS)}")
    chosen = _choose(ctx, names)
    if kind == "docker-dir" and len(chosen) > 1:
        raise UsageError("save: docker-dir holds one image")
    writer = {
        "docker-archive": docker_archive,
        "docker-dir": _docker_directory,
    }.get(kind, _layout)
    deliver = to_directory if kind.endswith("-dir") else to_archive
    deliver(output, lambda target: writer(ctx.store, chosen, target), "save")
    for one in chosen:
        events.image(ctx.store, "save", one.image.id, ", ".join(one.names))


def _choose(ctx: Context, names: Sequence[str]) -> list[Chosen]:
    """One entry per image, with every name that it was asked for by."""
    if not names:
        raise UsageError("save: no image given")
    found: dict[str, Chosen] = {}
    for text in names:
        name = images.find_name(ctx, text)
        known = found.get(name.image)
        wanted = _names_for(text, name)
        before = known.names if known else ()
        image = known.image if known else manifests.load(ctx.store, name)
        found[name.image] = Chosen(
            image=image, manifest=name.manifest, names=tuple(dict.fromkeys((*before, *wanted)))
        )
    return list(found.values())


def _names_for(text: str, name: Name) -> tuple[str, ...]:
    """An image asked for by its id is saved without a name, as docker and podman do."""
    if not name.reference or name.image.startswith(text.removeprefix("sha256:")):
        return ()
    return () if "@" in name.reference else (name.reference,)


# --- where to ------------------------------------------------------------------


def to_archive(output: str, write: Callable[[Target], None], what: str) -> None:
    """Have a tar archive written to a path; to standard output without one, or for ``-``.

    A file appears complete or not at all; a device or pipe takes it as it comes.
    ``what`` is who asks, for errors.
    """
    if output in ("", "-"):
        _pack(1, write)
        return
    with replacing(output, what) as fd:
        _pack(fd, write)


@contextmanager
def replacing(output: str, what: str) -> Iterator[int]:
    """A descriptor to write a file's new content to: it appears complete or not at all.

    A device or pipe is written to as it is.
    """
    temporary = ""
    if os.path.exists(output) and not os.path.isfile(output):
        fd = _create(output, os.O_WRONLY, what)
    else:
        temporary = files.temporary_name(output)
        fd = _create(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, what)
    try:
        yield fd
        if temporary:
            os.rename(temporary, output)
            temporary = ""
    finally:
        os.close(fd)
        if temporary:
            files.unlink(temporary)


def _create(path: str, flags: int, what: str) -> int:
    try:
        return os.open(path, flags | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise HostError(f"{what}: {path}: {error.strerror}") from None


def _pack(fd: int, write: Callable[[Target], None]) -> None:
    tar = TarWriter(fd)
    write(tar)
    tar.finish()


def to_directory(output: str, write: Callable[[Target], None], what: str) -> None:
    """Have an empty directory, made when it is missing, filled."""
    if not output:
        raise UsageError(f"{what}: a directory format needs -o DIRECTORY")
    try:
        if files.list_directory(output):
            raise UsageError(f"{what}: {output}: not an empty directory")
        os.makedirs(output, exist_ok=True)
        write(_Directory(output))
    except OSError as error:
        raise HostError(f"{what}: {output}: {error.strerror}") from None


class _Directory:
    """Members as files of a directory."""

    def __init__(self, path: str) -> None:
        self._path = path

    def add(self, name: str, data: bytes) -> None:
        self.stream(name, len(data), iter((data,)))

    def directory(self, name: str) -> None:
        os.makedirs(f"{self._path}/{name}", exist_ok=True)

    def stream(self, name: str, size: int, pieces: Iterator[bytes]) -> None:
        path = f"{self._path}/{name}"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            for piece in pieces:
                files.write_all(fd, piece)
            if os.fstat(fd).st_size != size:
                raise ImageError(f"{path}: not the {size} bytes that were announced")
        finally:
            os.close(fd)


# --- the formats ---------------------------------------------------------------


def docker_archive(store: Store, chosen: list[Chosen], target: Target) -> None:
    """Layers named by their diff ids, written once however many images share them."""
    entries = []
    written: set[str] = set()
    for item in chosen:
        members = [f"{content.hex_of(diff_id)}.tar" for diff_id in item.image.diff_ids]
        for member, diff_id, blob in zip(members, item.image.diff_ids, item.image.layers):
            if member not in written:
                written.add(member)
                length = layers.read(store, diff_id).length
                if not length:  # written by something else than an import
                    length = sum(len(piece) for piece in _inflated(store, diff_id, blob))
                target.stream(member, length, _inflated(store, diff_id, blob))
        config = f"{item.image.id}.json"
        if config not in written:
            written.add(config)
            target.add(config, content.read_blob(store, f"sha256:{item.image.id}"))
        entries.append((config, members, item.names))
    target.add("manifest.json", archives.docker_manifest(entries))


def _inflated(store: Store, diff_id: str, blob: Descriptor) -> Iterator[bytes]:
    """A layer as its uncompressed archive, verified on the way."""
    import hashlib

    fd = content.open_blob(store, blob.digest)
    digest = hashlib.sha256()
    try:
        start = os.pread(fd, inflate.LONGEST_MAGIC, 0)
        decompressor = inflate.decompressor(inflate.kind_of(start))
        while data := os.read(fd, _CHUNK):
            for piece in decompressor.feed(data):
                digest.update(piece)
                yield piece
        decompressor.finish()
    finally:
        os.close(fd)
    if digest.hexdigest() != content.hex_of(diff_id):
        raise ImageError(f"layer {diff_id}: its blob {blob.digest} is damaged")


def _layout(store: Store, chosen: list[Chosen], target: Target) -> None:
    """An OCI layout: every blob as it is.

    With its directories: skopeo, as an ordinary user, cannot unpack one that lacks them.
    """
    for name in ("blobs", "blobs/sha256"):
        target.directory(name)
    written: set[str] = set()
    index: list[tuple[Descriptor, str]] = []
    for item in chosen:
        config = f"sha256:{item.image.id}"
        for digest in (*(b.digest for b in item.image.layers), config, item.manifest.digest):
            if digest not in written:
                written.add(digest)
                copy_blob(store, digest, archives.blob_member(digest), target)
        index += [(item.manifest, name) for name in item.names or ("",)]
    target.add("index.json", archives.layout_index(index))
    target.add("oci-layout", content.LAYOUT.encode())


def copy_blob(store: Store, digest: str, member: str, target: Target) -> None:
    fd = content.open_blob(store, digest)
    try:
        pieces = iter(lambda: os.read(fd, _CHUNK), b"")
        target.stream(member, os.fstat(fd).st_size, pieces)
    finally:
        os.close(fd)


def _docker_directory(store: Store, chosen: list[Chosen], target: Target) -> None:
    """``dir:`` of containers/image, with a docker schema 2 manifest."""
    item = chosen[0]
    manifest = content.read_blob(store, item.manifest.digest)
    if item.manifest.media_type != manifests.DOCKER_MANIFEST:
        manifest = manifests.to_docker(manifests.parse(manifest, "manifest"))
    for digest in (*(blob.digest for blob in item.image.layers), f"sha256:{item.image.id}"):
        copy_blob(store, digest, content.hex_of(digest), target)
    target.add("manifest.json", manifest)
    target.add("version", b"Directory Transport Version: 1.1\n")
