"""OpenAI's own client at the front proxy: embeddings, models, and errors as it knows them."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import time
from collections.abc import Iterator

import httpx
import numpy as np
import openai
import pytest

from tests.e2e.test_clients import golden
from tests.fakes.decoders import MANIFEST, decoder_folder
from tests.fakes.installed import Installed

MINILM = "all-minilm-l6-v2"


@pytest.fixture
def client(home_of_all: Installed) -> Iterator[openai.OpenAI]:
    context = ssl.create_default_context(cafile=str(home_of_all.home / "ca.pem"))
    url = f"{home_of_all.gateway['url']}/v1"
    with openai.OpenAI(
        base_url=url, api_key=home_of_all.token(), http_client=httpx.Client(verify=context), max_retries=0
    ) as made:
        yield made


def test_embeddings_are_the_golden_ones_in_either_form(client: openai.OpenAI):
    texts, expected = golden()
    for form in ("float", "base64"):
        answer = client.embeddings.create(model=MINILM, input=texts, encoding_format=form)
        vectors = answer.data[0].embedding
        if form == "base64":
            import base64

            vectors = np.frombuffer(base64.b64decode(vectors), np.float32)
        assert np.array(vectors) @ expected[0] / np.linalg.norm(expected[0]) >= 0.9999
        assert [each.index for each in answer.data] == list(range(len(texts)))
        assert answer.usage.prompt_tokens == answer.usage.total_tokens > len(texts)
    plain = client.embeddings.create(model=f"tenants/system/models/{MINILM}", input=texts[0], dimensions=384)
    assert np.array(plain.data[0].embedding) @ expected[0] / np.linalg.norm(expected[0]) >= 0.9999


def test_token_ids_give_what_their_text_gives(client: openai.OpenAI):
    text = client.embeddings.create(model=MINILM, input="hello world")
    ids = [101, 7592, 2088, 102]
    for given in (ids, [ids, [101, 102]]):
        tokens = client.embeddings.create(model=MINILM, input=given)
        assert np.allclose(tokens.data[0].embedding, text.data[0].embedding, atol=1e-5)
    assert text.usage.prompt_tokens == 4


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"dimensions": 128}, "dimensions"),
        ({"input": []}, "input"),
        ({"input": ["a", 5]}, "input[1]"),
        ({"input": ["x" * 1_000_000]}, "input[0]"),
        ({"input": ["a"] * 1025}, "input"),
        ({"input": [-1]}, "input[0]"),
        ({"input": [[]]}, "input[0]"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"extra_body": {"colour": "red"}}, "colour"),
    ],
)
def test_what_is_wrong_with_an_embedding_is_named(client: openai.OpenAI, more, param):
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(**{"model": MINILM, "input": "a", **more})
    assert caught.value.param == param, caught.value
    assert caught.value.type == "invalid_request_error"
    assert caught.value.code in ("field_invalid", "field_unsupported")


def test_models_are_listed_and_shown(client: openai.OpenAI):
    listed = {model.id: model for model in client.models.list()}
    assert {MINILM, "digits"} <= set(listed)
    assert listed[MINILM].owned_by == "system"
    assert listed[MINILM].created > 1_700_000_000
    assert client.models.retrieve(MINILM) == listed[MINILM]


def test_errors_are_of_the_kinds_that_the_client_knows(home_of_all: Installed, client: openai.OpenAI):
    hello = [{"role": "user", "content": "Hello"}]
    with pytest.raises(openai.NotFoundError) as missing:
        client.embeddings.create(model="never-was", input="a")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("never-was")
    with pytest.raises(openai.NotFoundError) as foreign:
        client.embeddings.create(model="tenants/other/models/x", input="a")
    assert foreign.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError, match="generates no text"):
        client.chat.completions.create(model=MINILM, messages=hello)
    with pytest.raises(openai.BadRequestError, match="generates no text"):
        client.chat.completions.create(model=MINILM, messages=hello, stream=True)
    with pytest.raises(openai.BadRequestError, match="makes no vectors"):
        client.embeddings.create(model="digits", input="a")
    with pytest.raises(openai.AuthenticationError) as denied:
        client.with_options(api_key="not.a.token").models.list()
    assert denied.value.type == "authentication_error"
    with pytest.raises(openai.NotFoundError):
        client.post("/chat/nothing", cast_to=object, body={})
    with pytest.raises(openai.APIStatusError) as large:
        client.embeddings.create(model=MINILM, input="x" * 17_000_000)
    assert large.value.status_code == 413


TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\\n{% endfor %}assistant:"
HELLO = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def decoder(home_of_all: Installed, tmp_path_factory) -> str:
    """A decoder of no meaning: what it says is nonsense, and always the same."""
    folder = tmp_path_factory.mktemp("decoders") / "babble"
    manifest = MANIFEST.replace("name: tiny", "name: babble") + f'chat_template: "{TEMPLATE}"\n'
    decoder_folder(folder, manifest=manifest)
    home_of_all.command("models", "push", str(folder))
    return "babble"


def test_a_conversation_goes_on_whole_and_in_pieces(client: openai.OpenAI, decoder: str):
    asked = {"model": decoder, "messages": HELLO, "max_tokens": 12, "temperature": 0}
    whole = client.chat.completions.create(**asked)
    text = whole.choices[0].message.content
    assert whole.choices[0].finish_reason == "length"
    assert whole.usage.completion_tokens == 12
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + 12
    stream = client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    *chunks, last = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert len(chunks) >= 2  # what is made before it is taken comes together
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == text
    assert chunks[-1].choices[0].finish_reason == "length"
    assert (last.choices, last.usage) == ([], whole.usage)
    assert client.chat.completions.create(**{**asked, "model": f"{decoder}:1"}).choices[0].message.content == text


def test_what_is_chosen_and_how_it_ends_is_the_callers(client: openai.OpenAI, decoder: str):
    asked = {"model": decoder, "prompt": "Once", "max_tokens": 20}
    greedy = client.completions.create(**asked, temperature=0).choices[0].text
    ended = client.completions.create(**asked, temperature=0, stop=greedy[3:5])
    assert ended.choices[0].text == greedy[: greedy.index(greedy[3:5])]
    assert ended.choices[0].finish_reason == "stop"
    drawn = [client.completions.create(**asked, temperature=2, seed=seed).choices[0].text for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    scored = client.completions.create(**asked, temperature=0, logprobs=2).choices[0].logprobs
    assert len(scored.tokens) == 20
    assert max(scored.token_logprobs) <= 0
    several = client.completions.create(**{**asked, "prompt": ["Once", "Twice"]}, n=2, temperature=2, seed=1)
    assert len({choice.text for choice in several.choices}) == 4
    assert several.choices[0].text == drawn[0]


def test_an_answer_follows_a_schema(client: openai.OpenAI, decoder: str):
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    schema["additionalProperties"] = False
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
    answer = client.chat.completions.create(model=decoder, messages=HELLO, response_format=form, max_tokens=64)
    assert isinstance(json.loads(answer.choices[0].message.content)["ok"], bool)


async def test_the_asynchronous_client_streams_many_at_once(home_of_all: Installed, decoder: str):
    context = ssl.create_default_context(cafile=str(home_of_all.home / "ca.pem"))
    async with openai.AsyncOpenAI(
        base_url=f"{home_of_all.gateway['url']}/v1", api_key=home_of_all.token(),
        http_client=httpx.AsyncClient(verify=context), max_retries=0,
    ) as client:  # fmt: skip

        async def ask() -> str:
            stream = await client.chat.completions.create(
                model=decoder, messages=HELLO, max_tokens=12, temperature=0, stream=True
            )
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

        texts = await asyncio.gather(*(ask() for _ in range(12)))
        assert len(set(texts)) == 1


def test_a_conversation_that_cannot_be_is_refused_before_it_begins(client: openai.OpenAI, decoder: str):
    for more, param in (
        ({"messages": [{"role": "user", "content": "x" * 5000}]}, "prompt"),
        ({"max_tokens": 5, "frequency_penalty": 9}, "frequency_penalty"),
        ({"logit_bias": {"1": 1}}, "logit_bias"),
    ):
        for stream in (False, True):
            with pytest.raises(openai.BadRequestError) as caught:
                client.chat.completions.create(**{"model": decoder, "messages": HELLO, **more}, stream=stream)
            assert caught.value.param == param, caught.value


def test_events_come_while_the_answer_is_made_and_end_with_done(home_of_all: Installed, decoder: str):
    asked = {"model": decoder, "messages": HELLO, "max_tokens": 100, "temperature": 0, "stream": True}
    with home_of_all.rest() as rest, rest.stream("POST", "/v1/chat/completions", json=asked) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert "content-encoding" not in answer.headers
        lines = [line for line in answer.iter_lines() if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"


def test_a_caller_who_leaves_stops_the_computation(home_of_all: Installed, decoder: str):
    asked = {"model": decoder, "prompt": "Once", "max_tokens": 200, "n": 8, "stream": True}
    with home_of_all.rest() as rest:
        for _ in range(3):
            with rest.stream("POST", "/v1/completions", json=asked) as answer:
                next(answer.iter_lines())
    deadline = time.monotonic() + 5
    while running(home_of_all) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert running(home_of_all) == 0


def running(here: Installed) -> float:
    """Answers that are being made."""
    figure = r"^gen_ai_server_requests_running\{[^}]*babble[^}]*\} (\S+)$"
    found = re.findall(figure, here.metrics("engine"), re.MULTILINE)
    assert found, "the figure is not shown"
    return sum(map(float, found))
