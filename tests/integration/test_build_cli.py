"""``build`` through the command line: what it prints, what it writes, what its options do."""

from __future__ import annotations

import json
import os
import re
import signal
import tarfile
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from support.podpy import BUSYBOX, Podpy
from support.polling import eventually
from support.registry import Registry

SIMPLE = f"FROM {BUSYBOX}\nRUN echo made > /made\nCMD cat /made\n"
NET = ("--network", "none")


@pytest.fixture
def source(podpy: Podpy) -> Path:
    """A context with a simple Dockerfile."""
    path = podpy.directory / "context"
    path.mkdir()
    (path / "Dockerfile").write_text(SIMPLE)
    return path


def write(source: Path, text: str, name: str = "Dockerfile") -> Path:
    (source / name).write_text(text)
    return source


def config(podpy: Podpy, name: str) -> dict[str, Any]:
    found: dict[str, Any] = podpy("image", "inspect", name).json()[0]["Config"]
    return found


def output_of(podpy: Podpy, image: str, *command: str) -> str:
    return podpy("run", "--rm", *NET, image, *command).text


# --- what is printed ---------------------------------------------------------


def test_the_id_is_on_stdout_and_all_else_on_stderr(podpy: Podpy, source: Path) -> None:
    done = podpy("build", "-t", "made", source)
    assert re.fullmatch(r"[0-9a-f]{64}\n", done.stdout)
    assert done.stderr.splitlines()[:4] == [
        f"#1 [1/2] FROM {BUSYBOX}",
        "#1 DONE 0.0s",
        "",
        "#2 [2/2] RUN echo made > /made",
    ]
    assert output_of(podpy, done.text) == "made"
    assert output_of(podpy, "made") == "made"


def test_quiet_prints_the_id_as_docker_does(podpy: Podpy, source: Path) -> None:
    done = podpy("build", "-q", source)
    assert re.fullmatch(r"sha256:[0-9a-f]{64}\n", done.stdout)
    assert done.stderr == ""
    assert podpy("build", "--progress=quiet", source).stdout == done.stdout


@pytest.mark.parametrize("verb", ["image build", "builder build", "buildx build", "buildx b"])
def test_every_spelling_builds(podpy: Podpy, source: Path, verb: str) -> None:
    made = podpy(*verb.split(), "--load", "-t", "made", source, env={"DOCKER_BUILDKIT": "1"})
    assert podpy("image", "inspect", "made").json()[0]["Id"].removeprefix("sha256:") == made.text


def test_a_second_build_is_cached_and_gives_the_same_image(podpy: Podpy, source: Path) -> None:
    first = podpy("build", source)
    second = podpy("build", source)
    assert "CACHED" not in first.stderr
    assert "#2 CACHED" in second.stderr
    assert second.text == first.text
    assert "CACHED" not in podpy("build", "--no-cache", source).stderr
    assert "CACHED" not in podpy("build", "--layers=false", source).stderr
    assert "CACHED" not in podpy("build", "--cache-ttl=0", source).stderr


def test_without_a_context_it_is_the_current_directory(podpy: Podpy, source: Path) -> None:
    assert podpy("build", "-q", cwd=source).stdout == podpy("build", "-q", ".", cwd=source).stdout
    file = write(source, SIMPLE, "Other") / "Other"
    assert podpy("build", "-q", "-f", file).text


def test_a_dockerfile_from_standard_input(podpy: Podpy, source: Path) -> None:
    assert podpy("build", "-q", "-", input=SIMPLE).text
    (source / "file").write_text("x")
    text = f"FROM {BUSYBOX}\nCOPY file /file\n"
    made = podpy("build", "-q", "-f", "-", source, input=text).text
    assert output_of(podpy, made, "cat", "/file") == "x"
    podpy.fails("build", "-f", "-", "-", input=text)


def test_rawjson(podpy: Podpy, source: Path) -> None:
    write(source, f"FROM {BUSYBOX}\nRUN echo to the log\n")
    done = podpy("build", "--progress=rawjson", source)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    names = {vertex["name"] for line in lines for vertex in line.get("vertexes", ())}
    assert "[2/2] RUN echo to the log" in names
    logs = [log for line in lines for log in line.get("logs", ())]
    assert [log["data"] for log in logs] == ["dG8gdGhlIGxvZwo="]


def test_a_log_file_gets_what_would_be_shown(podpy: Podpy, source: Path) -> None:
    log = podpy.directory / "log"
    done = podpy("build", "--logfile", log, source)
    assert done.stderr == ""
    assert "#2 [2/2] RUN echo made" in log.read_text()


def test_progress_on_a_terminal(podpy: Podpy, source: Path) -> None:
    write(source, f"FROM {BUSYBOX}\nRUN for i in 1 2 3 4; do echo tick $i; sleep 0.3; done\n")
    terminal = podpy.terminal("build", "-t", "made", source, columns=70)
    terminal.expect(r"\[\+\] Building \d+\.\ds \(1/2\)")
    terminal.expect(r"=> => # tick 2")
    terminal.expect(r"\[\+\] Building \d+\.\ds \(3/3\) FINISHED")
    assert terminal.wait() == 0
    assert re.search(r"\x1b\[\?25h[0-9a-f]{64}\r\n$", terminal.output)
    again = podpy.terminal("build", "--progress=plain", source)
    again.expect("#2 CACHED")
    assert again.wait() == 0


def test_an_interrupt_ends_a_build(podpy: Podpy, source: Path) -> None:
    write(source, f"FROM {BUSYBOX}\nRUN echo begun; sleep 60\n")
    child = podpy.start("build", source)
    eventually(lambda: "begun" in child.stderr, timeout=20)
    child.signal(signal.SIGINT)
    done = child.wait(10)
    assert done.code == 130
    assert "CANCELED" in done.stderr


# --- failures ----------------------------------------------------------------


def test_a_failing_command_is_shown_with_its_lines(podpy: Podpy, source: Path) -> None:
    write(source, f"FROM {BUSYBOX}\n\nRUN echo before; \\\n    exit 7\n# end\n")
    done = podpy.fails("build", source, code=7)
    assert done.stdout == ""
    tail = done.stderr[done.stderr.index("------") :].splitlines()
    assert tail[1].startswith(" > [2/2] RUN echo before;")
    assert tail[2].endswith(" before")
    assert tail[4].endswith("Dockerfile:3")
    assert tail[6:11] == [
        f"   1 |     FROM {BUSYBOX}",
        "   2 |",
        "   3 | >>> RUN echo before; \\",
        "   4 | >>>     exit 7",
        "   5 |     # end",
    ]
    assert "did not complete successfully: exit code: 7" in tail[-1]
    assert "before" in podpy.fails("build", "-q", source, code=7).stderr


def test_a_wrong_dockerfile_is_an_error_with_place_and_caret(podpy: Podpy, source: Path) -> None:
    write(source, f"FROM {BUSYBOX}\nRNU true\n")
    done = podpy.fails("build", source)
    assert "Dockerfile:2" in done.stderr
    assert "RNU true" in done.stderr
    assert "^" in done.stderr


def test_a_failed_build_leaves_no_id(podpy: Podpy, source: Path) -> None:
    file = podpy.directory / "id"
    podpy("build", "--iidfile", file, source)
    assert file.exists()
    write(source, f"FROM {BUSYBOX}\nRUN false\n")
    podpy.fails("build", "--iidfile", file, source, code=1)
    assert not file.exists()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--sign-by", "X"), "--sign-by"),
        (("--allow", "security.insecure"), "--allow security.insecure"),
        (("--secret", "id=a,src=/nonexistent"), "--secret a"),
        (("--output", "type=floppy"), "--output"),
        (("--progress", "loud"), "--progress"),
        (("--progress", "tty"), "--progress tty"),
        (("--platform", "vax"), "--platform"),
        (("--pull=sometimes",), "--pull"),
        (("--memory", "lots"), "--memory"),
        (("--target", "nowhere"), "nowhere"),
        (("--cache-ttl", "soon"), "--cache-ttl"),
        (("--jobs", "-1"), "--jobs"),
        (("--push",), "--push"),
        (("--annotation", "index:a=b"), "--annotation"),
        (("--build-context", "x"), "--build-context"),
        (("--ignorefile", "/nonexistent"), "--ignorefile"),
        (("--metadata-file", "/nonexistent/x"), "--metadata-file"),
        (("--iidfile", "/nonexistent/x"), "--iidfile"),
        (("--no-cache-filter", "nosuch"), "--no-cache-filter nosuch"),
        (("--tag", "Not A Name"), "Not A Name"),
        (("--manifest", "Not A Name"), "Not A Name"),
        (("--label", "=x"), "--label"),
        (("--env", "=x"), "--env"),
        (("--format", "tar"), "--format"),
        (("--provenance", "perhaps"), "--provenance"),
        (("--cache-from", "type=gha"), "--cache-from"),
        (("--iidfile", "/tmp/never", "--output", "type=tar,dest=/dev/null"), "--iidfile"),
    ],
)
def test_wrong_options_name_themselves(
    podpy: Podpy, source: Path, options: tuple[str, ...], named: str
) -> None:
    done = podpy.fails("build", *options, source)
    assert named in done.stderr
    assert "RUN echo made" not in done.stderr, "and nothing was built for it"


# --- the image ---------------------------------------------------------------


def test_names_labels_variables(podpy: Podpy, source: Path) -> None:
    write(source, f"FROM {BUSYBOX}\nENV GONE=1 KEPT=2\nLABEL gone=1 kept=2\n")
    podpy(
        "build", "-t", "one", "-t", "localhost/two:2", "--label", "added=x", "--label", "bare",
        "--env", "NEW=n", "--env", "FROM_CALLER", "--unsetenv", "GONE", "--unsetlabel", "gone",
        source, env={"FROM_CALLER": "yes"},
    )  # fmt: skip
    about = config(podpy, "one")
    assert about["Labels"] == {"kept": "2", "added": "x", "bare": ""}
    assert {"KEPT=2", "NEW=n", "FROM_CALLER=yes"} <= set(about["Env"])
    assert not any(each.startswith("GONE") for each in about["Env"])
    assert podpy("image", "exists", "localhost/two:2").code == 0


def test_labels_of_the_base_that_are_not_inherited(podpy: Podpy, source: Path) -> None:
    write(source, f"FROM {BUSYBOX}\nLABEL a=1 b=2 c=3\n")
    podpy("build", "-t", "labelled", source)
    write(source, "FROM localhost/labelled\nLABEL b=own\n")
    podpy("build", "-t", "one", "--inherit-labels=false", source)
    assert config(podpy, "one")["Labels"] == {"b": "own"}


def test_build_arguments(podpy: Podpy, source: Path) -> None:
    write(source, f"FROM {BUSYBOX}\nARG A=default\nARG B\nARG C\nRUN echo $A $B $C > /args\n")
    file = podpy.directory / "args"
    file.write_text("# a file\nC=file\nB=overridden\n")
    made = podpy(
        "build", "-q", "--build-arg", "A=line", "--build-arg", "B", "--build-arg-file", file,
        source, env={"B": "environment"},
    )  # fmt: skip
    assert output_of(podpy, made.text, "cat", "/args") == "line environment file"
    unused = podpy("build", "--build-arg", "NOBODY=1", source)
    assert "NOBODY" in unused.stderr


def test_target_and_from(podpy: Podpy, source: Path) -> None:
    write(
        source,
        f"FROM nowhere.invalid/x AS first\nRUN echo 1 > /stage\nFROM {BUSYBOX}\nRUN exit 3\n",
    )
    made = podpy("build", "-q", "--target", "first", "--from", BUSYBOX, source)
    assert output_of(podpy, made.text, "cat", "/stage") == "1"


def test_id_and_metadata_files(podpy: Podpy, source: Path) -> None:
    made = podpy.directory
    done = podpy(
        "build", "-t", "made", "--iidfile", made / "id", "--iidfile-raw", made / "raw",
        "--metadata-file", made / "meta", source,
    )  # fmt: skip
    assert (made / "id").read_text() == f"sha256:{done.text}"
    assert (made / "raw").read_text() == done.text
    meta = json.loads((made / "meta").read_text())
    assert meta["containerimage.config.digest"] == f"sha256:{done.text}"
    assert meta["image.name"] == "localhost/made:latest"
    descriptor = meta["containerimage.descriptor"]
    assert descriptor["digest"] == meta["containerimage.digest"]
    blob = podpy.store / "content/blobs" / descriptor["digest"].replace(":", "/")
    assert blob.stat().st_size == descriptor["size"]


def manifest(podpy: Podpy, name: str) -> dict[str, Any]:
    digest = podpy("image", "inspect", "--format", "{{.Digest}}", name).text
    path = podpy.store / "content/blobs" / digest.replace(":", "/")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_annotations(podpy: Podpy, source: Path) -> None:
    podpy(
        "build", "-t", "made", "--annotation", "a=b", "--annotation", "manifest:c=d=e",
        "--annotation", "manifest[linux/s390x]:no=1", "--created-annotation",
        "--timestamp", "1000000000", source,
    )  # fmt: skip
    assert manifest(podpy, "made")["annotations"] == {
        "a": "b", "c": "d=e", "org.opencontainers.image.created": "2001-09-09T01:46:40Z",
    }  # fmt: skip
    assert (
        "--annotation"
        in podpy.fails("build", "--format=docker", "--annotation", "a=b", source).stderr
    )


def test_format_docker(podpy: Podpy, source: Path) -> None:
    podpy("build", "-t", "made", "--format", "docker", source)
    assert manifest(podpy, "made")["mediaType"].startswith("application/vnd.docker.")
    podpy("build", "-t", "made", source, env={"BUILDAH_FORMAT": "docker"})
    assert manifest(podpy, "made")["mediaType"].startswith("application/vnd.docker.")
    podpy("build", "-t", "made", source)
    assert manifest(podpy, "made")["mediaType"].startswith("application/vnd.oci.")


def test_history_and_system(podpy: Podpy, source: Path) -> None:
    podpy("build", "-t", "made", "--omit-history", "--os-version", "10", "--identity-label", source)
    document = json.loads(
        (
            podpy.store
            / "content/blobs"
            / manifest(podpy, "made")["config"]["digest"].replace(":", "/")
        ).read_text()
    )
    assert document["history"] == []
    assert document["os.version"] == "10"
    assert "io.podpy.version" in document["config"]["Labels"]


def test_timestamp_makes_the_same_image_without_the_cache(podpy: Podpy, source: Path) -> None:
    stamp = ("--timestamp", "1500000000", "--no-cache")
    one = podpy("build", "-q", *stamp, source).text
    two = podpy("build", "-q", *stamp, source).text
    assert one == two
    env = {"SOURCE_DATE_EPOCH": "1500000000"}
    assert podpy("build", "-q", "--no-cache", source, env=env).text == one


def test_squash(podpy: Podpy, source: Path) -> None:
    write(source, f"FROM {BUSYBOX}\nRUN echo 1 > /1\nRUN echo 2 > /2\n")
    layers = {
        option: len(
            podpy("image", "inspect", podpy("build", "-q", *filter(None, (option,)), source).text)
            .json()[0]["RootFS"]["Layers"]
        )
        for option in ("", "--squash", "--squash-all")
    }  # fmt: skip
    assert layers == {"": 3, "--squash": 2, "--squash-all": 1}


# --- where it goes -----------------------------------------------------------


def test_outputs(podpy: Podpy, source: Path) -> None:
    write(
        source, f"FROM {BUSYBOX} AS a\nRUN echo made > /made\nFROM scratch\nCOPY --from=a /made /\n"
    )
    to = podpy.directory / "out"
    done = podpy("build", "-o", to / "tree", source)
    assert (to / "tree/made").read_text() == "made\n"
    assert done.stdout == "", "no image, no id"
    podpy("build", "-o", f"type=tar,dest={to}/x.tar", source)
    with tarfile.open(to / "x.tar") as archive:
        assert archive.getnames() == ["made"]
    raw = podpy("build", "-o", "-", source).raw_stdout
    assert raw == (to / "x.tar").read_bytes(), "standard output is the archive alone"
    podpy("build", "-o", f"type=oci,dest={to}/oci.tar", "-t", "named", source)
    with tarfile.open(to / "oci.tar") as archive:
        assert "oci-layout" in archive.getnames()
    assert podpy("image", "exists", "named").code == 0


def test_push(podpy: Podpy, source: Path, registry: Registry) -> None:
    name = f"{registry.address}/build/cli:1"
    podpy("build", "-t", name, "--push", "--tls-verify=false", source)
    assert "1" in registry.get("build/cli/tags/list")["tags"]


def document(registry: Registry, path: str) -> dict[str, Any]:
    """A manifest or index in the registry."""
    kinds = ("index", "manifest")
    accepted = ", ".join(f"application/vnd.oci.image.{kind}.v1+json" for kind in kinds)
    request = urllib.request.Request(
        f"http://{registry.address}/v2/{path}", headers={"Accept": accepted}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def platforms(index: dict[str, Any]) -> list[str]:
    described = [each["platform"] for each in index["manifests"]]
    return sorted("/".join((p["os"], p["architecture"], p.get("variant", ""))) for p in described)


def test_a_list_of_images_built_one_after_the_other(
    podpy: Podpy, source: Path, registry: Registry
) -> None:
    (source / "text").write_text("first")
    write(source, "FROM scratch\nCOPY text /\n")
    name = f"{registry.address}/build/list"
    for platform in ("linux/arm64", "linux/amd64", "linux/arm/v7"):
        podpy("build", "--manifest", name, "--platform", platform, source)
    (source / "text").write_text("second")
    new = podpy("build", "--manifest", name, "--platform", "linux/arm64", source).text
    podpy("image", "prune", "-f")
    podpy("push", "--tls-verify=false", name)
    index = document(registry, "build/list/manifests/latest")
    assert platforms(index) == ["linux/amd64/", "linux/arm/v7", "linux/arm64/"]
    (arm,) = [m for m in index["manifests"] if m["platform"]["architecture"] == "arm64"]
    made = document(registry, f"build/list/manifests/{arm['digest']}")
    assert made["config"]["digest"] == f"sha256:{new}", "the second takes the place of the first"
    about = podpy("image", "inspect", name).json()[0]
    assert about["Architecture"] == {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]


# --- what commands get -------------------------------------------------------


def test_secrets_and_mounts(podpy: Podpy, source: Path) -> None:
    write(
        source,
        f"FROM {BUSYBOX}\n"
        "RUN --mount=type=secret,id=key --mount=type=secret,id=TOKEN,env=TOKEN"
        " test $(cat /run/secrets/key) = hidden && test $TOKEN = fromenv\n"
        "RUN ls /given\n",
    )
    (podpy.directory / "key").write_text("hidden")
    given = podpy.directory / "given"
    given.mkdir()
    (given / "seen").touch()
    done = podpy(
        "build", "--secret", f"id=key,src={podpy.directory}/key", "--secret", "id=TOKEN",
        "-v", f"{given}:/given:ro", source, env={"TOKEN": "fromenv"},
    )  # fmt: skip
    assert " seen" in done.stderr


def test_mount_and_stdin_for_every_run(podpy: Podpy, source: Path) -> None:
    write(source, f'FROM {BUSYBOX}\nRUN read line; echo "$line" > /line; ls /c > /list\n')
    (source / "file").touch()
    made = podpy(
        "build", "-q", "--stdin", "--mount", "type=bind,target=/c", source, input="typed\n"
    )
    assert output_of(podpy, made.text, "cat", "/line", "/list").split() == [
        "typed", "Dockerfile", "file",
    ]  # fmt: skip


def test_hosts_limits_and_capabilities(podpy: Podpy, source: Path) -> None:
    write(
        source,
        f"FROM {BUSYBOX}\nRUN grep -q '10.1.2.3.*extra' /etc/hosts && ulimit -n > /n"
        " && grep CapEff /proc/self/status > /caps && df -k /dev/shm | tail -n 1 > /shm\n",
    )
    made = podpy(
        "build", "-q", "--add-host", "extra:10.1.2.3", "--ulimit", "nofile=321", "--cap-drop",
        "all", "--shm-size", "2m", *NET, source,
    ).text  # fmt: skip
    text = output_of(podpy, made, "cat", "/n", "/caps", "/shm")
    assert text.splitlines()[0] == "321"
    assert "0000000000000000" in text.splitlines()[1]
    assert text.splitlines()[2].split()[1] == "2048"


# --- what a Dockerfile says of itself ----------------------------------------

LINTED = """\
# GO sets the version
ARG GO=1.22
ARG base=busybox
# tools has what others need
FROM localhost/${base} as tools
ARG EXTRA=x
RUN --mount=type=secret,id=key,required --mount=type=ssh --mount=type=cache,target=/c true
FROM scratch
COPY --from=tools /bin /bin
CMD run me
"""


def test_check(podpy: Podpy, source: Path) -> None:
    write(source, LINTED)
    done = podpy("build", "--check", source, code=1)
    assert "WARNING: FromAsCasing - https://docs.docker.com/go/dockerfile/rule/" in done.stdout
    assert "   5 | >>> FROM localhost/${base} as tools" in done.stdout
    assert done.lines[-1].startswith("Check complete, ")
    assert "have been found!" in done.lines[-1]
    assert not list((podpy.store / "build").glob("*/*")), "nothing was built"
    write(source, SIMPLE.replace("CMD cat /made", 'CMD ["cat", "/made"]'))
    assert podpy("build", "--check", source).text == "Check complete, no warnings found."


def test_check_as_json_and_as_an_error(podpy: Podpy, source: Path) -> None:
    write(source, "# check=error=true\n" + LINTED)
    done = podpy("build", "--call=check,format=json", source, code=125)
    found = json.loads(done.stdout)
    rules = {warning["ruleName"] for warning in found["warnings"]}
    assert "FromAsCasing" in rules
    assert found["warnings"][0]["location"]["ranges"][0]["start"]["line"] > 0
    assert "lint violation found for rules: " in done.stderr


def test_outline_and_targets(podpy: Podpy, source: Path) -> None:
    write(source, LINTED)
    outline = podpy("build", "--call=outline", "--target=tools", source).stdout
    assert re.search(r"^TARGET: +tools\nDESCRIPTION: has what others need$", outline, re.M)
    assert re.search(r"^GO +1\.22 +sets the version$", outline, re.M)
    assert re.search(r"^key +true$", outline, re.M)
    assert re.search(r"^default *$", outline, re.M)
    found = podpy("build", "--call=outline,format=json", "--build-arg", "GO=2", source).json()
    assert {each["name"]: each["value"] for each in found["args"]}["GO"] == "2"
    write(source, "FROM scratch\nRUN --mount=type=secret,source=token,target=/x true\n")
    outline = podpy("build", "--call=outline", source).stdout
    assert re.search(r"^token *$", outline, re.M), "as --secret must call it"
    write(source, LINTED)
    targets = podpy("build", "--call=targets", source).lines
    assert [line.split()[0] for line in targets] == ["TARGET", "tools", "1"]
    assert "(default)" in targets[-1]
    assert "outline" in podpy("build", "--call=subrequests.describe", source).stdout


# --- what builds keep --------------------------------------------------------


def test_prune(podpy: Podpy, source: Path) -> None:
    write(
        source,
        f"FROM {BUSYBOX}\nRUN --mount=type=cache,target=/c dd if=/dev/zero of=/big bs=1M count=2\n",
    )
    podpy("build", "-t", "made", source)
    assert re.search(r"^[0-9a-f]{25} +true +\S+\* ", podpy("buildx", "du").stdout, re.M)
    text = podpy("builder", "prune", "-f").stdout
    assert "CACHED" in podpy("build", source).stderr, "an image shares it: it takes no room"
    assert re.search(r"^Total reclaimed space: \d+B$", text, re.M), "the empty cache mount"
    podpy("rmi", "made")
    podpy("image", "prune", "-f")
    used = podpy("buildx", "du", "--verbose").stdout
    assert "Description:    RUN" in used
    assert podpy("builder", "prune", "-f", "--filter", "until=1h").text.endswith(": 0B")
    assert podpy("builder", "prune", "-f", "--keep-storage", "1g").text.endswith(": 0B")
    pruned = podpy("buildx", "prune", "--all", "--force").stdout
    assert "Deleted build cache objects:" in pruned
    size = re.search(r"Total reclaimed space: ([\d.]+)MB", pruned)
    assert size
    assert 4 <= float(size[1]) < 5, "the tree and the blob"
    assert podpy("buildx", "du").lines == [
        "ID        RECLAIMABLE   SIZE      LAST ACCESSED",
        "Reclaimable:    0B",
        "Total:          0B",
    ]
    assert len(os.listdir(podpy.store / "layers")) == 1, "busybox"
    assert "CACHED" not in podpy("build", source).stderr


def test_prune_asks(podpy: Podpy, source: Path) -> None:
    podpy("build", source)
    done = podpy("builder", "prune", input="n\n", code=1)
    assert "WARNING! This will remove" in done.stderr
    assert "CACHED" in podpy("build", source).stderr


@pytest.mark.parametrize("filter_", ["color=red", "type=floppy", "until=soon", "inuse=perhaps"])
def test_prune_refuses_filters_it_does_not_know(podpy: Podpy, filter_: str) -> None:
    assert "--filter" in podpy.fails("builder", "prune", "-f", "--filter", filter_).stderr
