"""HTTP to one registry: TLS, proxies, redirects, retries.  urllib3 does the talking.

The rules this module holds:

* plain http only to a registry that is marked insecure (``registries.conf``,
  ``--tls-verify=false``), and only after https failed there;
* a redirect is followed without credentials unless it stays on the same
  scheme, host and port; one from https to http is refused;
* what fails for a moment (connection, time-out, 429, 502 to 504) is tried
  again after a growing pause, or the one that ``Retry-After`` asks for.
"""

from __future__ import annotations

import os
import random
import socket
import ssl
import threading
import time
import weakref
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, SSLError
from urllib3.response import BaseHTTPResponse as Response
from urllib3.util import Timeout, make_headers

from podpy import files, paths
from podpy.errors import RegistryError
from podpy.records import record
from podpy.registry import proxies

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

REDIRECTS = (301, 302, 303, 307, 308)
PASSING = (429, 502, 503, 504)
MAX_REDIRECTS = 6
MAX_PAUSE = 300.0
_REST = 64 << 10
USER_AGENT = "podpy"
_TIMEOUT = Timeout(connect=30.0, read=90.0)
_CERTIFICATES = ("/etc/containers/certs.d", "/etc/docker/certs.d")


@record
class Access:
    """How the user lets us reach registries.

    ``tls_verify`` is None where neither option nor configuration says a word;
    ``pause`` is the first wait before a retry, in seconds, doubled each time.
    """

    tls_verify: bool | None = None
    cert_dir: str = ""
    retries: int = 3
    pause: float = 1.0


class Origin:
    """Scheme, host and port: what credentials belong to."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.scheme = parts.scheme.lower()
        self.host = (parts.hostname or "").lower()
        self.port = parts.port or (443 if self.scheme == "https" else 80)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Origin) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[str, str, int]:
        return self.scheme, self.host, self.port


class Transport:
    """Requests to one registry, and to where it redirects."""

    def __init__(self, host: str, *, insecure: bool, access: Access) -> None:
        self.host = host
        self.access = access
        self._insecure = access.tls_verify is False or (insecure and access.tls_verify is None)
        self._pools: dict[tuple[str, str, bool], urllib3.PoolManager] = {}
        self._base = ""
        self._lock = threading.Lock()
        self._reached = False
        self._stopped = threading.Event()
        self._live: weakref.WeakSet[HTTPConnection] = weakref.WeakSet()

    @property
    def base(self) -> str:
        """``https://host`` or, where that is allowed and https failed, ``http://host``."""
        with self._lock:
            if not self._base:
                self._base = self._probe()
        return self._base

    def _probe(self) -> str:
        secure = f"https://{self.host}"
        if not self._insecure:
            return secure
        try:
            finish(self._once("GET", f"{secure}/v2/", {}, None))
        except HTTPError:
            return f"http://{self.host}"
        return secure

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Callable[[], Iterable[bytes]] | bytes | None = None,
        authorization: str = "",
        once: bool = False,
    ) -> Response:
        """Send one request, retried and redirected; the body of the answer is unread.

        ``url`` may be a path on the registry.  ``authorization`` goes to the
        url's own origin alone.  Passing failures are
        tried again, and returned once the retries are used up.  ``once`` is for requests
        that cannot be repeated as they are.
        """
        target = url if "://" in url else f"{self.base}{url}"
        retries = 0 if once else self.access.retries
        for attempt in range(retries + 1):
            last = attempt == retries
            try:
                answer = self._follow(method, target, dict(headers or {}), body, authorization)
            except HTTPError as error:
                if last or self._is_final(error):
                    raise _explained(error, target) from None
                self.wait(attempt)
                continue
            self._reached = True
            if answer.status not in PASSING or last:
                return answer
            finish(answer)
            self.wait(attempt, answer.headers.get("Retry-After", ""))
        raise AssertionError("the loop returns or raises")

    def _is_final(self, error: HTTPError) -> bool:
        """Whether trying again is pointless: bad TLS, or a registry that was never reached."""
        unreachable = isinstance(error, (NewConnectionError, ConnectTimeoutError))
        return isinstance(error, SSLError) or (unreachable and not self._reached)

    def wait(self, attempt: int, asked: str = "") -> None:
        """Sleep before the next try: what the registry asked for, else 1, 2, 4 … seconds."""
        pause = _asked_pause(asked)
        if pause > MAX_PAUSE:
            raise RegistryError(
                f"{self.host}: asks to come back in {pause:.0f} seconds (too many requests)",
                hint="wait, or log in: many registries limit anonymous pulls",
            )
        if pause < 0:
            pause = min(self.access.pause * 2**attempt, 60.0) * random.uniform(0.8, 1.2)
        if self._stopped.wait(pause):
            raise RegistryError(f"{self.host}: stopped")

    def stop(self) -> None:
        """Make every thread that uses this transport fail at once, wherever it waits."""
        self._stopped.set()
        for connection in list(self._live):
            if connection.sock is not None:
                try:
                    # Not the method of an SSLSocket: that one takes the reader's TLS state away.
                    socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)
                except OSError:
                    pass  # closed in this moment

    def _follow(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        body: Callable[[], Iterable[bytes]] | bytes | None,
        authorization: str,
    ) -> Response:
        first = Origin(url)
        for _ in range(MAX_REDIRECTS):
            sent = dict(headers)
            if authorization and Origin(url) == first:
                sent["Authorization"] = authorization
            answer = self._once(method, url, sent, body() if callable(body) else body)
            location = answer.headers.get("Location", "")
            if answer.status not in REDIRECTS or not location:
                return answer
            finish(answer)
            url = redirected(url, location)
            if Origin(url) != first:
                authorization = ""  # once away it does not come back
            if answer.status == 303:
                method, body = "GET", None
        raise RegistryError(f"{self.host}: more than {MAX_REDIRECTS} redirects")

    def _once(
        self, method: str, url: str, headers: dict[str, str], body: Iterable[bytes] | bytes | None
    ) -> Response:
        headers.setdefault("User-Agent", USER_AGENT)
        headers.setdefault("Accept-Encoding", "identity")
        return self._pool(url).request(
            method,
            url,
            headers=headers,
            body=body,
            redirect=False,
            retries=False,
            preload_content=False,
            decode_content=False,
        )

    def _pool(self, url: str) -> urllib3.PoolManager:
        """The connections for ``url``: with the registry's certificates only on its own host."""
        parts = urlsplit(url)
        own = parts.netloc == self.host
        key = (parts.scheme, proxies.find(url), own)
        if key not in self._pools:
            context = self._context(own) if parts.scheme == "https" else None
            self._pools[key] = _make_pool(key[1], context, self._live)
        return self._pools[key]

    def _context(self, own: bool) -> ssl.SSLContext:
        context = ssl.create_default_context()
        # Python 3.13 demands key identifiers that home-made authorities often leave out,
        # and that no other client of these registries asks for.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if self.access.tls_verify is False or (own and self._insecure):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if own:
            _add_certificates(context, self.host, self.access.cert_dir)
        return context


def finish(answer: Response) -> None:
    """Give the connection back; what is left of the body is read first, if it is small."""
    try:
        answer.read(_REST)
    except HTTPError:
        answer.close()
    if answer.closed:
        answer.release_conn()
    else:
        answer.close()


def _make_pool(
    proxy: str, context: ssl.SSLContext | None, live: weakref.WeakSet[HTTPConnection]
) -> urllib3.PoolManager:
    """Connections, direct or by a proxy, that are found in ``live`` while they are open."""
    if not proxy:
        manager = urllib3.PoolManager(timeout=_TIMEOUT, maxsize=8, ssl_context=context)
    else:
        parts = urlsplit(proxy)
        if parts.scheme not in ("http", "https"):
            raise RegistryError(
                f"proxy {parts.scheme}://{parts.hostname}: only http and https proxies"
                " are supported"
            )
        login = {}
        if parts.username is not None:
            login = make_headers(proxy_basic_auth=f"{parts.username}:{parts.password or ''}")
        manager = urllib3.ProxyManager(
            proxy, proxy_headers=login, timeout=_TIMEOUT, maxsize=8, ssl_context=context
        )
    manager.pool_classes_by_scheme = {
        "http": _remembering(HTTPConnectionPool, HTTPConnection, live),
        "https": _remembering(HTTPSConnectionPool, HTTPSConnection, live),
    }
    return manager


def _remembering(
    pool: type[HTTPConnectionPool],
    connection: type[HTTPConnection],
    live: weakref.WeakSet[HTTPConnection],
) -> type[HTTPConnectionPool]:
    """A pool whose connections are in ``live`` from the moment they are open."""

    def connect(self: HTTPConnection) -> None:
        connection.connect(self)
        live.add(self)

    made = type("Connection", (connection,), {"connect": connect})
    return type("Pool", (pool,), {"ConnectionCls": made})


def redirected(url: str, location: str) -> str:
    """Where a ``Location`` points; never from https to http, nor to another scheme."""
    target = urljoin(url, location)
    scheme = urlsplit(target).scheme
    if scheme not in ("http", "https"):
        raise RegistryError(f"{urlsplit(url).netloc}: redirects to a {scheme!a} address")
    if urlsplit(url).scheme == "https" and scheme == "http":
        raise RegistryError(f"{urlsplit(url).netloc}: redirects from https to http")
    return target


def _asked_pause(text: str) -> float:
    """``Retry-After`` (RFC 9110) in seconds, as a number or a date; -1 when there is none."""
    if text.strip().isdigit():
        return float(text)
    if not text:
        return -1.0
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return -1.0


def _explained(error: HTTPError, url: str) -> RegistryError:
    where = urlsplit(url).netloc
    cause = str(error.args[-1] if error.args else error).rpartition(": ")[2] or str(error)
    if isinstance(error, SSLError):
        text = str(error)
        if "CERTIFICATE_VERIFY_FAILED" in text or "doesn't match" in text:
            hint = f"put its authority into /etc/containers/certs.d/{where}/ca.crt"
        else:
            hint = "if it speaks plain http, mark it insecure in registries.conf"
        return RegistryError(f"{where}: TLS failed: {text}", hint=f"{hint}, or --tls-verify=false")
    if isinstance(error, NewConnectionError):
        return RegistryError(f"{where}: cannot connect: {cause}")
    return RegistryError(f"{where}: {type(error).__name__}: {cause}")


# --- certificates ------------------------------------------------------------


def _certificate_directory(host: str, given: str) -> str:
    """The first directory there is for ``host`` (containers-certs.d(5)), or an empty string."""
    if given:
        return given
    for base in (f"{paths.config_home()}/containers/certs.d", *_CERTIFICATES):
        if os.path.isdir(f"{base}/{host}"):
            return f"{base}/{host}"
    return ""


def _add_certificates(context: ssl.SSLContext, host: str, given: str) -> None:
    """Trust every ``*.crt`` of the directory, show every ``*.cert`` with its ``*.key``."""
    directory = _certificate_directory(host, given)
    for name in files.list_directory(directory) if directory else ():
        path = f"{directory}/{name}"
        stem, _, kind = path.rpartition(".")
        try:
            if kind == "crt":
                context.load_verify_locations(cafile=path)
            elif kind == "cert":
                context.load_cert_chain(path, f"{stem}.key")
        except (OSError, ssl.SSLError) as error:
            raise RegistryError(f"{path}: not usable as a certificate: {error}") from None
