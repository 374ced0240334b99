"""What killed builds leave behind: staging directories, and cgroups of commands.

Both are named after the worker they belong to (:mod:`podpy.storage.staging`),
so that the next build or prune knows that nobody wants them any more.
"""

from __future__ import annotations

from podpy import files
from podpy.errors import PodpyError, suppress
from podpy.kernel import cgroup
from podpy.storage import staging

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podpy.paths import Store

#: What the cgroups of commands are called: this, and the name of a staging directory.
PREFIX = "podpy-"
KIND = "build"


def sweep(store: Store, *, waits: bool = True) -> None:
    """Remove what builds of dead processes left; ``waits`` until trees are deleted."""
    above = cgroup.delegated()
    if above:
        for name in files.list_directory(above):
            if name.startswith(f"{PREFIX}{KIND}.") and not staging.owner_is_alive(name):
                with suppress(PodpyError, OSError):  # another one sweeps, too
                    cgroup.remove(f"{above}/{name}")
    if waits:
        staging.sweep(store)
    else:
        staging.sweep_later(store)
