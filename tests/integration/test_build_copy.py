"""COPY and ADD as users see them: what the image holds then, and when a layer is made anew."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import images
from support.built_trees import BASE, Builder
from support.fake_registry import Answer, FakeServer, Request
from support.git import GitServer
from support.podpy import Podpy


@pytest.fixture
def builder(podpy: Podpy) -> Builder:
    made = Builder(podpy)
    made.write({"f": "content", "d/one": "1", "d/sub/two": "2", "e/one": "other"})
    return made


def steps(builder: Builder, dockerfile: str, *options: object) -> list[str]:
    """``CACHED`` or ``DONE`` of each step of a build, in the order of the Dockerfile."""
    done = builder.run(dockerfile, "--progress", "plain", *options)
    found: dict[int, str] = {}
    for line in done.stderr.splitlines():
        if match := re.match(r"#(\d+) \[.*\] (COPY|ADD|RUN)", line):
            found.setdefault(int(match[1]), "")
        elif (match := re.match(r"#(\d+) (CACHED|DONE)", line)) and int(match[1]) in found:
            found[int(match[1])] = match[2]
    return [found[number] for number in sorted(found)]


# --- what the image holds -------------------------------------------------------


def test_owners_of_contexts_and_stages(builder: Builder, users_image: str) -> None:
    text = (
        f"FROM {users_image} AS one\nRUN mkdir /o && echo x > /o/f && chown -R 7:8 /o\n"
        f"FROM {users_image}\nCOPY d /ctx\nCOPY --from=one /o /stage\n"
        "COPY --from=one --chown=0:0 /o/f /root-s\nCOPY --chown=alice d /a\n"
        "COPY --chown=alice:staff d /s\nCOPY --chown=5 f /n/f\nCOPY --chown=:staff f /g\n"
    )
    tree = builder.tree(text, "--network", "none")
    expected = {
        "ctx": (0, 0), "ctx/sub/two": (0, 0), "stage": (0, 0), "stage/f": (7, 8),
        "root-s": (0, 0), "a": (1000, 1000), "a/sub/two": (1000, 1000), "s/one": (1000, 50),
        "n": (5, 5), "n/f": (5, 5), "g": (0, 50),
    }  # fmt: skip
    assert {path: tree[path].owner for path in expected} == expected


def test_an_owner_that_does_not_exist(builder: Builder) -> None:
    assert "unable to find user ghost" in builder.fails(f"{BASE}COPY --chown=ghost f /\n")
    assert "must be numeric" in builder.fails(f"{BASE}COPY --link --chown=ghost f /\n")


def test_modes_by_words(builder: Builder) -> None:
    (builder.context / "d/one").chmod(0o711)
    (builder.context / "d/sub").chmod(0o700)
    tree = builder.tree(
        f"{BASE}COPY --chmod=u=rwX,go=rX d /x\nCOPY --chmod=4750 f /y\nCOPY --chmod=g=u d /z\n"
    )
    modes = {path: tree[path].mode for path in ("x/one", "x/sub", "x/sub/two", "y", "z/one")}
    assert modes == {
        "x/one": 0o755, "x/sub": 0o755, "x/sub/two": 0o644, "y": 0o4750, "z/one": 0o771,
    }  # fmt: skip
    assert "neither an octal mode" in builder.fails(f"{BASE}COPY --chmod=q f /\n")


def test_inline_files(builder: Builder) -> None:
    text = (
        f"{BASE}ARG NAME=world\nCOPY --chmod=600 --chown=3 <<ONE <<'TWO' f /in/\n"
        "hello $NAME\nONE\nverbatim $NAME\nTWO\nCOPY <<-EOF /named\n\ttabs go\nEOF\n"
    )
    tree = builder.tree(text)
    one, two = tree["in/ONE"], tree["in/TWO"]
    assert (one.content, one.mode, one.owner) == ("hello world\n", 0o600, (3, 3))
    assert (two.content, tree["in/f"].content) == ("verbatim $NAME\n", "content")
    assert (tree["named"].content, tree["named"].mode) == ("tabs go\n", 0o644)


def test_parents_exclude_and_ignore(builder: Builder) -> None:
    builder.write({".dockerignore": "e\n!e/one\n**/*.log\n", "e/two": "", "d/sub/x.log": ""})
    tree = builder.tree(
        f"{BASE}COPY --parents d/sub/two e/* /p/\nCOPY --parents ./d/./sub /q/\n"
        "COPY --exclude=sub . /r/\nCOPY --exclude=one --exclude=**/two d /s/\n"
    )
    inside = {path for path in tree if path[:2] in ("p/", "q/", "s/")}
    assert inside == {
        "p/d",
        "p/d/sub",
        "p/d/sub/two",
        "p/e",
        "p/e/one",
        "q/sub",
        "q/sub/two",
        "s/sub",
    }
    assert {"r/f", "r/d/one", "r/d/sub", "r/e/one"} <= set(tree)
    assert not {"r/e/two", "r/d/sub/x.log"} & set(tree)


def test_archives_and_what_looks_like_one(builder: Builder) -> None:
    layer = images.Layer().directory("a", 0o711, uid=5).file("a/f", "in", 0o640, uid=5, gid=6)
    builder.write({"a.tgz": gzip.compress(layer.bytes()), "fake.tar.gz": "no archive"})
    tree = builder.tree(
        f"{BASE}ADD a.tgz fake.tar.gz /x/\nADD --unpack=false a.tgz /kept\n"
        "ADD --chown=9:9 a.tgz /owned/\nCOPY a.tgz /copied\n"
    )
    assert (tree["x/a/f"].owner, tree["x/a/f"].mode, tree["x/a"].mode) == ((5, 6), 0o640, 0o711)
    assert tree["x/a/f"].mtime == images.EPOCH
    assert tree["x/fake.tar.gz"].content == "no archive"
    assert tree["owned/a/f"].owner == (9, 9)
    assert (tree["kept"].kind, tree["copied"].kind) == ("file", "file")


def test_a_missing_source_is_named_with_its_line(builder: Builder) -> None:
    error = builder.fails(f"{BASE}\nCOPY f nope /x/\n")
    assert "nope" in error
    assert "Dockerfile:3" in error
    assert (
        "there is no build context"
        in builder.runner.fails("build", "-", input=f"{BASE}COPY f /\n").stderr
        or "not found" in builder.runner.fails("build", "-", input=f"{BASE}COPY f /\n").stderr
    )


def test_a_wildcard_without_match_is_a_warning(builder: Builder) -> None:
    done = builder.run(f"{BASE}COPY nothing* f /x/\n")
    assert "nothing*: no file matches" in done.stderr


# --- the cache ------------------------------------------------------------------


def test_content_counts_and_times_do_not(builder: Builder) -> None:
    text = f"{BASE}COPY d /x\nADD f /y\n"
    assert steps(builder, text) == ["DONE", "DONE"]
    assert steps(builder, text) == ["CACHED", "CACHED"]
    for path in ("d/one", "f"):
        os.utime(builder.context / path, (1, 1))
    assert steps(builder, text) == ["CACHED", "CACHED"]
    builder.write({"unrelated": "x"})
    assert steps(builder, text) == ["CACHED", "CACHED"]
    builder.write({"d/one": "!"})
    assert steps(builder, text) == ["DONE", "DONE"]
    (builder.context / "d/sub/two").chmod(0o755)
    assert steps(builder, text)[0] == "DONE"


def test_the_same_size_and_time_is_not_the_same_content(builder: Builder) -> None:
    """Written twice within a tick of the clock, with its times set back."""
    text = f"{BASE}COPY f /y\n"
    builder.run(text, "-q")
    now = time.time_ns()
    for content in ("aaaaaaa", "bbbbbbb", "ccccccc"):
        builder.write({"f": content})
        os.utime(builder.context / "f", ns=(now, now))
        assert builder.tree(text)["y"].content == content


def test_a_stage_made_anew_with_the_same_files(builder: Builder) -> None:
    """Only what is copied from a stage counts, not that something else in it changed."""
    text = (
        f"{BASE.rstrip()} AS one\nCOPY f /f\nRUN cat /f > /copied; echo same > /same\n"
        f"{BASE}COPY --from=one /same /\nCOPY --from=one /copied /\n"
    )
    builder.run(text, "-q", "--network", "none")
    builder.write({"f": "changed"})
    tree = builder.tree(text, "--network", "none")
    assert tree["copied"].content == "changed"
    builder.write({"f": "changed again"})
    done = builder.run(text, "--progress", "plain", "--network", "none")
    lines = done.stderr.splitlines()
    named = next(line.split()[0] for line in lines if "COPY --from=one /same" in line)
    assert f"{named} CACHED" in lines


def test_link_does_not_depend_on_what_lies_below(builder: Builder) -> None:
    text = "FROM localhost/busybox\nRUN echo {} > /below\nCOPY --link d /x\nCOPY f /y\n"
    assert steps(builder, text.format(1), "--network", "none") == ["DONE", "DONE", "DONE"]
    again = steps(builder, text.format(2), "--network", "none")
    assert again == ["DONE", "CACHED", "DONE"]


def test_no_cache_makes_it_anew(builder: Builder) -> None:
    text = f"{BASE}COPY d /x\n"
    assert steps(builder, text) == ["DONE"]
    assert steps(builder, text, "--no-cache") == ["DONE"]


def test_a_timestamp_makes_the_layer_reproducible(builder: Builder) -> None:
    text = f"{BASE}COPY d /new/path/\nCOPY <<EOF /inline\nx\nEOF\n"
    ids = set()
    for _ in range(2):
        time.sleep(1.1)
        done = builder.run(text, "-q", "--no-cache", "--timestamp", "1000")
        ids.add(done.text)
        os.utime(builder.context / "d/one")
    assert len(ids) == 1
    tree = builder.tree(text, "--timestamp", "1000")
    assert {tree[path].mtime for path in ("new", "new/path/one", "inline")} == {1000}


# --- from servers ---------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[FakeServer]:
    made = FakeServer()
    yield made
    made.close()


def serving(server: FakeServer, files: dict[str, bytes], headers: dict[str, str]) -> None:
    def answer(request: Request) -> Answer:
        body = files.get(request.path)
        if body is None:
            return Answer(404)
        etag = f'"{hashlib.sha256(body).hexdigest()[:8]}"'
        if request.headers.get("if-none-match") == etag:
            return Answer(304)
        return Answer(headers={**headers, "ETag": etag}, body=body)

    server.hooks.append(answer)


def test_urls(builder: Builder, server: FakeServer) -> None:
    layer = images.Layer().file("inside", "x").bytes()
    files = {"/p/name.txt": b"web", "/a.tar": layer}
    serving(server, files, {"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"})
    url = server.url
    tree = builder.tree(
        f"{BASE}ADD {url}/p/name.txt?q=1#x /dir/\n".replace("?q=1#x", "")
        + f"ADD --chmod=755 --chown=4 {url}/p/name.txt /named\nADD {url}/a.tar /tar\n"
        + f"ADD --unpack=true {url}/a.tar /un/\n"
    )
    name, named = tree["dir/name.txt"], tree["named"]
    assert (name.content, name.mode, name.owner, name.mtime) == ("web", 0o600, (0, 0), 1445412480)
    assert (named.mode, named.owner) == (0o755, (4, 4))
    assert (tree["tar"].kind, tree["un/inside"].content) == ("file", "x")


def test_a_url_is_loaded_again_when_it_changed(builder: Builder, server: FakeServer) -> None:
    files = {"/f": b"one"}
    serving(server, files, {})
    text = f"{BASE}ADD {server.url}/f /f\n"
    assert steps(builder, text) == ["DONE"]
    assert steps(builder, text) == ["CACHED"]
    files["/f"] = b"two"
    assert builder.tree(text)["f"].content == "two"


def test_checksums(builder: Builder, server: FakeServer) -> None:
    serving(server, {"/f": b"one"}, {})
    digest = hashlib.sha256(b"one").hexdigest()
    good = f"{BASE}ADD --checksum=sha256:{digest} {server.url}/f /f\n"
    assert steps(builder, good) == ["DONE"]
    asked = len(server.requests)
    assert steps(builder, good) == ["CACHED"]
    assert len(server.requests) == asked, "what has the checksum is here already"
    wrong = f"{BASE}ADD --checksum=sha256:{'0' * 64} {server.url}/f /f\n"
    assert f"sha256:{digest}" in builder.fails(wrong)
    assert "multiple sources" in builder.fails(
        f"{BASE}ADD --checksum=sha256:{digest} {server.url}/f {server.url}/g /x/\n"
    )
    assert "requires an HTTP" in builder.fails(f"{BASE}ADD --checksum=sha256:{digest} f /x\n")


def test_a_url_without_a_name_needs_one(builder: Builder, server: FakeServer) -> None:
    serving(server, {"/": b"root"}, {})
    assert "has no file name" in builder.fails(f"{BASE}ADD {server.url}/ /dir/\n")
    assert builder.tree(f"{BASE}ADD {server.url}/ /file\n")["file"].content == "root"


@pytest.fixture
def git(directory: Path) -> Iterator[GitServer]:
    if shutil.which("git") is None:
        pytest.skip("no program git")
    (directory / "git").mkdir()
    server = GitServer(directory / "git")
    yield server
    server.close()


def test_git(builder: Builder, git: GitServer) -> None:
    repository = git.repository("r")
    first = repository.commit({"README": "one", "sub/f": "f"}, {"link": "README"})
    repository("tag", "v1")
    repository.commit({"README": "two", "run.sh": "#!/bin/sh"})
    (repository.path / "run.sh").chmod(0o755)
    second = repository.commit()
    url = f"{git.url}/r.git"
    tree = builder.tree(
        f"{BASE}ADD {url} /head\nADD {url}#v1 /v1/\nADD {url}#v1:sub /sub\n"
        f"ADD --keep-git-dir=true {url} /kept\nADD --checksum={first[:7]} {url}#v1 /sure\n"
        f"ADD --exclude=sub {url} /less\n"
    )
    assert (tree["head/README"].content, tree["v1/README"].content) == ("two", "one")
    assert (tree["head/run.sh"].mode, tree["head/README"].mode) == (0o755, 0o644)
    assert tree["head/link"].target == "README"
    assert tree["sub/f"].content == "f"
    assert "head/.git" not in tree
    assert "kept/.git/HEAD" in tree
    assert {"less/README"} == {path for path in tree if path in ("less/README", "less/sub")}
    error = builder.fails(f"{BASE}ADD --checksum={second[:7]} {url}#v1 /x\n")
    assert first in error


def test_a_new_commit_is_a_new_layer(builder: Builder, git: GitServer) -> None:
    repository = git.repository("r")
    repository.commit({"f": "one"})
    text = f"{BASE}ADD {git.url}/r.git /r\n"
    assert steps(builder, text) == ["DONE"]
    assert steps(builder, text) == ["CACHED"]
    repository.commit({"f": "two"})
    assert builder.tree(text)["r/f"].content == "two"


def test_git_with_a_token(builder: Builder, git: GitServer) -> None:
    git.repository("r").commit({"f": "private"})
    git.require("Basic eC1hY2Nlc3MtdG9rZW46dG9wc2VjcmV0")  # x-access-token:topsecret
    text = f"{BASE}ADD {git.url}/r.git /r\n"
    builder.fails(text)
    option = ("--secret", "id=GIT_AUTH_TOKEN,env=TOKEN")
    done = builder.run(text, *option, env={"TOKEN": "topsecret"})
    assert "topsecret" not in done.stderr + done.stdout
    image = builder.runner("image", "inspect", "localhost/built").stdout
    assert "topsecret" not in image
