"""Atomic files, locks and JSON: the only ways podpy writes to the store.

One way to write (:func:`write_atomic`): a temporary file in the same
directory, then ``rename``.  One way to reserve (:func:`create_exclusive`).
One kind of lock (:func:`lock`): ``flock`` on a file that belongs to one object.
JSON goes through the C scanner and encoder of the standard library directly:
importing ``json`` pulls in ``re`` and ``enum``, 8 ms that ``run`` does not have.
"""

from __future__ import annotations

import _json
import errno
import fcntl
import os

from podpy.errors import StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

O_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_DEEPEST = 200  # levels of a tree that are deleted in their place, a descriptor for each


class _ScannerContext:
    """What ``_json.make_scanner`` reads its settings from (see ``json.decoder``)."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float

    def __init__(self) -> None:
        self.memo: dict[str, str] = {}


_WHITESPACE = " \t\n\r"
_CONTEXT: Any = _ScannerContext()
_scan = _json.make_scanner(_CONTEXT)


def loads(text: str | bytes) -> Any:
    """Parse one JSON document; ``ValueError`` when it is not one."""
    if isinstance(text, bytes):
        text = text.decode("utf-8")
    start, length = 0, len(text)
    while start < length and text[start] in _WHITESPACE:
        start += 1
    try:
        value, end = _scan(text, start)
    except StopIteration as stop:
        raise ValueError(f"not JSON at character {stop.value}") from None
    except SystemError:
        # The C scanner looks for its exception in json.decoder, which is not imported here.
        raise ValueError("damaged JSON") from None
    except RecursionError:
        raise ValueError("JSON nested too deeply") from None
    if text[end:].strip(_WHITESPACE):
        raise ValueError(f"text after the JSON document at character {end}")
    return value


def _not_serialisable(value: object) -> Any:
    raise TypeError(f"{type(value).__name__} is not JSON")


def _encoder(separators: tuple[str, str], sort: bool, escape: Any) -> Any:
    return _json.make_encoder(
        {}, _not_serialisable, escape, None, separators[1], separators[0], sort, False, False
    )


_encode = _encoder((",", ":"), False, _json.encode_basestring)
_encode_sorted = _encoder((",", ":"), True, _json.encode_basestring)
_encode_ascii = _encoder((",", ":"), False, _json.encode_basestring_ascii)
_encode_sorted_ascii = _encoder((",", ":"), True, _json.encode_basestring_ascii)


def dumps(value: Any, *, sort_keys: bool = False) -> str:
    """Compact JSON text of ``value`` (dict, list, str, int, float, bool, None).

    Bytes of a path or argument that are not UTF-8 (surrogates in Python's
    texts) are written as escapes, and :func:`loads` gives them back.
    """
    encode = _encode_sorted if sort_keys else _encode
    text = "".join(encode(value, 0))
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            encode = _encode_sorted_ascii if sort_keys else _encode_ascii
            text = "".join(encode(value, 0))
    return text


def read_bytes(path: str, *, dir_fd: int | None = None, limit: int = 64 << 20) -> bytes:
    """The whole of a file; :class:`StoreError` when it is larger than ``limit`` bytes."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        size = os.fstat(fd).st_size
        if size > limit:
            raise StoreError(f"{path}: {size} bytes is more than the limit of {limit}")
        data = b""
        while chunk := os.read(fd, max(size, 4096) + 1):
            data += chunk
            if len(data) > limit:  # a device, a pipe, or a file that grows
                raise StoreError(f"{path}: more than the limit of {limit} bytes")
        return data
    finally:
        os.close(fd)


def read_json(path: str, *, dir_fd: int | None = None) -> Any:
    """A JSON file of the store; :class:`StoreError` names the file when it is damaged."""
    try:
        return loads(read_bytes(path, dir_fd=dir_fd))
    except ValueError as error:
        raise StoreError(
            f"{path}: {error}", hint="remove what it belongs to: `podpy rm -f` or `podpy rmi -f`"
        ) from None


def write_all(fd: int, data: bytes | memoryview) -> None:
    """``write(2)`` until everything is written."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def enlarge(pipe: int) -> None:
    """Make a pipe 1 MiB wide: fewer switches between its two sides (the default is 64 KiB)."""
    try:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 1 << 20)
    except OSError:
        pass  # the user's quota of pipe buffers is used up: slower, not wrong


def temporary_name(path: str) -> str:
    """A name beside ``path`` that nobody else uses: hidden, and marked with our pid."""
    head, tail = os.path.split(path)
    return os.path.join(head, f".{tail}.{os.getpid()}.{os.urandom(4).hex()}.tmp")


def write_atomic(path: str, data: bytes | str, *, mode: int = 0o600, durable: bool = False) -> None:
    """Replace ``path`` in one step.

    A reader sees the old content or the new, never a part.  ``durable`` adds
    ``fsync`` of the file and its directory: for what must survive power loss
    (content, records, names), not for run state.
    """
    if isinstance(data, str):
        data = data.encode("utf-8")
    temporary = temporary_name(path)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        try:
            write_all(fd, data)
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except BaseException:
        unlink(temporary)
        raise
    if durable:
        sync_directory(os.path.dirname(path))


def overwrite(path: str, data: bytes | str) -> None:
    """Write a file's content anew without replacing the file: it is mounted somewhere.

    Whoever reads meanwhile never finds it empty.
    """
    content = data.encode("utf-8") if isinstance(data, str) else data
    fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        write_all(fd, content)
        os.ftruncate(fd, len(content))
    finally:
        os.close(fd)


def write_json(path: str, value: Any, *, durable: bool = False) -> None:
    """:func:`write_atomic` of compact JSON."""
    write_atomic(path, dumps(value) + "\n", durable=durable)


def create_exclusive(path: str, data: bytes | str, *, mode: int = 0o600) -> bool:
    """Create ``path`` with its whole content, or return False because it exists.

    ``link(2)`` of a finished file: the name never shows a half-written one.
    """
    temporary = temporary_name(path)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        try:
            write_all(fd, data.encode("utf-8") if isinstance(data, str) else data)
        finally:
            os.close(fd)
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        unlink(temporary)
    return True


def sync_directory(path: str) -> None:
    """``fsync`` a directory, so that a rename in it survives power loss."""
    fd = os.open(path or ".", O_DIR)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_directory(path: str, mode: int = 0o700) -> None:
    """Like ``mkdir -p``: every missing parent is made, an existing directory is no error."""
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        if not os.path.isdir(path):
            raise
    except FileNotFoundError:
        make_directory(os.path.dirname(path), mode)
        make_directory(path, mode)


def unlink(path: str) -> bool:
    """Remove a file; False when it was not there."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True


def list_directory(path: str) -> list[str]:
    """The visible names in a directory, sorted; empty when there is no such directory."""
    try:
        return sorted(name for name in os.listdir(path) if not name.startswith("."))
    except FileNotFoundError:
        return []


class lock:
    """``flock`` on ``path`` for the length of a ``with`` block.

    The file is made when missing and never removed while locked by others.
    ``blocking=False`` raises ``BlockingIOError`` at once when it is held.
    """

    def __init__(self, path: str, *, shared: bool = False, blocking: bool = True) -> None:
        self._path = path
        self._operation = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        if not blocking:
            self._operation |= fcntl.LOCK_NB
        self._fd = -1

    def __enter__(self) -> lock:
        while True:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, self._operation)
                # The holder before us may have removed the file: then ours locks nothing.
                if is_at(fd, self._path):
                    self._fd = fd
                    return self
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)

    def __exit__(self, *exc: object) -> None:
        # Unlocked before it is closed: a child forked meanwhile holds a copy of it.
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        os.close(self._fd)
        self._fd = -1

    def remove(self) -> None:
        """Unlink the file while it is held; whoever waits for it then makes a new one."""
        unlink(self._path)


def is_at(fd: int, path: str) -> bool:
    """Whether an open file is still the one that ``path`` names."""
    try:
        named = os.stat(path)
    except FileNotFoundError:
        return False
    held = os.fstat(fd)
    return (held.st_dev, held.st_ino) == (named.st_dev, named.st_ino)


def remove_tree(path: str) -> list[str]:
    """Delete a tree as the calling user; return the paths that could not be removed.

    Never follows a symbolic link and never leaves the tree: every step goes
    through a directory descriptor.  A container may have nested directories by
    the thousand: what lies too deep is moved to the top of the tree first.
    """
    removal = _Removal()
    parent = os.open(os.path.dirname(path) or ".", O_DIR)
    try:
        removal.entry(parent, os.path.basename(path), path)
    finally:
        os.close(parent)
    return removal.left


class _Removal:
    """One tree on its way out: what could not be deleted, and how deep we are."""

    def __init__(self) -> None:
        self.left: list[str] = []
        self._above: list[int] = []  # descriptors, from the top of the tree down
        self._moved: list[str] = []

    def entry(self, dir_fd: int, name: str, shown: str) -> None:
        try:
            os.unlink(name, dir_fd=dir_fd)
            return
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno not in (errno.EISDIR, errno.EPERM, errno.EACCES):
                raise
        try:
            if len(self._above) > _DEEPEST:
                self._move_up(dir_fd, name)
                return
            fd = os.open(name, O_DIR | os.O_NOFOLLOW, dir_fd=dir_fd)
        except OSError:
            self.left.append(shown)
            return
        self._contents(fd, shown)
        try:
            os.rmdir(name, dir_fd=dir_fd)
        except FileNotFoundError:
            pass
        except OSError:
            self.left.append(shown)

    def _move_up(self, dir_fd: int, name: str) -> None:
        moved = os.urandom(16).hex()
        os.rename(name, moved, src_dir_fd=dir_fd, dst_dir_fd=self._above[0])
        self._moved.append(moved)

    def _contents(self, fd: int, shown: str) -> None:
        self._above.append(fd)
        try:
            for child in _names(fd):
                self.entry(fd, child, f"{shown}/{child}")
            while self._moved and len(self._above) == 1:
                child = self._moved.pop()
                self.entry(fd, child, f"{shown}/{child}")
        finally:
            os.close(self._above.pop())


def _names(fd: int) -> list[str]:
    try:
        return os.listdir(fd)
    except OSError:
        return []
