"""A supervisor with any program as its payload: no namespaces, no image, no privilege."""

from __future__ import annotations

import _socket
import fcntl
import json
import os
import select
import signal
import termios
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from podpy.kernel import libc, process
from podpy.model import ProcessIdentity
from podpy.records import from_dict
from podpy.runtime import attach, frames, supervisor
from support.polling import eventually


class Supervised:
    """One payload under one supervisor, which runs in a forked process."""

    def __init__(
        self,
        base: Path,
        argv: Sequence[str],
        *,
        tty: bool = False,
        stdin: bool = False,
        foreground: bool = True,
        driver: str = "k8s-file",
        **more: Any,
    ) -> None:
        self.base = base
        self.directory = base / "containers" / "x"
        self.run = base / "run"
        self.log = self.directory / "ctr.log"
        for directory in (self.directory, base / "tmp"):
            directory.mkdir(parents=True)
        self._argv = list(argv)
        self._tty, self._stdin = tty, stdin
        self._more = more
        self._driver = driver
        listener = supervisor.listen(str(self.run))
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        self.client = ours.detach()
        far = theirs.detach()
        self.pid = process.fork_child(lambda: self._supervise(listener, far if foreground else -1))
        os.close(listener)
        os.close(far)
        self._code: int | None = None

    # --- in the supervisor's process -----------------------------------------

    def _supervise(self, listener: int, client: int) -> int:
        os.setsid()
        libc.prctl(libc.PR_SET_CHILD_SUBREAPER, 1)
        inner, outer = self._streams()
        payload = process.fork_child(lambda: self._become_payload(inner))
        for fd in set(inner):
            os.close(fd)
        task = {
            "id": "ab" * 32, "name": "web", "directory": str(self.directory),
            "run_directory": str(self.run), "tmp": str(self.base / "tmp"),
            "tty": self._tty, "stdin_fd": outer[0], "stdout_fd": outer[1], "stderr_fd": outer[2],
            "log": {"driver": self._driver, "path": str(self.log)},
            "init_pid": payload, "init_pidfd": os.pidfd_open(payload), "helpers": [],
            "listen_fd": listener, "client_fd": client, "cgroup": "", "remove": False,
            "stop_signal": "SIGTERM", "stop_timeout": 10,
            "sweep": "podpy.storage.staging:remove_tree",
            "state": {"version": 1, "status": "running", "ports": [], "error": "",
                      "supervisor": vars_of(process.identity())},
        }  # fmt: skip
        log = {**task["log"], **self._more.pop("log", {})}  # type: ignore[dict-item]
        return supervisor.run({**task, **self._more, "log": log})

    def _streams(self) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        """The payload's descriptors and the supervisor's."""
        if self._tty:
            master, slave = os.openpty()
            return (slave, slave, slave), (master, master, master)
        source, feed = os.pipe() if self._stdin else (os.open("/dev/null", os.O_RDONLY), -1)
        stdout, stderr = os.pipe(), os.pipe()
        return (source, stdout[1], stderr[1]), (feed, stdout[0], stderr[0])

    def _become_payload(self, streams: tuple[int, int, int]) -> int:
        os.setsid()
        process.default_signals()
        for number, fd in enumerate(streams):
            os.dup2(fd, number)
        if self._tty:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        os.closerange(3, 1024)
        os.execvp(self._argv[0], self._argv)

    # --- for the test --------------------------------------------------------

    @property
    def state(self) -> dict[str, Any]:
        """``state.json``, as soon as there is one."""
        eventually((self.directory / "state.json").exists)
        state: dict[str, Any] = json.loads((self.directory / "state.json").read_text())
        return state

    @property
    def identity(self) -> ProcessIdentity:
        return from_dict(ProcessIdentity, self.state["supervisor"])

    def title(self) -> str:
        return Path(f"/proc/{self.pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()

    def connect(self, wants: str) -> int:
        return attach.connect(str(self.run), wants, self.identity)

    def wait(self, timeout: float = 20.0) -> int:
        """The supervisor's exit status; it must end by itself."""
        if self._code is None:
            pidfd = os.pidfd_open(self.pid)
            ended = select.select([pidfd], [], [], timeout)[0]
            os.close(pidfd)
            assert ended, "the supervisor still runs"
            self._code = process.wait(self.pid)
        return self._code

    def close(self) -> None:
        if self.client >= 0:
            os.close(self.client)
        if self._code is None:
            os.kill(self.pid, signal.SIGTERM)
            time.sleep(0.05)
            os.kill(self.pid, signal.SIGKILL)
            process.wait(self.pid)


def vars_of(identity: ProcessIdentity) -> dict[str, Any]:
    return {"boot_id": identity.boot_id, "pid": identity.pid, "start": identity.start}


def receive(fd: int, timeout: float = 10.0) -> dict[str, bytes]:
    """All frames until the end: each word's bytes joined."""
    words: dict[str, bytes] = {}
    deadline = time.monotonic() + timeout
    while select.select([fd], [], [], max(deadline - time.monotonic(), 0))[0]:
        frame = os.read(fd, frames.CHUNK + 1)
        if not frame:
            return words
        word = frame[:1].decode()
        words[word] = words.get(word, b"") + frame[1:]
        if frame[:1] == frames.EXITED:
            return words
    raise AssertionError(f"no end within {timeout} s; so far {list(words)}")
