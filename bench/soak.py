"""The engine at saturation for a long time: requests, texts, cancellations, deadlines, loads and unloads, all at once.

Looked at is that its memory stays flat once it is warm, within five parts of a hundred, and that nothing fails but what
was asked to. Ends with 1 where either does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import grpc
import grpc.aio
import psutil
from inference import grpc_service_pb2, grpc_service_pb2_grpc
from tiation.engine.v1 import prediction_pb2, prediction_pb2_grpc

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.measure import quantile, write_results
from bench.serving.workloads import write_tiny
from tests.fakes.installed import Installed, installed

ENCODER = "tenants/system/models/all-minilm-l6-v2"
WRITER = "tenants/system/models/docs-writer"
TINY = "tiny-mlp"
FLAT = 1.05
_WORDS = ("the", "order", "of", "a", "customer", "was", "late", "again", "and", "nobody", "has", "answered", "since")
_TOKEN_S = 300.0
_CALL_S = 60.0

Ask: TypeAlias = Callable[["Clients", random.Random], Awaitable[object]]


@dataclass
class Seen:
    """What became of one kind of requests: how they ended, and how long the answered ones took, seconds."""

    ends: Counter[str] = field(default_factory=Counter)
    took: list[float] = field(default_factory=list)


@dataclass
class Clients:
    """How the platform is reached; the token is renewed while they ask."""

    here: Installed
    channel: grpc.aio.Channel
    token: str = ""

    @property
    def header(self) -> tuple[tuple[str, str]]:
        """Who asks."""
        return (("authorization", f"Bearer {self.token}"),)

    @property
    def predictions(self) -> prediction_pb2_grpc.PredictionServiceStub:
        """Texts."""
        return prediction_pb2_grpc.PredictionServiceStub(self.channel)

    @property
    def inference(self) -> grpc_service_pb2_grpc.GRPCInferenceServiceStub:
        """Tensors."""
        return grpc_service_pb2_grpc.GRPCInferenceServiceStub(self.channel)

    async def renew(self) -> None:
        """Keep the token fresh."""
        while True:
            self.token = await asyncio.to_thread(self.here.token)
            await asyncio.sleep(_TOKEN_S)


def _texts(draw: random.Random, count: int) -> list[str]:
    return [" ".join(draw.choices(_WORDS, k=draw.randint(3, 90))) for _ in range(count)]


def _tiny() -> grpc_service_pb2.ModelInferRequest:
    request = grpc_service_pb2.ModelInferRequest(model_name=TINY, raw_input_contents=[bytes(64)])
    request.inputs.add(name="input", datatype="FP32", shape=[1, 16])
    return request


async def embed(clients: Clients, draw: random.Random) -> None:
    """A few texts of many lengths."""
    request = prediction_pb2.EmbedRequest(name=ENCODER, texts=_texts(draw, draw.randint(1, 4)))
    await clients.predictions.Embed(request, metadata=clients.header, timeout=_CALL_S)


async def largest(clients: Clients) -> None:
    """As many and as long texts as there may be, at once: a runtime keeps what its largest run took, and so is warm."""
    texts = [" ".join(_WORDS * 7)] * 32
    request = prediction_pb2.EmbedRequest(name=ENCODER, texts=texts)
    for _ in range(2):
        asked = (clients.predictions.Embed(request, metadata=clients.header, timeout=_CALL_S) for _ in range(4))
        await asyncio.gather(*asked)


async def infer(clients: Clients, _: random.Random) -> None:
    """A small tensor."""
    await clients.inference.ModelInfer(_tiny(), metadata=clients.header, timeout=_CALL_S)


async def one_word(clients: Clients, _: random.Random) -> None:
    """A word."""
    request = prediction_pb2.EmbedRequest(name=ENCODER, texts=["late"])
    await clients.predictions.Embed(request, metadata=clients.header, timeout=_CALL_S)


async def stream(clients: Clients, _: random.Random) -> None:
    """Twenty small tensors on a stream."""

    async def requests() -> AsyncIterator[grpc_service_pb2.ModelInferRequest]:
        for _ in range(20):
            yield _tiny()

    call = clients.inference.ModelStreamInfer(requests(), metadata=clients.header, timeout=_CALL_S)
    async for answer in call:
        if answer.error_message:
            raise RuntimeError(answer.error_message)


async def write(clients: Clients, draw: random.Random) -> None:
    """A text that is read to its end, or left in the middle."""
    prompts = [prediction_pb2.Prompt(text="# Flows")]
    sampling = prediction_pb2.SamplingSettings(max_tokens=draw.randint(4, 48), seed=draw.randint(1, 1 << 30))
    request = prediction_pb2.GenerateRequest(name=WRITER, prompts=prompts, sampling=sampling)
    call = clients.predictions.Generate(request, metadata=clients.header, timeout=_CALL_S)
    read, enough = 0, draw.choice((2, 1000))
    async for _ in call:
        read += 1
        if read >= enough:
            call.cancel()
            return


async def cancel(clients: Clients, draw: random.Random) -> None:
    """Texts that nobody waits for, after some that somebody does: Envoy ends connections that take most back."""
    for _ in range(3):
        await one_word(clients, draw)
    request = prediction_pb2.EmbedRequest(name=ENCODER, texts=_texts(draw, 8))
    call = clients.predictions.Embed(request, metadata=clients.header, timeout=_CALL_S)
    await asyncio.sleep(draw.random() * 0.05)
    call.cancel()
    try:
        await call
    except asyncio.CancelledError:
        if not call.cancelled():
            raise


async def hurry(clients: Clients, draw: random.Random) -> None:
    """More texts than can be read in the time given for them, likewise."""
    for _ in range(3):
        await one_word(clients, draw)
    request = prediction_pb2.EmbedRequest(name=ENCODER, texts=_texts(draw, 32))
    await clients.predictions.Embed(request, metadata=clients.header, timeout=0.02)


async def change(clients: Clients, draw: random.Random) -> None:
    """A model goes and comes back, while others ask it."""
    stub = clients.inference
    unload = grpc_service_pb2.RepositoryModelUnloadRequest(model_name=TINY)
    await stub.RepositoryModelUnload(unload, metadata=clients.header, timeout=_CALL_S)
    await asyncio.sleep(draw.random() * 0.5)
    load = grpc_service_pb2.RepositoryModelLoadRequest(model_name=TINY)
    await stub.RepositoryModelLoad(load, metadata=clients.header, timeout=_CALL_S)
    await asyncio.sleep(1.0 + draw.random())


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of requests.

    Attributes:
        ask: makes one.
        clients: how many make them, each one after the other.
        asked_for: how else than with an answer they may end.
    """

    ask: Ask
    clients: int
    asked_for: frozenset[str] = frozenset()


_GONE = ("not loaded", "no model", "unloaded")
_AWAY = frozenset({"NOT_FOUND", "UNAVAILABLE"})
KINDS = {
    "texts": Kind(embed, 12),
    "tensors": Kind(infer, 4, _AWAY),
    "streams of tensors": Kind(stream, 2, _AWAY | {"away"}),
    "written texts": Kind(write, 2),
    "taken back": Kind(cancel, 2),
    "without time": Kind(hurry, 2, frozenset({"DEADLINE_EXCEEDED"})),
    "loads and unloads": Kind(change, 1),
}


async def _ask_on(clients: Clients, kind: Kind, seen: Seen, until: float, draw: random.Random) -> None:
    while time.monotonic() < until:
        began = time.monotonic()
        try:
            await kind.ask(clients, draw)
            seen.ends["answered"] += 1
            seen.took.append(time.monotonic() - began)
        except grpc.aio.AioRpcError as error:
            end = error.code().name
            seen.ends[end if end in kind.asked_for else f"{end}: {error.details()}"] += 1
        except RuntimeError as error:  # what a stream says of one request
            away = "away" in kind.asked_for and any(word in str(error) for word in _GONE)
            seen.ends["away" if away else str(error)] += 1
        if not seen.ends["answered"] or time.monotonic() - began < 0.002:
            await asyncio.sleep(0.01)  # what is refused at once is not asked for without end


def _channel(here: Installed) -> grpc.aio.Channel:
    """A connection of its own."""
    root = grpc.ssl_channel_credentials((here.home / "ca.pem").read_bytes())
    return grpc.aio.secure_channel(here.address, root, options=[("grpc.use_local_subchannel_pool", 1)])


async def soak(here: Installed, seconds: float, seed: int = 7) -> tuple[dict[str, Seen], list[float]]:
    """Load a platform that has the tiny model; what became of all, and the engine's memory each second, MiB."""
    seen: dict[str, Seen] = defaultdict(Seen)
    resident: list[float] = []
    engine = psutil.Process(here.pid("engine"))
    async with _channel(here) as channel:
        await largest(Clients(here, channel, await asyncio.to_thread(here.token)))
    until = time.monotonic() + seconds
    async with AsyncExitStack() as stack:
        asking = []
        for name, kind in KINDS.items():
            clients = Clients(
                here, await stack.enter_async_context(_channel(here)), await asyncio.to_thread(here.token)
            )
            renewing = asyncio.ensure_future(clients.renew())
            stack.callback(renewing.cancel)
            for at in range(kind.clients):
                draw = random.Random(f"{seed} {name} {at}")  # noqa: S311 -- the same requests each time
                asking.append(asyncio.ensure_future(_ask_on(clients, kind, seen[name], until, draw)))
        while time.monotonic() < until:
            resident.append(engine.memory_info().rss / (1 << 20))
            await asyncio.sleep(1.0)
        await asyncio.wait_for(asyncio.gather(*asking), 2 * _CALL_S)
    if here.pid("engine") != engine.pid:
        raise RuntimeError("the engine is another process than at the beginning")
    return seen, resident


def growth(resident: list[float]) -> float:
    """The memory in the last quarter, of that in the quarter after the warm-up, which is the first third."""
    warm = resident[len(resident) // 3 :]
    quarter = max(1, len(warm) // 4)
    return statistics.median(warm[-quarter:]) / statistics.median(warm[:quarter])


def failures(seen: dict[str, Seen]) -> list[str]:
    """Everything that ended as nobody asked for, and every kind of which nothing was answered."""
    found = [
        f"{name}: {count} ended with {end}"
        for name, each in seen.items()
        for end, count in each.ends.items()
        if end != "answered" and end not in KINDS[name].asked_for
    ]
    return found + [f"{name}: none was answered" for name in KINDS if name != "without time" and not seen[name].took]


def main() -> None:
    """Start a platform, load it, write down what became of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--print", action="store_true", help="print the figures as JSON instead of keeping them")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, installed(Path(scratch) / "home") as here:
        write_tiny(Path(scratch) / TINY)
        here.command("models", "push", str(Path(scratch) / TINY))
        seen, resident = asyncio.run(soak(here, options.seconds))
    rows: list[dict[str, object]] = [
        {
            "requests": name,
            "answered": each.ends["answered"],
            "ended_as_asked": sum(each.ends[end] for end in KINDS[name].asked_for),
            "p50_ms": 1000 * quantile(each.took, 0.5) if each.took else 0.0,
            "p99_ms": 1000 * quantile(each.took, 0.99) if each.took else 0.0,
        }
        for name, each in seen.items()
    ]
    wrong, grown = failures(seen), growth(resident)
    ratios = {
        "memory at the end / once warm": grown,
        "least memory, MiB": min(resident),
        "most memory, MiB": max(resident),
        "seconds": options.seconds,
    }
    if options.print:
        print(json.dumps({"rows": rows, "ratios": ratios, "wrong": wrong, "resident_mib": resident}))
    else:
        write_results("soak", rows, ratios)
    if grown > FLAT:
        wrong.append(f"the engine's memory at the end is {grown:.3f} of what it was once warm; at most {FLAT} is flat")
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
