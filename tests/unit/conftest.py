"""What unit tests of one area share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.names import Bench, settle


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Containers ``a`` and ``b`` on ``n1``; ``b`` and ``c`` on ``n2``."""
    made = Bench(tmp_path)
    settle(made)
    yield made
    made.close()
