"""podman as a peer: the same user, the same host, a store of its own."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from support import host, images
from support.command import Tool
from support.podpy import BUSYBOX, environment


class Podman(Tool):
    """podman bound to a store below ``directory``, with cgroupfs and file-backed events."""

    def __init__(self, directory: Path, driver: str = "") -> None:
        env = environment(directory)
        env.pop("PYTHONPATH", None)
        # podman refuses a runroot of more than 50 characters.
        self.run = Path(tempfile.mkdtemp(prefix="pm", dir=os.environ.get("XDG_RUNTIME_DIR")))
        env["XDG_RUNTIME_DIR"] = str(self.run)
        root, runroot = directory / "graph", self.run / "g"
        fixed = ["--root", root, "--runroot", runroot, "--storage-driver", driver or best_driver()]
        fixed += ["--cgroup-manager", "cgroupfs", "--events-backend", "file"]
        super().__init__([host.program("podman"), *map(str, fixed)], env, directory)
        containers = directory / "config" / "containers"
        containers.mkdir(parents=True, exist_ok=True)
        (containers / "policy.json").write_text('{"default":[{"type":"insecureAcceptAnything"}]}')
        (containers / "containers.conf").write_text(
            '[containers]\nlog_driver = "k8s-file"\ndefault_sysctls = []\n'
        )
        (containers / "storage.conf").write_text(
            f'[storage]\ndriver = "{driver or best_driver()}"\n'
            f'graphroot = "{root}"\nrunroot = "{runroot}"\n'
        )

    def load_busybox(self) -> str:
        archive = self.directory / "busybox.tar"
        images.docker_archive(archive, BUSYBOX, layers=[images.busybox_layer()])
        self("load", "-q", "-i", archive)
        archive.unlink()
        return BUSYBOX

    def pause_pid(self) -> int:
        """The process that keeps podman's user namespace; 0 when there is none."""
        file = Path(self.env["XDG_RUNTIME_DIR"]) / "libpod" / "tmp" / "pause.pid"
        try:
            return int(file.read_text())
        except (OSError, ValueError):
            return 0

    def close(self) -> None:
        """Remove its containers and images, end its pause process."""
        self.end_background()
        self("rm", "-f", "-a", "-t", "0", code=None)
        self("system", "reset", "-f", code=None)
        if pid := self.pause_pid():
            try:
                os.kill(pid, 15)
            except ProcessLookupError:
                pass
        shutil.rmtree(self.run, ignore_errors=True)


def best_driver() -> str:
    """Kernel overlay works for an ordinary user from 5.13 on."""
    release = os.uname().release.split(".")
    return "overlay" if (int(release[0]), int(release[1].split("-")[0])) >= (5, 13) else "vfs"
