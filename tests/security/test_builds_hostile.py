"""Builds against those who prepare them and those who run beside them: one test per finding.

What belongs to one instruction alone is tested with it (``test_build_copy.py``,
``test_build_run.py``, ``test_build_context.py``, ``test_build_single.py``).
"""

from __future__ import annotations

import json
import os
import stat
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from podpy.build import adding, git, mounts
from podpy.build.config import Draft
from podpy.build.ignore import Ignore, match
from podpy.build.model import Output, Source, Started
from podpy.build.placing import Placer
from podpy.build.selection import Selector
from podpy.cli.build_steps import Step
from podpy.engine import build_cache
from podpy.engine.build_outputs import CachePlace
from podpy.errors import BuildError, ImageError
from podpy.model import Descriptor
from podpy.storage import single
from support.builds import Builds
from support.podpy import BUSYBOX, Podpy
from support.polling import eventually

SAID = "RUN ulimit -n; grep -c . /proc/mounts; id -G; grep Seccomp: /proc/self/status\n"


@pytest.fixture
def build(podpy: Podpy) -> Builds:
    return Builds(podpy)


# --- keys --------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        ("--ulimit", "nofile=100:100"),
        ("--shm-size", "1m"),
        ("--group-add", "7"),
        ("--security-opt", "seccomp=unconfined"),
        ("--security-opt", "no-new-privileges"),
        ("--no-hosts",),
        ("--device", "/dev/null:/dev/another"),
        ("--ipc", "host"),
        ("--dns", "192.0.2.1"),
    ],
)
def test_a_result_is_not_found_under_other_rights(build: Builds, options: tuple[str, ...]) -> None:
    """What a command was allowed is part of what it saw."""
    network = ("--network", "host") if "--dns" in options else ()
    build(SAID, *network)
    assert build(SAID, *network).cached == 1
    assert build(SAID, *network, *options).cached == 0
    assert build(SAID, *network, *options).cached == 1


def test_a_read_only_volume_is_another_one(build: Builds, podpy: Podpy) -> None:
    volume = podpy.directory / "volume"
    volume.mkdir()
    text = "RUN touch /v/made 2>/dev/null && echo written > /result || echo not > /result\n"
    assert build(text, "--volume", f"{volume}:/v").cached == 0
    assert build(text, "--volume", f"{volume}:/v:ro").cached == 0


# --- contexts ----------------------------------------------------------------


def _open(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY)


def test_a_file_that_is_swapped_with_its_times_is_noticed(directory: Path) -> None:
    """Else the cache would keep the new content under the key of the old one."""
    context, target = directory / "context", directory / "target"
    context.mkdir()
    target.mkdir()
    (context / "f").write_text("good")
    status = (context / "f").stat()
    source, root = _open(context), _open(target)
    try:
        since = time.time_ns()
        picks = Selector(source).select(["f"])
        time.sleep(0.02)
        with (context / "f").open("r+") as file:
            file.write("evil")
        os.utime(context / "f", ns=(status.st_atime_ns, status.st_mtime_ns))
        assert (context / "f").stat().st_mtime_ns == status.st_mtime_ns
        with pytest.raises(BuildError, match="f: changed while it was copied"):
            Placer(root, "/f", since=since).place(source, picks)
    finally:
        os.close(source)
        os.close(root)


def test_a_clock_that_was_put_back_does_not_stop_copies(directory: Path) -> None:
    context, target = directory / "context", directory / "target"
    context.mkdir()
    target.mkdir()
    (context / "f").write_text("good")
    source, root = _open(context), _open(target)
    try:
        picks = Selector(source).select(["f"])
        Placer(root, "/f", since=time.time_ns() + 10**9).place(source, picks)
    finally:
        os.close(source)
        os.close(root)
    assert (target / "f").read_text() == "good"


def test_a_writer_beside_the_build_poisons_no_cache(build: Builds) -> None:
    """Whatever a build made of a file while it changed: the next one has its content."""
    text = "COPY f /f\nRUN cat /f\n"
    build.write({"f": "good\n"})
    path = build.context / "f"
    status = path.stat()
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for content in ("evil\n", "good\n"):
                with path.open("r+") as file:
                    file.write(content)
                os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(6):
            build(text, code=None)
    finally:
        stop.set()
        thread.join()
    path.write_text("good\n")
    time.sleep(0.1)
    copied = build("COPY f /f\nRUN cat /f && true\n")
    assert copied.said == ["good"]


# --- git ---------------------------------------------------------------------

NETLOCS = ('x"', '[::1]:"][core]fsmonitor=touch pwned;', "x\\", 'a"b\\"c')


@pytest.mark.parametrize("netloc", NETLOCS)
def test_a_servers_name_is_no_configuration_of_git(directory: Path, netloc: str) -> None:
    from podpy.kernel import process

    repository = git.Repository(remote=f"https://{netloc}/r.git")
    path = directory / "config"
    path.write_text(git._header(repository, "Basic eDp5"))
    program = process.find_program("git")
    done = process.run([program, "config", "-f", str(path), "--list", "--name-only"])
    assert done.code == 0
    names = done.stdout.decode().splitlines()
    assert names == [f"http.https://{netloc}/.{key}" for key in ("extraheader", "followredirects")]


def test_brackets_that_hold_no_address_are_an_error_of_the_user() -> None:
    with pytest.raises(BuildError, match="Invalid IPv6 URL"):
        git.parse("https://x]/r.git")


def test_a_dockerfile_does_not_have_the_users_ssh(build: Builds, directory: Path) -> None:
    """ADD by ssh has the agent of ``--ssh`` and nothing that lies in the user's home."""
    assert adding.repository_of("git@localhost:r") is not None
    own, found = directory / "own", directory / "bin/ssh"
    found.parent.mkdir()
    for program in (own, found):
        program.write_text(f'#!/bin/sh\necho "$0 $@ agent=$SSH_AUTH_SOCK" >> {directory}/calls\n')
        program.chmod(0o755)
    build.podpy.env.update(
        GIT_SSH_COMMAND=str(own),
        GIT_SSH=str(own),
        SSH_AUTH_SOCK="/the/users/agent",
        PATH=f"{found.parent}:{build.podpy.env['PATH']}",
    )
    build("ADD git@localhost:private/r.git /r\n", code=125)
    calls = (directory / "calls").read_text().splitlines()
    assert calls
    for call in calls:
        assert call.startswith(f"{found} ") or "/ssh " in call
        assert str(own) not in call
        assert "-F none" in call
        assert "IdentityFile=none" in call
        assert call.endswith("agent=")


# --- caches of others --------------------------------------------------------


@pytest.mark.parametrize("created", [float("inf"), float("nan"), -1, 1e300, 2**40])
def test_a_cache_from_elsewhere_with_an_impossible_time(created: float) -> None:
    """It would be remembered, and no image could be made with it any more."""
    values = json.loads(json.dumps({"diff_id": "sha256:x", "created": created, "text": ""}))
    blob = Descriptor(media_type="x", digest="sha256:x", size=1)
    place = CachePlace(kind="local", place="/x")
    assert build_cache._checked("a" * 64, values, {"sha256:x": blob}, place) is None


# --- what runs beside a build --------------------------------------------------


def test_pruning_does_not_take_away_what_a_build_stands_on(build: Builds, podpy: Podpy) -> None:
    """A step that was found in the cache stays for the time of the build."""
    first = f"FROM {BUSYBOX}\nRUN echo one > /one\n"
    podpy("rmi", build(first).image)
    file = podpy.directory / "Slow"
    file.write_text(f"{first}RUN echo begun && sleep 3 && echo two > /two\n")
    argv = ("build", "--network", "none", "-t", "slow", "-f", file, build.context)
    running = podpy.start(*argv)
    eventually(lambda: "begun" in running.stderr.replace("echo begun", ""))
    podpy("builder", "prune", "-a", "-f")
    assert running.wait().code == 0
    assert (
        podpy("run", "--rm", "--network", "none", "slow", "cat", "/one", "/two").text == "one\ntwo"
    )


# --- output --------------------------------------------------------------------


def test_output_without_end_of_line_is_not_kept() -> None:
    step = Step(Started(step=1, text="RUN yes | tr -d '\\n'"), 0.0)
    shown = 0
    for _ in range(1000):
        shown += sum(map(len, step.write(Output(step=1, stream=1, data=b"y" * (1 << 16)), 0.0)))
        assert sum(map(len, step.partial.values())) <= 1 << 17
    assert shown > 900 << 16


# --- records of owners -----------------------------------------------------------


@pytest.mark.parametrize("numbers", ["4096:0", "0:1048576", "99999999999999999999:0"])
def test_a_device_with_impossible_numbers_is_none(numbers: str) -> None:
    """No header of an archive has room for them, and no call of the kernel takes them."""
    assert single._parsed(f"0:0:c:{numbers}".encode()) is None
    assert single._parsed(b"0:0:c:4095:1048575") is not None


def test_a_layer_with_made_up_owners_is_an_archive_all_the_same(build: Builds) -> None:
    made = build("RUN touch /f && setfattr -n user.podpy.owner -v 0:0:c:99999999:1 /f || true\n")
    assert made.layers()


def test_links_of_the_destination_are_not_written_through(build: Builds, podpy: Podpy) -> None:
    """``-o``: what a build made comes beside what is there, and never behind it."""
    victim, out = podpy.directory / "victim", podpy.directory / "out"
    victim.mkdir()
    out.mkdir()
    (victim / "secret").write_text("mine")
    (out / "d").symlink_to(victim)
    (out / "f").symlink_to(victim / "secret")
    text = (
        f"FROM {BUSYBOX} AS made\nRUN mkdir /o /o/d && echo x > /o/d/secret && echo x > /o/f"
        " && ln /o/f /o/g && chmod 6755 /o/f\nFROM scratch\nCOPY --from=made /o /\n"
    )
    build(text, "-o", out)
    assert (victim / "secret").read_text() == "mine"
    assert not (out / "d").is_symlink()
    assert not (out / "f").is_symlink()
    assert stat.S_IMODE((out / "f").stat().st_mode) == 0o755


# --- texts that take for ever ------------------------------------------------------


@pytest.mark.parametrize(
    "pattern", ["*a" * 24 + "b", "a*" * 24 + "b", "**/" * 20 + "*a" * 24 + "b"]
)
def test_a_wildcard_takes_no_exponential_time(pattern: str) -> None:
    """Of an ignore file or a COPY: 24 stars took longer than anybody waits."""
    begun = time.monotonic()
    assert not Ignore((pattern,)).excludes("a" * 200)
    assert not match(pattern, "a" * 200)
    assert time.monotonic() - begun < 2


@pytest.mark.parametrize("text", ["$A$A$A", "${A:-$A}$A", "${A//x/$A}", '"${A}${A}"'])
def test_variables_that_double_themselves_are_an_error(build: Builds, text: str) -> None:
    """Thirty lines took all memory of the machine, and no command was run."""
    lines = "".join(f"ENV A={text}\n" for _ in range(40))
    made = build(f"FROM scratch\nENV A={'x' * 64}\n{lines}", code=125)
    assert "expands to more than" in made.error


def test_an_image_does_not_get_a_configuration_that_nobody_reads(build: Builds) -> None:
    lines = "".join(f"LABEL l{number}=$A\n" for number in range(20))
    made = build(f"FROM scratch\nARG A={'x' * 900_000}\n{lines}", code=125)
    assert "configuration would be larger" in made.error


# --- what a command is shown ---------------------------------------------------------


@pytest.mark.parametrize("options", ["", ",rw"])
def test_behind_a_pipe_of_the_context_is_nobody(build: Builds, options: str) -> None:
    """A program of the user's that listens in his directory does not hear the payload."""
    os.mkfifo(build.context / "pipe")
    listening = os.open(build.context / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        build(f"RUN --mount=type=bind,target=/m{options} timeout 1 sh -c 'echo x > /m/pipe' || :\n")
        assert os.read(listening, 10) == b""
    finally:
        os.close(listening)


def test_a_context_that_changes_while_it_is_copied_for_a_mount(directory: Path) -> None:
    """Without overlays (``vfs``): a directory that becomes a link is not walked through."""
    context, victim, aside = directory / "c", directory / "victim", directory / "aside"
    victim.mkdir()
    (victim / "secret").write_text("the secret")
    for number in range(30):
        (context / f"d{number}").mkdir(parents=True)
        (context / f"d{number}/secret").write_text("fine")
    swapped, stop = context / "d15", threading.Event()

    def swap() -> None:
        while not stop.is_set():
            swapped.rename(aside)
            swapped.symlink_to(victim)
            swapped.unlink()
            aside.rename(swapped)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for number in range(150):
            made = directory / f"made{number}"
            with suppress(OSError):
                mounts.copy_visible(Source(directory=str(context)), str(made))
            found = {p.read_text() for p in made.glob("*/secret") if not p.parent.is_symlink()}
            assert found <= {"fine", ""}
    finally:
        stop.set()
        thread.join()


def test_what_is_copied_for_a_mount_is_as_it_was(directory: Path) -> None:
    context, made = directory / "c", directory / "made"
    (context / "d/ignored").mkdir(parents=True)
    (context / "d/f").write_text("content")
    (context / "d/f").chmod(0o751)
    (context / "d/l").symlink_to("/etc/passwd")
    os.mkfifo(context / "d/pipe")
    os.utime(context / "d", (1, 2))
    source = Source(directory=str(context), ignore=Ignore(("d/ignored",)))
    mounts.copy_visible(source, str(made))
    assert sorted(path.name for path in made.rglob("*")) == ["d", "f", "l"]
    assert (made / "d/f").read_text() == "content"
    assert stat.S_IMODE((made / "d/f").stat().st_mode) == 0o751
    assert os.readlink(made / "d/l") == "/etc/passwd"
    assert (made / "d").stat().st_mtime == 2


# --- base images -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"history": ["x"]}, "history is not a list"),
        ({"history": 5}, "history is not a list"),
        ({"config": {"OnBuild": [1]}}, "OnBuild is not a list"),
        ({"config": {"OnBuild": "RUN x"}}, "OnBuild is not a list"),
    ],
)
def test_configurations_of_other_forms_are_told(document: dict[str, Any], reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        Draft(document)
