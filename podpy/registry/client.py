"""The OCI distribution protocol: what is asked of one repository of one registry.

Every digest goes into a URL only after its exact form was checked, and every
manifest that comes back is hashed before it is returned.  Blobs are streams:
``podpy.registry.download`` verifies and resumes them.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse as Response

from podpy import files
from podpy.errors import ImageError, NotFound, RegistryError
from podpy.records import record
from podpy.registry import auth, tokens
from podpy.registry.reference import is_digest
from podpy.registry.transport import Access, Transport, finish, redirected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from podpy.model import Descriptor
    from podpy.registry.shortnames import Source

MANIFEST_LIMIT = 4 << 20
_ERROR_LIMIT = 16 << 10
_LIST_LIMIT = 4 << 20
_MAX_PAGES = 1000
_HOSTS = {"docker.io": "registry-1.docker.io"}


@record
class Manifest:
    """A manifest or index as received: its bytes, its type and its digest."""

    data: bytes
    media_type: str
    digest: str


def connect(
    source: Source,
    access: Access,
    *,
    credentials: auth.Credentials | None,
    token_servers: tuple[str, ...] = (),
) -> Repository:
    """The repository of ``source``; nothing is sent yet."""
    host = _HOSTS.get(source.reference.registry, source.reference.registry)
    transport = Transport(host, insecure=source.insecure, access=access)
    authorizer = tokens.Authorizer(transport, credentials, token_servers)
    return Repository(authorizer, source.reference.repository, source.reference.registry)


class Repository:
    """One repository; errors name it as ``registry/path``."""

    def __init__(self, authorizer: tokens.Authorizer, path: str, registry: str) -> None:
        self._authorizer = authorizer
        self.transport = authorizer.transport
        self.path = path
        self.name = f"{registry}/{path}"
        self._scopes: tuple[str, ...] = (tokens.pull_scope(path),)

    def for_push(self, mounts: Iterable[str] = ()) -> None:
        """Ask for the right to push from now on, and to read what may be mounted."""
        others = tuple(tokens.pull_scope(path) for path in mounts if path != self.path)
        self._scopes = (tokens.push_scope(self.path), *others)

    def ping(self) -> None:
        """Prove that the registry answers and, where it asks, takes the credentials."""
        answer = self._authorizer.request("GET", "/v2/", ())
        try:
            if answer.status != 200:
                raise self._failure(answer, "log in")
        finally:
            finish(answer)

    # --- manifests and tags

    def manifest(self, selector: str, accept: tuple[str, ...]) -> Manifest:
        """The manifest of a tag or digest, verified; :class:`NotFound` when there is none."""
        answer = self._request("GET", f"/manifests/{selector}", headers=_accepting(accept))
        if answer.status != 200:
            raise self._failure(answer, selector)
        data = _read(answer, MANIFEST_LIMIT, f"{self.name}: manifest {selector}")
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        announced = selector if is_digest(selector) else _announced(answer) or digest
        if announced != digest:
            raise ImageError(
                f"{self.name}: manifest {selector}: its bytes have the digest {digest}"
                f" instead of {announced!a}"
            )
        return Manifest(data=data, media_type=_media_type(answer), digest=digest)

    def digest(self, selector: str, accept: tuple[str, ...]) -> str:
        """What a tag stands for now, without its bytes where the registry can say so."""
        answer = self._request("HEAD", f"/manifests/{selector}", headers=_accepting(accept))
        finish(answer)
        announced = _announced(answer)
        if answer.status == 200 and is_digest(announced):
            return announced
        return self.manifest(selector, accept).digest

    def put_manifest(self, selector: str, data: bytes, media_type: str) -> None:
        """Store a manifest byte for byte."""
        answer = self._request(
            "PUT", f"/manifests/{selector}", headers={"Content-Type": media_type}, body=data
        )
        if answer.status not in (200, 201, 202):
            raise self._failure(answer, f"push {selector}")
        finish(answer)

    def tags(self) -> tuple[str, ...]:
        """All tags of the repository, page after page."""
        found: list[str] = []
        url = f"/v2/{self.path}/tags/list"
        for _ in range(_MAX_PAGES):
            answer = self._authorizer.request("GET", url, self._scopes)
            if answer.status != 200:
                raise self._failure(answer, "list tags")
            data = _read(answer, _LIST_LIMIT, f"{self.name}: list of tags")
            found += _tags(data, self.name)
            url = self._next_page(answer, url)
            if not url:
                return tuple(dict.fromkeys(found))
        raise RegistryError(f"{self.name}: more than {_MAX_PAGES} pages of tags")

    def _next_page(self, answer: Response, url: str) -> str:
        """The ``Link`` to the next page, as a path: never to another host."""
        target, _, relation = answer.headers.get("Link", "").partition(">")
        if 'rel="next"' not in relation or not target.startswith("<"):
            return ""
        parts = urlsplit(urljoin(self.transport.base + url, target[1:]))
        return urlunsplit(("", "", parts.path, parts.query, ""))

    # --- blobs

    def open_blob(self, digest: str, offset: int = 0) -> Response:
        """The bytes of a blob from ``offset`` on (206), or all of them (200)."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        answer = self._request("GET", f"/blobs/{_checked(digest)}", headers=headers)
        if answer.status not in (200, 206, 416):
            raise self._failure(answer, f"blob {digest}")
        return answer

    def small_blob(self, blob: Descriptor) -> bytes:
        """A whole blob of exactly the size that its descriptor gives, verified."""
        answer = self.open_blob(blob.digest)
        data = _read(answer, blob.size, f"{self.name}: blob {blob.digest}")
        if hashlib.sha256(data).hexdigest() != blob.digest[7:]:
            raise ImageError(f"{self.name}: blob {blob.digest}: got other bytes than that")
        return data

    def has_blob(self, descriptor: Descriptor) -> bool:
        answer = self._request("HEAD", f"/blobs/{_checked(descriptor.digest)}")
        finish(answer)
        if answer.status in (401, 403):
            raise self._failure(answer, f"blob {descriptor.digest}")
        return answer.status == 200

    def start_upload(self, digest: str, mount_from: str = "") -> str:
        """Begin an upload; its URL, or an empty string when the blob was mounted instead."""
        query = {"mount": _checked(digest), "from": mount_from} if mount_from else {}
        suffix = f"?{urlencode(query)}" if query else ""
        answer = self._request("POST", f"/blobs/uploads/{suffix}", body=b"")
        if answer.status == 201:
            finish(answer)
            return ""
        if answer.status != 202:
            raise self._failure(answer, f"push blob {digest}")
        return self._location(answer)

    def send_all(
        self, url: str, descriptor: Descriptor, body: Callable[[], Iterable[bytes]]
    ) -> None:
        """The whole blob in one request (monolithic upload)."""
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(descriptor.size),
        }
        target = _with_query(url, digest=_checked(descriptor.digest))
        self._finish("PUT", target, descriptor, headers=headers, body=body)

    def send_chunk(self, url: str, data: bytes, offset: int) -> str:
        """One chunk of a chunked upload; the URL for the next one."""
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(len(data)),
            "Content-Range": f"{offset}-{offset + len(data) - 1}",
        }
        answer = self._authorizer.request(
            "PATCH", url, self._scopes, headers=headers, body=data, once=True
        )
        if answer.status not in (201, 202, 204):
            raise self._failure(answer, "push a chunk")
        return self._location(answer, url)

    def received(self, url: str) -> int:
        """How many bytes of an upload the registry holds."""
        answer = self._authorizer.request("GET", url, self._scopes)
        finish(answer)
        if answer.status not in (200, 202, 204):
            raise self._failure(answer, "continue a push")
        last = answer.headers.get("Range", "").removeprefix("bytes=").partition("-")[2]
        return int(last) + 1 if last.isdigit() and last != "0" else 0

    def finish_upload(self, url: str, descriptor: Descriptor) -> None:
        """End a chunked upload."""
        target = _with_query(url, digest=_checked(descriptor.digest))
        self._finish("PUT", target, descriptor, headers={"Content-Length": "0"}, body=b"")

    def _finish(self, method: str, url: str, descriptor: Descriptor, **more: object) -> None:
        answer = self._authorizer.request(method, url, self._scopes, once=True, **more)
        if answer.status not in (201, 202, 204):
            raise self._failure(answer, f"push blob {descriptor.digest}")
        finish(answer)

    # --- the wire

    def _request(
        self,
        method: str,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
    ) -> Response:
        url = f"/v2/{self.path}{path}"
        return self._authorizer.request(method, url, self._scopes, headers=headers, body=body)

    def _location(self, answer: Response, base: str = "") -> str:
        finish(answer)
        location = answer.headers.get("Location", "")
        if not location and not base:
            raise RegistryError(f"{self.name}: started an upload without saying where")
        return redirected(base or self.transport.base, location) if location else base

    def _failure(self, answer: Response, what: str) -> RegistryError | NotFound:
        """The registry's own words, of the size and characters that a terminal can bear."""
        said = _explanation(answer)
        finish(answer)
        text = f"{self.name}: {what}: "
        if answer.status == 404:
            return NotFound(f"{text}not found in the registry{f' ({said})' if said else ''}")
        if answer.status in (401, 403):
            return RegistryError(
                f"{text}access denied{f' ({said})' if said else ''}",
                hint=f"run `podpy login {self.name.partition('/')[0]}` with an account that may",
            )
        return RegistryError(f"{text}the registry answered {answer.status} {said}".rstrip())


def open_foreign(transport: Transport, url: str) -> Response:
    """A foreign layer's bytes: https, and never with credentials."""
    if not url.startswith("https://"):
        raise RegistryError(f"foreign layer {url!a}: only https is fetched")
    return transport.request("GET", url)


def chunks(answer: Response, size: int = 1 << 18) -> Iterator[bytes]:
    """The body of an answer as it comes, undecoded."""
    return answer.stream(size, decode_content=False)


def _accepting(kinds: tuple[str, ...]) -> dict[str, str]:
    return {"Accept": ", ".join(kinds)}


def _announced(answer: Response) -> str:
    return answer.headers.get("Docker-Content-Digest", "").strip()


def _media_type(answer: Response) -> str:
    return answer.headers.get("Content-Type", "").partition(";")[0].strip()


def _checked(digest: str) -> str:
    if not is_digest(digest):
        raise ImageError(f"digest {digest[:160]!a}: not sha256: and 64 hexadecimal digits")
    return digest


def _read(answer: Response, limit: int, what: str) -> bytes:
    """A whole body of at most ``limit`` bytes."""
    parts, size = [], 0
    try:
        for part in chunks(answer, 1 << 16):
            size += len(part)
            if size > limit:
                answer.close()
                raise ImageError(f"{what}: larger than the limit of {limit} bytes")
            parts.append(part)
    except HTTPError as error:
        raise RegistryError(f"{what}: {type(error).__name__}: {error}") from None
    finish(answer)
    return b"".join(parts)


def _tags(data: bytes, name: str) -> list[str]:
    try:
        tags = files.loads(data).get("tags") or []
        return [tag for tag in tags if isinstance(tag, str)]
    except (ValueError, AttributeError, TypeError):
        raise RegistryError(f"{name}: list of tags: not the JSON that was asked for") from None


def _with_query(url: str, **values: str) -> str:
    """``url`` with more query parameters; those it has are kept as they are."""
    parts = urlsplit(url)
    kept = [
        pair for pair in parse_qsl(parts.query, keep_blank_values=True) if pair[0] not in values
    ]
    if len(kept) == len(parse_qsl(parts.query, keep_blank_values=True)):
        query = f"{parts.query}&{urlencode(values)}" if parts.query else urlencode(values)
    else:
        query = urlencode([*kept, *values.items()])
    return urlunsplit(parts._replace(query=query))


def _explanation(answer: Response) -> str:
    """``code: message`` of the registry's errors, printable and short."""
    try:
        document = files.loads(answer.read(_ERROR_LIMIT))
        found = [f"{e.get('code', '')}: {e.get('message', '')}" for e in document["errors"]]
    except (HTTPError, ValueError, KeyError, TypeError, AttributeError):
        return ""
    text = "; ".join(found)[:300]
    return "".join(c if c.isprintable() else "?" for c in text)
