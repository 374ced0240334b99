"""What ``build``'s options change in a finished image, and the annotations they ask for."""

from __future__ import annotations

import os

from podpy.engine import build_request, platforms
from podpy.errors import UsageError
from podpy.version import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from podpy.build.config import Draft
    from podpy.engine.build_options import BuildOptions
    from podpy.model import Platform

IDENTITY = "io.podpy.version"
CREATED = "org.opencontainers.image.created"
_OF_INDEX = ("index", "manifest-descriptor")


def change(draft: Draft, options: BuildOptions, base: Mapping[str, Any] | None) -> None:
    """What the command line adds to an image and takes from it; ``base`` is its base's document."""
    if not options.inherit_labels and base is not None:
        inherited = (base.get("config") or {}).get("Labels") or {}
        own = draft.config.get("Labels") or {}
        draft.unset_labels(key for key in inherited if own.get(key) == inherited[key])
    draft.set_env(build_request.environment(options.env, os.environ).items())
    draft.unset_env(options.unsetenv)
    if options.identity_label:
        draft.set_labels({IDENTITY: VERSION})
    draft.set_labels(build_request.labels(options.label))
    draft.unset_labels(options.unsetlabel)
    if options.os_version:
        draft.document["os.version"] = options.os_version
    _change_features(draft, options.os_feature)
    if options.omit_history:
        draft.history.clear()


def _change_features(draft: Draft, wanted: Iterable[str]) -> None:
    """``--os-feature NAME`` adds one, ``NAME-`` takes it away."""
    found = list(draft.document.get("os.features") or ())
    for name in wanted:
        bare = name.removesuffix("-")
        found = [feature for feature in found if feature != bare]
        if bare == name:
            found.append(name)
    if found:
        draft.document["os.features"] = found
    else:
        draft.document.pop("os.features", None)


# --- annotations -------------------------------------------------------------


def of_manifest(options: BuildOptions, platform: Platform, created: str) -> dict[str, str]:
    """The annotations of the manifest for a platform."""
    found = _asked(options, "manifest", platform)
    if options.created_annotation:
        found.setdefault(CREATED, created)
    return found


def of_index(options: BuildOptions) -> dict[str, str]:
    return _asked(options, "index", None)


def of_entry(options: BuildOptions, platform: Platform) -> dict[str, str]:
    """The annotations of a manifest's descriptor in the index."""
    return _asked(options, "manifest-descriptor", platform)


def _asked(options: BuildOptions, level: str, platform: Platform | None) -> dict[str, str]:
    return {
        each.key: each.value
        for each in build_request.annotated(options.annotation)
        if each.level == level
        and (each.platform is None or platform is None or platforms.fits(platform, each.platform))
    }


def check(options: BuildOptions, *, has_index: bool) -> None:
    """Before anything is built: what is wrong, and annotations that there is no place for."""
    build_request.labels(options.label)
    build_request.environment(options.env, os.environ)
    if build_request.image_format(options.format, os.environ) == "docker":
        if options.annotation or options.created_annotation:
            raise UsageError(
                "--annotation: docker's image format has no annotations", hint="use --format oci"
            )
        return
    for each in build_request.annotated(options.annotation):
        if each.level == "index-descriptor" or (each.level in _OF_INDEX and not has_index):
            raise UsageError(
                f"--annotation {each.level}:{each.key}: there is no such thing in this image",
                hint="only an image for several platforms, or with attestations, has an index",
            )
