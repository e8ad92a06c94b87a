"""Streams of inferences: in order, within bounds of number and bytes, and nothing goes on for one who has gone."""

from __future__ import annotations

import asyncio
import gc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inference import grpc_service_pb2 as pb

from engine.errors import QueueFullError
from engine.servicers.inference import InferenceServicer
from engine.servicers.inference_stream import answers_of
from mesh.identity import Caller, set_caller
from tests.unit.engine.test_aside import Echo, One


class Client:
    """Sends requests of so many bytes, and knows how many were taken from it."""

    def __init__(self, sizes) -> None:
        self.sizes, self.taken = list(sizes), 0

    async def requests(self):
        for at, size in enumerate(self.sizes):
            self.taken += 1
            yield pb.ModelInferRequest(id=str(at), raw_input_contents=[bytes(size)])


class Server:
    """Answers with so many bytes; knows how many answers it holds that nobody has read."""

    def __init__(self, size: int = 1) -> None:
        self.size, self.begun, self.cancelled = size, 0, 0

    async def work(self, request, _tell=None) -> pb.ModelStreamInferResponse:
        self.begun += 1
        try:
            await asyncio.sleep(0 if int(request.id) % 2 else 0.001)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        answer = pb.ModelInferResponse(id=request.id, raw_output_contents=[bytes(self.size)])
        return pb.ModelStreamInferResponse(infer_response=answer)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(0, 200_000), max_size=80))
def test_answers_come_in_order_however_long_each_takes(sizes):
    async def main():
        return [a.infer_response.id async for a in answers_of(Client(sizes).requests(), Server().work)]

    assert asyncio.run(main()) == [str(at) for at in range(len(sizes))]


async def unread(client: Client, server: Server) -> None:
    """Read one answer, and then no more."""
    answers = answers_of(client.requests(), server.work)
    await anext(answers)
    await asyncio.sleep(0.1)
    await answers.aclose()


async def test_of_a_client_that_does_not_read_only_so_many_requests_are_taken():
    client, server = Client([0] * 5000), Server()
    await unread(client, server)
    assert client.taken <= 66


@pytest.mark.parametrize(("request_bytes", "answer_bytes"), [(8 << 20, 1), (1, 8 << 20)])
async def test_of_a_client_that_does_not_read_only_so_many_bytes_are_held(request_bytes, answer_bytes):
    client, server = Client([request_bytes] * 200), Server(answer_bytes)
    await unread(client, server)
    assert server.begun * (request_bytes + answer_bytes) <= 80 << 20


async def test_answers_that_are_large_are_still_all_given():
    client, server = Client([1] * 12), Server(40 << 20)
    assert [a.infer_response.id async for a in answers_of(client.requests(), server.work)] == [
        str(at) for at in range(12)
    ]


async def test_what_is_under_way_is_given_up_with_its_stream():
    class Slow(Server):
        async def work(self, request, _tell=None):
            self.begun += 1
            try:
                await asyncio.sleep(0 if request.id == "0" else 60)
            finally:
                self.cancelled += 1
            return pb.ModelStreamInferResponse()

    client, server = Client([1] * 20), Slow()
    answers = answers_of(client.requests(), server.work)
    await anext(answers)
    await asyncio.sleep(0.05)
    await answers.aclose()
    await asyncio.sleep(0.05)
    assert server.begun == server.cancelled > 4


async def test_an_error_ends_the_stream_after_the_answers_before_it():
    async def work(request, _tell):
        await asyncio.sleep(0.01)
        if request.id >= "2":
            raise QueueFullError("full", retry_after_s=1.0)
        return pb.ModelStreamInferResponse(infer_response=pb.ModelInferResponse(id=request.id))

    heard = []
    with pytest.raises(QueueFullError):
        async for answer in answers_of(Client([1] * 6).requests(), work):
            heard.append(answer.infer_response.id)
    assert heard == ["0", "1"]


def told(request, text: str = "") -> pb.ModelStreamInferResponse:
    answer = pb.ModelInferResponse(id=request.id, model_name=text)
    return pb.ModelStreamInferResponse(infer_response=answer)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 5), max_size=30))
def test_several_answers_to_a_request_come_in_their_order_and_keep_nobody_waiting(counts):
    async def work(request, tell):
        for at in range(counts[int(request.id)]):
            await asyncio.sleep(0)
            await tell(told(request, str(at)))
        return told(request, "last")

    async def main():
        heard = [a.infer_response async for a in answers_of(Client([1] * len(counts)).requests(), work)]
        for at, count in enumerate(counts):
            mine = [each.model_name for each in heard if each.id == str(at)]
            assert mine == [*map(str, range(count)), "last"]
        single = [each.id for each in heard if counts[int(each.id)] == 0]
        assert single == sorted(single, key=int)

    asyncio.run(main())


async def test_a_request_with_several_answers_lets_those_behind_it_go_first():
    on = asyncio.Event()

    async def work(request, tell):
        if request.id == "0":
            await tell(told(request))
            await on.wait()
        return told(request)

    answers = answers_of(Client([1] * 3).requests(), work)
    assert sorted([(await anext(answers)).infer_response.id for _ in range(3)]) == ["0", "1", "2"]
    on.set()
    assert [a.infer_response.id async for a in answers] == ["0"]


async def test_answers_are_made_no_faster_than_they_are_read():
    made = 0

    async def work(request, tell):
        nonlocal made
        for _ in range(100):
            made += 1
            await tell(told(request))
        return told(request)

    answers = answers_of(Client([1]).requests(), work)
    for read in range(1, 5):
        await anext(answers)
        await asyncio.sleep(0.01)
        assert made <= read + 1
    await answers.aclose()


async def test_who_is_cancelled_while_waiting_leaves_nothing_behind():
    heard: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))
    ended = []

    async def work(request, tell):
        try:
            if request.id == "1":
                await tell(told(request))
            await asyncio.sleep(60)
        finally:
            ended.append(request.id)

    async def reading():
        async for _ in answers_of(Client([1] * 4).requests(), work):
            pass

    reader = asyncio.ensure_future(reading())
    await asyncio.sleep(0.02)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    await asyncio.sleep(0.02)
    del reader
    gc.collect()
    assert sorted(ended) == ["0", "1", "2", "3"]
    assert heard == []


async def test_an_error_after_several_answers_ends_the_stream_behind_them():
    async def work(request, tell):
        await tell(told(request))
        raise QueueFullError("full", retry_after_s=1.0)

    heard = []
    with pytest.raises(QueueFullError):
        async for answer in answers_of(Client([1]).requests(), work):
            heard.append(answer.infer_response.id)
    assert heard == ["0"]


class Context:
    """A call with headers."""

    def __init__(self, *headers) -> None:
        self._headers = headers

    def invocation_metadata(self):
        return self._headers


@pytest.fixture
def servicer():
    set_caller(Caller("t", "tenants/t/principals/p", "spiffe://tiation.local/svc/gateway"))
    yield InferenceServicer(One(Echo()), None, None, None)
    set_caller(None)


async def three(*names):
    for number, name in enumerate(names):
        request = pb.ModelInferRequest(id=str(number), raw_input_contents=[b"\1\0\0\0a"])
        request.inputs.add(name=name, datatype="BYTES", shape=[1])
        yield request


async def test_every_answer_says_that_it_is_the_last_to_its_request_and_an_error_leaves_the_stream_open(servicer):
    answers = [a async for a in servicer.ModelStreamInfer(three("text", "wrong", "text"), Context())]
    assert [a.infer_response.id for a in answers] == ["0", "1", "2"]
    assert [bool(a.error_message) for a in answers] == [False, True, False]
    assert all(a.infer_response.parameters["triton_final_response"].bool_param for a in answers)


async def test_with_the_header_for_it_the_first_error_ends_the_stream(servicer):
    heard = []
    with pytest.raises(Exception, match="no such input"):
        async for answer in servicer.ModelStreamInfer(
            three("text", "wrong", "text"), Context(("triton_grpc_error", "true"))
        ):
            heard.append(answer.infer_response.id)
    assert heard == ["0"]
