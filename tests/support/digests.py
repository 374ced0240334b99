"""One build that must come out the same wherever it is done, and by whom.

As a program, ``python3 -m support.digests DIRECTORY`` does it in that directory and prints the
digests; ``bed.sh`` runs it as another user.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from support import images
from support.command import Tool
from support.dockerfiles import case, directory, file, hardlink, symlink
from support.podpy import BUSYBOX, Podpy

EPOCH = "1600000000"
GIVEN = ("--build-arg", f"SOURCE_DATE_EPOCH={EPOCH}")
#: Everything that differs between users, hosts and file systems: owners, orders, times,
#: hard links, names, modes, removals, and what several workers do at the same time.
BUILD = case(
    "same",
    f"FROM {BUSYBOX} AS one",
    "RUN mkdir /made && for i in 9 3 7 1; do echo $i >/made/$i; done && ln /made/1 /made/one",
    f"FROM {BUSYBOX} AS two",
    "COPY --chown=1000:1001 tree /tree",
    "RUN chown -R 7:8 /tree/sub && chmod 600 /tree/b && rm /tree/a && touch /tree/new",
    f"FROM {BUSYBOX}",
    "ARG SOURCE_DATE_EPOCH",
    "ENV A=b",
    "WORKDIR /work/deep",
    "COPY --from=one /made made",
    "COPY --from=two /tree tree",
    "ADD archive.tar /unpacked/",
    "RUN rm /etc/group && mkfifo /pipe && ln -s /pipe /link && echo $SOURCE_DATE_EPOCH >/epoch",
    'LABEL b=2 a=1',
    'CMD ["sh"]',
    files={
        "tree/a": "a", "tree/b": file("b", 0o755), "tree/sub/c": "c", "tree/l": symlink("b"),
        "tree/h": hardlink("tree/b"), "tree/empty": directory(0o700), "tree/ü": "u",
        "archive.tar": images.Layer().file("z", "z", uid=5).file("y", "y").directory("d", 0o711),
    },
)  # fmt: skip


def prepare(podpy: Podpy) -> None:
    """Give the store the base image."""
    archive = podpy.directory / "base.tar"
    images.docker_archive(archive, BUSYBOX, layers=[images.busybox_layer()])
    podpy("load", "-q", "-i", archive)
    archive.unlink()


def build(
    podpy: Tool,
    context: Path,
    *options: str,
    env: Mapping[str, str | None] | None = None,
) -> str:
    """Build with an empty cache; the image's id and the digest of its manifest."""
    fixed = ("build", "-q", "--no-cache", "--network", "none", "-t", "localhost/same")
    podpy(*fixed, *options, context, env=env)
    words = ("image", "inspect", "--format", "{{.Id}} {{.Digest}}", "localhost/same")
    return podpy(*words, env=env).text


def main(where: str) -> None:
    os.umask(0o077)
    path = Path(where)
    podpy = Podpy(path)
    prepare(podpy)
    print(build(podpy, BUILD.write(path), *GIVEN))


if __name__ == "__main__":
    main(sys.argv[1])
