"""Every error podpy raises on purpose, in one tree.

    PodpyError                    exit 125
    ├── UsageError                an option or argument that makes no sense
    ├── NotFound                  no such container, image, volume, network …
    ├── Ambiguous                 a prefix that fits several objects
    ├── Conflict                  a name, port or object that is taken or in use
    ├── StateError                the object is in a state that forbids the operation
    ├── HostError                 this host lacks something; the hint names the remedy
    ├── StoreError                the store holds something it should not
    ├── ImageError                an image, archive or manifest breaks its specification
    ├── RegistryError             a registry refused or failed
    │   └── AuthenticationError   … for want of credentials
    ├── LaunchError               a step between fork and execve failed
    ├── BuildError                a Dockerfile, a context or a step of a build is wrong
    │   └── StepFailed            … its command ended with this exit code, which becomes podpy's
    ├── CannotInvoke              exit 126: the command exists and cannot be run
    └── CommandNotFound           exit 127: the command does not exist

Errors are raised where they are known and printed in one place, the entry
point: ``Error: <operation> <object>: <cause>`` and, where there is a remedy, a
``hint:`` line.  Nothing else in podpy prints errors or exits.
"""

from __future__ import annotations


class suppress:
    """A block in which these exceptions are no matter (contextlib's costs 2 ms to import)."""

    def __init__(self, *kinds: type[BaseException]) -> None:
        self._kinds = kinds

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is not None and issubclass(kind, self._kinds)


class PodpyError(Exception):
    """The root of the tree.

    ``message`` is lower case, names the object and gives the cause; ``hint``
    is one sentence that says what to do next.
    """

    exit_code = 125

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(PodpyError):
    """An option or argument that makes no sense, alone or with another."""


class NotFound(PodpyError):
    """No object answers to this name or id."""


class Ambiguous(PodpyError):
    """A prefix that fits several objects."""


class Conflict(PodpyError):
    """A name, port or object that somebody else holds."""


class StateError(PodpyError):
    """The object is in a state that forbids the operation."""


class HostError(PodpyError):
    """The host lacks something podpy needs; ``hint`` names the remedy."""


class StoreError(PodpyError):
    """The store holds something podpy cannot read or must not trust."""


class ImageError(PodpyError):
    """An image, layer, archive or manifest breaks its specification."""


class RegistryError(PodpyError):
    """A registry refused, failed or answered with nonsense."""


class AuthenticationError(RegistryError):
    """A registry refused for want of (valid) credentials."""


class LaunchError(PodpyError):
    """A step between ``fork`` and ``execve`` failed."""


class BuildError(PodpyError):
    """A Dockerfile, a context or a step of a build is wrong."""


class StepFailed(BuildError):
    """The command of a RUN failed; podpy ends with its exit code, as podman does."""

    def __init__(self, message: str, *, hint: str = "", code: int = 1) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = code


class CannotInvoke(PodpyError):
    """The container's command exists and cannot be executed."""

    exit_code = 126


class CommandNotFound(PodpyError):
    """The container's command does not exist."""

    exit_code = 127
