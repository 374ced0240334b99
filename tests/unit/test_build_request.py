"""The notations of build's options: what they mean, and what is refused with its reason."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from podpy.build import dockerfile
from podpy.build.instructions import Run
from podpy.build.secrets import Secret
from podpy.build.ssh import Agent
from podpy.engine import build_outputs, build_refusals, build_request
from podpy.engine.build_options import BuildOptions
from podpy.engine.build_outputs import CachePlace, Output
from podpy.engine.build_request import Annotation, Limits
from podpy.errors import UsageError
from podpy.model import Platform


def refused(function: Any, *arguments: Any) -> str:
    with pytest.raises(UsageError) as caught:
        function(*arguments)
    return str(caught.value.message)


# --- arguments ---------------------------------------------------------------


def test_arguments_come_from_files_then_from_the_line(tmp_path: Path) -> None:
    file = tmp_path / "args"
    file.write_text("# comment\n\nA=file\nB=b=c\n")
    options = BuildOptions(
        build_arg_file=(str(file),), build_arg=("A=line", "C", "MISSING", "EMPTY=")
    )
    given = build_request.arguments(options, {"C": "environment"})
    assert given == {"A": "line", "B": "b=c", "C": "environment", "EMPTY": ""}


def test_an_argument_needs_a_name() -> None:
    assert "--build-arg" in refused(
        build_request.arguments, BuildOptions(build_arg=("=x",)), {}
    )  # fmt: skip


def test_a_bare_label_is_empty() -> None:
    assert build_request.labels(("a=b", "c", "d=e=f")) == {"a": "b", "c": "", "d": "e=f"}


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("a=b", [Annotation(key="a", value="b")]),
        ("a", [Annotation(key="a", value="")]),
        ("index:a=b:c", [Annotation(key="a", value="b:c", level="index")]),
        ("org.x:y=z", [Annotation(key="org.x:y", value="z")]),
        (
            "index,manifest-descriptor:a=b",
            [
                Annotation(key="a", value="b", level="index"),
                Annotation(key="a", value="b", level="manifest-descriptor"),
            ],
        ),
        (
            "manifest[linux/arm64]:a=b",
            [Annotation(key="a", value="b", platform=Platform(architecture="arm64"))],
        ),
    ],
)
def test_annotations_have_levels(text: str, made: list[Annotation]) -> None:
    assert list(build_request.annotated((text,))) == made


@pytest.mark.parametrize("text", ["=b", "index[linux/amd64]:a=b", "manifest[linux:a=b"])
def test_annotations_that_make_no_sense(text: str) -> None:
    assert "--annotation" in refused(build_request.annotated, (text,))


# --- contexts, platforms, times ----------------------------------------------


def test_contexts_name_images_in_one_way() -> None:
    texts = ("a=dir", "b=container-image://x:1", "c=docker://y", "d=https://h/t.tar", "e=a=b")
    assert build_request.contexts(texts) == {
        "a": "dir", "b": "docker-image://x:1", "c": "docker-image://y", "d": "https://h/t.tar",
        "e": "a=b",
    }  # fmt: skip


@pytest.mark.parametrize("text", ["a", "a=", "=b"])
def test_a_context_has_a_name_and_a_place(text: str) -> None:
    assert "--build-context" in refused(build_request.contexts, (text,))


def test_platforms_once_each() -> None:
    options = BuildOptions(platform=("linux/arm64,linux/amd64", "linux/aarch64"))
    assert [str(each) for each in build_request.wanted_platforms(options, {})] == [
        "linux/arm64", "linux/amd64",
    ]  # fmt: skip


def test_the_platform_may_come_from_the_environment() -> None:
    env = {"DOCKER_DEFAULT_PLATFORM": "linux/arm/v7"}
    assert [str(each) for each in build_request.wanted_platforms(BuildOptions(), env)] == [
        "linux/arm/v7"
    ]
    assert build_request.wanted_platforms(BuildOptions(), {}) == ()


def test_platform_and_parts_exclude_each_other() -> None:
    options = BuildOptions(platform=("linux/arm64",), arch="arm64")
    assert "--platform" in refused(build_request.wanted_platforms, options, {})
    assert str(build_request.wanted_platforms(BuildOptions(arch="arm64"), {})[0]) == "linux/arm64"


@pytest.mark.parametrize(
    ("options", "arguments", "env", "moment"),
    [
        (BuildOptions(), {}, {}, None),
        (BuildOptions(timestamp="5"), {"SOURCE_DATE_EPOCH": "6"}, {"SOURCE_DATE_EPOCH": "7"}, 5),
        (BuildOptions(), {"SOURCE_DATE_EPOCH": "6"}, {"SOURCE_DATE_EPOCH": "7"}, 6),
        (BuildOptions(), {}, {"SOURCE_DATE_EPOCH": "7"}, 7),
        (BuildOptions(source_date_epoch="0"), {}, {}, 0),
    ],
)
def test_the_time_of_a_build(
    options: BuildOptions, arguments: dict[str, str], env: dict[str, str], moment: int | None
) -> None:
    assert build_request.timestamp(options, arguments, env) == moment


@pytest.mark.parametrize("text", ["yesterday", "-1", "1.5", ""])
def test_a_time_is_a_whole_number(text: str) -> None:
    options = BuildOptions(timestamp=text or " ")
    assert "--timestamp" in refused(build_request.timestamp, options, {}, {})


# --- secrets and keys --------------------------------------------------------


def test_secrets_are_files_or_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "key").write_text("x")
    env = {"TOKEN": "t", "OTHER": "o"}
    texts = ("id=a,src=key", "id=TOKEN", "id=key", "id=b,env=OTHER", "type=env,id=c,src=OTHER")
    path = str(tmp_path / "key")
    assert build_request.secrets(texts, env) == (
        Secret(id="a", file=path),
        Secret(id="TOKEN", variable="TOKEN"),
        Secret(id="key", file=path),
        Secret(id="b", variable="OTHER"),
        Secret(id="c", variable="OTHER"),
    )


def test_a_path_with_a_comma_is_quoted(tmp_path: Path) -> None:
    path = tmp_path / "a,b"
    path.write_text("")
    assert build_request.secrets((f'id=x,"src={path}"',), {}) == (Secret(id="x", file=str(path)),)


@pytest.mark.parametrize(
    "text",
    [
        "src=/etc/hostname", "id=a,src=/nonexistent", "id=a,env=MISSING", "id=a,mode=0600", "a",
        "id=a,type=vault", "id=a,src=/etc", "id=a,env=X,src=/etc/hostname", "id=a,type=env",
    ],
)  # fmt: skip
def test_secrets_that_cannot_be(text: str) -> None:
    message = refused(build_request.secrets, (text,), {})
    assert message.startswith("--secret")


def test_agents_default_to_the_callers(tmp_path: Path) -> None:
    socket, key = tmp_path / "agent", tmp_path / "id"
    socket.touch()
    key.touch()
    env = {"SSH_AUTH_SOCK": str(socket)}
    texts = ("default", f"work={key},{socket}")
    assert build_request.agents(texts, env) == (
        Agent(id="default", paths=(str(socket),)),
        Agent(id="work", paths=(str(key), str(socket))),
    )


@pytest.mark.parametrize("text", ["default", "=x", "work=/nonexistent"])
def test_agents_that_are_not_there(text: str) -> None:
    assert refused(build_request.agents, (text,), {}).startswith("--ssh")


# --- outputs and caches ------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "made"),
    [
        (BuildOptions(), [Output(kind="image")]),
        (BuildOptions(output=("-",)), [Output(kind="tar", destination="-")]),
        (BuildOptions(output=("/d",)), [Output(kind="local", destination="/d")]),
        (
            BuildOptions(output=("type=tar,dest=/t",), tag=("x",)),
            [Output(kind="tar", destination="/t"), Output(kind="image")],
        ),
        (BuildOptions(output=("type=docker",)), [Output(kind="image")]),
        (
            BuildOptions(output=("type=registry,name=a/b",)),
            [Output(kind="image", names=("a/b",), push=True)],
        ),
        (BuildOptions(push=True), [Output(kind="image", push=True)]),
        (
            BuildOptions(push=True, output=("type=oci,dest=/o",)),
            [Output(kind="oci", destination="/o"), Output(kind="image", push=True)],
        ),
        (
            BuildOptions(output=("type=image,name=x,push=true,compression=gzip",)),
            [Output(kind="image", names=("x",), push=True, attributes={"compression": "gzip"})],
        ),
        (BuildOptions(output=("type=cacheonly",)), []),
        (BuildOptions(output=("dest=/d",)), [Output(kind="local", destination="/d")]),
    ],
)
def test_where_a_result_goes(options: BuildOptions, made: list[Output]) -> None:
    assert list(build_outputs.outputs(options)) == made


@pytest.mark.parametrize(
    "texts",
    [
        ("type=floppy",), ("type=local",), ("type=oci",), ("type=local,dest=-",), ("",), ("-", "-"),
        ("type=image,dest=/x",), ("type=tar,dest",),
    ],
)  # fmt: skip
def test_outputs_that_make_no_sense(texts: tuple[str, ...]) -> None:
    assert refused(build_outputs.outputs, BuildOptions(output=texts)).startswith("--output")


def test_caches() -> None:
    texts = ("user/app:cache", "type=registry,ref=a/b,mode=max", "type=local,src=/d")
    assert build_outputs.caches(texts, "--cache-from") == (
        CachePlace(kind="registry", place="user/app:cache"),
        CachePlace(kind="registry", place="a/b", complete=True),
        CachePlace(kind="local", place="/d"),
    )
    assert build_outputs.caches(("type=inline",), "--cache-to") == (CachePlace(kind="inline"),)


@pytest.mark.parametrize(
    "text",
    [
        "type=gha",
        "type=s3,region=x",
        "type=local",
        "type=local,dest=/d",
        "type=inline",
        "",
        "type=registry,ref=a,compression=zstd",
        "type=registry,ref=a,image-manifest=false",
    ],
)
def test_caches_that_podpy_has_not(text: str) -> None:
    assert refused(build_outputs.caches, (text,), "--cache-from").startswith("--cache-from")


# --- choices and limits ------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("", "missing"), ("true", "always"), ("false", "missing"), ("always", "always"),
        ("never", "never"), ("newer", "newer"), ("missing", "missing"), ("Always", "always"),
    ],
)  # fmt: skip
def test_pull_policies(text: str, policy: str) -> None:
    assert build_request.pull_policy(text) == policy


def test_choices_name_what_is_known() -> None:
    assert "--pull" in refused(build_request.pull_policy, "sometimes")
    assert "--format" in refused(build_request.image_format, "tar", {})
    assert "--isolation" in refused(build_request.isolation, "hyperv", {})
    assert "--call" in refused(build_request.call, BuildOptions(call="nothing"))
    assert "--call" in refused(build_request.call, BuildOptions(call="check,format=xml"))


def test_the_environment_chooses_where_the_line_does_not() -> None:
    assert build_request.image_format("", {"BUILDAH_FORMAT": "docker"}) == "docker"
    assert build_request.image_format("oci", {"BUILDAH_FORMAT": "docker"}) == "oci"
    assert build_request.isolation("", {"BUILDAH_ISOLATION": "chroot"}) == "chroot"
    assert build_request.isolation("rootless", {}) == "oci"
    assert build_request.layered(BuildOptions(), {"BUILDAH_LAYERS": "false"}) is False
    assert build_request.layered(BuildOptions(layers=True), {"BUILDAH_LAYERS": "false"}) is True


def test_calls() -> None:
    assert build_request.call(BuildOptions()) == ("build", False)
    assert build_request.call(BuildOptions(check=True)) == ("check", False)
    assert build_request.call(BuildOptions(call="lint,format=json")) == ("check", True)
    assert refused(build_request.call, BuildOptions(check=True, call="outline"))


def test_jobs() -> None:
    own = len(os.sched_getaffinity(0))
    assert build_request.jobs(BuildOptions()) == build_request.jobs(BuildOptions(jobs="0")) == own
    assert build_request.jobs(BuildOptions(jobs="7")) == 7
    assert build_request.jobs(BuildOptions(stdin=True)) == 1
    assert refused(build_request.jobs, BuildOptions(stdin=True, jobs="2")).startswith("--jobs 2")


def test_mounts_for_every_run() -> None:
    file = dockerfile.parse("FROM a\nRUN --mount=type=cache,target=/c x\nCOPY a b\nRUN y\n")
    made = build_request.with_mounts(file, ("type=secret,id=s,target=/s",))
    runs = [each for each in made.stages[0].instructions if isinstance(each, Run)]
    assert [[mount.type for mount in run.mounts] for run in runs] == [
        ["cache", "secret"],
        ["secret"],
    ]
    assert build_request.with_mounts(file, ()) is file


@pytest.mark.parametrize("text", ["type=floppy,target=/x", "id=", "type=secret,nope=1", "x y"])
def test_mounts_that_make_no_sense(text: str) -> None:
    file = dockerfile.parse("FROM a\n")
    assert refused(build_request.with_mounts, file, (text,)).startswith("--mount")


def test_limits() -> None:
    options = BuildOptions(
        memory="1g", memory_swap="2g", cpu_quota="50000", cpu_shares="512", cpuset_cpus="0-1,3"
    )
    assert build_request.limits(options) == Limits(
        memory=1 << 30, swap=2 << 30, cpu_quota=50000, cpu_shares=512, cpuset_cpus="0-1,3"
    )
    assert not build_request.limits(BuildOptions()).any
    assert build_request.limits(BuildOptions(memory_swap="-1")).swap == -1


@pytest.mark.parametrize(
    "options",
    [
        BuildOptions(memory_swap="1g"),
        BuildOptions(memory="2g", memory_swap="1g"),
        BuildOptions(memory="much"),
        BuildOptions(cpu_shares="1"),
        BuildOptions(cpu_period="10"),
        BuildOptions(cpuset_cpus="a"),
        BuildOptions(cpuset_mems="0-"),
    ],
)
def test_limits_that_cannot_be(options: BuildOptions) -> None:
    assert refused(build_request.limits, options).startswith("--")


# --- refusals ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"sign_by": "A"}, "--sign-by"),
        ({"decryption_key": ("k",)}, "--decryption-key"),
        ({"cw": "type=SNP"}, "--cw"),
        ({"source_policy_file": "f"}, "--source-policy-file"),
        ({"runtime": "/usr/bin/crun"}, "--runtime"),
        ({"runtime_flag": ("debug",)}, "--runtime-flag"),
        ({"hooks_dir": ("/d",)}, "--hooks-dir"),
        ({"rm": False}, "--rm=false"),
        ({"disable_compression": False}, "--disable-compression=false"),
        ({"disable_content_trust": False}, "--disable-content-trust=false"),
        ({"builder": "remote"}, "--builder remote"),
        ({"allow": ("network.host,security.insecure",)}, "--allow security.insecure"),
        ({"allow": ("all",)}, "--allow all"),
        ({"all_platforms": True}, "--all-platforms"),
        ({"save_stages": True}, "--save-stages"),
        ({"layer_label": ("a=b",)}, "--layer-label"),
        ({"compat_volumes": True}, "--compat-volumes"),
        ({"inherit_annotations": True}, "--inherit-annotations=true"),
        ({"rewrite_timestamp": True}, "--rewrite-timestamp"),
        ({"sbom_output": "f"}, "--sbom-output"),
        ({"squash": True, "squash_all": True}, "--squash"),
        ({"no_hosts": True, "add_host": ("a:1.2.3.4",)}, "--no-hosts"),
        ({"log_split_by_platform": True}, "--logsplit"),
        ({"quiet": True, "progress": "plain"}, "--quiet"),
        ({"layers": False, "cache_to": ("x",)}, "--cache-from"),
        ({"network": "none", "dns": ("1.1.1.1",)}, "--dns"),
    ],
)  # fmt: skip
def test_what_cannot_be_had_is_refused_by_name(given: dict[str, Any], named: str) -> None:
    message = refused(build_refusals.check, BuildOptions(**given))
    assert message.startswith(named)
    assert len(message) > len(named) + 10, "and it says why"


def test_what_is_always_so_may_be_asked_for() -> None:
    build_refusals.check(
        BuildOptions(
            rm=True,
            force_rm=False,
            compress=True,
            load=True,
            builder="default",
            sbom="false",
            provenance="false",
            attest=("type=provenance,disabled=true",),
            allow=("network.host",),
        )
    )


def test_every_option_is_honoured_or_refused() -> None:
    """Nothing is accepted and then ignored: each field is read by somebody, or refused."""
    package = Path(build_refusals.__file__).parents[1]
    readers = [*(package / "engine").glob("build*.py"), package / "engine/attesting.py"]
    readers = [path for path in readers if path.name != "build_refusals.py"]
    text = "".join(path.read_text() for path in (*readers, package / "cli/builds.py"))
    read = set(re.findall(r"options\.(\w+)", text))
    checked = {"allow", "builder"}  # wishes that are granted, or refused by their value
    refusing = {*build_refusals._NEVER, *build_refusals._SWITCHES, *build_refusals.ALWAYS}
    fields = set(BuildOptions._fields)  # type: ignore[attr-defined]
    assert fields - read - checked - refusing == set()
    assert (refusing | checked) <= fields
