"""The packages of a root file system, as its package managers have recorded them.

Read from inside, through the descriptor of the root (:mod:`podpy.build.inside`):
dpkg's status files, apk's database and the metadata of Python distributions.
Nothing is run, nothing is guessed; what the root has no record of is not found.
"""

from __future__ import annotations

import os
import stat

from podpy.build.inroot import IN_ROOT
from podpy.errors import BuildError
from podpy.kernel import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_LIMIT = 64 << 20
_STATUS = "/var/lib/dpkg/status"
_STATUS_D = "/var/lib/dpkg/status.d"
_APK = "/lib/apk/db/installed"
_RELEASE = "/etc/os-release"
_RPM = ("/var/lib/rpm", "/usr/lib/sysimage/rpm", "/usr/share/rpm")
_PYTHON = ("/usr/lib", "/usr/local/lib", "/opt")
_DEEPEST = 4


def find(root: int) -> list[dict[str, str]]:
    """Every package: ``type`` (deb, apk, pypi), ``name``, ``version``, and what else is known.

    Sorted, each once; ``distribution`` is the ``ID`` of ``/etc/os-release``.
    Raises :class:`BuildError` for a database that podpy cannot read (rpm's).
    """
    for path in _RPM:
        if any(name.startswith("rpmdb") or name == "Packages" for name in _names(root, path)):
            raise BuildError(
                f"--sbom: {path}: rpm's database, which podpy cannot read",
                hint="leave --sbom out; a document that knows no packages would not be true",
            )
    distribution = _distribution(root)
    found = {
        (each["type"], each["name"], each["version"], each.get("architecture", "")): each
        for each in (*_debian(root), *_alpine(root), *_python(root))
    }
    return [{**found[key], "distribution": distribution} for key in sorted(found)]


# --- the databases -----------------------------------------------------------


def _debian(root: int) -> Iterator[dict[str, str]]:
    texts = [_read(root, _STATUS)]
    texts += [
        _read(root, f"{_STATUS_D}/{name}")
        for name in _names(root, _STATUS_D)
        if not name.endswith(".md5sums")
    ]
    for text in texts:
        for fields in _paragraphs(text, ": "):
            # Distroless images have files of installed packages without a Status.
            if fields.get("Status", "ok installed").endswith("ok installed"):
                yield from _package("deb", fields, "Package", "Version", "Architecture")


def _alpine(root: int) -> Iterator[dict[str, str]]:
    for fields in _paragraphs(_read(root, _APK), ":"):
        yield from _package("apk", fields, "P", "V", "A")


def _package(
    kind: str, fields: dict[str, str], name: str, version: str, architecture: str
) -> Iterator[dict[str, str]]:
    if fields.get(name) and fields.get(version):
        yield {
            "type": kind,
            "name": fields[name],
            "version": fields[version],
            "architecture": fields.get(architecture, ""),
        }


def _paragraphs(text: str, colon: str) -> Iterator[dict[str, str]]:
    """Fields of paragraphs that empty lines part; continuation lines are left out."""
    for paragraph in text.split("\n\n"):
        fields: dict[str, str] = {}
        for line in paragraph.splitlines():
            key, found, value = line.partition(colon)
            if found and not line[0].isspace():
                fields.setdefault(key, value.strip())
        if fields:
            yield fields


def _python(root: int) -> Iterator[dict[str, str]]:
    for top in _PYTHON:
        for path in _metadata(root, top, 0):
            head = _read(root, path).partition("\n\n")[0]
            fields = next(_paragraphs(head, ": "), {})
            yield from _package("pypi", fields, "Name", "Version", "")


def _metadata(root: int, path: str, depth: int) -> Iterator[str]:
    """The metadata files of Python distributions not too far below a directory."""
    for name in _names(root, path):
        inner = f"{path}/{name}"
        if name.endswith(".dist-info"):
            yield f"{inner}/METADATA"
        elif name.endswith(".egg-info"):
            yield f"{inner}/PKG-INFO"
        elif depth < _DEEPEST and (depth or name.startswith("python")):
            if name.startswith("python") or name in ("site-packages", "dist-packages"):
                yield from _metadata(root, inner, depth + 1)
        elif path == "/opt" or name == "lib":
            yield from _metadata(root, inner, depth + 1)


def _distribution(root: int) -> str:
    for line in _read(root, _RELEASE).splitlines():
        key, _, value = line.partition("=")
        if key == "ID":
            return value.strip("\"'")
    return ""


# --- reading -----------------------------------------------------------------


def _read(root: int, path: str) -> str:
    """The text of a regular file in the root; empty when there is none."""
    try:
        fd = libc.openat2(root, path, os.O_RDONLY | os.O_NONBLOCK, resolve=IN_ROOT)
    except OSError:
        return ""
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return ""
        pieces: list[bytes] = []
        while (data := os.read(fd, 1 << 20)) and len(pieces) << 20 < _LIMIT:
            pieces.append(data)
        return b"".join(pieces).decode(errors="replace")
    finally:
        os.close(fd)


def _names(root: int, path: str) -> Iterable[str]:
    try:
        fd = libc.openat2(root, path, os.O_RDONLY | os.O_DIRECTORY, resolve=IN_ROOT)
    except OSError:
        return ()
    try:
        return sorted(os.listdir(fd))
    finally:
        os.close(fd)
