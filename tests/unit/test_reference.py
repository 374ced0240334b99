"""Image references: docker's defaults, and a grammar without holes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podpy.errors import UsageError
from podpy.registry import reference

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("alpine", "docker.io/library/alpine:latest"),
        ("alpine:3.19", "docker.io/library/alpine:3.19"),
        ("me/app", "docker.io/me/app:latest"),
        ("docker.io/alpine", "docker.io/library/alpine:latest"),
        ("index.docker.io/me/app", "docker.io/me/app:latest"),
        ("localhost/x", "localhost/x:latest"),
        ("localhost:5000/x", "localhost:5000/x:latest"),
        ("quay.io/a/b/c:v1", "quay.io/a/b/c:v1"),
        ("[::1]:5000/a", "[::1]:5000/a:latest"),
        ("Upper/x", "Upper/x:latest"),
        (f"alpine@{DIGEST}", f"docker.io/library/alpine@{DIGEST}"),
        (f"alpine:3@{DIGEST}", f"docker.io/library/alpine:3@{DIGEST}"),
        ("a.b_c__d---e", "docker.io/library/a.b_c__d---e:latest"),
    ],
)
def test_defaults_are_dockers(text: str, whole: str) -> None:
    assert str(reference.parse(text)) == whole


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "A", "a b", "a\n", "-a", "a-", "a..b", "a___b", "a_-b", "a:", "a:.x", "a:-x",
        "a:" + "t" * 129, "a@sha256:../../x", "a@sha256:" + "g" * 64, "a@sha256:" + "A" * 64,
        "a@sha512:" + "a" * 128, "a@", "f" * 64, "h.io/", "h.io/a/", "/a", "a//b", "h.io:99999/a",
        "h.io:0/a", "h.io:x/a", "h.io:/a", "a" * 256, "../x", "h.io/../x", "https://h.io/a",
        "-h.io/a", "[::1/a", "h..io/a", "a%2f", "ä", "h.io/a:t@" + "a" * 64,
    ],
)  # fmt: skip
def test_what_breaks_the_grammar_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        reference.parse(text)


@given(st.text(max_size=80))
def test_what_is_accepted_is_safe_in_paths_and_urls(text: str) -> None:
    try:
        parsed = reference.parse(text)
    except UsageError:
        return
    assert all(c.isascii() and c.isprintable() and c not in " %?#\\" for c in str(parsed))
    assert ".." not in str(parsed) and "//" not in str(parsed)
    assert reference.parse(str(parsed)) == parsed


@pytest.mark.parametrize(
    ("text", "registry", "whole"),
    [
        ("app", "localhost", "localhost/app:latest"),
        ("app:1", "quay.io/team", "quay.io/team/app:1"),
        ("me/app", "docker.io", "docker.io/me/app:latest"),
    ],
)
def test_a_short_name_is_completed_by_a_registry(text: str, registry: str, whole: str) -> None:
    assert reference.is_short(text)
    assert str(reference.qualify(text, registry)) == whole
