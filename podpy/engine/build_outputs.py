"""Where a build's result goes and caches are kept: ``--output``, ``--cache-from``, ``--cache-to``.

Like :mod:`podpy.engine.build_request`, whose notation this shares.
"""

from __future__ import annotations

import os

from podpy import files
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
_COMPRESSIONS = ("gzip", "uncompressed")
_FOR_IMAGES = ("compression", "force-compression", "oci-mediatypes", "rewrite-timestamp")
_ATTRIBUTES = {
    "image": (*_FOR_IMAGES, "registry.insecure", "store", "unpack"),
    "oci": (*_FOR_IMAGES, "tar"),
    "docker": (*_FOR_IMAGES, "tar"),
    "local": ("platform-split",),
    "tar": ("platform-split",),
}
#: What is so in any case; the opposite cannot be had.
_ALWAYS = {"force-compression": False, "store": True, "rewrite-timestamp": True}
# What BuildKit has to be asked for and podpy's caches are anyway.
_ALWAYS_OF_CACHES = {"registry": ("oci-mediatypes", "image-manifest")}
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
    kind = "image" if kind == "registry" else kind
    _check(kind, given, text)
    return Output(
        kind=kind,
        destination=destination if destination in ("", "-") else os.path.abspath(destination),
        names=names,
        push=push,
        attributes=given,
    )


def check(output: Output, *, has_index: bool) -> None:
    """Refuse before the build what could not be written after it."""
    place = output.destination
    if output.kind == "docker" and has_index:
        raise UsageError(
            "--output type=docker: an archive of docker holds no image index",
            hint="use type=oci, or build for one platform and without attestations",
        )
    if place in ("", "-"):
        return
    if output.kind in ("oci", "docker") and not is_archive(output):
        if files.list_directory(place):
            raise UsageError(f"--output: {place}: not an empty directory")
    elif output.kind != "local" and not os.path.isdir(os.path.dirname(place)):
        raise UsageError(f"--output: {place}: there is no directory {os.path.dirname(place)}")
    if os.path.isdir(place) and output.kind != "local" and is_archive(output):
        raise UsageError(f"--output: {place}: is a directory", hint="tar=false writes directories")


def is_archive(output: Output) -> bool:
    """Whether an image goes into one file, and not into a directory (``tar=false``)."""
    return "tar" not in output.attributes or _truth(output.attributes, "tar", "--output")


def is_compressed(output: Output) -> bool:
    return output.attributes.get("compression", "gzip") != "uncompressed"


def is_insecure(output: Output) -> bool:
    """``registry.insecure=true``: the registry's certificate is not looked at."""
    key = "registry.insecure"
    return key in output.attributes and _truth(output.attributes, key, "--output")


def is_split(output: Output) -> bool:
    """Whether each of several platforms gets a directory of its own."""
    given = output.attributes
    return "platform-split" not in given or _truth(given, "platform-split", "--output")


def _check(kind: str, given: Mapping[str, str], text: str) -> None:
    """Every key must be one that has an effect here; ``annotation…`` ones are read elsewhere."""
    for key, value in given.items():
        if key.startswith("annotation") and kind in ("image", "oci"):
            continue
        if key not in _ATTRIBUTES.get(kind, ()):
            raise UsageError(f"--output {text!r}: {key!r} cannot be honoured for type={kind}")
        if key == "compression" and value not in _COMPRESSIONS:
            raise UsageError(
                f"--output {text!r}: compression {value!r} cannot be had",
                hint=f"one of {', '.join(_COMPRESSIONS)}",
            )
        if key in _ALWAYS and _truth(given, key, "--output") is not _ALWAYS[key]:
            raise UsageError(f"--output {text!r}: {key}={value} cannot be honoured")


def annotated(outputs: Iterable[Output]) -> tuple[str, ...]:
    """``annotation.KEY=VALUE`` of outputs as ``--annotation`` has them.

    ``annotation-LEVEL[PLATFORM].KEY`` says where to; the one image that a build
    makes gets those of all its outputs.
    """
    found = []
    for output in outputs:
        for key, value in output.attributes.items():
            place, dot, name = key.partition(".")
            level = place.removeprefix("annotation")
            if dot and name and place.startswith("annotation"):
                level = level.removeprefix("-") if not level.startswith("[") else f"manifest{level}"
                found.append(f"{level or 'manifest'}:{name}={value}")
    return tuple(found)


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
    for name, value in given.items():
        if value != "true" or name not in _ALWAYS_OF_CACHES.get(kind, ()):
            raise UsageError(f"{option} {text!r}: {name}={value} cannot be honoured")
    return CachePlace(
        kind=kind,
        place=os.path.abspath(place) if kind == "local" else place,
        complete=mode == "max",
        ignore_error=ignore_error,
    )


def _truth(found: Mapping[str, str], key: str, option: str) -> bool:
    return key in found and values.boolean(found[key], f"{option} {key}")
