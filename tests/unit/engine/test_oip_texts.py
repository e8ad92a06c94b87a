"""Texts over the Open Inference Protocol: streams of parts, whole answers, REST; what is wished, and what is wrong."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise

import numpy as np
import pytest
from google.api import httpbody_pb2
from inference import grpc_service_pb2 as oip
from prometheus_client import CollectorRegistry
from tiation.engine.v1 import inference_rest_pb2 as rest_pb

from engine.errors import EngineError, InferenceFailedError, ParameterError
from engine.metrics import EngineMetrics
from engine.oip.shared_memory import Regions
from engine.repository.loaded import Loaded
from engine.repository.models import VersionPolicy
from engine.servicers.inference import InferenceServicer
from engine.servicers.inference_config import config_of
from engine.servicers.inference_facts import statistics_of
from engine.servicers.inference_rest import InferenceRestServicer
from engine.tensor import decode_raw, encode_raw, texts_tensor
from mesh.identity import Caller, set_caller
from tests.fakes.decoders import MANIFEST, decoder_folder, open_generator, parse_manifest
from tests.unit.engine.test_generation import slowed, until_idle

GREEDY = {"max_tokens": 12, "temperature": 0}


class One:
    """Has one model."""

    def __init__(self, servable) -> None:
        figures = EngineMetrics(CollectorRegistry()).of("tenants/t/models/tiny", 1)
        manifest = parse_manifest(MANIFEST.encode(), model="tiny")
        self.loaded = Loaded(
            "tenants/t/models/tiny/versions/1", "tenants/t/models/tiny", 1, servable, manifest, figures
        )

    async def found(self, *_asked) -> Loaded:
        return self.loaded

    def versions_of(self, _) -> list[int]:
        return [1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return decoder_folder(tmp_path_factory.mktemp("decoder") / "tiny")


@pytest.fixture(scope="module")
def model(folder):
    made = open_generator(folder)
    yield made
    made.close()


@pytest.fixture
def servicer(model):
    set_caller(Caller("t", "tenants/t/principals/p", "spiffe://tiation.local/svc/gateway"))
    yield InferenceServicer(One(model), None, Regions("off"), None)
    set_caller(None)


@pytest.fixture
def slow(model, monkeypatch):
    """The model takes its time for each step, so that each token is read by itself."""
    slowed(model, monkeypatch, 0.002)


@pytest.fixture
def rest(servicer):
    return InferenceRestServicer(servicer)


def asking(*texts: str, uid: str = "", **parameters) -> oip.ModelInferRequest:
    request = oip.ModelInferRequest(model_name="tiny", id=uid, raw_input_contents=[encode_raw(texts_tensor(texts))])
    request.inputs.add(name="text_input", datatype="BYTES", shape=[len(texts)])
    for name, value in {**GREEDY, **parameters}.items():
        kind = {bool: "bool_param", int: "int64_param", str: "string_param", float: "double_param"}[type(value)]
        setattr(request.parameters[name], kind, value)
    return request


def choosing(request: oip.ModelInferRequest, **choices) -> oip.ModelInferRequest:
    """A request with tensors beside its text."""
    for name, value in choices.items():
        tensor = np.array([value], bool) if isinstance(value, bool) else texts_tensor([value])
        request.inputs.add(name=name, datatype="BOOL" if isinstance(value, bool) else "BYTES", shape=[1])
        request.raw_input_contents.append(encode_raw(tensor))
    return request


class Call:
    """A call with headers."""

    def __init__(self, *headers) -> None:
        self._headers = headers

    def invocation_metadata(self):
        return self._headers


def break_after(pieces: int, model, monkeypatch) -> None:
    """Let an answer fail after so many pieces."""
    answer = model.answer

    async def broken(sequence):
        made = 0
        async for piece in answer(sequence):
            yield piece
            made += 1
            if made == pieces:
                raise InferenceFailedError("the step failed")

    monkeypatch.setattr(model, "answer", broken)


async def streamed(servicer, *requests, headers=()) -> list[oip.ModelStreamInferResponse]:
    async def sent():
        for request in requests:
            yield request

    return [answer async for answer in servicer.ModelStreamInfer(sent(), Call(*headers))]


async def endless(*requests):
    for request in requests:
        yield request
    await asyncio.Event().wait()


def text_of(answer: oip.ModelInferResponse) -> str:
    (output,), (raw,) = answer.outputs, answer.raw_output_contents
    return "".join(each.decode() for each in decode_raw(output.name, output.datatype, output.shape, raw))


def is_last(answer: oip.ModelStreamInferResponse) -> bool:
    return answer.infer_response.parameters["triton_final_response"].bool_param


async def test_a_text_comes_part_by_part_and_the_last_one_says_why_it_ended(servicer, slow):
    whole = await servicer.ModelInfer(asking("once"), None)
    parts = await streamed(servicer, asking("once", uid="r1"))
    assert len(parts) > 1
    assert "".join(text_of(part.infer_response) for part in parts) == text_of(whole) != ""
    assert [is_last(part) for part in parts] == [False] * (len(parts) - 1) + [True]
    assert {part.infer_response.id for part in parts} == {"r1"}
    for answer in (parts[-1].infer_response, whole):
        assert (answer.model_name, answer.model_version) == ("tiny", "1")
        assert answer.parameters["finish_reason"].string_param == "length"
        assert answer.parameters["completion_tokens"].int64_param == 12
        assert answer.parameters["prompt_tokens"].int64_param == 4
    assert "finish_reason" not in parts[0].infer_response.parameters


async def test_parts_of_several_requests_come_between_each_other_each_in_its_own_order(servicer, slow):
    prompts = ["one", "two", "three"]
    alone = [text_of(await servicer.ModelInfer(asking(each), None)) for each in prompts]
    parts = await streamed(servicer, *(asking(each, uid=each) for each in prompts))
    for prompt, text in zip(prompts, alone, strict=True):
        mine = [part for part in parts if part.infer_response.id == prompt]
        assert "".join(text_of(part.infer_response) for part in mine) == text
        assert [is_last(part) for part in mine] == [False] * (len(mine) - 1) + [True]
    changes = sum(a.infer_response.id != b.infer_response.id for a, b in pairwise(parts))
    assert changes > len(prompts)


async def test_who_does_not_want_parts_gets_one_answer_and_several_texts_at_once(servicer):
    (answer,) = await streamed(servicer, choosing(asking("once", "twice"), stream=False))
    assert is_last(answer)
    assert list(answer.infer_response.outputs[0].shape) == [2]
    assert "finish_reason" not in answer.infer_response.parameters
    alone = [text_of(await servicer.ModelInfer(asking(each), None)) for each in ("once", "twice")]
    assert text_of(answer.infer_response) == "".join(alone)


async def test_requests_for_texts_are_counted_with_their_times(servicer):
    figures = servicer._repository.loaded.figures
    answer = await servicer.ModelInfer(asking("once", "twice", timing=True), None)
    assert answer.parameters["compute_infer_us"].int64_param > 0
    await streamed(servicer, asking("once"))
    with pytest.raises(ParameterError):
        await servicer.ModelInfer(asking("x", temperature="warm"), None)
    now = figures.statistics()
    assert (now.success.count, now.fail.count, now.compute_infer.count) == (2, 1, 2)
    assert (now.inferences, now.executions) == (3, 3)
    assert 0 < now.compute_infer.ns <= now.success.ns


def response_stats(servicer) -> dict[str, oip.InferResponseStatistics]:
    return dict(statistics_of("tiny", servicer._repository.loaded).response_stats)


async def test_parts_are_counted_by_their_place_and_whole_answers_are_not(servicer, slow):
    await servicer.ModelInfer(asking("once"), None)
    assert response_stats(servicer) == {}
    parts = [await streamed(servicer, asking("once", max_tokens=tokens)) for tokens in (12, 3)]
    await streamed(servicer, asking("once", temperature="warm"), asking("y" * 5000), asking("a", "b"))
    counted = response_stats(servicer)
    most = max(map(len, parts))
    assert sorted(counted, key=int) == [str(place) for place in range(most)]
    for place in range(most):
        now, mine = counted[str(place)], [each[place] for each in parts if place < len(each)]
        assert now.success.count == sum(bool(text_of(each.infer_response)) for each in mine)
        assert now.empty_response.count == len(mine) - now.success.count
        assert now.compute_infer.count == len(mine)
        assert now.fail.count == now.cancel.count == 0
    assert counted["0"].success.ns == counted["0"].compute_infer.ns + counted["0"].compute_output.ns > 0


async def test_a_part_that_fails_and_one_that_is_given_up_are_counted_where_they_were_due(
    servicer, model, slow, monkeypatch
):
    answers = servicer.ModelStreamInfer(endless(asking("once", max_tokens=400)), Call())
    await anext(answers)
    await answers.aclose()
    await until_idle(model)
    given_up = {place: each for place, each in response_stats(servicer).items() if each.cancel.count}
    assert [(each.cancel.count, each.fail.count) for each in given_up.values()] == [(1, 0)]
    assert "0" not in given_up
    break_after(2, model, monkeypatch)
    *_, last = await streamed(servicer, asking("once"))
    assert last.error_message == "the step failed"
    assert response_stats(servicer)["2"].fail.count == 1


async def test_wishes_in_parameters_in_json_and_as_texts_are_the_same(servicer):
    wished = {"max_tokens": 9, "temperature": 1.5, "seed": 7, "top_k": 40, "top_p": 0.9}
    said = await servicer.ModelInfer(asking("x", **wished), None)
    as_json = choosing(asking("x"), sampling_parameters=json.dumps(wished))
    as_texts = asking("x", **{name: str(value) for name, value in wished.items()})
    for other in (as_json, as_texts):
        assert text_of(await servicer.ModelInfer(other, None)) == text_of(said)
    assert said.parameters["completion_tokens"].int64_param == 9
    other = await servicer.ModelInfer(asking("x", **{**wished, "seed": 8}), None)
    assert text_of(other) != text_of(said)


async def test_a_stop_text_ends_an_answer_and_is_no_part_of_it(servicer):
    whole = text_of(await servicer.ModelInfer(asking("once"), None))
    stop = whole[4:6]
    for wish in (asking("once", stop=stop), choosing(asking("once"), sampling_parameters=json.dumps({"stop": [stop]}))):
        answer = await servicer.ModelInfer(wish, None)
        assert answer.parameters["finish_reason"].string_param == "stop"
        assert text_of(answer) == whole[: whole.index(stop)]


async def test_the_prompt_stands_before_the_answer_where_that_is_asked_for(servicer):
    alone = text_of(await servicer.ModelInfer(asking("once"), None))
    answer = await servicer.ModelInfer(choosing(asking("once"), exclude_input_in_output=False), None)
    assert text_of(answer) == f"once{alone}"
    parts = await streamed(servicer, choosing(asking("once"), exclude_input_in_output=False))
    assert "".join(text_of(part.infer_response) for part in parts) == f"once{alone}"


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (asking("x", temperature="warm"), r"parameters\[temperature\]: must be a number"),
        (asking("x", temperature=9.0), r"parameters\[temperature\]: must be from 0 to 5"),
        (asking("x", temperature="nan"), r"parameters\[temperature\]"),
        (asking("x", max_tokens=1.5), r"parameters\[max_tokens\]: must be a whole number"),
        (asking("x", seed=True), r"parameters\[seed\]"),
        (asking("x", stop=3), r"parameters\[stop\]"),
        (asking("x", json_schema="{"), r"parameters\[json_schema\]: is no JSON"),
        (asking("x", json_schema='{"type": "nonsense"}'), r"parameters\[json_schema\]"),
        (asking("y" * 5000), r"text_input\[0\]: has"),
        (choosing(asking("x"), sampling_parameters="[1]"), r"parameters\[sampling_parameters\]: is no JSON object"),
        (
            choosing(asking("x"), sampling_parameters='{"max_token": 1}'),
            r"parameters\[sampling_parameters\]: `max_token` is not",
        ),
        (choosing(asking("x"), sampling_parameters="[" * 5000), r"parameters\[sampling_parameters\]"),
        (choosing(asking("x"), colour="red"), "no such input"),
        (choosing(oip.ModelInferRequest(model_name="tiny"), stream=True), "text_input.*is missing"),
        (choosing(asking("x"), stream="yes"), "stream.*the model wants BOOL"),
    ],
)
async def test_what_is_wrong_is_named_in_a_stream_and_outside(servicer, request_, words):
    with pytest.raises(EngineError, match=words) as caught:
        await servicer.ModelInfer(request_, None)
    (answer,) = await streamed(servicer, request_)
    assert answer.error_message == caught.value.message
    assert is_last(answer)
    with pytest.raises(EngineError, match=words):
        await streamed(servicer, request_, headers=[("triton_grpc_error", "true")])


async def test_parts_are_of_one_text_and_only_a_stream_has_them(servicer):
    (answer,) = await streamed(servicer, asking("a", "b"))
    assert "part by part only one is answered" in answer.error_message
    with pytest.raises(ParameterError, match="ModelStreamInfer or generate_stream"):
        await servicer.ModelInfer(choosing(asking("a"), stream=True), None)


async def test_who_leaves_a_stream_stops_what_is_written(servicer, model, slow):
    answers = servicer.ModelStreamInfer(_forever(asking("x", max_tokens=200)), Call())
    await anext(answers)
    assert model._loop.running
    await answers.aclose()
    await until_idle(model)


async def _forever(request):
    yield request
    await asyncio.sleep(60)


async def test_an_error_in_the_midst_comes_after_the_parts_before_it(servicer, model, slow, monkeypatch):
    break_after(3, model, monkeypatch)
    parts = await streamed(servicer, asking("x"))
    assert [part.error_message for part in parts] == ["", "", "", "the step failed"]
    assert [is_last(part) for part in parts] == [False, False, False, True]


async def test_metadata_and_configuration_say_what_may_be_sent_and_that_several_answers_come(servicer):
    told = await servicer.ModelMetadata(oip.ModelMetadataRequest(name="tiny"), None)
    assert [(each.name, each.datatype, list(each.shape)) for each in told.inputs] == [
        ("text_input", "BYTES", [-1]), ("stream", "BOOL", [1]), ("sampling_parameters", "BYTES", [1]),
        ("exclude_input_in_output", "BOOL", [1]),
    ]  # fmt: skip
    assert [(each.name, each.datatype) for each in told.outputs] == [("text_output", "BYTES")]
    config = config_of("tiny", servicer._repository.loaded, VersionPolicy(), "cpu")
    assert config.model_transaction_policy.decoupled
    assert [each.optional for each in config.input] == [False, True, True, True]


def body(value) -> rest_pb.RestInferRequest:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return rest_pb.RestInferRequest(model_name="tiny", body=httpbody_pb2.HttpBody(data=data))


async def test_generate_gives_a_text_as_triton_does(rest, servicer):
    asked = {"id": "r1", "text_input": "once", "parameters": {**GREEDY, "stream": False}}
    (answer,) = [each async for each in rest.Generate(body(asked), Call())]
    assert answer.content_type == "application/json"
    assert json.loads(answer.data) == {
        "id": "r1", "model_name": "tiny", "model_version": "1", "finish_reason": "length", "prompt_tokens": 4,
        "completion_tokens": 12, "text_output": text_of(await servicer.ModelInfer(asking("once"), None)),
    }  # fmt: skip
    flat = {"text_input": ["once", "twice"], **GREEDY, "stop": ["~~"]}
    (answer,) = [each async for each in rest.Generate(body(flat), Call())]
    assert len(json.loads(answer.data)["text_output"]) == 2


async def test_generate_stream_gives_events(rest, slow):
    asked = {"text_input": "once", "stream": True, "parameters": GREEDY}
    events = [each async for each in rest.GenerateStream(body(asked), Call())]
    assert {each.content_type for each in events} == {"text/event-stream"}
    assert all(each.data.startswith(b"data: {") and each.data.endswith(b"}\n\n") for each in events)
    told = [json.loads(each.data[6:]) for each in events]
    (whole,) = [each async for each in rest.Generate(body({**asked, "stream": False}), Call())]
    assert "".join(each["text_output"] for each in told) == json.loads(whole.data)["text_output"]
    assert [each.get("finish_reason") for each in told] == [None] * (len(told) - 1) + ["length"]


async def test_an_error_before_the_first_event_refuses_and_one_after_it_is_an_event(rest, model, slow, monkeypatch):
    with pytest.raises(ParameterError, match="temperature"):
        await anext(rest.GenerateStream(body({"text_input": "x", "temperature": "warm"}), Call()))
    with pytest.raises(ParameterError, match="generate_stream"):
        await anext(rest.Generate(body({"text_input": "x", "stream": True}), Call()))
    break_after(1, model, monkeypatch)
    heard = []
    with pytest.raises(InferenceFailedError):
        async for each in rest.GenerateStream(body({"text_input": "x", **GREEDY}), Call()):
            heard.append(json.loads(each.data[6:]))
    assert heard[-1] == {"error": "the step failed"}
    assert "text_output" in heard[0]
