"""Opens ten thousand streams at once, keeps those that are answered open until it is told to end, and counts.

Started by `test_hostile_requests` in a process of its own: so many calls of grpc.aio need an event loop to themselves.
Arguments: address; name to expect there; a folder with `ca` and, for a service's own port, `key` and `chain`; token;
model.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path

import grpc
import grpc.aio
from inference import grpc_service_pb2 as pb
from inference import grpc_service_pb2_grpc

STREAMS, CHANNELS = 10_000, 12


def named(code: grpc.StatusCode, details: str | None) -> str:
    """A status; what grpc.aio makes itself of a call that was ended while it wrote its request is told apart."""
    return "ENDED_WHILE_WRITING" if details == "Internal error from Core" else code.name


async def one(
    stub: grpc_service_pb2_grpc.GRPCInferenceServiceStub,
    token: str,
    request: pb.ModelInferRequest,
    found: Counter[str],
    over: asyncio.Event,
    opened: asyncio.Semaphore,
) -> None:
    call = stub.ModelStreamInfer(metadata=(("authorization", f"Bearer {token}"),), timeout=120)
    try:
        await call.write(request)
        answer = await call.read()
        if answer is grpc.aio.EOF:
            found[named(await call.code(), await call.details())] += 1
            return
        full = "at once" in answer.error_message or "wait" in answer.error_message
        found["FULL" if full else answer.error_message or "answered"] += 1
        opened.release()
        await over.wait()
    except grpc.aio.AioRpcError as error:
        found[named(error.code(), error.details())] += 1
    except (asyncio.InvalidStateError, grpc.aio.UsageError):  # the call ended while the request was written
        found[named(await call.code(), await call.details())] += 1
    finally:
        opened.release()
        call.cancel()


async def main(address: str, name: str, folder: Path, token: str, model: str) -> None:
    parts = [(folder / part).read_bytes() if (folder / part).exists() else None for part in ("ca", "key", "chain")]
    options = [("grpc.ssl_target_name_override", name), ("grpc.use_local_subchannel_pool", 1)]
    options.append(("grpc.enable_retries", 0))
    channels = [
        grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(*parts), options) for _ in range(CHANNELS)
    ]
    stubs = [grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel) for channel in channels]
    request = pb.ModelInferRequest(model_name=model, raw_input_contents=[bytes(8)])
    request.inputs.add(name="x", datatype="FP32", shape=[1, 2])
    found: Counter[str] = Counter()
    over, opened = asyncio.Event(), asyncio.Semaphore(0)
    tasks = [
        asyncio.ensure_future(one(stubs[at % CHANNELS], token, request, found, over, opened)) for at in range(STREAMS)
    ]
    for _ in tasks:
        await opened.acquire()
    print(json.dumps(found), flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    over.set()
    await asyncio.gather(*tasks)
    await asyncio.gather(*(channel.close() for channel in channels))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4], sys.argv[5]))
