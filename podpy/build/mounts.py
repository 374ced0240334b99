"""``RUN --mount``: what each mount reads, what it comes to in the container, what it locks.

Nothing of a mount gets into the layer.  What comes from a context, a stage or
an image is found inside of that, by descriptor, whatever its symbolic links say
and whoever changes them meanwhile.  It is seen through an overlay of the step's
own (:class:`View`): writes are thrown away, what is ignored is not there, and
nobody is behind a pipe or a socket.  The options are those of the language and
no others: there is none that reaches mount(8).
"""

from __future__ import annotations

import os
import posixpath
import stat

from podpy.build import cache, secrets, selection
from podpy.build.cache_mounts import CacheMount, Locks, base_of
from podpy.build.filedata import read_xattrs, set_xattrs
from podpy.build.inline import Inline, InlineFile
from podpy.build.inroot import O_DIR, O_READ
from podpy.errors import BuildError
from podpy.kernel import libc
from podpy.kernel.mounts import Bind, clone_tree
from podpy.model import Mount
from podpy.records import record
from podpy.runtime import spec
from podpy.runtime.rootmount import RootMount
from podpy.runtime.spec import Rootfs
from podpy.storage import overlay, vfs
from podpy.storage.copying import copy_data

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from podpy.build.bench import Bench
    from podpy.build.ignore import Level
    from podpy.build.instructions import RunMount
    from podpy.build.model import RunWork, Source
    from podpy.build.run_settings import Settings
    from podpy.build.ssh import Forward
    from podpy.kernel.mounts import Operation

_SAFE = ("nosuid", "nodev")
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_WHITEOUT = stat.S_IFCHR | 0o600
_LAYERS = ("upper", "work", "root")


@record
class View:
    """A part of a tree on ``target``, through an overlay whose changes are thrown away.

    ``subpath`` is resolved inside the tree.  Prepared in M, which is the
    caller: with the default map that is the container's root as well.
    """

    rootfs: Rootfs
    subpath: str
    target: str
    options: tuple[str, ...] = ()
    shown: str = ""

    def describe(self) -> str:
        return f"bind {self.shown} on {self.target}"

    def prepare(self) -> tuple[int, ...]:
        here = os.open(".", libc.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            root = RootMount(self.rootfs).mount()
            tree = clone_tree(f"/proc/self/fd/{root}", self.subpath, libc.OPEN_TREE_CLONE)
            os.close(root)
        finally:
            os.fchdir(here)
            os.close(here)
        return (tree,)

    def execute(self, root_fd: int, prepared: tuple[int, ...] = ()) -> None:
        bind = Bind(source=self.shown, target=self.target, options=self.options, recursive=False)
        bind.execute(root_fd, prepared or self.prepare())


def target_of(mount: RunMount, working_dir: str) -> str:
    """The absolute path of a mount's target, which may be relative to WORKDIR."""
    path = posixpath.normpath("/" + posixpath.join(working_dir, mount.target).lstrip("/"))
    if path == "/":
        raise BuildError(f"RUN --mount={mount.text}: the target cannot be /")
    return path


def source_of(mount: RunMount, work: RunWork) -> Source:
    """What a mount reads from; the context is one that may not exist."""
    source = work.sources[mount.from_]
    if source.tree is None and not source.directory:
        raise BuildError(
            f"RUN --mount={mount.text}: there is no build context to mount from",
            hint="give the build a directory instead of a Dockerfile on standard input",
        )
    return source


def reads(mount: RunMount) -> bool:
    """Whether a mount shows files of a context, stage or image."""
    return mount.type == "bind" or (mount.type == "cache" and bool(mount.from_))


# --- what they read, for the key ---------------------------------------------


def content(mount: RunMount, work: RunWork, bench: Bench) -> str:
    """The digest of all that a mount shows.

    A whole image or stage counts by its layers: reading all of it costs more than it saves.
    """
    source = source_of(mount, work)
    wanted = [selection.clean(mount.source or "/")]
    tree = source.tree
    if tree is not None and wanted == [""]:
        return cache.chain(tree.layers)
    if tree is not None:

        def digest_tree(root: int) -> str:
            return selection.digest(selection.Selector(root).select(wanted), owners=True)

        return str(bench.inside(digest_tree, reading=(tree,)))
    from podpy.build.scan import Remembered

    root = os.open(source.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with Remembered(source, selection.digest_file) as digest:
            selector = selection.Selector(root, ignore=source.ignore, digest=digest)
            return selection.digest(selector.select(wanted), owners=False)
    finally:
        os.close(root)


# --- what they come to -------------------------------------------------------


class Mounts:
    """The mounts of one RUN: a context manager that gives back locks and ends what it started.

    ``operations`` are ready for M and I, parents before children;
    ``variables`` go to the command's environment.
    """

    def __init__(self, work: RunWork, settings: Settings, bench: Bench) -> None:
        self._work = work
        self._settings = settings
        self._bench = bench
        self._place = ""
        self._locks = Locks()
        self._forwards: list[Forward] = []
        self._files: list[InlineFile] = []
        self._made: list[tuple[int, str, Operation]] = []
        self.variables: dict[str, str] = {}

    def __enter__(self) -> Mounts:
        try:
            mounts = enumerate(self._work.instruction.mounts)
            for number, mount in sorted(mounts, key=lambda each: self._rank(each[1])):
                getattr(self, f"_{mount.type}")(mount, number)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        for forward in self._forwards:
            forward.stop()
        self._forwards.clear()
        self._locks.__exit__()

    def _rank(self, mount: RunMount) -> str:
        """Caches come in one order in all builds, so that two never wait for each other."""
        if mount.type != "cache":
            return ""
        return base_of(mount, target_of(mount, self._work.working_dir), self._seed(mount))

    def _seed(self, mount: RunMount) -> Source | None:
        return source_of(mount, self._work) if mount.from_ else None

    def add_file(self, file: InlineFile) -> None:
        """Provide a file of memory too."""
        self._files.append(file)

    @property
    def operations(self) -> list[Operation]:
        found = [made for *_, made in sorted(self._made, key=lambda each: each[:2])]
        if self._files:
            found.append(Inline(place=self._own("files"), files=tuple(self._files)))
        return found

    @property
    def targets(self) -> list[str]:
        return [target for _, target, _ in self._made] + [each.target for each in self._files]

    def _own(self, name: str) -> str:
        """A directory of this command's own."""
        self._place = self._place or self._bench.place()
        path = f"{self._place}/{name}"
        os.mkdir(path, 0o755)
        return path

    def _add(self, target: str, operation: Operation) -> None:
        self._made.append((target.count("/"), target, operation))

    # --- one method per type -------------------------------------------------

    def _bind(self, mount: RunMount, number: int) -> None:
        target = target_of(mount, self._work.working_dir)
        source = source_of(mount, self._work)
        options = (*_SAFE, "ro") if mount.readonly else _SAFE
        subpath = (mount.source or "/").lstrip("/") or "."
        # Behind pipes and sockets of the user's own directories are the user's processes, which
        # "ro" does not keep anybody from; those of an overlay lead nowhere.
        if mount.readonly and source.passing and not source.ignore:
            bind = Bind(source=source.directory, subpath=subpath, target=target, options=options)
            self._add(target, bind)
            return
        view = View(
            rootfs=self._joined(source, str(number)),
            subpath=subpath,
            target=target,
            options=options,
            shown=f"{source.name or 'context'}:{mount.source or '/'}",
        )
        self._add(target, view)

    def _cache(self, mount: RunMount, number: int) -> None:
        target = target_of(mount, self._work.working_dir)
        found = CacheMount(mount, target, self._seed(mount), self._bench, self._locks)
        access = ("ro",) if mount.readonly else ()
        bind = Bind(source=found.directory, target=target, options=(*_SAFE, *access))
        self._add(target, bind)

    def _tmpfs(self, mount: RunMount, number: int) -> None:
        target = target_of(mount, self._work.working_dir)
        size = (f"size={mount.size}",) if mount.size else ()
        access = ("ro",) if mount.readonly else ()
        wanted = Mount(type="tmpfs", destination=target, options=("exec", *size, *access))
        self._add(target, spec.tmpfs_operation(wanted))

    def _secret(self, mount: RunMount, number: int) -> None:
        name = secrets.identity(mount)
        secret = self._settings.secrets.get(name)
        if secret is None:
            if mount.required:
                raise secrets.missing(name)
            return
        data = secret.read()
        if mount.env:
            self.variables[mount.env] = os.fsdecode(data)
        if where := secrets.target(mount):
            self._files.append(
                InlineFile(
                    target=posixpath.normpath(posixpath.join(self._work.working_dir, where)),
                    data=data,
                    mode=0o400 if mount.mode is None else mount.mode,
                    uid=mount.uid or 0,
                    gid=mount.gid or 0,
                )
            )

    def _ssh(self, mount: RunMount, number: int) -> None:
        from podpy.build import ssh

        name = mount.id or "default"
        agent = self._settings.agents.get(name)
        if agent is None:
            if mount.required:
                raise BuildError(
                    f"RUN --mount=type=ssh: agent {name} is required and was not given",
                    hint=f"podpy build --ssh {name}",
                )
            return
        wanted = mount.target or ssh.default_target(len(self._forwards))
        target = posixpath.normpath(posixpath.join(self._work.working_dir, wanted))
        forward = ssh.Forward(agent, self._own(f"ssh.{number}"), "s")
        self._forwards.append(forward)
        self.variables.setdefault("SSH_AUTH_SOCK", target)
        socket = ssh.Socket(
            source=forward.path,
            target=target,
            mode=0o600 if mount.mode is None else mount.mode,
            uid=mount.uid or 0,
            gid=mount.gid or 0,
        )
        self._add(target, socket)

    # --- trees ---------------------------------------------------------------

    def _joined(self, source: Source, name: str) -> Rootfs:
        """How a source is mounted with room for changes that are thrown away."""
        place = self._own(f"view.{name}")
        for each in _LAYERS:
            os.mkdir(f"{place}/{each}", 0o755)
        driver, store = self._bench.driver, self._bench.store
        tree = source.tree
        if driver.name == "vfs":
            if tree is not None:
                vfs.ensure(store, tree.layers, f"{place}/copy")
            else:
                copy_visible(source, f"{place}/copy")
            return Rootfs(kind="bind", mountpoint=f"{place}/root", path=f"{place}/copy")
        if tree is not None:
            lower = overlay.lower_directories(store, tree.layers)
        else:
            lower = (source.directory,)
            if source.ignore:
                hide(source, f"{place}/upper")
        os.chmod(f"{place}/upper", os.stat(lower[0]).st_mode & 0o7777)
        return Rootfs(
            kind=driver.name,
            mountpoint=f"{place}/root",
            lower=lower,
            upper=f"{place}/upper",
            work=f"{place}/work",
            volatile=driver.name == "overlay",
            program=driver.program,
        )


# --- what is ignored ---------------------------------------------------------


def hide(source: Source, upper: str) -> None:
    """Make an upper directory that takes away what is ignored in a context."""
    assert source.ignore is not None
    _Veil(source.directory, upper).over("", source.ignore.root())


class _Veil:
    """Whiteouts, and the directories above them with the looks of those they lie over."""

    def __init__(self, below: str, upper: str) -> None:
        self._below = below
        self._upper = upper
        self._made = {""}

    def over(self, path: str, level: Level) -> bool:
        """Cover what is ignored in a directory; whether anything in it can be seen."""
        visible = False
        with os.scandir(f"{self._below}/{path}") as listing:
            entries = list(listing)
        for entry in entries:
            inner = f"{path}/{entry.name}" if path else entry.name
            if entry.is_dir(follow_symlinks=False):
                below = level.enter(entry.name)
                seen = below is not None and self.over(inner, below)
                seen = seen or (below is not None and not level.excludes(entry.name))
            else:
                seen = not level.excludes(entry.name)
            visible = visible or seen
            if not seen:
                self._cover(path, inner)
        return visible

    def _cover(self, parent: str, path: str) -> None:
        self._directory(parent)
        place = f"{self._upper}/{path}"
        if path in self._made:
            _remove_made(place)
            self._made.discard(path)
        os.mknod(place, _WHITEOUT, 0)

    def _directory(self, path: str) -> None:
        if path in self._made:
            return
        self._directory(path.rpartition("/")[0])
        status = os.stat(f"{self._below}/{path}")
        os.mkdir(f"{self._upper}/{path}")
        os.chmod(f"{self._upper}/{path}", stat.S_IMODE(status.st_mode))
        os.utime(f"{self._upper}/{path}", ns=(status.st_atime_ns, status.st_mtime_ns))
        self._made.add(path)


def _remove_made(path: str) -> None:
    from podpy import files

    files.remove_tree(path)


def copy_visible(source: Source, target: str) -> None:
    """A copy of a context without what is ignored, where there are no overlays.

    By descriptors: a directory that becomes a link meanwhile leads nowhere.
    """
    from podpy.build.ignore import Ignore

    os.mkdir(target, 0o755)
    reading, writing = os.open(source.directory, O_DIR), os.open(target, O_DIR)
    try:
        _copy_level(reading, writing, (source.ignore or Ignore()).root())
    finally:
        os.close(reading)
        os.close(writing)


def _copy_level(source: int, target: int, level: Level) -> None:
    with os.scandir(source) as listing:
        entries = list(listing)
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            inner = level.enter(entry.name)
            if inner is not None:
                os.mkdir(entry.name, dir_fd=target)
                _copy_opened(source, target, entry.name, inner)
        elif level.excludes(entry.name):
            continue
        elif entry.is_symlink():
            os.symlink(os.readlink(entry.name, dir_fd=source), entry.name, dir_fd=target)
        elif entry.is_file(follow_symlinks=False):
            os.close(os.open(entry.name, _NEW, 0o600, dir_fd=target))
            _copy_opened(source, target, entry.name, None)


def _copy_opened(source: int, target: int, name: str, level: Level | None) -> None:
    """The inside and the looks of a directory with its ``level``, else of a file."""
    kind = os.O_RDONLY | os.O_DIRECTORY if level is not None else os.O_WRONLY
    reading = os.open(name, O_READ | (kind & os.O_DIRECTORY), dir_fd=source)
    writing = os.open(name, kind | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=target)
    try:
        if level is not None:
            _copy_level(reading, writing, level)
        else:
            copy_data(reading, writing)
        set_xattrs(writing, read_xattrs(reading))
        status = os.fstat(reading)
        os.fchmod(writing, stat.S_IMODE(status.st_mode))
        os.utime(writing, ns=(status.st_atime_ns, status.st_mtime_ns))
    finally:
        os.close(reading)
        os.close(writing)


def described(mount: RunMount, work: RunWork) -> Mapping[str, object]:
    """What a key says of a mount: all of its fields; secrets and agents are their ids."""
    fields = {name: getattr(mount, name) for name in _KEYED}
    return {**fields, "target": mount.target and target_of(mount, work.working_dir)}


_KEYED = (
    "type", "source", "from_", "id", "sharing", "mode", "uid", "gid", "size", "env", "required",
    "readonly",
)  # fmt: skip
