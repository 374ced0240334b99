"""COPY: files of a context, a stage or an image become a layer.

What is taken is found and listed first (:mod:`podpy.build.selection`); its
digest is the key under which an earlier build may have made the layer already.
Only then is anything written (:mod:`podpy.build.placing`), in a child that is
root of the user namespace.  ADD shares all of it (:mod:`podpy.build.adding`).

``--link`` makes the layer over nothing: no link of the image is followed, and
the layer is the same whatever lies below it.
"""

from __future__ import annotations

import os
import posixpath
import resource
import time

from podpy import files
from podpy.build import cache, filemodes, owners, selection
from podpy.build.diagnostics import DockerfileError, Problem
from podpy.build.owners import Book
from podpy.build.placing import Placer
from podpy.build.scan import Remembered
from podpy.build.selection import Selector
from podpy.errors import BuildError, UsageError
from podpy.kernel import userns
from podpy.records import record
from podpy.runtime import users
from podpy.storage import overlay

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from podpy.build.bench import Bench
    from podpy.build.execute import Wire
    from podpy.build.instructions import Add, Copy, Heredoc
    from podpy.build.model import CopyWork, Source, StepResult, Tree
    from podpy.build.selection import Pick

_HEREDOC_MODE = 0o644


@record
class Load:
    """Picks of one root: a directory that is open, or a tree.

    ``owners``: the files' owners mean something and are kept.  ``unpack``:
    archives among them are unpacked.  ``stamp`` (ns) is the time that files get
    instead of their own.  ``since`` (ns) is when they were looked at, where somebody
    may change them.
    """

    picks: list[Pick]
    directory: int = -1
    tree: Tree | None = None
    owners: bool = False
    unpack: bool = False
    stamp: int | None = None
    since: int = 0


@record
class Job:
    """What the flags of an instruction come to."""

    destination: str
    chown: str = ""
    chmod: Callable[[int, bool], int] | None = None
    link: bool = False
    several: bool = False
    heredocs: tuple[Heredoc, ...] = ()


def perform(work: CopyWork, bench: Bench, wire: Wire | None = None) -> StepResult:
    """Carry out a COPY."""
    instruction: Any = work.instruction
    job = job_of(instruction, work.working_dir)
    said = description(instruction, job)
    quick: tuple[str, ...] = ()
    tree = work.source.tree
    if not instruction.sources or (tree is not None and not tree.directory):
        chain = cache.chain(tree.layers) if tree is not None else ""
        quick = (key(bench, job, said, "from", chain),)
        if (found := bench.lookup(*quick)) is not None:
            return found
    with Opened(work.source) as opened:
        load = opened.load(bench, instruction)
        warn_of_nothing(instruction.sources, load.picks, wire)
        return carry_out(job, [load], bench, said, quick=quick, wire=wire)


def job_of(instruction: Copy | Add, working_dir: str) -> Job:
    """The flags, checked; what is wrong with one is said with its line."""
    try:
        chmod = filemodes.parse(instruction.chmod) if instruction.chmod else None
        check_chown(instruction.chown, link=instruction.link)
    except Problem as problem:
        raise DockerfileError.of(problem, instruction.location, (instruction.original,)) from None
    return Job(
        destination=destination(instruction.destination, working_dir),
        chown=instruction.chown,
        chmod=chmod,
        link=instruction.link,
        several=len(instruction.sources) + len(instruction.heredocs) > 1,
        heredocs=instruction.heredocs,
    )


def destination(text: str, working_dir: str) -> str:
    """The absolute path of a destination; it ends with a slash when it must be a directory."""
    path = posixpath.normpath("/" + posixpath.join(working_dir, text).lstrip("/"))
    last = text.rpartition("/")[2]
    return path.rstrip("/") + "/" if last in ("", ".", "..") else path


def check_chown(text: str, *, link: bool) -> None:
    """:class:`Problem` for a ``--chown`` that nobody can be."""
    user, _, group = text.partition(":")
    if text and (not user + group or ":" in group):
        raise Problem(f"--chown={text}: not USER, USER:GROUP or :GROUP", at=text)
    try:
        named = [part for part in (user, group) if part and users.number(part) is None]
    except UsageError as error:
        raise Problem(f"--chown={text}: {error.message}", at=text) from None
    if link and named:
        raise Problem(
            f"--chown={text}: --link sees no user database, so the owner must be numeric", at=text
        )


def owner(root: int, text: str) -> tuple[int, int] | None:
    """Who ``--chown`` means inside a root; a number alone is the group's number, too."""
    if not text:
        return None
    user, _, group = text.partition(":")
    uid = users.number(user) if user else 0
    gid = users.number(group) if group else (uid or 0) if user else 0
    if uid is not None and gid is not None:
        return uid, gid
    found = users.resolve(root, f"{user or 0}{f':{group}' if group else ''}")
    # An account's own group for a name; a number has none but its own.
    return found.uid, found.gid if group or uid is None else found.uid


def description(instruction: Copy | Add, job: Job) -> str:
    """All that an instruction says, as a part of a key; its text is not in it."""
    values = {name: getattr(instruction, name) for name in ("sources", "chown", "chmod", "exclude")}
    documents = [(document.name, document.body) for document in job.heredocs]
    flags = {
        name: getattr(instruction, name, None) for name in ("parents", "unpack", "keep_git_dir")
    }
    return files.dumps(
        {"word": instruction.word, "to": job.destination, "inline": documents, **values, **flags}
    )


def key(bench: Bench, job: Job, *parts: str) -> str:
    """The key of a step, which with ``--link`` does not depend on what lies below."""
    if job.link:
        return cache.key_of(("link", str(bench.timestamp), *parts))
    return bench.key(*parts)


def warn_of_nothing(sources: Sequence[str], picks: Sequence[Pick], wire: Wire | None) -> None:
    """A wildcard that matches nothing is no error, and still worth a word."""
    found = {pick[0] for pick in picks}
    for source in sources:
        if source not in found and wire is not None:
            wire.warn(f"{source}: no file matches")


class Opened:
    """A source, open; a context manager.  ``directory`` is -1 for a tree."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.directory = -1
        if source.tree is None and source.directory:
            try:
                self.directory = os.open(source.directory, files.O_DIR)
            except OSError as error:
                raise BuildError(f"{source.directory}: {error.strerror}") from None

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.directory >= 0:
            os.close(self.directory)

    def load(self, bench: Bench, instruction: Any, sources: Sequence[str] | None = None) -> Load:
        """Find the sources of an instruction, or these of them."""
        wanted = instruction.sources if sources is None else sources
        parents = getattr(instruction, "parents", False)
        unpack = instruction.word == "ADD" and instruction.unpack is not False
        tree = self._source.tree
        if not wanted:
            return Load(picks=[])
        if tree is not None:
            layers = overlay.lower_directories(bench.store, tree.layers)
            single = userns.root_map().is_single

            def list_tree(root: int) -> list[Pick]:
                selector = Selector(root, exclude=instruction.exclude)
                picks = selector.select(wanted, parents=parents)
                return owners.recorded(root, picks, layers) if single else picks

            picks = bench.inside(list_tree, reading=(tree,))
            return Load(picks=picks, tree=tree, owners=True, unpack=unpack)
        if self.directory < 0:
            raise BuildError(
                f"{wanted[0]!r}: there is no build context to copy from",
                hint="give the build a directory instead of a Dockerfile on standard input",
            )
        since = 0 if self._source.passing else time.time_ns()
        with Remembered(self._source, selection.digest_file) as digest:
            selector = Selector(
                self.directory,
                ignore=self._source.ignore,
                exclude=instruction.exclude,
                digest=digest,
            )
            picks = selector.select(wanted, parents=parents)
        return Load(picks=picks, directory=self.directory, unpack=unpack, since=since)


def carry_out(
    job: Job,
    loads: Sequence[Load],
    bench: Bench,
    said: str,
    *,
    quick: tuple[str, ...] = (),
    wire: Wire | None = None,
) -> StepResult:
    """The layer of what is loaded: an earlier one of the same content, or a new one."""
    digests = (selection.digest(load.picks, owners=load.owners) for load in loads)
    keys = (*quick, key(bench, job, said, *digests))
    found = bench.lookup(keys[-1])
    if found is not None:
        bench.remember(quick, found)
        return found
    upper = bench.upper(() if job.link else None)
    trees = tuple(load.tree for load in loads if load.tree is not None)
    single = userns.root_map().is_single

    def write(root: int, *roots: int) -> list[str]:
        return _write(job, loads, root, roots, Book(root, upper) if single else None)

    for warning in bench.inside(write, writing=upper, reading=trees):
        if wire is not None:
            wire.warn(warning)
    result = bench.commit(upper)
    bench.remember(keys, result)
    return result


def _write(
    job: Job, loads: Sequence[Load], root: int, trees: Sequence[int], book: Book | None
) -> list[str]:
    """In the child: put everything in its place; returns what should be said about it."""
    from podpy.build import archives

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    who = owner(root, job.chown)
    warnings: list[str] = []
    left = list(trees)
    for load in loads:
        source = left.pop(0) if load.tree is not None else load.directory
        placer = Placer(
            root,
            job.destination,
            owner=who,
            keeps_owners=load.owners,
            chmod=job.chmod,
            book=book,
            checks=load.tree is None,
            stamp=load.stamp,
            since=load.since,
        )
        picks = load.picks
        if load.unpack:
            picks, said = archives.unpack(placer, source, picks, who, book)
            warnings += said
        placer.place(source, picks, several=job.several)
    _write_documents(job, root, who, book)
    return warnings


def _write_documents(job: Job, root: int, who: tuple[int, int] | None, book: Book | None) -> None:
    """The files given inline."""
    mode = job.chmod(_HEREDOC_MODE, False) if job.chmod else _HEREDOC_MODE
    placer = Placer(root, job.destination, owner=who, book=book)
    for document in job.heredocs:
        name = posixpath.basename(selection.clean(document.name))
        into, last = placer.file_target(name, document.name, several=job.several)
        now = time.time_ns()
        placer.write(into, last or name, document.body.encode(errors="surrogateescape"), mode, now)
        os.close(into)
