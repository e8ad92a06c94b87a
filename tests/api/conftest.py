"""One platform a test session would hide leaks between tests: each test gets services of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.fakes.platform import Platform, platform


@pytest.fixture
async def security(tmp_path) -> AsyncIterator[Platform]:
    """A platform with only security."""
    async with platform(tmp_path) as made:
        yield made
