"""``version``, ``info`` and the verbs of ``system``."""

from __future__ import annotations

from podpy.cli import output
from podpy.version import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podpy.cli.options import InspectFormat



def version(*, format_: InspectFormat = "") -> None:
    """Show podpy's version."""
    about = _client()
    if format_:
        output.formatted({"Client": about, **about}, format_)
        return
    for key, value in about.items():
        output.line(f"{key + ':':<{_WIDTH}}{value}")


_WIDTH = 14


def _client() -> dict[str, str]:
    """What docker's and podman's ``version`` tell about the client."""
    import os
    import sys

    kernel = os.uname()
    return {
        "Version": VERSION,
        "PythonVersion": ".".join(str(part) for part in sys.version_info[:3]),
        "OsArch": f"linux/{kernel.machine}",
        "Kernel": kernel.release,
    }
