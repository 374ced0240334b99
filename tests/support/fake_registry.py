"""A registry of our own on the loopback: it misbehaves on demand and remembers every request.

For what a real registry does, use ``support.registry``; this one cuts answers
short, redirects, lies about digests, asks for tokens, and shows what it was sent.
"""

from __future__ import annotations

import base64
import gzip
import json
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from support import images

OCI = "application/vnd.oci.image"
MANIFEST = f"{OCI}.manifest.v1+json"
INDEX = f"{OCI}.index.v1+json"


@dataclass
class Request:
    """What a client sent; header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.path).query)


@dataclass
class Answer:
    """What a hook answers; ``sent`` of the body's bytes go out, then the connection closes."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    sent: int | None = None


Hook = Callable[[Request], "Answer | None"]


class FakeServer:
    """HTTP on a free loopback port; hooks are asked in order, the first answer counts."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.hooks: list[Hook] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = Request(self.command, self.path, headers, self.rfile.read(length))
                outer.requests.append(request)
                outer._reply(self, request)

            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = _serve

            def log_message(self, format: str, *args: Any) -> None:
                """Requests are kept, not printed."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.port = int(self._server.server_address[1])
        self.address = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.address}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def answer(self, request: Request) -> Answer:
        return Answer(404, body=b'{"errors":[{"code":"UNKNOWN","message":"no such thing"}]}')

    def _reply(self, handler: BaseHTTPRequestHandler, request: Request) -> None:
        answers = (hook(request) for hook in self.hooks)
        answer = next((a for a in answers if a is not None), None) or self.answer(request)
        handler.send_response(answer.status)
        answer.headers.setdefault("Content-Length", str(len(answer.body)))
        for name, value in answer.headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        if request.method == "HEAD":
            return
        body = answer.body if answer.sent is None else answer.body[: answer.sent]
        handler.wfile.write(body)
        if answer.sent is not None:
            handler.wfile.flush()
            handler.close_connection = True

    def paths(self, method: str = "GET") -> list[str]:
        return [request.path for request in self.requests if request.method == method]

    def authorizations(self) -> list[str]:
        """Every ``Authorization`` that reached this server."""
        return [r.headers["authorization"] for r in self.requests if "authorization" in r.headers]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class FakeRegistry(FakeServer):
    """Serves what was added to it; ``ranges`` says whether blobs come in parts."""

    def __init__(self) -> None:
        super().__init__()
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[tuple[str, str], tuple[str, bytes]] = {}
        self.ranges = True

    # --- content

    def blob(self, data: bytes, media_type: str) -> dict[str, Any]:
        digest = images.digest(data)
        self.blobs[digest] = data
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    def manifest(self, name: str, tag: str, document: Any, kind: str = MANIFEST) -> dict[str, Any]:
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        digest = images.digest(data)
        self.manifests[name, tag] = self.manifests[name, digest] = (kind, data)
        return {"mediaType": kind, "digest": digest, "size": len(data)}

    def image(
        self, name: str, tag: str, *layers: images.Layer | bytes, **config: Any
    ) -> dict[str, Any]:
        """Add an image of gzip-compressed layers; the descriptor of its manifest."""
        plain = [one.bytes() if isinstance(one, images.Layer) else one for one in layers]
        packed = [gzip.compress(one, 1, mtime=0) for one in plain]
        configuration = images.image_config(plain, config)
        return self.manifest(name, tag, self.document(configuration, packed))

    def document(self, configuration: bytes, packed: Iterable[bytes]) -> dict[str, Any]:
        """A manifest, its blobs added."""
        return {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.blob(configuration, f"{OCI}.config.v1+json"),
            "layers": [self.blob(one, f"{OCI}.layer.v1.tar+gzip") for one in packed],
        }

    # --- behaviour

    def answer(self, request: Request) -> Answer:
        path = urlsplit(request.path).path
        if path == "/v2/":
            return Answer(body=b"{}")
        name, _, rest = path.removeprefix("/v2/").rpartition("/")
        if name.endswith("/manifests"):
            return self._manifest(name.removesuffix("/manifests"), rest)
        if name.endswith("/blobs") and rest in self.blobs:
            return self._blob(request, rest)
        return super().answer(request)

    def _manifest(self, name: str, selector: str) -> Answer:
        if (name, selector) not in self.manifests:
            return Answer(404)
        kind, data = self.manifests[name, selector]
        digest = selector if selector.startswith("sha256:") else images.digest(data)
        return Answer(headers={"Content-Type": kind, "Docker-Content-Digest": digest}, body=data)

    def _blob(self, request: Request, digest: str) -> Answer:
        data, asked = self.blobs[digest], request.headers.get("range", "")
        if not self.ranges or not asked:
            return Answer(body=data)
        first = int(asked.removeprefix("bytes=").partition("-")[0])
        if first >= len(data):
            return Answer(416)
        span = f"bytes {first}-{len(data) - 1}/{len(data)}"
        return Answer(206, {"Content-Range": span}, data[first:])

    # --- misbehaviour

    def blob_hook(self, change: Callable[[Request, Answer], Answer | None]) -> None:
        """Let ``change`` replace the answers to GETs of layers (not of configurations)."""

        def hook(request: Request) -> Answer | None:
            small = 4096  # configurations are fetched whole and never resumed
            answer = self.answer(request) if "/blobs/" in request.path else None
            if request.method != "GET" or answer is None or answer.status not in (200, 206):
                return None
            if len(self.blobs[request.path.rpartition("/")[2]]) < small:
                return None
            return change(request, answer)

        self.hooks.append(hook)

    def cut(self, fraction: float) -> None:
        """Every layer's answer ends after that part of the whole layer."""

        def change(request: Request, answer: Answer) -> Answer:
            whole = len(self.blobs[request.path.rpartition("/")[2]])
            answer.headers["Content-Length"] = str(len(answer.body))
            answer.sent = max(1, int(whole * fraction))
            return answer

        self.blob_hook(change)

    def busy(self, times: int, status: int = 429, **headers: str) -> None:
        """Refuse the first ``times`` requests."""
        left = [times]

        def hook(request: Request) -> Answer | None:
            if left[0] <= 0:
                return None
            left[0] -= 1
            return Answer(status, {name.replace("_", "-"): v for name, v in headers.items()})

        self.hooks.append(hook)

    def redirect_blobs(self, base: str) -> None:
        """Blobs are elsewhere, as with a content delivery network."""

        def hook(request: Request) -> Answer | None:
            if "/blobs/sha256" not in request.path:
                return None
            return Answer(307, {"Location": base + request.path})

        self.hooks.append(hook)

    def require_basic(self, username: str, password: str) -> None:
        wanted = "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()

        def hook(request: Request) -> Answer | None:
            if request.headers.get("authorization") == wanted:
                return None
            return Answer(401, {"WWW-Authenticate": 'Basic realm="test"'})

        self.hooks.append(hook)

    def require_token(self, realm: str, token: str = "a-token") -> None:
        """Ask for a bearer token that ``realm`` gives; the scope is that of the request."""

        def hook(request: Request) -> Answer | None:
            if request.headers.get("authorization") == f"Bearer {token}":
                return None
            challenge = f'Bearer realm="{realm}",service="fake"'
            return Answer(401, {"WWW-Authenticate": challenge})

        self.hooks.append(hook)


class TokenServer(FakeServer):
    """Gives ``token`` to whoever shows the right credentials (anybody when there are none)."""

    def __init__(self, token: str = "a-token", credentials: str = "") -> None:
        super().__init__()
        self.token = token
        self.credentials = credentials
        self.refresh_token = ""

    @property
    def realm(self) -> str:
        return f"{self.url}/token"

    def answer(self, request: Request) -> Answer:
        if request.method == "POST":
            form = parse_qs(request.body.decode())
            allowed = form.get("refresh_token") == [self.refresh_token]
        else:
            shown = request.headers.get("authorization", "").removeprefix("Basic ")
            allowed = base64.b64decode(shown).decode() == self.credentials
        if not allowed:
            return Answer(401, body=b"{}")
        body = json.dumps({"access_token": self.token, "expires_in": 300}).encode()
        return Answer(headers={"Content-Type": "application/json"}, body=body)
