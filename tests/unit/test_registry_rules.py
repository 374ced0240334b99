"""Pure rules of the registry client: challenges, sites, proxies, policies, pauses."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path

import pytest

from podpy.errors import ImageError, RegistryError, StoreError
from podpy.registry import policy, proxies, tokens, transport
from podpy.registry.reference import parse

# --- challenges


def test_a_bearer_challenge() -> None:
    text = 'Bearer realm="https://auth.io/token",service="registry",scope="a:b:pull,push"'
    (found,) = tokens.challenges(text)
    assert found.scheme == "bearer"
    assert found.parameters == {
        "realm": "https://auth.io/token",
        "service": "registry",
        "scope": "a:b:pull,push",
    }


def test_several_challenges_in_one_header() -> None:
    text = 'Negotiate, Basic realm="x, y=\\"z\\"", Bearer realm="https://a.io",error=invalid'
    found = tokens.challenges(text)
    assert [one.scheme for one in found] == ["negotiate", "basic", "bearer"]
    assert found[1].parameters == {"realm": 'x, y="z"'}
    assert found[2].parameters["error"] == "invalid"


@pytest.mark.parametrize("text", ["", "=", "=x", 'realm="a"', ",,,", '"', "a=b c=d", 'B x="'])
def test_malformed_challenges_end_without_harm(text: str) -> None:
    assert all(one.scheme for one in tokens.challenges(text))


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("auth.docker.io", "docker.io"),
        ("registry.example.co.uk", "example.co.uk"),
        ("a.b.example.com", "example.com"),
        ("10.0.0.1", "10.0.0.1"),
        ("::1", "::1"),
        ("localhost", "localhost"),
    ],
)
def test_the_site_of_a_host(host: str, expected: str) -> None:
    assert tokens.site(host) == expected


# --- proxies


@pytest.fixture
def proxied(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    return monkeypatch


@pytest.mark.parametrize(
    ("exceptions", "url", "direct"),
    [
        ("", "https://a.io/", False),
        ("a.io", "https://a.io/", True),
        ("a.io", "https://b.a.io/", True),
        ("a.io", "https://ba.io/", False),
        (".a.io", "https://b.a.io/", True),
        ("*.a.io", "https://b.a.io/", True),
        ("*", "https://a.io/", True),
        ("10.0.0.0/8", "https://10.1.2.3/", True),
        ("10.0.0.0/8", "https://11.1.2.3/", False),
        ("10.1.2.3", "https://10.1.2.3:5000/", True),
        ("a.io:5000", "https://a.io:5000/", True),
        ("a.io:5000", "https://a.io/", False),
        ("", "https://127.0.0.1:5000/", True),
        ("", "https://localhost:5000/", True),
        ("", "https://[::1]:5000/", True),
        ("nonsense/99", "https://10.1.2.3/", False),
    ],
)
def test_no_proxy(proxied: pytest.MonkeyPatch, exceptions: str, url: str, direct: bool) -> None:
    proxied.setenv("NO_PROXY", exceptions)
    assert proxies.find(url) == ("" if direct else "http://proxy:3128")


def test_each_scheme_has_its_proxy_and_lower_case_wins(proxied: pytest.MonkeyPatch) -> None:
    assert proxies.find("http://a.io/") == ""
    proxied.setenv("https_proxy", "other:1")
    assert proxies.find("https://a.io/") == "http://other:1"


# --- policy.json


@pytest.fixture
def user_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr(policy, "SYSTEM", str(tmp_path / "system.json"))
    (tmp_path / "containers").mkdir()
    return tmp_path / "containers/policy.json"


ACCEPT, REJECT = [{"type": "insecureAcceptAnything"}], [{"type": "reject"}]


def test_without_a_policy_everything_is_accepted(user_policy: Path) -> None:
    policy.check(parse("a.io/x"))


def test_the_most_specific_scope_decides(user_policy: Path) -> None:
    scopes = {"a.io": REJECT, "a.io/team": ACCEPT, "a.io/team/bad": REJECT, "*.c.io": REJECT}
    user_policy.write_text(json.dumps({"default": ACCEPT, "transports": {"docker": scopes}}))
    policy.check(parse("b.io/x"))
    policy.check(parse("a.io/team/x"))
    for name in ("a.io/x", "a.io/team/bad:1", "r.c.io/x"):
        with pytest.raises(ImageError, match="rejected by the policy"):
            policy.check(parse(name))


def test_a_policy_that_wants_signatures_is_not_taken_for_weaker(user_policy: Path) -> None:
    user_policy.write_text(json.dumps({"default": [{"type": "signedBy", "keyPath": "/k"}]}))
    with pytest.raises(ImageError, match="signedBy"):
        policy.check(parse("a.io/x"))


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"default": []}'])
def test_a_damaged_policy_accepts_nothing(user_policy: Path, text: str) -> None:
    user_policy.write_text(text)
    with pytest.raises(StoreError):
        policy.check(parse("a.io/x"))


def test_the_users_policy_stands_for_the_systems(user_policy: Path) -> None:
    Path(policy.SYSTEM).write_text(json.dumps({"default": REJECT}))
    with pytest.raises(ImageError):
        policy.check(parse("a.io/x"))
    user_policy.write_text(json.dumps({"default": ACCEPT}))
    policy.check(parse("a.io/x"))


# --- pauses


def test_retry_after_is_seconds_or_a_date(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    client = transport.Transport("a.io", insecure=False, access=transport.Access())
    monkeypatch.setattr(client._stopped, "wait", slept.append)
    client.wait(0, "7")
    soon = datetime.now(timezone.utc) + timedelta(seconds=30)
    client.wait(0, format_datetime(soon, usegmt=True))
    client.wait(3)
    assert slept[0] == 7
    assert 25 <= slept[1] <= 31
    assert 6 <= slept[2] <= 10, "the fourth pause is about eight seconds"
    with pytest.raises(RegistryError, match="3600"):
        client.wait(0, "3600")
