"""The corpus by its areas, and the images that its builds begin with."""

from __future__ import annotations

from pathlib import Path

from conformance.cases import (
    adding,
    arguments,
    configuring,
    copying,
    environment,
    ignoring,
    onbuild,
    parsing,
    reference,
    refusing,
    running,
    stages,
    users,
    workdir,
)
from support import images
from support.dockerfiles import Case

#: Built by podpy and by the peer, and compared.
COMPARED: dict[str, tuple[Case, ...]] = {
    "copying": copying.CASES,
    "users": users.CASES,
    "adding": adding.CASES,
    "environment": environment.CASES,
    "arguments": arguments.CASES,
    "workdir": workdir.CASES,
    "running": running.CASES,
    "configuring": configuring.CASES,
    "onbuild": onbuild.CASES,
    "stages": stages.CASES,
    "ignoring": ignoring.CASES,
    "parsing": parsing.CASES,
}
#: Refused by both.
REFUSED: dict[str, tuple[Case, ...]] = {"refusing": refusing.CASES}
#: What the peer's version does not know: the reference says what comes of it.
REFERENCE: dict[str, tuple[Case, ...]] = {"reference": reference.CASES}

CONFIGURED: dict[str, object] = {
    "Entrypoint": ["/bin/sh", "-c"],
    "Cmd": ["echo configured"],
    "Env": ["PATH=/usr/bin:/bin", "BASE=from the base"],
    "User": "alice:audio",
    "WorkingDir": "/home/alice",
    "Labels": {"base": "yes", "both": "base"},
    "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
    "Volumes": {"/base-volume": {}},
    "StopSignal": "SIGINT",
    "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 5_000_000_000},
    "Shell": ["/bin/busybox", "sh", "-c"],
}
TRIGGERS = [
    "COPY trigger.txt /triggered/",
    "ENV TRIGGERED=yes",
    "RUN echo $TRIGGERED >/triggered/env",
]


def bases(directory: Path) -> list[Path]:
    """Archives of the images that the cases are built on."""
    directory.mkdir()
    made: dict[str, tuple[images.Layer, dict[str, object]]] = {
        "busybox": (images.busybox_layer(), {}),
        "users": (images.users_layer(), {}),
        "configured": (images.users_layer(), CONFIGURED),
        "triggers": (images.busybox_layer(), {"OnBuild": TRIGGERS}),
        "links": (_links_layer(), {}),
    }
    return [
        images.docker_archive(
            directory / f"{name}.tar", f"localhost/{name}:latest", layers=[layer], config=config
        )
        for name, (layer, config) in made.items()
    ]


def _links_layer() -> images.Layer:
    """busybox, and an image's ways to lead a copy astray, or just elsewhere."""
    layer = images.busybox_layer()
    for name in ("real", "real/sub", "dir", "opt"):
        layer.directory(name)
    layer.file("real/old", "old\n").file("dir/one", "1\n").file("dir/two", "2\n")
    layer.symlink("absolute", "/real").symlink("relative", "real/sub").symlink("up", "../../real")
    layer.symlink("dangling", "/made/later").symlink("to-file", "real/old")
    layer.symlink("opt/app", "/real/sub").file("setuid", "s\n", 0o4755)
    layer.hardlink("real/old-too", "real/old").entry("pipe", b"6")
    return layer
