"""Extended attributes: which are part of a file, and which are an engine's notes beside it."""

from __future__ import annotations

#: What overlay file systems and engines say about a file to themselves.
NOTES = ("user.overlay.", "user.podpy.", "user.fuseoverlayfs.", "user.containers.")


def is_content(name: str) -> bool:
    """Whether an attribute goes where the file goes: into a layer, out of one, with a copy."""
    if name.startswith("user."):
        return not name.startswith(NOTES)
    return name == "security.capability"
