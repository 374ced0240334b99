"""ADD: what a source is, and which flags go with it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from podpy.build import adding, config
from podpy.build.diagnostics import Location
from podpy.build.instructions import Add
from podpy.build.model import CopyWork, Source
from podpy.errors import BuildError


@pytest.mark.parametrize(
    "source",
    [
        "https://example.com/r.git", "http://example.com/r.git#v1:sub", "git@example.com:r.git",
        "git://example.com/r", "ssh://git@example.com/r", "https://example.com/r.git?ref=x",
    ],
)  # fmt: skip
def test_repositories(source: str) -> None:
    assert adding.repository_of(source) is not None


@pytest.mark.parametrize(
    "source",
    [
        "https://example.com/f",
        "http://example.com/",
        "f",
        "./f.git",
        "d/r.git",
        "github.com/o/n",
        "*",
    ],
)
def test_no_repositories(source: str) -> None:
    assert adding.repository_of(source) is None


@pytest.mark.parametrize("source", ["file:///home/x/r.git", "FILE:///etc"])
def test_repositories_of_this_host_are_refused(source: str) -> None:
    with pytest.raises(BuildError, match="no repositories of this host"):
        adding.repository_of(source)


class Recorder:
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def add(*sources: str, **flags: Any) -> list[str]:
    """Check an ADD as far as nothing must be fetched; what was said."""
    instruction = Add(
        location=Location(), original="ADD", sources=sources, destination="/x/", **flags
    )
    wire = Recorder()
    bench: Any = SimpleNamespace(place=lambda: "", lookup=lambda *_: None, key=lambda *_: "")
    work = CopyWork(instruction=instruction, source=Source())
    made = adding._Adding(work, bench, wire)  # type: ignore[arg-type]
    if made.is_remote:
        made._check_flags()
        for repository in filter(None, made._repositories.values()):
            made._wanted(repository)
    else:
        made.check_local()
    return wire.warnings


SUM = "sha256:" + "0" * 64


def test_flags_that_fit() -> None:
    assert add("http://example.com/f", checksum=SUM) == []
    assert add("https://example.com/r.git", checksum="be1f38e", keep_git_dir=True) == []
    assert add("https://example.com/r.git?keep-git-dir=1", keep_git_dir=True) == []


def test_flags_that_mean_nothing_are_mentioned() -> None:
    assert "keep-git-dir" in add("f", keep_git_dir=True)[0]
    assert "keep-git-dir" in add("http://example.com/f", keep_git_dir=False)[0]


@pytest.mark.parametrize(
    ("sources", "flags", "reason"),
    [
        (("f",), {"checksum": SUM}, "requires an HTTP"),
        (("http://example.com/f", "g"), {"checksum": SUM}, "multiple sources"),
        (("http://example.com/f",), {"checksum": "sha256:0"}, "is not sha256"),
        (("http://example.com/f",), {"checksum": "md5:" + "0" * 32}, "is not sha256"),
        (("https://e.com/r.git",), {"checksum": "xyz"}, "not the beginning of a commit"),
        (("https://e.com/r.git?checksum=abcd",), {"checksum": "abce"}, "mismatch"),
        (("https://e.com/r.git?keep-git-dir=0",), {"keep_git_dir": True}, "opposite"),
    ],
)
def test_flags_that_do_not_fit(
    sources: tuple[str, ...], flags: dict[str, Any], reason: str
) -> None:
    with pytest.raises(BuildError, match=reason):
        add(*sources, **flags)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ADD https://u:p@h/f /x", "ADD https://h/f /x"),
        ("ADD HTTP://u@h:8/f?q=a@b /x", "ADD HTTP://h:8/f?q=a@b /x"),
        ('ADD ["https://u:p@w@h/f", "/x"]', 'ADD ["https://h/f", "/x"]'),
        ("ADD https://h/a@b git@h:r /x", "ADD https://h/a@b git@h:r /x"),
        ("ADD https://h?u@v /x", "ADD https://h?u@v /x"),
        ("ADD a@b /x", "ADD a@b /x"),
    ],
)
def test_urls_lose_their_logins(text: str, expected: str) -> None:
    assert config.without_logins(text) == expected
