"""Pull, push, login and logout against Debian's docker-registry."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import host, images
from support.podpy import Podpy
from support.registry import PASSWORD, USER, Registry, with_password, with_tls

pytestmark = pytest.mark.needs("docker-registry")
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@pytest.fixture(scope="module")
def private(base: Path) -> Iterator[Registry]:
    """A registry that wants a password."""
    host.require("docker-registry")
    server = with_password(base / "private")
    yield server
    server.close()


@pytest.fixture(scope="module")
def encrypted(base: Path) -> Iterator[Registry]:
    """A registry that speaks TLS, by an authority nobody knows."""
    host.require("docker-registry", "openssl")
    server = with_tls(base / "encrypted")
    yield server
    server.close()


def configure(podpy: Podpy, *insecure: str, more: str = "") -> None:
    """Write the user's registries.conf."""
    path = podpy.directory / "config/containers/registries.conf"
    path.parent.mkdir(parents=True, exist_ok=True)
    tables = [f'[[registry]]\nlocation = "{name}"\ninsecure = true\n' for name in insecure]
    path.write_text(more + "".join(tables))


def digest_of(podpy: Podpy, name: str) -> str:
    (image,) = podpy("image", "inspect", name).json()
    return str(image["Digest"])


def identity(podpy: Podpy, name: str) -> str:
    return podpy("image", "inspect", "--format", "{{.Id}}", name).text.removeprefix("sha256:")


# --- there and back


def test_push_and_pull_keep_every_digest(podpy: Podpy, busybox: str, registry: Registry) -> None:
    configure(podpy, registry.address)
    name = f"{registry.address}/there/and/back:1"
    digestfile = podpy.directory / "digest"
    podpy("push", "--digestfile", digestfile, busybox, name)
    before = identity(podpy, busybox)
    podpy("rmi", "-a", "-f")
    pulled = podpy("pull", name)
    assert pulled.text == before
    assert digest_of(podpy, name) == digestfile.read_text()
    done = podpy("run", "--rm", "--network", "none", name, "echo", "here")
    assert done.text == "here"


def test_an_image_is_pulled_by_digest(podpy: Podpy, busybox: str, registry: Registry) -> None:
    configure(podpy, registry.address)
    digestfile = podpy.directory / "digest"
    podpy("push", "--digestfile", digestfile, busybox, f"{registry.address}/by-digest:1")
    name = f"{registry.address}/by-digest@{digestfile.read_text()}"
    assert podpy("pull", "-q", name).text == identity(podpy, busybox)
    assert podpy("run", "--rm", "--network", "none", name, "echo", "here").text == "here"


def test_docker_manifests_are_kept_byte_for_byte(
    podpy: Podpy, busybox: str, registry: Registry
) -> None:
    host.require("skopeo")
    configure(podpy, registry.address)
    podpy("push", busybox, f"{registry.address}/oci:1")
    copy = ["copy", "--src-tls-verify=false", "--dest-tls-verify=false", "--format", "v2s2"]
    source, target = (f"docker://{registry.address}/{name}:1" for name in ("oci", "docker"))
    _skopeo(podpy, *copy, source, target)
    podpy("pull", "-q", f"{registry.address}/docker:1")
    inspected = _skopeo(podpy, "inspect", "--tls-verify=false", "--format", "{{.Digest}}", target)
    assert digest_of(podpy, f"{registry.address}/docker:1") == inspected.strip()


def test_the_content_directory_is_a_layout_that_other_tools_copy_from(
    podpy: Podpy, busybox: str, registry: Registry
) -> None:
    host.require("skopeo")
    configure(podpy, registry.address)
    name = f"{registry.address}/layout:1"
    digestfile = podpy.directory / "digest"
    podpy("push", "--digestfile", digestfile, busybox, name)
    podpy("rmi", "-a", "-f")
    podpy("pull", "-q", name)
    target = f"docker://{registry.address}/copied:1"
    layout = f"oci:{podpy.store}/content:{name}"
    _skopeo(podpy, "copy", "--preserve-digests", "--dest-tls-verify=false", layout, target)
    seen = _skopeo(podpy, "inspect", "--tls-verify=false", "--format", "{{.Digest}}", target)
    assert seen.strip() == digestfile.read_text()


def _skopeo(podpy: Podpy, *arguments: str) -> str:
    import subprocess

    policy = podpy.directory / "policy.json"
    policy.write_text('{"default":[{"type":"insecureAcceptAnything"}]}')
    command = [host.program("skopeo"), "--policy", str(policy), *arguments]
    done = subprocess.run(command, env=podpy.env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_all_tags_of_a_repository(podpy: Podpy, busybox: str, registry: Registry) -> None:
    configure(podpy, registry.address)
    for tag in ("a", "b"):
        podpy("tag", busybox, f"{registry.address}/tags:{tag}")
    podpy("push", "--all-tags", f"{registry.address}/tags")
    assert set(registry.get("tags/tags/list")["tags"]) == {"a", "b"}
    podpy("rmi", "-a", "-f")
    podpy("pull", "-q", "-a", f"{registry.address}/tags")
    listed = podpy("images", "--format", "{{.Tag}}").lines
    assert set(listed) == {"a", "b"}
    podpy.fails("pull", "-a", f"{registry.address}/tags:a")


def test_a_blob_of_a_sibling_repository_is_mounted(
    podpy: Podpy, busybox: str, registry: Registry
) -> None:
    configure(podpy, registry.address)
    podpy("push", busybox, f"{registry.address}/mount/first:1")
    podpy("pull", "-q", f"{registry.address}/mount/first:1")
    podpy("push", f"{registry.address}/mount/first:1", f"{registry.address}/mount/second:1")
    log = registry.log.read_text()
    assert "mount/second/blobs/uploads/?from=mount" in log.replace("%2F", "/") or "mount=" in log
    uploads = [line for line in log.splitlines() if "PUT" in line and "mount/second/blobs" in line]
    assert len(uploads) <= 2, "only the configuration has to be sent"


def test_a_pull_says_nothing_but_the_id_when_quiet(
    podpy: Podpy, busybox: str, registry: Registry
) -> None:
    configure(podpy, registry.address)
    podpy("push", "-q", busybox, f"{registry.address}/quiet:1")
    done = podpy("pull", "-q", f"{registry.address}/quiet:1")
    assert done.stderr == ""
    assert done.text == identity(podpy, busybox)


def test_progress_is_drawn_on_a_terminal(podpy: Podpy, busybox: str, registry: Registry) -> None:
    configure(podpy, registry.address)
    name = f"{registry.address}/terminal:1"
    podpy("push", "-q", busybox, name)
    podpy("rmi", "-a", "-f")
    terminal = podpy.terminal("pull", name)
    terminal.expect("Pull complete")
    assert terminal.wait() == 0


# --- policies


def test_pull_policies(podpy: Podpy, busybox: str, registry: Registry) -> None:
    configure(podpy, registry.address)
    name = f"{registry.address}/policy:1"
    podpy.fails("pull", "--policy", "never", name)
    podpy("push", "-q", busybox, name)
    first = podpy("pull", "-q", "--policy", "missing", name).text
    other = podpy.load_layers("localhost/other:1", images.Layer().file("new", "x"))
    podpy("push", "-q", other, name)
    assert podpy("pull", "-q", "--policy", "missing", name).text == first
    assert podpy("pull", "-q", "--policy", "never", name).text == first
    assert podpy("pull", "-q", "--policy", "newer", name).text == identity(podpy, other)
    podpy("push", "-q", busybox, name)
    assert podpy("pull", "-q", "--policy", "always", name).text == first
    podpy.fails("pull", "--policy", "sometimes", name)


def test_newer_is_content_with_what_is_here_when_the_registry_is_gone(
    podpy: Podpy, busybox: str
) -> None:
    configure(podpy, "127.0.0.1:1")
    podpy("tag", busybox, "127.0.0.1:1/app:1")
    done = podpy("pull", "--policy", "newer", "127.0.0.1:1/app:1")
    assert done.text == identity(podpy, busybox)
    assert "using the local image" in done.stderr
    podpy.fails("pull", "127.0.0.1:1/app:1")


def test_run_pulls_what_is_missing(podpy: Podpy, busybox: str, registry: Registry) -> None:
    configure(podpy, registry.address)
    name = f"{registry.address}/missing:1"
    podpy("push", "-q", busybox, name)
    podpy("rmi", "-a", "-f")
    podpy.fails("run", "--rm", "--pull", "never", name, "true")
    assert podpy("run", "--rm", "--network", "none", name, "echo", "pulled").text == "pulled"


# --- names


def test_aliases_and_search_lists(podpy: Podpy, busybox: str, registry: Registry) -> None:
    search = f'unqualified-search-registries = ["{registry.address}"]\n'
    alias = f'[aliases]\nshort = "{registry.address}/names/long"\n'
    configure(podpy, registry.address, more=search + alias)
    podpy("push", "-q", busybox, f"{registry.address}/names/long:1")
    podpy("push", "-q", busybox, f"{registry.address}/searched:1")
    podpy("rmi", "-a", "-f")
    podpy("pull", "-q", "short:1")
    podpy("pull", "-q", "searched:1")
    names = podpy("images", "--format", "{{.Repository}}:{{.Tag}}").lines
    assert set(names) == {
        f"{registry.address}/names/long:1",
        f"{registry.address}/searched:1",
    }
    assert podpy("run", "--rm", "--network", "none", "short:1", "echo", "ok").text == "ok"


def test_a_mirror_is_asked_first_and_may_be_away(
    podpy: Podpy, busybox: str, registry: Registry
) -> None:
    rule = f'[[registry]]\nprefix = "example.invalid/app"\nlocation = "{registry.address}/origin"\n'
    rule += "insecure = true\n"
    dead = '[[registry.mirror]]\nlocation = "127.0.0.1:1/mirror"\ninsecure = true\n'
    configure(podpy, registry.address, more=rule + dead)
    podpy("push", "-q", busybox, f"{registry.address}/origin:1")
    done = podpy("pull", "example.invalid/app:1")
    assert "127.0.0.1:1" in done.stderr
    assert podpy("image", "exists", "example.invalid/app:1").code == 0


def test_a_blocked_registry_is_not_asked(podpy: Podpy, registry: Registry) -> None:
    blocked = f'[[registry]]\nlocation = "{registry.address}"\nblocked = true\n'
    configure(podpy, more=blocked)
    assert "blocked" in podpy.fails("pull", f"{registry.address}/x").stderr


def test_plain_http_needs_permission(podpy: Podpy, busybox: str, registry: Registry) -> None:
    name = f"{registry.address}/plain:1"
    assert "insecure" in podpy.fails("push", busybox, name).stderr
    podpy("push", "-q", "--tls-verify=false", busybox, name)
    podpy.fails("pull", name)
    podpy("pull", "-q", "--tls-verify=false", name)
    configure(podpy, registry.address)
    podpy("pull", "-q", name)
    podpy.fails("pull", "--tls-verify=true", name)


@pytest.mark.parametrize("text", ["", "A", "a b", "x:", "a@sha256:12", "../x", "https://a.io/x"])
def test_a_malformed_name_is_refused(podpy: Podpy, text: str) -> None:
    podpy.fails("pull", text)


def test_what_does_not_exist_is_said_to_be_missing(podpy: Podpy, registry: Registry) -> None:
    configure(podpy, registry.address)
    done = podpy.fails("pull", f"{registry.address}/no/such:1")
    assert "not found" in done.stderr


def test_the_policy_file_is_obeyed(podpy: Podpy, busybox: str, registry: Registry) -> None:
    configure(podpy, registry.address)
    podpy("push", "-q", busybox, f"{registry.address}/policed:1")
    path = podpy.directory / "config/containers/policy.json"
    path.write_text(json.dumps({"default": [{"type": "reject"}]}))
    assert "policy" in podpy.fails("pull", f"{registry.address}/policed:1").stderr


# --- passwords


def test_login_is_proved_before_it_is_kept(podpy: Podpy, busybox: str, private: Registry) -> None:
    configure(podpy, private.address)
    kept = podpy.directory / "config/containers/auth.json"
    name = f"{private.address}/secret:1"
    assert "podpy login" in podpy.fails("push", busybox, name).stderr
    podpy.fails("login", "-u", USER, "--password-stdin", private.address, input="wrong\n")
    assert not kept.exists()
    podpy.fails("login", "--get-login", private.address)
    done = podpy("login", "-u", USER, "--password-stdin", private.address, input=f"{PASSWORD}\n")
    assert "Login Succeeded" in done.stdout
    assert str(kept) in done.stderr
    assert stat.S_IMODE(os.stat(kept).st_mode) == 0o600
    assert podpy("login", "--get-login", private.address).text == USER
    podpy("push", "-q", busybox, name)
    podpy("rmi", "-a", "-f")
    podpy("pull", "-q", name)
    podpy("logout", private.address)
    podpy.fails("pull", name)
    assert "Not logged in" in podpy("logout", private.address).text


def test_credentials_of_an_option_and_of_a_file(
    podpy: Podpy, busybox: str, private: Registry
) -> None:
    configure(podpy, private.address)
    name = f"{private.address}/option:1"
    podpy("push", "-q", "--creds", f"{USER}:{PASSWORD}", busybox, name)
    podpy.fails("pull", "--creds", f"{USER}:wrong", name)
    authfile = podpy.directory / "own.json"
    login = ("login", "--authfile", authfile, "-u", USER, "-p", PASSWORD, private.address)
    podpy(*login)
    podpy.fails("pull", name)
    podpy("pull", "-q", "--authfile", authfile, name)
    podpy("pull", "-q", name, env={"REGISTRY_AUTH_FILE": str(authfile)})
    podpy("logout", "--all", "--authfile", authfile)
    podpy.fails("pull", "--authfile", authfile, name)


def test_what_podman_logged_in_to_podpy_may_use(
    podpy: Podpy, busybox: str, private: Registry
) -> None:
    import base64

    configure(podpy, private.address)
    entry = {"auth": base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()}
    path = podpy.directory / "run/containers/auth.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"auths": {private.address: entry}}))
    podpy("push", "-q", busybox, f"{private.address}/podman:1")


# --- TLS


def test_a_certificate_must_be_known(podpy: Podpy, busybox: str, encrypted: Registry) -> None:
    name = f"{encrypted.address}/tls:1"
    done = podpy.fails("push", busybox, name)
    assert "certs.d" in done.stderr
    authority = (encrypted.directory / "ca.crt").read_bytes()
    given = podpy.directory / "given"
    given.mkdir()
    (given / "ca.crt").write_bytes(authority)
    podpy("push", "-q", "--cert-dir", given, busybox, name)
    podpy.fails("pull", name)
    podpy("pull", "-q", "--tls-verify=false", name)
    own = podpy.directory / f"config/containers/certs.d/{encrypted.address}"
    own.mkdir(parents=True)
    (own / "ca.crt").write_bytes(authority)
    podpy("pull", "-q", name)
    (own / "ca.crt").write_text("not a certificate")
    assert "ca.crt" in podpy.fails("pull", name).stderr


def test_a_client_certificate_is_shown(podpy: Podpy, busybox: str, base: Path) -> None:
    host.require("docker-registry", "openssl")
    server = with_tls(base / "clients", clients=True)
    try:
        own = podpy.directory / f"config/containers/certs.d/{server.address}"
        own.mkdir(parents=True)
        for name in ("ca.crt", "client.cert", "client.key"):
            shutil.copy(server.directory / name, own)
        podpy("push", "-q", busybox, f"{server.address}/client:1")
        (own / "client.cert").unlink()
        podpy.fails("pull", "--retry", "0", f"{server.address}/client:1")
    finally:
        server.close()
