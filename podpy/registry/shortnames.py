"""What a name means under ``registries.conf``: candidates, rules, endpoints.

Short names (``alpine``, ``me/app``) name no registry.  In the store, where a
wrong guess does no harm, every place one may have come from is a candidate
(:func:`local_candidates`).  Before anything is fetched an alias decides, else
the search list; with no search list configured ``docker.io`` is searched, as
docker does (:func:`pull_candidates`).

:func:`endpoints` turns a whole reference into the places to ask for it:
mirrors first, then the location that the longest matching prefix gives.
"""

from __future__ import annotations

import sys

from podpy.errors import RegistryError, UsageError
from podpy.records import record, replace
from podpy.registry import reference as references
from podpy.registry.reference import DEFAULT_REGISTRY, LOCAL_REGISTRY, Reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from podpy.settings import Endpoint, Registries, RegistryRule


@record
class Source:
    """One place to ask for an image: the reference as that registry knows it."""

    reference: Reference
    insecure: bool = False
    mirror: bool = False


def local_candidates(text: str, registries: Registries) -> tuple[Reference, ...]:
    """The references that ``text`` may have in the store, most likely first.

    A whole name has one.  A short name may be a local build, an alias, from
    the search list, or from ``docker.io``.
    """
    if not references.is_short(text):
        return (references.parse(text),)
    found = [references.qualify(text, LOCAL_REGISTRY)]
    if (alias := _aliased(text, registries)) is not None:
        found.append(alias)
    found += [references.qualify(text, name) for name in registries.search]
    found.append(references.qualify(text, DEFAULT_REGISTRY))
    return tuple(dict.fromkeys(found))


def pull_candidates(text: str, registries: Registries) -> tuple[Reference, ...]:
    """The references to try to fetch for ``text``, in order; one when it is unambiguous.

    Several candidates are tried in turn in ``permissive`` and ``disabled``
    mode.  In ``enforcing`` mode (the default) they must be chosen from: on a
    terminal by the user, else it is an error that lists them.
    """
    if not references.is_short(text):
        return (references.parse(text),)
    alias = _aliased(text, registries)
    if alias is not None and registries.short_name_mode != "disabled":
        return (alias,)
    search = registries.search or (DEFAULT_REGISTRY,)
    found = tuple(dict.fromkeys(references.qualify(text, name) for name in search))
    if len(found) > 1 and registries.short_name_mode == "enforcing" and not _can_ask():
        names = ", ".join(str(item) for item in found)
        raise UsageError(
            f'short name "{text}" is ambiguous: {names}',
            hint="write the whole name, or make an alias in registries.conf",
        )
    return found


def is_ambiguous(found: tuple[Reference, ...], registries: Registries) -> bool:
    """Whether the user must choose before anything is fetched."""
    return len(found) > 1 and registries.short_name_mode == "enforcing"


def choose(
    text: str, found: tuple[Reference, ...], ask: Callable[[str, tuple[str, ...]], int]
) -> Reference:
    """The candidate that the user picks; ``ask(question, answers)`` returns its index."""
    index = ask(f'which registry has "{text}"?', tuple(str(item) for item in found))
    return found[index]


def _can_ask() -> bool:
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def _aliased(text: str, registries: Registries) -> Reference | None:
    """The whole name an alias gives ``text``, with the tag or digest that ``text`` has."""
    _, path, tag, digest = references.split(text)
    target = registries.aliases.get(path)
    if not target:
        return None
    made = references.parse(target)
    if not tag and not digest:
        return made
    return replace(made, tag=tag, digest=digest)


# --- rules -------------------------------------------------------------------


def endpoints(reference: Reference, registries: Registries) -> tuple[Source, ...]:
    """Where to ask for ``reference``: its mirrors, then its location.

    Raises :class:`RegistryError` when the registry is blocked.
    """
    rule = find_rule(reference, registries)
    if rule is None:
        return (Source(reference=reference),)
    if rule.blocked:
        raise RegistryError(
            f"{reference.name}: registry is blocked by the rule for {rule.prefix!r}",
            hint="see `blocked` in registries.conf",
        )
    mirrors = tuple(
        Source(
            reference=_moved(reference, rule, mirror.location),
            insecure=mirror.insecure,
            mirror=True,
        )
        for mirror in rule.mirrors
        if _serves(mirror, reference)
    )
    origin = _moved(reference, rule, rule.location) if rule.location else reference
    return (*mirrors, Source(reference=origin, insecure=rule.insecure))


def origin(reference: Reference, registries: Registries) -> Source:
    """Where ``reference`` is pushed to: mirrors are for reading only."""
    return endpoints(reference, registries)[-1]


def find_rule(reference: Reference, registries: Registries) -> RegistryRule | None:
    """The rule with the longest prefix that covers ``reference``."""
    fitting = [rule for rule in registries.rules if _covers(rule.prefix, reference)]
    return max(fitting, key=lambda rule: len(rule.prefix), default=None)


def _covers(prefix: str, reference: Reference) -> bool:
    """``prefix`` ends where a component of the reference does; ``*.`` fits subdomains."""
    if prefix.startswith("*."):
        host = reference.registry.rpartition(":")[0] or reference.registry
        return host.endswith(prefix[1:])
    name = str(reference)
    return name == prefix or (name.startswith(prefix) and name[len(prefix)] in "/:@")


def _serves(mirror: Endpoint, reference: Reference) -> bool:
    if mirror.pull == "digest-only":
        return bool(reference.digest)
    return mirror.pull == "all" or not reference.digest


def _moved(reference: Reference, rule: RegistryRule, location: str) -> Reference:
    """``reference`` with the part that the rule's prefix covers replaced by ``location``.

    A location is taken as it stands: no ``library/`` is added to it.
    """
    whole = str(reference)
    covered = len(reference.registry) if rule.prefix.startswith("*.") else len(rule.prefix)
    registry, path, tag, digest = references.split(location + whole[covered:])
    if not registry:
        raise UsageError(f"registries.conf: location {location!r} begins with no registry")
    return Reference(registry=registry, repository=path, tag=tag, digest=digest)
