"""Texts written through the front door, as gRPC and as server-sent events; what happens when nobody wants the rest."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import grpc
import httpx
from tiation.engine.v1 import prediction_pb2 as pb
from tiation.engine.v1 import prediction_pb2_grpc
from tiation.mesh.v1 import call_record_pb2

from tests.fakes.installed import Installed

WRITER = "tenants/system/models/docs-writer"
QUESTION = "What does PredictionService.Embed do?"
ANSWER = "Turns texts into vectors, with a model of the kind `text-embedding`."
PATH = f"/v1/{WRITER}:generate"
GUIDE = Path(__file__).parents[2] / "docs" / "generation.md"


def asking(*questions: str, **sampling) -> pb.GenerateRequest:
    prompts = [pb.Prompt(messages=[pb.PromptMessage(role="user", content=each)]) for each in questions]
    return pb.GenerateRequest(name=WRITER, prompts=prompts, sampling=pb.SamplingSettings(**sampling))


def endless() -> pb.GenerateRequest:
    """Texts that hardly ever end by themselves, many of them."""
    prompts = [pb.Prompt(text="# Flows") for _ in range(48)]
    sampling = pb.SamplingSettings(temperature=2.5, seed=1)
    return pb.GenerateRequest(name=WRITER, prompts=prompts, sampling=sampling)


def running(here: Installed) -> float:
    """How many answers of docs-writer are under way, as Prometheus sees it."""
    pattern = r'gen_ai_server_requests_running\{model="tenants/system/models/docs-writer",version="1"\} (\S+)'
    found = re.search(pattern, here.metrics("engine"))
    assert found is not None
    return float(found[1])


def wait_until(condition: Callable[[], bool], within_s: float) -> float:
    """How long it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < within_s
        time.sleep(0.02)
    return time.monotonic() - began


def test_answers_are_streamed_over_grpc_each_with_its_own_parts(home_of_all: Installed):
    with home_of_all.channel() as channel:
        stub = prediction_pb2_grpc.PredictionServiceStub(channel)
        parts = list(stub.Generate(asking(QUESTION, "What does engine.max_queue do?"), timeout=30))
    for index in (0, 1):
        mine = [part for part in parts if part.index == index]
        assert [part.sequence for part in mine] == list(range(1, len(mine) + 1))
        assert [part.finish for part in mine if part.finish] == [pb.GenerateResponse.STOP]
        assert mine[-1].finish
        assert mine[-1].prompt_tokens > 5
    assert "".join(part.text for part in parts if part.index == 0) == ANSWER
    assert "".join(part.text for part in parts if part.index == 1).startswith(
        "engine.max_queue: requests that may wait"
    )


def test_answers_are_streamed_as_server_sent_events(home_of_all: Installed):
    body = {"prompts": [{"messages": [{"role": "user", "content": QUESTION}]}]}
    events = []
    with home_of_all.rest() as client, client.stream("POST", PATH, json=body) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        events += [json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: ")]
    assert "".join(event["text"] for event in events) == ANSWER
    assert events[-1]["finish"] == "STOP"
    shown = [json.loads(each) for each in re.findall(r"^data: (.+)$", GUIDE.read_text(), re.MULTILINE)]
    assert [events[0].keys(), events[-1].keys()] == [each.keys() for each in shown]


def test_events_name_what_they_have_to_say_and_zeros(home_of_all: Installed):
    body = {"prompts": [{"text": "# Flows"}] * 2, "sampling": {"topLogprobs": 1, "maxTokens": 3}}
    with home_of_all.rest() as client:
        answer = client.post(PATH, json=body)
        unknown = client.post(PATH, json={**body, "prompt": "x"})
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
    assert {event["index"] for event in events} == {0, 1}
    always = {"index", "sequence", "text", "promptTokens", "completionTokens", "version"}
    assert all(event.keys() - {"scores", "finish"} == always for event in events)
    assert [event["finish"] for event in events if "finish" in event] == ["LENGTH"] * 2
    scores = [score for event in events for score in event.get("scores", [])]
    assert len(scores) == 6
    assert all(score.keys() == {"text", "logprob", "top"} for score in scores)
    assert all(each.keys() == {"text", "logprob"} for score in scores for each in score["top"])
    assert unknown.status_code == 400
    assert "prompt" in unknown.json()["message"]


def test_what_cannot_be_asked_is_refused_before_anything_is_streamed(home_of_all: Installed):
    with home_of_all.rest() as client:
        long = client.post(PATH, json={"prompts": [{"text": "x"}, {"text": "word " * 5000}]})
        schema = {"prompts": [{"text": "x"}], "sampling": {"jsonSchema": '{"type": "nonsense"}'}}
        wrong = client.post(PATH, json=schema)
        other = client.post("/v1/tenants/system/models/digits:generate", json={"prompts": [{"text": "x"}]})
    assert long.status_code == wrong.status_code == other.status_code == 400
    assert "prompts[1].prompt: has " in long.json()["message"]
    assert "sampling.json_schema: cannot be used" in wrong.json()["message"]
    assert "writes no texts" in other.json()["message"]


def test_an_answer_follows_its_schema_through_the_front_door(home_of_all: Installed):
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    schema["additionalProperties"] = False
    with home_of_all.channel() as channel:
        stub = prediction_pb2_grpc.PredictionServiceStub(channel)
        parts = stub.Generate(asking(QUESTION, max_tokens=50, json_schema=json.dumps(schema)), timeout=30)
        found = json.loads("".join(part.text for part in parts))
    assert found in ({"ok": True}, {"ok": False})


def test_who_hangs_up_over_grpc_frees_the_places(home_of_all: Installed):
    with home_of_all.channel() as channel:
        call = prediction_pb2_grpc.PredictionServiceStub(channel).Generate(endless(), timeout=60)
        next(call)
        assert running(home_of_all) > 0
        call.cancel()
        assert wait_until(lambda: running(home_of_all) == 0, 5) < 2
        assert call.code() is grpc.StatusCode.CANCELLED


def test_who_hangs_up_over_rest_frees_the_places(home_of_all: Installed):
    body = {"prompts": [{"text": "# Flows"}] * 48, "sampling": {"temperature": 2.5, "seed": 1}}
    with home_of_all.rest() as client, client.stream("POST", PATH, json=body) as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith("data: ")
        assert running(home_of_all) > 0
    assert wait_until(lambda: running(home_of_all) == 0, 5) < 2


def test_the_record_says_how_many_tokens_were_read_and_written(home_of_all: Installed):
    with home_of_all.channel() as channel:
        stub = prediction_pb2_grpc.PredictionServiceStub(channel)
        *_, last = stub.Generate(asking(QUESTION, max_tokens=7), timeout=30)
    expected = {"rows": 1, "tokens_in": last.prompt_tokens, "tokens_out": 7}
    database = f"file:{home_of_all.home}/security/security.db?mode=ro"

    def shipped() -> bool:
        with closing(sqlite3.connect(database, uri=True)) as records:
            rows = records.execute("SELECT record FROM records WHERE service = 'engine'").fetchall()
        found = [call_record_pb2.CallRecord.FromString(row[0]) for row in rows]
        return any(dict(each.usage) == expected for each in found if each.method.endswith("/Generate"))

    wait_until(shipped, 10)


def test_the_command_shows_the_answer_and_what_kept_it_from_coming(home_of_all: Installed):
    assert home_of_all.command("models", "generate", WRITER, QUESTION).stdout == f"{ANSWER}\n"
    whole = home_of_all.json("models", "generate", WRITER, QUESTION, "--max-tokens", "3")
    assert (whole["finish"], whole["completionTokens"]) == ("LENGTH", 3)
    refused = home_of_all.command("models", "generate", WRITER, "x " * 5000, check=False)
    assert refused.returncode != 0
    assert "1024 together" in refused.stderr


def test_the_protocol_of_tensors_gives_whole_texts(home_of_all: Installed):
    body = {
        "inputs": [{"name": "text_input", "datatype": "BYTES", "shape": [1], "data": ["# Access\n\nWho may do what,"]}]
    }
    with home_of_all.rest() as client:
        answer: httpx.Response = client.post("/v2/models/docs-writer/infer", json=body)
    assert answer.status_code == 200, answer.text
    assert "how it is taken back" in answer.json()["outputs"][0]["data"][0]


def test_tritons_generate_gives_a_text_whole_and_generate_stream_its_parts(home_of_all: Installed):
    settings = {"temperature": 2.0, "seed": 1, "stop": ["zebra"]}
    body = {"text_input": "# Access", "max_tokens": 300, "parameters": settings}
    with home_of_all.rest() as client:
        whole = client.post("/v2/models/docs-writer/generate", json={**body, "id": "r1"})
        assert whole.status_code == 200, whole.text
        assert whole.headers["content-type"] == "application/json"
        assert {"id": "r1", "model_name": "docs-writer", "prompt_tokens": 3}.items() <= whole.json().items()
        events = []
        with client.stream("POST", "/v2/models/docs-writer/versions/1/generate_stream", json=body) as answer:
            assert answer.headers["content-type"] == "text/event-stream"
            events = [json.loads(line[6:]) for line in answer.iter_lines() if line]
        assert "".join(each["text_output"] for each in events) == whole.json()["text_output"]
        assert len(events) > 1
        for path in ("generate", "generate_stream"):
            wrong = client.post(f"/v2/models/docs-writer/{path}", json={**body, "max_tokens": "many"})
            assert (wrong.status_code, wrong.json()["error"]) == (400, "parameters[max_tokens]: must be a whole number")
        lost = client.post("/v2/models/never-was/generate_stream", json=body)
        assert lost.status_code == 404, lost.text
        other = client.post("/v2/models/all-minilm-l6-v2/generate", json=body)
        assert (other.status_code, "no such input" in other.json()["error"]) == (400, True)


def test_who_leaves_generate_stream_stops_what_is_written(home_of_all: Installed):
    body = {"text_input": "# Flows", "max_tokens": 1000, "temperature": 2.5, "seed": 1}
    with home_of_all.rest() as client:
        with client.stream("POST", "/v2/models/docs-writer/generate_stream", json=body) as answer:
            next(answer.iter_lines())
        wait_until(lambda: not running(home_of_all), 5)
