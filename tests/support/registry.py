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

USER, PASSWORD = "me", "se:cret"
# What `htpasswd -Bbn me se:cret` says; the cost is the smallest there is.
HTPASSWD = "me:$2y$05$WaU.vtCKmtoGl6fVkpeEzOajjgDLLP./.bIGw8KYJlHd/mPJ425Ze\n"


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
            "http": {"addr": self.address, "secret": "test", **settings.pop("http", {})},
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


def with_password(directory: Path) -> Registry:
    """A registry that knows one user, :data:`USER` with :data:`PASSWORD`."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "htpasswd").write_text(HTPASSWD)
    file = str(directory / "htpasswd")
    return Registry(directory, auth={"htpasswd": {"realm": "test", "path": file}})


def with_tls(directory: Path, *, clients: bool = False) -> Registry:
    """A registry with a certificate for 127.0.0.1 by an authority of its own, ``ca.crt``.

    With ``clients`` it speaks only to who shows ``client.cert``.
    """
    directory.mkdir(parents=True, exist_ok=True)

    def openssl(*arguments: str) -> None:
        command = [host.program("openssl"), *arguments]
        subprocess.run(command, cwd=directory, check=True, capture_output=True)

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *curve, "-days", "2", "-subj", "/CN=test authority",
            "-keyout", "ca.key", "-out", "ca.crt")  # fmt: skip
    openssl("req", *curve, "-subj", "/CN=registry", "-keyout", "tls.key", "-out", "tls.csr")
    (directory / "san").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    openssl("x509", "-req", "-in", "tls.csr", "-CA", "ca.crt", "-CAkey", "ca.key",
            "-CAcreateserial", "-days", "2", "-extfile", "san", "-out", "tls.crt")  # fmt: skip
    openssl("req", *curve, "-subj", "/CN=client", "-keyout", "client.key", "-out", "client.csr")
    openssl("x509", "-req", "-in", "client.csr", "-CA", "ca.crt", "-CAkey", "ca.key",
            "-CAcreateserial", "-days", "2", "-out", "client.cert")  # fmt: skip
    files = {"certificate": str(directory / "tls.crt"), "key": str(directory / "tls.key")}
    known = {"clientcas": [str(directory / "ca.crt")]} if clients else {}
    return Registry(directory, http={"tls": {**files, **known}})
