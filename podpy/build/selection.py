"""What a copy takes: the sources of COPY and ADD, found and listed below one root.

A source's path is resolved inside the root, as is every symbolic link that it
names; a link *within* a copied directory is copied as it is.  What is ignored
does not exist.  Nothing is written here: the listing (nested tuples of plain
values, which :mod:`marshal` knows) is what the cache key is made of, and the
copy carries it out (:mod:`podpy.build.placing`).
"""

from __future__ import annotations

import errno
import hashlib
import os
import posixpath
import stat

from podpy.build.filedata import read_xattrs
from podpy.build.ignore import Ignore, has_wildcard, matcher
from podpy.build.inroot import IN_ROOT, NO_LINKS, O_DIR, O_READ
from podpy.errors import BuildError
from podpy.kernel import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any

    from podpy.build.ignore import Level

    #: name, mode, uid, gid, size, mtime (ns), (device, inode), links, content, children.
    #: ``content`` is a link's target or a file's digest; ``children`` are None but for directories.
    Entry = tuple[str, int, int, int, int, int, tuple[int, int], int, str, "list[Entry] | None"]
    #: What one source came to: its text, the name a copy of it gets, its real path in the
    #: root, the directories above it that ``--parents`` keeps (else None), and its entry.
    Pick = tuple[str, str, str, "list[Entry] | None", Entry]
    Digest = Callable[[int, str, str, os.stat_result], str]

_O_PATH = libc.O_PATH | os.O_CLOEXEC
#: How it shows that a file is gone, or that a link has taken a directory's place.
CHANGED = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_ANY_DEPTH = "**"
_PIVOT = "/./"
_DEEPEST = 200
_CHUNK = 1 << 20


def digest_file(directory: int, name: str, _path: str, _status: os.stat_result) -> str:
    """The sha256 of a file's bytes and attributes."""
    fd = os.open(name, O_READ, dir_fd=directory)
    try:
        made = hashlib.sha256()
        while data := os.read(fd, _CHUNK):
            made.update(data)
        xattrs = read_xattrs(fd)
    finally:
        os.close(fd)
    text = made.hexdigest()
    return f"{text} {hashlib.sha256(repr(xattrs).encode()).hexdigest()}" if xattrs else text


class Selector:
    """Finds sources below one root and lists them.

    ``root`` is a descriptor of it (``O_PATH`` will do).  ``exclude`` are the
    patterns of ``--exclude``, relative to each source.
    """

    def __init__(
        self,
        root: int,
        *,
        ignore: Ignore | None = None,
        exclude: Sequence[str] = (),
        digest: Digest = digest_file,
    ) -> None:
        self._root = root
        self._ignore = ignore or Ignore()
        self._exclude = Ignore(exclude)
        self._digest = digest
        self._base = os.readlink(f"/proc/self/fd/{root}").rstrip("/")

    def select(self, sources: Iterable[str], *, parents: bool = False) -> list[Pick]:
        """The picks of all sources in their order; :class:`BuildError` names one that is missing.

        A source with wildcards may match nothing.
        """
        find = self._with_parents if parents else self._plain
        return [pick for source in sources for pick in find(source)]

    # --- sources -------------------------------------------------------------

    def _plain(self, source: str) -> Iterator[Pick]:
        literal, patterns = _split(clean(source))
        if patterns:
            matches = self._matches(literal, patterns)
            found = [(match, posixpath.join(literal, match)) for match in matches]
        else:
            found = [(posixpath.basename(literal), literal)]
        for match, path in found:
            excluded = self._exclude.excludes(match) or self._exclude.excludes(path)
            if not excluded or self._is_directory(path):
                yield self.pick(source, path)

    def _with_parents(self, source: str) -> Iterator[Pick]:
        """``--parents``: what stands before ``/./`` is left out of the new path."""
        before, pivot, after = source.partition(_PIVOT)
        if not pivot:
            before, after = "", source
        after = clean(after)
        literal, patterns = _split(clean(before))
        starts = [literal]
        if patterns:
            starts = [posixpath.join(literal, m) for m in self._matches(literal, patterns)]
            starts = [start for start in starts if self._is_directory(start)]
        found = False
        for start in starts:
            for match in self._matches(start, after.split("/") if after else []):
                found = True
                if not self._exclude.excludes(match):
                    yield from self._kept(source, start, match)
        if not found and not has_wildcard(source):
            raise _missing(source)

    def _kept(self, source: str, start: str, match: str) -> Iterator[Pick]:
        """One pick with the directories above it."""
        real = self._resolve(source, start)[1]
        *above, name = match.split("/")
        directories: list[Entry] = []
        for depth in range(1, len(above) + 1):
            status = self._status(posixpath.join(real, *above[:depth]))
            directories.append(_entry(above[depth - 1], status, "", []))
        path = posixpath.join(real, match)
        entry = self._list_one(path, name, self._exclude_level(match))
        if entry is not None:
            yield source, name, path, directories, entry

    def pick(self, source: str, path: str) -> Pick:
        """What a path without wildcards leads to, links followed."""
        _, real = self._resolve(path or source, path)
        name = posixpath.basename(path)
        entry = self._list_one(real, name, self._exclude.root())
        if entry is None:
            raise _missing(path or source)
        return source, name, real, None, entry

    def _resolve(self, source: str, path: str) -> tuple[os.stat_result, str]:
        """The status and the path without links of what a path leads to inside the root."""
        try:
            fd = libc.openat2(self._root, path or ".", _O_PATH, resolve=IN_ROOT)
        except OSError as error:
            raise _missing(source, error) from None
        try:
            real = os.readlink(f"/proc/self/fd/{fd}")[len(self._base) :].lstrip("/")
            return os.fstat(fd), real
        finally:
            os.close(fd)

    def _status(self, path: str) -> os.stat_result:
        fd = libc.openat2(self._root, path or ".", _O_PATH | os.O_NOFOLLOW, resolve=NO_LINKS)
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)

    def _is_directory(self, path: str) -> bool:
        try:
            return stat.S_ISDIR(self._resolve(path, path)[0].st_mode)
        except BuildError:
            return False

    # --- wildcards -----------------------------------------------------------

    def _matches(self, start: str, patterns: Sequence[str]) -> list[str]:
        """The paths below a directory that match, relative to it; links are not followed."""
        if not patterns:
            return [""]
        try:
            fd = libc.openat2(
                self._root, start or ".", os.O_RDONLY | os.O_DIRECTORY, resolve=IN_ROOT
            )
        except OSError as error:
            raise _missing(start, error) from None
        try:
            real = os.readlink(f"/proc/self/fd/{fd}")[len(self._base) :].lstrip("/")
            found = list(_glob(fd, "", tuple(patterns), self._level(real)))
        finally:
            os.close(fd)
        return _outermost(found) if _ANY_DEPTH in patterns else found

    def _level(self, path: str) -> Level | None:
        """What is ignored in a directory of the root."""
        return _descend(self._ignore, path)

    def _exclude_level(self, path: str) -> Level | None:
        return _descend(self._exclude, path)

    # --- listing -------------------------------------------------------------

    def _list_one(self, path: str, name: str, exclude: Level | None) -> Entry | None:
        """The entry of one path without links; None when it is ignored or nothing we copy.

        ``exclude`` is about what lies in it, if it is a directory.
        """
        head, _, last = path.rpartition("/")
        flags = os.O_RDONLY | os.O_DIRECTORY
        parent = libc.openat2(self._root, head or ".", flags, resolve=NO_LINKS)
        try:
            if not last:
                here = _Place(parent, "", self._ignore.root(), exclude, 0)
                return _entry(name, os.fstat(parent), "", self._children(here))
            level = self._level(head)
            if level is None:
                return None
            status = os.stat(last, dir_fd=parent, follow_symlinks=False)
            here = _Place(parent, f"{head}/" if head else "", level, None, 0)
            entry = self._one(here, last, status, exclude)
        except FileNotFoundError:
            return None
        finally:
            os.close(parent)
        return entry and (name, *entry[1:])

    def _one(
        self, here: _Place, name: str, status: os.stat_result, inside: Level | None
    ) -> Entry | None:
        """An entry that ``--exclude`` leaves in; ``inside`` is what that says about its inside."""
        ignored = here.level.excludes(name)
        if not stat.S_ISDIR(status.st_mode):
            return None if ignored else self._leaf(here, name, status)
        inner = here.level.enter(name)
        if inner is None:
            return None
        fd = os.open(name, O_DIR, dir_fd=here.fd)
        try:
            below = _Place(fd, f"{here.prefix}{name}/", inner, inside, here.depth + 1)
            children = self._children(below)
        finally:
            os.close(fd)
        return None if ignored and not children else _entry(name, status, "", children)

    def _children(self, here: _Place) -> list[Entry]:
        """The entries of an open directory, sorted by name."""
        if here.depth > _DEEPEST:
            raise BuildError(f"{here.prefix[:80]}…: more than {_DEEPEST} directories deep")
        level, exclude = here.level, here.exclude
        if exclude is None:
            return []
        with os.scandir(here.fd) as listing:
            items = sorted(listing, key=lambda item: item.name)
        found: list[Entry] = []
        watch, filtered = bool(self._ignore), bool(self._exclude)
        for item in items:
            name = item.name
            try:
                status = item.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    entry = self._subdirectory(here, exclude, name, status)
                elif (watch and level.excludes(name)) or (filtered and exclude.excludes(name)):
                    continue
                else:
                    entry = self._leaf(here, name, status)
            except FileNotFoundError:
                continue  # gone since the directory was read, as if it had been before
            except OSError as error:
                if error.errno not in CHANGED:
                    raise
                raise changed(here.prefix + name) from None
            if entry is not None:
                found.append(entry)
        return found

    def _subdirectory(
        self, here: _Place, exclude: Level, name: str, status: os.stat_result
    ) -> Entry | None:
        inside = exclude.enter(name)
        if inside is None:
            return None
        entry = self._one(here, name, status, inside)
        if entry is not None and exclude.excludes(name) and not entry[-1]:
            return None
        return entry

    def _leaf(self, here: _Place, name: str, status: os.stat_result) -> Entry | None:
        kind = stat.S_IFMT(status.st_mode)
        content = ""
        if kind == stat.S_IFREG:
            content = self._digest(here.fd, name, here.prefix + name, status)
        elif kind == stat.S_IFLNK:
            content = os.readlink(name, dir_fd=here.fd)
        elif kind == stat.S_IFSOCK:
            return None  # means nothing without the process behind it
        elif kind != stat.S_IFIFO:
            raise BuildError(f"{here.prefix}{name}: a device cannot be copied")
        return _entry(name, status, content, None)


class _Place:
    """An open directory: its path with a slash at its end, and what patterns say in it."""

    __slots__ = ("depth", "exclude", "fd", "level", "prefix")

    def __init__(self, fd: int, prefix: str, level: Level, exclude: Level | None, depth: int):
        self.fd = fd
        self.prefix = prefix
        self.level = level
        self.exclude = exclude
        self.depth = depth


def _glob(fd: int, prefix: str, patterns: tuple[str, ...], level: Level | None) -> Iterator[str]:
    """Names below an open directory that match one pattern per component."""
    if level is None:
        return
    first, rest = patterns[0], patterns[1:]
    deep = first == _ANY_DEPTH
    if deep and rest:
        yield from _glob(fd, prefix, rest, level)
    test = (lambda _: True) if deep else matcher(first)
    with os.scandir(fd) as listing:
        items = sorted(listing, key=lambda item: item.name)
    for item in items:
        name, is_directory = item.name, item.is_dir(follow_symlinks=False)
        if not test(name):
            continue
        if not rest:
            if not level.excludes(name) or (is_directory and level.enter(name) is not None):
                yield prefix + name
        elif is_directory:
            inner = os.open(name, O_DIR, dir_fd=fd)
            try:
                following = patterns if deep else rest
                yield from _glob(inner, f"{prefix}{name}/", following, level.enter(name))
            finally:
                os.close(inner)


def _outermost(paths: list[str]) -> list[str]:
    """Paths in order, each once, without those below another one of them."""
    found: list[str] = []
    known: set[str] = set()
    for path in sorted(set(paths), key=lambda path: path.split("/")):
        parts = path.split("/")
        if not any("/".join(parts[:end]) in known for end in range(1, len(parts))):
            found.append(path)
            known.add(path)
    return found


def _descend(patterns: Ignore, path: str) -> Level | None:
    level: Level | None = patterns.root()
    for part in path.split("/") if path else ():
        level = level.enter(part) if level is not None else None
    return level


def _entry(name: str, status: os.stat_result, content: str, children: list[Entry] | None) -> Entry:
    return (
        name, status.st_mode, status.st_uid, status.st_gid, status.st_size, status.st_mtime_ns,
        (status.st_dev, status.st_ino), status.st_nlink, content, children,
    )  # fmt: skip


def changed(path: str) -> BuildError:
    """What is raised for a file that is not any more what it was when it was looked at."""
    return BuildError(f"{path}: changed while it was copied", hint="build again when it is settled")


def _missing(source: str, error: OSError | None = None) -> BuildError:
    why = error.strerror if error is not None and error.errno not in (2, 20) else "not found"
    return BuildError(
        f"{source!r}: {why}",
        hint="paths are relative to the build context (or the root of `--from`), nothing outside"
        " of it can be reached, and an ignore file may hide it",
    )


def clean(source: str) -> str:
    """A source's path relative to the root: ``..`` cannot leave it, slashes at the ends go."""
    return posixpath.normpath("/" + source).lstrip("/")


def _split(path: str) -> tuple[str, list[str]]:
    """The components without wildcards, as a path, and the others."""
    parts = path.split("/") if path else []
    for number, part in enumerate(parts):
        if has_wildcard(part):
            return "/".join(parts[:number]), parts[number:]
    return path, []


# --- the key -----------------------------------------------------------------


def digest(picks: Sequence[Pick], *, owners: bool) -> str:
    """The digest of all that the copy can see: names, types, modes, contents; owners if kept."""
    made = hashlib.sha256()
    for _, name, _, directories, entry in picks:
        kept = directories or []
        path = "/".join(["" if directories is None else ".", *(above[0] for above in kept), name])
        for above in kept:
            _feed(made, above, "\0parent", owners)
        _feed(made, entry, path, owners)
    return made.hexdigest()


def _feed(made: Any, entry: Entry, path: str, owners: bool) -> None:
    _, mode, uid, gid, _, _, _, _, content, children = entry
    owner = f"{uid}:{gid}" if owners else ""
    head = f"{path}\0{mode:o}\0{owner}\0{content}\0{-1 if children is None else len(children)}\n"
    made.update(os.fsencode(head))
    for child in children or ():
        _feed(made, child, child[0], owners)
