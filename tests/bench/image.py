"""The big image: a Debian of about 500 MB and 16,000 files, made once by mmdebstrap."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

from support import host, images

SUITE = "bookworm"
# What a typical application image carries: an interpreter, a compiler, git and curl.
INCLUDE = "python3,perl,build-essential,git,curl,ca-certificates"
NAME = "localhost/debian-big:latest"


def cache() -> Path:
    """Where the image is kept between runs; ``tests/run.sh`` names a directory that lasts."""
    given = os.environ.get("PODPY_TEST_CACHE") or os.environ.get("XDG_CACHE_HOME")
    directory = Path(given or Path.home() / ".cache") / "podpy-bench"
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except PermissionError:
        directory = Path(os.environ.get("TMPDIR", "/var/tmp")) / "podpy-bench"
        directory.mkdir(parents=True, exist_ok=True)
    return directory


def big_archive() -> Path:
    """The image as a docker-archive, built on first use."""
    archive = cache() / f"debian-{SUITE}.tar"
    if not archive.exists():
        root = cache() / f"root-{SUITE}.tar"
        if not root.exists():
            _bootstrap(root)
        images.docker_archive(archive, NAME, layers=[root.read_bytes()])
    return archive


def _bootstrap(target: Path) -> None:
    print(f"making the Debian image with mmdebstrap: {target}", file=sys.stderr)
    partial = target.with_suffix(".partial")
    scratch = target.with_suffix(".scratch")
    scratch.mkdir(exist_ok=True)
    scratch.chmod(0o755)  # mmdebstrap works there as a subordinate id
    subprocess.run(
        [
            host.program("mmdebstrap"), "--mode=unshare", "--variant=minbase", "--format=tar",
            f"--include={INCLUDE}", "--aptopt=Apt::Install-Recommends false", "--quiet",
            SUITE, "-",
        ],
        stdout=partial.open("wb"),
        env={**os.environ, "TMPDIR": str(scratch)},
        check=True,
    )  # fmt: skip
    scratch.rmdir()
    partial.rename(target)


def describe(archive: Path) -> str:
    """Size and number of files of the image's one layer."""
    root = archive.with_name(f"root-{SUITE}.tar")
    with tarfile.open(root) as tar:
        entries = sum(1 for _ in tar)
    return f"{root.stat().st_size / 1e6:.0f} MB, {entries} entries"


if __name__ == "__main__":
    big_archive()
