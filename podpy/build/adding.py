"""ADD: like COPY, and also from URLs and git repositories; archives are unpacked.

A file of a URL has mode 600 and the time that its server gives
(``Last-Modified``; without one the epoch, so that a rebuild gives the same
layer).  Its name is the last component of the URL's path.  A repository's
working tree is copied like a directory.  Addresses that docker cannot tell
from local paths (``github.com/…``) are local paths, and repositories of this
host (``file://``) are none for a Dockerfile to read.
"""

from __future__ import annotations

import os
import posixpath
import stat
from urllib.parse import unquote, urlsplit

from podpy import files, records
from podpy.build import copying, git, places, remote, selection
from podpy.build.copying import Load, Opened
from podpy.build.selection import Selector
from podpy.build.ssh import Forward
from podpy.errors import BuildError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from podpy.build.bench import Bench
    from podpy.build.copying import Job
    from podpy.build.execute import Wire
    from podpy.build.git import Repository
    from podpy.build.instructions import Add
    from podpy.build.model import CopyWork, StepResult
    from podpy.build.selection import Entry

_URL_MODE = stat.S_IFREG | 0o600
_LOCAL = ("file://", "github.com/")
_HEX = frozenset("0123456789abcdef")


def perform(work: CopyWork, bench: Bench, wire: Wire | None = None) -> StepResult:
    """Carry out an ADD."""
    instruction = work.instruction
    adding = _Adding(work, bench, wire)
    if not adding.is_remote:
        adding.check_local()
        return copying.perform(work, bench, wire)
    with adding:
        return adding.carry_out(copying.job_of(instruction, work.working_dir))


def repository_of(source: str) -> Repository | None:
    """The git repository that a source of ADD is; None for everything else."""
    if source.lower().startswith(_LOCAL[0]):
        raise BuildError(
            f"{source}: ADD reads no repositories of this host",
            hint="make it the build context, or a named one: --build-context name=PATH",
        )
    found = None if source.startswith(_LOCAL) else git.parse(source)
    return found and records.replace(found, foreign=True)


class _Adding:
    """One ADD with remote sources: what it fetched and holds open."""

    def __init__(self, work: CopyWork, bench: Bench, wire: Wire | None) -> None:
        self._instruction: Add = work.instruction  # type: ignore[assignment]
        self._work = work
        self._bench = bench
        self._wire = wire
        self._open: list[int] = []
        self._forward: Forward | None = None
        self._repositories = {s: repository_of(s) for s in self._instruction.sources}
        self.is_remote = any(map(self._is_remote, self._instruction.sources))

    def __enter__(self) -> _Adding:
        return self

    def __exit__(self, *exc: object) -> None:
        for fd in self._open:
            os.close(fd)
        self._open.clear()
        if self._forward is not None:
            self._forward.stop()

    def _is_remote(self, source: str) -> bool:
        return self._repositories[source] is not None or places.is_url(source)

    def check_local(self) -> None:
        """Refuse or mention what means nothing for files of the context."""
        if self._instruction.checksum:
            raise BuildError("--checksum requires an HTTP(S) or git source")
        if self._instruction.keep_git_dir is not None:
            self._warn("--keep-git-dir means nothing without a git repository")

    def carry_out(self, job: Job) -> StepResult:
        instruction, bench = self._instruction, self._bench
        self._check_flags()
        said = copying.description(instruction, job)
        quick: tuple[str, ...] = ()
        if (known := self._known()) is not None:
            quick = (copying.key(bench, job, said, *known),)
            if (found := bench.lookup(*quick)) is not None:
                return found
        with Opened(self._work.source) as opened:
            loads = list(self._loads(opened))
            return copying.carry_out(job, loads, bench, said, quick=quick, wire=self._wire)

    def _check_flags(self) -> None:
        instruction = self._instruction
        if instruction.checksum and len(instruction.sources) + len(instruction.heredocs) != 1:
            raise BuildError("--checksum cannot be specified for multiple sources")
        if not any(self._repositories.values()):
            remote.check_checksum(instruction.checksum)
            if instruction.keep_git_dir is not None:
                self._warn("--keep-git-dir means nothing without a git repository")

    def _known(self) -> tuple[str, ...] | None:
        """What says all about the only source before it is fetched: a checksum, a commit."""
        if len(self._instruction.sources) != 1:
            return None
        repository = self._repositories[self._instruction.sources[0]]
        if repository is None:
            checksum = self._instruction.checksum
            return ("checksum", checksum) if checksum else None
        wanted = self._wanted(repository)
        commit = git.resolve(
            repository,
            self._bench.place(),
            header=self._header(repository),
            agent=self._agent(repository),
        )
        if not commit:
            return None
        if not commit.startswith(wanted.checksum):
            raise BuildError(f"{repository.remote}: commit {commit} is not {wanted.checksum}")
        return "git", repository.remote, commit

    # --- sources -------------------------------------------------------------

    def _loads(self, opened: Opened) -> Iterator[Load]:
        """The sources in their order; local ones that follow each other together."""
        local: list[str] = []
        for source in self._instruction.sources:
            if not self._is_remote(source):
                local.append(source)
                continue
            if local:
                yield self._local(opened, local)
                local = []
            repository = self._repositories[source]
            yield self._url(source) if repository is None else self._git(source, repository)
        if local:
            yield self._local(opened, local)

    def _local(self, opened: Opened, sources: list[str]) -> Load:
        load = opened.load(self._bench, self._instruction, sources)
        copying.warn_of_nothing(sources, load.picks, self._wire)
        return load

    def _url(self, url: str) -> Load:
        """A download, which lies in the cache directory under its digest."""
        header = self._http_header(url)
        checksum = self._instruction.checksum
        with remote.fetch_url(url, checksum=checksum, authorization=header) as download:
            status = os.fstat(download.fd)
            size, digits = download.size, download.digest.partition(":")[2]
            modified = download.modified or 0
        if self._wire is not None:
            self._wire.transfer(remote.shown(url), size, size)
        name = posixpath.basename(unquote(urlsplit(url).path))
        if name in (".", "..") or "\0" in name:
            name = ""
        identity = (status.st_dev, status.st_ino)
        mtime = os.stat(f"{remote.place()}/{digits}").st_mtime_ns
        entry: Entry = (name, _URL_MODE, 0, 0, size, mtime, identity, 1, digits, None)
        return Load(
            picks=[(remote.shown(url), name, digits, None, entry)],
            directory=self._opened(remote.place()),
            unpack=self._instruction.unpack is True,
            stamp=modified * 1_000_000_000,
        )

    def _git(self, source: str, repository: Repository) -> Load:
        """A repository's working tree, or a directory of it."""
        directory = self._bench.place()
        wanted = self._wanted(repository)
        git.fetch_git(
            wanted,
            directory,
            self._bench.place(),
            keep_git_dir=bool(self._instruction.keep_git_dir),
            header=self._header(repository),
            agent=self._agent(repository),
        )
        root = self._opened(directory)
        selector = Selector(root, exclude=self._instruction.exclude)
        pick = selector.pick(source, selection.clean(wanted.subdir))
        if pick[4][-1] is None:
            raise BuildError(f"{wanted.remote}: {wanted.subdir} is not a directory")
        return Load(picks=[pick], directory=root)

    def _wanted(self, repository: Repository) -> Repository:
        """The repository with the instruction's flags, which must not contradict its query."""
        instruction = self._instruction
        kept, asked = instruction.keep_git_dir, repository.keep_git_dir
        if kept is not None and asked is not None and kept != asked:
            raise BuildError(
                f"{repository.remote}: --keep-git-dir and its query say opposite things"
            )
        checksum = instruction.checksum
        if not checksum:
            return repository
        if not _HEX.issuperset(checksum) or len(checksum) > 64:
            raise BuildError(f"--checksum={checksum}: not the beginning of a commit's digest")
        if repository.checksum and repository.checksum != checksum:
            raise BuildError(f"checksum mismatch {checksum!r} != {repository.checksum!r}")
        return records.replace(repository, checksum=checksum)

    def _opened(self, directory: str) -> int:
        fd = os.open(directory, files.O_DIR)
        self._open.append(fd)
        return fd

    # --- credentials ---------------------------------------------------------

    def _agent(self, repository: Repository) -> str:
        """The socket of the build's ssh agent, for a repository that is reached by ssh."""
        agent = self._work.agent
        if agent is None or repository.origin:
            return ""
        if self._forward is None:
            self._forward = Forward(agent, self._bench.place(), "agent")
        return self._forward.path

    def _secret(self, name: str) -> str | None:
        return self._work.secret(name) if self._work.secret is not None else None

    def _header(self, repository: Repository) -> str:
        return git.authorization(repository, self._secret)

    def _http_header(self, url: str) -> str:
        """``HTTP_AUTH_HEADER_<host>`` or ``HTTP_AUTH_TOKEN_<host>``, for https alone."""
        parts = urlsplit(url)
        if parts.scheme.lower() != "https" or not parts.hostname:
            return ""
        if value := self._secret(f"HTTP_AUTH_HEADER_{parts.hostname}"):
            return value.strip()
        token = self._secret(f"HTTP_AUTH_TOKEN_{parts.hostname}")
        return f"Bearer {token.strip()}" if token else ""

    def _warn(self, text: str) -> None:
        if self._wire is not None:
            self._wire.warn(text)
