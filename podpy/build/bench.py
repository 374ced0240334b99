"""What a step works with: its parent, the cache, a place for what it makes."""

from __future__ import annotations

import time

from podpy.build import cache, inside, leftovers
from podpy.build.model import StepResult
from podpy.storage import committing, content, layers, staging

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from podpy.build.inside import Upper
    from podpy.build.model import Tree
    from podpy.paths import Store
    from podpy.storage.collect import Pins
    from podpy.storage.overlay import Driver

    #: What another cache has under a key, brought into the store; None when it has nothing.
    Afar = Callable[[str], StepResult | None]


class Bench:
    """One step's bench, in its worker; a context manager that clears away what it left.

    ``layers`` are the diff ids of the root file system that the step begins
    with, lowest first.  ``timestamp`` (seconds) is the time that every file of
    the new layer gets, None for their own.  ``uses_cache`` is False where
    ``--no-cache`` forbids to look; what is made is remembered all the same.
    ``afar`` brings in what caches elsewhere know; only workers have it, because
    that takes time.
    """

    def __init__(
        self,
        store: Store,
        driver: Driver,
        layers: Sequence[str],
        *,
        pins: Pins,
        timestamp: int | None = None,
        uses_cache: bool = True,
        keeps_cache: bool = True,
        max_age: float = 0.0,
        text: str = "",
        afar: Afar | None = None,
    ) -> None:
        self.store = store
        self.driver = driver
        self.layers = tuple(layers)
        self.timestamp = timestamp
        self.text = text
        self._pins = pins
        self._uses_cache = uses_cache
        self._keeps_cache = keeps_cache
        self._max_age = max_age
        self._afar = afar
        self._places: list[str] = []
        self._parent = cache.chain(self.layers)

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *exc: object) -> None:
        for place in self._places:
            staging.discard(self.store, place)
        self._places.clear()

    # --- the cache -----------------------------------------------------------

    def key(self, *parts: str | bytes) -> str:
        """The key of a step that sees its parent and ``parts``."""
        return cache.key_of((self._parent, str(self.timestamp), *parts))

    def lookup(self, *keys: str) -> StepResult | None:
        """What an earlier build made under the first key that is known."""
        if not self._uses_cache:
            return None
        for key in keys:
            found = cache.lookup(self.store, key, max_age=self._max_age)
            if found is None and self._afar is not None:
                found = self._afar(key)
            if found is not None and self._hold(found):
                return found
        return None

    def _hold(self, found: StepResult) -> bool:
        """Keep a result for the time of the build; False when a collector was quicker."""
        if found.blob is None:
            return True
        tree = layers.path_of(self.store, found.diff_id)
        blob = content.blob_path(self.store, found.blob.digest)
        return self._pins.hold(found.diff_id, tree) and self._pins.hold(found.blob.digest, blob)

    def remember(self, keys: Iterable[str], result: StepResult) -> None:
        """Keep a result for later builds."""
        if self._keeps_cache:
            cache.remember(self.store, keys, result, self.text)

    # --- the work ------------------------------------------------------------

    def place(self) -> str:
        """A fresh staging directory, gone with the bench."""
        path = staging.create(self.store, leftovers.KIND)
        self._places.append(path)
        return path

    def upper(self, layers: Sequence[str] | None = None) -> Upper:
        """A root file system to work in, over the parent's layers or over others."""
        below = self.layers if layers is None else layers
        return inside.prepare(self.store, self.driver, self.place(), below)

    def inside(
        self,
        function: Callable[..., Any],
        *,
        writing: Upper | None = None,
        reading: Sequence[Tree] = (),
    ) -> Any:
        """See :meth:`podpy.build.inside.Room.call`."""
        room = inside.Room(self.store, self.driver, self.place())
        return room.call(function, writing=writing, reading=reading)

    def commit(self, upper: Upper) -> StepResult:
        """The layer of what was changed in a root file system; its tree is moved away."""
        made = committing.commit(self.store, self._pins, upper, timestamp=self.timestamp)
        created = time.time() if self.timestamp is None else float(self.timestamp)
        return StepResult(diff_id=made.diff_id, blob=made.blob, created=created)
