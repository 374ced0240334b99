"""A real registry on the loopback interface: Debian's docker-registry."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

from support import host, processes
from support.polling import eventually


def free_port() -> int:
    """A loopback TCP port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Registry:
    """One docker-registry with its storage below ``directory``."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.directory = directory
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        config = {
            "version": 0.1,
            "log": {"level": "info"},
            "storage": {
                "filesystem": {"rootdirectory": str(directory / "data")},
                "delete": {"enabled": True},
            },
            "http": {"addr": self.address, "secret": "test"},
            **settings,
        }
        directory.mkdir(parents=True, exist_ok=True)
        file = directory / "config.yml"
        file.write_text(json.dumps(config))  # JSON is YAML
        self.log = directory / "log"
        with self.log.open("wb") as log:
            self.process = processes.popen(
                [host.program("docker-registry"), "serve", str(file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=directory,
            )
        eventually(self._answers, timeout=15, what="registry to answer")

    def _answers(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError(f"docker-registry ended: {self.log.read_text()[-2000:]}")
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1):
                return True
        except OSError:
            return False

    def get(self, path: str) -> Any:
        """The JSON answer to a request below ``/v2/``."""
        with urllib.request.urlopen(f"http://{self.address}/v2/{path}", timeout=10) as answer:
            return json.load(answer)

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
