"""The big image: a Debian of about 500 MB and 16,000 files, made once by mmdebstrap."""

from __future__ import annotations

import tarfile
from pathlib import Path

from support import debian

# What a typical application image carries: an interpreter, a compiler, git and curl.
PACKAGES = ("python3", "perl", "build-essential", "git", "curl", "ca-certificates")
NAME = "localhost/debian-big:latest"


def big_archive() -> Path:
    """The image as a docker-archive, built on first use."""
    return debian.archive(debian.cache("podpy-bench"), NAME, PACKAGES)


def describe(archive: Path) -> str:
    """Size and number of files of the image's one layer."""
    root = archive.with_name(f"root-{archive.name}")
    with tarfile.open(root) as tar:
        entries = sum(1 for _ in tar)
    return f"{root.stat().st_size / 1e6:.0f} MB, {entries} entries"


if __name__ == "__main__":
    big_archive()
