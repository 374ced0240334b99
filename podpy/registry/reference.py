"""Image references: parsed once, strictly, into a record.

The grammar is that of the distribution project (and of docker and podman)::

    reference  = [registry "/"] path [":" tag] ["@" digest]
    registry   = host [":" port]          with a dot, a port or an upper-case letter, or "localhost"
    path       = component *("/" component)
    component  = alnum *(separator alnum)  lower case; separator is ".", "_", "__" or dashes
    tag        = word *127(word / "." / "-")
    digest     = "sha256:" 64 lower-case hexadecimal digits

Every digest and name is matched against its exact form before it becomes part
of a path or a URL.  ``images`` and ``run`` parse references on every start, so
this module compares sets of characters and does without ``re``.
"""

from __future__ import annotations

from podpy.errors import UsageError
from podpy.records import record, replace

DEFAULT_REGISTRY = "docker.io"
DEFAULT_TAG = "latest"
LOCAL_REGISTRY = "localhost"

_DIGITS = frozenset("0123456789")
_HEX = frozenset("0123456789abcdef")
_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz")
_UPPER = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_PATH = _LOWER | _DIGITS
_LETTERS = _LOWER | _UPPER | _DIGITS
_WORD = _LETTERS | {"_"}
_HOST = _LETTERS | {"-"}
_MAX_NAME = 255
_MAX_TAG = 128


@record
class Reference:
    """A whole reference: where an image is and which one it is.

    ``registry`` has its port; ``tag`` is empty only beside a ``digest``.
    """

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """``registry/repository``: no tag, no digest."""
        return f"{self.registry}/{self.repository}"

    @property
    def selector(self) -> str:
        """What a registry is asked for: the digest when there is one, else the tag."""
        return self.digest or self.tag

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.name}{tag}{digest}"


def is_digest(text: str) -> bool:
    """Exactly ``sha256:`` and 64 lower-case hexadecimal digits."""
    return len(text) == 71 and text.startswith("sha256:") and is_hex_id(text[7:])


def is_hex_id(text: str) -> bool:
    """Exactly 64 lower-case hexadecimal digits: an image or container id."""
    return len(text) == 64 and _HEX.issuperset(text)


def parse(text: str) -> Reference:
    """A reference with docker's defaults: ``docker.io``, ``library/`` and ``:latest``.

    Raises :class:`UsageError`, naming the part that breaks the grammar.
    """
    registry, path, tag, digest = split(text)
    return _complete(registry or DEFAULT_REGISTRY, path, tag, digest)


def qualify(text: str, registry: str) -> Reference:
    """A short name as ``registry`` (which may have a path of its own) would have it."""
    _, path, tag, digest = split(text)
    host, _, prefix = registry.partition("/")
    return _complete(host, f"{prefix}/{path}" if prefix else path, tag, digest)


def with_tag(reference: Reference, tag: str) -> Reference:
    """The same repository at another tag."""
    if not _is_tag(tag):
        raise UsageError(f"invalid tag {tag!a}")
    return replace(reference, tag=tag, digest="")


def is_short(text: str) -> bool:
    """Names no registry: where to look for it is a matter of configuration."""
    return not split(text)[0]


def split(text: str) -> tuple[str, str, str, str]:
    """``(registry, path, tag, digest)`` as written; each may be empty but the path."""
    rest, at, digest = text.partition("@")
    if at and not is_digest(digest):
        raise _invalid(text, "the digest must be sha256: and 64 lower-case hexadecimal digits")
    head, slash, tail = rest.rpartition("/")
    last, colon, tag = tail.partition(":")
    if colon and not _is_tag(tag):
        raise _invalid(text, f"{tag!a} is not a tag")
    registry, path = _split_registry(f"{head}{slash}{last}")
    if registry and not _is_registry(registry):
        raise _invalid(text, f"{registry!a} is not a registry")
    _check_path(text, path)
    if not registry and not tag and not digest and is_hex_id(path):
        raise _invalid(text, "64 hexadecimal digits are an image id, not a name")
    return registry, path, tag, digest


def _complete(registry: str, path: str, tag: str, digest: str) -> Reference:
    if registry in ("index.docker.io", "registry-1.docker.io"):
        registry = DEFAULT_REGISTRY
    if registry == DEFAULT_REGISTRY and "/" not in path:
        path = f"library/{path}"
    if len(registry) + 1 + len(path) > _MAX_NAME:
        raise _invalid(f"{registry}/{path}", f"longer than {_MAX_NAME} characters")
    if not tag and not digest:
        tag = DEFAULT_TAG
    return Reference(registry=registry, repository=path, tag=tag, digest=digest)


def _split_registry(name: str) -> tuple[str, str]:
    """The first component is a registry when nothing else could look like it."""
    first, slash, rest = name.partition("/")
    if slash and (
        "." in first or ":" in first or first == LOCAL_REGISTRY or not _UPPER.isdisjoint(first)
    ):
        return first, rest
    return "", name


def _is_registry(text: str) -> bool:
    if text.startswith("["):
        host, bracket, rest = text.partition("]")
        valid = bool(bracket) and _is_ipv6(host[1:])
    else:
        host, colon, port = text.partition(":")
        rest = colon + port
        valid = all(_is_host_part(part) for part in host.split("."))
    if rest and not (rest[0] == ":" and 0 < len(rest) <= 6 and _is_port(rest[1:])):
        return False
    return valid


def _is_port(text: str) -> bool:
    return bool(text) and _DIGITS.issuperset(text) and 0 < int(text) < 65536


def _is_ipv6(text: str) -> bool:
    return ":" in text and (_HEX | _UPPER | {":", "."}).issuperset(text) and len(text) <= 45


def _is_host_part(text: str) -> bool:
    return bool(text) and _HOST.issuperset(text) and text[0] != "-" and text[-1] != "-"


def _is_tag(text: str) -> bool:
    return 0 < len(text) <= _MAX_TAG and text[0] in _WORD and (_WORD | {".", "-"}).issuperset(text)


def _check_path(text: str, path: str) -> None:
    if not path:
        raise _invalid(text, "the name is empty")
    if not _UPPER.isdisjoint(path):
        raise _invalid(text, "repository name must be lowercase")
    for component in path.split("/"):
        if not _is_component(component):
            raise _invalid(text, f"{component!a} is not a name")


def _is_component(text: str) -> bool:
    """Lower-case words joined by one dot, one or two underscores, or dashes."""
    if not text or text[0] not in _PATH or text[-1] not in _PATH:
        return False
    separator = ""
    for character in text:
        if character in _PATH:
            separator = ""
            continue
        separator += character
        if separator not in (".", "_", "__") and separator.strip("-"):
            return False
    return True


def _invalid(text: str, why: str) -> UsageError:
    return UsageError(f"invalid reference {text!a}: {why}")
