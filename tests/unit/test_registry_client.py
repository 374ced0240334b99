"""The client against a registry that misbehaves; everything on the loopback."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from podpy.errors import AuthenticationError, ImageError, NotFound, RegistryError
from podpy.model import Descriptor
from podpy.records import from_dict
from podpy.registry import auth, client, partial
from podpy.registry.download import Download
from podpy.registry.reference import parse
from podpy.registry.shortnames import Source
from podpy.registry.transport import Access, Transport
from support import images
from support.fake_registry import INDEX, MANIFEST, Answer, FakeRegistry, Request, TokenServer

ACCEPT = (MANIFEST, INDEX)
BIG = os.urandom(1 << 20)


@pytest.fixture
def server() -> Iterator[FakeRegistry]:
    registry = FakeRegistry()
    yield registry
    registry.close()


@pytest.fixture
def other() -> Iterator[FakeRegistry]:
    registry = FakeRegistry()
    yield registry
    registry.close()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "podpy/downloads"


def repository(server: FakeRegistry, name: str = "app", **settings: Any) -> client.Repository:
    source = Source(reference=parse(f"{server.address}/{name}"), insecure=True)
    access = Access(pause=0.01, retries=settings.pop("retries", 3))
    settings.setdefault("credentials", None)
    return client.connect(source, access, **settings)


def blob_of(server: FakeRegistry, data: bytes) -> Descriptor:
    values = server.blob(data, "layer")
    return Descriptor(media_type="layer", digest=values["digest"], size=values["size"])


def receive(server: FakeRegistry, blob: Descriptor, **settings: Any) -> bytes:
    """Download a blob; the bytes that came through, compared with those in the file."""
    received = bytearray()
    counted: list[int] = []
    with Download(
        repository(server, **settings), blob, received.extend, counted.append
    ) as download:
        try:
            download.run()
        except ImageError:
            download.discard()
            raise
        assert Path(download.path).read_bytes() == received
    assert sum(counted) == len(received)
    return bytes(received)


def blob_requests(server: FakeRegistry) -> list[Request]:
    return [r for r in server.requests if "/blobs/" in r.path and r.method == "GET"]


# --- manifests


def test_a_manifest_is_verified_and_typed(server: FakeRegistry) -> None:
    made = server.image("app", "1", b"layer")
    found = repository(server).manifest("1", ACCEPT)
    assert (found.digest, found.media_type) == (made["digest"], MANIFEST)
    assert repository(server).digest("1", ACCEPT) == made["digest"]


def test_a_manifest_of_another_digest_is_refused(server: FakeRegistry) -> None:
    good = server.image("app", "1", b"layer")
    server.manifests["app", good["digest"]] = (MANIFEST, b'{"schemaVersion":2}')
    with pytest.raises(ImageError, match="its bytes have the digest"):
        repository(server).manifest(good["digest"], ACCEPT)


def test_a_huge_manifest_is_not_swallowed(server: FakeRegistry) -> None:
    server.manifest("app", "1", b" " * (client.MANIFEST_LIMIT + 1))
    with pytest.raises(ImageError, match="larger than the limit"):
        repository(server).manifest("1", ACCEPT)


def test_what_is_not_there_is_not_found(server: FakeRegistry) -> None:
    with pytest.raises(NotFound, match="app"):
        repository(server).manifest("nosuch", ACCEPT)


def test_the_registrys_own_words_are_shown_without_control_characters(
    server: FakeRegistry,
) -> None:
    said = json.dumps({"errors": [{"code": "DENIED", "message": "go \x1b[31maway"}]}).encode()
    server.hooks.append(lambda request: Answer(403, body=said))
    with pytest.raises(RegistryError, match="DENIED: go") as caught:
        repository(server).manifest("1", ACCEPT)
    assert "\x1b" not in caught.value.message


def test_tags_come_page_by_page_from_the_same_registry(server: FakeRegistry) -> None:
    def pages(request: Request) -> Answer | None:
        if not request.path.startswith("/v2/app/tags/list"):
            return None
        if "last=b" in request.path:
            return Answer(body=b'{"tags":["c"]}')
        link = '<http://elsewhere.invalid/v2/app/tags/list?last=b>; rel="next"'
        return Answer(headers={"Link": link}, body=b'{"tags":["a","b"]}')

    server.hooks.append(pages)
    assert repository(server).tags() == ("a", "b", "c")


# --- blobs


def test_a_blob_arrives_whole(server: FakeRegistry) -> None:
    assert receive(server, blob_of(server, BIG)) == BIG


def test_answers_cut_at_a_third_are_resumed(server: FakeRegistry) -> None:
    server.cut(0.3)
    assert receive(server, blob_of(server, BIG)) == BIG
    requests = blob_requests(server)
    assert len(requests) == 4
    assert "range" not in requests[0].headers
    assert all(request.headers["range"].startswith("bytes=") for request in requests[1:])


def test_a_server_without_ranges_makes_no_byte_appear_twice(server: FakeRegistry) -> None:
    server.ranges = False
    left = [1]

    def cut_once(request: Request, answer: Answer) -> Answer:
        if left.pop() if left else 0:
            answer.headers["Content-Length"] = str(len(BIG))
            answer.sent = len(BIG) // 2
        return answer

    server.blob_hook(cut_once)
    assert receive(server, blob_of(server, BIG)) == BIG


def test_a_server_that_sends_nothing_is_given_up(server: FakeRegistry) -> None:
    server.blob_hook(lambda request, answer: Answer(answer.status, answer.headers, BIG, sent=0))
    with pytest.raises(RegistryError, match="blob"):
        receive(server, blob_of(server, BIG), retries=2)
    assert len(blob_requests(server)) == 3


def test_the_next_invocation_goes_on_where_the_last_one_stopped(
    server: FakeRegistry, own_cache: Path
) -> None:
    blob = blob_of(server, BIG)
    own_cache.mkdir(parents=True)
    (own_cache / blob.digest[7:]).write_bytes(BIG[:300_000])
    assert receive(server, blob) == BIG
    (request,) = blob_requests(server)
    assert request.headers["range"] == "bytes=300000-"


@pytest.mark.parametrize("size", [len(BIG) - 1, len(BIG) + 1])
def test_a_blob_of_the_wrong_size_is_refused(server: FakeRegistry, size: int) -> None:
    values = server.blob(BIG, "layer")
    blob = Descriptor(media_type="layer", digest=values["digest"], size=size)
    with pytest.raises(ImageError):
        receive(server, blob)


def test_a_range_that_was_not_asked_for_is_refused(server: FakeRegistry, own_cache: Path) -> None:
    blob = blob_of(server, BIG)
    own_cache.mkdir(parents=True)
    (own_cache / blob.digest[7:]).write_bytes(BIG[:100])

    def lie(request: Request, answer: Answer) -> Answer:
        return Answer(206, {"Content-Range": f"bytes 50-{len(BIG) - 1}/{len(BIG)}"}, BIG[50:])

    server.blob_hook(lie)
    with pytest.raises(RegistryError, match="another range"):
        receive(server, blob)


def test_a_download_in_progress_elsewhere_is_not_written_to(
    server: FakeRegistry, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    monkeypatch.setattr("podpy.registry.partial._STALLED", 0.3)
    blob = blob_of(server, BIG)
    own_cache.mkdir(parents=True)
    theirs = own_cache / blob.digest[7:]
    with theirs.open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write(b"theirs")
        held.flush()
        assert receive(server, blob) == BIG
        held.flush()
        assert partial.sweep() == len(BIG), "ours, not what they are still writing"
    assert theirs.read_bytes() == b"theirs"
    assert partial.sweep() == len(b"theirs")


# --- retries and redirects


def test_too_many_requests_are_repeated_after_the_pause_asked_for(server: FakeRegistry) -> None:
    server.image("app", "1", b"layer")
    server.busy(2, 429, Retry_After="0")
    repository(server).manifest("1", ACCEPT)
    assert len(server.paths()) >= 3


def test_a_busy_registry_is_given_up_in_the_end(server: FakeRegistry) -> None:
    server.busy(100, 503)
    with pytest.raises(RegistryError, match="503"):
        repository(server, retries=2).manifest("1", ACCEPT)


def test_redirects_are_followed_and_bounded(server: FakeRegistry, other: FakeRegistry) -> None:
    other.blobs = server.blobs
    blob = blob_of(server, BIG)
    server.redirect_blobs(other.url)
    assert receive(server, blob) == BIG
    other.redirect_blobs(server.url)
    with pytest.raises(RegistryError, match="redirects"):
        receive(server, blob_of(server, b"x" * 10_000))


def test_no_credentials_reach_where_a_registry_redirects_to(
    server: FakeRegistry, other: FakeRegistry
) -> None:
    other.blobs = server.blobs
    blob = blob_of(server, BIG)
    server.require_basic("me", "secret")
    server.redirect_blobs(other.url)
    known = auth.Credentials(username="me", password="secret")
    assert receive(server, blob, credentials=known) == BIG
    assert server.authorizations()
    assert blob_requests(other)
    assert other.authorizations() == []


def test_credentials_do_not_come_back_after_a_detour(
    server: FakeRegistry, other: FakeRegistry
) -> None:
    """CVE-2026 class: a token attached again when a redirect returns to the first host."""
    blob = blob_of(server, BIG)
    server.require_basic("me", "secret")
    detours: list[str] = []

    def back(request: Request) -> Answer:
        return Answer(307, {"Location": f"{server.url}/landed"})

    def landed(request: Request) -> Answer | None:
        if request.path != "/landed":
            return None
        detours.append(request.headers.get("authorization", ""))
        return Answer(body=BIG)

    other.hooks.append(back)
    server.hooks.insert(0, landed)
    server.redirect_blobs(other.url)
    assert receive(server, blob, credentials=auth.Credentials(username="me", password="secret"))
    assert detours == [""]


@pytest.mark.parametrize("target", ["ftp://a.io/x", "file:///etc/passwd", "gopher:x"])
def test_a_redirect_to_another_scheme_is_refused(server: FakeRegistry, target: str) -> None:
    server.hooks.append(
        lambda r: Answer(307, {"Location": target}) if "/manifests/" in r.path else None
    )
    with pytest.raises(RegistryError, match="redirects to"):
        repository(server).manifest("1", ACCEPT)


def test_a_foreign_layer_is_asked_for_without_credentials(server: FakeRegistry) -> None:
    """CVE-2020-15157: the manifest's author chooses the address."""
    blob = from_dict(
        Descriptor,
        {
            "media_type": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "digest": images.digest(BIG),
            "size": len(BIG),
            "urls": [f"{server.url}/foreign"],
        },
    )
    with pytest.raises(RegistryError, match="only https"):
        receive(server, blob, credentials=auth.Credentials(username="me", password="secret"))
    assert server.requests == []


# --- authorization


@pytest.fixture
def token_server() -> Iterator[TokenServer]:
    server = TokenServer()
    yield server
    server.close()


def test_basic_credentials_are_sent_when_asked_for(server: FakeRegistry) -> None:
    server.image("app", "1", b"layer")
    server.require_basic("me", "secret")
    known = auth.Credentials(username="me", password="secret")
    repository(server, credentials=known).manifest("1", ACCEPT)
    with pytest.raises(AuthenticationError, match="authentication required"):
        repository(server).manifest("1", ACCEPT)
    with pytest.raises(AuthenticationError, match="were refused"):
        wrong = auth.Credentials(username="me", password="wrong")
        repository(server, credentials=wrong).manifest("1", ACCEPT)


def test_one_anonymous_token_serves_every_request_of_a_scope(
    server: FakeRegistry, token_server: TokenServer
) -> None:
    server.image("app", "1", b"layer")
    server.require_token(token_server.realm)
    one = repository(server)
    one.manifest("1", ACCEPT)
    one.manifest("1", ACCEPT)
    (asked,) = token_server.requests
    assert asked.query["scope"] == ["repository:app:pull"]
    assert asked.query["service"] == ["fake"]
    assert token_server.authorizations() == []


def test_a_token_is_bought_with_credentials(
    server: FakeRegistry, token_server: TokenServer
) -> None:
    server.image("app", "1", b"layer")
    server.require_token(token_server.realm)
    token_server.credentials = "me:secret"
    known = auth.Credentials(username="me", password="secret")
    one = repository(server, credentials=known)
    one.for_push(["base"])
    one.manifest("1", ACCEPT)
    (asked,) = token_server.requests
    assert asked.query["scope"] == ["repository:app:pull,push", "repository:base:pull"]
    assert all(sent.startswith("Bearer ") for sent in server.authorizations())


def test_an_identity_token_is_posted_and_no_password(
    server: FakeRegistry, token_server: TokenServer
) -> None:
    server.image("app", "1", b"layer")
    server.require_token(token_server.realm)
    token_server.refresh_token = "long-lived"
    known = auth.Credentials(identity_token="long-lived")
    repository(server, credentials=known).manifest("1", ACCEPT)
    (asked,) = token_server.requests
    assert asked.method == "POST"
    assert b"grant_type=refresh_token" in asked.body
    assert "authorization" not in asked.headers


@pytest.mark.parametrize(
    "realm", ["http://token.invalid/t", "ftp://127.0.0.1/t", "", "token", "https://"]
)
def test_a_realm_must_be_https_or_the_insecure_registrys_own_host(
    server: FakeRegistry, realm: str
) -> None:
    server.require_token(realm)
    with pytest.raises(RegistryError, match="token server"):
        repository(server).manifest("1", ACCEPT)


def test_credentials_go_to_no_other_site(server: FakeRegistry) -> None:
    server.require_token("https://evil.invalid/token")
    known = auth.Credentials(username="me", password="secret")
    with pytest.raises(AuthenticationError, match=r"another site, evil\.invalid"):
        repository(server, credentials=known).manifest("1", ACCEPT)


def test_a_token_that_has_expired_is_replaced(
    server: FakeRegistry, token_server: TokenServer
) -> None:
    server.image("app", "1", b"layer")
    server.require_token(token_server.realm)
    one = repository(server)
    one.manifest("1", ACCEPT)
    server.hooks.clear()
    server.require_token(token_server.realm, "the-next")
    token_server.token = "the-next"
    one.manifest("1", ACCEPT)
    assert len(token_server.requests) == 2


def test_a_token_with_a_line_break_is_refused(
    server: FakeRegistry, token_server: TokenServer
) -> None:
    token_server.token = "a\r\nX-Injected: 1"
    server.require_token(token_server.realm)
    with pytest.raises(RegistryError, match="without a token"):
        repository(server).manifest("1", ACCEPT)


# --- plain http


def test_plain_http_is_spoken_to_insecure_registries_alone(server: FakeRegistry) -> None:
    server.image("app", "1", b"layer")
    reference = parse(f"{server.address}/app")
    access = Access(pause=0.01)
    strict = client.connect(Source(reference=reference), access, credentials=None)
    with pytest.raises(RegistryError, match="TLS failed"):
        strict.manifest("1", ACCEPT)
    forced = client.connect(
        Source(reference=reference, insecure=True), Access(tls_verify=True), credentials=None
    )
    with pytest.raises(RegistryError, match="TLS failed"):
        forced.manifest("1", ACCEPT)
    assert server.requests == []


def test_a_registry_that_is_not_there_is_said_to_be_so_at_once(server: FakeRegistry) -> None:
    server.close()
    with pytest.raises(RegistryError, match="cannot connect"):
        repository(server, retries=50).manifest("1", ACCEPT)


def test_a_proxy_is_spoken_to_with_its_own_credentials_and_no_others(
    server: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plain http by a proxy: it is asked for the whole address."""
    made = server.image("app", "1", b"layer")
    monkeypatch.setenv("http_proxy", f"http://user:word@{server.address}")
    monkeypatch.setenv("no_proxy", "")
    prefix = "http://registry.invalid"

    def unwrap(request: Request) -> Answer | None:
        if not request.path.startswith(prefix):
            return None
        return server.answer(Request(request.method, request.path[len(prefix) :], {}))

    server.hooks.append(unwrap)
    source = Source(reference=parse("registry.invalid/app"), insecure=True)
    monkeypatch.setattr(Transport, "_probe", lambda self: prefix)
    found = client.connect(source, Access(), credentials=None).manifest("1", ACCEPT)
    assert found.digest == made["digest"]
    (asked,) = server.requests
    assert asked.path == f"{prefix}/v2/app/manifests/1"
    assert asked.headers["proxy-authorization"].startswith("Basic ")
    assert "authorization" not in asked.headers


# --- uploads


def upload_to(server: FakeRegistry, location: str) -> None:
    def begin(request: Request) -> Answer | None:
        return Answer(202, {"Location": location}) if request.method == "POST" else None

    server.hooks.append(begin)


def test_no_credentials_reach_where_a_registry_has_an_upload_sent(
    server: FakeRegistry, other: FakeRegistry
) -> None:
    server.require_basic("me", "secret")
    upload_to(server, f"{other.url}/elsewhere")
    other.hooks.append(lambda r: Answer(201) if r.method == "PUT" else None)
    blob = blob_of(server, b"x" * 100)
    target = repository(server, credentials=auth.Credentials(username="me", password="secret"))
    url = target.start_upload(blob.digest)
    target.send_all(url, blob, lambda: iter([b"x" * 100]))
    assert server.authorizations()
    assert [request.body for request in other.requests] == [b"x" * 100]
    assert other.authorizations() == []


def test_an_upload_to_another_scheme_is_refused(server: FakeRegistry) -> None:
    upload_to(server, "ftp://a.io/x")
    with pytest.raises(RegistryError, match="ftp"):
        repository(server).start_upload(blob_of(server, b"x").digest)


@pytest.mark.parametrize("tags", [5, True, {"a": 1}, [1, None]])
def test_tags_that_are_none(server: FakeRegistry, tags: Any) -> None:
    body = json.dumps({"tags": tags}).encode()
    server.hooks.append(lambda r: Answer(body=body) if "/tags/" in r.path else None)
    try:
        assert set(repository(server).tags()) <= {"a"}
    except RegistryError as error:
        assert "list of tags" in error.message


# --- what was not finished


def test_a_download_that_goes_while_all_are_swept(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_cache.mkdir(parents=True)
    (own_cache / "left").write_bytes(b"12345")
    monkeypatch.setattr(partial.files, "list_directory", lambda _: ["gone", "left"])
    assert partial.sweep() == 5
    assert list(own_cache.iterdir()) == []
