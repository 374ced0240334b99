"""Compile modules into one bundle for the interpreter this runs on: run by ``zipapp.py``.

    python3.X -IS bundle.py OUTPUT LOADER SOURCE_DIRECTORY...

A bundle is 8 bytes (length of the head, little endian), the head (marshalled: the
loader's code and an index), and one marshalled code object per module.  The
index maps a module's name to (offset, size, is_package), counted from the end
of the head.
"""

import marshal
import os
import sys


def modules(directory):
    """``(name, path, is_package)`` of every module below a directory, sorted."""
    for base, directories, names in os.walk(directory, followlinks=True):
        directories[:] = sorted(d for d in directories if d != "__pycache__" and "." not in d)
        for name in sorted(names):
            if name.endswith(".py"):
                path = os.path.join(base, name)
                parts = os.path.relpath(path, directory)[:-3].split(os.sep)
                package = parts[-1] == "__init__"
                yield ".".join(parts[:-1] if package else parts), path, package


def compiled(path, shown):
    with open(path, "rb") as file:
        return compile(file.read(), shown, "exec", dont_inherit=True)


def main():
    output, loader, *directories = sys.argv[1:]
    index = {}
    body = bytearray()
    for directory in directories:
        for name, path, package in modules(directory):
            try:
                code = compiled(path, "podpy.pyz/" + os.path.relpath(path, directory))
            except SyntaxError:  # written for another version; its sources stay in the archive
                continue
            data = marshal.dumps(code)
            index[name] = (len(body), len(data), package)
            body += data
    head = marshal.dumps((compiled(loader, "podpy.pyz/loader.py"), index))
    with open(output, "wb") as file:
        file.write(len(head).to_bytes(8, "little") + head + bytes(body))


main()
