"""The caller's account inside the container, for ``--userns=keep-id``.

A user whom ``/etc/passwd`` does not know has no name and no home directory,
and git, ssh and sudo refuse to work.  The container sees a copy of its image's
file with one line more; the image's own file stays as it is.
"""

from __future__ import annotations

import os

from podpy.kernel import libc, mounts
from podpy.records import record
from podpy.runtime import users

_PASSWD = "/etc/passwd"


@record
class Account:
    """An operation among the mounts: one account, unless the image has its uid.

    ``path`` is the host file that holds the container's copy.
    """

    name: str
    uid: int
    gid: int
    home: str
    path: str

    def describe(self) -> str:
        return f"add user {self.name} to {_PASSWD}"

    def prepare(self) -> tuple[int, ...]:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        text = os.open(self.path, flags, 0o644)
        return text, libc.open_tree(libc.AT_FDCWD, self.path, libc.OPEN_TREE_CLONE)

    def execute(self, root_fd: int, prepared: tuple[int, ...] = ()) -> None:
        text, mounted = prepared or self.prepare()
        known = users.read_database(root_fd, _PASSWD[1:])
        if not users.knows(known, self.uid):
            line = f"{self.name}:*:{self.uid}:{self.gid}::{self.home}:/bin/sh\n"
            gap = b"" if not known or known.endswith(b"\n") else b"\n"
            os.write(text, known + gap + os.fsencode(line))
            target = mounts.open_target(root_fd, _PASSWD, directory=False)
            libc.move_mount(mounted, target)
            os.close(target)
        os.close(text)
        os.close(mounted)
