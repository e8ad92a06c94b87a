"""What tests of the engine share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.engine.place import Place


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    """A folder of models with a database, closed with all that was opened in it."""
    made = Place(tmp_path)
    yield made
    await made.close()
