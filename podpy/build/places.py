"""Where a build's files come from: directories, archives, git repositories, downloads.

A directory of the user's is read where it lies.  Everything else is unpacked
into a staging directory first, which is gone when the build is over; there
every path is resolved inside: what a stranger packed leads to nothing of ours.
"""

from __future__ import annotations

import itertools
import os
import stat
import time

from podpy.build.inroot import IN_ROOT
from podpy.build.model import Failed, Finished, Started, Transfer
from podpy.errors import BuildError, PodpyError
from podpy.kernel import libc
from podpy.records import EMPTY, record
from podpy.storage import staging

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from podpy.build.git import Repository
    from podpy.build.model import Report
    from podpy.paths import Store
    from podpy.registry.transport import Access

STDIN = "-"
_LIMIT = 16 << 20
_CHUNK = 1 << 20
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC


@record
class Request:
    """What the user asked for.

    ``source`` is a directory, a URL or ``-``; empty: the directory of the first
    ``files``, else the current one.  ``files`` are the Dockerfiles (``-f``);
    ``ignore_file`` is ``--ignorefile``; ``named`` are the ``--build-context``s.
    ``secret`` answers the secrets that git may need (``GIT_AUTH_TOKEN`` …),
    ``agent`` is the socket of an ssh agent.  ``preprocessor`` are options for
    ``cpp``, which reads files called ``….in`` first.  ``report`` is told of what
    is fetched, as steps of the build.
    """

    source: str = ""
    files: tuple[str, ...] = ()
    ignore_file: str = ""
    named: Mapping[str, str] = EMPTY
    keep_git_dir: bool = False
    preprocessor: tuple[str, ...] = ()
    secret: Callable[[str], str | None] = lambda _: None
    agent: str = ""
    access: Access | None = None
    stdin: int = 0
    report: Report = lambda _: None


class Area:
    """Staging directories that live as long as a build, and the steps that fill them."""

    def __init__(self, store: Store, request: Request) -> None:
        self.request = request
        self.steps = itertools.count(1)
        self._store = store
        self._made: list[str] = []

    def directory(self) -> str:
        """A fresh, empty directory."""
        self._store.prepare()
        path = staging.create(self._store, "context")
        self._made.append(path)
        return path

    def step(self, text: str) -> Step:
        """A step of the build that fetches something."""
        return Step(self.request.report, next(self.steps), text)

    def close(self) -> None:
        while self._made:
            staging.discard(self._store, self._made.pop())


class Step:
    """A step that is told of from its beginning to its end; a context manager."""

    def __init__(self, report: Report, number: int, text: str) -> None:
        self._report = report
        self._number = number
        self._text = text
        self._begun = time.monotonic()

    def __enter__(self) -> Step:
        self._report(Started(step=self._number, text=self._text))
        return self

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        seconds = time.monotonic() - self._begun
        if error is None:
            self._report(Finished(step=self._number, seconds=seconds))
        elif isinstance(error, PodpyError):
            self._report(Failed(step=self._number, error=error, seconds=seconds))

    def tell(self, done: int, total: int) -> None:
        """How many bytes of how many are there."""
        text = os.path.basename(self._text)
        self._report(Transfer(step=self._number, text=text, current=done, total=total))


class Place:
    """Where a context is: a directory of the user's, or one that we unpacked.

    ``text`` is a Dockerfile that came in the place of a context.
    """

    def __init__(
        self, directory: str = "", *, foreign: bool = False, text: str | None = None
    ) -> None:
        self.directory = directory
        self.is_foreign = foreign
        self.text = text

    def read(self, path: str) -> bytes | None:
        """A file of the context, None when there is none.

        A foreign one is read inside its directory, whatever links it goes through.
        """
        if not self.directory:
            return None
        if not self.is_foreign:
            return read_file(os.path.join(self.directory, path))
        root = os.open(self.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return _read(path, lambda: libc.openat2(root, path, _READ, resolve=IN_ROOT))
        finally:
            os.close(root)

    def find(self, names: Iterable[str]) -> tuple[bytes, str] | None:
        """The first file there is, and its name."""
        for name in names:
            data = self.read(name)
            if data is not None:
                return data, name
        return None


def read_file(path: str) -> bytes | None:
    """A file of the user's, or a pipe; None when there is none."""
    streams = (stat.S_IFIFO, stat.S_IFCHR)  # `-f <(command)` is a pipe
    return _read(path, lambda: os.open(path, os.O_RDONLY | os.O_CLOEXEC), streams)


def _read(path: str, opener: Callable[[], int], streams: tuple[int, ...] = ()) -> bytes | None:
    try:
        fd = opener()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise BuildError(f"{path}: {error.strerror}") from None
    try:
        kind = stat.S_IFMT(os.fstat(fd).st_mode)
        if kind == stat.S_IFDIR:
            raise BuildError(f"{path}: is a directory")
        if kind != stat.S_IFREG and kind not in streams:
            raise BuildError(f"{path}: is not a file")
        return read_all(chunks(fd), path)
    finally:
        os.close(fd)


def chunks(fd: int) -> Iterator[bytes]:
    """What a descriptor gives, until its end."""
    return iter(lambda: os.read(fd, _CHUNK), b"")


def read_all(stream: Iterator[bytes], what: str) -> bytes:
    data = b""
    for chunk in stream:
        data += chunk
        if len(data) > _LIMIT:
            raise BuildError(f"{what}: more than {_LIMIT} bytes, and no Dockerfile")
    return data


def is_url(text: str) -> bool:
    """Whether a text is an http(s) URL."""
    return text.lower().startswith(("http://", "https://"))


def open_place(area: Area, source: str) -> Place:
    """The place that a text means: an existing directory first."""
    if source == STDIN:
        return _streamed(area, chunks(area.request.stdin), "standard input")
    if os.path.isdir(source):
        return Place(os.path.abspath(source))
    from podpy.build import git, remote

    repository = git.parse(source)
    if repository is not None:
        return Place(check_out(area, repository), foreign=True)
    if is_url(source):
        shown, access = remote.shown(source), area.request.access
        with (
            area.step(f"[internal] load {shown}") as step,
            remote.fetch_url(source, access=access, tell=step.tell) as download,
        ):
            return _streamed(area, download.chunks(), shown)
    if os.path.exists(source):
        raise BuildError(
            f"context {source}: is not a directory",
            hint=f"`-f {source}` names a Dockerfile, and `- < {source}` sends an archive",
        )
    raise BuildError(f"context {source}: no such directory")


def text_of(data: bytes) -> str:
    """The text of a file; bytes that are no UTF-8 stay what they are."""
    return data.decode("utf-8", "surrogateescape")


def _streamed(area: Area, stream: Iterator[bytes], what: str) -> Place:
    """An archive, or a Dockerfile and no context at all; told by the first bytes."""
    from podpy.build import tarball

    is_archive, whole = tarball.sniff(stream, what)
    if not is_archive:
        text = text_of(read_all(whole, what))
        if text.lstrip()[:14].lower().startswith(("<!doctype html", "<html")):
            raise BuildError(
                f"{what}: is a web page, neither archive nor Dockerfile",
                hint="the address of a git repository ends in .git",
            )
        return Place(text=text, foreign=True)
    directory = area.directory()
    tarball.unpack(whole, directory, what)
    return Place(directory, foreign=True)


def check_out(area: Area, repository: Repository) -> str:
    """The directory of a git repository that was asked for, checked out."""
    from podpy.build import git

    request = area.request
    directory = area.directory()
    with area.step(f"[internal] load git source {repository.remote}"):
        git.fetch_git(
            repository,
            directory,
            area.directory(),
            keep_git_dir=request.keep_git_dir,
            header=git.authorization(repository, request.secret),
            agent=request.agent,
        )
    return inside(directory, repository.subdir, f"git context {repository.remote!a}")


def inside(directory: str, subdir: str, what: str) -> str:
    """A directory below another one, its links resolved inside that; an absolute path."""
    if not subdir.strip("/"):
        return directory
    root = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flags = os.O_PATH | os.O_DIRECTORY
        fd = libc.openat2(root, subdir, flags, resolve=IN_ROOT)
        try:
            return os.readlink(f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)
    except OSError as error:
        raise BuildError(f"{what}: {subdir!a}: {error.strerror}") from None
    finally:
        os.close(root)
