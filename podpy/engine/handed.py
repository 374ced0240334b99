"""Descriptors that the caller hands through podpy to a container's command.

``--preserve-fds``, ``--preserve-fd`` and systemd's socket activation
(sd_listen_fds(3)): the command gets them under the caller's numbers, and no
process of podpy's keeps a copy: what the command closes is closed.
"""

from __future__ import annotations

import fcntl
import os

from podpy import files
from podpy.errors import HostError, UsageError
from podpy.records import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from podpy.runtime.spec import Process

_FIRST = 3
_LARGEST = 1024
_ACTIVATION = ("LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES")


@record
class Handed:
    """Descriptors by number, and how sd_listen_fds(3) is told of those from systemd.

    ``environment`` lacks ``LISTEN_PID``: that is the command's, once it has one.
    """

    descriptors: tuple[int, ...] = ()
    environment: tuple[str, ...] = ()

    def give(self, process: Process) -> Process:
        """The process with these descriptors."""
        if not self.descriptors:
            return process
        return replace(process, preserved=self.descriptors, activation=self.environment)

    def pass_through(self, init_program: str) -> None:
        """Refuse an init that leaves ``LISTEN_PID`` as it is: its child would not listen."""
        if self.environment and b"LISTEN_PID" not in files.read_bytes(init_program):
            raise HostError(
                f"--init: {init_program} does not pass on the sockets of systemd (LISTEN_FDS)",
                hint="install catatonit 0.1.7 or later, or leave --init out",
            )

    def let_go(self) -> None:
        """Close them here: they are the container's alone."""
        for fd in self.descriptors:
            os.close(fd)


def take(count: str = "", numbers: Iterable[str] = ()) -> Handed:
    """What this process was given to pass on.

    ``count`` is the text of ``--preserve-fds``, ``numbers`` those of
    ``--preserve-fd``.  Sockets of systemd's are taken once: the environment,
    which helper programs inherit, tells of them no more.
    """
    activation = {name: value for name in _ACTIVATION if (value := os.environ.pop(name, ""))}
    listening = _listening(activation)
    descriptors = {*range(_FIRST, _FIRST + listening), *_preserved(count), *_listed(numbers)}
    if not listening:
        return Handed(descriptors=tuple(sorted(descriptors)))
    environment = [f"LISTEN_FDS={listening}"]
    if names := activation.get("LISTEN_FDNAMES"):
        environment.append(f"LISTEN_FDNAMES={names}")
    return Handed(descriptors=tuple(sorted(descriptors)), environment=tuple(environment))


def _listening(activation: dict[str, str]) -> int:
    """How many sockets systemd gave to this very process."""
    if activation.get("LISTEN_PID") != str(os.getpid()):
        return 0  # they were meant for whoever called us
    text = activation.get("LISTEN_FDS", "0")
    number = _number(text, "LISTEN_FDS")
    for fd in range(_FIRST, _FIRST + number):
        _require_given(fd, f"LISTEN_FDS={text}")
    return number


def _preserved(text: str) -> Iterable[int]:
    if not text:
        return ()
    found = range(_FIRST, _FIRST + _number(text, "--preserve-fds"))
    for fd in found:
        _require_given(fd, "--preserve-fds")
    return found


def _listed(texts: Iterable[str]) -> list[int]:
    found = []
    for text in ",".join(texts).split(","):
        if not text:
            continue
        fd = _number(text, "--preserve-fd", what="descriptor", largest=1 << 20)
        if fd < _FIRST:
            raise UsageError(f"--preserve-fd: {fd} is a standard stream, which is there anyway")
        _require_given(fd, "--preserve-fd")
        found.append(fd)
    return found


def _number(
    text: str, option: str, *, what: str = "number of descriptors", largest: int = _LARGEST
) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) > largest:
        raise UsageError(f"{option}: {text!r} is not a {what}")
    return int(text)


def _require_given(fd: int, option: str) -> None:
    """Python opens everything close-on-exec; what is not was handed to us."""
    try:
        ours = fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    except OSError:
        ours = 1
    if ours:
        raise UsageError(f"{option}: descriptor {fd} is not open")
