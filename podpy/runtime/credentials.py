"""Giving up privileges: the one sequence between "inside the container" and ``execve``.

Used by the container's first process and by processes that join it.  The order
is the kernel's (credentials(7), seccomp(2)): the bounding set needs
CAP_SETPCAP; a filter without no-new-privileges needs CAP_SYS_ADMIN, so it is
loaded before the ids change; the groups go before the ids that allow changing
them; capset(2) comes last of these because it takes away all that the others
need.  With no-new-privileges the filter needs nothing and is loaded last, so
that even a profile that forbids ``setuid`` works.

Everything here is already imported when a process enters the container.
"""

from __future__ import annotations

import errno
import os

from podpy.errors import LaunchError
from podpy.kernel import capabilities as caps
from podpy.kernel import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from podpy.runtime.users import Credentials


def apply(
    credentials: Credentials,
    capabilities: int,
    seccomp: bytes,
    *,
    no_new_privileges: bool = False,
    last_capability: int = len(caps.NAMES) - 1,
    may_set_groups: bool = True,
    step: Callable[[str], None] = lambda name: None,
) -> None:
    """Become ``credentials`` with ``capabilities`` (a mask) under the filter ``seccomp``.

    ``seccomp`` is a BPF program, empty for none.  ``last_capability`` is
    ``capabilities.last_known()``, read outside the container.
    ``may_set_groups`` is false where ``/proc/PID/setgroups`` says ``deny``
    (a single-id map): then the list of groups can only stay as it is.
    ``step`` is told what is tried next, for the error message.
    """
    step("drop the bounding set")
    caps.drop_bounding(capabilities, last_capability)
    if seccomp and not no_new_privileges:
        step("load the seccomp filter")
        libc.seccomp_set_filter(seccomp)
    step(f"become user {credentials.uid}:{credentials.gid}")
    try:
        if may_set_groups and not credentials.keep_groups:
            os.setgroups(credentials.groups)
        os.setresgid(credentials.gid, credentials.gid, credentials.gid)
        os.setresuid(credentials.uid, credentials.uid, credentials.uid)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise LaunchError(
            f"become user {credentials.uid}:{credentials.gid}: the container's user namespace"
            " has no such user or group",
            hint="`podpy info` shows how many ids are mapped; ranges in /etc/subuid and"
            " /etc/subgid give more",
        ) from None
    step("set the capabilities")
    caps.set_process(capabilities if credentials.uid == 0 else 0)
    if no_new_privileges:
        step("set no-new-privileges")
        libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if seccomp:
            step("load the seccomp filter")
            libc.seccomp_set_filter(seccomp)
