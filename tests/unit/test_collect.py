"""Pins against the collector: whoever relies on a blob waits for a collection under way."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from podpy import files
from podpy.paths import Store
from podpy.storage.collect import Pins, collect

DIGEST = "sha256:" + "ab" * 32


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(str(tmp_path / "store"), str(tmp_path / "run"))
    made.prepare()
    return made


def test_a_pin_waits_for_a_collection_under_way(store: Store) -> None:
    pins = Pins(store)
    pinned = threading.Event()

    def pin() -> None:
        pins.add(DIGEST)
        pinned.set()

    with files.lock(f"{store.locks}/collect"):
        thread = threading.Thread(target=pin)
        thread.start()
        assert not pinned.wait(0.2)
    assert pinned.wait(10)
    thread.join()


def test_what_is_pinned_stays_until_its_importer_has_gone(store: Store) -> None:
    blob = Path(store.blobs, "ab" * 32)
    blob.write_bytes(b"x")
    pins = Pins(store)
    pins.add(DIGEST)
    assert collect(store, tuple) == []
    pins.close()
    assert collect(store, tuple) == [DIGEST]
    assert not blob.exists()
