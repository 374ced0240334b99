"""A payload under the filter of single-id mode, without a container around it.

The payload is a Python function in a child that is root of a user namespace
with one id, and whose root directory is a directory of the test's: it can do
what no program of an image would find easy.
"""

from __future__ import annotations

import ctypes
import marshal
import os
import select
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from podpy.build.single import Recorder
from podpy.kernel import libc, process, seccomp, seccomp_single, userns
from podpy.storage import single

_MS_BIND = 4096
LIBC = ctypes.CDLL(None, use_errno=True)
NUMBERS = seccomp_single.NUMBERS[
    seccomp_single.AARCH64 if os.uname().machine == "aarch64" else seccomp_single.X86_64
]


def syscall(name: str, *arguments: int | bytes) -> int:
    """A system call with any arguments; the negative errno when it fails."""
    values = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    ctypes.set_errno(0)
    result: int = LIBC.syscall(ctypes.c_long(NUMBERS[name]), *values)
    return result if result >= 0 else -ctypes.get_errno()


class Recorded:
    """Runs payloads with ``root`` as their root directory; ``ledger`` is what was written down."""

    def __init__(self, root: Path, ledger: Path) -> None:
        self.root = root
        self._ledger = ledger
        self.recorder_pid = 0
        self.shows_proc = False
        self.may_chown = True

    @property
    def ledger(self) -> dict[int, tuple[int, int]]:
        return single.read_ledger(str(self._ledger))

    def owner(self, name: str) -> tuple[int, int] | None:
        """What is recorded with a file of the root."""
        found = single.recorded(str(self.root / name))
        return (found.uid, found.gid) if found else None

    def __call__(self, payload: Callable[[], Any], *, timeout: float = 30) -> Any:
        """What ``payload`` returns, a value that marshal knows."""
        ours, theirs = socket.socketpair()
        answer, writer = os.pipe()

        def child() -> int:
            ours.close()
            os.close(answer)
            return self._payload(payload, theirs, writer)

        pid = userns.fork_mapped(child, userns.own_map())
        theirs.close()
        os.close(writer)
        recorder = Recorder(str(self.root), str(self._ledger), may_chown=self.may_chown)
        try:
            assert ours.recv(1) == b"r"
            recorder.watch(pid)
            ours.send(b"g")
            _, (listener,), _, _ = socket.recv_fds(ours, 1, 1)
            self.recorder_pid = recorder.start(listener, 0, 0)
            ours.send(b"g")
            return _read(answer, timeout)
        finally:
            ours.close()
            os.close(answer)
            process.wait(pid)
            recorder.finish()

    def _payload(self, payload: Callable[[], Any], outer: socket.socket, answer: int) -> int:
        if self.shows_proc:
            libc.mount("/proc", str(self.root / "proc"), None, _MS_BIND | libc.MS_REC)
        os.chroot(self.root)
        os.chdir("/")
        outer.send(b"r")
        outer.recv(1)
        listener = seccomp.load_with_listener(seccomp_single.program(os.uname().machine))
        socket.send_fds(outer, [b"l"], [listener])
        os.close(listener)
        outer.recv(1)
        os.write(answer, marshal.dumps(payload()))
        return 0


def _read(answer: int, timeout: float) -> Any:
    data = b""
    while True:
        readable, _, _ = select.select([answer], [], [], timeout)
        assert readable, "the payload does not answer"
        piece = os.read(answer, 1 << 16)
        if not piece:
            break
        data += piece
    assert data, "the payload died"
    return marshal.loads(data)
