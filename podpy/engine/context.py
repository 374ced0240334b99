"""What every use case gets first, and what verbs on several objects answer."""

from __future__ import annotations

from podpy.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podpy.errors import PodpyError
    from podpy.paths import Store
    from podpy.settings import Config


class Context:
    """The store and the merged configuration of one invocation.

    Made once by the command line from ``--root``, ``--runroot`` and the
    configuration files; every engine function takes it as its first argument.
    """

    __slots__ = ("config", "store")

    def __init__(self, store: Store, config: Config) -> None:
        self.store = store
        self.config = config


@record
class Outcome:
    """What one verb did to one of the objects it was asked to work on.

    ``name`` is what the user typed (or the full id for ``--all``), ``id`` the
    object it stood for; ``error`` is None when all went well.  ``freed`` are
    the bytes on disk that a prune won by it.
    """

    name: str
    id: str = ""
    error: PodpyError | None = None
    freed: int = 0
