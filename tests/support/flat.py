"""What an image holds, read from what ``save`` wrote: the suite's own reader.

It shares no code with podpy: layers are put on top of each other here by the
OCI layer specification alone, in memory, without the rights to make owners or
devices.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

KINDS = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.DIRTYPE: "directory",
    tarfile.SYMTYPE: "symlink",
    tarfile.LNKTYPE: "hardlink",
    tarfile.FIFOTYPE: "fifo",
    tarfile.CHRTYPE: "char",
    tarfile.BLKTYPE: "block",
}
WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
#: Content up to this size is kept, so that a difference can be shown.
SHOWN = 400


@dataclass(frozen=True)
class Entry:
    """One file of an image; ``content`` is text when it is short, else a digest."""

    kind: str
    mode: int = 0
    owner: tuple[int, int] = (0, 0)
    content: str = ""
    target: str = ""
    mtime: float = 0.0
    xattrs: Mapping[str, str] = field(default_factory=dict)
    device: tuple[int, int] = (0, 0)
    #: Every path of the same file, when there are several.
    links: tuple[str, ...] = ()


Tree = dict[str, Entry]


@dataclass(frozen=True)
class Image:
    """An image as its user finds it: the flattened tree and the configuration."""

    tree: Tree
    config: Mapping[str, Any]  # what runs: Env, Cmd …
    document: Mapping[str, Any]  # the whole configuration

    @property
    def history(self) -> list[dict[str, Any]]:
        return list(self.document.get("history") or [])


class Reader:
    """Reads archives; a layer that several images share is parsed once."""

    def __init__(self) -> None:
        self._layers: dict[str, list[tuple[str, Entry]]] = {}

    def images(self, archive: Path) -> dict[str, Image]:
        """All images of a docker-archive by their names (without ``localhost/`` and tag)."""
        found = {}
        with tarfile.open(archive) as tar:
            for listed in json.loads(_member(tar, "manifest.json").read()):
                image = self._image(tar, listed["Config"], listed["Layers"])
                for name in listed["RepoTags"] or [""]:
                    found[name.removeprefix("localhost/").removesuffix(":latest")] = image
        return found

    def _image(self, tar: tarfile.TarFile, config: str, layers: list[str]) -> Image:
        document = json.loads(_member(tar, config).read())
        tree: Tree = {}
        for name, diff_id in zip(layers, document["rootfs"].get("diff_ids") or (), strict=True):
            if diff_id not in self._layers:
                data = _member(tar, name).read()
                assert "sha256:" + hashlib.sha256(data).hexdigest() == diff_id, name
                self._layers[diff_id] = list(entries(_member(tar, name)))
            apply(tree, self._layers[diff_id])
        return Image(tree, document.get("config") or {}, document)


def _member(tar: tarfile.TarFile, name: str) -> BinaryIO:
    found = tar.extractfile(name)
    assert found is not None, name
    return found  # type: ignore[return-value]


def entries(layer: BinaryIO) -> Iterator[tuple[str, Entry]]:
    """The members of one layer in their order; paths relative to the root, the root as ``.``."""
    with tarfile.open(fileobj=layer) as tar:
        for info in tar:
            yield _path(info.name), _entry(tar, info)


def _path(name: str) -> str:
    path = posixpath.normpath("/" + name).lstrip("/")
    return path or "."


def _entry(tar: tarfile.TarFile, info: tarfile.TarInfo) -> Entry:
    content = ""
    if info.isreg():
        stream = tar.extractfile(info)
        assert stream is not None
        data = stream.read()
        content = hashlib.sha256(data).hexdigest()
        if len(data) <= SHOWN:
            content = data.decode(errors="backslashreplace")
    prefix = "SCHILY.xattr."
    is_device = info.type in (tarfile.CHRTYPE, tarfile.BLKTYPE)
    return Entry(
        KINDS[info.type],
        info.mode & 0o7777,  # some writers add the type
        (info.uid, info.gid),
        content,
        _path(info.linkname) if info.islnk() else info.linkname,
        float(info.mtime),
        {k[len(prefix) :]: v for k, v in info.pax_headers.items() if k.startswith(prefix)},
        (info.devmajor, info.devminor) if is_device else (0, 0),
    )  # fmt: skip


def apply(tree: Tree, layer: list[tuple[str, Entry]]) -> None:
    """Put a layer on top of a tree: whiteouts first, they mean what lies below."""
    for path, _ in layer:
        directory, name = posixpath.split(path)
        if name == OPAQUE:
            _remove(tree, directory, keep_itself=True)
        elif name.startswith(WHITEOUT):
            _remove(tree, posixpath.join(directory, name[len(WHITEOUT) :]))
    for path, entry in layer:
        if posixpath.basename(path).startswith(WHITEOUT):
            continue
        if entry.kind == "hardlink":
            _link(tree, path, entry.target)
            continue
        if path in tree and tree[path].kind == "directory" and entry.kind != "directory":
            _remove(tree, path)
        _unlink(tree, path)
        tree[path] = entry


def _remove(tree: Tree, path: str, *, keep_itself: bool = False) -> None:
    for name in [name for name in tree if name.startswith(path + "/") or name == path]:
        if not (keep_itself and name == path):
            _unlink(tree, name)
            del tree[name]


def _link(tree: Tree, path: str, target: str) -> None:
    _unlink(tree, path)
    entry = tree[target]
    linked = replace(entry, links=tuple(sorted({*entry.links, target, path})))
    for name in linked.links:
        tree[name] = linked


def _unlink(tree: Tree, path: str) -> None:
    """``path`` is about to be another file: the others of its links know it no more."""
    if path not in tree:
        return
    remaining = tuple(name for name in tree[path].links if name != path)
    for name in remaining:
        tree[name] = replace(tree[name], links=remaining if len(remaining) > 1 else ())
