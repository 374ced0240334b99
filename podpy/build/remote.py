"""Downloads for builds: contexts by URL, and ADD.

What was downloaded stays in the cache directory under its digest, with what
its server said of it; the next build asks whether it changed (``ETag``,
``Last-Modified``) and does not load it again.  With a checksum that is known
there, it asks nobody.
"""

from __future__ import annotations

import hashlib
import os
import time
from urllib.parse import unquote, urlsplit, urlunsplit

from podpy import files, paths
from podpy.errors import BuildError, StoreError
from podpy.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from urllib3.response import BaseHTTPResponse as Response

    from podpy.registry.transport import Access

LIMIT = 64 << 30
_CHUNK = 1 << 18
_TRIES = 3
_DIGITS = {"sha256": 64, "sha384": 96, "sha512": 128}


@record
class Download:
    """A file that was downloaded: open, at its start.  Use as a context manager.

    ``name`` is a file name that its server or its URL gives it, empty when
    neither does; ``modified`` is its ``Last-Modified`` in seconds, None when
    there is none; ``was_cached`` says that its bytes did not travel.
    """

    fd: int
    digest: str
    size: int
    name: str = ""
    modified: int | None = None
    was_cached: bool = False

    def __enter__(self) -> Download:
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self.fd)

    def chunks(self) -> Iterator[bytes]:
        """The bytes of the file."""
        offset = 0
        while data := os.pread(self.fd, 1 << 20, offset):
            offset += len(data)
            yield data


def shown(url: str) -> str:
    """A URL for messages and records: without user name and password."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def place() -> str:
    """The directory of what was downloaded; a cache, it may be deleted at any time."""
    return f"{paths.cache_home()}/build/http"


def fetch_url(
    url: str,
    *,
    checksum: str = "",
    authorization: str = "",
    access: Access | None = None,
    limit: int = LIMIT,
    tell: Callable[[int, int], None] = lambda _done, _total: None,
) -> Download:
    """Download a file, unless it is here and its server says that it is still the same.

    ``checksum`` is ``sha256:<hex>`` (or sha384, sha512): anything else is a
    :class:`BuildError`, as are answers other than success and files larger than
    ``limit`` bytes.  ``authorization``, or a user name and password in the URL, go
    to its own origin only.  ``tell(done, total)`` hears how many bytes are there.
    Runs threads nowhere; imports urllib3 only when it asks a server.
    """
    check_checksum(checksum)
    files.make_directory(place())
    known = _Known(url)
    if checksum and known.answers(checksum):
        return known.open()
    fetch = _Fetch(
        url=url,
        known=known,
        checksum=checksum,
        authorization=authorization or _authorization(url),
        access=access,
        limit=limit,
        tell=tell,
    )
    for attempt in range(_TRIES):
        try:
            return fetch.run()
        except _Interrupted as error:
            if attempt == _TRIES - 1:
                raise BuildError(f"{shown(url)}: {error}") from None
            time.sleep(0.5 * 2**attempt)
    raise AssertionError("the loop returns or raises")


def check_checksum(checksum: str) -> None:
    """:class:`BuildError` when a checksum is none."""
    if not checksum:
        return
    algorithm, _, digits = checksum.partition(":")
    if len(digits) != _DIGITS.get(algorithm, -1) or not set(digits) <= set("0123456789abcdef"):
        raise BuildError(
            f"checksum {checksum!r}: is not sha256: and 64 hexadecimal digits",
            hint="`sha256sum FILE` prints the digits",
        )


class _Interrupted(Exception):
    """The connection broke in the middle of the body."""


class _Known:
    """What an earlier build downloaded from a URL, and where it is kept."""

    def __init__(self, url: str) -> None:
        self._meta = f"{place()}/{hashlib.sha256(url.encode(errors='replace')).hexdigest()}.json"
        self.values: dict[str, Any] = {}
        try:
            values = files.loads(files.read_bytes(self._meta))
            if values["version"] == 1 and os.path.exists(_data(values["digests"]["sha256"])):
                self.values = values
        except (OSError, ValueError, KeyError, TypeError, StoreError):
            pass

    def answers(self, checksum: str) -> bool:
        """Whether the file is here that has this checksum."""
        algorithm, _, digits = checksum.partition(":")
        return bool(self.values) and self.values["digests"].get(algorithm) == digits

    def conditions(self) -> dict[str, str]:
        """The headers that ask for the file only if it changed."""
        headers = {"If-None-Match": "etag", "If-Modified-Since": "modified"}
        return {name: self.values[key] for name, key in headers.items() if self.values.get(key)}

    def open(self, *, cached: bool = True) -> Download:
        digits = self.values["digests"]["sha256"]
        fd = os.open(_data(digits), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        for path in (self._meta, _data(digits)):  # it was used
            os.utime(path)
        return Download(
            fd=fd,
            digest=f"sha256:{digits}",
            size=os.fstat(fd).st_size,
            name=self.values["name"],
            modified=_seconds(self.values["modified"]),
            was_cached=cached,
        )

    def add(self, checksum: str) -> None:
        """See that the digest of the file is known that a checksum is about."""
        algorithm = checksum.partition(":")[0]
        if algorithm and algorithm not in self.values["digests"]:
            with open(_data(self.values["digests"]["sha256"]), "rb") as file:
                made = hashlib.new(algorithm)
                while data := file.read(_CHUNK):
                    made.update(data)
            self.values["digests"][algorithm] = made.hexdigest()
            self.keep(self.values)

    def keep(self, values: dict[str, Any]) -> None:
        self.values = {"version": 1, **values}
        files.write_json(self._meta, self.values)


def _data(digits: str) -> str:
    return f"{place()}/{digits}"


def _authorization(url: str) -> str:
    """``Basic`` credentials for the user name and password of a URL."""
    parts = urlsplit(url)
    if parts.username is None:
        return ""
    from base64 import b64encode

    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return f"Basic {b64encode(login.encode()).decode()}"


@record
class _Fetch:
    """One download, as it was asked for."""

    url: str
    known: _Known
    checksum: str
    authorization: str
    access: Access | None
    limit: int
    tell: Callable[[int, int], None]

    def run(self) -> Download:
        """Ask the server; :class:`_Interrupted` when trying again makes sense."""
        from podpy.registry import transport

        origin = urlsplit(self.url).netloc.rpartition("@")[2]
        access = self.access or transport.Access()
        reach = transport.Transport(origin, insecure=False, access=access)
        answer = reach.request(
            "GET",
            shown(self.url),
            headers=self.known.conditions(),
            authorization=self.authorization,
        )
        try:
            if answer.status == 304 and self.known.values:
                self.known.add(self.checksum)
                self._check(self.known.values["digests"])
                return self.known.open()
            if answer.status != 200:
                reason = f"{answer.status} {answer.reason or ''}".rstrip()
                raise self._error(f"the server answers {reason}")
            return self._receive(answer)
        finally:
            transport.finish(answer)

    def _error(self, reason: str) -> BuildError:
        return BuildError(f"{shown(self.url)}: {reason}")

    def _receive(self, answer: Response) -> Download:
        """The body of an answer, verified, in the cache under its digest."""
        temporary = files.temporary_name(f"{place()}/download")
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            digests = self._copy(answer, fd)
            self._check(digests)
            os.rename(temporary, _data(digests["sha256"]))
        except BaseException:
            files.unlink(temporary)
            raise
        finally:
            os.close(fd)
        headers = answer.headers
        self.known.keep(
            {
                "url": shown(self.url),
                "digests": digests,
                "name": _name(self.url, headers.get("Content-Disposition", "")),
                "etag": headers.get("ETag", ""),
                "modified": headers.get("Last-Modified", ""),
            }
        )
        return self.known.open(cached=False)

    def _copy(self, answer: Response, fd: int) -> dict[str, str]:
        """Write a body to a file; its digests."""
        from urllib3.exceptions import HTTPError

        asked = self.checksum.partition(":")[0] or "sha256"
        hashes = {name: hashlib.new(name) for name in {"sha256", asked}}
        length = answer.headers.get("Content-Length", "")
        total, size = int(length) if length.isdigit() else 0, 0
        try:
            for data in answer.stream(_CHUNK):
                size += len(data)
                if size > self.limit:
                    raise self._error(f"more than {self.limit} bytes")
                files.write_all(fd, data)
                for each in hashes.values():
                    each.update(data)
                self.tell(size, total)
        except HTTPError as error:
            raise _Interrupted(f"the download broke off after {size} bytes: {error}") from None
        return {name: each.hexdigest() for name, each in hashes.items()}

    def _check(self, digests: dict[str, str]) -> None:
        algorithm, _, wanted = self.checksum.partition(":")
        if wanted and digests[algorithm] != wanted:
            found = f"{algorithm}:{digests[algorithm]}"
            raise self._error(f"its checksum is {found}, not {self.checksum}")


def _name(url: str, disposition: str) -> str:
    """A file's name, from ``Content-Disposition`` or the URL's path; never one with a slash."""
    name = ""
    if disposition:
        from email.message import Message

        message = Message()
        message["Content-Disposition"] = disposition
        name = os.path.basename(message.get_filename("") or "")
    if name in ("", ".", ".."):
        name = unquote(urlsplit(url).path.rpartition("/")[2])
    return "" if name in (".", "..") or "/" in name or "\0" in name else name


def _seconds(text: str) -> int | None:
    """An HTTP date (RFC 9110) as seconds since the epoch."""
    from email.utils import parsedate_to_datetime

    try:
        return int(parsedate_to_datetime(text).timestamp()) if text else None
    except (ValueError, OverflowError):
        return None


@record
class Stored:
    """A download in the cache: its files, their size, the time it was last used."""

    url: str
    paths: tuple[str, ...]
    size: int
    used: float


def every() -> list[Stored]:
    """All downloads that are kept; those that lost their description have no URL."""
    names = files.list_directory(place())
    about: dict[str, list[tuple[str, str]]] = {name: [] for name in names if len(name) == 64}
    for name in names:
        if name.endswith(".json"):
            path = f"{place()}/{name}"
            try:
                values = files.loads(files.read_bytes(path))
                digits, url = str(values["digests"]["sha256"]), str(values["url"])
            except (OSError, ValueError, KeyError, TypeError, StoreError):
                digits, url = name, ""
            about.setdefault(digits, []).append((path, url))
    return [_stored(digits, found) for digits, found in about.items()]


def _stored(digits: str, about: list[tuple[str, str]]) -> Stored:
    found = [path for path in (_data(digits), *(path for path, _ in about)) if os.path.exists(path)]
    status = [os.stat(path) for path in found]
    return Stored(
        url=about[0][1] if about else "",
        paths=tuple(found),
        size=sum(each.st_size for each in status),
        used=max((each.st_mtime for each in status), default=0.0),
    )
