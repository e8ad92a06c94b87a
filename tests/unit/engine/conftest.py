"""What tests of the engine share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.engine.shelf import Shelf


@pytest.fixture
async def shelf(tmp_path: Path) -> AsyncIterator[Shelf]:
    """A folder of models with a database, closed with all that was opened in it."""
    made = Shelf(tmp_path)
    yield made
    await made.close()
