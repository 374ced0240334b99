"""Contexts made by strangers: archives and repositories that reach for the host.

CVE-2026-44517 and its kin (buildah and others: paths of a git or tar context
that lead outside it), CVE-2026-33748 (BuildKit: the directory of a repository
is a link), CVE-2022-39253 (submodules by ``file:``), credentials that follow a
redirect (CVE-2020-15157), code that a checkout runs.
"""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from podpy.build import context, git
from podpy.build.context import Prepared
from podpy.build.places import Request
from podpy.errors import BuildError, PodpyError
from podpy.paths import Store
from support.fake_registry import Answer, FakeServer
from support.git import GitServer
from support.podpy import Podpy
from support.polling import eventually

Prepare = Callable[..., Prepared]
SECRET = "the host's secret\n"


@pytest.fixture
def secret(directory: Path) -> Path:
    """A file of the host that no build was given."""
    path = directory / "secret"
    path.write_text(SECRET)
    return path


@pytest.fixture
def home(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = directory / "home"
    path.mkdir(exist_ok=True)
    monkeypatch.setenv("HOME", str(path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(directory / "cache"))
    return path


@pytest.fixture
def store(directory: Path, home: Path) -> Store:
    return Store(str(directory / "store"), str(directory / "run"))


@pytest.fixture
def prepare(store: Store, directory: Path) -> Iterator[Prepare]:
    made: list[Prepared] = []

    def run(source: object, *files: str, **more: object) -> Prepared:
        stdin = 0
        if isinstance(source, bytes):
            (directory / "stdin").write_bytes(source)
            stdin = os.open(directory / "stdin", os.O_RDONLY)
            source = "-"
        try:
            request = Request(source=str(source), files=files, stdin=stdin, **more)  # type: ignore[arg-type]
            made.append(context.prepare(store, request))
        finally:
            if stdin:
                os.close(stdin)
        return made[-1]

    yield run
    for each in made:
        with each:
            pass
    assert not os.path.isdir(store.tmp) or os.listdir(store.tmp) == []


@pytest.fixture
def server(directory: Path) -> Iterator[GitServer]:
    (directory / "git").mkdir()
    made = GitServer(directory / "git")
    yield made
    made.close()


@pytest.fixture
def other() -> Iterator[FakeServer]:
    made = FakeServer()
    yield made
    made.close()


def member(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", data: bytes = b""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(data)
    return info, data


def tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w") as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return body.getvalue()


DOCKERFILE = member("Dockerfile", data=b"FROM scratch\n")


# --- archives ------------------------------------------------------------------------


def test_names_that_lead_out_of_an_archive(prepare: Prepare, directory: Path) -> None:
    for name in ("../escaped", "a/../../escaped"):
        with pytest.raises(BuildError, match="leaves the tree"):
            prepare(tar(DOCKERFILE, member(name, data=b"x")))
    made = prepare(tar(DOCKERFILE, member(f"{directory}/escaped", data=b"x")))
    assert os.path.exists(f"{made.directory}{directory}/escaped")
    assert not list(directory.rglob("escaped")) or made.directory in str(
        next(directory.rglob("escaped"))
    )


def test_links_of_an_archive_are_not_walked_through(
    prepare: Prepare, directory: Path, secret: Path
) -> None:
    for link in (str(directory), "../../.."):
        with pytest.raises(BuildError, match="not a directory"):
            prepare(
                tar(DOCKERFILE, member("d", tarfile.SYMTYPE, link), member("d/secret", data=b"x"))
            )
    for target in (str(secret), "../../../../secret", "link"):
        members = (
            member("link", tarfile.SYMTYPE, str(secret)),
            member("hard", tarfile.LNKTYPE, target),
        )
        try:
            made = prepare(tar(DOCKERFILE, *members))
        except BuildError:
            continue
        assert os.path.islink(f"{made.directory}/hard")  # the link itself, never its target
    assert secret.read_text() == SECRET and os.stat(secret).st_nlink == 1


@pytest.mark.parametrize("name", ["Dockerfile", ".dockerignore", "sub"])
def test_files_of_an_archive_are_read_inside_it(prepare: Prepare, secret: Path, name: str) -> None:
    """A Dockerfile or ignore file that is a link to one of the host's files."""
    members = [member(name, tarfile.SYMTYPE, str(secret))]
    if name != "Dockerfile":
        members.append(DOCKERFILE)
    if name == "sub":
        with pytest.raises(BuildError, match="no such file"):
            prepare(tar(*members), "sub")
    elif name == "Dockerfile":
        with pytest.raises(BuildError, match="neither Containerfile nor Dockerfile"):
            prepare(tar(*members))
    else:
        assert prepare(tar(*members)).ignore.texts == ()
    inside = member(str(secret)[1:], data=b"# inside\n")
    if name == "Dockerfile":  # an absolute link means the context's own root
        assert prepare(tar(*members, inside)).dockerfile == "# inside\n"


def test_a_strangers_dockerfile_is_not_preprocessed(prepare: Prepare, secret: Path) -> None:
    """``cpp`` would include whatever file of the host the Dockerfile names."""
    data = f'FROM scratch\n#include "{secret}"\n'.encode()
    with pytest.raises(BuildError, match="stranger"):
        prepare(tar(member("Dockerfile.in", data=data)), "Dockerfile.in")


@pytest.mark.parametrize("name", ["Dockerfile", ".dockerignore"])
def test_a_pipe_in_the_place_of_a_file_does_not_hang(prepare: Prepare, name: str) -> None:
    members = [member(name, tarfile.FIFOTYPE)] + ([DOCKERFILE] if name != "Dockerfile" else [])
    started = time.monotonic()
    with pytest.raises(BuildError):
        prepare(tar(*members))
    assert time.monotonic() - started < 5


def test_devices_of_an_archive_are_refused(prepare: Prepare) -> None:
    with pytest.raises(BuildError, match="is a device"):
        prepare(tar(DOCKERFILE, member("null", tarfile.CHRTYPE)))


@pytest.mark.parametrize("packer", [("gzip", "-1"), ("zstd", "-q")])
def test_a_decompression_bomb_ends_early(
    prepare: Prepare, store: Store, packer: tuple[str, ...]
) -> None:
    info = tarfile.TarInfo("zeroes")
    info.size = 300 << 20
    plain = info.tobuf() + bytes(info.size)
    bomb = subprocess.run([*packer, "-c"], input=plain, stdout=subprocess.PIPE).stdout
    with pytest.raises(PodpyError, match="bomb"):
        prepare(bomb)
    assert os.listdir(store.tmp) == []


# --- git -----------------------------------------------------------------------------


def test_files_of_a_repository_are_read_inside_it(
    prepare: Prepare, server: GitServer, secret: Path
) -> None:
    repository = server.repository("r")
    up = "../" * 30 + str(secret)[1:]
    repository.commit(
        {"ok/Dockerfile": "x"},
        links={
            "Dockerfile": str(secret),
            "up": up,
            "out": str(secret.parent),
            "ok/.dockerignore": up,
        },
    )
    url = f"{server.url}/r.git"
    with pytest.raises(BuildError, match="neither Containerfile nor Dockerfile"):
        prepare(url)
    for file in ("up", "out/secret", "../" * 30 + str(secret)[1:]):
        with pytest.raises(BuildError, match="no such file"):
            prepare(url, file)
    assert prepare(f"{url}#:ok").ignore.texts == ()


@pytest.mark.parametrize("subdir", ["out", "../../../..", "up/..", "/out"])
def test_a_directory_of_a_repository_is_inside_it(
    prepare: Prepare, server: GitServer, store: Store, directory: Path, subdir: str
) -> None:
    """CVE-2026-33748: ``#ref:subdir`` through a link of the repository's."""
    (directory / "Dockerfile").write_text("the host's")
    repository = server.repository("r")
    repository.commit(
        {"Dockerfile": "the repository's"}, links={"out": str(directory), "up": "../.."}
    )
    try:
        made = prepare(f"{server.url}/r.git#:{subdir}")
    except BuildError as error:
        assert "No such file" in str(error)
        return
    assert made.dockerfile == "the repository's"
    assert made.directory.startswith(f"{store.tmp}/")


def test_copies_from_a_repository_stay_inside_it(
    podpy: Podpy, busybox: str, server: GitServer, secret: Path
) -> None:
    """The whole build: links in the context, named by COPY or found by it."""
    repository = server.repository("r")
    up = "../" * 30 + str(secret)[1:]
    links = {"link": str(secret), "up": up, "out": str(secret.parent)}
    for source in ("link", "up", "out/secret", "out/../secret", up):
        repository.commit({"Dockerfile": f"FROM {busybox}\nCOPY {source} /got\n"}, links=links)
        links = {}
        done = podpy("build", "-q", f"{server.url}/r.git", code=None)
        assert done.code != 0 and "not found" in done.stderr, done.stderr
    repository.commit({"Dockerfile": f"FROM {busybox}\nCOPY . /got\n"})
    image = podpy("build", "-q", f"{server.url}/r.git").text
    found = podpy("run", "--rm", image, "cat", "/got/link", "/got/up", "/got/out/secret", code=None)
    assert SECRET not in found.stdout and found.code != 0
    eventually(lambda: podpy.staging() == [])  # `run --rm` deletes after it has answered


CODE = """\
[core]
	fsmonitor = {program}
	hooksPath = {hooks}
	sshCommand = {program}
	pager = {program}
[init]
	templateDir = {template}
[filter "evil"]
	smudge = {program}
	clean = {program}
	process = {program}
	required = true
[credential]
	helper = {program}
[diff]
	external = {program}
[protocol "ext"]
	allow = always
[url "ext::{program}"]
	insteadOf = http://never
"""


def test_fetching_runs_no_code(
    prepare: Prepare,
    server: GitServer,
    directory: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Hooks, filters, monitors and helpers: of the user's settings, the repository's wishes."""
    program, proof = directory / "program", directory / "proof"
    program.write_text(f"#!/bin/sh\necho $0 $@ >> {proof}\ncat\n")
    program.chmod(0o755)
    for place in ("hooks", "template/hooks"):
        (directory / place).mkdir(parents=True)
        for hook in ("post-checkout", "post-index-change", "reference-transaction", "post-merge"):
            (directory / place / hook).symlink_to(program)
    settings = CODE.format(
        program=program, hooks=directory / "hooks", template=directory / "template"
    )
    (home / ".gitconfig").write_text(settings)
    (home / "settings").write_text(settings)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(home / "settings"))
    monkeypatch.setenv("GIT_TEMPLATE_DIR", str(directory / "template"))
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", str(program))
    monkeypatch.setenv("GIT_EXEC_PATH", str(directory))
    monkeypatch.setenv("GIT_DIR", str(directory))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "core.fsmonitor")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", str(program))
    repository = server.repository("r")
    repository.commit({"Dockerfile": "x", ".gitattributes": "* filter=evil", "a": "content"})
    made = prepare(f"{server.url}/r.git", keep_git_dir=True)
    assert Path(made.directory, "a").read_text() == "content"
    assert not proof.exists(), proof.read_text()


@pytest.mark.parametrize(
    ("url", "update", "refusal"),
    [
        ("ext::{program}", "checkout", "transport 'ext' not allowed"),
        ("file://{private}", "checkout", "transport 'file' not allowed"),
        ("{private}", "checkout", "transport 'file' not allowed"),
        ("--upload-pack={program}", "checkout", "No url found"),
        ("fd::3", "checkout", "transport 'fd' not allowed"),
        ("{server}/private.git", "!{program}", "invalid value for"),
    ],
)
def test_a_submodule_may_not_name_just_anything(
    prepare: Prepare, server: GitServer, directory: Path, url: str, update: str, refusal: str
) -> None:
    """CVE-2022-39253 and kin: a submodule on this host's disk, or one that is a program."""
    program, proof = directory / "program", directory / "proof"
    program.write_text(f"#!/bin/sh\ntouch {proof}\n")
    program.chmod(0o755)
    private = server.repository("private")
    repository = server.repository("r")
    words = {"program": program, "private": private.path, "server": server.url}
    commit = private.commit({"secret": SECRET})
    repository.commit(
        {
            "Dockerfile": "x",
            ".gitmodules": f'[submodule "s"]\n\tpath = s\n\turl = {url.format(**words)}\n'
            f"\tupdate = {update.format(**words)}\n",
        }
    )
    (repository.path / "s").mkdir()
    repository("update-index", "--add", "--cacheinfo", f"160000,{commit},s")
    repository("commit", "-q", "-m", "submodule")
    for top in (f"{server.url}/r.git", f"file://{repository.path}"):
        with pytest.raises(BuildError, match=refusal):
            prepare(top)
    assert not proof.exists()


@pytest.mark.parametrize(
    "text",
    [
        "ssh://-oProxyCommand=x/y", "git@-oProxyCommand=x:y", "https://-x/y.git",
        "https://host/x.git#--upload-pack=x", "https://host/x.git#a..b", "https://host/x.git#a:b\0c",
        "https://host/x.git?ref=-x", "git://host/x\ny",
    ],
)  # fmt: skip
def test_addresses_that_are_options(text: str) -> None:
    with pytest.raises(BuildError):
        git.parse(text)


@pytest.mark.parametrize(
    "text", ["ext::sh -c x", "fd::3", "-x", "a.git", "./a.git", "/a.git", "C:x@y"]
)
def test_what_is_no_address(text: str) -> None:
    assert git.parse(text) is None


# --- credentials -----------------------------------------------------------------------


def watched(tmp: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ``git`` before the real one that writes down how it was called."""
    real = subprocess.run(["which", "git"], capture_output=True, text=True).stdout.strip()
    calls = tmp / "calls"
    program = tmp / "bin/git"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {calls}\nexec {real} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return calls


def test_a_password_is_in_no_process_list_file_or_message(
    prepare: Prepare, server: GitServer, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = watched(directory, monkeypatch)
    server.repository("r").commit({"Dockerfile": "x"})
    server.require("Basic bWU6aHVudGVyMg==")  # me:hunter2
    url = f"http://me:hunter2@{server.address}"
    made = prepare(f"{url}/r.git", keep_git_dir=True)
    assert "hunter2" not in calls.read_text()
    search = ["grep", "-r", "hunter2\\|bWU6aHVudGVyMg", made.directory]
    assert subprocess.run(search, stdout=subprocess.DEVNULL).returncode == 1
    for text in (f"{url}/missing.git", f"{url}/r.git#missing", f"{url}/r.git?x=1", f"{url}/x.tar"):
        with pytest.raises(PodpyError) as caught:
            prepare(text)
        assert "hunter2" not in f"{caught.value} {caught.value.hint}"


def test_credentials_follow_no_redirect(
    prepare: Prepare, server: GitServer, other: FakeServer
) -> None:
    server.repository("r").commit({"Dockerfile": "x"})
    other.hooks.append(lambda r: Answer(302, {"Location": f"{server.url}{r.path}"}))
    for attempt in (
        lambda: prepare(f"{other.url}/r.git", secret={"GIT_AUTH_TOKEN": "token"}.get),
        lambda: prepare(f"http://me:token@{other.address}/r.git"),
        lambda: prepare(f"http://me:token@{other.address}/x.tar"),
    ):
        with pytest.raises(PodpyError):
            attempt()
    assert len(set(other.authorizations())) == 2
    assert server.authorizations() == []


def test_a_token_goes_to_encrypted_hosts_only() -> None:
    def header(text: str) -> str:
        repository = git.parse(text)
        assert repository is not None
        return git.authorization(repository, {"GIT_AUTH_TOKEN": "t", "GIT_AUTH_HEADER.a": "h"}.get)

    assert header("https://b/x.git").startswith("Basic ")
    assert header("https://a/x.git") == "h"
    for text in ("http://b/x.git", "http://me:pw@b/x.git", "git://b/x", "git@b:x", "file:///x"):
        assert header(text) == ""


def test_a_header_cannot_carry_settings(prepare: Prepare, server: GitServer) -> None:
    server.repository("r").commit({"Dockerfile": "x"})
    with pytest.raises(BuildError, match="control characters"):
        prepare(f"{server.url}/r.git", secret={"GIT_AUTH_HEADER": "x\n[core]\nfsmonitor=x"}.get)
