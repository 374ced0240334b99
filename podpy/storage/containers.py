"""Containers on disk: their records, their names, and the state that is true.

::

    containers/<id>/container.json    what was asked for   (create, rename)
                   /state.json        what is              (its supervisor alone)
                   /wanted.json       what the user wants  (start, stop)
    containers/.names/<name>          {"id": …, "owner": process}

A container exists from the ``rename`` that publishes its directory to the one
that takes it away, and in between it is whole.  Its name is reserved before
and released before, so a kill at any point leaves one of these, all harmless:

=============================  ===============================================
killed after                   leaves
=============================  ===============================================
the name is reserved           a reservation of a dead owner: the next taker
                               replaces it, ``prune`` removes it
the directory is staged        the same, and a staging entry of a dead owner
the directory is published     a container as ``create`` makes it
a removal released the name    a container known by its id and, to
                               :func:`resolve`, by its name
a removal renamed the tree     a staging entry of a dead owner
=============================  ===============================================

A reservation counts while the record of its id bears that name or its owner
lives.  It is taken over under a lock of that one name; no lock is common to
two names, and readers take none.
"""

from __future__ import annotations

import errno
import os

from podpy import files
from podpy.errors import Ambiguous, Conflict, HostError, NotFound, StoreError, UsageError
from podpy.kernel import process
from podpy.model import Container, ContainerRecord, LogConfig, ProcessIdentity, UserNamespace
from podpy.netmodel import NetworkMode
from podpy.records import from_dict, replace, to_dict
from podpy.storage import staging, states

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from podpy.paths import Store

VERSION = 1
_HEX = frozenset("0123456789abcdef")
_NAME_FIRST = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_NAME_REST = _NAME_FIRST | frozenset("_.-")
_NAME_LIMIT = 200
_ID_LENGTH = 64
_DRAWS = 12


def new_id() -> str:
    """64 random hexadecimal digits."""
    return os.urandom(_ID_LENGTH // 2).hex()


# --- names -------------------------------------------------------------------


def check_name(name: str) -> None:
    """:class:`UsageError` unless ``name`` is one that docker and podman accept."""
    if name[:1] not in _NAME_FIRST or not _NAME_REST.issuperset(name) or not name:
        raise UsageError(
            f"container name {name!r}: names must match [a-zA-Z0-9][a-zA-Z0-9_.-]*",
        )
    if len(name) > _NAME_LIMIT:
        raise UsageError(f"container name {name[:20]}…: longer than {_NAME_LIMIT} characters")


def reserve(store: Store, name: str, container_id: str) -> None:
    """Take ``name`` for a container that is about to exist; :class:`Conflict` when held."""
    path = _reservation(store, name)
    text = files.dumps({"id": container_id, "owner": to_dict(process.identity())})
    while not files.create_exclusive(path, text):
        with files.lock(f"{store.locks}/container-name.{name}") as lock:
            holder = _holder(store, name)
            if holder:
                lock.remove()
                raise Conflict(
                    f'the container name "{name}" is already in use by container {holder[:12]}',
                    hint=f"remove or rename that container, or use --replace: `podpy rm {name}`",
                )
            files.unlink(path)
            lock.remove()


def release(store: Store, name: str, container_id: str) -> None:
    """Give ``name`` back, if ``container_id`` is the one that holds it."""
    if _reserved_id(store, name) == container_id:
        files.unlink(_reservation(store, name))


def _reservation(store: Store, name: str) -> str:
    return f"{store.container_names}/{name}"


def _read_reservation(store: Store, name: str) -> tuple[str, ProcessIdentity | None]:
    try:
        values = files.loads(files.read_bytes(_reservation(store, name)))
        owner = values["owner"]
        return values["id"], from_dict(ProcessIdentity, owner) if owner else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return "", None


def _reserved_id(store: Store, name: str) -> str:
    return _read_reservation(store, name)[0]


def _holder(store: Store, name: str) -> str:
    """The id a reservation stands for, or an empty string when it is stale."""
    container_id, owner = _read_reservation(store, name)
    if not container_id:
        return ""
    if process.is_alive(owner):
        return container_id
    try:
        record = _find_record(store, container_id)
    except StoreError:
        return container_id  # damaged, and still there
    return container_id if record is not None and record.name == name else ""


# --- making and changing -----------------------------------------------------


def create(
    store: Store, record: ContainerRecord, populate: Callable[[str], None]
) -> ContainerRecord:
    """Publish a new container and return its record.

    An empty name is drawn at random.  ``populate`` fills the staged directory
    (upper and work directories) before it becomes visible.  Nothing is left
    behind when a step fails.
    """
    record = _with_name(store, record)
    staged = ""
    try:
        staged = staging.create(store, "container")
        populate(staged)
        _write_record(staged, record)
        os.rename(staged, store.container(record.id))
    except OSError as error:
        _abandon(store, record, staged)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise HostError(
                f"container {record.name}: {store.containers}: {error.strerror}",
                hint="free some space, for example with `podpy image prune`",
            ) from None
        raise
    except BaseException:
        _abandon(store, record, staged)
        raise
    if not record.remove:
        files.sync_directory(store.containers)
    return record


def _with_name(store: Store, record: ContainerRecord) -> ContainerRecord:
    if record.name:
        check_name(record.name)
        reserve(store, record.name, record.id)
        return record
    from podpy.storage import nicknames

    for attempt in range(_DRAWS):
        name = nicknames.draw(attempt)
        try:
            reserve(store, name, record.id)
        except Conflict:
            continue
        return replace(record, name=name)
    raise Conflict("no free container name was found", hint="choose one with --name")


def _abandon(store: Store, record: ContainerRecord, staged: str) -> None:
    release(store, record.name, record.id)
    if staged and os.path.isdir(staged):
        staging.discard(store, staged)


def _write_record(directory: str, record: ContainerRecord) -> None:
    """Durable, except for containers that no power failure needs to bring back."""
    path = f"{directory}/container.json"
    files.write_json(path, to_dict(record), durable=not record.remove)


def update(store: Store, record: ContainerRecord) -> None:
    """Replace a container's record; its name stays as it is.  Under the container's lock."""
    _write_record(store.container(record.id), record)


def rename(store: Store, container: Container, name: str) -> None:
    """Give a container another name; both names are known for an instant, never none."""
    name = name.removeprefix("/")  # docker shows names with a slash in front
    check_name(name)
    old = container.record
    if old.name == name:
        raise Conflict(f'the container name "{name}" is already in use by this container')
    reserve(store, name, old.id)
    try:
        _write_record(store.container(old.id), replace(old, name=name))
    except BaseException:
        release(store, name, old.id)
        raise
    release(store, old.name, old.id)


def remove(store: Store, record: ContainerRecord) -> None:
    """Take a container that is not live out of sight, then delete its files."""
    release(store, record.name, record.id)
    staging.discard(store, store.container(record.id))
    run = store.container_run(record.id)
    if os.path.isdir(run):
        staging.remove_tree(run)


def set_wanted(store: Store, container_id: str, wanted: str) -> None:
    """Record what the user asked for last: ``running`` or ``stopped``."""
    try:
        files.write_json(f"{store.container(container_id)}/wanted.json", {"wanted": wanted})
    except FileNotFoundError:
        return  # removed meanwhile: nothing is wanted of it any more


def sweep(store: Store) -> None:
    """Remove what dead processes left: stale name reservations and staging entries."""
    for name in files.list_directory(store.container_names):
        if not _holder(store, name):
            with files.lock(f"{store.locks}/container-name.{name}") as lock:
                if not _holder(store, name):
                    files.unlink(_reservation(store, name))
                lock.remove()
    _sweep_temporaries(store.container_names)
    if os.path.isdir(store.networks):
        _sweep_temporaries(store.networks)
    staging.sweep(store)


def _sweep_temporaries(directory: str) -> None:
    """Remove the half-written files of dead processes (:func:`podpy.files.temporary_name`)."""
    for name in os.listdir(directory):
        parts = name.rsplit(".", 3)
        is_temporary = name.startswith(".") and len(parts) == 4 and parts[3] == "tmp"
        if is_temporary and parts[1].isdigit() and process.start_time(int(parts[1])) < 0:
            files.unlink(f"{directory}/{name}")


# --- reading -----------------------------------------------------------------


def ids(store: Store) -> list[str]:
    """The ids of all containers."""
    return [name for name in files.list_directory(store.containers) if _is_id(name)]


def read(store: Store, container_id: str) -> Container:
    """One container by its full id; :class:`NotFound` when there is none."""
    record = _find_record(store, container_id)
    if record is None:
        raise _missing(container_id)
    return Container(record=record, state=states.read(store, container_id))


def every(store: Store) -> Iterator[Container]:
    """All containers.  One whose record is damaged is shown as such, so that it can be removed."""
    for container_id in ids(store):
        try:
            yield read_any(store, container_id)
        except NotFound:
            continue  # removed since the directory was listed


def resolve(store: Store, text: str) -> Container:
    """The container of that name, id, or unique beginning of an id.

    Raises :class:`StoreError` when its files are damaged.
    """
    found = resolve_any(store, text)
    if found.problem:
        raise StoreError(found.problem, hint=f"`podpy rm -f {found.record.name}` removes it")
    return found


def resolve_any(store: Store, text: str) -> Container:
    """The same, also one whose files are damaged: what may be done is to remove it."""
    name = text[1:] if text.startswith("/") else text
    if name and _NAME_REST.issuperset(name):
        held = _reserved_id(store, name)
        found = _find_any(store, held) if held else None
        if found is not None and found.record.name == name:
            return found
        return _resolve_id(store, name)
    raise _missing(text)


def _resolve_id(store: Store, text: str) -> Container:
    if _is_id(text) and os.path.isdir(store.container(text)):
        return read_any(store, text)
    matches: list[str] = []
    if _HEX.issuperset(text):
        matches = [container_id for container_id in ids(store) if container_id.startswith(text)]
    if len(matches) > 1:
        shown = ", ".join(match[:12] for match in matches[:5])
        raise Ambiguous(
            f"more than one container matches {text!r}: {shown}", hint="give more digits of the id"
        )
    if matches:
        return read_any(store, matches[0])
    for container in every(store):  # a removal that was killed half-way has released the name
        if container.record.name == text:
            return container
    raise _missing(text)


def read_any(store: Store, container_id: str) -> Container:
    """One container by its full id, even if it is damaged; :class:`NotFound` without one."""
    found = _find_any(store, container_id)
    if found is None:
        raise _missing(container_id)
    return found


def _find_any(store: Store, container_id: str) -> Container | None:
    try:
        record = _find_record(store, container_id)
    except StoreError as error:
        return _damaged(store, container_id, error.message)
    if record is None:
        return None
    try:
        return Container(record=record, state=states.read(store, container_id))
    except StoreError as error:
        state = states.known(store, container_id)
        return Container(record=record, state=state, problem=error.message)


def _missing(text: str) -> NotFound:
    return NotFound(f'no container with name or ID "{text}" found: no such container')


def _is_id(text: str) -> bool:
    return len(text) == _ID_LENGTH and _HEX.issuperset(text)


def _find_record(store: Store, container_id: str) -> ContainerRecord | None:
    path = f"{store.container(container_id)}/container.json"
    try:
        values = files.read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not isinstance(values, dict) or values.get("id") != container_id:
        raise StoreError(f"{path}: is not the record of this container")
    try:
        if values.get("version", 0) > VERSION:
            raise StoreError(
                f"{path}: made by a newer podpy (version {values['version']})",
                hint="use that podpy, or a newer one",
            )
        return from_dict(ContainerRecord, values)
    except (AttributeError, TypeError, ValueError) as error:
        raise StoreError(f"{path}: {error}") from None


def _damaged(store: Store, container_id: str, reason: str) -> Container:
    """What is known of a container without its record: its id, and the name held for it."""
    held = (
        name
        for name in files.list_directory(store.container_names)
        if _reserved_id(store, name) == container_id
    )
    record = ContainerRecord(
        id=container_id,
        name=next(held, container_id[:12]),
        created=0.0,
        argv=(),
        network=NetworkMode(kind="none"),
        user_namespace=UserNamespace(),
        log=LogConfig(driver="none"),
    )
    return Container(record=record, state=states.known(store, container_id), problem=reason)
