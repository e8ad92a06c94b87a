"""What the protocol tells of models, the repository and the server: only what is so, and only to whom it is told."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest
from google.protobuf import empty_pb2
from inference import grpc_service_pb2 as pb
from inference import model_config_pb2 as config_pb
from onnx import TensorProto, helper

from engine.errors import (
    ModelNotFoundError,
    ModelNotReadyError,
    NotServedError,
    ParameterError,
    TensorError,
)
from engine.oip.control import RepositoryControl
from engine.oip.shared_memory import Regions
from engine.repository.loading import Loading
from engine.servicers.inference import InferenceServicer
from engine.servicers.inference_facts import Facts
from engine.servicers.inference_rest import InferenceRestServicer
from engine.tensor import decode_raw
from mesh.catalogue import NotFoundError
from mesh.errors import InvalidError
from mesh.identity import Caller, set_caller
from tests.unit.engine.graphs import model
from tests.unit.engine.tables import price_pipeline
from tests.unit.engine.test_sequences import MANIFEST as SEQUENCE
from tests.unit.engine.test_sequences import adding

OTHERS = "tenants/other/models/secret"


@pytest.fixture
async def repository(shelf):
    return await shelf.started()


@pytest.fixture
def servicer(shelf, repository):
    set_caller(Caller("t", "tenants/t/principals/p", "spiffe://tiation.local/svc/gateway"))
    facts = Facts("cpu", "warning", traced=True, sample_ratio=0.1)
    yield InferenceServicer(repository, RepositoryControl(repository, shelf.catalogue), Regions("off"), facts)
    set_caller(None)


def asking(values, **parameters) -> pb.ModelInferRequest:
    array = np.array(values, np.float32)
    request = pb.ModelInferRequest(model_name="m", raw_input_contents=[array.tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=array.shape)
    for name, value in parameters.items():
        kind = {bool: "bool_param", int: "int64_param", str: "string_param", float: "double_param"}[type(value)]
        setattr(request.parameters[name], kind, value)
    return request


async def index(servicer, **how) -> list[tuple[str, str, str, str]]:
    listed = await servicer.RepositoryIndex(pb.RepositoryIndexRequest(**how), None)
    return [(each.name, each.version, each.state, each.reason) for each in listed.models]


async def test_the_index_lists_what_the_caller_may_see_with_states_and_reasons(shelf, repository, servicer):
    await shelf.push(repository)
    await shelf.push(repository, load=False)
    await shelf.push(repository, OTHERS)
    await shelf.push(repository, "tenants/system/models/shared")
    await shelf.push(repository, "tenants/system/models/m")
    assert await index(servicer) == [
        ("m", "1", "READY", ""),
        ("m", "2", "UNAVAILABLE", "unloaded"),
        ("tenants/system/models/m", "1", "READY", ""),
        ("shared", "1", "READY", ""),
    ]
    assert [each[:2] for each in await index(servicer, ready=True)] == [
        ("m", "1"), ("tenants/system/models/m", "1"), ("shared", "1")
    ]  # fmt: skip
    with pytest.raises(InvalidError, match="there is one repository"):
        await index(servicer, repository_name="other")


async def test_a_version_that_failed_to_load_says_why(shelf, repository, servicer):
    entry = await shelf.push(repository)
    await repository.stop()
    (shelf.root / "models" / "t" / "m" / "1" / "model.onnx").write_bytes(b"no graph")
    again = await shelf.started()
    servicer._control = RepositoryControl(again, shelf.catalogue)
    ((name, version, state, reason),) = await index(servicer)
    assert entry.name.endswith("/m/versions/1")
    assert (name, version, state) == ("m", "1", "UNAVAILABLE")
    assert "model.onnx" in reason


async def test_a_server_lives_while_it_loads_its_models_and_is_ready_once_all_were_tried(shelf, repository, servicer):
    await shelf.push(repository)
    await shelf.push(repository, "tenants/t/models/broken")
    await repository.stop()
    (shelf.root / "models" / "t" / "broken" / "1" / "model.onnx").write_bytes(b"no graph")
    again, on, load = shelf.repository(), asyncio.Event(), Loading.attempt

    class Held(Loading):
        async def attempt(self, entry):
            await on.wait()
            return await load(self, entry)

    again._loading.__class__ = Held
    servicer._repository, servicer._control = again, RepositoryControl(again, shelf.catalogue)
    rest = InferenceRestServicer(servicer)
    starting = asyncio.ensure_future(again.start())
    await asyncio.sleep(0.05)
    for _ in range(2):
        assert (await servicer.ServerLive(pb.ServerLiveRequest(), None)).live
        assert not (await servicer.ServerReady(pb.ServerReadyRequest(), None)).ready
        assert not (await servicer.ModelReady(pb.ModelReadyRequest(name="m"), None)).ready
        with pytest.raises(ModelNotReadyError, match="still loading"):
            await rest.ServerReady(empty_pb2.Empty(), None)
    on.set()
    await starting
    assert (await servicer.ServerReady(pb.ServerReadyRequest(), None)).ready
    assert json.loads((await rest.ServerReady(empty_pb2.Empty(), None)).data) == {"ready": True}
    assert [(await servicer.ModelReady(pb.ModelReadyRequest(name=name), None)).ready for name in ("m", "broken")] == [
        True,
        False,
    ]
    assert [each[:3] for each in await index(servicer)] == [("broken", "1", "UNAVAILABLE"), ("m", "1", "READY")]


async def test_whether_a_model_is_ready_brings_none_back_that_was_put_aside(shelf, repository, servicer):
    await shelf.push(repository)
    name = "tenants/t/models/m/versions/1"
    repository._memory.set_aside(name, repository._memory.uid(name))
    assert (await servicer.ModelReady(pb.ModelReadyRequest(name="m"), None)).ready
    assert repository.in_memory() == []
    assert (await servicer.ModelInfer(asking([[1, 2]]), None)).raw_output_contents
    assert len(repository.in_memory()) == 1


async def test_the_configuration_of_a_table_names_its_columns_and_what_they_may_hold(shelf, repository, servicer):
    manifest = "name: m\nkind: tabular\ncolumns: [area, {name: town, categories: [Bern, Basel, Chur]}]\n"
    await shelf.push(repository, manifest=manifest, content=price_pipeline())
    config = (await servicer.ModelConfig(pb.ModelConfigRequest(name="m"), None)).config
    assert json.loads(config.parameters["columns"].string_value) == [
        {"name": "area", "input": "area"},
        {"name": "town", "input": "town", "categories": ["Bern", "Basel", "Chur"]},
    ]


async def load(servicer, name="m", **parameters):
    request = pb.RepositoryModelLoadRequest(model_name=name)
    for key, value in parameters.items():
        setattr(request.parameters[key], "string_param" if isinstance(value, str) else "bytes_param", value)
    await servicer.RepositoryModelLoad(request, None)


async def unload(servicer, name="m", **parameters):
    request = pb.RepositoryModelUnloadRequest(model_name=name)
    for key, value in parameters.items():
        request.parameters[key].bool_param = value
    await servicer.RepositoryModelUnload(request, None)


async def test_the_latest_version_is_loaded_and_all_are_unloaded_as_often_as_one_likes(shelf, repository, servicer):
    await shelf.push(repository)
    await shelf.push(repository, load=False)
    await load(servicer)
    await load(servicer)
    assert repository.versions_of("tenants/t/models/m") == [2]
    await unload(servicer, unload_dependents=False)
    await unload(servicer)
    assert repository.versions_of("tenants/t/models/m") == []
    with pytest.raises(ModelNotFoundError):
        await servicer.ModelInfer(asking([[1, 2]]), None)
    await load(servicer)
    assert repository.versions_of("tenants/t/models/m") == [2]


async def test_neither_anothers_models_nor_what_ships_with_the_platform_are_loaded_or_unloaded(
    shelf, repository, servicer
):
    await shelf.push(repository, OTHERS)
    await shelf.push(repository, "tenants/system/models/shared")
    for work in (load, unload):
        with pytest.raises(NotFoundError):
            await work(servicer, "secret")
        for name in ("never-was", OTHERS):
            with pytest.raises(NotFoundError):
                await work(servicer, name)
        with pytest.raises(Exception, match="ships with the platform"):
            await work(servicer, "shared")
    assert len(repository.in_memory()) == 2


async def test_a_load_that_would_change_the_model_is_refused_with_the_way_to_do_it(shelf, repository, servicer):
    await shelf.push(repository, load=False)
    for parameters in ({"config": "{}"}, {"file:1/model.onnx": b"x"}):
        with pytest.raises(NotServedError, match="push another version"):
            await load(servicer, **parameters)
    with pytest.raises(NotServedError, match="unload_dependents"):
        await unload(servicer, unload_dependents=True)
    with pytest.raises(ParameterError, match="is not known"):
        await unload(servicer, force=True)
    assert repository.in_memory() == []


async def test_the_configuration_says_what_goes_in_and_out_and_how_it_is_batched(shelf, repository, servicer):
    await shelf.push(repository)
    answer = await servicer.ModelConfig(pb.ModelConfigRequest(name="m"), None)
    config = answer.config
    assert (config.name, config.backend, config.max_batch_size) == ("m", "onnxruntime", 8)
    assert [(i.name, i.data_type, list(i.dims)) for i in config.input] == [("x", config_pb.TYPE_FP32, [2])]
    assert [(o.name, o.data_type, list(o.dims)) for o in config.output] == [("y", config_pb.TYPE_FP32, [2])]
    assert config.dynamic_batching.default_queue_policy.max_queue_size == 64
    assert config.version_policy.latest.num_versions == 1
    assert [group.kind for group in config.instance_group] == [config_pb.ModelInstanceGroup.KIND_CPU]
    manifest = "name: m\nkind: onnx\nbatching: 'off'"
    await shelf.push(repository, manifest=manifest)
    config = (await servicer.ModelConfig(pb.ModelConfigRequest(name="m", version="2"), None)).config
    assert config.max_batch_size == 0
    assert not config.HasField("dynamic_batching")
    assert list(config.input[0].dims) == [-1, 2]


async def test_priorities_delays_instances_sequences_and_ensembles_are_told_in_tritons_words(
    shelf, repository, servicer
):
    scheduling = (
        "scheduling: {max_batch: 4, max_delay_ms: 2, preferred_batch_sizes: [2], timeout_ms: 500, instances: 2, "
        "priorities: {levels: 2, max_queue: [8, 4]}}"
    )
    await shelf.push(repository, manifest=f"name: m\nkind: onnx\n{scheduling}")
    config = (await servicer.ModelConfig(pb.ModelConfigRequest(name="m"), None)).config
    batching = config.dynamic_batching
    assert (config.max_batch_size, list(batching.preferred_batch_size)) == (4, [2])
    assert (batching.max_queue_delay_microseconds, batching.priority_levels) == (2000, 2)
    assert {number: queue.max_queue_size for number, queue in batching.priority_queue_policy.items()} == {1: 8, 2: 4}
    assert batching.default_queue_policy.default_timeout_microseconds == 500_000
    assert [(group.name, group.count) for group in config.instance_group] == [("m-cpu", 2)]
    assert not config.response_cache.enable
    ensemble = (
        "name: twice\nkind: ensemble\nsteps:\n- {name: a, model: m, inputs: {x: x}}\n"
        "- {name: b, model: m, inputs: {x: a.y}}\noutputs: {four: b.y, two: a.y}"
    )
    await shelf.push(repository, "tenants/t/models/twice", manifest=ensemble)
    told = (await servicer.ModelConfig(pb.ModelConfigRequest(name="twice"), None)).config
    steps = [(s.model_name, dict(s.input_map), dict(s.output_map)) for s in told.ensemble_scheduling.step]
    assert steps == [("m", {"x": "x"}, {"y": "two"}), ("m", {"x": "two"}, {"y": "four"})]
    assert not told.instance_group
    kind = (TensorProto.FLOAT, ["n", 1])
    summing = model([helper.make_node("Add", ["x", "s"], ["t"])], {"x": kind, "s": kind}, {"t": kind})
    manifest = "name: sum\nkind: onnx\nsequence: {states: [{input: s, output: t, show: true}], max_idle_s: 5}"
    await shelf.push(repository, "tenants/t/models/sum", manifest=manifest, content=summing)
    told = (await servicer.ModelConfig(pb.ModelConfigRequest(name="sum"), None)).config
    assert told.sequence_batching.max_sequence_idle_microseconds == 5_000_000
    assert [(s.input_name, s.output_name) for s in told.sequence_batching.state] == [("s", "t")]


async def test_statistics_add_up_and_show_no_others_models(shelf, repository, servicer):
    await shelf.push(repository)
    await shelf.push(repository, OTHERS)
    for rows in (1, 3):
        await servicer.ModelInfer(asking([[1, 2]] * rows), None)
    with pytest.raises(TensorError):
        await servicer.ModelInfer(asking([1, 2]), None)
    answer = await servicer.ModelStatistics(pb.ModelStatisticsRequest(), None)
    (one,) = answer.model_stats
    assert (one.name, one.version, one.inference_count, one.execution_count) == ("m", "1", 4, 2)
    stats = one.inference_stats
    assert (stats.success.count, stats.fail.count, stats.queue.count, stats.compute_infer.count) == (2, 1, 2, 2)
    parts = sum(getattr(stats, part).ns for part in ("queue", "compute_input", "compute_infer", "compute_output"))
    assert 0 < parts <= stats.success.ns
    assert [(batch.batch_size, batch.compute_infer.count) for batch in one.batch_stats] == [(1, 1), (3, 1)]
    named = await servicer.ModelStatistics(pb.ModelStatisticsRequest(name="m", version="1"), None)
    assert named == answer
    with pytest.raises(ModelNotFoundError):
        await servicer.ModelStatistics(pb.ModelStatisticsRequest(name="secret"), None)
    with pytest.raises(InvalidError, match="needs `name`"):
        await servicer.ModelStatistics(pb.ModelStatisticsRequest(version="1"), None)


async def test_an_answer_says_where_its_time_went_when_it_is_asked_to(shelf, repository, servicer):
    await shelf.push(repository)
    assert not (await servicer.ModelInfer(asking([[1, 2]]), None)).parameters
    told = (await servicer.ModelInfer(asking([[1, 2]] * 3, timing=True), None)).parameters
    assert set(told) == {"queue_us", "compute_input_us", "compute_infer_us", "compute_output_us", "batch_rows"}
    assert told["batch_rows"].int64_param == 3
    assert told["compute_infer_us"].int64_param > 0
    with pytest.raises(ParameterError, match=r"parameters\[priority\]: must be a whole number"):
        await servicer.ModelInfer(asking([[1, 2]], priority="high"), None)


async def test_an_output_is_told_as_its_largest_values_with_their_places_and_labels(shelf, repository, servicer):
    await shelf.push(repository, manifest="name: m\nkind: onnx\nprobabilities: y\nlabels: [left, right]\n")
    request = asking([[1, 2], [4, 3]])
    request.outputs.add(name="y").parameters["classification"].int64_param = 1
    answer = await servicer.ModelInfer(request, None)
    (output,) = answer.outputs
    assert (output.datatype, list(output.shape)) == ("BYTES", [2, 1])
    told = decode_raw("y", "BYTES", [2, 1], answer.raw_output_contents[0])
    assert told.ravel().tolist() == [b"4.000000:1:right", b"8.000000:0:left"]
    request.outputs[0].parameters["classification"].int64_param = 0
    assert (await servicer.ModelInfer(request, None)).outputs[0].datatype == "FP32"
    for wrong in (-1, 2**40):
        request.outputs[0].parameters["classification"].int64_param = wrong
        with pytest.raises(ParameterError, match=r"outputs\[y\]\.parameters\[classification\]"):
            await servicer.ModelInfer(request, None)


async def test_settings_are_read_as_they_are_and_changed_nowhere_here(servicer):
    traces = (await servicer.TraceSetting(pb.TraceSettingRequest(), None)).settings
    assert {name: list(value.value) for name, value in traces.items()} == {
        "trace_level": ["TIMESTAMPS"], "trace_rate": ["10"], "trace_count": ["-1"], "log_frequency": ["0"],
        "trace_mode": ["opentelemetry"],
    }  # fmt: skip
    logs = (await servicer.LogSettings(pb.LogSettingsRequest(), None)).settings
    assert logs["log_warning"].bool_param
    assert not logs["log_info"].bool_param
    asked = pb.LogSettingsRequest()
    asked.settings["log_info"].bool_param = True
    with pytest.raises(NotServedError, match="log_level"):
        await servicer.LogSettings(asked, None)
    wanted = pb.TraceSettingRequest()
    wanted.settings["trace_rate"].value.append("1")
    with pytest.raises(NotServedError, match=r"tracing\.sample_ratio"):
        await servicer.TraceSetting(wanted, None)


async def test_extensions_are_those_that_are_served(servicer):
    told = await servicer.ServerMetadata(pb.ServerMetadataRequest(), None)
    assert {"model_repository", "model_configuration", "statistics", "parameters", "classification"} <= set(
        told.extensions
    )
    assert not {"system_shared_memory", "cuda_shared_memory", "trace", "logging"} & set(told.extensions)
    servicer._regions = Regions("own")
    told = await servicer.ServerMetadata(pb.ServerMetadataRequest(), None)
    assert "system_shared_memory" in told.extensions


async def test_the_configuration_of_a_model_that_remembers_says_what(shelf, repository, servicer):
    text = SEQUENCE + "  max_idle_s: 2.5\n  max_sequences: 9\n"
    await shelf.push(repository, manifest=text, content=adding())
    config = (await servicer.ModelConfig(pb.ModelConfigRequest(name="m"), None)).config
    assert config.WhichOneof("scheduling_choice") == "sequence_batching"
    batching = config.sequence_batching
    assert (batching.max_sequence_idle_microseconds, batching.oldest.max_candidate_sequences) == (2_500_000, 9)
    (state,) = batching.state
    assert (state.input_name, state.output_name, list(state.dims)) == ("sum_in", "sum_out", [2])
    assert state.data_type == config_pb.TYPE_FP32
    assert [given.name for given in config.input] == ["x"]


async def test_the_configuration_of_an_ensemble_has_its_steps(shelf, repository, servicer):
    await shelf.push(repository)
    text = """
name: e
kind: ensemble
steps:
  - {name: a, model: m, inputs: {x: given}}
  - {name: b, model: m, version: 1, inputs: {x: a.y}}
outputs: {half: a.y, whole: b.y}
"""
    await shelf.push(repository, "tenants/t/models/e", manifest=text)
    config = (await servicer.ModelConfig(pb.ModelConfigRequest(name="e"), None)).config
    assert config.WhichOneof("scheduling_choice") == "ensemble_scheduling"
    first, second = config.ensemble_scheduling.step
    assert (first.model_version, dict(first.input_map), dict(first.output_map)) == (-1, {"x": "given"}, {"y": "half"})
    assert (second.model_version, dict(second.input_map), dict(second.output_map)) == (1, {"x": "half"}, {"y": "whole"})
