"""Texts without measure: refused by their place in the request, or read a part at a time: others come in between."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiation.engine.v1 import prediction_pb2 as pb

from engine.errors import ElementError, FieldError, TensorError
from engine.openai.embedding import inputs_of
from engine.openai.reading import read
from engine.openai.requests import EmbeddingsRequest
from engine.servables import tokens
from engine.servables.tokens import in_pieces, texts_of
from mesh.stages.validation import RequestInvalidError, ValidationStage
from tests.unit.engine.test_text_kinds import GRAPH, classifier

MILLION = "word " * 1_000_000
RULED = SimpleNamespace(method=SimpleNamespace(named=(), ruled=True))


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["a", "b", "c", MILLION], "texts[3]: must be at most 65536 bytes"),
        (["a"] * 1025, "texts: must contain no more than 1024 item(s)"),
    ],
)
@pytest.mark.parametrize("kind", [pb.EmbedRequest, pb.ClassifyRequest, pb.ExtractEntitiesRequest])
def test_a_contract_names_the_text_that_is_too_long(kind: type, texts: list[str], said: str):
    with pytest.raises(RequestInvalidError) as caught:
        ValidationStage().run(RULED, kind(name="tenants/t/models/m", texts=texts))
    assert said in caught.value.message
    assert caught.value.violations[0].field == said.split(":", maxsplit=1)[0]


def test_a_tensor_names_the_text_that_is_too_long():
    with pytest.raises(ElementError, match=r"^text\[2\]: is 5000000 bytes; at most 65536 are read"):
        texts_of(np.array([b"a", b"b", MILLION.encode()], object))
    with pytest.raises(TensorError, match="holds 1025 texts; at most 1024"):
        texts_of(np.array([b"a"] * 1025, object))


def test_openai_names_the_input_that_is_too_long():
    def asked(value: object) -> EmbeddingsRequest:
        return read(msgspec.json.encode({"model": "m", "input": value}), EmbeddingsRequest)

    for value, said in (
        (["a", "b", "c", MILLION], r"^`input\[3\]`: is longer than 65536 bytes"),
        (MILLION, "^`input`: is longer than 65536 bytes"),
        (["a"] * 1025, "^`input`: holds 1025; at most 1024"),
        ([[1], [1] * 9000], r"^`input\[1\]`: holds 9000 token ids"),
    ):
        with pytest.raises(FieldError, match=said):
            inputs_of(asked(value))


@given(st.lists(st.integers(0, 200_000), max_size=20))
async def test_much_text_is_read_in_parts_and_comes_out_in_order(sizes: list[int]):
    seen: list[int] = []

    def work(part: list[int]) -> list[int]:
        seen.append(sum(part) if len(part) > 1 else 0)
        return [-each for each in part]

    assert await in_pieces(sizes, lambda size: size, work) == [-size for size in sizes]
    assert max(seen, default=0) <= tokens._PIECE


async def test_texts_of_megabytes_cost_a_neighbour_a_part_of_them_and_not_their_sum(tmp_path):
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))  # the smallest machine there is
    made = classifier(tmp_path, GRAPH + "labels: [happy, sad]\nscores: logits\n")

    async def took(*texts: str) -> float:
        began = time.monotonic()
        await made.classify(texts)
        return time.monotonic() - began

    await took("good")
    long = ["good " * 13_000] * 12
    alone_s = await took(*long)
    floods = [asyncio.create_task(took(*long)) for _ in range(12)]
    await asyncio.sleep(0.05)
    short = sorted([await took("good") for _ in range(50)])
    middle = [await took("good " * 1200) for _ in range(2)]
    assert not all(flood.done() for flood in floods)
    for flood in floods:
        flood.cancel()
    await asyncio.gather(*floods, return_exceptions=True)
    assert short[-2] < alone_s / 4 + 0.1
    assert max(middle) < 5 * alone_s + 0.2  # where each flood were one piece, twelve of them would come before
    made.close()
