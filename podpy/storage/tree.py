"""A layer's tree in the making: below ``tmp/``, by a child process, published by ``rename``."""

from __future__ import annotations

import os

from podpy import files, records
from podpy.errors import StoreError
from podpy.storage import layers, staging
from podpy.storage.answers import result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from podpy.paths import Store
    from podpy.storage.extract import Limits
    from podpy.storage.layers import Layer
    from podpy.storage.unpacker import Unpacker


class Tree:
    """One tree: written to, finished, then published or discarded."""

    def __init__(self, store: Store, unpacker: Unpacker, limits: Limits) -> None:
        self._store = store
        self._unpacker = unpacker
        self._path = staging.create(self._store, "layer")
        self._pipe = -1
        self._answer = -1
        staging.make_apart(f"{self._path}/diff")
        reading, self._pipe = os.pipe()
        try:
            files.enlarge(self._pipe)
            self._answer = unpacker.start(f"{self._path}/diff", reading, limits)
        except BaseException:
            self.discard()
            raise
        finally:
            os.close(reading)

    def write(self, data: bytes) -> None:
        """Inflated bytes for the child; its own error when it has given up."""
        try:
            files.write_all(self._pipe, data)
        except BrokenPipeError:
            self.finish()
            raise StoreError("the process that unpacks a layer has died") from None

    def finish(self) -> dict[str, Any]:
        """The end of the data; waits for the child's summary or raises its error."""
        os.close(self._pipe)
        answer, self._answer, self._pipe = self._answer, -1, -1
        return result(answer)

    def publish(self, layer: Layer, summary: dict[str, Any]) -> None:
        """Give the tree its place; somebody else's tree of the same layer is as good."""
        if summary.get("records"):
            files.write_json(f"{self._path}/records.json", summary["records"], durable=True)
        files.write_json(f"{self._path}/layer.json", records.to_dict(layer), durable=True)
        place = layers.path_of(self._store, layer.diff_id)
        try:
            os.rename(self._path, place)
        except OSError:
            if not os.path.exists(f"{place}/layer.json"):
                raise
            self._unpacker.remove(self._path)
        self._path = ""
        files.sync_directory(self._store.layers)

    def discard(self) -> None:
        """Stop the child and delete what it made; nothing after :meth:`publish`."""
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
        if self._answer >= 0:
            while os.read(self._answer, 1 << 16):  # until it writes no more
                pass
            os.close(self._answer)
            self._answer = -1
        if self._path:
            self._unpacker.remove(self._path)
            self._path = ""
