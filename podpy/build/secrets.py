"""Secrets of RUN: read when a step needs them, in the step's memory only.

A secret is never written to a disk, to a layer, to the history or to a key of
the cache, which knows it by its id.  In the container it is a file of a tmpfs
of its own (:mod:`podpy.build.inline`), or a variable of that one command.
"""

from __future__ import annotations

import os

from podpy.errors import BuildError
from podpy.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podpy.build.instructions import RunMount

_LIMIT = 500 << 10  # bytes, as BuildKit has it
_DIRECTORY = "/run/secrets"


@record
class Secret:
    """Where a secret comes from: a host file, or a variable of podpy's environment."""

    id: str
    file: str = ""
    variable: str = ""

    def read(self) -> bytes:
        """Its bytes; :class:`BuildError` names the secret and never shows it."""
        if self.variable:
            data = os.environb.get(os.fsencode(self.variable))
            if data is None:
                raise BuildError(f"secret {self.id}: no variable {self.variable} any more")
        else:
            try:
                with open(self.file, "rb") as opened:
                    data = opened.read(_LIMIT + 1)
            except OSError as error:
                raise BuildError(f"secret {self.id}: {self.file}: {error.strerror}") from None
        if len(data) > _LIMIT:
            raise BuildError(f"secret {self.id}: larger than {_LIMIT >> 10} KiB")
        return data


def identity(mount: RunMount) -> str:
    """The id of a secret mount: ``id=``, else ``source=``, else the target's last part."""
    return mount.id or mount.source or os.path.basename(mount.target)


def target(mount: RunMount) -> str:
    """Where a secret is put; empty where it is given as a variable only."""
    if mount.target or mount.env:
        return mount.target
    return f"{_DIRECTORY}/{identity(mount)}"


def missing(name: str) -> BuildError:
    return BuildError(
        f"RUN --mount=type=secret: secret {name} is required and was not given",
        hint=f"podpy build --secret id={name},src=FILE, or id={name},env=VARIABLE",
    )
