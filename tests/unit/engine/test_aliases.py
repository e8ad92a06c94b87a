"""Aliases by every way of asking: which version answers, and that nobody fails while aliases move and versions go."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from google.api import httpbody_pb2
from inference import grpc_service_pb2 as oip
from tiation.engine.v1 import openai_pb2
from tiation.engine.v1 import prediction_pb2 as pb

from engine.errors import ModelNotFoundError, VersionNotFoundError
from engine.oip.control import RepositoryControl
from engine.oip.shared_memory import Regions
from engine.repository.changes import ModelChange
from engine.repository.folders import files_in
from engine.repository.models import VersionPolicy
from engine.servicers.inference import InferenceServicer
from engine.servicers.inference_facts import Facts
from engine.servicers.openai import OpenAIServicer
from engine.servicers.predictions import PredictionServicer
from mesh.errors import InvalidError
from mesh.identity import Caller, set_caller
from tests.fakes.decoders import MANIFEST as WRITES
from tests.fakes.decoders import decoder_folder
from tests.unit.engine.graphs import doubling, folder
from tests.unit.engine.image_graphs import one_table, squares
from tests.unit.engine.shelf import Shelf
from tests.unit.engine.text_graphs import lookup, summing, tagging, text_folder, tokenizer

MOODS = {"good": [3, 0], "bad": [0, 3]}
KEYS = [f"customer-{at}" for at in range(40)]


def stage_writer(where: Path) -> None:
    decoder_folder(where, manifest=WRITES.replace("tiny", "writer"))


def stage_moods(where: Path) -> None:
    made = tokenizer(list(MOODS))
    manifest = "name: moods\nkind: text-classification\nlabels: [happy, sad]\nscores: logits\n"
    text_folder(where, manifest, made, summing(lookup(made.get_vocab(), MOODS, [0, 0])))


def stage_vectors(where: Path) -> None:
    made = tokenizer(list(MOODS))
    text_folder(where, "name: vectors\nkind: text-embedding\n", made, tagging(lookup(made.get_vocab(), MOODS, [0, 1])))


def stage_boxes(where: Path) -> None:
    manifest = "name: boxes\nkind: object-detection\nlabels: [red, green, blue]\nunit: pixels\nscale: [0, 1]\n"
    folder(where, manifest, model=one_table())


def stage_numbers(where: Path) -> None:
    folder(where, "name: numbers\nkind: onnx\n", model=doubling(["n", 2]))


STAGES: dict[str, Callable[[Path], None]] = {
    "writer": stage_writer,
    "moods": stage_moods,
    "vectors": stage_vectors,
    "boxes": stage_boxes,
    "numbers": stage_numbers,
}


def named(name: str) -> str:
    return f"tenants/t/models/{name}"


def aliases(**weights: dict[int, int]) -> ModelChange:
    return ModelChange(aliases=weights)


def picture() -> bytes:
    out = BytesIO()
    squares(64, 64, [("red", 8, 8, 16)]).save(out, "PNG")
    return out.getvalue()


IMAGE = picture()


class Asking:
    """Every way of asking, on one repository: each gives the version that answered."""

    def __init__(self, shelf: Shelf, repository) -> None:
        self.predictions = PredictionServicer(repository)
        let = SimpleNamespace(also=lambda _call, _resource: None)
        self.openai = OpenAIServicer(repository, shelf.catalogue, let)
        control = RepositoryControl(repository, shelf.catalogue)
        facts = Facts("cpu", "warning", traced=False, sample_ratio=0.0)
        self.oip = InferenceServicer(repository, control, Regions("off"), facts)
        self.found: list[int] = []
        find = repository.found

        async def found(*asked: str):
            loaded = await find(*asked)
            self.found.append(loaded.version)
            return loaded

        self._heard = SimpleNamespace(found=found)

    async def generate(self, **said) -> int:
        request = pb.GenerateRequest(name="writer", prompts=[pb.Prompt(text="abc")], **said)
        request.sampling.max_tokens = 6
        parts = [part async for part in self.predictions.Generate(request, None)]
        assert not any(part.HasField("error") for part in parts)
        assert parts[-1].finish != pb.GenerateResponse.FINISH_UNSPECIFIED
        [version] = {part.version for part in parts}
        return version

    async def classify(self, **said) -> int:
        answer = await self.predictions.Classify(pb.ClassifyRequest(name="moods", texts=["good"], **said), None)
        assert answer.classifications[0].label == "happy"
        return answer.version

    async def embed(self, **said) -> int:
        answer = await self.predictions.Embed(pb.EmbedRequest(name="vectors", texts=["good"], **said), None)
        assert len(answer.embeddings[0].values) == 2
        return answer.version

    async def detect(self, **said) -> int:
        answer = await self.predictions.Detect(pb.DetectRequest(name="boxes", images=[IMAGE], **said), None)
        assert {each.label for each in answer.results[0].detections} == {"red"}
        return answer.version

    async def infer(self, alias: str, sticky_key: str = "") -> int:
        array = np.ones((1, 2), np.float32)
        request = oip.ModelInferRequest(model_name="numbers", model_version=alias, raw_input_contents=[array.tobytes()])
        request.inputs.add(name="x", datatype="FP32", shape=array.shape)
        if sticky_key:
            request.parameters["sticky_key"].string_param = sticky_key
        answer = await self.oip.ModelInfer(request, None)
        assert np.frombuffer(answer.raw_output_contents[0], np.float32).tolist() == [2, 2]
        return int(answer.model_version)

    async def chat(self, alias: str, sticky_key: str = "", *, stream: bool = False) -> int:
        """OpenAI's answers do not say which version made them: it is seen where it is found."""
        body = {"model": f"writer:{alias}", "prompt": "abc", "max_tokens": 6, "stream": stream}
        if sticky_key:
            body["user"] = sticky_key
        data = httpbody_pb2.HttpBody(data=json.dumps(body).encode())
        one = OpenAIServicer(self._heard, None, SimpleNamespace(also=lambda _call, _resource: None))
        before = len(self.found)
        bodies = [each async for each in one.Complete(openai_pb2.OpenAIRequest(body=data), None)]
        assert b"error" not in bodies[-1].data
        assert not stream or bodies[-1].data == b"data: [DONE]\n\n"
        return self.found[before] if len(self.found) == before + 1 else 0

    @property
    def ways(self) -> dict[str, Callable[..., Awaitable[int]]]:
        return {
            "writer": self.generate,
            "moods": self.classify,
            "vectors": self.embed,
            "boxes": self.detect,
            "numbers": self.infer,
        }


@pytest.fixture
async def shelf(tmp_path):
    made = Shelf(tmp_path)
    set_caller(Caller("t", "tenants/t/principals/p", "spiffe://tiation.local/svc/gateway"))
    yield made
    set_caller(None)
    await made.close()


async def push(shelf: Shelf, repository, name: str, times: int = 1) -> None:
    for _ in range(times):
        shelf.pushed += 1
        staged = shelf.root / "models" / f".upload-engine.{shelf.pushed}"
        STAGES[name](staged)
        await repository.pushed.keep(named(name), 0, staged, files_in(staged), {}, load=True)
        await repository.lifecycle.update_model(named(name), "", ModelChange(policy=VersionPolicy(every=True)))


@pytest.mark.parametrize("name", STAGES)
async def test_an_alias_with_weights_chooses_and_a_key_sticks(shelf: Shelf, name: str):
    repository = await shelf.started()
    await push(shelf, repository, name, 2)
    await repository.lifecycle.update_model(named(name), "", aliases(production={1: 1}, canary={1: 60, 2: 40}))
    asking = Asking(shelf, repository)
    ask = asking.ways[name]
    assert {await ask(alias="production") for _ in range(5)} == {1}
    drawn = [await ask(alias="canary", sticky_key=key) for key in KEYS]
    assert set(drawn) == {1, 2}
    assert [await ask(alias="canary", sticky_key=key) for key in KEYS] == drawn
    assert set(await asyncio.gather(*(ask(alias="canary") for _ in range(40)))) == {1, 2}
    await repository.lifecycle.update_model(named(name), "", aliases(production={2: 1}, canary={1: 70, 2: 30}))
    assert await ask(alias="production") == 2
    moved = [await ask(alias="canary", sticky_key=key) for key in KEYS]
    assert all(after in (1, before) for before, after in zip(drawn, moved, strict=True))
    with pytest.raises(VersionNotFoundError, match="its aliases are canary, production"):
        await ask(alias="none")
    if name == "writer":
        assert [await asking.chat("canary", key) for key in KEYS[:10]] == moved[:10]
    if name != "numbers":
        with pytest.raises(InvalidError, match="goes without"):
            await ask(alias="production", version=1)


async def test_an_alias_of_a_model_that_has_none_is_called_an_alias_and_not_a_version(shelf: Shelf):
    repository = await shelf.started()
    await shelf.push(repository, named("m"))
    with pytest.raises(VersionNotFoundError, match=r"^m has no alias `production`; it has none$"):
        repository.find("t", "m", "production")
    with pytest.raises(VersionNotFoundError, match=r"^version 9 of m is not loaded$"):
        repository.find("t", "m", "9")
    repository._memory.set_aliases(named("m"), {"canary": {9: 1}})
    with pytest.raises(VersionNotFoundError, match=r"^version 9 of m is not loaded$"):
        repository.find("t", "m", "canary")
    with pytest.raises(VersionNotFoundError, match=r"^m has no alias `production`; its aliases are canary$"):
        repository.find("t", "m", "production")


async def test_a_full_name_of_what_ships_under_another_tenant_is_put_right(shelf: Shelf):
    repository = await shelf.started()
    await shelf.push(repository, "tenants/system/models/shared")
    with pytest.raises(ModelNotFoundError, match="`tenants/system/models/shared` ships with the platform"):
        repository.find("t", named("shared"), "")


async def test_another_tenants_alias_is_as_if_it_were_not(shelf: Shelf):
    repository = await shelf.started()
    await push(shelf, repository, "writer")
    await repository.lifecycle.update_model(named("writer"), "", aliases(production={1: 1}))
    asking = Asking(shelf, repository)
    set_caller(Caller("other", "tenants/other/principals/p", "spiffe://tiation.local/svc/gateway"))
    for ask in (asking.generate(alias="production"), asking.generate(alias="none"), asking.generate()):
        with pytest.raises(ModelNotFoundError) as refused:
            await ask
        assert str(refused.value) == "there is no model `writer` in memory; `tiation models list` shows which"


async def test_nobody_fails_while_aliases_move_and_old_versions_go(shelf: Shelf):
    repository = await shelf.started()
    for name in STAGES:
        await push(shelf, repository, name, 2)
        await repository.lifecycle.update_model(named(name), "", aliases(canary={1: 1, 2: 1}))
    asking, over = Asking(shelf, repository), asyncio.Event()
    answered: Counter[tuple[str, int]] = Counter()

    async def keep_asking(name: str, ask: Callable[..., Awaitable[int]]) -> None:
        at = 0
        while not over.is_set():
            at += 1
            key = {"sticky_key": KEYS[at % 40]} if at % 2 else {}
            version = await asyncio.create_task(ask(alias="canary", **key))  # each call is a task of its own
            answered[name, version] += 1

    async def move(name: str) -> None:
        for old, new in ((1, 2), (2, 1), (1, 2)):
            await repository.lifecycle.update_model(named(name), "", aliases(canary={new: 1}))
            await repository.lifecycle.unload(f"{named(name)}/versions/{old}")
            await repository.lifecycle.load(f"{named(name)}/versions/{old}")
            await repository.lifecycle.update_model(named(name), "", aliases(canary={old: 1, new: 9}))

    ways = [*asking.ways.items(), ("writer", asking.chat), ("writer", partial(asking.chat, stream=True))]
    callers = [asyncio.create_task(keep_asking(*way)) for way in ways for _ in range(2)]
    await asyncio.gather(*(move(name) for name in STAGES))
    over.set()
    await asyncio.gather(*callers)
    for name in STAGES:
        assert min(answered[name, 1], answered[name, 2]) > 0, (name, answered)


async def test_a_call_that_found_what_an_alias_has_left_since_may_take_its_time_to_ask(shelf: Shelf):
    repository = await shelf.started()
    await push(shelf, repository, "numbers", 2)
    await repository.lifecycle.update_model(named("numbers"), "", aliases(production={1: 1}))
    found = asyncio.Event()

    async def call() -> None:
        loaded = await repository.found("t", "numbers", "production")
        found.set()
        await asyncio.sleep(1.0)  # a long text is made into tokens, for instance
        answer = await loaded.infer({"x": np.ones((1, 2), np.float32)})
        assert (loaded.version, answer.outputs["y"].tolist()) == (1, [[2, 2]])

    calling = asyncio.create_task(call())
    await found.wait()
    await repository.lifecycle.update_model(named("numbers"), "", aliases(production={2: 1}))
    await repository.lifecycle.unload(f"{named('numbers')}/versions/1")
    assert repository.versions_of(named("numbers")) == [2]
    await calling
