"""OpenAI's own client at the front proxy: embeddings, models, and errors as it knows them."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import httpx
import numpy as np
import openai
import pytest

from tests.e2e.test_clients import golden
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
