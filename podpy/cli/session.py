"""One invocation: its global options, and the call that a command line turned into."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from podpy.engine.context import Context

LOG_LEVELS = ("trace", "debug", "info", "warn", "warning", "error", "fatal", "panic")
_VERBOSE = LOG_LEVELS[:2]


class Session:
    """The global options: ``--root``, ``--runroot``, ``--debug`` and ``--log-level``."""

    __slots__ = ("log_level", "root", "runroot")

    def __init__(
        self, *, root: str = "", runroot: str = "", debug: bool = False, log_level: str = ""
    ) -> None:
        self.root = root
        self.runroot = runroot
        self.log_level = "debug" if debug else log_level.lower() or "warn"
        if self.log_level not in LOG_LEVELS:
            from podpy.errors import UsageError

            raise UsageError(
                f'log level "{log_level}" is not supported',
                hint="use one of: " + ", ".join(LOG_LEVELS),
            )

    @property
    def debug(self) -> bool:
        """Tracebacks are shown."""
        return self.log_level in _VERBOSE

    @property
    def warns(self) -> bool:
        """Warnings are shown."""
        return LOG_LEVELS.index(self.log_level) <= LOG_LEVELS.index("warning")

    def context(self) -> Context:
        """The store and configuration every use case of the engine starts from."""
        from podpy import config
        from podpy.engine.context import Context
        from podpy.paths import Store

        merged = config.load()
        root = self.root or merged.storage.root
        return Context(Store(root, self.runroot or merged.storage.runroot), merged)

    def call(
        self, module: str, function: str, needs_context: bool, values: Mapping[str, Any]
    ) -> int:
        """Run an adapter; its exit code, 0 when it returns none."""
        if not self.warns:
            from podpy.cli import output

            output.warnings = False
        name = f"podpy.cli.{module}"
        __import__(name)
        adapter: Callable[..., int | None] = getattr(sys.modules[name], function)
        if needs_context:
            return adapter(self.context(), **values) or 0
        return adapter(**values) or 0
