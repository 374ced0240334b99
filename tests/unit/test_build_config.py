"""What instructions do to an image's configuration, and what its history says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from podpy.build import config, dockerfile, instructions
from podpy.build.config import Draft
from podpy.model import DEFAULT_PATH, Platform

PLATFORM = Platform(architecture="amd64")


def draft(*lines: str, base: Draft | None = None) -> Draft:
    """The draft after some instructions, as a stage carries them out."""
    made = base or Draft.scratch(PLATFORM)
    for line in lines:
        found = instructions.resolve(dockerfile.parse_one(line), made.env)
        made.note(made.apply(found), layer=False)
    return made


@pytest.mark.parametrize(
    ("lines", "key", "value"),
    [
        (["CMD echo hi"], "Cmd", ["/bin/sh", "-c", "echo hi"]),
        (['CMD ["a", "b c"]'], "Cmd", ["a", "b c"]),
        (['SHELL ["/bin/bash", "-c"]', "CMD x"], "Cmd", ["/bin/bash", "-c", "x"]),
        (["ENTRYPOINT run"], "Entrypoint", ["/bin/sh", "-c", "run"]),
        (["ENV A=1 B=two", "ENV A=3"], "Env", [f"PATH={DEFAULT_PATH}", "A=3", "B=two"]),
        (["LABEL a=b", 'LABEL a="c d" e=f'], "Labels", {"a": "c d", "e": "f"}),
        (["EXPOSE 80 53/udp 8000-8002"], "ExposedPorts",
         {"53/udp": {}, "80/tcp": {}, "8000/tcp": {}, "8001/tcp": {}, "8002/tcp": {}}),
        (["VOLUME /b /a", 'VOLUME ["/c d"]'], "Volumes", {"/a": {}, "/b": {}, "/c d": {}}),
        (["USER me:us"], "User", "me:us"),
        (["WORKDIR /a", "WORKDIR b/../c", "WORKDIR ./d/"], "WorkingDir", "/a/c/d"),
        (["STOPSIGNAL SIGINT"], "StopSignal", "SIGINT"),
        (["HEALTHCHECK NONE"], "Healthcheck", {"Test": ["NONE"]}),
        (["HEALTHCHECK --interval=5s --retries=2 CMD check"], "Healthcheck",
         {"Test": ["CMD-SHELL", "check"], "Interval": 5_000_000_000, "Retries": 2}),
        (["ONBUILD RUN x", "ONBUILD COPY a b"], "OnBuild", ["RUN x", "COPY a b"]),
    ],
)  # fmt: skip
def test_effects(lines: list[str], key: str, value: Any) -> None:
    assert draft(*lines).config[key] == value


def test_an_entry_point_drops_a_command_that_was_inherited() -> None:
    base = draft("CMD inherited").copy()
    assert "Cmd" not in draft("ENTRYPOINT x", base=base).config
    own = draft("CMD own", "ENTRYPOINT x")
    assert own.config["Cmd"] == ["/bin/sh", "-c", "own"]


def test_an_inherited_path_is_kept() -> None:
    base = Draft({"architecture": "amd64", "os": "linux", "config": {"Env": ["A=b"]}})
    assert draft("ENV C=d", base=base).config["Env"] == ["A=b", "C=d"]


def test_a_copy_is_apart() -> None:
    first = draft("ENV A=1")
    second = first.copy()
    draft("ENV A=2", "LABEL x=y", base=second)
    assert first.env["A"] == "1"
    assert "Labels" not in first.config
    assert len(first.history) == 1


def test_the_document() -> None:
    made = draft("MAINTAINER me", "CMD x")
    made.note("RUN x", layer=True, created=5.25)
    document = json.loads(made.finished("2020-01-01T00:00:00Z", ["sha256:" + "a" * 64]))
    assert document["created"] == "2020-01-01T00:00:00Z"
    assert document["rootfs"] == {"type": "layers", "diff_ids": ["sha256:" + "a" * 64]}
    assert document["author"] == "me"
    assert [e.get("empty_layer", False) for e in document["history"]] == [True, True, False]
    assert document["history"][2]["created"] == "1970-01-01T00:00:05.25Z"
    assert document["history"][0]["created"] == "2020-01-01T00:00:00Z"


def test_the_document_is_the_same_whatever_came_first() -> None:
    one = draft("LABEL b=1", "USER x", "CMD y")
    two = draft("LABEL b=1", "CMD y", "USER x")
    one.history.clear()
    two.history.clear()
    assert one.finished("", []) == two.finished("", [])


def test_squashed_layers_are_one() -> None:
    made = Draft.scratch(PLATFORM)
    for number in range(4):
        made.note(f"RUN {number}", layer=True)
    made.join_layers(1)
    assert [e.get("empty_layer", False) for e in made.history] == [False, True, True, False]


@pytest.mark.parametrize(
    "text",
    [
        "COPY a b /c/",
        "COPY --from=x --chown=1:2 --chmod=644 --exclude=*.o --exclude=t --link --parents a /b",
        "ADD --chown=me --exclude=x --link a /b",
    ],
)
def test_the_history_says_all_that_changes_what_is_copied(text: str) -> None:
    assert config.copy_text(dockerfile.parse_one(text)) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "1970-01-01T00:00:00Z"), (1.5, "1970-01-01T00:00:01.5Z"), (1e9, "2001-09-09T01:46:40Z")],
)
def test_times(seconds: float, text: str) -> None:
    assert config.timestamp_text(seconds) == text


def test_labels_are_taken_out_however_they_are_named() -> None:
    made = draft("LABEL a=1 b=2 c=3 d=4")
    made.unset_labels(name for name in ("a", "b", "d"))
    assert made.config["Labels"] == {"c": "3"}
    made.unset_labels(["c", "nobody"])
    assert "Labels" not in made.config
