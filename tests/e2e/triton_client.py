"""What tritonclient, unchanged, gets from a platform: checks in a process of their own, which knows no other stubs.

Called with the gateway's address, its certificate, and a token; prints what went wrong by check, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import ml_dtypes
import numpy as np
import triton_writing
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from triton_asking import ADDRESS, CA, HEADERS, X, client, given, texts
from tritonclient.grpc import service_pb2
from tritonclient.utils import shared_memory

NUMBERS = {
    "BOOL": np.bool_, "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32, "UINT64": np.uint64,
    "INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64, "FP16": np.float16, "FP32": np.float32,
    "FP64": np.float64, "BF16": ml_dtypes.bfloat16,
}  # fmt: skip
TYPED = {
    "BOOL": "bool_contents", "UINT8": "uint_contents", "UINT64": "uint64_contents", "INT16": "int_contents",
    "INT64": "int64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents",
}  # fmt: skip


def numbers(rows: int) -> dict[str, np.ndarray]:
    """Inputs of the model of every numeric datatype."""
    return {name: (np.arange(rows * 2).reshape(rows, 2) % 2).astype(kind) for name, kind in NUMBERS.items()}


def doubled(array: np.ndarray, **how: object) -> triton.InferResult:
    return client.infer("oip-double", [given("x", array, "FP32")], headers=HEADERS, **how)


@contextmanager
def refused(status: str, words: str) -> Iterator[None]:
    try:
        yield
    except triton.InferenceServerException as error:
        assert error.status() == f"StatusCode.{status}", error
        assert words in error.message(), error
    else:
        raise AssertionError(f"nothing was refused that should be {status}")


def the_server_says_what_it_is_and_what_it_serves() -> None:
    assert client.is_server_live(headers=HEADERS)
    assert client.is_server_ready(headers=HEADERS)
    told = client.get_server_metadata(headers=HEADERS)
    assert told.name == "tiation"
    assert {"model_repository", "model_configuration", "statistics", "system_shared_memory"} <= set(told.extensions)
    assert "cuda_shared_memory" not in told.extensions


def every_numeric_datatype_comes_back_as_it_went_with_elements_and_without() -> None:
    for rows in (1, 3, 0):
        sent = numbers(rows)
        answer = client.infer("oip-numbers", [given(n, a, n) for n, a in sent.items()], headers=HEADERS)
        for name, array in sent.items():
            back = answer.as_numpy(f"{name}_back")
            assert back.shape == (rows, 2), (name, back.shape)
            assert back.tobytes() == array.tobytes(), name


def bytes_come_back_as_they_went() -> None:
    for sent in (texts(b"one", "zwei ä€".encode(), b""), texts()):
        answer = client.infer("oip-texts", [given("BYTES", sent, "BYTES")], headers=HEADERS)
        assert answer.as_numpy("BYTES_back").tolist() == sent.tolist()


def typed_contents_are_taken_and_halves_must_be_raw() -> None:
    request = service_pb2.ModelInferRequest(model_name="oip-numbers")
    for name, array in numbers(2).items():
        one = request.inputs.add(name=name, datatype=name, shape=[2, 2])
        field = TYPED.get(name) or next((TYPED[k] for k in ("UINT8", "INT16") if name.startswith(k[:3])), "")
        if field:
            getattr(one.contents, field).extend(array.ravel().tolist())
    metadata = tuple(HEADERS.items())
    try:
        client._client_stub.ModelInfer(request, metadata=metadata)
    except Exception as error:  # noqa: BLE001 -- grpc's own
        assert "send it in raw_input_contents" in str(error), error
    else:
        raise AssertionError("FP16 was taken from typed contents")
    request = service_pb2.ModelInferRequest(model_name="oip-double")
    request.inputs.add(name="x", datatype="FP32", shape=[2, 2]).contents.fp32_contents.extend([1, 2, 3, 4])
    answer = client._client_stub.ModelInfer(request, metadata=metadata)
    assert np.frombuffer(answer.raw_output_contents[0], np.float32).tolist() == [2, 4, 6, 8]


def a_models_configuration_is_told() -> None:
    config = client.get_model_config("oip-double", headers=HEADERS).config
    assert (config.name, config.backend, config.max_batch_size > 1) == ("oip-double", "onnxruntime", True)
    assert [(i.name, i.data_type, list(i.dims)) for i in config.input] == [
        ("x", triton.model_config_pb2.TYPE_FP32, [2])
    ]
    assert config.HasField("dynamic_batching")
    as_json = client.get_model_config("oip-texts", headers=HEADERS, as_json=True)["config"]
    assert as_json["input"][0]["data_type"] == "TYPE_STRING", as_json


def statistics_count_what_was_asked() -> None:
    def now() -> service_pb2.ModelStatistics:
        (one,) = client.get_inference_statistics("oip-double", headers=HEADERS).model_stats
        return one

    before = now()
    doubled(X)
    with refused("INVALID_ARGUMENT", "the model wants shape"):
        doubled(X[0])
    after = now()
    assert after.inference_count - before.inference_count == 2
    assert after.inference_stats.success.count - before.inference_stats.success.count == 1
    assert after.inference_stats.fail.count - before.inference_stats.fail.count == 1
    assert after.inference_stats.compute_infer.ns > before.inference_stats.compute_infer.ns
    assert time.time() * 1000 - after.last_inference < 60_000
    assert any(batch.batch_size == 2 for batch in after.batch_stats)
    everything = client.get_inference_statistics(headers=HEADERS)
    assert {"oip-double", "all-minilm-l6-v2"} <= {each.name for each in everything.model_stats}


def models_are_listed_loaded_and_unloaded() -> None:
    def states() -> dict[str, tuple[str, str]]:
        listed = client.get_model_repository_index(headers=HEADERS).models
        return {each.name: (each.state, each.reason) for each in listed}

    assert states()["oip-spare"] == ("READY", "")
    assert states()["all-minilm-l6-v2"] == ("READY", "")
    client.unload_model("oip-spare", headers=HEADERS)
    assert states()["oip-spare"] == ("UNAVAILABLE", "unloaded"), states()
    assert not client.is_model_ready("oip-spare", headers=HEADERS)
    client.load_model("oip-spare", headers=HEADERS)
    assert client.is_model_ready("oip-spare", headers=HEADERS)
    with refused("UNIMPLEMENTED", "push another version"):
        client.load_model("oip-spare", headers=HEADERS, config="{}")
    with refused("NOT_FOUND", "oip-never-was"):
        client.load_model("oip-never-was", headers=HEADERS)
    with refused("FAILED_PRECONDITION", "ships with the platform"):
        client.unload_model("all-minilm-l6-v2", headers=HEADERS)


def tensors_go_through_shared_memory() -> None:
    region = shared_memory.create_shared_memory_region("mine", "/default.oip-e2e", 256)
    try:
        shared_memory.set_shared_memory_region(region, [X])
        client.register_system_shared_memory("mine", "/default.oip-e2e", 256, headers=HEADERS)
        shown = client.get_system_shared_memory_status(headers=HEADERS).regions["mine"]
        assert (shown.key, shown.byte_size) == ("/default.oip-e2e", 256)
        sent = triton.InferInput("x", [2, 2], "FP32")
        sent.set_shared_memory("mine", X.nbytes)
        wanted = triton.InferRequestedOutput("y")
        wanted.set_shared_memory("mine", 64, offset=128)
        answer = client.infer("oip-double", [sent], outputs=[wanted], headers=HEADERS)
        back = shared_memory.get_contents_as_numpy(region, np.float32, [2, 2], offset=128)
        assert back.tolist() == (X * 2).tolist()
        assert answer.get_output("y").parameters["shared_memory_byte_size"].int64_param == X.nbytes
        assert client.infer("oip-double", [sent], headers=HEADERS).as_numpy("y").tolist() == (X * 2).tolist()
        wanted.set_shared_memory("mine", 8)
        with refused("INVALID_ARGUMENT", "its place in shared memory region 'mine' has 8"):
            client.infer("oip-double", [sent], outputs=[wanted], headers=HEADERS)
        with refused("INVALID_ARGUMENT", "must begin with the tenant's id"):
            client.register_system_shared_memory("other", "/acme.secret", 8, headers=HEADERS)
        with refused("INVALID_ARGUMENT", "byte_size"):
            client.register_system_shared_memory("large", "/default.oip-e2e", 1 << 20, headers=HEADERS)
        client.unregister_system_shared_memory("mine", headers=HEADERS)
        assert not client.get_system_shared_memory_status(headers=HEADERS).regions
        with refused("NOT_FOUND", "is not registered"):
            client.infer("oip-double", [sent], headers=HEADERS)
    finally:
        shared_memory.destroy_shared_memory_region(region)


def cuda_shared_memory_is_refused_and_none_is_there() -> None:
    assert not client.get_cuda_shared_memory_status(headers=HEADERS).regions
    client.unregister_cuda_shared_memory(headers=HEADERS)
    with refused("UNIMPLEMENTED", "CUDA shared memory is not served"):
        client.register_cuda_shared_memory("mine", b"AAAA", 0, 8, headers=HEADERS)


def parameters_are_understood_or_named() -> None:
    told = doubled(X, parameters={"timing": True}, priority=1, timeout=5_000_000).get_response().parameters
    assert told["batch_rows"].int64_param >= 2
    assert told["compute_infer_us"].int64_param > 0
    assert "timing" not in doubled(X).get_response().parameters
    with refused("INVALID_ARGUMENT", "parameters[timing]"):
        doubled(X, parameters={"timing": "yes"})


def settings_are_told_and_not_changed() -> None:
    assert client.get_trace_settings(headers=HEADERS, as_json=True)["settings"]["trace_mode"]["value"] == [
        "opentelemetry"
    ]
    assert client.get_log_settings(headers=HEADERS).settings["log_error"].bool_param
    with refused("UNIMPLEMENTED", "log_level"):
        client.update_log_settings({"log_verbose_level": 1}, headers=HEADERS)
    with refused("UNIMPLEMENTED", "tracing.sample_ratio"):
        client.update_trace_settings(settings={"trace_rate": "1"}, headers=HEADERS)


def streamed(headers: dict[str, str], models: list[str], **how: object) -> list[triton.InferResult | Exception]:
    heard: list[triton.InferResult | Exception] = []
    mine = triton.InferenceServerClient(ADDRESS, ssl=True, root_certificates=CA)
    mine.start_stream(lambda result, error: heard.append(error or result), headers=headers)
    for number, model in enumerate(models):
        mine.async_stream_infer(model, [given("x", X, "FP32")], request_id=str(number), **how)
    mine.stop_stream()
    mine.close()
    return heard


def a_stream_says_which_answer_is_the_last_and_stays_open_after_an_error() -> None:
    heard = streamed(HEADERS, ["oip-double", "oip-never-was", "oip-double"], enable_empty_final_response=True)
    assert [isinstance(each, Exception) for each in heard] == [False, True, False], heard
    for each in (heard[0], heard[2]):
        assert each.get_response().parameters["triton_final_response"].bool_param
        assert each.as_numpy("y").tolist() == (X * 2).tolist()
    assert "never-was" in str(heard[1])


def a_stream_in_which_nothing_is_asked_ends_without_an_answer_and_without_an_error() -> None:
    assert streamed(HEADERS, []) == []


def a_stream_ends_with_the_first_error_where_that_is_asked_for() -> None:
    heard = streamed({**HEADERS, "triton_grpc_error": "true"}, ["oip-double", "oip-never-was"])
    assert [isinstance(each, Exception) for each in heard] == [False, True], heard
    assert heard[1].status() == "StatusCode.NOT_FOUND", heard[1]


async def asynchronously() -> None:
    async with triton_aio.InferenceServerClient(ADDRESS, ssl=True, root_certificates=CA) as mine:
        assert await mine.is_server_live(headers=HEADERS)
        sent = [given("x", X, "FP32")]
        answers = await asyncio.gather(*(mine.infer("oip-double", sent, headers=HEADERS) for _ in range(16)))
        assert all(answer.as_numpy("y").tolist() == (X * 2).tolist() for answer in answers)
        assert (await mine.get_model_config("oip-double", headers=HEADERS)).config.name == "oip-double"
        assert (await mine.get_inference_statistics("oip-double", headers=HEADERS)).model_stats
        assert (await mine.get_model_repository_index(headers=HEADERS)).models

        async def requests():
            for number in range(4):
                yield {"model_name": "oip-double", "inputs": sent, "request_id": str(number)}

        heard = [result.get_response().id async for result, error in mine.stream_infer(requests(), headers=HEADERS)]
        assert heard == ["0", "1", "2", "3"], heard


def an_output_may_come_as_classes() -> None:
    wanted = triton.InferRequestedOutput("y", class_count=1)
    answer = client.infer("oip-double", [given("x", X, "FP32")], outputs=[wanted], headers=HEADERS)
    assert answer.as_numpy("y").tolist() == [[b"4.000000:1"], [b"8.000000:1"]], answer.as_numpy("y")
    with refused("INVALID_ARGUMENT", "only numbers"):
        wanted = triton.InferRequestedOutput("BYTES_back", class_count=1)
        client.infer("oip-texts", [given("BYTES", texts(b"a"), "BYTES")], outputs=[wanted], headers=HEADERS)


def health_and_the_servers_own_facts_need_no_token() -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.get_server_metadata().name == "tiation"
    with refused("UNAUTHENTICATED", ""):
        client.get_model_metadata("oip-double")


def the_asynchronous_client_gets_the_same() -> None:
    asyncio.run(asynchronously())


CHECKS: tuple[Callable[[], None], ...] = (
    the_server_says_what_it_is_and_what_it_serves,
    every_numeric_datatype_comes_back_as_it_went_with_elements_and_without,
    bytes_come_back_as_they_went,
    typed_contents_are_taken_and_halves_must_be_raw,
    a_models_configuration_is_told,
    statistics_count_what_was_asked,
    models_are_listed_loaded_and_unloaded,
    tensors_go_through_shared_memory,
    cuda_shared_memory_is_refused_and_none_is_there,
    parameters_are_understood_or_named,
    settings_are_told_and_not_changed,
    a_stream_says_which_answer_is_the_last_and_stays_open_after_an_error,
    a_stream_in_which_nothing_is_asked_ends_without_an_answer_and_without_an_error,
    a_stream_ends_with_the_first_error_where_that_is_asked_for,
    the_asynchronous_client_gets_the_same,
    an_output_may_come_as_classes,
    health_and_the_servers_own_facts_need_no_token,
    *triton_writing.CHECKS,
)


def main() -> None:
    found = {}
    for check in CHECKS:
        try:
            check()
            found[check.__name__] = ""
        except BaseException:  # noqa: BLE001 -- told to the test
            found[check.__name__] = traceback.format_exc()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
