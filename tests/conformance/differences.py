"""Where podpy does on purpose what buildah does not: each with the reason.

"The reference" is docker's Dockerfile reference, which decides; BuildKit is
what people run who run docker.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Expected:
    """A difference that may be there; ``case`` is a pattern, ``text`` one of how it begins."""

    case: str
    text: str
    reason: str


EVERY = ".*"
EXPECTED = (
    Expected(
        EVERY,
        r"tree: .* xattrs {}, theirs {'user.overlay.origin': ''}",
        "overlayfs' own note that a directory was copied up; buildah 1.28 puts it into the layer",
    ),
    Expected(
        EVERY,
        r"tree: (etc/(hosts|hostname|resolv\.conf)|run) only theirs",
        "what a RUN gets mounted needs a file to lie on; podpy takes it away again, as BuildKit",
    ),
    Expected(
        EVERY,
        r"tree: etc time \d+, theirs now",
        "the same files: making them changed their directory",
    ),
)


def unexplained(case: str, found: list[str]) -> list[str]:
    """The differences that no entry of the table explains."""
    rows = [row for row in EXPECTED if re.fullmatch(row.case, case)]
    return [text for text in found if not any(re.match(row.text, text) for row in rows)]
