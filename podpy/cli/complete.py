"""Names for shell completion: what is in the store, read without locks, never an error."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podpy.paths import Store


def _store() -> Store:
    from podpy import config
    from podpy.paths import Store

    storage = config.load().storage
    return Store(storage.root, storage.runroot)


def _listed(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def containers(incomplete: str) -> list[str]:
    """Names of containers; ids only when one is being typed."""
    store = _store()
    names = [name for name in _listed(store.container_names) if not name.startswith(".")]
    if incomplete and set(incomplete) <= set("0123456789abcdef"):
        names += [name[:12] for name in _listed(store.containers) if len(name) == 64]
    return names


def images(incomplete: str) -> list[str]:
    """References of images, shortened as a user would type them."""
    from urllib.parse import unquote

    references = [
        unquote(name) for name in _listed(_store().names) if not name.startswith((".", "@"))
    ]
    short = [
        reference.removeprefix("docker.io/library/").removeprefix("localhost/")
        for reference in references
    ]
    return [name for name in (*short, *references) if name.startswith(incomplete)]


def volumes(incomplete: str) -> list[str]:
    return [name for name in _listed(_store().volumes) if name.startswith(incomplete)]


def networks(incomplete: str) -> list[str]:
    listed = [name.removesuffix(".json") for name in _listed(_store().networks) if name[0] != "."]
    names = sorted({*listed, "bridge", "host", "none"})
    return [name for name in names if name.startswith(incomplete)]


def modes(incomplete: str) -> list[str]:
    """What ``--network`` takes: networks, modes, and containers whose network to share."""
    if incomplete.startswith("container:"):
        return [f"container:{name}" for name in containers(incomplete.removeprefix("container:"))]
    helped = [name for name in ("slirp4netns", "pasta") if name.startswith(incomplete)]
    return [*networks(incomplete), *helped]


def objects(incomplete: str) -> list[str]:
    """Whatever ``inspect`` takes."""
    kinds = (containers, images, volumes, networks)
    return [name for names in kinds for name in names(incomplete)]
