"""Another tenant's model is exactly as if it were not, by whatever name and way it is asked for."""

from __future__ import annotations

import pytest
from inference import grpc_service_pb2 as pb

from engine.errors import ModelNotFoundError
from engine.oip.control import RepositoryControl
from engine.oip.shared_memory import Regions
from engine.repository.changes import ModelChange
from engine.servicers.inference import InferenceServicer
from engine.servicers.inference_facts import Facts
from mesh.catalogue import NotFoundError
from mesh.errors import TiationError
from mesh.identity import Caller, set_caller
from tests.unit.engine.shelf import Shelf

THEIRS, OWN = "tenants/other/models/secret", "tenants/t/models/m"
NAMES = ["secret", THEIRS, "secret:production", f"{THEIRS}:production"]


@pytest.fixture
async def servicer(shelf: Shelf):
    repository = await shelf.started()
    for model in (THEIRS, OWN):
        await shelf.push(repository, model)
        await repository.lifecycle.update_model(model, "", ModelChange(aliases={"production": {1: 1}}))
    set_caller(Caller("t", "tenants/t/principals/p", "spiffe://tiation.local/svc/gateway"))
    facts = Facts("cpu", "warning", traced=False, sample_ratio=0.0)
    yield InferenceServicer(repository, RepositoryControl(repository, shelf.catalogue), Regions("off"), facts)
    set_caller(None)


async def refusal(call) -> tuple[str, str, str]:
    with pytest.raises(TiationError) as refused:
        await call
    return type(refused.value).__name__, refused.value.reason, refused.value.message


@pytest.mark.parametrize("name", NAMES)
async def test_it_is_refused_in_the_words_for_what_never_was(servicer: InferenceServicer, name: str):
    never = name.replace("secret", "nobody")
    for ask in (
        lambda name: servicer.ModelInfer(pb.ModelInferRequest(model_name=name), None),
        lambda name: servicer.ModelMetadata(pb.ModelMetadataRequest(name=name), None),
        lambda name: servicer.ModelConfig(pb.ModelConfigRequest(name=name), None),
        lambda name: servicer.ModelStatistics(pb.ModelStatisticsRequest(name=name), None),
        lambda name: servicer.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name=name), None),
        lambda name: servicer.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name=name), None),
    ):
        kind, reason, message = await refusal(ask(name))
        assert (kind, reason, message.replace("secret", "nobody")) == await refusal(ask(never))
        assert kind in (ModelNotFoundError.__name__, NotFoundError.__name__)
    assert not (await servicer.ModelReady(pb.ModelReadyRequest(name=name), None)).ready


async def test_lists_and_statistics_show_the_callers_own_alone(servicer: InferenceServicer):
    index = await servicer.RepositoryIndex(pb.RepositoryIndexRequest(), None)
    assert [each.name for each in index.models] == ["m"]
    statistics = await servicer.ModelStatistics(pb.ModelStatisticsRequest(), None)
    assert [each.name for each in statistics.model_stats] == ["m"]


@pytest.mark.parametrize(
    "manifest",
    [
        f"name: n\nkind: ensemble\nsteps:\n  - model: {THEIRS}\n    inputs: {{x: x}}\n    outputs: {{y: y}}\n",
        "name: n\nkind: ensemble\nsteps:\n  - model: secret\n    inputs: {x: x}\n    outputs: {y: y}\n",
        f"name: n\nkind: text-classification\nbackbone: {THEIRS}\nexamples:\n  - {{text: a, label: b}}\n",
    ],
)
async def test_nothing_can_be_made_to_stand_on_it(shelf: Shelf, servicer: InferenceServicer, manifest: str):
    repository = shelf.opened[0]
    kind, reason, message = await refusal(shelf.push(repository, "tenants/t/models/n", manifest=manifest))
    other = manifest.replace("secret", "nobody")
    kind_of_none, reason_of_none, of_none = await refusal(shelf.push(repository, "tenants/t/models/n", manifest=other))
    assert (kind, reason, message.replace("secret", "nobody")) == (kind_of_none, reason_of_none, of_none)
