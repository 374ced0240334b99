"""The importer inside ``podpy.pyz``: modules come out of the bundle of compiled code.

Run by the launcher with ``PATH`` (the archive), ``FD`` (the archive, open),
``BODY`` (where the code begins in it) and ``INDEX`` (see ``bundle.py``) in its globals.

A module is one ``pread``.  The descriptor stays open (close-on-exec), so that
a long-lived process goes on with the version it started with when the archive
is replaced; a child that closed it opens the archive again, if it is the same.
"""

import marshal
import posix
import sys
from _frozen_importlib import ModuleSpec


class Bundle:
    """Finder and loader of ``importlib`` for the modules of one archive."""

    def __init__(self, path, fd, body, index):
        self.archive = path
        self._fd = fd
        self._body = body
        self._index = index
        self._identity = _identity(fd)
        self._sources = None

    def find_spec(self, name, path=None, target=None):
        entry = self._index.get(name)
        if entry is None:
            return None
        base = f"{self.archive}/{name.replace('.', '/')}"
        spec = ModuleSpec(
            name, self, origin=base + ("/__init__.py" if entry[2] else ".py"), is_package=entry[2]
        )
        spec.has_location = True
        if entry[2]:
            spec.submodule_search_locations.append(base)
        return spec

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        exec(self.get_code(module.__name__), module.__dict__)

    def get_code(self, name):
        """The code object of a module: ``importlib``'s interface, used for lean processes too."""
        try:
            offset, size, _ = self._index[name]
        except KeyError:
            raise ImportError(f"{self.archive} holds no module {name}", name=name) from None
        return marshal.loads(posix.pread(self._open(), size, self._body + offset))

    def is_package(self, name):
        return self._index[name][2]

    def get_filename(self, name):
        return self.find_spec(name).origin

    def get_source(self, name):
        """For tracebacks; read from the zip archive."""
        return self._zip().get_data(self.get_filename(name)).decode("utf-8")

    def get_data(self, path):
        """A data file by its path, which begins with that of the archive."""
        return self._zip().get_data(path)

    def _zip(self):
        if self._sources is None:
            import zipimport

            self._sources = zipimport.zipimporter(self.archive)
        return self._sources

    def _open(self):
        """The descriptor, or a new one of the same file where a child closed it."""
        try:
            if _identity(self._fd) == self._identity:
                return self._fd
        except OSError:
            pass
        self._fd = posix.open(self.archive, posix.O_RDONLY | posix.O_CLOEXEC)
        if _identity(self._fd) != self._identity:
            raise ImportError(f"{self.archive} was replaced while podpy ran: run it again")
        return self._fd


def _identity(fd):
    status = posix.fstat(fd)
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


sys.meta_path.insert(0, Bundle(PATH, FD, BODY, INDEX))  # noqa: F821
