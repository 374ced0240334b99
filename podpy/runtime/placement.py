"""Which cgroup a container gets: a scope of the user's systemd, or part of a delegated subtree.

Asking systemd takes some milliseconds, so it is asked first (:func:`begin`)
and heard later (:meth:`Placement.finish`).  S moves to ``sup/`` of the scope and
the container to ``ctr/``, because the kernel allows no processes in a cgroup
that hands controllers on.  A delegated subtree gets one plain cgroup.
Where neither is possible the container has no cgroup of its own, which
``info`` shows, and options that need one are refused.
"""

from __future__ import annotations

import os

from podpy.errors import HostError
from podpy.kernel import cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podpy.kernel.systemd import Scope


class Placement:
    """A cgroup on its way; ``scope`` is the unit's name where systemd makes it."""

    def __init__(self, directory: str = "", scope: Scope | None = None) -> None:
        self._directory = directory
        self._scope = scope
        self.scope = scope.name if scope else ""

    def finish(self) -> str:
        """The directory of the container's empty cgroup; an empty text where there is none."""
        if self._scope:
            self._scope.wait()
            self._directory = _divide()
        return self._directory

    def abandon(self) -> None:
        """Remove what was made; a scope ends by itself with its last process."""
        if self._directory:
            cgroup.remove(self._directory)
        elif self._scope:
            self._scope.cancel()


def begin(container_id: str, *, name: str = "", parent: str = "", wanted: str = "") -> Placement:
    """Start making a container's cgroup; called by the process that will supervise it.

    ``parent`` is ``--cgroup-parent``: a slice where systemd runs, else a path
    below the cgroup mount.  It is honoured or refused.  ``wanted`` is the
    manager of ``containers.conf``: ``systemd``, ``cgroupfs``, or empty for any.
    """
    if wanted != "cgroupfs" and (scope := _ask_systemd(container_id, name, parent)):
        return Placement(scope=scope)
    if wanted == "systemd" and not cgroup.has_user_manager():
        raise HostError(
            "cgroup_manager systemd: no systemd runs for this user",
            hint="log in through systemd, or leave cgroup_manager out of containers.conf",
        )
    if parent:
        return Placement(cgroup.create(_given_parent(parent), f"podpy-{container_id}"))
    above = cgroup.delegated()
    return Placement(cgroup.create(above, f"podpy-{container_id}") if above else "")


def manager() -> str:
    """Who makes cgroups here: ``systemd``, ``cgroupfs`` (a delegated subtree) or ``none``."""
    if cgroup.has_user_manager():
        return "systemd"
    return "cgroupfs" if cgroup.delegated() else "none"


def _ask_systemd(container_id: str, name: str, parent: str) -> Scope | None:
    if not cgroup.has_user_manager() or (parent and not parent.endswith(".slice")):
        return None
    from podpy.kernel import systemd

    description = f"podpy container {name or container_id[:12]}"
    try:
        # Named after us too: the scope of the run before may not have gone yet.
        return systemd.start_scope(
            f"podpy-{container_id}-{os.getpid()}.scope",
            [os.getpid()],
            description=description,
            slice_name=os.path.basename(parent),
        )
    except HostError:
        if parent:
            raise
        return None


def approach(path: str) -> bool:
    """Bring the caller next to a container's cgroup, so that its children may be born there.

    A login session has no cgroup in common with the user's services that the
    user may manage; systemd moves us to ``sup/`` of the container's scope.
    False where the container is in no scope.
    """
    scope, name = os.path.split(path)
    if name != "ctr" or not scope.endswith(".scope") or not cgroup.has_user_manager():
        return False
    from podpy.kernel import systemd

    systemd.attach(os.path.basename(scope), "/sup", [os.getpid()])
    return True


def _given_parent(parent: str) -> str:
    path = f"{cgroup.mount_point()}/{parent.strip('/')}"
    if not parent.endswith(".slice") and os.path.isdir(path) and os.access(path, os.W_OK):
        return path
    raise HostError(
        f"--cgroup-parent {parent}: {path} is not a cgroup that you may manage",
        hint="leave the option out, or ask root to delegate that cgroup to you",
    )


def _divide() -> str:
    """Make ``sup/`` and ``ctr/`` in the caller's new scope, and go to ``sup/``."""
    scope = f"{cgroup.mount_point()}{cgroup.own_path()}"
    supervisor = cgroup.create(scope, "sup")
    container = cgroup.create(scope, "ctr")
    cgroup.enter(supervisor)
    cgroup.enable_controllers(scope)
    return container
