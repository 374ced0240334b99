"""Where a build's files come from: real directories, archives, git and web servers."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import hashlib
import io
import lzma
import os
import socket
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from podpy.build import context
from podpy.build.context import Prepared
from podpy.build.places import Request
from podpy.errors import BuildError
from podpy.paths import Store
from support import polling
from support.fake_registry import Answer, FakeServer
from support.git import ENVIRONMENT, GitServer
from support.podpy import Podpy

Prepare = Callable[..., Prepared]
DOCKERFILE = "FROM scratch\nCOPY a /\n"


@pytest.fixture
def store(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("XDG_CACHE_HOME", str(directory / "cache"))
    return Store(str(directory / "store"), str(directory / "run"))


@pytest.fixture
def prepare(store: Store) -> Iterator[Prepare]:
    """Prepares a build's input; proves that nothing stays in the store's staging area."""
    made: list[Prepared] = []

    def run(
        source: object = "", *files: object, stdin: bytes | None = None, **more: object
    ) -> Prepared:
        fd = os.open("/dev/null", os.O_RDONLY) if stdin is None else sent(stdin)
        try:
            request = Request(source=str(source), files=tuple(map(str, files)), stdin=fd, **more)  # type: ignore[arg-type]
            made.append(context.prepare(store, request))
        finally:
            os.close(fd)
        return made[-1]

    yield run
    for each in made:
        with each:
            pass
    assert not os.path.isdir(store.tmp) or os.listdir(store.tmp) == []


def sent(data: bytes) -> int:
    """A pipe's end that gives these bytes."""
    reading, writing = os.pipe()

    def write() -> None:
        with contextlib.suppress(BrokenPipeError), os.fdopen(writing, "wb", buffering=0) as pipe:
            pipe.write(data)

    threading.Thread(target=write, daemon=True).start()
    return reading


@pytest.fixture
def tree(directory: Path) -> Path:
    """A context of the user's."""
    path = directory / "context"
    path.mkdir()
    (path / "a").write_text("a")
    return path


@pytest.fixture
def web() -> Iterator[FakeServer]:
    server = FakeServer()
    yield server
    server.close()


@pytest.fixture
def server(directory: Path) -> Iterator[GitServer]:
    (directory / "git").mkdir()
    made = GitServer(directory / "git")
    yield made
    made.close()


def tar(files: dict[str, str]) -> bytes:
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.uid, info.gid = len(text), 1_000_000, 12345, 54321
            archive.addfile(info, io.BytesIO(text.encode()))
    return body.getvalue()


def zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-q", "-c"], input=data, stdout=subprocess.PIPE).stdout


def files(directory: str) -> list[str]:
    return sorted(
        os.path.relpath(os.path.join(top, name), directory)
        for top, _, names in os.walk(directory)
        for name in names
    )


# --- directories -----------------------------------------------------------------


def test_a_directory_is_read_where_it_lies(tree: Path, prepare: Prepare, store: Store) -> None:
    (tree / "Dockerfile").write_text(DOCKERFILE)
    made = prepare(tree)
    assert (made.directory, made.dockerfile) == (str(tree), DOCKERFILE)
    assert made.dockerfile_name == "Dockerfile"
    assert not os.path.exists(store.tmp)


@pytest.mark.parametrize(
    ("present", "taken"),
    [
        (("Containerfile", "Dockerfile"), "Containerfile"),
        (("Dockerfile", "dockerfile"), "Dockerfile"),
        (("dockerfile",), "dockerfile"),
    ],
)
def test_names_of_the_dockerfile(
    tree: Path, prepare: Prepare, present: tuple[str, ...], taken: str
) -> None:
    for name in present:
        (tree / name).write_text(name)
    assert prepare(tree).dockerfile == taken


def test_f_is_relative_to_the_caller_then_to_the_context(
    tree: Path, directory: Path, prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(directory)
    (tree / "sub").mkdir()
    (tree / "sub/My.Dockerfile").write_text("inside")
    assert prepare("context", "sub/My.Dockerfile").dockerfile == "inside"
    (directory / "sub").mkdir()
    (directory / "sub/My.Dockerfile").write_text("outside")
    assert prepare("context", "sub/My.Dockerfile").dockerfile == "outside"
    assert prepare("context", directory / "sub/My.Dockerfile").dockerfile == "outside"
    (directory / "sub/Containerfile").write_text("of the directory")
    assert prepare("context", "sub").dockerfile == "of the directory"


def test_without_a_context_it_is_the_dockerfiles_directory(
    tree: Path, prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree / "sub").mkdir()
    (tree / "sub/Dockerfile").write_text("x")
    monkeypatch.chdir(tree)
    assert prepare("", "sub/Dockerfile").directory == str(tree / "sub")
    (tree / "Dockerfile").write_text("y")
    assert prepare().directory == str(tree)


def test_several_dockerfiles_are_one(tree: Path, prepare: Prepare) -> None:
    for name in "xy":
        (tree / name).write_text(f"# {name}")
    assert prepare(tree, tree / "x", tree / "y").dockerfile == "# x\n# y"


def test_the_dockerfile_on_standard_input(tree: Path, prepare: Prepare) -> None:
    made = prepare(tree, "-", stdin=DOCKERFILE.encode())
    assert (made.directory, made.dockerfile) == (str(tree), DOCKERFILE)


def test_the_dockerfile_from_a_pipe_of_the_shell(tree: Path, prepare: Prepare) -> None:
    fd = sent(DOCKERFILE.encode())
    made = prepare(tree, f"/dev/fd/{fd}")
    os.close(fd)
    assert (made.dockerfile, made.dockerfile_name) == (DOCKERFILE, "Dockerfile")


def test_a_dockerfile_in_goes_through_the_preprocessor(tree: Path, prepare: Prepare) -> None:
    if not any((Path(p) / "cpp").exists() for p in os.environ["PATH"].split(":")):
        pytest.skip("no cpp")
    (tree / "part").write_text("RUN two\n")
    (tree / "Containerfile.in").write_text('FROM x\n#include "part"\nRUN NAME\n')
    made = prepare(tree, tree / "Containerfile.in", preprocessor=("-DNAME=three",))
    assert made.dockerfile.split() == ["FROM", "x", "RUN", "two", "RUN", "three"]


@pytest.mark.parametrize(
    ("source", "files", "message"),
    [
        ("missing", (), "no such directory"),
        ("context/a", (), "is not a directory"),
        ("context", (), "neither Containerfile nor Dockerfile"),
        ("context", ("missing",), "-f missing: no such file"),
        ("-", ("-",), "cannot be both"),
    ],
)
def test_what_is_missing_is_said(
    tree: Path, directory: Path, prepare: Prepare, monkeypatch: pytest.MonkeyPatch,
    source: str, files: tuple[str, ...], message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(directory)
    with pytest.raises(BuildError, match=message):
        prepare(source, *files, stdin=tar({"a": "a"}))


# --- ignore files ------------------------------------------------------------------


def test_which_ignore_file_is_read(tree: Path, directory: Path, prepare: Prepare) -> None:
    (tree / "Dockerfile").write_text("x")
    (directory / "given").write_text("given")
    names = (
        ".dockerignore", ".containerignore", "Dockerfile.dockerignore", "Dockerfile.containerignore"
    )  # fmt: skip
    assert prepare(tree).ignore.texts == ()
    for name in names:  # each wins over those before it
        (tree / name).write_text(name)
        assert prepare(tree).ignore.texts == (name,)
    assert prepare(tree, ignore_file=str(directory / "given")).ignore.texts == ("given",)
    assert prepare(tree, "-", stdin=b"x").ignore.texts == (".containerignore",)


def test_the_ignore_file_beside_a_dockerfile_elsewhere(
    tree: Path, directory: Path, prepare: Prepare
) -> None:
    (directory / "my.file").write_text("x")
    (directory / "my.file.dockerignore").write_text("mine")
    (tree / ".dockerignore").write_text("theirs")
    assert prepare(tree, directory / "my.file").ignore.texts == ("mine",)


def test_an_ignored_dockerfile_is_read(tree: Path, prepare: Prepare) -> None:
    (tree / "Dockerfile").write_text("x")
    (tree / ".dockerignore").write_text("*\n")
    made = prepare(tree)
    assert made.dockerfile == "x" and made.ignore.excludes("Dockerfile")


def test_a_malformed_pattern_names_the_file(tree: Path, prepare: Prepare) -> None:
    (tree / "Dockerfile").write_text("x")
    (tree / ".dockerignore").write_text("a\n[\n")
    with pytest.raises(BuildError, match=r"\.dockerignore: '\['"):
        prepare(tree)


# --- archives ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "packed", [bytes, gzip.compress, bz2.compress, lzma.compress, zstd], ids=lambda f: f.__name__
)
def test_an_archive_on_standard_input(prepare: Prepare, packed: Callable[[bytes], bytes]) -> None:
    data = tar(
        {"./Dockerfile": DOCKERFILE, "./a": "a", "b/c": "c", ".wh.x": "", ".dockerignore": "b"}
    )
    made = prepare("-", stdin=packed(data))
    assert made.dockerfile == DOCKERFILE
    assert files(made.directory) == [".dockerignore", ".wh.x", "Dockerfile", "a", "b/c"]
    assert made.ignore.texts == ("b",)
    status = os.stat(f"{made.directory}/a")
    assert (status.st_uid, status.st_mtime, status.st_mode & 0o777) == (os.getuid(), 1e6, 0o644)


def test_directories_of_an_archive_keep_their_modes(prepare: Prepare) -> None:
    """One that its owner may not write to is filled, and deleted afterwards, all the same."""
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w") as archive:
        for name, mode in (("ro", 0o555), ("ro/closed", 0)):
            info = tarfile.TarInfo(name)
            info.type, info.mode = tarfile.DIRTYPE, mode
            archive.addfile(info)
        for name in ("Dockerfile", "ro/f", "ro/closed/f"):
            archive.addfile(tarfile.TarInfo(name))
    directory = prepare("-", stdin=body.getvalue()).directory
    assert os.stat(f"{directory}/ro").st_mode & 0o7777 == 0o555
    assert os.stat(f"{directory}/ro/closed").st_mode & 0o7777 == 0


def test_a_dockerfile_of_an_archive_by_name(prepare: Prepare) -> None:
    data = tar({"sub/x": "FROM x", "sub/x.dockerignore": "y"})
    made = prepare("-", "sub/x", stdin=data)
    assert (made.dockerfile, made.dockerfile_name) == ("FROM x", "sub/x")
    assert made.ignore.texts == ("y",)


def test_a_dockerfile_on_standard_input_has_no_context(prepare: Prepare) -> None:
    made = prepare("-", stdin=DOCKERFILE.encode())
    assert made.dockerfile == DOCKERFILE
    assert os.listdir(made.directory) == []


def test_an_empty_dockerfile_is_one(prepare: Prepare) -> None:
    assert prepare("-", stdin=b"").dockerfile == ""


def test_compressed_text_is_no_context(prepare: Prepare) -> None:
    with pytest.raises(BuildError, match="is compressed"):
        prepare("-", stdin=gzip.compress(b"FROM x"))


def test_a_truncated_archive_leaves_nothing(prepare: Prepare, store: Store) -> None:
    data = gzip.compress(tar({"Dockerfile": "x", "a": "a" * 100_000}))
    with pytest.raises(BuildError):
        prepare("-", stdin=data[: len(data) // 2])
    assert os.listdir(store.tmp) == []


# --- downloads ---------------------------------------------------------------------


def serve(web: FakeServer, pages: dict[str, bytes], **headers: str) -> None:
    def hook(request: object) -> Answer | None:
        path = request.path  # type: ignore[attr-defined]
        return Answer(200, dict(headers), pages[path]) if path in pages else None

    web.hooks.append(hook)


def test_an_archive_by_url(prepare: Prepare, web: FakeServer) -> None:
    serve(web, {"/ctx": gzip.compress(tar({"Dockerfile": DOCKERFILE, "a": "a"}))})
    made = prepare(f"{web.url}/ctx")
    assert files(made.directory) == ["Dockerfile", "a"]


def test_a_dockerfile_by_url(prepare: Prepare, web: FakeServer, tree: Path) -> None:
    serve(web, {"/Dockerfile": DOCKERFILE.encode()})
    assert prepare(f"{web.url}/Dockerfile").dockerfile == DOCKERFILE
    assert prepare(tree, f"{web.url}/Dockerfile").dockerfile == DOCKERFILE
    with pytest.raises(BuildError, match="404"):
        prepare(f"{web.url}/missing")


def test_a_web_page_is_no_dockerfile(prepare: Prepare, web: FakeServer) -> None:
    serve(web, {"/owner/name": b"<!DOCTYPE html><html></html>"})
    with pytest.raises(BuildError, match="is a web page") as caught:
        prepare(f"{web.url}/owner/name")
    assert ".git" in caught.value.hint


def test_what_did_not_change_does_not_travel(prepare: Prepare, web: FakeServer) -> None:
    body = tar({"Dockerfile": "x"})

    def hook(request: object) -> Answer | None:
        if request.headers.get("if-none-match") == '"1"':  # type: ignore[attr-defined]
            return Answer(304)
        return Answer(200, {"ETag": '"1"'}, body)

    web.hooks.append(hook)
    for _ in range(3):
        assert prepare(f"{web.url}/x.tar").dockerfile == "x"
    assert [bool(r.headers.get("if-none-match")) for r in web.requests] == [False, True, True]


# --- git ---------------------------------------------------------------------------


def test_a_git_repository(prepare: Prepare, server: GitServer) -> None:
    repository = server.repository("r")
    repository.commit({"Dockerfile": DOCKERFILE, "a": "a", "bin/run": "#!"})
    (repository.path / "bin/run").chmod(0o755)
    repository.commit()
    before = os.umask(0o077)
    try:
        made = prepare(f"{server.url}/r.git")
    finally:
        os.umask(before)
    assert made.dockerfile == DOCKERFILE
    assert files(made.directory) == ["Dockerfile", "a", "bin/run"]
    modes = [os.stat(f"{made.directory}/{n}").st_mode & 0o777 for n in ("a", "bin", "bin/run")]
    assert modes == [0o644, 0o755, 0o755]


def test_refs_and_directories_of_a_git_repository(prepare: Prepare, server: GitServer) -> None:
    repository = server.repository("r")
    first = repository.commit({"Dockerfile": "first", "sub/Dockerfile": "sub first"})
    repository("tag", "-a", "-m", "x", "v1")
    repository("branch", "side")
    repository("update-ref", "refs/pull/7/head", first)
    repository.commit({"Dockerfile": "last", "sub/Dockerfile": "sub last"})
    url = f"{server.url}/r.git"
    for suffix, text in {
        "": "last",
        "#main": "last",
        "#v1": "first",
        "#side": "first",
        f"#{first}": "first",
        f"#{first[:9]}": "first",
        "#refs/tags/v1": "first",
        "#pull/7/head": "first",
        "#:sub": "sub last",
        "#side:sub": "sub first",
        "?tag=v1": "first",
        "?branch=side&subdir=sub": "sub first",
        "?ref=pull/7/head": "first",
        f"?tag=v1&checksum={first[:8]}": "first",
        f"?commit={first}&ref=side": "first",
    }.items():
        assert prepare(url + suffix).dockerfile == text, suffix
    for suffix, message in {
        "#missing": "missing",
        "#:missing": "No such file",
        "?tag=side": "side",
        f"?branch=main&checksum={first[:8]}": f"not {first[:8]}",
        "?what=1": "unknown query",
        "?ref=a#b": "two different values",
        "#--upload-pack=x": "no name",
        "?submodules=maybe": "neither true nor false",
    }.items():
        with pytest.raises(BuildError, match=message):
            prepare(url + suffix)


def test_times_of_a_commit(prepare: Prepare, server: GitServer) -> None:
    repository = server.repository("r")
    commit = repository.commit({"Dockerfile": "x", "sub/a": "a"}, links={"sub/link": "a"})
    repository.commit({"Dockerfile": "y"})
    url = f"{server.url}/r.git?branch=main&checksum={commit}&fetch-by-commit=1&mtime=commit"
    made = prepare(url)
    assert made.dockerfile == "x"
    names = ("", "sub", "sub/a", "sub/link", "Dockerfile")
    assert {os.lstat(f"{made.directory}/{n}").st_mtime for n in names} == {1577836800.0}
    with pytest.raises(BuildError, match="needs a whole checksum"):
        prepare(f"{server.url}/r.git?checksum={commit[:9]}&fetch-by-commit=1")
    with pytest.raises(BuildError, match="neither checkout nor commit"):
        prepare(f"{server.url}/r.git?mtime=now")


def test_the_git_directory_stays_on_request(prepare: Prepare, server: GitServer) -> None:
    server.repository("r").commit({"Dockerfile": "x"})
    url = f"{server.url}/r.git"
    assert not os.path.exists(f"{prepare(url).directory}/.git")
    for made in (prepare(url, keep_git_dir=True), prepare(f"{url}?keep-git-dir=1")):
        argv = ["git", "-C", made.directory, "status", "--porcelain"]
        assert subprocess.run(argv, env=ENVIRONMENT, capture_output=True).stdout == b""
    assert not os.path.exists(
        f"{prepare(f'{url}?keep-git-dir=0', keep_git_dir=True).directory}/.git"
    )


def test_submodules(prepare: Prepare, server: GitServer) -> None:
    inner = server.repository("inner")
    inner.commit({"deep": "x"})
    outer = server.repository("outer")
    outer.commit({"Dockerfile": "x"})
    for name in ("one", "two"):
        outer(
            "-c", "protocol.allow=always", "submodule", "add", "-q", f"{server.url}/inner.git", name
        )
    outer("config", "-f", ".gitmodules", "submodule.two.url", "../inner.git")
    outer.commit()
    url = f"{server.url}/outer.git"
    made = prepare(url)
    assert files(made.directory) == [".gitmodules", "Dockerfile", "one/deep", "two/deep"]
    assert files(prepare(f"{url}?submodules=false").directory) == [".gitmodules", "Dockerfile"]


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_git_by_its_own_protocol_and_by_file(
    prepare: Prepare, server: GitServer, directory: Path
) -> None:
    server.repository("r").commit({"Dockerfile": DOCKERFILE})
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    argv = ["git", "daemon", "--export-all", "--listen=127.0.0.1", f"--port={port}",
            f"--base-path={server.root}", "--reuseaddr"]  # fmt: skip
    daemon = subprocess.Popen(argv, env=ENVIRONMENT, stderr=subprocess.DEVNULL)
    try:
        polling.eventually(lambda: _listens(port))
        assert prepare(f"git://127.0.0.1:{port}/r.git#main").dockerfile == DOCKERFILE
    finally:
        daemon.terminate()
        daemon.wait()
    assert prepare(f"file://{server.root}/r.git").dockerfile == DOCKERFILE


@pytest.mark.parametrize("form", ["git@localhost:{path}", "ssh://git@localhost{path}"])
def test_git_by_ssh(
    prepare: Prepare, server: GitServer, directory: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """The program that stands for ssh runs what it is told to run on the other machine."""
    server.repository("r").commit({"Dockerfile": DOCKERFILE})
    program = directory / "ssh"
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {directory}/calls\nfor last; do :; done\neval "$last"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("GIT_SSH_COMMAND", str(program))
    made = prepare(form.format(path=server.root / "r.git"))
    assert made.dockerfile == DOCKERFILE
    assert "git@localhost git-upload-pack" in (directory / "calls").read_text()


def test_what_ssh_says_is_told(prepare: Prepare, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_SSH_COMMAND", "echo no such luck >&2; false")
    with pytest.raises(BuildError, match="no such luck; Could not read"):
        prepare("git@localhost:x/y")


def test_an_existing_directory_wins_over_a_short_address(
    tree: Path, prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tree / "github.com/owner/name"
    path.mkdir(parents=True)
    (path / "Dockerfile").write_text("here")
    monkeypatch.chdir(tree)
    assert prepare("github.com/owner/name").dockerfile == "here"


def test_a_token_for_git(prepare: Prepare, server: GitServer) -> None:
    server.repository("r").commit({"Dockerfile": "x"})
    server.require("Basic eC1hY2Nlc3MtdG9rZW46czNjcmV0")  # x-access-token:s3cret
    url = f"{server.url}/r.git"
    with pytest.raises(BuildError):
        prepare(url)
    made = prepare(url, secret={"GIT_AUTH_TOKEN": "s3cret\n"}.get, keep_git_dir=True)
    assert made.dockerfile == "x"
    kept = subprocess.run(["grep", "-rl", "s3cret\\|eC1hY2Nlc3MtdG9rZW4", made.directory])
    assert kept.returncode == 1


# --- named contexts ------------------------------------------------------------------


def test_named_contexts(
    tree: Path, directory: Path, prepare: Prepare, server: GitServer, web: FakeServer
) -> None:
    (tree / "Dockerfile").write_text("x")
    other = directory / "other"
    other.mkdir()
    (other / ".dockerignore").write_text("secret")
    server.repository("r").commit({"sub/file": "x"})
    serve(web, {"/x.tar": tar({"f": "f"})})
    named = {
        "dir": str(other),
        "Alpine:latest": "docker-image://alpine:3.20",
        "base": "container-image://localhost/base",
        "layout": f"oci-layout://{other}/layout:v1",
        "git": f"{server.url}/r.git#:sub",
        "archive": f"{web.url}/x.tar",
        "unused": f"{web.url}/not-there",
    }
    made = prepare(tree, named=named).named
    source = made["dir"].source()
    assert (source.directory, source.name) == (str(other), "dir")
    assert source.ignore is not None and source.ignore.texts == ("secret",)
    for name in ("alpine", "docker.io/library/alpine", "ALPINE"):
        assert (made[name].kind, made[name].reference) == ("image", "alpine:3.20")
    assert made["base"].reference == "localhost/base"
    assert made["layout"].reference == f"oci-layout://{other}/layout:v1"
    assert files(made["git"].source().directory) == ["file"]
    assert files(made["archive"].source().directory) == ["f"]
    assert made.get("nothing") is None and "alpine:3" not in made
    assert [r.path for r in web.requests] == ["/x.tar"]
    with pytest.raises(BuildError, match="404"):
        made["unused"].source()


def test_a_download_with_a_checksum(store: Store, web: FakeServer) -> None:
    from podpy.build import remote

    serve(web, {"/dir/file.txt": b"content"}, **{"Last-Modified": "Sun, 06 Nov 1994 08:49:37 GMT"})
    url = f"{web.url}/dir/file.txt"
    right = "sha256:" + hashlib.sha256(b"content").hexdigest()
    with remote.fetch_url(url, checksum=right) as made:
        assert (made.digest, made.size, made.name) == (right, 7, "file.txt")
        assert (made.modified, made.was_cached) == (784111777, False)
        assert b"".join(made.chunks()) == b"content"
    with remote.fetch_url(url, checksum=right) as made:  # known: nobody is asked
        assert made.was_cached and len(web.requests) == 1
    long = "sha512:" + hashlib.sha512(b"content").hexdigest()
    remote.fetch_url(url, checksum=long).__exit__()
    for wrong in ("sha256:" + "0" * 64, "sha512:" + "0" * 128):
        with pytest.raises(BuildError, match=f"its checksum is .*, not {wrong}"):
            remote.fetch_url(url, checksum=wrong)
    for malformed in ("md5:x", "sha256:abc", "0" * 64):
        with pytest.raises(BuildError, match="is not sha256:"):
            remote.fetch_url(url, checksum=malformed)
    with pytest.raises(BuildError, match="more than 3 bytes"):
        remote.fetch_url(url, limit=3)
    [stored] = remote.every()
    assert (stored.url, len(stored.paths)) == (url, 2)
    os.unlink(stored.paths[0])  # the data; its description alone answers nothing
    with remote.fetch_url(url, checksum=right) as made:
        assert not made.was_cached


def test_a_download_that_breaks_off_is_begun_again(store: Store, web: FakeServer) -> None:
    from podpy.build import remote

    body = os.urandom(100_000)
    cuts = [50_000, None]

    def hook(_: object) -> Answer:
        return Answer(
            200, {"Content-Disposition": 'attachment; filename="../x.bin"'}, body, cuts.pop(0)
        )

    web.hooks.append(hook)
    with remote.fetch_url(f"{web.url}/y") as made:
        assert b"".join(made.chunks()) == body
        assert made.name == "x.bin"
    cuts += [1, 1, 1]
    with pytest.raises(BuildError, match="broke off"):
        remote.fetch_url(f"{web.url}/y")


# --- through the command ---------------------------------------------------------------


def built(podpy: Podpy, *arguments: object, **options: object) -> str:
    """Build quietly; the image's id."""
    return podpy("build", "-q", *arguments, **options).text  # type: ignore[arg-type]


def shows(podpy: Podpy, image: str, *command: str) -> str:
    return podpy("run", "--rm", "--network", "none", image, *command).text


def test_every_form_of_one_context_gives_one_image(
    podpy: Podpy, busybox: str, tree: Path, server: GitServer, web: FakeServer
) -> None:
    text = f"FROM {busybox}\nCOPY . /ctx/\n"
    repository = server.repository("r")
    for place in (tree, repository.path):
        (place / "Dockerfile").write_text(text)
        (place / "a").write_text("a")
        for name in ("Dockerfile", "a"):
            (place / name).chmod(0o644)
        place.chmod(0o755)
    repository.commit()
    body = gzip.compress(tar({"Dockerfile": text, "a": "a"}))
    serve(web, {"/ctx.tar.gz": body})
    epoch = ("--timestamp", "1000000", "--no-cache")
    images = {
        built(podpy, *epoch, tree),
        built(podpy, *epoch, "-f", "-", tree, input=text.encode()),
        built(podpy, *epoch, f"{web.url}/ctx.tar.gz"),
        built(podpy, *epoch, f"{server.url}/r.git"),
        built(podpy, *epoch, f"file://{repository.path}"),
        built(podpy, *epoch, "-", input=body),
    }
    assert len(images) == 1
    polling.eventually(lambda: podpy.staging() == [])  # deleted after the answer


def test_an_ignored_directory_is_not_looked_into(podpy: Podpy, busybox: str, tree: Path) -> None:
    (tree / "Dockerfile").write_text(f"FROM {busybox}\nCOPY . /ctx/\n")
    (tree / ".dockerignore").write_text("closed\n**/*.log\n!keep.log\n")
    for name in ("x.log", "keep.log", "closed/y"):
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).write_text(name)
    (tree / "closed").chmod(0)
    try:
        image = built(podpy, tree)
    finally:
        (tree / "closed").chmod(0o700)
    found = shows(podpy, image, "find", "/ctx", "-type", "f").split()
    assert sorted(found) == [
        f"/ctx/{name}" for name in (".dockerignore", "Dockerfile", "a", "keep.log")
    ]
    (tree / "Dockerfile").write_text(f"FROM {busybox}\nCOPY closed /x\n")
    assert "not found" in podpy.fails("build", tree).stderr


def test_an_unchanged_context_is_a_cached_build(podpy: Podpy, busybox: str, tree: Path) -> None:
    (tree / "Dockerfile").write_text(f"FROM {busybox}\nCOPY . /ctx/\n")
    (tree / ".dockerignore").write_text("noise\n")
    first = built(podpy, tree)
    (tree / "noise").write_text("ignored")
    os.utime(tree / "a", ns=(5, 5))
    assert built(podpy, tree) == first
    (tree / "a").write_text("b")
    second = built(podpy, tree)
    assert second != first and shows(podpy, second, "cat", "/ctx/a") == "b"
    (tree / "a").chmod(0o600)
    assert built(podpy, tree) not in (first, second)


def test_named_contexts_of_a_build(
    podpy: Podpy, busybox: str, tree: Path, directory: Path, server: GitServer
) -> None:
    other = directory / "other"
    (other / "sub").mkdir(parents=True)
    for name in ("f", "secret", "sub/g"):
        (other / name).write_text(name)
    (other / ".dockerignore").write_text("secret\n")
    server.repository("r").commit({"dir/h": "of git"})
    podpy("save", "-q", "--format", "oci-dir", "-o", directory / "layout", busybox)
    (tree / "Dockerfile").write_text(
        f"FROM {busybox} AS replaced\nRUN false\n"
        "FROM rootfs AS files\n"
        "FROM layout\n"
        "COPY --from=replaced / /replaced\n"
        "COPY --from=files /sub /files\n"
        "COPY --from=code . /code\n"
        "RUN --mount=from=rootfs,target=/m ls /m > /seen\n"
    )
    image = built(
        podpy,
        "--build-context", f"replaced={other}",
        "--build-context", f"rootfs={other}",
        "--build-context", f"code={server.url}/r.git#:dir",
        "--build-context", f"layout=oci-layout://{directory}/layout",
        "--network", "none",
        tree,
    )  # fmt: skip
    found = shows(podpy, image, "sh", "-c", "find /replaced /files /code -type f | sort; cat /seen")
    assert found.split() == [
        "/code/h", "/files/g", "/replaced/.dockerignore", "/replaced/f", "/replaced/sub/g",
        "f", "sub",
    ]  # fmt: skip


def test_fetching_is_a_step_of_the_build(
    podpy: Podpy, busybox: str, web: FakeServer, server: GitServer
) -> None:
    server.repository("r").commit({"f": "x"})
    text = f"FROM {busybox}\nCOPY --from=code f /\n"
    serve(web, {"/ctx": tar({"Dockerfile": text})})
    code = f"code={server.url}/r.git"
    said = podpy("build", "--progress", "plain", "--build-context", code, f"{web.url}/ctx").stderr
    assert f"#1 [internal] load {web.url}/ctx\n" in said
    assert f"[internal] load git source {server.url}/r.git\n" in said
    server.close()
    said = podpy("build", "--progress", "plain", f"{server.url}/r.git", code=125).stderr
    assert "#1 ERROR" in said, said


def test_what_contexts_leave_in_the_cache_is_pruned(
    podpy: Podpy, busybox: str, tree: Path, web: FakeServer
) -> None:
    serve(web, {"/Dockerfile": f"FROM {busybox}\nCOPY . /ctx/\n".encode()})
    os.utime(tree / "a", ns=(1, 1))
    polling.eventually(lambda: time.time() - (tree / "a").stat().st_ctime > 0.1)
    built(podpy, "-f", f"{web.url}/Dockerfile", tree)
    cache = Path(podpy.env["XDG_CACHE_HOME"], "podpy/build")
    kept = {name: os.listdir(cache / name) for name in ("http", "stat")}
    assert all(kept.values()), kept
    podpy("builder", "prune", "-f", "--filter", "type=source.http")
    assert os.listdir(cache / "http") == [] and os.listdir(cache / "stat") != []
    podpy("builder", "prune", "-f", "-a")
    assert os.listdir(cache / "stat") == []
