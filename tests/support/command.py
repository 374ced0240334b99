"""Running podpy (or a peer) the way a user does, and looking at what it said."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support import processes
from support.polling import eventually
from support.terminal import Terminal


@dataclass(frozen=True)
class Completed:
    """What a finished command said: text, raw bytes and its exit code."""

    argv: tuple[str, ...]
    code: int
    raw_stdout: bytes
    raw_stderr: bytes

    @property
    def stdout(self) -> str:
        return self.raw_stdout.decode(errors="surrogateescape")

    @property
    def stderr(self) -> str:
        return self.raw_stderr.decode(errors="surrogateescape")

    @property
    def text(self) -> str:
        """Standard output without the newline at its end."""
        return self.stdout.rstrip("\n")

    @property
    def lines(self) -> list[str]:
        return self.stdout.splitlines()

    def json(self) -> Any:
        return json.loads(self.stdout)

    def expect(self, code: int) -> Completed:
        """Fail, showing everything, unless the command ended with ``code``."""
        assert self.code == code, (
            f"{' '.join(self.argv)}\nexit code {self.code}, expected {code}\n"
            f"stdout: {self.stdout[-4000:]}\nstderr: {self.stderr[-4000:]}"
        )
        return self


class Background:
    """A command that runs on while the test looks at it."""

    def __init__(self, argv: Sequence[str], *, env: Mapping[str, str], **options: Any) -> None:
        self.argv = tuple(argv)
        options.setdefault("stdin", subprocess.PIPE)
        self.process = processes.popen(
            list(argv),
            stdout=options.pop("stdout", subprocess.PIPE),
            stderr=options.pop("stderr", subprocess.PIPE),
            env=dict(env),
            **options,
        )
        self._out = bytearray()
        self._err = bytearray()
        self._readers = [
            self._drain(stream, sink)
            for stream, sink in ((self.process.stdout, self._out), (self.process.stderr, self._err))
            if stream is not None
        ]

    @staticmethod
    def _drain(stream: Any, sink: bytearray) -> threading.Thread:
        def work() -> None:
            while data := os.read(stream.fileno(), 65536):
                sink.extend(data)

        reader = threading.Thread(target=work, daemon=True)
        reader.start()
        return reader

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def stdout(self) -> str:
        return self._out.decode(errors="surrogateescape")

    @property
    def stderr(self) -> str:
        return self._err.decode(errors="surrogateescape")

    def running(self) -> bool:
        return self.process.poll() is None

    def send(self, text: str | bytes) -> None:
        """Write to its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode() if isinstance(text, str) else text)
        self.process.stdin.flush()

    def close_stdin(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()

    def expect_output(self, text: str, timeout: float = 10.0) -> None:
        """Wait until ``text`` has appeared on its standard output."""

        def seen() -> bool:
            assert text in self.stdout, (
                f"{' '.join(self.argv)} never printed {text!r}\n"
                f"stdout: {self.stdout[-2000:]}\nstderr: {self.stderr[-2000:]}"
            )
            return True

        eventually(seen, timeout=timeout)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.running():
            self.process.send_signal(signal.SIGKILL)

    def wait(self, timeout: float = 30.0) -> Completed:
        """Wait for its end; what it printed is complete then."""
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"{' '.join(self.argv)} still runs after {timeout} s\n"
                f"stdout: {self.stdout[-2000:]}\nstderr: {self.stderr[-2000:]}"
            ) from None
        for reader in self._readers:
            reader.join(2)
        return Completed(self.argv, code, bytes(self._out), bytes(self._err))


class Tool:
    """A command line program with fixed leading arguments and its own environment."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], directory: Path) -> None:
        self.command = tuple(command)
        self.env = dict(env)
        self.directory = directory
        self._background: list[Background] = []
        self._terminals: list[Terminal] = []

    def argv(self, *arguments: object) -> list[str]:
        return [*self.command, *(str(argument) for argument in arguments)]

    def environment(self, changes: Mapping[str, str | None] | None) -> dict[str, str]:
        """The tool's environment with changes; None takes a variable out."""
        merged: dict[str, str | None] = {**self.env, **(changes or {})}
        return {name: value for name, value in merged.items() if value is not None}

    def __call__(
        self,
        *arguments: object,
        code: int | None = 0,
        input: str | bytes | None = None,
        env: Mapping[str, str | None] | None = None,
        cwd: str | Path | None = None,
        timeout: float = 60.0,
        **options: Any,
    ) -> Completed:
        """Run to the end; fail unless it exits with ``code`` (None: any code will do)."""
        argv = self.argv(*arguments)
        if input is None:
            options.setdefault("stdin", subprocess.DEVNULL)
        else:
            options["stdin"] = subprocess.PIPE
        child = processes.popen(
            argv,
            stdout=options.pop("stdout", subprocess.PIPE),
            stderr=options.pop("stderr", subprocess.PIPE),
            env=self.environment(env),
            cwd=cwd or self.directory,
            **options,
        )
        try:
            out, err = child.communicate(
                input.encode() if isinstance(input, str) else input, timeout=timeout
            )
        except subprocess.TimeoutExpired:
            child.kill()
            out, err = _collect(child)
            raise AssertionError(
                f"{' '.join(argv)} still ran after {timeout} s\n"
                f"stdout: {out[-2000:]!r}\nstderr: {err[-2000:]!r}"
            ) from None
        done = Completed(tuple(argv), child.returncode, out or b"", err or b"")
        return done if code is None else done.expect(code)

    def start(
        self,
        *arguments: object,
        env: Mapping[str, str | None] | None = None,
        cwd: str | Path | None = None,
        **options: Any,
    ) -> Background:
        """Start in the background; the test's end kills what still runs."""
        child = Background(
            self.argv(*arguments),
            env=self.environment(env),
            cwd=cwd or self.directory,
            **options,
        )
        self._background.append(child)
        return child

    def terminal(
        self,
        *arguments: object,
        rows: int = 24,
        columns: int = 80,
        env: Mapping[str, str | None] | None = None,
    ) -> Terminal:
        """Start on a pseudo-terminal of its own."""
        shown = Terminal(
            self.argv(*arguments),
            env={"TERM": "xterm", **self.environment(env)},
            cwd=self.directory,
            rows=rows,
            columns=columns,
        )
        self._terminals.append(shown)
        return shown

    def end_background(self) -> None:
        """End what :meth:`start` and :meth:`terminal` left running."""
        for child in self._background:
            child.kill()
            child.process.wait(10)
            for stream in (child.process.stdin, child.process.stdout, child.process.stderr):
                if stream is not None:
                    try:
                        stream.close()
                    except OSError:
                        pass
        for terminal in self._terminals:
            terminal.close()


def _collect(child: Any) -> tuple[bytes, bytes]:
    """What a killed command had printed; its children may hold the pipes open."""
    try:
        return child.communicate(timeout=2)  # type: ignore[no-any-return]
    except subprocess.TimeoutExpired:
        return b"", b"(its output is held open by other processes)"
