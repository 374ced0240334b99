"""A container's own lock: held by whoever starts it, removes it, or acts for its supervisor.

Readers never take it, and a running container's supervisor does not hold it.
"""

from __future__ import annotations

from podpy import files
from podpy.errors import NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podpy.model import ContainerRecord
    from podpy.paths import Store


class hold(files.lock):
    """The container's own lock; :class:`NotFound` when the container is gone."""

    def __init__(self, store: Store, record: ContainerRecord) -> None:
        super().__init__(f"{store.container(record.id)}/lock")
        self._name = record.name

    def __enter__(self) -> files.lock:
        try:
            return super().__enter__()
        except FileNotFoundError:
            raise NotFound(f"container {self._name}: no such container") from None
