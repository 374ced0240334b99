"""Stages of a Dockerfile: names, targets, global arguments, bases."""

from __future__ import annotations

import pytest

from podpy.build import dockerfile
from podpy.build.diagnostics import DockerfileError
from podpy.build.plan import Order, Plan
from podpy.errors import BuildError
from podpy.model import Platform

NATIVE = Platform(architecture="amd64")


def plan(text: str, target: str = "", base: str = "", **arguments: str) -> Plan:
    return Plan(
        Order(
            dockerfile=dockerfile.parse(text),
            platform=Platform(architecture="arm", variant="v7"),
            native=NATIVE,
            target=target,
            arguments=arguments,
            base=base,
        )
    )


THREE = "FROM a AS one\nFROM one AS Two\nFROM two\n"


@pytest.mark.parametrize(
    ("target", "index"), [("", 2), ("one", 0), ("ONE", 0), ("two", 1), ("0", 0), ("2", 2)]
)
def test_targets(target: str, index: int) -> None:
    assert plan(THREE, target).target == index


@pytest.mark.parametrize("target", ["three", "3", "-1"])
def test_targets_that_are_not_there(target: str) -> None:
    with pytest.raises(BuildError, match="could not be found"):
        plan(THREE, target)


@pytest.mark.parametrize(
    ("name", "index", "found"),
    [("one", 1, 0), ("one", 0, None), ("Two", 2, 1), ("1", 2, 1), ("2", 2, None), ("x", 2, None)],
)
def test_a_name_means_a_stage_before(name: str, index: int, found: int | None) -> None:
    assert plan(THREE).stage_before(name, index) == found


@pytest.mark.parametrize("line", ["COPY --from=1 x /", "RUN --mount=from=7,target=/x true"])
def test_a_number_is_a_stage_before_or_a_mistake(line: str) -> None:
    made = plan(f"FROM a\nFROM b\n{line}\n")
    with pytest.raises(DockerfileError, match=r"no stage [17] before this one"):
        list(made.needed_at_once(made.dockerfile.stages[1]))


def test_of_two_stages_with_one_name_the_nearest_counts() -> None:
    made = plan("FROM a AS x\nFROM b AS x\nFROM x\n")
    assert made.stage_before("x", 2) == 1
    assert made.stage_before("x", 1) == 0


def test_global_arguments() -> None:
    text = "ARG A=1\nARG B=${A}2\nARG C\nFROM image:${B}${C:-none}\n"
    made = plan(text)
    assert made.base(made.dockerfile.stages[0]) == "image:12none"
    made = plan(text, A="x", C="y")
    assert made.base(made.dockerfile.stages[0]) == "image:x2y"


def test_platform_arguments_in_from() -> None:
    made = plan("FROM --platform=$BUILDPLATFORM image-$TARGETARCH$TARGETVARIANT\n")
    stage = made.dockerfile.stages[0]
    assert made.base(stage) == "image-armv7"
    assert made.platform_text(stage) == "linux/amd64"


def test_a_base_of_the_command_line() -> None:
    made = plan("FROM a\nFROM b\n", base="other")
    assert [made.base(stage) for stage in made.dockerfile.stages] == ["other", "b"]


def test_an_empty_base_is_an_error_at_its_line() -> None:
    made = plan("ARG NAME\nFROM $NAME\n")
    with pytest.raises(DockerfileError, match="Dockerfile:2"):
        made.base(made.dockerfile.stages[0])


def test_what_a_stage_needs() -> None:
    made = plan(
        "FROM x AS a\nFROM x AS b\nFROM x AS c\n"
        "FROM a\nCOPY --from=b /x /\nRUN --mount=from=c,target=/c true\nCOPY --from=image /y /\n"
    )
    assert sorted(made.needed_at_once(made.dockerfile.stages[3])) == [0, 1, 2]
