"""Credential files: the chain docker and podman users have, and how logins are kept."""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from podpy.errors import AuthenticationError, StoreError, UsageError
from podpy.registry import auth

HELPER = """#!/bin/sh
# A credential helper that keeps what it is told in a file beside it.
file="$(dirname "$0")/kept"
case $1 in
    get) read server; [ -e "$file" ] && grep -q "\\"$server\\"" "$file" && cat "$file" && exit 0
         echo "credentials not found in native keychain"; exit 1 ;;
    store) cat > "$file" ;;
    erase) rm -f "$file" ;;
esac
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith(("XDG_", "REGISTRY_", "DOCKER_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    return tmp_path


def encoded(name: str, password: str) -> str:
    return base64.b64encode(f"{name}:{password}".encode()).decode()


def write(path: Path, **content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def entry(name: str, password: str = "secret") -> dict[str, str]:
    return {"auth": encoded(name, password)}


def user(name: str, **options: Any) -> str:
    found = auth.find(name, **options)
    return found.username if found is not None else ""


@pytest.mark.parametrize(
    "place",
    [
        "run/containers/auth.json",
        ".config/containers/auth.json",
        ".docker/config.json",
    ],
)
def test_each_file_alone_suffices(home: Path, place: str) -> None:
    write(home / place, auths={"a.io": entry("me", "p:w")})
    found = auth.find("a.io/team/app")
    assert found is not None
    assert (found.username, found.password) == ("me", "p:w")
    assert found.origin == str(home / place)


def test_dockercfg_has_no_auths_around_its_entries(home: Path) -> None:
    (home / ".dockercfg").write_text(json.dumps({"https://a.io/v1/": entry("old")}))
    assert user("a.io/x") == "old"


def test_earlier_files_win(home: Path) -> None:
    write(home / "run/containers/auth.json", auths={"a.io": entry("first")})
    write(home / ".docker/config.json", auths={"a.io": entry("last"), "b.io": entry("b")})
    assert (user("a.io/x"), user("b.io/x"), user("c.io/x")) == ("first", "b", "")


def test_the_longest_key_wins(home: Path) -> None:
    keys = {"a.io": entry("host"), "a.io/team": entry("team"), "a.io/team/app": entry("app")}
    write(home / ".config/containers/auth.json", auths=keys)
    assert user("a.io/team/app") == "app"
    assert user("a.io/team/other") == "team"
    assert user("a.io/teams/app") == "host"


def test_docker_hub_has_several_names(home: Path) -> None:
    write(home / ".docker/config.json", auths={"https://index.docker.io/v1/": entry("hub")})
    assert user("docker.io/library/alpine") == "hub"


def test_an_explicit_file_is_the_only_one(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(home / ".docker/config.json", auths={"a.io": entry("docker")})
    other = write(home / "other.json", auths={"b.io": entry("other")})
    assert user("a.io/x", authfile=str(other)) == ""
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(other))
    assert (user("a.io/x"), user("b.io/x")) == ("", "other")


def test_docker_config_moves_dockers_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(home / "elsewhere/config.json", auths={"a.io": entry("moved")})
    monkeypatch.setenv("DOCKER_CONFIG", str(home / "elsewhere"))
    assert user("a.io/x") == "moved"


def test_an_identity_token_is_kept_apart_from_a_password(home: Path) -> None:
    write(
        home / ".docker/config.json",
        auths={"a.io": {"auth": encoded("me", ""), "identitytoken": "long-lived"}},
    )
    found = auth.find("a.io/x")
    assert found is not None
    assert (found.identity_token, found.password) == ("long-lived", "")


@pytest.mark.parametrize("text", ["{", "[]", '{"auths": [1]}', '{"auths":{"a.io":{"auth":"%%%"}}}'])
def test_a_damaged_file_is_named(home: Path, text: str) -> None:
    path = home / ".docker/config.json"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(StoreError, match=r"\.docker/config\.json"):
        auth.find("a.io/x")


@pytest.fixture
def helper(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``docker-credential-test``; returns the file in which it keeps credentials."""
    program = home / "bin/docker-credential-test"
    program.parent.mkdir()
    program.write_text(HELPER)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return program.parent / "kept"


def test_helpers_come_before_what_the_file_holds(home: Path, helper: Path) -> None:
    write(
        home / ".docker/config.json",
        credHelpers={"a.io": "test"},
        auths={"a.io": entry("file"), "b.io": entry("b")},
    )
    assert user("a.io/x") == "file", "a helper that knows nothing is no obstacle"
    helper.write_text('{"ServerURL":"a.io","Username":"helped","Secret":"s"}')
    assert (user("a.io/x"), user("b.io/x")) == ("helped", "b")


def test_a_helper_may_hold_an_identity_token(home: Path, helper: Path) -> None:
    write(home / ".docker/config.json", credsStore="test")
    helper.write_text('{"ServerURL":"a.io","Username":"<token>","Secret":"t"}')
    found = auth.find("a.io/x")
    assert found is not None and found.identity_token == "t"


def test_credential_helpers_of_registries_conf(home: Path, helper: Path) -> None:
    helper.write_text('{"ServerURL":"a.io","Username":"conf","Secret":"s"}')
    write(home / ".docker/config.json", auths={"b.io": entry("file")})
    assert user("a.io/x", helpers=("test",)) == "conf"
    assert user("b.io/x", helpers=("test",)) == ""
    assert user("b.io/x", helpers=("test", "containers-auth.json")) == "file"


def test_a_missing_or_strange_helper_is_an_error(home: Path) -> None:
    path = home / ".docker/config.json"
    write(path, credsStore="no-such-thing")
    with pytest.raises(AuthenticationError, match="docker-credential-no-such-thing"):
        auth.find("a.io/x")
    write(path, credsStore="../../bin/sh")
    with pytest.raises(UsageError, match="not a program"):
        auth.find("a.io/x")


# --- login and logout


def login(name: str = "me", key: str = "a.io", **options: Any) -> str:
    return auth.store(key, auth.Credentials(username=name, password="secret"), **options)


def test_a_login_lasts_and_is_private_from_the_first_byte(home: Path) -> None:
    place = login()
    assert place == str(home / ".config/containers/auth.json")
    assert stat.S_IMODE(os.stat(place).st_mode) == 0o600
    assert user("a.io/x") == "me"
    os.chmod(place, 0o644)
    login("you")
    assert stat.S_IMODE(os.stat(place).st_mode) == 0o600


def test_a_login_goes_where_it_would_otherwise_be_hidden(home: Path) -> None:
    first = write(home / "run/containers/auth.json", auths={"a.io": entry("old")})
    assert login("new") == str(first)
    assert user("a.io/x") == "new"


def test_what_else_is_in_the_file_stays(home: Path) -> None:
    path = write(home / "d/config.json", auths={"b.io": entry("b")}, psFormat="x")
    login(authfile=str(path))
    held = json.loads(path.read_text())
    assert held["psFormat"] == "x"
    assert set(held["auths"]) == {"a.io", "b.io"}


def test_a_symbolic_link_to_the_file_stays_one(home: Path) -> None:
    real = write(home / "dotfiles/auth.json", auths={})
    link = home / ".config/containers/auth.json"
    link.parent.mkdir(parents=True)
    link.symlink_to(real)
    login()
    assert link.is_symlink()
    assert "a.io" in json.loads(real.read_text())["auths"]


def test_docker_finds_the_hub_under_its_own_name(home: Path) -> None:
    path = write(home / ".docker/config.json", auths={})
    login(key="docker.io", authfile=str(path))
    assert list(json.loads(path.read_text())["auths"]) == [auth.DOCKER_HUB]


def test_a_login_into_a_file_with_a_helper_goes_to_the_helper(home: Path, helper: Path) -> None:
    path = write(home / "x.json", credsStore="test")
    assert login(authfile=str(path)) == "docker-credential-test"
    assert json.loads(helper.read_text())["Secret"] == "secret"
    assert "secret" not in path.read_text()
    assert auth.erase("a.io", str(path)) == ("docker-credential-test",)
    assert not helper.exists()


def test_logout_leaves_nothing_that_would_still_log_in(home: Path) -> None:
    write(home / "run/containers/auth.json", auths={"a.io": entry("a")})
    docker = write(home / ".docker/config.json", auths={"https://a.io": entry("a"), "b.io": {}})
    assert len(auth.erase("a.io")) == 2
    assert user("a.io/x") == ""
    assert json.loads(docker.read_text())["auths"] == {"b.io": {}}
    assert auth.erase("a.io") == ()


def test_logout_of_all(home: Path) -> None:
    login()
    login(key="b.io/team")
    assert auth.erase_all() == (str(home / ".config/containers/auth.json"),)
    assert user("a.io/x") == user("b.io/team/x") == ""


def test_credentials_do_not_show_their_secret() -> None:
    shown = repr(auth.Credentials(username="me", password="hidden", identity_token="hidden"))
    assert "hidden" not in shown


def test_creds_option() -> None:
    given = auth.parse("me:a:b")
    assert (given.username, given.password) == ("me", "a:b")
    for text in ("me", ":x", ""):
        with pytest.raises(UsageError):
            auth.parse(text)
