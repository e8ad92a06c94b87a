"""Every session of a model counts, on the device on which it is; nothing is given out twice."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pynvml
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from engine.errors import ModelTooBigError, NoRoomError
from engine.memory_figures import MemoryFigures
from engine.repository.changes import ModelChange
from engine.repository.models import ModelVersion, VersionPolicy
from engine.runtime.device_memory import DeviceMemory
from engine.runtime.ledger import CPU, Claim, Ledger
from engine.runtime.sessions import SessionSettings, open_session
from engine.scheduler.twin import Twin
from tests.unit.engine.graphs import doubling, heavy
from tests.unit.engine.shelf import Shelf

MB = 1024 * 1024
ON_TWO_GPUS = "name: {}\nkind: onnx\nscheduling:\n  instances: [cuda:0, cuda:1]\n"
ON_ONE_GPU = "name: {}\nkind: onnx\nscheduling:\n  instances: [cuda:1]\n"


class Gpus(DeviceMemory):
    """Two GPUs, of which a session takes a megabyte more than its files."""

    def __init__(self) -> None:
        super().__init__()
        self.in_use: Counter[str] = Counter({"cuda:0": 7 * MB})

    def total(self, _: str) -> int:
        return 80 << 30

    def used(self, device: str) -> int:
        return self.in_use[device]


@pytest.fixture
def gpus(monkeypatch) -> Gpus:
    """A machine whose sessions on a GPU compute on the CPU, and take memory that the driver tells of."""
    made = Gpus()

    def opened(path, settings: SessionSettings):
        if settings.device != "cpu":
            made.in_use[settings.device] += path.stat().st_size + MB
        return open_session(path, replace(settings, device="cpu"))

    monkeypatch.setattr("engine.scheduler.instances.open_session", opened)
    return made


def named(name: str) -> str:
    return f"tenants/t/models/{name}"


async def state(shelf: Shelf, repository, name: str) -> str:
    return repository.state(await shelf.catalogue.get(ModelVersion, f"{named(name)}/versions/1"))


@given(
    limit=st.integers(1, 100),
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 60), st.integers(0, 60)), max_size=40),
)
def test_claims_never_come_to_more_than_there_is(limit, steps):
    ledger, held = Ledger(lambda device: limit if device == "a" else 0), []
    for takes, one, other in steps:
        if takes:
            claim = ledger.claim({"a": one, "b": other})
            assert (claim is None) == (one > 0 and sum(each.needs["a"] for each in held) + one > limit)
            held += [claim] if claim is not None else []
        elif held:
            gone: Claim = held.pop(one % len(held))
            gone.release()
            gone.release()
        assert ledger.taken("a") == sum(each.needs["a"] for each in held) <= limit
        assert ledger.taken("b") == sum(each.needs["b"] for each in held)


def test_what_is_claimed_and_may_be_is_shown_by_device():
    ledger, registry = Ledger(lambda device: 0 if device == CPU else 80), CollectorRegistry()
    registry.register(MemoryFigures(ledger))
    claim = ledger.claim({CPU: 7, "cuda:1": 30})

    def shown(name: str, device: str) -> float | None:
        return registry.get_sample_value(f"tiation_model_memory_{name}", {"device": device})

    assert [shown("bytes", CPU), shown("bytes", "cuda:1"), shown("bytes", "cuda:0")] == [7, 30, None]
    assert [shown("limit_bytes", CPU), shown("limit_bytes", "cuda:1")] == [None, 80]
    assert claim is not None
    claim.release()
    assert [shown("bytes", CPU), shown("bytes", "cuda:1")] == [0, 0]


def test_claims_from_many_threads_never_come_to_more_than_there_is():
    ledger, most = Ledger(lambda _: 10), []

    def work() -> None:
        for _ in range(300):
            claim = ledger.claim({CPU: 3})
            most.append(ledger.taken(CPU))
            if claim is not None:
                claim.release()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) <= 9
    assert ledger.taken(CPU) == 0


async def test_each_session_that_a_manifest_asks_for_counts(shelf: Shelf, monkeypatch):
    monkeypatch.setattr("engine.repository.room.Growth.bytes", lambda _: {})
    monkeypatch.setattr("engine.scheduler.instances.cores", lambda: 4)
    repository = await shelf.started(memory_bytes=5 * MB)
    two = "name: a\nkind: onnx\nscheduling:\n  instances: 2\n"
    await shelf.push(repository, named("a"), manifest=two, content=heavy(2))
    assert 4 * MB < shelf.ledger.taken(CPU) < 5 * MB
    await shelf.push(repository, named("b"), content=heavy(2))
    assert await state(shelf, repository, "a") == "EVICTED"
    three = "name: c\nkind: onnx\nscheduling:\n  instances: 3\n"
    with pytest.raises(ModelTooBigError, match=r"even with all others unloaded.*engine\.memory_budget_bytes to at"):
        await shelf.push(repository, named("c"), manifest=three, content=heavy(2))
    assert await state(shelf, repository, "b") == "READY"
    await repository.stop()
    repository = await shelf.started(memory_bytes=5 * MB)
    assert sorted([await state(shelf, repository, "a"), await state(shelf, repository, "b")]) == ["EVICTED", "READY"]


async def test_memory_of_several_sessions_is_given_back_with_their_model(shelf: Shelf, monkeypatch):
    monkeypatch.setattr("engine.scheduler.instances.cores", lambda: 4)
    reading, repository = DeviceMemory(), await shelf.started(memory_bytes=1 << 40)
    await shelf.push(repository, named("warm"))
    before = reading.used(CPU)
    two = "name: a\nkind: onnx\nscheduling:\n  instances: 2\n"
    await shelf.push(repository, named("a"), manifest=two, content=heavy(48))
    assert reading.used(CPU) - before > 80 * MB
    assert shelf.ledger.taken(CPU) > 80 * MB
    await repository.lifecycle.delete_model(named("a"), "")
    assert reading.used(CPU) - before < 32 * MB
    assert shelf.ledger.taken(CPU) < 8 * MB


async def test_a_gpus_memory_is_counted_for_itself_as_its_driver_tells(shelf: Shelf, gpus: Gpus):
    repository = await shelf.started(gpu_bytes=7 * MB, reading=gpus)
    await shelf.push(repository, named("a"), manifest=ON_TWO_GPUS.format("a"), content=heavy(2))
    await shelf.push(repository, named("b"), manifest=ON_ONE_GPU.format("b"), content=heavy(2))
    taken = {device: shelf.ledger.taken(device) / MB for device in ("cuda:0", "cuda:1", CPU)}
    assert taken == pytest.approx({"cuda:0": 3, "cuda:1": 6, CPU: 0}, abs=0.1)
    await shelf.push(repository, named("c"), manifest=ON_ONE_GPU.format("c"), content=heavy(2))
    assert await state(shelf, repository, "a") == "EVICTED"  # it has a session there, and was not asked for longest
    assert shelf.ledger.taken("cuda:0") == 0
    with pytest.raises(ModelTooBigError, match=r"of cuda:1's memory.*engine\.gpu_memory_budget_bytes"):
        await shelf.push(repository, named("d"), manifest=ON_ONE_GPU.format("d"), content=heavy(7))
    await shelf.push(repository, named("e"), content=heavy(30))  # where there is no limit there is room


async def test_what_grows_past_the_budget_while_it_is_opened_leaves_nothing(shelf: Shelf, gpus: Gpus):
    repository = await shelf.started(gpu_bytes=MB * 5 // 2, reading=gpus)
    with pytest.raises(ModelTooBigError, match="to at least"):
        await shelf.push(repository, named("a"), manifest=ON_ONE_GPU.format("a"), content=heavy(2))
    assert shelf.ledger.taken("cuda:1") == 0
    assert repository.in_memory() == []


async def test_nothing_is_put_aside_where_that_would_not_do(shelf: Shelf, monkeypatch):
    monkeypatch.setattr("engine.repository.room.Growth.bytes", lambda _: {})
    repository = await shelf.started(memory_bytes=7 * MB)
    for name in ("a", "b", "c"):
        await shelf.push(repository, named(name), content=heavy(2))
    for name in ("a", "b"):
        await repository.lifecycle.update_model(named(name), "", ModelChange(policy=VersionPolicy(versions=())))
        await repository._memory.closed([f"{named(name)}/versions/1"])  # else another goes for it where that takes long
        await repository.lifecycle.load(f"{named(name)}/versions/1")
    with pytest.raises(NoRoomError, match=r"pinned or in use: .*a/.*, .*b/.*unload what is not needed"):
        await shelf.push(repository, named("d"), content=heavy(4))
    assert await state(shelf, repository, "c") == "READY"


async def test_what_never_fits_together_with_what_it_stands_on_is_told_at_once(shelf: Shelf, monkeypatch):
    monkeypatch.setattr("engine.repository.room.Growth.bytes", lambda _: {})
    repository = await shelf.started(memory_bytes=3 * MB)
    for name in ("a", "b"):
        await shelf.push(repository, named(name), content=heavy(2))
    steps = "".join(f"  - {{model: {name}, inputs: {{x: {source}}}}}\n" for name, source in (("a", "x"), ("b", "a.y")))
    ensemble = f"name: both\nkind: ensemble\ninputs: [{{name: x, datatype: FP32, shape: [-1, 2]}}]\nsteps:\n{steps}"
    ensemble += "outputs: {y: b.y}\n"
    with pytest.raises(ModelTooBigError, match=r"what it stands on \d+, .* even with all others unloaded"):
        await shelf.push(repository, named("both"), manifest=ensemble)
    assert await state(shelf, repository, "b") == "READY"


async def test_loads_that_race_never_take_more_than_the_budget(shelf: Shelf, monkeypatch):
    monkeypatch.setattr("engine.repository.room.Growth.bytes", lambda _: {})
    repository = await shelf.started(memory_bytes=5 * MB)
    names = [named(name) for name in "abcd"]
    for name in names:
        await shelf.push(repository, name, content=heavy(2))
    most = []
    change = Ledger.change

    def noted(self, claim, needs):
        change(self, claim, needs)
        most.append(self.taken(CPU))

    monkeypatch.setattr(Ledger, "change", noted)

    async def ask(name: str) -> None:
        loaded = await repository.found("t", name.rsplit("/", 1)[1], "")
        await loaded.servable.infer({"x": np.ones((1, 2), np.float32)})

    work = [asyncio.create_task(ask(names[at % 4])) for at in range(24)]
    work += [asyncio.create_task(repository.lifecycle.unload(f"{name}/versions/1")) for name in names[:2]]
    work += [asyncio.create_task(repository.lifecycle.load(f"{name}/versions/1")) for name in names[:2] * 2]
    done = await asyncio.gather(*work, return_exceptions=True)
    assert not [each for each in done if isinstance(each, Exception) and not hasattr(each, "reason")]
    assert max(most) <= 5 * MB
    await repository.stop()
    assert shelf.ledger.taken(CPU) == 0


async def test_a_push_while_the_engine_starts_loads_each_version_once(shelf: Shelf, monkeypatch):
    repository = await shelf.started()
    for name in ("a", "b", "c"):
        await shelf.push(repository, named(name), content=heavy(1))
    await repository.stop()
    repository = shelf.repository()
    starting = asyncio.create_task(repository.start())
    await asyncio.sleep(0)
    await asyncio.gather(starting, shelf.push(repository, named("c"), content=heavy(1)))
    assert [loaded.name.split("/", 3)[3] for loaded in sorted(repository.in_memory(), key=lambda each: each.name)] == [
        "a/versions/1",
        "b/versions/1",
        "c/versions/2",
    ]
    held = sum(loaded.claim.needs[CPU] for loaded in repository.in_memory())
    await repository._memory.closed({f"{named('c')}/versions/1"})
    assert shelf.ledger.taken(CPU) == held


def test_a_second_session_has_room_or_is_not_opened(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(doubling(["n", 2]))
    size = path.stat().st_size
    ledger = Ledger(lambda _: 2 * size - 1)
    settings = SessionSettings(intra_op_threads=2, ledger=ledger)
    one, other = (Twin(path, settings, lambda _, items: items) for _ in range(2))
    assert one.open() is not None
    assert ledger.taken(CPU) == size
    assert other.open() is None
    other.close()
    one.close()
    assert ledger.taken(CPU) == 0
    path.write_bytes(b"no graph")
    assert one.open() is None
    assert ledger.taken(CPU) == 0


class Driver:
    """NVIDIA's library with three GPUs of which the second does not answer."""

    NVMLError = pynvml.NVMLError

    def nvmlInit(self) -> None:
        return

    def nvmlDeviceGetHandleByIndex(self, at: int) -> int:
        return at

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> int:
        if not uuid.startswith("GPU-"):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return int(uuid.removeprefix("GPU-"))

    def nvmlDeviceGetMemoryInfo(self, at: int):
        if at == 1:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        return SimpleNamespace(total=(at + 1) << 30, used=(at + 1) << 20)


@pytest.mark.parametrize(
    ("visible", "totals"),
    [(None, [1, 0, 3]), ("2,0", [3, 1, 0]), ("GPU-2", [3, 0, 0]), ("", [0, 0, 0]), (" 0 , 2", [1, 3, 0])],
)
def test_a_gpu_is_asked_for_by_the_number_that_cuda_gives_it(visible, totals):
    memory = DeviceMemory(visible, Driver())
    assert [memory.total(f"cuda:{at}") >> 30 for at in range(3)] == totals
    assert [memory.used(f"cuda:{at}") >> 20 for at in range(3)] == totals
    assert memory.total(CPU) == 0
    assert memory.used(CPU) > 0
