"""RUN without running it: words, variables, keys, devices by name, what is hidden and cleared."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from podpy import files
from podpy.build import cdi, dockerfile, mounts, run_plan, running
from podpy.build.ignore import Ignore
from podpy.build.instructions import Run
from podpy.build.model import RunWork, Source
from podpy.build.run_settings import Settings
from podpy.errors import BuildError, HostError
from podpy.kernel import libc
from podpy.model import ContainerRecord, LogConfig, UserNamespace
from podpy.netmodel import NetworkMode
from podpy.records import replace
from podpy.runtime import stubs

TEMPLATE = ContainerRecord(
    id="i",
    name="n",
    created=0.0,
    argv=(),
    network=NetworkMode(kind="none"),
    user_namespace=UserNamespace(),
    log=LogConfig(),
    sysctls={"net.ipv4.ping_group_range": "0 0", "kernel.msgmax": "1"},
)
SETTINGS = Settings(template=TEMPLATE, driver=lambda record, directory: None)


def work(text: str, **fields: object) -> RunWork:
    instruction = dockerfile.parse(f"FROM scratch\n{text}", "Dockerfile").stages[0].instructions[0]
    assert isinstance(instruction, Run)
    return RunWork(instruction=instruction, **fields)  # type: ignore[arg-type]


# --- words and variables -----------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("RUN a  b", ("/bin/sh", "-c", "a  b")),
        ('RUN ["a", "b c"]', ("a", "b c")),
        ("RUN <<E\na\nb\nE\n", ("/bin/sh", "-c", "a\nb\n")),
        ("RUN cat <<E >x\na\nE\n", ("/bin/sh", "-c", "cat <<E >x\na\nE")),
        ("RUN <<E\n#!/usr/bin/python3\nprint()\nE\n", ("/dev/pipes/E",)),
        ("RUN <<-E\n\ta\n\tE\n", ("/bin/sh", "-c", "a\n")),
    ],
)
def test_words(text: str, words: tuple[str, ...]) -> None:
    assert running.command(work(text)) == words


def test_the_stages_shell_is_used() -> None:
    made = work("RUN x", shell=("/bin/bash", "-eo", "pipefail", "-c"))
    assert running.command(made) == ("/bin/bash", "-eo", "pipefail", "-c", "x")


def test_variables_and_who_wins() -> None:
    made = work("RUN x", env={"A": "env"}, arguments={"A": "arg", "B": "arg", "P": "arg"})
    made = replace(made, proxies={"P": "proxy", "Q": "proxy"})
    found = running.environment(made, {"S": "secret"})
    assert found[0].startswith("PATH=/usr/local/sbin:")
    assert set(found[1:]) == {"A=env", "B=arg", "P=arg", "Q=proxy", "S=secret"}


# --- keys --------------------------------------------------------------------


class Bench:
    def key(self, *parts: str) -> str:
        return "\n".join(parts)


def key(text: str, settings: Settings = SETTINGS, **fields: object) -> str:
    return running.quick_key(work(text, **fields), settings, Bench())  # type: ignore[arg-type]


def test_the_key_has_all_that_a_command_sees() -> None:
    base = key("RUN x")
    other = [
        key("RUN y"),
        key("RUN --network=none x"),
        key("RUN --mount=type=cache,target=/c x"),
        key("RUN --mount=type=secret,id=a x"),
        key("RUN x", env={"A": "1"}),
        key("RUN x", arguments={"A": "2"}),
        key("RUN x", user="alice"),
        key("RUN x", working_dir="/w"),
        key("RUN x", shell=("/bin/bash", "-c")),
        key("RUN x", replace(SETTINGS, isolation="chroot")),
        key("RUN x", replace(SETTINGS, template=replace(TEMPLATE, capabilities=("CAP_CHOWN",)))),
        key("RUN x", replace(SETTINGS, template=replace(TEMPLATE, hosts=("a:1.2.3.4",)))),
    ]
    assert len({base, *other}) == 1 + len(other)


def test_the_key_has_no_proxies() -> None:
    assert key("RUN x", proxies={"HTTP_PROXY": "p"}) == key("RUN x")


def test_a_context_needs_a_look_at_its_files() -> None:
    sources = {"": Source(directory="/somewhere")}
    assert key("RUN --mount=target=/c x", sources=sources) == ""


# --- refusals ----------------------------------------------------------------


def test_refusals() -> None:
    with pytest.raises(BuildError, match="no privileges to give"):
        running.check(work("RUN --security=insecure x").instruction, SETTINGS)
    alone = work("RUN --network=none x").instruction
    running.check(alone, SETTINGS)
    with pytest.raises(BuildError, match="has the host's network"):
        running.check(alone, replace(SETTINGS, isolation="chroot"))
    wanted = work("RUN --device=example.com/a=b x").instruction
    with pytest.raises(BuildError, match="without your leave"):
        running.check(wanted, SETTINGS)
    running.check(wanted, replace(SETTINGS, allowed=frozenset(["example.com/a=b"])))
    running.check(wanted, replace(SETTINGS, allowed=frozenset(["*"])))


def test_the_hosts_network_needs_leave() -> None:
    wanted = work("RUN --network=host x").instruction
    for allowed in ((), ("*",)):
        with pytest.raises(BuildError, match="only with your leave"):
            running.check(wanted, replace(SETTINGS, allowed=frozenset(allowed)))
    running.check(wanted, replace(SETTINGS, allowed=frozenset(["network.host"])))
    running.check(wanted, replace(SETTINGS, isolation="chroot"))


def test_a_target_is_relative_to_the_working_directory_and_not_the_root() -> None:
    mount = work("RUN --mount=type=tmpfs,target=../a/b x").instruction.mounts[0]
    assert mounts.target_of(mount, "/w/x") == "/w/a/b"
    for target in ("/", ".", "../.."):
        wrong = work(f"RUN --mount=type=tmpfs,target={target} x").instruction.mounts[0]
        with pytest.raises(BuildError, match="cannot be /"):
            mounts.target_of(wrong, "/")


# --- isolation ---------------------------------------------------------------


def test_namespaces_of_isolations() -> None:
    oci = run_plan._isolated(TEMPLATE, "oci", "")
    assert run_plan._namespaces(oci).new & libc.CLONE_NEWPID
    assert run_plan._namespaces(oci).new & libc.CLONE_NEWNET
    chroot = run_plan._isolated(TEMPLATE, "chroot", "")
    assert run_plan._namespaces(chroot).new == libc.CLONE_NEWUSER | libc.CLONE_NEWNS
    assert chroot.sysctls == {}
    host = run_plan._isolated(TEMPLATE, "oci", "host")
    assert not run_plan._namespaces(host).new & libc.CLONE_NEWNET
    assert dict(host.sysctls) == {"kernel.msgmax": "1"}


# --- what is ignored ---------------------------------------------------------


def shown(upper: Path) -> dict[str, str]:
    found = {}
    for path in sorted(upper.rglob("*")):
        status = path.lstat()
        is_whiteout = stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
        found[str(path.relative_to(upper))] = "hidden" if is_whiteout else "directory"
    return found


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (("a",), {"a": "hidden"}),
        (("d",), {"d": "hidden"}),
        (("d/x", "*.log"), {"d": "directory", "d/x": "hidden", "one.log": "hidden"}),
        (("d", "!d/x"), {"d": "directory", "d/y": "hidden"}),
        (("*", "!a"), {"d": "hidden", "one.log": "hidden"}),
        (("d/*",), {"d": "directory", "d/x": "hidden", "d/y": "hidden"}),
        (("nothing",), {}),
    ],
)
def test_what_is_ignored_is_covered(
    tmp_path: Path, patterns: tuple[str, ...], expected: dict[str, str]
) -> None:
    below, upper = tmp_path / "below", tmp_path / "upper"
    for name in ("a", "one.log", "d/x", "d/y"):
        (below / name).parent.mkdir(parents=True, exist_ok=True)
        (below / name).write_text("")
    (below / "d").chmod(0o750)
    upper.mkdir()
    mounts.hide(Source(directory=str(below), ignore=Ignore(patterns)), str(upper))
    assert shown(upper) == expected
    if expected.get("d") == "directory":
        assert stat.S_IMODE((upper / "d").stat().st_mode) == 0o750


def test_a_copy_without_what_is_ignored(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "d").mkdir(parents=True)
    (source / "d/x").write_text("x")
    (source / "y").write_text("y")
    (source / "link").symlink_to("/etc")
    mounts.copy_visible(Source(directory=str(source), ignore=Ignore(["y"])), str(tmp_path / "copy"))
    assert sorted(os.listdir(tmp_path / "copy")) == ["d", "link"]
    assert (tmp_path / "copy/link").is_symlink()
    assert (tmp_path / "copy/d/x").read_text() == "x"


# --- mount targets -----------------------------------------------------------


def described(path: Path, after: int | None = None) -> list[int]:
    status = path.stat()
    before = 10**18
    return [
        status.st_mode, status.st_uid, status.st_gid, before,
        status.st_mtime_ns if after is None else after,
    ]  # fmt: skip


def test_stubs_are_cleared_and_times_put_back(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/hosts").write_text("")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/stub").mkdir()
    (tmp_path / "kept/stub/own").write_text("own")
    told = {
        "made": ["etc/hosts", "kept", "kept/stub", "gone"],
        "directories": {"": described(tmp_path), "etc": described(tmp_path / "etc")},
    }
    stubs.clear(str(tmp_path), files.dumps(told), layered=True)
    assert sorted(os.listdir(tmp_path)) == ["kept"]
    assert (tmp_path / "kept/stub/own").exists()
    assert tmp_path.stat().st_mtime_ns == 10**18


def test_a_directory_that_the_command_changed_stays(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/hosts").write_text("")
    told = {
        "made": ["etc/hosts"],
        "directories": {"": described(tmp_path), "etc": described(tmp_path / "etc", after=1)},
    }
    stubs.clear(str(tmp_path), files.dumps(told), layered=True)
    assert os.listdir(tmp_path) == ["etc"]
    assert os.listdir(tmp_path / "etc") == []


def test_stubs_behind_links_of_the_command_are_left(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "dir").mkdir(parents=True)
    (outside / "dir/stub").write_text("")
    top = tmp_path / "top"
    top.mkdir()
    (top / "dir").symlink_to(outside / "dir")
    told = {"made": ["dir/stub"], "directories": {"dir": [0, 0, 0, 1, 1]}}
    stubs.clear(str(top), files.dumps(told), layered=True)
    assert (outside / "dir/stub").exists()


# --- devices by name ---------------------------------------------------------


def specification(directory: Path, name: str = "x.json", **edits: object) -> tuple[str, ...]:
    told = {
        "cdiVersion": "0.6.0",
        "kind": "example.com/dev",
        "containerEdits": {"env": ["ALL=1"]},
        "devices": [
            {"name": "one", "containerEdits": edits},
            {"name": "two", "containerEdits": {"env": ["TWO=1"]}},
        ],
    }
    (directory / name).write_text(json.dumps(told))
    return (str(directory),)


def test_a_device_by_name(tmp_path: Path) -> None:
    places = specification(
        tmp_path,
        deviceNodes=[{"path": "/dev/x", "hostPath": "/dev/null"}, {"path": "/dev/zero"}],
        mounts=[{"hostPath": "/lib", "containerPath": "/l", "options": ["ro", "shared", "suid"]}],
        additionalGids=[7],
    )
    found = cdi.find("example.com/dev=one", places)
    assert found is not None
    assert [(each.host, each.container) for each in found.devices] == [
        ("/dev/null", "/dev/x"), ("/dev/zero", "/dev/zero"),
    ]  # fmt: skip
    assert found.mounts[0].options == ("ro",)
    assert (found.env, found.groups) == (("ALL=1",), ("7",))
    every = cdi.find("example.com/dev=*", places)
    assert every is not None
    assert every.env == ("ALL=1", "TWO=1")
    assert cdi.find("example.com/dev=three", places) is None
    assert cdi.find("example.com/other=one", places) is None


def test_yaml_is_read_where_it_is_json(tmp_path: Path) -> None:
    places = specification(tmp_path, "x.yaml", env=["A=1"])
    assert cdi.find("example.com/dev=one", places) is not None
    (tmp_path / "x.yaml").write_text("kind: example.com/dev\ndevices: []\n")
    with pytest.raises(HostError, match="is no JSON") as raised:
        cdi.find("example.com/dev=one", places)
    assert "--format=json" in raised.value.hint


def test_hooks_and_malformed_specifications_are_refused(tmp_path: Path) -> None:
    places = specification(tmp_path, hooks=[{"hookName": "createContainer", "path": "/bin/x"}])
    with pytest.raises(HostError, match="hooks"):
        cdi.find("example.com/dev=one", places)
    places = specification(tmp_path, deviceNodes=[{"hostPath": "/dev/null"}])
    with pytest.raises(HostError, match="malformed"):
        cdi.find("example.com/dev=one", places)
