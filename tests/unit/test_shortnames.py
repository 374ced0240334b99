"""Short names and registry rules: containers-registries.conf(5), version 2."""

from __future__ import annotations

import pytest

from podpy.errors import RegistryError, UsageError
from podpy.registry import shortnames
from podpy.registry.reference import parse
from podpy.settings import Endpoint, Registries, RegistryRule

DIGEST = "sha256:" + "a" * 64


def local(text: str, **settings: object) -> list[str]:
    found = shortnames.local_candidates(text, Registries(**settings))  # type: ignore[arg-type]
    return [str(reference) for reference in found]


def remote(text: str, **settings: object) -> list[str]:
    found = shortnames.pull_candidates(text, Registries(**settings))  # type: ignore[arg-type]
    return [str(reference) for reference in found]


def sources(text: str, *rules: RegistryRule) -> list[tuple[str, bool]]:
    found = shortnames.endpoints(parse(text), Registries(rules=rules))
    return [(str(source.reference), source.insecure) for source in found]


def test_locally_every_origin_is_a_candidate() -> None:
    assert local("x:1", search=("a.io",), aliases={"x": "b.io/team/x"}) == [
        "localhost/x:1",
        "b.io/team/x:1",
        "a.io/x:1",
        "docker.io/library/x:1",
    ]
    assert local("a.io/x") == ["a.io/x:latest"]


def test_without_a_search_list_docker_hub_is_asked() -> None:
    assert remote("x") == ["docker.io/library/x:latest"]


def test_an_alias_decides_and_keeps_the_tag() -> None:
    assert remote("x:2", aliases={"x": "b.io/y"}, search=("a.io", "c.io")) == ["b.io/y:2"]
    assert remote(f"x@{DIGEST}", aliases={"x": "b.io/y"}) == [f"b.io/y@{DIGEST}"]
    assert remote("x", aliases={"x": ""}) == ["docker.io/library/x:latest"]


def test_an_ambiguous_name_is_refused_where_nobody_can_be_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shortnames, "_can_ask", lambda: False)
    with pytest.raises(UsageError, match="ambiguous"):
        remote("x", search=("a.io", "b.io"))
    assert len(remote("x", search=("a.io", "b.io"), short_name_mode="permissive")) == 2


def test_disabled_mode_ignores_aliases() -> None:
    found = remote("x", search=("a.io",), aliases={"x": "b.io/x"}, short_name_mode="disabled")
    assert found == ["a.io/x:latest"]


def test_without_rules_a_reference_is_where_it_says() -> None:
    assert sources("a.io/x:1") == [("a.io/x:1", False)]


def test_the_longest_prefix_wins_and_is_replaced() -> None:
    rules = (
        RegistryRule(prefix="a.io", location="mirror.io/a"),
        RegistryRule(prefix="a.io/team", location="b.io/other", insecure=True),
    )
    assert sources("a.io/team/x:1", *rules) == [("b.io/other/x:1", True)]
    assert sources("a.io/teamwork/x:1", *rules) == [("mirror.io/a/teamwork/x:1", False)]
    assert sources("a.io.evil/x:1", *rules) == [("a.io.evil/x:1", False)]


def test_a_wildcard_covers_subdomains_only() -> None:
    rule = RegistryRule(prefix="*.a.io", insecure=True)
    assert sources("r.a.io:5000/x:1", rule) == [("r.a.io:5000/x:1", True)]
    assert sources("a.io/x:1", rule) == [("a.io/x:1", False)]
    moved = RegistryRule(prefix="*.a.io", location="b.io/sub")
    assert sources("r.a.io/x:1", moved) == [("b.io/sub/x:1", False)]


def test_mirrors_come_first_and_only_for_what_they_serve() -> None:
    rule = RegistryRule(
        prefix="a.io",
        location="a.io",
        mirrors=(
            Endpoint(location="m1.io", insecure=True),
            Endpoint(location="m2.io", pull="digest-only"),
            Endpoint(location="m3.io", pull="tag-only"),
        ),
    )
    assert sources("a.io/x:1", rule) == [
        ("m1.io/x:1", True),
        ("m3.io/x:1", False),
        ("a.io/x:1", False),
    ]
    assert [name for name, _ in sources(f"a.io/x@{DIGEST}", rule)] == [
        f"m1.io/x@{DIGEST}",
        f"m2.io/x@{DIGEST}",
        f"a.io/x@{DIGEST}",
    ]
    origin = shortnames.origin(parse("a.io/x:1"), Registries(rules=(rule,)))
    assert str(origin.reference) == "a.io/x:1", "mirrors are never pushed to"


def test_a_blocked_registry_is_not_asked() -> None:
    with pytest.raises(RegistryError, match="blocked"):
        sources("a.io/x", RegistryRule(prefix="a.io", location="a.io", blocked=True))
