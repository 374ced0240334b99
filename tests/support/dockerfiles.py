"""A build described in a line or two: a Dockerfile, its context, and what is to come of it."""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from support.flat import Entry, Image
from support.images import EPOCH, Layer

#: All times of a context lie within this many seconds from EPOCH on.
SPAN = 80_000


@dataclass(frozen=True)
class Made:
    """A file of a context that is more than text with mode 644."""

    data: bytes = b""
    mode: int = 0o644
    kind: str = "file"  # or "directory", "symlink", "hardlink", "fifo"
    target: str = ""
    xattrs: Mapping[str, bytes] = field(default_factory=dict)

    def write(self, path: Path, root: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if self.kind == "directory":
            path.mkdir(exist_ok=True)
        elif self.kind == "symlink":
            path.symlink_to(self.target)
            return
        elif self.kind == "hardlink":
            path.hardlink_to(root / self.target)
            return
        elif self.kind == "fifo":
            os.mkfifo(path)
        else:
            path.write_bytes(self.data)
        path.chmod(self.mode)
        for name, value in self.xattrs.items():
            os.setxattr(path, name, value)


Content = str | bytes | Made | Layer


def file(text: str = "", mode: int = 0o644, **xattrs: str) -> Made:
    """A file with a mode and with ``user.*`` attributes."""
    attributes = {f"user.{name}": value.encode() for name, value in xattrs.items()}
    return Made(text.encode(), mode, xattrs=attributes)


def directory(mode: int = 0o755) -> Made:
    return Made(mode=mode, kind="directory")


def symlink(target: str) -> Made:
    return Made(kind="symlink", target=target)


def hardlink(target: str) -> Made:
    """Another name of ``target``, which is relative to the context and stands before it."""
    return Made(kind="hardlink", target=target)


def fifo() -> Made:
    return Made(kind="fifo", mode=0o644)


@dataclass(frozen=True)
class Case:
    """One build: with podpy, and with the peer unless only the reference can judge it."""

    name: str
    dockerfile: str
    files: Mapping[str, Content] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    #: What the image must hold: a path and its text, ``None`` for a path that must not be
    #: there, or the attributes of :class:`support.flat.Entry` that count.
    tree: Mapping[str, object] = field(default_factory=dict)
    #: What the configuration must say.
    config: Mapping[str, object] = field(default_factory=dict)
    #: What podpy's message must hold where the build is refused.
    refused: str = ""

    def write(self, parent: Path) -> Path:
        """Lay the context below ``parent``.

        Times follow from names: a step that is found in podpy's cache, whose keys know no
        times, brings the same ones from the context of another case.
        """
        root = parent / self.name
        root.mkdir(parents=True)
        (root / "Dockerfile").write_text(self.dockerfile)
        for path, content in self.files.items():
            _made(path, content).write(root / path, root)
        for parent in root.rglob("*"):
            own = str(parent.relative_to(root)) in self.files
            if parent.is_dir() and not parent.is_symlink() and not own:
                parent.chmod(0o755)  # whatever the umask
        for made in [*sorted(root.rglob("*"), reverse=True), root]:
            moment = EPOCH + zlib.crc32(os.fsencode(made.relative_to(root))) % SPAN
            os.utime(made, (EPOCH, moment), follow_symlinks=False)
        return root

    def problems(self, image: Image) -> list[str]:
        """What is not as ``tree`` and ``config`` say."""
        wrong = [
            f"config: {key} is {image.config.get(key)!r}, expected {value!r}"
            for key, value in self.config.items()
            if (image.config.get(key) or None) != (value or None)
        ]
        for path, expected in self.tree.items():
            entry = image.tree.get(path)
            if expected is None:
                wrong += [f"tree: {path} is there"] if entry else []
            elif entry is None:
                wrong.append(f"tree: {path} is missing; there: {sorted(image.tree)[:20]}")
            else:
                wrong += _mismatches(path, entry, expected)
        return wrong


def _mismatches(path: str, entry: Entry, expected: object) -> list[str]:
    attributes = (
        expected if isinstance(expected, Mapping) else {"kind": "file", "content": expected}
    )
    return [
        f"tree: {path} {name} is {getattr(entry, name)!r}, expected {value!r}"
        for name, value in attributes.items()
        if getattr(entry, name) != value
    ]


def _made(path: str, content: Content) -> Made:
    if isinstance(content, Made):
        return content
    if isinstance(content, Layer):
        return Made(content.bytes())
    data = content.encode() if isinstance(content, str) else content
    return Made(data, mode=0o755 if path.endswith(".sh") else 0o644)


def case(name: str, *lines: str, **fields: object) -> Case:
    """A case whose Dockerfile is given by its lines."""
    return Case(name, "".join(line + "\n" for line in lines), **fields)  # type: ignore[arg-type]
