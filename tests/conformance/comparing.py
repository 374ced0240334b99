"""Two images side by side: every difference as one line of text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from support.flat import Entry, Image

CONFIG = (
    "Env", "Cmd", "Entrypoint", "WorkingDir", "User", "Labels", "ExposedPorts", "Volumes",
    "StopSignal", "OnBuild", "Healthcheck", "Shell",
)  # fmt: skip
ROOT = Entry("directory", 0o755)


def differences(ours: Image, theirs: Image, started: float) -> list[str]:
    """What sets two images apart; ``started`` is when the first build began.

    Times that lie before it came from somewhere and must be equal; later ones
    are those of the builds, which say nothing.
    """
    return [
        *_tree(ours, theirs, started),
        *_config(ours.config, theirs.config),
        *_history(ours, theirs),
    ]


def _tree(ours: Image, theirs: Image, started: float) -> Iterator[str]:
    for path in sorted({*ours.tree, *theirs.tree} - {"."}):
        mine, other = ours.tree.get(path), theirs.tree.get(path)
        if mine is None or other is None:
            yield f"tree: {path} only {'theirs' if mine is None else 'ours'}"
        else:
            yield from _entry(path, mine, other, started)
    yield from _entry(".", ours.tree.get(".", ROOT), theirs.tree.get(".", ROOT), float("-inf"))


def _entry(path: str, mine: Entry, other: Entry, started: float) -> Iterator[str]:
    if mine.kind != other.kind:
        yield f"tree: {path} kind {mine.kind}, theirs {other.kind}"
        return
    if mine.mode != other.mode and mine.kind != "symlink":
        yield f"tree: {path} mode {mine.mode:04o}, theirs {other.mode:04o}"
    for name in ("owner", "content", "target", "xattrs", "device", "links"):
        if getattr(mine, name) != getattr(other, name):
            yield f"tree: {path} {name} {getattr(mine, name)!r}, theirs {getattr(other, name)!r}"
    times = [None if each.mtime >= started else int(each.mtime) for each in (mine, other)]
    if times[0] != times[1]:
        yield f"tree: {path} {mine.kind} time {times[0] or 'now'}, theirs {times[1] or 'now'}"


def _config(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[str]:
    for key in CONFIG:
        mine, other = _value(ours, key), _value(theirs, key)
        if mine != other:
            yield f"config: {key} {mine!r}, theirs {other!r}"


def _value(config: Mapping[str, Any], key: str) -> Any:
    """Absent, null and empty mean the same; buildah's mark of itself is no label of the case."""
    value = config.get(key) or None
    if key == "Labels" and value:
        value = {k: v for k, v in value.items() if k != "io.buildah.version"} or None
    return value


def _history(ours: Image, theirs: Image) -> Iterator[str]:
    mine, other = steps(ours), steps(theirs)
    if mine != other:
        yield f"history: {' '.join(mine)}, theirs {' '.join(other)}"


def steps(image: Image) -> list[str]:
    """The history's instructions; ``-`` marks those that made no layer."""
    return [
        _instruction(str(entry.get("created_by", ""))) + ("-" if entry.get("empty_layer") else "")
        for entry in image.history
    ]


def _instruction(text: str) -> str:
    """The word of an instruction, as buildah, docker's old builder or BuildKit noted it."""
    if "#(nop)" in text:
        text = text.partition("#(nop)")[2]
    elif text.startswith("/bin/sh -c") or text.startswith("|"):
        return "RUN"
    return text.split()[0].upper() if text.split() else ""
