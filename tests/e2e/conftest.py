"""A platform as a user starts it, shared by the tests of a module that change nothing for each other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.installed import Installed, installed


@pytest.fixture(scope="session")
def home_of_all(tmp_path_factory) -> Iterator[Installed]:
    """One running platform for every test that leaves it as it was, but for resources of its own names."""
    with installed(tmp_path_factory.mktemp("platform") / "home", TIATION_ENGINE__SHARED_MEMORY="own") as made:
        yield made


@pytest.fixture(scope="session")
def replicated(postgres, tmp_path_factory) -> Iterator[Installed]:
    """A platform on PostgreSQL with two engines and two orchestrators and the example deployed.

    Tests may kill its processes and leave runs and models of their own behind.
    """
    variables = {
        "TIATION_DATABASE": postgres.url,
        "TIATION_ENGINE__REPLICAS": "2",
        "TIATION_ORCHESTRATOR__REPLICAS": "2",
        "TIATION_ORCHESTRATOR__LEASE_S": "2",
    }
    with installed(tmp_path_factory.mktemp("replicated") / "home", **variables) as made:
        made.deploy_example()
        yield made
