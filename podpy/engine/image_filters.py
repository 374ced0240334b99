"""``--filter`` of ``images`` and ``image prune``."""

from __future__ import annotations

import time

from podpy.engine import images, values
from podpy.registry import reference as references
from podpy.storage import containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from podpy.engine.context import Context
    from podpy.model import Image, ImageSummary

    Test = Callable[[ImageSummary], bool]

FILTERS = (
    "before", "containers", "dangling", "digest", "id", "label", "label!", "reference", "since",
    "until",
)  # fmt: skip


def select(
    ctx: Context, found: Iterable[ImageSummary], filters: Sequence[str]
) -> list[ImageSummary]:
    """Those that pass: every key must, any value of a key does (labels: all)."""
    tests = list(_tests(ctx, values.filters(filters, FILTERS)))
    return [image for image in found if all(test(image) for test in tests)]


def _tests(ctx: Context, wanted: dict[str, list[str]]) -> Iterable[Test]:
    for key, texts in wanted.items():
        if key in ("label", "label!"):
            for text in texts:
                yield _label(text, negated=key == "label!")
            continue
        yield _any([_test(ctx, key, text) for text in texts])


def _any(tests: list[Test]) -> Test:
    return lambda image: any(test(image) for test in tests)


def _label(text: str, *, negated: bool) -> Test:
    return lambda image: values.label_matches(dict(image.labels), text) != negated


def _test(ctx: Context, key: str, text: str) -> Test:
    if key == "dangling":
        wanted = values.boolean(text, "--filter dangling")
        return lambda image: (not image.names) == wanted
    if key == "containers":
        used = {container.record.image_id for container in containers.every(ctx.store)}
        asked = values.boolean(text, "--filter containers")
        return lambda image: (image.id in used) == asked
    if key == "reference":
        return lambda image: _matches(image, text)
    if key in ("id", "digest"):
        digits = text.removeprefix("sha256:")
        if key == "id":
            return lambda image: image.id.startswith(digits)
        return lambda image: image.digest.startswith(f"sha256:{digits}")
    if key == "until":
        moment = values.moment(text, "--filter until", time.time())
        return lambda image: image.created < moment
    return _relative(images.find(ctx, text), key)


def _relative(other: Image, key: str) -> Test:
    if key == "before":
        return lambda image: image.created < other.created
    return lambda image: image.created > other.created and image.id != other.id


def _matches(image: ImageSummary, pattern: str) -> bool:
    """A shell pattern over the name in full, as docker shows it, and without registry.

    A pattern without a tag fits every tag.
    """
    from fnmatch import fnmatchcase  # imports re: only where a pattern was given

    if not image.repository:
        return False
    parsed = references.parse(image.names[0])
    name = image.repository
    forms = {name, name.removeprefix("docker.io/"), name.removeprefix("docker.io/library/")}
    forms |= {name.partition("/")[2], name.rpartition("/")[2]}
    tagged = ":" in pattern.rpartition("/")[2]
    if "@" in pattern:
        return any(fnmatchcase(f"{form}@{image.digest}", pattern) for form in forms)
    tag = image.tag or parsed.tag
    return any(fnmatchcase(f"{form}:{tag}" if tagged else form, pattern) for form in forms)
