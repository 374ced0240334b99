"""``--userns``, ``--pid``, ``--ipc`` … as what the record says, and id maps computed.

The map functions are pure: they get the caller's ids and subordinate ranges
and return extents ``inside → host``.  A user namespace's map may not name a
host id twice, and each extent must lie in one range of the caller.
"""

from __future__ import annotations

from itertools import pairwise

from podpy.engine import values
from podpy.errors import HostError, UsageError
from podpy.model import IdMapping, UserNamespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from podpy.engine.options import ContainerOptions

    Lookup = Callable[[str], str]
    Ranges = Sequence[tuple[int, int]]

AUTO_SIZE = 1024
NO_RANGES = "add ranges for your user to /etc/subuid and /etc/subgid (`usermod --add-subuids`)"


# --- pid, ipc, uts, cgroup ---------------------------------------------------


def simple(text: str, option: str, words: Iterable[str], lookup: Lookup | None) -> str:
    """``private``, one of ``words``, or ``container:ID`` where the kind can be joined."""
    if text in ("", "private"):
        return "private"
    kind, _, rest = text.partition(":")
    if kind == "container" and rest and lookup is not None:
        return f"container:{lookup(rest)}"
    if text in words:
        return text
    allowed = ["private", *words, *(["container:NAME"] if lookup else [])]
    raise UsageError(f"{option}: invalid mode {text!r}", hint=", ".join(allowed))


# --- user namespace ----------------------------------------------------------


def user(
    options: ContainerOptions,
    *,
    configured: str,
    joined: str,
    lookup: Lookup,
    ids: tuple[int, int],
    ranges: Callable[[str], tuple[Ranges, Ranges]],
    taken: Callable[[], tuple[Ranges, Ranges]],
) -> UserNamespace:
    """The user namespace that ``--userns``, ``--uidmap`` … ask for.

    ``joined`` is the container whose other namespaces are joined: its user
    namespace owns them, so it must be joined as well.  ``ids`` are the
    caller's, ``ranges`` gives the subordinate ranges of the caller (empty
    name) or of a named entry, ``taken`` the host ids of ``auto`` containers.
    """
    explicit = bool(options.uidmap or options.gidmap or options.subuidname or options.subgidname)
    text = options.userns or ("" if explicit else configured)
    if options.userns and explicit:
        raise UsageError("--userns: excludes --uidmap, --gidmap, --subuidname and --subgidname")
    if joined:
        if explicit or text not in ("", "host", f"container:{joined}"):
            raise UsageError(
                "--userns: a container that joins a namespace of another one lives in the"
                " user namespace of that one",
                hint="leave --userns, --uidmap and --gidmap out",
            )
        return UserNamespace(mode="container", target=joined)
    if explicit:
        return _explicit(options, ids, ranges)
    kind, _, rest = text.partition(":")
    if kind in ("", "host", "private"):
        return UserNamespace(mode="host")
    if kind == "container" and rest:
        return UserNamespace(mode="container", target=lookup(rest))
    owned = _owned(ranges(""))
    if kind == "nomap" and not rest:
        return _mapped("nomap", stack(owned[0]), stack(owned[1]))
    if kind == "keep-id":
        return _keep_id(rest, ids, owned)
    if kind == "auto":
        return _auto(rest, owned, taken())
    raise UsageError(
        f"--userns: invalid mode {text!r}", hint="host, keep-id, nomap, auto or container:NAME"
    )


def _mapped(
    mode: str, uid_map: tuple[IdMapping, ...], gid_map: tuple[IdMapping, ...]
) -> UserNamespace:
    return UserNamespace(mode=mode, uid_map=uid_map, gid_map=gid_map)


def _owned(ranges: tuple[Ranges, Ranges]) -> tuple[Ranges, Ranges]:
    if not (ranges[0] and ranges[1]):
        raise HostError("--userns: this user has no subordinate ids to map", hint=NO_RANGES)
    return ranges


def stack(ranges: Ranges, inside: int = 0) -> tuple[IdMapping, ...]:
    """The ranges one after the other, from the id ``inside`` on."""
    found = []
    for first, count in ranges:
        if count > 0:
            found.append(IdMapping(inside=inside, outside=first, count=count))
            inside += count
    return tuple(found)


def take(ranges: Ranges, start: int, count: int) -> tuple[tuple[int, int], ...]:
    """``count`` ids from the position ``start`` of the ranges laid end to end (or fewer)."""
    found, position = [], 0
    for first, length in ranges:
        low, high = max(start, position), min(start + count, position + length)
        if low < high:
            found.append((first + low - position, high - low))
        position += length
    return tuple(found)


def total(ranges: Ranges) -> int:
    return sum(count for _, count in ranges)


def keep_id_map(own: int, ranges: Ranges, inside: int) -> tuple[IdMapping, ...]:
    """Id ``inside`` is the caller; the subordinate ids fill the places below and above."""
    available = total(ranges)
    below = stack(take(ranges, 0, min(inside, available)))
    above = stack(take(ranges, inside, available), inside + 1)
    return (*below, IdMapping(inside=inside, outside=own, count=1), *above)


def _keep_id(rest: str, ids: tuple[int, int], ranges: tuple[Ranges, Ranges]) -> UserNamespace:
    wanted = {"uid": ids[0], "gid": ids[1]}
    for option in filter(None, rest.split(",")):
        key, separator, value = option.partition("=")
        if key not in wanted or not separator:
            raise UsageError(f"--userns: keep-id has no option {option!r}", hint="uid= and gid=")
        wanted[key] = values.integer(value, f"--userns keep-id {key}", highest=2**32 - 2)
    return _mapped(
        "keep-id",
        keep_id_map(ids[0], ranges[0], wanted["uid"]),
        keep_id_map(ids[1], ranges[1], wanted["gid"]),
    )


def kept_user(wanted: UserNamespace, ids: tuple[int, int]) -> str:
    """``UID:GID`` of the caller inside a keep-id container, who is its user unless told else."""
    if wanted.mode != "keep-id":
        return ""
    inside = [
        next(m.inside for m in extents if m.outside == own)
        for extents, own in zip((wanted.uid_map, wanted.gid_map), ids, strict=True)
    ]
    return f"{inside[0]}:{inside[1]}"


def free(ranges: Ranges, taken: Ranges) -> tuple[tuple[int, int], ...]:
    """What is left of ``ranges`` without the ids in ``taken``."""
    left = list(ranges)
    for first, count in taken:
        cut = []
        for start, length in left:
            end, stop = start + length, first + count
            if stop <= start or first >= end:
                cut.append((start, length))
                continue
            if first > start:
                cut.append((start, first - start))
            if stop < end:
                cut.append((stop, end - stop))
        left = cut
    return tuple(left)


def _auto(rest: str, ranges: tuple[Ranges, Ranges], taken: tuple[Ranges, Ranges]) -> UserNamespace:
    """``auto[:size=N]``: ids that no other ``auto`` container has."""
    size = AUTO_SIZE
    for option in filter(None, rest.split(",")):
        key, separator, value = option.partition("=")
        if key != "size" or not separator:
            raise UsageError(f"--userns: auto has no option {option!r}", hint="size=N")
        size = values.integer(value, "--userns auto size", lowest=1)
    maps = []
    for owned, used in zip(ranges, taken, strict=True):
        chosen = take(free(owned, used), 0, size)
        if total(chosen) < size:
            raise HostError(
                f"--userns: not enough unused subordinate ids for auto (needed {size},"
                f" free {total(chosen)})",
                hint="remove unused --userns=auto containers, or a smaller size=",
            )
        maps.append(stack(chosen))
    return _mapped("auto", maps[0], maps[1])


def _explicit(
    options: ContainerOptions,
    ids: tuple[int, int],
    ranges: Callable[[str], tuple[Ranges, Ranges]],
) -> UserNamespace:
    """``--uidmap``/``--gidmap`` (one stands for both), ``--subuidname``/``--subgidname``."""
    own = ranges("")
    maps = []
    sides = (
        ("uid", options.uidmap or options.gidmap, options.subuidname or options.subgidname),
        ("gid", options.gidmap or options.uidmap, options.subgidname or options.subuidname),
    )
    for side, (kind, extents, name) in enumerate(sides):
        base = ((ids[side], 1), *own[side])
        if extents and not (name and _named_only(options, kind)):
            found = tuple(m for text in extents for m in _extent(text, f"--{kind}map", base))
        else:
            found = _of_name(ranges(name)[side], name, kind, own[side])
        check_extents(found, f"--{kind}map")
        maps.append(found)
    return _mapped("map", maps[0], maps[1])


def _named_only(options: ContainerOptions, kind: str) -> bool:
    """This side is given by a name while the other one has extents."""
    return not (options.uidmap if kind == "uid" else options.gidmap)


def _of_name(named: Ranges, name: str, kind: str, own: Ranges) -> tuple[IdMapping, ...]:
    if not named:
        raise UsageError(f"--sub{kind}name: no entry {name!r} in /etc/sub{kind}")
    if any(free((entry,), own) for entry in named):
        raise HostError(
            f"--sub{kind}name: the ids of {name!r} are not yours to map", hint=NO_RANGES
        )
    return stack(named)


def _extent(text: str, option: str, base: Ranges) -> tuple[IdMapping, ...]:
    """``CONTAINER:FROM[:COUNT]``; FROM counts the caller as 0, then the subordinate ids.

    ``@FROM`` is the host's own number.
    """
    parts = text.split(":")
    if len(parts) not in (2, 3):
        raise UsageError(f"{option}: invalid mapping {text!r}", hint="CONTAINER:FROM:COUNT")
    highest = 2**32 - 2
    inside = values.integer(parts[0], option, highest=highest)
    count = values.integer(parts[2], option, lowest=1, highest=highest) if len(parts) == 3 else 1
    if parts[1].startswith("@"):
        outside = values.integer(parts[1][1:], option, highest=highest)
        chosen: Ranges = ((outside, count),)
        outsiders = free(chosen, base)
    else:
        start = values.integer(parts[1], option, highest=highest)
        chosen = take(base, start, count)
        outsiders = () if total(chosen) == count else ((start, count),)
    if outsiders:
        raise UsageError(
            f"{option}: {text!r} needs ids that are not yours: you have {total(base)}",
            hint=NO_RANGES,
        )
    return stack(chosen, inside)


def check_extents(extents: Sequence[IdMapping], option: str) -> None:
    """No id twice, inside or outside: the kernel refuses such maps with a bare EINVAL."""
    for side in ("inside", "outside"):
        spans = sorted((getattr(m, side), m.count) for m in extents)
        for (first, count), (following, _) in pairwise(spans):
            if first + count > following:
                raise UsageError(f"{option}: the {side} ids {following}… are mapped twice")
