"""Where a build's result goes and caches are kept: ``--output``, ``--cache-from``, ``--cache-to``.

Like :mod:`podpy.engine.build_request`, whose notation this shares.
"""

from __future__ import annotations

import os

from podpy.engine import values
from podpy.engine.build_request import attributes
from podpy.errors import UsageError
from podpy.records import EMPTY, record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from podpy.engine.build_options import BuildOptions

_DESTINED = ("local", "tar", "oci")
_OUTPUT_KINDS = ("image", *_DESTINED, "docker", "registry", "cacheonly")
_OTHER_CACHES = ("gha", "s3", "azblob")


@record
class Output:
    """One ``--output``: ``kind`` is image, local, tar, oci or docker.

    ``destination`` is a path or ``-``; an image without one goes into the
    store, and with ``push`` to its registry.  ``attributes`` are all other
    keys as given.
    """

    kind: str
    destination: str = ""
    names: tuple[str, ...] = ()
    push: bool = False
    attributes: Mapping[str, str] = EMPTY


@record
class CachePlace:
    """Where a cache is read or written: kind registry (``place`` is a reference), local or inline.

    ``complete`` asks for the layers of all stages, not only of the target's.
    """

    kind: str
    place: str = ""
    complete: bool = False
    ignore_error: bool = False
    attributes: Mapping[str, str] = EMPTY


def outputs(options: BuildOptions) -> tuple[Output, ...]:
    """Where the result goes; an image in the store when nothing else is said.

    An image is stored as well when ``--tag`` or ``--manifest`` names one.
    """
    made = [_output(text) for text in options.output]
    if options.push:
        pushed = [replaced for each in made if (replaced := _pushed(each))]
        made = [each for each in made if each.kind != "image"] + (
            pushed or [Output(kind="image", push=True)]
        )
    stored = any(each.kind == "image" for each in made)
    if not stored and (options.load or options.tag or options.manifest or not made):
        made.append(Output(kind="image"))
    standard = [each for each in made if each.destination == "-"]
    if len(standard) > 1:
        raise UsageError("--output: only one can go to standard output")
    return tuple(each for each in made if each.kind != "cacheonly")


def _pushed(output: Output) -> Output | None:
    if output.kind != "image":
        return None
    return Output(kind="image", names=output.names, push=True, attributes=output.attributes)


def _output(text: str) -> Output:
    if text == "-":
        return Output(kind="tar", destination="-")
    if "=" not in text:
        if not text:
            raise UsageError("--output: an empty destination")
        return Output(kind="local", destination=os.path.abspath(text))
    given = attributes(text, "--output")
    kind = given.pop("type", "local").lower()
    destination = given.pop("dest", "")
    if kind not in _OUTPUT_KINDS:
        raise UsageError(
            f"--output {text!r}: unknown type {kind!r}", hint=f"known: {', '.join(_OUTPUT_KINDS)}"
        )
    if kind in _DESTINED and not destination:
        raise UsageError(f"--output {text!r}: it needs a dest=")
    if kind == "local" and destination == "-":
        raise UsageError(f"--output {text!r}: a directory cannot go to standard output")
    if kind == "docker" and not destination:
        kind = "image"
    names = tuple(name for name in given.pop("name", "").split(",") if name)
    push = _truth(given, "push", "--output") or kind == "registry"
    given.pop("push", "")
    if kind in ("image", "registry") and destination:
        raise UsageError(f"--output {text!r}: type={kind} has no dest=")
    return Output(
        kind="image" if kind == "registry" else kind,
        destination=destination if destination in ("", "-") else os.path.abspath(destination),
        names=names,
        push=push,
        attributes=given,
    )


def caches(texts: Iterable[str], option: str) -> tuple[CachePlace, ...]:
    """``NAME`` or ``type=registry|local|inline,…`` of ``--cache-from`` and ``--cache-to``."""
    return tuple(_cache(text, option) for text in texts)


def _cache(text: str, option: str) -> CachePlace:
    if "=" not in text:
        if not text:
            raise UsageError(f"{option}: an empty name")
        return CachePlace(kind="registry", place=text)
    given = attributes(text, option)
    kind = given.pop("type", "registry")
    if kind in _OTHER_CACHES:
        raise UsageError(
            f"{option} {text!r}: type={kind} is a service podpy does not speak to",
            hint="use a registry (type=registry,ref=NAME) or a directory (type=local)",
        )
    key = {"registry": "ref", "local": "src" if option == "--cache-from" else "dest"}.get(kind, "")
    if kind not in ("registry", "local", "inline") or (kind == "inline" and "from" in option):
        raise UsageError(f"{option} {text!r}: unknown type {kind!r}")
    place = given.pop(key, "") if key else ""
    if key and not place:
        raise UsageError(f"{option} {text!r}: it needs a {key}=")
    mode = given.pop("mode", "min")
    if mode not in ("min", "max"):
        raise UsageError(f"{option} {text!r}: mode must be min or max")
    ignore_error = _truth(given, "ignore-error", option)
    given.pop("ignore-error", "")
    return CachePlace(
        kind=kind,
        place=os.path.abspath(place) if kind == "local" else place,
        complete=mode == "max",
        ignore_error=ignore_error,
        attributes=given,
    )


def _truth(found: Mapping[str, str], key: str, option: str) -> bool:
    return key in found and values.boolean(found[key], f"{option} {key}")
