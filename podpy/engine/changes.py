"""Dockerfile instructions applied to an image's configuration (``--change``)."""

from __future__ import annotations

import time

from podpy.errors import BuildError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

# Those that change a configuration and nothing else.
_WORDS = (
    "CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "ONBUILD", "SHELL",
    "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
)  # fmt: skip


def now() -> str:
    """The present as RFC 3339, or what ``SOURCE_DATE_EPOCH`` says it is."""
    import os

    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    seconds = int(epoch) if epoch.isdigit() else time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def apply(config: Mapping[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """The ``config`` object of an image with instructions applied in their order.

    Variables in them are the image's.  Raises :class:`UsageError` for an
    instruction that is not one or does not change a configuration.
    """
    # The language of builds is of no use to the other commands on archives.
    from podpy.build import dockerfile, instructions
    from podpy.build.config import Draft

    draft = Draft({"config": config})
    for change in changes:
        try:
            instruction = dockerfile.parse_one(_spaced(change), "change")
            if instruction.word not in _WORDS:
                raise UsageError(f"change {change!a}: not one of {' '.join(_WORDS)}")
            draft.apply(instructions.resolve(instruction, draft.env))
        except BuildError as error:
            raise UsageError(error.message, hint=error.hint) from None
    return draft.config


def _spaced(change: str) -> str:
    """podman also takes INSTRUCTION=value."""
    word, equals, rest = change.strip().partition("=")
    return f"{word} {rest}" if equals and word.isalpha() else change
