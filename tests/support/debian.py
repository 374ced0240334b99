"""Debian root file systems for tests, made by mmdebstrap once and kept between runs."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from support import host, images

SUITE = "bookworm"


def cache(name: str) -> Path:
    """Where things are kept between runs; ``tests/run.sh`` names a directory that lasts."""
    given = os.environ.get("PODPY_TEST_CACHE") or os.environ.get("XDG_CACHE_HOME")
    directory = Path(given or Path.home() / ".cache") / name
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except PermissionError:
        directory = Path(os.environ.get("TMPDIR", "/var/tmp")) / name
        directory.mkdir(parents=True, exist_ok=True)
    return directory


def archive(directory: Path, name: str, packages: Sequence[str] = ()) -> Path:
    """An image ``name`` of a minimal Debian with ``packages``, as a docker-archive."""
    short = name.rpartition("/")[2].partition(":")[0]
    target = directory / f"{short}.tar"
    with (directory / f"{short}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            root = directory / f"root-{short}.tar"
            if not root.exists():
                bootstrap(root, packages)
            partial = target.with_suffix(".part")
            images.docker_archive(partial, name, layers=[root.read_bytes()])
            partial.rename(target)
    return target


def bootstrap(target: Path, packages: Sequence[str]) -> None:
    """Write the root file system as a tar."""
    print(f"making a Debian with mmdebstrap: {target}", file=sys.stderr)
    partial = target.with_suffix(".partial")
    scratch = target.with_suffix(".scratch")
    scratch.mkdir(exist_ok=True)
    scratch.chmod(0o755)  # mmdebstrap works there as a subordinate id
    include = [f"--include={','.join(packages)}"] if packages else []
    forget = 'rm -f "$1/etc/resolv.conf" "$1/etc/hostname"'  # mmdebstrap puts the host's there
    with partial.open("wb") as output:
        subprocess.run(
            [host.program("mmdebstrap"), "--mode=unshare", "--variant=minbase", "--format=tar",
             *include, f"--customize-hook={forget}",
             "--aptopt=Apt::Install-Recommends false", "--quiet", SUITE, "-"],
            stdout=output, env={**os.environ, "TMPDIR": str(scratch)}, check=True,
        )  # fmt: skip
    scratch.rmdir()
    partial.rename(target)
