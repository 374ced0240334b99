"""Who a container's process is: ``--user`` and the image's own user database.

The container's ``/etc/passwd`` and ``/etc/group`` are hostile input: they are
opened inside the container's root (:func:`read_database`) and parsed here, not
by the C library, whose NSS plug-ins would come from the container.

The user specification is ``USER[:GROUP]``, each a name or a decimal number; a
number is always an id, never the name of an account.  What cannot be parsed or
found is an error and never falls back to root.  As with docker, a number
without an account has group 0 and home ``/``, an explicit group takes the place
of all groups of the account, and ``USER:`` means ``USER``; ``:GROUP`` alone is
refused, because it would mean root without saying so.
"""

from __future__ import annotations

import errno
import os
import stat

from podpy.errors import ImageError, UsageError
from podpy.kernel import libc
from podpy.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LARGEST_ID = 0xFFFFFFFE
"""2³²-1 means "leave it as it is" to setresuid(2) and is nobody's id."""

LARGEST_DATABASE = 8 << 20
KEEP_GROUPS = "keep-groups"

_DIGITS = frozenset("0123456789")


@record
class Credentials:
    """The ids a process runs with inside the container.

    ``groups`` is the whole supplementary list, the primary group included.
    ``keep_groups`` leaves the caller's own groups in place instead
    (``--group-add keep-groups``).
    """

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str = "/"
    keep_groups: bool = False


@record
class _Account:
    name: str
    uid: int
    gid: int
    home: str


@record
class _Group:
    name: str
    gid: int
    members: tuple[str, ...]


def resolve(root_fd: int, user: str, extra_groups: Iterable[str] = ()) -> Credentials:
    """The credentials of ``user`` in the container whose root directory is ``root_fd``.

    :class:`UsageError` when the specification is malformed or names nobody,
    :class:`ImageError` when the databases are not readable regular files.
    Imports nothing and asks nobody: safe between ``setns`` and ``execve``.
    """
    passwd = read_database(root_fd, "etc/passwd")
    groups = read_database(root_fd, "etc/group")
    return find(user, tuple(extra_groups), passwd, groups)


def read_database(root_fd: int, path: str) -> bytes:
    """The content of a small regular file below ``root_fd``; empty when there is none.

    Symbolic links stay inside the root.  A FIFO, a device or an endless file is
    refused without blocking on it.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
    scope = libc.RESOLVE_IN_ROOT | libc.RESOLVE_NO_MAGICLINKS
    try:
        fd = libc.openat2(root_fd, path, flags, resolve=scope)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return b""
        raise ImageError(f"the container's /{path}: {error.strerror}") from None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"the container's /{path} is not a regular file")
        return _read_limited(fd, path)
    finally:
        os.close(fd)


def _read_limited(fd: int, path: str) -> bytes:
    chunks, left = [], LARGEST_DATABASE + 1
    while left > 0 and (chunk := os.read(fd, min(left, 1 << 16))):
        chunks.append(chunk)
        left -= len(chunk)
    if left <= 0:
        raise ImageError(f"the container's /{path} is larger than {LARGEST_DATABASE >> 20} MiB")
    return b"".join(chunks)


def find(user: str, extra_groups: tuple[str, ...], passwd: bytes, group: bytes) -> Credentials:
    """:func:`resolve` on the databases' content."""
    who, chosen_group = split(user)
    account = _find_account(who, passwd)
    groups = tuple(_group_lines(group))
    if chosen_group:
        gid, member_of = _group_id(chosen_group, groups), []
    else:
        gid = account.gid
        member_of = [g.gid for g in groups if account.name and account.name in g.members]
    keep = KEEP_GROUPS in extra_groups
    if keep and len(extra_groups) > 1:
        raise UsageError("the group keep-groups cannot be combined with other groups")
    added = [] if keep else [_group_id(name, groups) for name in extra_groups]
    return Credentials(
        uid=account.uid,
        gid=gid,
        groups=tuple(dict.fromkeys((gid, *member_of, *added))),
        home=account.home or "/",
        keep_groups=keep,
    )


def knows(passwd: bytes, uid: int) -> bool:
    """Some account of passwd(5) content has this uid."""
    return any(account.uid == uid for account in _account_lines(passwd))


def split(user: str) -> tuple[str, str]:
    """``USER[:GROUP]`` as two strings, the second empty when not given."""
    if not user:
        return "0", ""
    who, colon, group = user.partition(":")
    if not who:
        raise UsageError(f"user {user!r}: no user before the colon")
    if ":" in group:
        raise UsageError(f"user {user!r}: more than one colon")
    return who, group if colon else ""


def number(text: str) -> int | None:
    """A decimal id, or None when ``text`` is a name; :class:`UsageError` when too large.

    Only ASCII digits: ``int()`` would also take ``+1``, ``1_0`` and ``١``.
    """
    if not text or not _DIGITS.issuperset(text):
        return None
    if len(text) > len("4294967295") + 10 or int(text) > LARGEST_ID:
        raise UsageError(f"{text!r} is too large for a user or group id")
    return int(text)


def _find_account(who: str, passwd: bytes) -> _Account:
    uid = number(who)
    for account in _account_lines(passwd):
        if account.uid == uid or (uid is None and account.name == who):
            return account
    if uid is None:
        raise UsageError(f"unable to find user {who}: no matching entries in passwd file")
    return _Account(name="", uid=uid, gid=0, home="/")


def _group_id(group: str, groups: tuple[_Group, ...]) -> int:
    gid = number(group)
    if gid is not None:
        return gid
    for entry in groups:
        if entry.name == group:
            return entry.gid
    raise UsageError(f"unable to find group {group}: no matching entries in group file")


def _fields(database: bytes, count: int) -> Iterator[list[str]]:
    for line in database.split(b"\n"):
        fields = os.fsdecode(line.strip()).split(":")
        if len(fields) >= count and fields[0] and not fields[0].startswith(("#", "+", "-")):
            yield fields


def _valid(text: str) -> int | None:
    try:
        return number(text)
    except UsageError:
        return None


def _account_lines(passwd: bytes) -> Iterator[_Account]:
    """The well-formed lines of passwd(5); a malformed line describes nobody."""
    for fields in _fields(passwd, 4):
        uid, gid = _valid(fields[2]), _valid(fields[3])
        if uid is not None and gid is not None:
            home = fields[5] if len(fields) > 5 else ""
            yield _Account(name=fields[0], uid=uid, gid=gid, home=home)


def _group_lines(group: bytes) -> Iterator[_Group]:
    """The well-formed lines of group(5)."""
    for fields in _fields(group, 3):
        gid = _valid(fields[2])
        if gid is not None:
            members = fields[3].split(",") if len(fields) > 3 else []
            yield _Group(name=fields[0], gid=gid, members=tuple(m.strip() for m in members if m))
