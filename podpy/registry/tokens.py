"""Authorization for one registry: Basic, and Bearer tokens with their servers.

A registry that wants credentials answers 401 with challenges (RFC 9110, and
the distribution project's token specification).  ``Basic`` is answered with
the user's name and password.  For ``Bearer`` a token is fetched from the
``realm`` that the registry names, by GET with Basic credentials, or by POST
with the identity token of an earlier login.

The realm is the registry's word, and credentials go there.  So it must be
https (http only where the registry itself was reached that way, on the same
host), and on the registry's own site, or one that is known or listed under
``token_servers`` in ``podpy.toml``.  Anonymous tokens may come from anywhere.
"""

from __future__ import annotations

import threading
import time
from typing import Any
from urllib.parse import urlencode, urlsplit

from urllib3.response import BaseHTTPResponse as Response
from urllib3.util import make_headers

from podpy import files
from podpy.errors import AuthenticationError, RegistryError
from podpy.records import record
from podpy.registry.auth import Credentials
from podpy.registry.transport import Origin, Transport, finish

# Registries whose token server is elsewhere by their own documentation.
_KNOWN = {"registry-1.docker.io": "auth.docker.io", "dhi.io": "auth.docker.io"}
_TOKEN_LIMIT = 1 << 20
_SAFETY = 10.0


@record
class Challenge:
    """One ``WWW-Authenticate`` challenge; the scheme in lower case."""

    scheme: str
    parameters: dict[str, str]


def challenges(header: str) -> tuple[Challenge, ...]:
    """Every challenge of a header's value, in order; what is malformed ends the list."""
    found: list[Challenge] = []
    rest = header.strip()
    while rest:
        word, _, after = rest.lstrip(" ,").partition(" ")
        if "=" in word or not word:
            break
        parameters, rest = _parameters(after.strip())
        found.append(Challenge(scheme=word.rstrip(",").lower(), parameters=parameters))
    return tuple(found)


def _parameters(text: str) -> tuple[dict[str, str], str]:
    """``key=value`` pairs up to the next scheme: (pairs, what follows)."""
    pairs: dict[str, str] = {}
    while text:
        key, equals, rest = text.partition("=")
        if not equals or " " in key.strip():
            break
        value, text = _value(rest.lstrip())
        pairs[key.strip().lower()] = value
        text = text.lstrip(" ,")
    return pairs, text


def _value(text: str) -> tuple[str, str]:
    """A token or a quoted string with backslash escapes: (value, what follows)."""
    if not text.startswith('"'):
        end = min((i for i in (text.find(","), text.find(" ")) if i >= 0), default=len(text))
        return text[:end], text[end:]
    value, position = "", 1
    while position < len(text) and text[position] != '"':
        position += text[position] == "\\"
        value += text[position : position + 1]
        position += 1
    return value, text[position + 1 :]


def pull_scope(repository: str) -> str:
    return f"repository:{repository}:pull"


def push_scope(repository: str) -> str:
    return f"repository:{repository}:pull,push"


@record
class _Token:
    header: str
    expires: float


class Authorizer:
    """Sends requests to a registry with the authorization it asks for.

    Tokens are kept per set of scopes until shortly before they expire.
    """

    def __init__(
        self,
        transport: Transport,
        credentials: Credentials | None,
        token_servers: tuple[str, ...] = (),
    ) -> None:
        self.transport = transport
        self._credentials = credentials
        self._servers = token_servers
        self._tokens: dict[tuple[str, ...], _Token] = {}
        self._challenge: Challenge | None = None
        self._lock = threading.Lock()

    def request(self, method: str, url: str, scopes: tuple[str, ...], **more: Any) -> Response:
        """:meth:`Transport.request`, authorized; asks for a new token once on 401.

        A URL of another origin (a registry may have uploads sent elsewhere) gets
        no credentials at all.
        """
        if "://" in url and Origin(url) != Origin(self.transport.base):
            return self.transport.request(method, url, **more)
        used = self._authorization(scopes)
        answer = self.transport.request(method, url, authorization=used, **more)
        if answer.status != 401:
            return answer
        offered = challenges(answer.headers.get("WWW-Authenticate", ""))
        finish(answer)
        self._challenge = self._choose(offered)
        self._forget(scopes, used)
        header = self._authorization(scopes)
        answer = self.transport.request(method, url, authorization=header, **more)
        if answer.status == 401:
            finish(answer)
            raise self._refused()
        return answer

    def _forget(self, scopes: tuple[str, ...], header: str) -> None:
        """Drop a token that was refused, unless another thread has replaced it already."""
        with self._lock:
            held = self._tokens.get(scopes)
            if held is not None and held.header == header:
                del self._tokens[scopes]

    def _choose(self, offered: tuple[Challenge, ...]) -> Challenge:
        for scheme in ("bearer", "basic"):
            for challenge in offered:
                if challenge.scheme == scheme:
                    return challenge
        names = ", ".join(challenge.scheme for challenge in offered) or "no way"
        raise AuthenticationError(
            f"{self.transport.host}: offers {names!a} to log in; Basic and Bearer are supported"
        )

    def _authorization(self, scopes: tuple[str, ...]) -> str:
        """The header for these scopes; empty while the registry has not asked for one."""
        challenge = self._challenge
        if challenge is None:
            return ""
        if challenge.scheme == "basic":
            return self._basic()
        with self._lock:
            held = self._tokens.get(scopes)
            if held is None or held.expires < time.monotonic():
                held = self._tokens[scopes] = self._fetch(challenge, scopes)
        return held.header

    def _basic(self) -> str:
        known = self._credentials
        if known is None or not known.username:
            raise self._refused()
        made: str = make_headers(basic_auth=f"{known.username}:{known.password}")["authorization"]
        return made

    def _fetch(self, challenge: Challenge, scopes: tuple[str, ...]) -> _Token:
        realm = challenge.parameters.get("realm", "")
        self._check_realm(realm)
        service = challenge.parameters.get("service", "")
        known = self._credentials
        if known is not None and known.identity_token:
            answer = self._post(realm, service, scopes, known.identity_token)
        else:
            answer = self._get(realm, service, scopes)
        return self._read(answer, realm)

    def _get(self, realm: str, service: str, scopes: tuple[str, ...]) -> Response:
        query = [("service", service)] if service else []
        query += [("scope", scope) for scope in scopes]
        header = ""
        if self._credentials is not None:
            query.append(("account", self._credentials.username))
            header = self._basic()
        joint = "&" if urlsplit(realm).query else "?"
        return self.transport.request("GET", realm + joint + urlencode(query), authorization=header)

    def _post(self, realm: str, service: str, scopes: tuple[str, ...], token: str) -> Response:
        form = {
            "grant_type": "refresh_token",
            "service": service,
            "client_id": "podpy",
            "scope": " ".join(scopes),
            "refresh_token": token,
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return self.transport.request("POST", realm, headers=headers, body=urlencode(form).encode())

    def _read(self, answer: Response, realm: str) -> _Token:
        body = answer.read(_TOKEN_LIMIT)
        finish(answer)
        if answer.status in (400, 401, 403):
            raise self._refused()
        try:
            values = files.loads(body) if answer.status == 200 else {}
        except ValueError:
            values = {}
        token = values.get("token") or values.get("access_token")
        if not isinstance(token, str) or not token.isprintable():
            raise RegistryError(
                f"{self.transport.host}: token server {urlsplit(realm).netloc} answered"
                f" {answer.status} without a token"
            )
        lifetime = values.get("expires_in")
        seconds = float(lifetime) if isinstance(lifetime, (int, float)) else 60.0
        expires = time.monotonic() + max(seconds - _SAFETY, 1.0)
        return _Token(header=f"Bearer {token}", expires=expires)

    def _check_realm(self, realm: str) -> None:
        host, target, own = self.transport.host, urlsplit(realm), urlsplit(self.transport.base)
        same_host = target.hostname == own.hostname
        plain = target.scheme == "http" and own.scheme == "http" and same_host
        if not target.hostname or (target.scheme != "https" and not plain):
            raise RegistryError(f"{host}: names {realm!a} as its token server, which is not https")
        if self._credentials is None or same_host:
            return
        trusted = (*self._servers, _KNOWN.get(host, ""))
        if target.hostname in trusted or site(target.hostname) == site(own.hostname or ""):
            return
        raise AuthenticationError(
            f"{host}: wants its credentials sent to another site, {target.hostname}",
            hint=f'if that is right, put token_servers = ["{target.hostname}"] under [engine]'
            " in podpy.toml",
        )

    def _refused(self) -> AuthenticationError:
        host = self.transport.host.replace("registry-1.docker.io", "docker.io")
        if self._credentials is None:
            return AuthenticationError(
                f"{host}: authentication required", hint=f"run `podpy login {host}`"
            )
        return AuthenticationError(
            f"{host}: unauthorized: the credentials of {self._credentials.origin} were refused",
            hint=f"run `podpy login {host}` again",
        )


def site(host: str) -> str:
    """The part of a host name that one owner registers, near enough.

    The last two labels; three when the last two are as short as ``co.uk``.
    An address is its own site.
    """
    labels = host.lower().rstrip(".").split(".")
    if ":" in host or labels[-1].isdigit():
        return host
    short = len(labels) > 2 and len(labels[-1]) == 2 and len(labels[-2]) <= 3
    return ".".join(labels[-3:] if short else labels[-2:])
