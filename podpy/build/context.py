"""What a build reads: its context, its Dockerfile, its ignore file and its named contexts.

A context that is a directory is read where it lies, and nothing of it that is
not asked for; see :mod:`podpy.build.places` for all others.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from podpy.build import places
from podpy.build.ignore import Ignore
from podpy.build.model import Source
from podpy.build.places import STDIN, Area, Request
from podpy.errors import BuildError, HostError, UsageError
from podpy.kernel import process
from podpy.registry import reference as references

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from podpy.build.places import Place
    from podpy.paths import Store

NAMES = ("Containerfile", "Dockerfile", "dockerfile")
IGNORE_FILES = (".containerignore", ".dockerignore")
_PREPROCESSED = ".in"


class Prepared:
    """A build's input, ready to be read; use as a context manager.

    ``directory`` is the context (an empty one where there is none), ``ignore``
    what does not exist in it; ``dockerfile`` is the text of the Dockerfile,
    ``dockerfile_name`` what messages call it; ``named`` are the named contexts.
    ``steps`` numbers the build's steps after those of fetching.
    """

    def __init__(
        self,
        area: Area,
        *,
        directory: str,
        ignore: Ignore,
        dockerfile: str,
        dockerfile_name: str,
        named: Named,
        passing: bool,
    ) -> None:
        self._area = area
        self.steps = area.steps
        self._passing = passing
        self.directory = directory
        self.ignore = ignore
        self.dockerfile = dockerfile
        self.dockerfile_name = dockerfile_name
        self.named = named

    def __enter__(self) -> Prepared:
        return self

    def __exit__(self, *exc: object) -> None:
        self._area.close()

    def source(self) -> Source:
        """The context, for COPY, ADD and mounts."""
        return Source(directory=self.directory, ignore=self.ignore, passing=self._passing)


def prepare(store: Store, request: Request) -> Prepared:
    """Find, fetch and read what a build needs; a context manager that clears away what it unpacked.

    :class:`BuildError` says what is missing or wrong.
    """
    area = Area(store, request)
    try:
        place = places.open_place(area, request.source or _default(request.files))
        text, name, beside = _dockerfile(area, place)
        return Prepared(
            area=area,
            directory=place.directory or area.directory(),
            ignore=_ignore(request, place, beside),
            dockerfile=text,
            dockerfile_name=name,
            named=Named(area, request.named),
            passing=place.is_foreign,
        )
    except BaseException:
        area.close()
        raise


def _default(files: Sequence[str]) -> str:
    """The context where none was named: the directory of the first Dockerfile, as podman has it."""
    for file in files:
        if file != STDIN and not places.is_url(file):
            return os.path.dirname(os.path.abspath(file))
    return "."


# --- the Dockerfile ------------------------------------------------------------


class _Beside:
    """Where an ignore file of a Dockerfile's own would be."""

    def __init__(self, read: Callable[[str], bytes | None], path: str) -> None:
        self._read = read
        self._path = path

    def find(self) -> tuple[bytes, str] | None:
        for ending in IGNORE_FILES:
            name = self._path + ending
            data = self._read(name)
            if data is not None:
                return data, name
        return None


def _dockerfile(area: Area, place: Place) -> tuple[str, str, _Beside | None]:
    """The text of the Dockerfile, its name, and where its own ignore file would be."""
    files = area.request.files
    if place.text is not None:
        if files:
            raise BuildError(
                "-f: the context is a Dockerfile itself",
                hint="name a directory as context, or leave out -f",
            )
        return place.text, NAMES[1], None
    if not files:
        found = place.find(NAMES)
        if found is None:
            raise BuildError(
                f"context {area.request.source or '.'}: neither Containerfile nor Dockerfile in it",
                hint="name one with -f",
            )
        return places.text_of(found[0]), found[1], _Beside(place.read, found[1])
    if area.request.source == STDIN and STDIN in files:
        raise BuildError("-f -: standard input cannot be both the context and the Dockerfile")
    texts = [_named_file(area, place, file) for file in files]
    return "\n".join(text for text, _, _ in texts), texts[0][1], texts[0][2]


def _named_file(area: Area, place: Place, file: str) -> tuple[str, str, _Beside | None]:
    """A Dockerfile of ``-f``.

    ``-`` is standard input.  A path is one of the caller's, else one in the
    context; where the context is not the caller's directory, only an absolute
    path is the caller's.
    """
    if file == STDIN:
        typed = places.read_all(places.chunks(area.request.stdin), "standard input")
        return places.text_of(typed), NAMES[1], None
    if places.is_url(file):
        from podpy.build import remote

        with remote.fetch_url(file, access=area.request.access) as download:
            page = places.read_all(download.chunks(), remote.shown(file))
        return places.text_of(page), remote.shown(file), None
    if not place.is_foreign or os.path.isabs(file):
        for name in _candidates(file):
            data = places.read_file(name)
            if data is not None:
                text = _preprocessed(area, data, name, place.directory)
                return text, _shown(name), _Beside(places.read_file, os.path.abspath(name))
    data = place.read(file)
    if data is None:
        raise BuildError(f"-f {file}: no such file", hint="it is neither here nor in the context")
    if place.is_foreign and file.endswith(_PREPROCESSED):
        raise BuildError(
            f"-f {file}: cpp could include any file of yours, and this one is a stranger's"
        )
    text = _preprocessed(area, data, file, place.directory)
    return text, file, _Beside(place.read, file)


def _candidates(file: str) -> Iterator[str]:
    """The path itself, or the Dockerfile in the directory that it names."""
    if not os.path.isdir(file):
        yield file
        return
    for name in NAMES:
        yield os.path.join(file, name)


def _shown(name: str) -> str:
    """What messages call a file: its path, but for a pipe of the shell."""
    return NAMES[1] if name.startswith(("/dev/fd/", "/proc/")) else name


def _preprocessed(area: Area, data: bytes, name: str, directory: str) -> str:
    """The text of a Dockerfile; one called ``….in`` goes through the C preprocessor first."""
    if not name.endswith(_PREPROCESSED):
        return places.text_of(data)
    program = process.find_program("cpp")
    if not program:
        raise HostError(f"{name}: no program `cpp`", hint="install the package cpp")
    fixed = ("-E", "-P", "-traditional", "-undef", "-iquote", directory)
    argv = (program, *fixed, *area.request.preprocessor, STDIN)
    done = process.run(argv, input=data)
    if done.code:
        reason = done.stderr.decode(errors="replace").strip().splitlines()
        raise BuildError(f"{name}: the preprocessor: {reason[0] if reason else done.code}")
    return places.text_of(done.stdout)


# --- the ignore file -----------------------------------------------------------


def _ignore(request: Request, place: Place, beside: _Beside | None) -> Ignore:
    """The patterns of ``--ignorefile``, of the Dockerfile's own file, or of the context's."""
    if request.ignore_file:
        data = places.read_file(request.ignore_file)
        if data is None:
            raise BuildError(f"--ignorefile {request.ignore_file}: no such file")
        found: tuple[bytes, str] | None = (data, request.ignore_file)
    else:
        found = beside.find() if beside is not None else None
        found = found or place.find(IGNORE_FILES)
    if found is None:
        return Ignore()
    try:
        return Ignore.parse(places.text_of(found[0]))
    except BuildError as error:
        raise BuildError(f"{found[1]}: {error.message}") from None


# --- named contexts --------------------------------------------------------------


class NamedContext:
    """A named context: ``kind`` is ``image`` (``reference``) or ``directory`` (:meth:`source`).

    The ``reference`` of an image in an OCI layout is ``oci-layout://`` with the
    layout's absolute path.  What must be fetched is fetched when it is asked for.
    """

    def __init__(self, area: Area, name: str, text: str) -> None:
        self._area = area
        self._text = text
        self._source: Source | None = None
        self.name = name
        self.kind = "image"
        self.reference = ""
        scheme, separator, rest = text.partition("://")
        if separator and scheme in ("docker-image", "container-image", "docker"):
            self.reference = rest
        elif separator and scheme == "oci-layout":
            self.reference = f"oci-layout://{os.path.abspath(rest)}"
        else:
            self.kind = "directory"

    def source(self) -> Source:
        """The directory, with what its own ignore file leaves of it."""
        if self._source is None:
            if self._text == STDIN:
                raise BuildError(f"build context {self.name}: standard input is no named context")
            place = places.open_place(self._area, self._text)
            if not place.directory:
                raise BuildError(f"build context {self.name}: is neither directory nor archive")
            self._source = Source(
                name=self.name,
                directory=place.directory,
                ignore=_ignore(Request(), place, None),
                passing=place.is_foreign,
            )
        return self._source


class Named(Mapping[str, NamedContext]):
    """The named contexts: each replaces a stage, an image or a directory of its name.

    ``alpine``, ``alpine:latest`` and ``docker.io/library/alpine`` are one name.
    """

    def __init__(self, area: Area, texts: Mapping[str, str]) -> None:
        self._contexts = {
            _canonical(name): NamedContext(area, name, text) for name, text in texts.items()
        }

    def __getitem__(self, name: str) -> NamedContext:
        return self._contexts[_canonical(name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._contexts)

    def __len__(self) -> int:
        return len(self._contexts)


def _canonical(name: str) -> str:
    """A name as docker compares it: a full reference where it can be one."""
    try:
        return str(references.parse(name.lower()))
    except UsageError:
        return name.lower()
