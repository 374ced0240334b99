"""Dockerfile instructions on an image's configuration."""

from __future__ import annotations

from typing import Any

import pytest

from podpy.engine import changes
from podpy.errors import UsageError


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["CMD sleep 5"], {"Cmd": ["/bin/sh", "-c", "sleep 5"]}),
        (['CMD ["sleep", "5"]'], {"Cmd": ["sleep", "5"]}),
        (["cmd=/bin/x"], {"Cmd": ["/bin/sh", "-c", "/bin/x"]}),
        (['ENTRYPOINT ["/e"]'], {"Entrypoint": ["/e"]}),
        (["ENV A=1 B='two words'"], {"Env": ["A=1", "B=two words"]}),
        (["ENV A the rest of it"], {"Env": ["A=the rest of it"]}),
        (["ENV A=1", "ENV A=2"], {"Env": ["A=2"]}),
        (["LABEL a=b", "LABEL c=d"], {"Labels": {"a": "b", "c": "d"}}),
        (["EXPOSE 80 53/UDP"], {"ExposedPorts": {"80/tcp": {}, "53/udp": {}}}),
        (["VOLUME /a /b"], {"Volumes": {"/a": {}, "/b": {}}}),
        (['VOLUME ["/a b"]'], {"Volumes": {"/a b": {}}}),
        (["WORKDIR /a", "WORKDIR b"], {"WorkingDir": "/a/b"}),
        (["USER 5:6"], {"User": "5:6"}),
        (["STOPSIGNAL SIGINT"], {"StopSignal": "SIGINT"}),
        (["ONBUILD RUN x", "ONBUILD RUN y"], {"OnBuild": ["RUN x", "RUN y"]}),
        (
            ['SHELL ["/bin/ash", "-c"]', "CMD x"],
            {"Shell": ["/bin/ash", "-c"], "Cmd": ["/bin/ash", "-c", "x"]},
        ),
        (["HEALTHCHECK NONE"], {"Healthcheck": {"Test": ["NONE"]}}),
        (["ENV A=1", "ENV B=$A/2 C='$A'"], {"Env": ["A=1", "B=1/2", "C=$A"]}),
        (["ENV=A=1"], {"Env": ["A=1"]}),
    ],
)
def test_instructions(given: list[str], expected: dict[str, Any]) -> None:
    assert changes.apply({}, given) == expected


def test_the_configuration_given_is_not_touched() -> None:
    before = {"Env": ["A=1"], "Labels": {"a": "b"}}
    changes.apply(before, ["ENV B=2", "LABEL c=d"])
    assert before == {"Env": ["A=1"], "Labels": {"a": "b"}}


@pytest.mark.parametrize(
    "bad",
    [
        "RUN x",
        "COPY a b",
        "",
        "CMD",
        "ENV ",
        "EXPOSE http",
        "LABEL a='x",
        "FROM scratch",
        "MAINTAINER me",
        "ARG a",
        "CMD a\nCMD b",
        "ENV A=${",
        "NO x",
    ],
)
def test_what_changes_no_configuration(bad: str) -> None:
    with pytest.raises(UsageError):
        changes.apply({}, [bad])
