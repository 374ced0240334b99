"""What COPY and ADD take: wildcards, ignored files, links, and nothing from outside the root."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from podpy.build import selection
from podpy.build.ignore import Ignore
from podpy.build.selection import Selector
from podpy.errors import BuildError

FILES = (
    "a.txt", "b.txt", "c.md", "arr[0].txt", ".hidden", "src/main.c", "src/x/deep.c",
    "src/x/y/deeper.c", "src/x/notes.md", "docs/a.txt", "other/src/main.c",
)  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    context = tmp_path / "context"
    for name in FILES:
        path = context / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (context / "empty").mkdir()
    (tmp_path / "secret").write_text("outside")
    return context


class Context:
    """Selects below a directory and tells what came of it."""

    def __init__(self, directory: Path) -> None:
        self.fd = os.open(directory, os.O_PATH | os.O_DIRECTORY)

    def picks(self, *sources: str, **options: Any) -> list[Any]:
        parents = options.pop("parents", False)
        return Selector(self.fd, **options).select(sources, parents=parents)

    def names(self, *sources: str, **options: Any) -> list[str]:
        """Where everything would go below the destination, files only."""
        found = []
        for _, name, _, above, entry in self.picks(*sources, **options):
            prefix = "".join(f"{each[0]}/" for each in above or ())
            if entry[-1] is None or above is not None:
                found += list(_paths([(name, *entry[1:])], prefix))
            else:
                found += list(_paths(entry[-1], prefix))
        return found


def _paths(entries: Sequence[Any], prefix: str) -> Iterator[str]:
    for entry in entries:
        if entry[-1] is None:
            yield prefix + entry[0]
        elif not entry[-1]:
            yield f"{prefix}{entry[0]}/"
        yield from _paths(entry[-1] or (), f"{prefix}{entry[0]}/")


@pytest.fixture
def context(root: Path) -> Iterator[Context]:
    made = Context(root)
    yield made
    os.close(made.fd)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a.txt", ["a.txt"]),
        ("/a.txt", ["a.txt"]),
        ("./a.txt", ["a.txt"]),
        ("../../a.txt", ["a.txt"]),
        ("src/../a.txt", ["a.txt"]),
        ("a.txt/", ["a.txt"]),
        ("*.txt", ["a.txt", "arr[0].txt", "b.txt"]),
        ("?.txt", ["a.txt", "b.txt"]),
        ("[^a].txt", ["b.txt"]),
        ("arr[[]0].txt", ["arr[0].txt"]),
        ("src/x/*", ["deep.c", "notes.md", "deeper.c"]),
        ("src", ["main.c", "x/deep.c", "x/notes.md", "x/y/deeper.c"]),
        ("s*", ["main.c", "x/deep.c", "x/notes.md", "x/y/deeper.c"]),
        ("*/main.c", ["main.c"]),
        ("*/*/main.c", ["main.c"]),
        ("empty", []),
        (".h*", [".hidden"]),
        ("nothing*", []),
    ],
)
def test_sources(context: Context, source: str, expected: list[str]) -> None:
    assert context.names(source) == expected


def test_a_missing_source_is_named(context: Context) -> None:
    for source in ("nope", "src/nope", "a.txt/below", "nope/*.txt"):
        with pytest.raises(BuildError, match=r"nope|below"):
            context.picks("a.txt", source)


def test_a_malformed_pattern_is_an_error(context: Context) -> None:
    with pytest.raises(BuildError, match="syntax error in pattern"):
        context.picks("[")


def test_parents(context: Context) -> None:
    def names(*sources: str) -> list[str]:
        return context.names(*sources, parents=True)

    assert names("src/main.c") == ["src/main.c"]
    assert names("./src/./x/deep.c") == ["x/deep.c"]
    assert names("/src/x") == ["src/x/deep.c", "src/x/notes.md", "src/x/y/deeper.c"]
    assert names("src/x/.") == ["src/x/deep.c", "src/x/notes.md", "src/x/y/deeper.c"]
    assert names("src/./x/./y") == ["x/y/deeper.c"]
    assert names("*/./main.c") == ["main.c"]
    assert names("src/**/*.c") == ["src/main.c", "src/x/deep.c", "src/x/y/deeper.c"]
    assert names("**/main.c") == ["other/src/main.c", "src/main.c"]
    assert names("s*/./**/deeper.c") == ["x/y/deeper.c"]
    assert names("src/**") == ["src/main.c", "src/x/deep.c", "src/x/notes.md", "src/x/y/deeper.c"]
    assert names("**/nothing") == []
    with pytest.raises(BuildError, match="nope"):
        names("src/nope")


def test_parents_and_exclude(context: Context) -> None:
    chosen = context.names("src/**/*.c", parents=True, exclude=("**/deep.c",))
    assert chosen == ["src/main.c", "src/x/y/deeper.c"]


@pytest.mark.parametrize(
    ("source", "exclude", "expected"),
    [
        ("src", ("x",), ["main.c"]),
        ("src", ("x", "!x/y"), ["main.c", "x/y/deeper.c"]),
        ("src", ("**/*.c",), ["x/notes.md", "x/y/"]),
        ("*.txt", ("a*",), ["b.txt"]),
        ("docs/*.txt", ("a.txt",), []),
        ("a.txt", ("a.txt",), []),
        ("docs/a.txt", ("docs/a.txt",), []),
        ("docs/a.txt", ("b.txt",), ["a.txt"]),
        ("docs", ("docs",), ["a.txt"]),
        (".", ("*/*.c", "*/x", "*.txt", ".*", "other"), ["c.md", "docs/a.txt", "empty/", "src/"]),
        ("*", ("*",), []),
    ],
)
def test_exclude(
    context: Context, source: str, exclude: tuple[str, ...], expected: list[str]
) -> None:
    assert sorted(context.names(source, exclude=exclude)) == expected


def test_ignored_files_do_not_exist(context: Context) -> None:
    ignore = Ignore.parse("*.txt\n!b.txt\nsrc\n!src/x/y\n")
    assert context.names("*.txt", ignore=ignore) == ["b.txt"]
    assert context.names("src", ignore=ignore) == ["x/y/deeper.c"]
    for hidden in ("a.txt", "src/main.c", "src/x/deep.c"):
        with pytest.raises(BuildError, match="not found"):
            context.picks(hidden, ignore=ignore)


def test_a_link_does_not_uncover_what_is_ignored(context: Context, root: Path) -> None:
    (root / "way").symlink_to("a.txt")
    (root / "round").symlink_to("src")
    ignore = Ignore.parse("a.txt\nsrc")
    for source in ("way", "round", "round/main.c", "round/*"):
        with pytest.raises(BuildError, match="not found") if "*" not in source else _nothing():
            assert context.names(source, ignore=ignore) == []


class _nothing:
    def __enter__(self) -> None: ...

    def __exit__(self, *exc: object) -> None: ...


def test_links_that_are_named_are_followed_and_others_copied(context: Context, root: Path) -> None:
    (root / "file").symlink_to("a.txt")
    (root / "dir").symlink_to("/src")
    (root / "src/inner").symlink_to("/etc/passwd")
    [(_, name, path, _, entry)] = context.picks("file")
    assert (name, path, entry[4]) == ("file", "a.txt", len("a.txt"))
    assert "main.c" in context.names("dir")
    inner = next(child for child in context.picks("dir")[0][4][-1] if child[0] == "inner")
    assert inner[8] == "/etc/passwd"


@pytest.mark.parametrize("target", ["/etc/passwd", "../secret", "../../../../../etc/passwd", "/"])
def test_links_lead_nowhere_outside(context: Context, root: Path, target: str) -> None:
    (root / "leak").symlink_to(target)
    if target == "/":
        assert "a.txt" in context.names("leak")  # the context's own root
        return
    for source in ("leak", "leak*", "leak/x"):
        with pytest.raises(BuildError, match="leak"):
            context.picks(source)


def test_magic_links_are_refused(context: Context, root: Path) -> None:
    (root / "proc").symlink_to("/proc/self/root/etc/passwd")
    with pytest.raises(BuildError):
        context.picks("proc")


def test_sockets_are_left_out_and_fifos_kept(context: Context, root: Path) -> None:
    os.mkfifo(root / "empty/pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(root / "empty/socket"))
        assert context.names("empty") == ["pipe"]


def test_depth_is_bounded(context: Context, root: Path) -> None:
    fd = os.open(root / "empty", os.O_RDONLY)
    for _ in range(selection._DEEPEST + 2):
        os.mkdir("d", dir_fd=fd)
        inner = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)
    with pytest.raises(BuildError, match="directories deep"):
        context.picks("empty")


# --- the digest --------------------------------------------------------------


def digest(context: Context, *sources: str, owners: bool = False) -> str:
    return selection.digest(context.picks(*sources), owners=owners)


def test_what_a_digest_is_of(context: Context, root: Path) -> None:
    before = digest(context, "src")
    os.utime(root / "src/main.c", (1, 1))
    assert digest(context, "src") == before, "times do not count"
    (root / "src/main.c").chmod(0o755)
    changed = digest(context, "src")
    assert changed != before, "modes count"
    (root / "src/main.c").write_text("new")
    assert digest(context, "src") not in (before, changed), "content counts"
    (root / "src/main.c").rename(root / "src/main2.c")
    renamed = digest(context, "src")
    (root / "src/link").symlink_to("a")
    linked = digest(context, "src")
    (root / "src/link").unlink()
    (root / "src/link").symlink_to("b")
    assert len({before, changed, renamed, linked, digest(context, "src")}) == 5


def test_attributes_count(context: Context, root: Path) -> None:
    before = digest(context, "a.txt")
    try:
        os.setxattr(root / "a.txt", "user.test", b"1")
    except OSError:
        pytest.skip("this file system has no user attributes")
    with_one = digest(context, "a.txt")
    os.setxattr(root / "a.txt", "user.podpy.owner", b"1:1")
    assert before != with_one == digest(context, "a.txt"), "the engine's own do not"


def test_parents_are_another_copy(context: Context) -> None:
    plain = selection.digest(context.picks("src/x"), owners=False)
    kept = selection.digest(context.picks("src/x", parents=True), owners=False)
    assert plain != kept
