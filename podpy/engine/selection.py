"""Which containers a verb is about: by name, ``--all``, ``--latest``, filters, id files."""

from __future__ import annotations

from podpy.engine.context import Outcome
from podpy.errors import NotFound, PodpyError, StoreError, UsageError
from podpy.storage import containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from podpy.engine.context import Context
    from podpy.model import Container


def each(
    ctx: Context,
    names: Iterable[str],
    *,
    all: bool = False,
    latest: bool = False,
    filters: Iterable[str] = (),
    cidfile: Iterable[str] = (),
    ignore: bool = False,
    damaged: bool = False,
) -> Iterator[tuple[str, Container | PodpyError]]:
    """What was asked for, each with its container or the reason why there is none.

    ``all``, ``latest`` and ``filters`` choose among all containers and exclude
    names.  With ``ignore``, what does not exist is left out.  One whose
    files are damaged is an error, unless the caller takes ``damaged`` ones.
    """
    given = [*names, *(_from_file(path, ignore) for path in cidfile)]
    given = [name for name in given if name]
    if all or latest or tuple(filters):
        if given:
            raise UsageError("names and --all, --latest or --filter exclude each other")
        for container in _chosen(ctx, latest, tuple(filters)):
            yield container.record.id, container if damaged else _whole(container)
        return
    if not given and not cidfile:
        raise UsageError("you must provide at least one container name or id")
    for name in given:
        try:
            found = containers.resolve_any(ctx.store, name)
            yield name, found if damaged else _whole(found)
        except NotFound as error:
            if not ignore:
                yield name, error
        except PodpyError as error:
            yield name, error


def _whole(container: Container) -> Container | PodpyError:
    return damaged_error(container) if container.problem else container


def damaged_error(container: Container) -> StoreError:
    name = container.record.name
    return StoreError(f"{name}: {container.problem}", hint=f"`podpy rm -f {name}` removes it")


def _from_file(path: str, ignore: bool) -> str:
    from podpy import files

    try:
        return files.read_bytes(path, limit=4096).decode(errors="replace").strip()
    except FileNotFoundError:
        if ignore:
            return ""
        raise UsageError(f"--cidfile: {path}: no such file") from None
    except OSError as error:
        raise UsageError(f"--cidfile: {path}: {error.strerror}") from None


def _chosen(ctx: Context, latest: bool, filters: tuple[str, ...]) -> Iterable[Container]:
    found = list(containers.every(ctx.store))
    if latest:
        found = sorted(found, key=lambda c: c.record.created)[-1:]
    if filters:
        from podpy.engine import matching

        found = matching.select(ctx, found, filters)
    return found


def outcomes(
    asked: Iterable[tuple[str, Container | PodpyError]],
    verb: Callable[[Container], object],
) -> tuple[Outcome, ...]:
    """Do ``verb`` to each; one failure does not keep it from the others."""
    return tuple(outcome(name, item, verb) for name, item in asked)


def outcome(
    name: str, item: Container | PodpyError, verb: Callable[[Container], object]
) -> Outcome:
    if isinstance(item, PodpyError):
        return Outcome(name=name, error=item)
    try:
        verb(item)
    except PodpyError as error:
        return Outcome(name=name, id=item.record.id, error=error)
    return Outcome(name=name, id=item.record.id)
