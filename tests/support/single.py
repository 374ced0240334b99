"""podpy for a user without subordinate ids, on a host whose test user has them.

In a user namespace that maps the user to himself and to nobody else, where the
files of subordinate ids are empty: to podpy that is a host that never gave any.
"""

from __future__ import annotations

from pathlib import Path

from support import flat, host, images
from support.podpy import BUSYBOX, Podpy

_WITHOUT_IDS = (
    "unshare", "--user", "--map-current-user", "--mount", "--keep-caps", "sh", "-c",
    "mount --bind /dev/null /etc/subuid && mount --bind /dev/null /etc/subgid &&"
    ' exec setpriv --inh-caps=-all --ambient-caps=-all "$@"',
    "sh",
)  # fmt: skip


class SinglePodpy(Podpy):
    """The command as such a user types it."""

    def __init__(self, directory: Path, cgroup: host.OwnCgroup | None = None) -> None:
        super().__init__(directory, cgroup)
        self.command = (*_WITHOUT_IDS, *self.command)

    def load_busybox(self) -> str:
        return self.load_layers(BUSYBOX, images.busybox_layer())

    def image(self, name: str) -> flat.Image:
        """An image as it would arrive elsewhere."""
        archive = self.directory / "tmp" / "saved.tar"
        self("save", "-o", archive, name)
        try:
            return next(iter(flat.Reader().images(archive).values()))
        finally:
            archive.unlink()

    def build(
        self, dockerfile: str, *arguments: object, timeout: float = 60.0, **files: str
    ) -> flat.Image:
        """Build a Dockerfile in a context with ``files``, and take the image along."""
        context = self.directory / "context"
        context.mkdir(exist_ok=True)
        for name, text in {**files, "Dockerfile": dockerfile}.items():
            (context / name).write_text(text)
        self("build", "-q", "-t", "made", *arguments, context, timeout=timeout)
        return self.image("made")
