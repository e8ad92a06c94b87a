"""OpenAI's interface before a model that says what a test wants: answers, events, errors, and callers who leave."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.errors import FieldError, ModelNotFoundError, NoLabelsError
from engine.generation.base import Message, Tool, ToolCall
from engine.servicers.openai import OpenAIServicer
from mesh.identity import Caller, set_caller
from tests.fakes.writer import Writer
from tests.unit.engine.openai_calls import HELLO, LET, One, chat, complete, events_of, request_of

TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


@pytest.fixture(autouse=True)
def _caller():
    set_caller(Caller(tenant="t", subject="tenants/t/principals/p", peer="spiffe://x/gateway"))


async def test_a_whole_answer_has_text_reason_and_use():
    (body,) = await chat(Writer())
    answer = json.loads(body.data)
    assert body.content_type == "application/json"
    assert answer["object"] == "chat.completion"
    assert answer["id"].startswith("chatcmpl-")
    assert answer["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "One two three.", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert answer["usage"] == {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


async def test_a_stream_says_who_speaks_then_the_words_then_why_it_ends():
    *events, done = events_of(await chat(Writer(), stream=True))
    assert done == "[DONE]"
    assert {event["object"] for event in events} == {"chat.completion.chunk"}
    assert len({event["id"] for event in events}) == 1
    assert "usage" not in events[0]
    deltas = [event["choices"][0]["delta"] for event in events]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert "".join(delta.get("content", "") for delta in deltas) == "One two three."
    assert [event["choices"][0]["finish_reason"] for event in events] == [None] * 4 + ["stop"]


async def test_a_stream_tells_its_use_where_it_is_asked_to():
    *events, last, _ = events_of(await chat(Writer(), stream=True, stream_options={"include_usage": True}))
    assert [event["usage"] for event in events] == [None] * len(events)
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 3


async def test_several_answers_have_seeds_of_their_own_and_count_their_prompt_once():
    writer = Writer()
    (body,) = await chat(writer, n=3, seed=2**63 - 2)
    answer = json.loads(body.data)
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert {choice["message"]["content"] for choice in answer["choices"]} == {"One two three."}
    assert answer["usage"] == {"prompt_tokens": 7, "completion_tokens": 9, "total_tokens": 16}
    seeds = [sampling.seed for _, sampling, _ in writer.asked]
    assert len(set(seeds)) == 3
    assert all(0 <= seed < 2**63 for seed in seeds)
    (body,) = await complete(writer, prompt=["a", "b"], n=2)
    assert json.loads(body.data)["usage"] == {"prompt_tokens": 14, "completion_tokens": 12, "total_tokens": 26}


async def test_what_is_asked_reaches_the_model():
    writer = Writer()
    turns = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": "Ann"},
        {"role": "assistant", "content": None, "refusal": None, "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "seen"},
    ]  # fmt: skip
    await chat(
        writer, messages=turns, tools=[TOOL], tool_choice={"type": "function", "function": {"name": "look"}},
        temperature=0, top_p=0.5, top_k=3, stop="END", max_tokens=5, max_completion_tokens=4, presence_penalty=1,
        frequency_penalty=-1, logprobs=True, top_logprobs=2, response_format={"type": "json_object"}, user="u",
        logit_bias={}, store=False, modalities=["text"], parallel_tool_calls=True,
    )  # fmt: skip
    ((prompt, sampling, terms),) = writer.asked
    assert prompt.messages == (
        Message("system", "Be brief."),
        Message("user", "ab", "Ann"),
        Message("assistant", "", "", (ToolCall("c1", "look", "{}"),)),
        Message("tool", "seen", "", (), "c1"),
    )
    assert (prompt.tools, prompt.tool_choice) == ((Tool("look", "", {"type": "object"}),), "look")
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p, sampling.top_k) == (4, 0, 0.5, 3)
    assert (sampling.stop, sampling.presence_penalty, sampling.frequency_penalty) == (("END",), 1, -1)
    assert (sampling.top_logprobs, sampling.json_schema, sampling.seed) == (2, {"type": "object"}, None)
    assert terms.owner == "t"


async def test_tool_calls_and_scores_read_as_clients_know_them():
    call = ToolCall("c1", "look", '{"a": 1}')
    shown = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"a": 1}'}}
    (body,) = await chat(Writer((), calls=(call,)), tools=[TOOL])
    choice = json.loads(body.data)["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": None, "refusal": None, "tool_calls": [shown]}
    assert choice["finish_reason"] == "tool_calls"
    *_, last, _ = events_of(await chat(Writer(("a",), calls=(call,)), tools=[TOOL], stream=True))
    assert last["choices"][0]["delta"] == {"tool_calls": [{"index": 0, **shown}]}
    (body,) = await chat(Writer(("é",)), logprobs=True, top_logprobs=1)
    (score,) = json.loads(body.data)["choices"][0]["logprobs"]["content"]
    assert score == {
        "token": "é", "logprob": -0.5, "bytes": [0xC3, 0xA9],
        "top_logprobs": [{"token": "é", "logprob": -0.5, "bytes": [0xC3, 0xA9]}],
    }  # fmt: skip


async def test_texts_are_gone_on_with():
    writer = Writer()
    (body,) = await complete(writer, logprobs=2)
    answer = json.loads(body.data)
    assert (answer["object"], answer["choices"][0]["text"]) == ("text_completion", "One two three.")
    assert answer["choices"][0]["logprobs"]["text_offset"] == [0, 4, 8]
    assert writer.asked[0][0].text == "Say"
    assert writer.asked[0][1].max_tokens == 16
    *events, _ = events_of(await complete(Writer(), stream=True, logprobs=0))
    assert [event["choices"][0]["text"] for event in events] == ["One ", "two ", "three.", ""]
    assert events[2]["choices"][0]["logprobs"]["text_offset"] == [8]


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"temprature": 1}, "temprature"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"n": 17}, "n"),
        ({"n": 0}, "n"),
        ({"seed": 2**70}, "seed"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"stop": ""}, "stop"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"store": True}, "store"),
        ({"service_tier": "flex"}, "service_tier"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"functions": []}, "functions"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"x": 1}}, "stream_options.x"),
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "oracle", "content": ""}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "", "colour": 1}]}, "messages[0].colour"),
        ({"messages": [{"role": "tool", "content": ""}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].type"),
        ({"tools": [TOOL, TOOL]}, "tools"),
        ({"tools": [{"type": "retrieval"}]}, "tools[0]"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice.function.name"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "yaml"}}, "response_format.type"),
    ],
)
async def test_a_field_that_is_wrong_or_asks_for_what_is_not_done_is_named(more, field):
    writer = Writer()
    with pytest.raises(FieldError) as caught:
        await chat(writer, **more)
    assert caught.value.violations[0].field.startswith(field), caught.value.message
    assert writer.asked == []


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"messages": [{"role": "usr", "content": "a"}]}, "`messages[0].role`: is `usr`; did you mean `user`?"),
        ({"messages": [{"role": "boss", "content": "a"}]}, "known are assistant, developer, system, tool, user"),
        ({"response_format": {"type": "yaml"}}, "is `yaml`; known are json_object, json_schema, text"),
        ({"tool_choice": "never"}, "`tool_choice`: is `never`; known are auto, none, required"),
        (
            {"tools": [{"type": "func", "function": {"name": "a"}}]},
            "`tools[0].type`: is `func`; did you mean `function`?",
        ),
    ],
)
async def test_a_word_that_is_none_of_the_known_ones_is_told_them(more, said):
    with pytest.raises(FieldError) as caught:
        await chat(Writer(), **more)
    assert said in caught.value.message


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"\xff", b'{"model":' * 50_000, b'{"model": "m"}', b'{"model": NaN}']
)
async def test_a_body_that_is_none_is_refused(body):
    with pytest.raises(Exception, match=r"body|messages|model") as caught:
        async for _ in OpenAIServicer(One(Writer()), None, LET).Chat(request_of(body), None):
            pytest.fail("it answered")
    assert caught.value.code == 3


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": [[1]]}, "prompt"),
        ({"prompt": [True]}, "prompt[0]"),
        ({"prompt": []}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": ["a"] * 9, "n": 2}, "n"),
        ({"echo": True}, "echo"),
        ({"best_of": 2}, "best_of"),
        ({"suffix": "x"}, "suffix"),
        ({"logprobs": 6}, "logprobs"),
        ({"messages": []}, "messages"),
    ],
)
async def test_a_text_to_go_on_with_is_checked_too(more, field):
    with pytest.raises(FieldError) as caught:
        await complete(Writer(), **more)
    assert caught.value.violations[0].field == field


async def test_names_of_other_tenants_are_as_if_they_were_not():
    one = One(Writer())
    with pytest.raises(ModelNotFoundError):
        async for _ in OpenAIServicer(one, None, LET).Chat(request_of({**HELLO, "model": "tenants/o/models/m"}), None):
            pass
    assert one.asked == []
    for model, asked in (("m", ("t", "m", "", "")), ("m:2", ("t", "m", "2", "")), ("tenants/system/models/m", None)):
        async for _ in OpenAIServicer(one, None, LET).Chat(request_of({**HELLO, "model": model}), None):
            pass
        assert asked is None or one.asked[-1] == asked


async def test_a_model_that_generates_nothing_says_so():
    with pytest.raises(NoLabelsError, match="generates no text"):
        await chat(object())


@pytest.mark.parametrize("said", [{}, {"user": None}, {"user": "ada"}])
async def test_whom_a_request_is_for_is_the_key_that_keeps_to_a_version_of_an_alias(said: dict[str, Any]):
    one = One(Writer())
    servicer, common = OpenAIServicer(one, None, LET), {"model": "m:canary", **said}
    _ = [body async for body in servicer.Chat(request_of({**HELLO, **common, "safety_identifier": "x"}), None)]
    _ = [body async for body in servicer.Complete(request_of({"prompt": "a", **common}), None)]
    with pytest.raises(NoLabelsError):
        await servicer.Embed(request_of({"input": "a", **common}), None)
    assert [asked[3] for asked in one.asked] == [said.get("user") or "x"] + [said.get("user") or ""] * 2
