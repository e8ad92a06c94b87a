"""A platform as a user starts it, shared by the tests of a module that change nothing for each other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.installed import Installed, installed


@pytest.fixture(scope="session")
def home_of_all(tmp_path_factory) -> Iterator[Installed]:
    """One running platform for every test that leaves it as it was, but for resources of its own names."""
    with installed(tmp_path_factory.mktemp("platform") / "home") as made:
        yield made
