"""Our contracts, compiled fresh from proto/ with their comments."""

from pathlib import Path

import pytest

from tools.contracts import Contracts
from tools.protoc import Sources, compile_descriptors

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def sources() -> Sources:
    return Sources(ROOT)


@pytest.fixture(scope="session")
def contracts(sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> Contracts:
    target = tmp_path_factory.mktemp("contracts") / "all.binpb"
    return Contracts(compile_descriptors(sources, target, source_info=True), sources.own)
