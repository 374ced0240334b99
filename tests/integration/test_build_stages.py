"""Stages, arguments and the cache of builds: what is built and what is found again."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from support.podpy import BUSYBOX, Podpy

NET = ("--network", "none")


@pytest.fixture
def source(podpy: Podpy) -> Path:
    path = podpy.directory / "context"
    path.mkdir()
    return path


def write(source: Path, text: str) -> Path:
    (source / "Dockerfile").write_text(text)
    return source


def steps(progress: str, mark: str) -> list[str]:
    """The titles of the steps that ended with a mark (``CACHED``, ``DONE``)."""
    titles, found = {}, []
    for line in progress.splitlines():
        number, _, rest = line.partition(" ")
        if rest.startswith("["):
            titles[number] = rest.partition("] ")[2]
        elif rest.startswith(mark) and not titles.get(number, "FROM").startswith("FROM"):
            found.append(titles[number])
    return found


def build(podpy: Podpy, source: Path, *options: object) -> str:
    """Build quietly; all that was shown."""
    return podpy("build", "--progress=plain", *NET, *options, source).stderr


def output_of(podpy: Podpy, image: str, *command: str) -> str:
    return podpy("run", "--rm", *NET, image, *command).text


# --- stages --------------------------------------------------------------------


def test_stages_that_nobody_needs_are_not_built(podpy: Podpy, source: Path) -> None:
    write(
        source,
        f"FROM {BUSYBOX} AS unused\nRUN exit 1\n"
        f"FROM {BUSYBOX} AS used\nRUN echo used > /x\n"
        f"FROM {BUSYBOX}\nCOPY --from=used /x /x\n",
    )
    shown = build(podpy, source, "-t", "x")
    assert "unused" not in shown
    assert output_of(podpy, "x", "cat", "/x") == "used"
    assert podpy("build", "--target", "unused", *NET, source, code=None).code == 1


def test_a_base_by_its_id_takes_as_much_of_it_as_listings_show(podpy: Podpy, source: Path) -> None:
    write(source, f"FROM {BUSYBOX}\nRUN echo here > /x\n")
    made = podpy("build", "-q", *NET, source).text.removeprefix("sha256:")
    write(source, f"FROM {made[:12]}\nRUN cat /x\n")
    assert " here" in build(podpy, source)
    write(source, f"FROM {BUSYBOX}\nCOPY --from={made[:11]} /x /y\n")
    refused = podpy("build", "--pull=never", *NET, source, code=None)
    assert "image not known" in refused.stderr or "no stage" in refused.stderr


def test_an_image_that_is_not_there_is_shown_in_its_line(podpy: Podpy, source: Path) -> None:
    write(source, f"FROM {BUSYBOX}\nCOPY --from=localhost/nowhere /x /\n")
    refused = podpy.fails("build", "--pull=never", *NET, source)
    assert "   2 | >>> COPY --from=localhost/nowhere /x /" in refused.stderr
    write(source, "FROM localhost/nowhere AS first\nRUN true\n")
    refused = podpy.fails("build", "--pull=never", *NET, source)
    assert "   1 | >>> FROM localhost/nowhere AS first" in refused.stderr


def test_where_a_trigger_fails(podpy: Podpy, source: Path) -> None:
    write(source, f"FROM {BUSYBOX}\nONBUILD RUN exit 3\n")
    podpy("build", "-t", "trap", *NET, source)
    write(source, "# one\n# two\nFROM localhost/trap\n")
    refused = podpy.fails("build", *NET, source, code=3)
    assert "   3 | >>> FROM localhost/trap" in refused.stderr


def test_a_stage_goes_on_from_another(podpy: Podpy, source: Path) -> None:
    write(
        source,
        f'FROM {BUSYBOX} AS base\nARG A=1\nENV E=$A\nWORKDIR /w\nUSER 5\nSHELL ["sh", "-ec"]\n'
        "FROM base AS next\nRUN echo $E $A $(id -u) $(pwd) > /tmp/x\n"
        "FROM next\nCMD cat /tmp/x\n",
    )
    build(podpy, source, "-t", "x")
    assert output_of(podpy, "x") == "1 1 5 /w"


def test_independent_stages_run_at_the_same_time(podpy: Podpy, source: Path) -> None:
    """Each waits until the other has begun: one after the other they would wait for ever."""
    meet = "touch /meet/$ME; until [ -e /meet/$OTHER ]; do sleep 0.05; done"
    (source / "meet").mkdir()
    os.chmod(source / "meet", 0o777)
    volume = f"{source}/meet:/meet"
    write(
        source,
        f"FROM {BUSYBOX} AS a\nRUN ME=a OTHER=b; {meet}\n"
        f"FROM {BUSYBOX} AS b\nRUN ME=b OTHER=a; {meet}\n"
        f"FROM {BUSYBOX}\nCOPY --from=a /bin/sh /a\nCOPY --from=b /bin/sh /b\n",
    )
    build(podpy, source, "--jobs", "2", "--volume", volume)


def test_one_job_is_one_step_at_a_time(podpy: Podpy, source: Path) -> None:
    alone = "mkdir /meet/alone && sleep 0.2 && rmdir /meet/alone"
    (source / "meet").mkdir()
    os.chmod(source / "meet", 0o777)
    stages = "".join(f"FROM {BUSYBOX} AS s{n}\nRUN : {n}; {alone}\n" for n in range(3))
    copies = "".join(f"COPY --from=s{n} /bin/sh /s{n}\n" for n in range(3))
    write(source, f"{stages}FROM {BUSYBOX}\n{copies}")
    build(podpy, source, "--jobs", "1", "--volume", f"{source}/meet:/meet")


def test_a_failure_ends_the_other_stages(podpy: Podpy, source: Path) -> None:
    write(
        source,
        f"FROM {BUSYBOX} AS slow\nRUN sleep 300\n"
        f"FROM {BUSYBOX} AS broken\nRUN echo last words; exit 7\n"
        f"FROM {BUSYBOX}\nCOPY --from=slow /x /\nCOPY --from=broken /x /\n",
    )
    begun = time.monotonic()
    done = podpy("build", "--progress=plain", "--jobs", "2", *NET, source, code=None)
    assert time.monotonic() - begun < 60
    assert done.code == 7
    assert "last words" in done.stderr
    assert "exit code: 7" in done.stderr


def test_triggers_of_a_base_image(podpy: Podpy, source: Path) -> None:
    (source / "data").write_text("from the context")
    write(source, f"FROM {BUSYBOX}\nONBUILD COPY data /data\nONBUILD RUN cat /data > /copy\n")
    build(podpy, source, "-t", "base")
    write(source, "FROM base\nCMD cat /copy\n")
    build(podpy, source, "-t", "x")
    assert output_of(podpy, "x") == "from the context"
    found = podpy("image", "inspect", "x").json()[0]["Config"]
    assert not found.get("OnBuild"), "triggers are carried out once"


# --- arguments -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), "global default stage - -"),
        (("--build-arg", "G=cli"), "cli default stage - -"),
        (("--build-arg", "D=cli", "--build-arg", "N=given"), "global cli stage given -"),
        (("--build-arg", "E=cli", "--build-arg", "U=cli"), "global default stage - -"),
    ],
)
def test_where_arguments_come_from(
    podpy: Podpy, source: Path, options: tuple[str, ...], expected: str
) -> None:
    """A global one must be asked for again; ENV wins over ARG; the undeclared is unseen."""
    write(
        source,
        f"ARG G=global\nARG BASE={BUSYBOX}\nFROM $BASE\nARG G\nARG D=default\nARG E=arg\nARG N\n"
        "ENV E=stage\nRUN echo $G $D $E ${N:--} ${U:--} > /x\n",
    )
    build(podpy, source, "-t", "x", *options)
    assert output_of(podpy, "x", "cat", "/x") == expected


def test_platform_arguments(podpy: Podpy, source: Path) -> None:
    names = ("BUILDPLATFORM", "TARGETPLATFORM", "TARGETOS", "TARGETARCH", "BUILDARCH")
    declared = "".join(f"ARG {name}\n" for name in names)
    write(source, f"FROM {BUSYBOX}\n{declared}RUN echo {' '.join(f'${n}' for n in names)} > /x\n")
    build(podpy, source, "-t", "x")
    native = podpy("version", "--format", "{{.Client.OsArch}}").text
    kind, arch = native.split("/")
    assert output_of(podpy, "x", "cat", "/x") == f"{native} {native} {kind} {arch} {arch}"


def test_unused_arguments_are_told(podpy: Podpy, source: Path) -> None:
    write(source, f"FROM {BUSYBOX}\nARG USED\nRUN echo $USED\n")
    shown = build(podpy, source, "--build-arg", "USED=1", "--build-arg", "TYPO=1")
    assert "not consumed: [TYPO]" in shown


def test_several_platforms_make_an_index(podpy: Podpy, source: Path) -> None:
    write(source, "FROM scratch\nARG TARGETARCH\nCOPY x-$TARGETARCH /x\n")
    for arch in ("amd64", "arm64"):
        (source / f"x-{arch}").write_text(arch)
    shown = build(podpy, source, "--platform", "linux/amd64,linux/arm64", "-t", "multi")
    assert "[linux/arm64 " in shown
    assert shown.count("writing image sha256:") == 2
    assert shown.count("writing index sha256:") == 1
    layout = podpy.directory / "layout"
    podpy("build", *NET, "--platform", "linux/amd64,linux/arm64", "-o",
          f"type=oci,tar=false,dest={layout}", source)  # fmt: skip
    index = json.loads((layout / "index.json").read_text())
    while "platform" not in index["manifests"][0]:
        digest = index["manifests"][0]["digest"].partition(":")[2]
        index = json.loads((layout / "blobs" / "sha256" / digest).read_text())
    assert {m["platform"]["architecture"] for m in index["manifests"]} == {"amd64", "arm64"}


# --- the cache -----------------------------------------------------------------


CACHED = f"FROM {BUSYBOX}\nRUN echo one > /1\nCOPY f /f\nRUN cat /f > /2\n"


def test_what_invalidates(podpy: Podpy, source: Path) -> None:
    (source / "f").write_text("first")
    write(source, CACHED)
    build(podpy, source)
    every = ["RUN echo one > /1", "COPY f /f", "RUN cat /f > /2"]
    assert steps(build(podpy, source), "CACHED") == every
    os.utime(source / "f", (1, 1))
    assert steps(build(podpy, source), "CACHED") == every, "touched is not changed"
    (source / "other").write_text("not copied")
    assert steps(build(podpy, source), "CACHED") == every
    (source / "f").write_text("other")
    assert steps(build(podpy, source), "CACHED") == every[:1]
    (source / "f").write_text("first")
    assert steps(build(podpy, source), "CACHED") == every, "as it was before"
    os.chmod(source / "f", 0o755)
    assert steps(build(podpy, source), "CACHED") == every[:1]


def test_arguments_and_variables_are_in_the_key(podpy: Podpy, source: Path) -> None:
    write(source, f"FROM {BUSYBOX}\nARG A=1\nRUN echo before\nENV E=$A\nRUN echo $E\n")
    build(podpy, source)
    assert len(steps(build(podpy, source), "CACHED")) == 2
    assert steps(build(podpy, source, "--build-arg", "A=2"), "CACHED") == []


def test_proxies_are_not(podpy: Podpy, source: Path) -> None:
    write(source, f"FROM {BUSYBOX}\nRUN echo ${{http_proxy:-none}} > /x\n")
    build(podpy, source, "-t", "x", "--build-arg", "http_proxy=http://one")
    assert output_of(podpy, "x", "cat", "/x") == "http://one"
    shown = build(podpy, source, "--build-arg", "http_proxy=http://two")
    assert len(steps(shown, "CACHED")) == 1
    assert "http://one" not in podpy("history", "--no-trunc", "x").stdout


def test_no_cache_and_a_filter_of_it(podpy: Podpy, source: Path) -> None:
    write(
        source,
        f"FROM {BUSYBOX} AS one\nRUN cat /proc/sys/kernel/random/uuid > /1\n"
        f"FROM {BUSYBOX} AS two\nRUN cat /proc/sys/kernel/random/uuid > /2\n"
        f"FROM {BUSYBOX}\nCOPY --from=one /1 /\nCOPY --from=two /2 /\n",
    )

    def contents(*options: str) -> list[str]:
        build(podpy, source, "-t", "x", *options)
        return output_of(podpy, "x", "cat", "/1", "/2").splitlines()

    first = contents()
    assert contents() == first
    filtered = contents("--no-cache-filter", "two")
    assert filtered[0] == first[0]
    assert filtered[1] != first[1]
    assert contents() == filtered, "what was made last counts"
    fresh = contents("--no-cache")
    assert not set(fresh) & set(filtered)


def test_a_time_to_live(podpy: Podpy, source: Path) -> None:
    write(source, f"FROM {BUSYBOX}\nRUN cat /proc/sys/kernel/random/uuid > /1\n")
    build(podpy, source)
    assert len(steps(build(podpy, source, "--cache-ttl", "1h"), "CACHED")) == 1
    time.sleep(1.1)  # the age is what is tested
    assert steps(build(podpy, source, "--cache-ttl", "1s"), "CACHED") == []


def test_the_cache_outlives_images_and_goes_with_its_pruning(podpy: Podpy, source: Path) -> None:
    write(source, f"FROM {BUSYBOX}\nRUN cat /proc/sys/kernel/random/uuid > /1\n")
    build(podpy, source, "-t", "x")
    made = output_of(podpy, "x", "cat", "/1")
    podpy("rmi", "-f", "x")
    podpy("image", "prune", "-f")
    assert len(steps(build(podpy, source, "-t", "x"), "CACHED")) == 1
    assert output_of(podpy, "x", "cat", "/1") == made
    podpy("rmi", "-f", "x")
    podpy("builder", "prune", "-a", "-f")
    assert steps(build(podpy, source, "-t", "x"), "CACHED") == []
    assert output_of(podpy, "x", "cat", "/1") != made


def test_a_damaged_layer_is_made_anew(podpy: Podpy, source: Path) -> None:
    write(source, f"FROM {BUSYBOX}\nRUN echo one > /1\n")
    build(podpy, source)
    records = list(podpy.store.glob("build/??/*.json"))
    layers = {json.loads(path.read_text())["diff_id"] for path in records} - {""}
    assert layers
    for diff_id in layers:
        digits = diff_id.partition(":")[2]
        (podpy.store / "content" / "blobs" / "sha256" / digits).unlink()
    assert steps(build(podpy, source, "-t", "x"), "CACHED") == []
    assert output_of(podpy, "x", "cat", "/1") == "one"


def test_a_metadata_change_alone_keeps_layers(podpy: Podpy, source: Path) -> None:
    write(source, f"FROM {BUSYBOX}\nRUN echo one > /1\nCMD one\n")
    build(podpy, source, "-t", "one")
    write(source, f"FROM {BUSYBOX}\nRUN echo one > /1\nCMD two\n")
    assert len(steps(build(podpy, source, "-t", "two"), "CACHED")) == 1
    layers = [podpy("image", "inspect", n).json()[0]["RootFS"]["Layers"] for n in ("one", "two")]
    assert layers[0] == layers[1]


def test_what_is_refused_is_not_found_in_the_cache(podpy: Podpy, source: Path) -> None:
    write(source, f"FROM {BUSYBOX}\nRUN true\n")
    build(podpy, source)
    write(source, f"FROM {BUSYBOX}\nRUN --security=insecure true\n")
    done = podpy("build", *NET, source, code=None)
    assert done.code == 125
    assert "--security=insecure" in done.stderr
