"""WORKDIR: the directory is there, and everything above it."""

from __future__ import annotations

from podpy.build import copying
from podpy.build.owners import Book
from podpy.build.placing import Placer
from podpy.errors import BuildError, UsageError
from podpy.kernel import userns
from podpy.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podpy.build.bench import Bench
    from podpy.build.inside import Upper
    from podpy.build.model import StepResult


@record
class DirectoryWork:
    """One WORKDIR: an absolute path, and the stage's user, whose the new directories are."""

    path: str
    user: str = ""


def key(work: DirectoryWork, bench: Bench) -> str:
    return bench.key("WORKDIR", work.path, work.user)


def perform(work: DirectoryWork, bench: Bench) -> StepResult:
    """Make what is missing of a path, with mode 755."""
    known = key(work, bench)
    found = bench.lookup(known)
    if found is not None:
        return found
    upper = bench.upper()
    single = userns.root_map().is_single
    bench.inside(lambda root: _make(root, work, upper, single), writing=upper)
    result = bench.commit(upper)
    bench.remember((known,), result)
    return result


def _make(root: int, work: DirectoryWork, upper: Upper, single: bool) -> None:
    """Every directory on the way, where it is missing; links are followed inside the root."""
    book = Book(root, upper) if single else None
    try:
        Placer(root, work.path, owner=_owner(root, work.user), book=book).directory()
    except OSError as error:
        raise BuildError(f"WORKDIR {work.path}: {error.strerror}") from None


def _owner(root: int, user: str) -> tuple[int, int] | None:
    """As BuildKit: whom ``--chown`` would mean; root, where the image has no such account."""
    try:
        return copying.owner(root, user)
    except UsageError:
        return None
