"""Work on root file systems from inside: as root of the user namespace, in a child.

Files of an image belong to subordinate ids, and its symbolic links lead
anywhere.  Whoever reads or writes there does it in a process that has power
over those ids and over nothing else, through a descriptor of the mounted root.
"""

from __future__ import annotations

import marshal
import os

from podpy import files
from podpy.errors import LaunchError
from podpy.kernel import libc, process, userns
from podpy.records import record
from podpy.runtime import channel
from podpy.runtime.channel import Channel
from podpy.runtime.rootmount import RootMount
from podpy.runtime.spec import Rootfs
from podpy.storage import changes, overlay, staging, vfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from podpy.build.model import Tree
    from podpy.paths import Store
    from podpy.storage.overlay import Driver

_DONE = "done"


@record
class Upper:
    """A step's root file system in the making.

    ``directory`` is a staging directory of the step's own; ``layers`` are the
    diff ids below, lowest first.  What the step changes is found in
    :attr:`changes` afterwards; with ``vfs`` that is the whole tree.
    """

    directory: str
    layers: tuple[str, ...]
    driver: str

    @property
    def changes(self) -> str:
        return f"{self.directory}/upper"


def prepare(store: Store, driver: Driver, directory: str, layers: Sequence[str]) -> Upper:
    """An :class:`Upper` over layers, in an empty directory."""
    made = Upper(directory=directory, layers=tuple(layers), driver=driver.name)
    for name in ("root", "work"):
        os.mkdir(f"{directory}/{name}", 0o755)
    if driver.name == "vfs":
        vfs.ensure(store, made.layers, made.changes)
        changes.mark(directory)
    else:
        staging.make_apart(made.changes)
    return made


def rootfs(store: Store, driver: Driver, upper: Upper) -> Rootfs:
    """How the merged root of an :class:`Upper` is mounted."""
    mountpoint = f"{upper.directory}/root"
    if upper.driver == "vfs":
        return Rootfs(kind="bind", mountpoint=mountpoint, path=upper.changes)
    lower = overlay.lower_directories(store, upper.layers)
    # The merged root has the upper directory's mode.
    os.chmod(upper.changes, os.stat(lower[0]).st_mode & 0o7777)
    return Rootfs(
        kind=driver.name,
        mountpoint=mountpoint,
        lower=lower,
        upper=upper.changes,
        work=f"{upper.directory}/work",
        volatile=driver.name == "overlay",
        program=driver.program,
    )


def _reading(store: Store, driver: Driver, tree: Tree, directory: str) -> Rootfs:
    """How the root of a tree is mounted to be read."""
    files.make_directory(directory, 0o755)
    mountpoint, nothing = f"{directory}/root", f"{directory}/none"
    for path in (mountpoint, nothing):
        files.make_directory(path, 0o755)
    if driver.name == "vfs":
        vfs.ensure(store, tree.layers, f"{directory}/copy")
        return Rootfs(kind="bind", mountpoint=mountpoint, path=f"{directory}/copy")
    # The kernel wants two layers where there is no upper one; the empty one is the lowest.
    lower = (*overlay.lower_directories(store, tree.layers), nothing)
    return Rootfs(kind=driver.name, mountpoint=mountpoint, lower=lower, program=driver.program)


class Room:
    """Where trees are mounted for one child after the other: a store, its driver, a directory.

    ``directory`` is a staging directory, used for mount points only.
    """

    def __init__(self, store: Store, driver: Driver, directory: str) -> None:
        self.store = store
        self.driver = driver
        self.directory = directory

    def call(
        self,
        function: Callable[..., Any],
        *,
        writing: Upper | None = None,
        reading: Sequence[Tree] = (),
    ) -> Any:
        """``function(*roots)`` in a child that is root of a new user namespace; its value.

        ``roots`` are ``O_PATH`` descriptors: the merged root of ``writing``
        first, then one per tree of ``reading``.  The value must be one that
        :mod:`marshal` knows; a :class:`PodpyError` comes back as it was raised.
        What is opened here is open in the child too.
        """
        plans: list[Rootfs | str] = []
        if writing is not None:
            plans.append(rootfs(self.store, self.driver, writing))
        for number, tree in enumerate(reading):
            place = f"{self.directory}/reading.{number}"
            plans.append(tree.directory or _reading(self.store, self.driver, tree, place))
        ours, theirs = Channel.pair()
        answer, writer = os.pipe()

        def child() -> int:
            ours.close()
            return _serve(function, plans, theirs, writer)

        with ours:
            pid = userns.fork_mapped(child)
            theirs.close()
            os.close(writer)
            return _answer(ours, answer, pid)


def _serve(
    function: Callable[..., Any], plans: Sequence[Rootfs | str], outer: Channel, answer: int
) -> int:
    try:
        libc.prctl(libc.PR_SET_DUMPABLE, 0)
        # The mode of what is made is said with each file.
        os.umask(0)
        roots = [_enter(plan) for plan in plans]
        value = marshal.dumps(function(*roots))
        outer.send(_DONE)
        files.write_all(answer, value)
    except BaseException as error:
        outer.fail("build", error)
        return 1
    return 0


def _enter(plan: Rootfs | str) -> int:
    if isinstance(plan, str):
        return os.open(plan, files.O_DIR)
    return RootMount(plan).mount()


def _answer(ours: Channel, answer: int, pid: int) -> Any:
    try:
        word, details, _ = ours.receive()
        if word == channel.FAILED:
            raise channel.revive(details)
        pieces = []
        while piece := os.read(answer, 1 << 16):
            pieces.append(piece)
    finally:
        os.close(answer)
        process.wait(pid)
    data = b"".join(pieces)
    if word != _DONE or not data:
        raise LaunchError("build: the process that works inside the root file system died")
    return marshal.loads(data)
