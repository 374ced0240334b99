"""Put podpy and everything it needs into one file: called by ``zipapp.sh``.

    zipapp.py OUTPUT DEPENDENCIES INTERPRETER...

``DEPENDENCIES`` is a directory pip installed into.  The file is: the shell
header, one bundle of compiled code for each interpreter, a zip archive of the
sources.  The same inputs give the same bytes.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
# Typer draws boxes with them when they are there; podpy does not ask it to.
LEFT_OUT = ("rich", "pygments", "markdown_it", "mdurl", "bin", "share")
_EPOCH = (1980, 1, 1, 0, 0, 0)


def packages(directory: str) -> list[str]:
    """The importable names in a directory that pip installed into."""
    return sorted(
        name
        for name in os.listdir(directory)
        if name not in LEFT_OUT and not name.endswith((".dist-info", "__pycache__"))
    )


def stage(target: str, source: str, names: list[str]) -> None:
    os.makedirs(target)
    for name in names:
        os.symlink(os.path.join(source, name), os.path.join(target, name))


def files(directory: str) -> list[str]:
    """The files below a directory, links followed, without compiled code."""
    found = []
    for base, directories, names in os.walk(directory, followlinks=True):
        directories[:] = sorted(d for d in directories if d != "__pycache__")
        found += [
            os.path.relpath(os.path.join(base, name), directory)
            for name in sorted(names)
            if not name.endswith((".pyc", ".so", ".pyi"))
        ]
    return found


def magic(interpreter: str) -> bytes:
    code = "import importlib.util, sys; sys.stdout.buffer.write(importlib.util.MAGIC_NUMBER)"
    return subprocess.run([interpreter, "-IS", "-c", code], check=True, stdout=-1).stdout


def bundle(interpreter: str, output: str, directories: list[str]) -> bytes:
    script, loader = os.path.join(HERE, "bundle.py"), os.path.join(HERE, "loader.py")
    subprocess.run([interpreter, "-IS", script, output, loader, *directories], check=True)
    with open(output, "rb") as file:
        return file.read()


def version() -> str:
    with open(os.path.join(ROOT, "podpy", "version.py"), encoding="utf-8") as file:
        found = re.search(r'^VERSION = "(.+)"$', file.read(), re.MULTILINE)
    assert found, "podpy/version.py names no version"
    return found[1]


def header(bundles: dict[bytes, bytes]) -> bytes:
    """The shell header with the place of each bundle behind it; numbers have a fixed width."""
    with open(os.path.join(HERE, "header.sh"), encoding="utf-8") as file:
        text = file.read().replace("@VERSION@", version())

    def filled(start: int) -> bytes:
        places = []
        for number, data in bundles.items():
            places.append(f'b"{_escaped(number)}": ({start:10d}, {len(data):10d})')
            start += len(data)
        return text.replace("@BUNDLES@", ", ".join(places)).encode()

    return filled(len(filled(0)))


def _escaped(data: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in data)


def write_archive(path: str, directories: list[str]) -> None:
    """Append the zip archive of the sources."""
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        for directory in directories:
            for name in files(directory):
                entry = zipfile.ZipInfo(name, _EPOCH)
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = 0o644 << 16
                with open(os.path.join(directory, name), "rb") as file:
                    archive.writestr(entry, file.read())


def main() -> None:
    output, dependencies, *interpreters = sys.argv[1:]
    with tempfile.TemporaryDirectory() as work:
        own, others = os.path.join(work, "own"), os.path.join(work, "others")
        stage(own, ROOT, ["podpy"])
        stage(others, dependencies, packages(dependencies))
        bundles: dict[bytes, bytes] = {}
        for interpreter in interpreters:
            data = bundle(interpreter, os.path.join(work, "bundle"), [own, others])
            bundles.setdefault(magic(interpreter), data)
        made = os.path.join(work, "podpy.pyz")
        with open(made, "wb") as file:
            file.write(header(bundles))
            for data in bundles.values():
                file.write(data)
        write_archive(made, [own, others])
        with open(made, "rb") as file:
            content = file.read()
    temporary = f"{output}.{os.getpid()}.tmp"
    with open(temporary, "wb") as file:
        file.write(content)
    os.chmod(temporary, 0o755)
    os.rename(temporary, output)


main()
