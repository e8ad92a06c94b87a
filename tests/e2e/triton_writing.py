"""What tritonclient gets from a model that writes: its answers come in parts. The checks are `triton_client`'s."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable

import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from triton_asking import ADDRESS, CA, HEADERS, X, client, given, texts

WRITER = "docs-writer"


def writing(text: str) -> list[triton.InferInput]:
    return [given("text_input", texts(text.encode()), "BYTES")]


def a_model_that_writes_says_that_its_answers_are_several() -> None:
    config = client.get_model_config(WRITER, headers=HEADERS).config
    assert config.model_transaction_policy.decoupled
    told = client.get_model_metadata(WRITER, headers=HEADERS)
    assert [(each.name, each.datatype) for each in told.inputs][:2] == [("text_input", "BYTES"), ("stream", "BOOL")]
    assert [each.name for each in told.outputs] == ["text_output"]
    assert not client.get_model_config("oip-double", headers=HEADERS).config.model_transaction_policy.decoupled


def written(results: list[triton.InferResult]) -> str:
    return b"".join(each.as_numpy("text_output")[0] for each in results).decode()


WISHED = {"max_tokens": 300, "temperature": 2.0, "seed": 1}  # long enough to be read in parts by whoever is slow


def a_text_comes_part_by_part_to_a_callback_beside_other_answers() -> None:
    whole = client.infer(WRITER, writing("# Access"), parameters=WISHED, headers=HEADERS)
    assert whole.get_response().parameters["finish_reason"].string_param in ("length", "stop")
    heard: list[triton.InferResult | Exception] = []
    mine = triton.InferenceServerClient(ADDRESS, ssl=True, root_certificates=CA)
    mine.start_stream(lambda result, error: heard.append(error or result), headers=HEADERS)
    for uid in ("a", "b"):
        mine.async_stream_infer(
            WRITER, writing("# Access"), request_id=uid, enable_empty_final_response=True, parameters=WISHED
        )
    mine.async_stream_infer("oip-double", [given("x", X, "FP32")], request_id="c")
    mine.async_stream_infer(WRITER, writing("# Access"), request_id="d", parameters={"temperature": "warm"})
    mine.stop_stream()
    assert [type(each) for each in heard if isinstance(each, Exception)] == [triton.InferenceServerException], heard
    results = [each for each in heard if not isinstance(each, Exception)]
    for uid in ("a", "b"):
        parts = [each for each in results if each.get_response().id == uid]
        assert written(parts) == written([whole])
        last = [each.get_response().parameters["triton_final_response"].bool_param for each in parts]
        assert last == [False] * (len(parts) - 1) + [True]
        assert len(parts) > 1
    mine.close()


def made_by_place() -> dict[int, int]:
    """How many parts the model has made, by their place in their answers."""
    (told,) = client.get_inference_statistics(WRITER, headers=HEADERS).model_stats
    return {int(place): each.success.count + each.empty_response.count for place, each in told.response_stats.items()}


def parts_are_in_the_statistics_by_their_place() -> None:
    before = made_by_place()
    heard: list[triton.InferResult | Exception] = []
    mine = triton.InferenceServerClient(ADDRESS, ssl=True, root_certificates=CA)
    mine.start_stream(lambda result, error: heard.append(error or result), headers=HEADERS)
    mine.async_stream_infer(WRITER, writing("# Access"), parameters=WISHED)
    mine.stop_stream()
    mine.close()
    after = made_by_place()
    assert not [each for each in heard if isinstance(each, Exception)], heard
    grown = [place for place, count in sorted(after.items()) if count == before.get(place, 0) + 1]
    assert grown == list(range(len(heard)))
    assert client.get_inference_statistics("oip-double", headers=HEADERS).model_stats[0].response_stats == {}


def a_stream_that_is_cancelled_stops_what_is_written() -> None:
    first = threading.Event()
    mine = triton.InferenceServerClient(ADDRESS, ssl=True, root_certificates=CA)
    mine.start_stream(lambda **_: first.set(), headers=HEADERS)
    for _ in range(32):
        mine.async_stream_infer(WRITER, writing("# Flows"), parameters={"temperature": 2.5, "max_tokens": 900})
    assert first.wait(30)
    mine.stop_stream(cancel_requests=True)
    mine.close()
    began = time.monotonic()
    client.infer(WRITER, writing("# Access"), parameters={"max_tokens": 3}, headers=HEADERS)
    assert time.monotonic() - began < 5


async def asynchronously_written() -> None:
    async with triton_aio.InferenceServerClient(ADDRESS, ssl=True, root_certificates=CA) as mine:

        async def requests():
            settings = given("sampling_parameters", texts(json.dumps(WISHED).encode()), "BYTES")
            yield {"model_name": WRITER, "inputs": [*writing("# Access"), settings], "request_id": "1"}

        heard = [result async for result, error in mine.stream_infer(requests(), headers=HEADERS)]
        whole = await mine.infer(WRITER, writing("# Access"), parameters=WISHED, headers=HEADERS)
        assert written(heard) == written([whole])
        assert len(heard) > 1


def the_asynchronous_client_gets_parts_too() -> None:
    asyncio.run(asynchronously_written())


CHECKS: tuple[Callable[[], None], ...] = (
    a_model_that_writes_says_that_its_answers_are_several,
    a_text_comes_part_by_part_to_a_callback_beside_other_answers,
    parts_are_in_the_statistics_by_their_place,
    a_stream_that_is_cancelled_stops_what_is_written,
    the_asynchronous_client_gets_parts_too,
)
