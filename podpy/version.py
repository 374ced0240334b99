"""podpy's version, which ``pyproject.toml`` and the packaging scripts read from here."""

from __future__ import annotations

import posix
import sys

VERSION = "0.1.0"

# The names that images and everybody's tools use.
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def about() -> dict[str, str]:
    """The version, and what podpy runs on."""
    kernel = posix.uname()
    architecture = _ARCHITECTURES.get(kernel.machine, kernel.machine)
    return {
        "Version": VERSION,
        "PythonVersion": ".".join(str(part) for part in sys.version_info[:3]),
        "Os": "linux",
        "Arch": architecture,
        "OsArch": f"linux/{architecture}",
        "Kernel": kernel.release,
    }
