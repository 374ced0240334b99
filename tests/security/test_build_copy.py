"""COPY and ADD with hostile contexts, stages, images, archives and servers.

The Dockerfile, the context and what they fetch may all be a stranger's; the
user's other files are neither read into an image nor written to.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import images
from support.built_trees import BASE, Builder, outside, texts
from support.fake_registry import Answer, FakeServer
from support.git import GitServer, Repository
from support.podpy import Podpy

UP = "../" * 14
SECRETS = ("the secret", "the secret passwd")


@pytest.fixture
def victim(directory: Path) -> Path:
    return outside(directory)


@pytest.fixture
def builder(podpy: Podpy, victim: Path) -> Iterator[Builder]:
    made = Builder(podpy)
    before = state(victim)
    yield made
    assert state(victim) == before, "the user's files were changed"


def state(directory: Path) -> list[tuple[str, int, float, str]]:
    found = []
    for path in sorted([directory, *directory.rglob("*")]):
        status = path.lstat()
        text = path.read_text() if path.is_file() else ""
        found.append((str(path), status.st_mode, status.st_mtime, text))
    return found


def links(victim: Path) -> dict[str, str]:
    """Ways that a symbolic link may point at the user's files."""
    return {
        "absolute": f"{victim}/secret",
        "relative": f"{UP}{victim}/secret",
        "magic": f"/proc/self/root{victim}/secret",
        "directory": str(victim),
        "root": f"{UP}.",
    }


# --- contexts (GHSA-49p4-px3h-rq49, CVE-2026-44517) -----------------------------


@pytest.mark.parametrize("kind", links(Path("/")))
@pytest.mark.parametrize("word", ["COPY", "ADD"])
def test_a_link_in_the_context_reads_nothing_outside(
    builder: Builder, victim: Path, kind: str, word: str
) -> None:
    (builder.context / "leak").symlink_to(links(victim)[kind])
    builder.write({"beside": "beside"})
    below = f"leak{victim}/secret" if kind == "root" else "leak/secret"
    sources = ["leak", below] if kind == "directory" else [below]
    if kind not in ("directory", "root"):
        sources = ["leak"]
    for source in sources:
        assert "leak" in builder.fails(f"{BASE}{word} {source} /out/\n")
    tree = builder.tree(f"{BASE}{word} . /out/\n")
    assert tree["out/leak"].target == links(victim)[kind], "a link is copied as a link"
    assert not texts(tree) & set(SECRETS)


def test_a_wildcard_follows_no_link_outside(builder: Builder, victim: Path) -> None:
    (builder.context / "dir").symlink_to(victim)
    (builder.context / "real").mkdir()
    (builder.context / "real/leak").symlink_to(victim / "secret")
    tree = builder.tree(f"{BASE}COPY */secret* /out/\n")
    assert not texts(tree) & set(SECRETS)
    assert "leak" in builder.fails(f"{BASE}COPY real/l* /out/\n")
    parents = builder.tree(f"{BASE}COPY --parents **/secret /out/\n")
    assert not texts(parents) & set(SECRETS)


def test_dots_do_not_leave_the_context(builder: Builder, victim: Path) -> None:
    name = victim.name
    for source in (f"../{name}/secret", f"/../{name}/secret", f"x/../../{name}/secret"):
        assert "not found" in builder.fails(f"{BASE}COPY {source} /out\n")
    for source in (f"--parents ../{name}/./secret", f"--parents ./../{name}/secret"):
        assert "not found" in builder.fails(f"{BASE}COPY {source} /out/\n")


def test_a_context_that_changes_while_it_is_copied(builder: Builder, victim: Path) -> None:
    """CVE-2018-15664 and its kin: a directory becomes a link between look and use."""
    for number in range(40):
        builder.write({f"tree/d{number:02}/{name}": "fine" for name in ("secret", "a", "b")})
    swapped = builder.context / "tree/d20"
    aside = builder.context / "tree-d20"
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            swapped.rename(aside)
            swapped.symlink_to(victim)
            swapped.unlink()
            aside.rename(swapped)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(12):
            done = builder.run(f"{BASE}COPY tree /out/\n", "-q", "--no-cache", code=None)
            assert done.code in (0, 125)
            assert "Traceback" not in done.stderr
            if done.code == 0:
                listing = ("run", "--rm", "--network", "none", "localhost/built")
                found = builder.runner(*listing, "sh", "-c", "cat /out/*/* 2>/dev/null; true")
                assert "the secret" not in found.stdout
    finally:
        stop.set()
        thread.join()


def test_a_file_of_the_context_that_cannot_be_read(builder: Builder) -> None:
    builder.write({"d/f": "x"})
    (builder.context / "d/f").chmod(0)
    if os.access(builder.context / "d/f", os.R_OK):
        pytest.skip("this user reads everything")
    assert "Permission denied" in builder.fails(f"{BASE}COPY d /out\n")


# --- stages and images (CVE-2024-11218 among them) --------------------------------


@pytest.mark.parametrize("kind", links(Path("/")))
def test_links_of_a_stage_lead_into_the_stage(builder: Builder, victim: Path, kind: str) -> None:
    """``COPY --from`` with links that name the user's files."""
    layer = images.busybox_layer().symlink("leak", links(victim)[kind])
    base = builder.runner.load_layers("localhost/hostile", layer)
    below = {"directory": "/leak/secret", "root": f"/leak{victim}/secret"}.get(kind, "/leak")
    text = f"FROM {base} AS one\n{BASE}COPY --from=one {below} /out/\n"
    assert "leak" in builder.fails(text)
    assert "leak" in builder.fails(f"{BASE}COPY --from={base} {below} /out/\n")


def test_a_link_of_a_stage_finds_the_stage_s_own_file(builder: Builder, victim: Path) -> None:
    layer = images.busybox_layer().symlink("leak", f"{victim}/secret")
    layer.file(f"{victim}/secret".lstrip("/"), "the stage's own")
    base = builder.runner.load_layers("localhost/hostile", layer)
    tree = builder.tree(f"FROM {base} AS one\n{BASE}COPY --from=one /leak /out\n")
    assert tree["out"].content == "the stage's own"


def test_a_stage_that_swaps_files_while_another_copies(builder: Builder, victim: Path) -> None:
    """With ``--jobs``, a copy sees a stage as it was when it ended, and nothing under way."""
    swap = f"while :; do mv /d /e; ln -s {victim} /d; rm /d; mv /e /d; done"
    text = (
        f"{BASE.rstrip()} AS one\nRUN mkdir /d && echo fine > /d/secret\n"
        f"RUN timeout 1 sh -c '{swap}'; [ -d /e ] && rm -rf /d && mv /e /d; true\n"
        f"{BASE.rstrip()} AS two\nCOPY --from=one /d /out/\nRUN cat /out/secret > /two\n"
        f"{BASE}COPY --from=two /two /two\nCOPY --from=one /d/secret /one\n"
    )
    tree = builder.tree(text, "--jobs", "4", "--network", "none")
    assert (tree["one"].content, tree["two"].content) == ("fine\n", "fine\n")


# --- destinations ------------------------------------------------------------------


@pytest.mark.parametrize("kind", links(Path("/")))
@pytest.mark.parametrize("word", ["COPY", "ADD"])
def test_links_of_the_image_do_not_lead_a_copy_outside(
    builder: Builder, victim: Path, kind: str, word: str
) -> None:
    builder.write({"d/secret": "evil", "secret": "evil"})
    target = links(victim)[kind]
    layer = images.busybox_layer().symlink("out", target)
    base = builder.runner.load_layers("localhost/hostile", layer)
    for copy in (f"{word} d /out", f"{word} secret /out", f"{word} secret /out/", f"{word} d /"):
        done = builder.run(f"FROM {base}\n{copy}\n", "-q", code=None)
        assert done.code in (0, 125)
        assert "Traceback" not in done.stderr


def test_link_never_follows(builder: Builder, victim: Path) -> None:
    builder.write({"f": "x"})
    layer = images.busybox_layer().symlink("out", str(victim))
    base = builder.runner.load_layers("localhost/hostile", layer)
    tree = builder.tree(f"FROM {base}\nCOPY --link f /out/f\n")
    assert (tree["out"].kind, tree["out/f"].content) == ("directory", "x")


def test_a_working_directory_that_is_a_link(builder: Builder, victim: Path) -> None:
    builder.write({"f": "x"})
    layer = images.busybox_layer().symlink("w", f"{UP}{victim}")
    base = builder.runner.load_layers("localhost/hostile", layer)
    tree = builder.tree(f"FROM {base}\nWORKDIR /w\nCOPY f .\n")
    assert tree[f"{victim}/f".lstrip("/")].content == "x"


def test_names_of_inline_files_stay_below_the_destination(builder: Builder, victim: Path) -> None:
    for name in (f"../../{victim}/new", "../up", "/abs/olute", "..", "a/../../b"):
        text = f'{BASE}COPY <<"{name}" /out/\nevil\n{name}\n'
        done = builder.run(text, "-q", code=None)
        assert done.code in (0, 125)
        if done.code == 0:
            below = builder.runner(
                "run", "--rm", "--network", "none", "localhost/built", "find", "/", "-xdev",
                "-type", "f", "-newer", "/bin/busybox", "-path", "/out/*",
            )  # fmt: skip
            assert len(below.lines) == 1, name


# --- user databases of the image (CVE-2024-9676) -----------------------------------


@pytest.mark.parametrize("kind", ["link", "fifo", "directory"])
def test_chown_reads_the_image_s_own_database(builder: Builder, directory: Path, kind: str) -> None:
    (directory / "passwd").write_text("mallory:x:0:0::/:\n")
    state_now = {"link": "unable to find user", "fifo": "not a regular file"}
    builder.write({"f": "x"})
    layer = images.Layer().directory("etc")
    if kind == "link":
        layer.symlink("etc/passwd", f"{directory}/passwd")
    elif kind == "fifo":
        layer.entry("etc/passwd", b"6")
    else:
        layer.directory("etc/passwd")
    base = builder.runner.load_layers("localhost/hostile", layer)
    error = builder.fails(f"FROM {base}\nCOPY --chown=mallory f /\n")
    assert state_now.get(kind, "regular file") in error


# --- archives ------------------------------------------------------------------------


def hostile_archives(victim: Path) -> dict[str, images.Layer]:
    layer = images.Layer
    secret = f"{victim}/secret"
    return {
        "parent": layer().file(f"{UP}{victim}/new", "evil"),
        "absolute": layer().file(f"{victim}/new", "evil"),
        "through a link": layer().symlink("l", str(victim)).file("l/new", "evil"),
        "hard link": layer().hardlink("stolen", f"{UP}{secret}"),
        "absolute hard link": layer().hardlink("stolen", secret),
        "hard link over": layer().symlink("s", secret).hardlink("h", "s").file("h", "evil"),
        "whiteout": layer().file(".wh.beside", ""),
    }


@pytest.mark.parametrize("kind", hostile_archives(Path("/")))
def test_members_of_archives_stay_below_the_destination(
    builder: Builder, victim: Path, kind: str
) -> None:
    builder.write({"a.tar": hostile_archives(victim)[kind].bytes(), "beside": "beside"})
    done = builder.run(f"{BASE}COPY beside /in/\nADD a.tar /in/sub/\n", "-q", code=None)
    assert done.code in (0, 125)
    assert "Traceback" not in done.stderr
    if done.code == 0:
        found = builder.runner(
            "run", "--rm", "--network", "none", "localhost/built", "sh", "-c",
            "cat /in/beside; find / -xdev -name new; cat /in/sub/stolen 2>/dev/null; true",
        )  # fmt: skip
        first, *rest = found.stdout.splitlines() if found.stdout else [""]
        assert first.startswith("beside")
        assert all("/in/sub/" in line for line in first.removeprefix("beside").split()), found
        assert all(line.startswith("/in/sub/") for line in rest)


# --- servers --------------------------------------------------------------------------


@pytest.fixture
def git(directory: Path) -> Iterator[GitServer]:
    if shutil.which("git") is None:
        pytest.skip("no program git")
    (directory / "git").mkdir()
    server = GitServer(directory / "git")
    yield server
    server.close()


def test_a_submodule_is_no_repository_of_this_host(
    builder: Builder, git: GitServer, directory: Path
) -> None:
    """CVE-2022-39253: a repository that names another one by its path on the client's host."""
    private = Repository(directory / "private")
    private.commit({"secret": "the secret"})
    server = git.repository("r")
    for number, url in enumerate((str(private.path), f"file://{private.path}")):
        server("update-index", "--add", "--cacheinfo", f"160000,{private('rev-parse', 'HEAD')},s")
        (server.path / ".gitmodules").write_text(f'[submodule "s"]\n\tpath = s\n\turl = {url}\n')
        server("add", ".gitmodules")
        server("commit", "-q", "-m", f"change {number}")
        done = builder.run(f"{BASE}ADD {git.url}/r.git /out/\n", "-q", code=None)
        assert done.code == 125
        assert "the secret" not in done.stderr


def test_a_repository_s_links_and_directories(
    builder: Builder, git: GitServer, victim: Path
) -> None:
    git.repository("r").commit(
        {"d/f": "fine"}, {"leak": str(victim), "up": UP + str(victim), "d/l": "/"}
    )
    url = f"{git.url}/r.git"
    # GHSA-4vrq-3vrq-g6gg: the part behind the colon left the repository.
    for subdir in ("leak", "up", f"{UP}{victim}", f"d/{UP}{victim}", ".git", "leak/etc"):
        assert "Traceback" not in builder.fails(f"{BASE}ADD {url}#main:{subdir} /out/\n")
    tree = builder.tree(f"{BASE}ADD {url}#main /out/\n")
    assert (tree["out/leak"].target, tree["out/d/f"].content) == (str(victim), "fine")
    assert not texts(tree) & set(SECRETS)


@pytest.mark.parametrize("ref", ["--upload-pack=touch${IFS}/tmp/x", "-x", "a..b", "main:../../.."])
def test_a_ref_is_no_option(builder: Builder, git: GitServer, directory: Path, ref: str) -> None:
    """CVE-2019-13139: the part after ``#`` was given to git as an option."""
    git.repository("r").commit({"f": "fine"})
    marker = directory / "marker"
    ref = ref.replace("/tmp/x", str(marker)).replace("${IFS}", r"\${IFS}")
    done = builder.run(f'{BASE}ADD ["{git.url}/r.git#{ref}", "/out/"]\n', code=None)
    assert "Traceback" not in done.stderr
    assert not marker.exists()


@pytest.mark.parametrize(
    "source", ["file://{victim}/secret", "FILE://{victim}", "file://{victim}/r.git#main:d"]
)
def test_no_file_urls(builder: Builder, victim: Path, source: str) -> None:
    error = builder.fails(f"{BASE}ADD {source.format(victim=victim)} /out/\n")
    assert "the secret" not in error


def test_a_redirect_to_a_file(builder: Builder, victim: Path) -> None:
    server = FakeServer()
    server.hooks.append(lambda _: Answer(302, {"Location": f"file://{victim}/secret"}))
    try:
        assert "the secret" not in builder.fails(f"{BASE}ADD {server.url}/f /out/\n")
    finally:
        server.close()


def test_a_password_in_a_url_stays_between_client_and_server(builder: Builder) -> None:
    """CVE-2023-26054 and its kin: credentials in what a build records and shows."""
    server = FakeServer()
    server.hooks.append(lambda _: Answer(body=b"x"))
    try:
        url = server.url.replace("http://", "http://me:topsecret@")
        text = f"{BASE}ADD {url}/f /f\nADD {url}/f /g\n"
        done = builder.run(text, "--progress", "plain")
        assert "topsecret" not in done.stderr
        shown = builder.runner("history", "--no-trunc", "localhost/built").stdout
        assert server.url in shown
        assert (
            "topsecret" not in shown + builder.runner("image", "inspect", "localhost/built").stdout
        )
        files = [
            *builder.runner.store.rglob("*.json"),
            *builder.runner.directory.glob("cache/**/*"),
        ]
        assert not [path for path in files if path.is_file() and b"topsecret" in path.read_bytes()]
    finally:
        server.close()


@pytest.mark.parametrize("name", ["..", "%2e%2e", "..%2f..%2fetc%2fnew", "a%00b", ""])
def test_file_names_of_urls(builder: Builder, name: str) -> None:
    server = FakeServer()
    server.hooks.append(lambda _: Answer(body=b"evil"))
    try:
        done = builder.run(f"{BASE}ADD {server.url}/d/{name} /out/\n", code=None)
        assert done.code in (0, 125)
        assert "Traceback" not in done.stderr
        if done.code == 0:
            run = ("run", "--rm", "--network", "none", "localhost/built", "grep", "-rl", "evil")
            found = builder.runner(*run, "/out", "/etc", code=None).lines
            assert [os.path.dirname(path) for path in found] == ["/out"]
    finally:
        server.close()
