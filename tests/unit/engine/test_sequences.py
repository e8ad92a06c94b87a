"""Models that remember: steps of one sequence in order, of many together, each tenant's own, none for ever."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from engine.errors import (
    InferenceFailedError,
    ManifestError,
    NoLabelsError,
    QueueFullError,
    SequenceExistsError,
    SequenceNotFoundError,
    SequenceRequiredError,
    SequencesFullError,
    SequenceStateError,
    TensorError,
)
from engine.manifest import parse_manifest
from engine.repository.uses import Uses
from engine.scheduler.policy import BatchPolicy
from engine.scheduler.terms import SequenceTerms, Terms
from engine.sequences.running import RunningSequences
from engine.servables import SequenceModel
from mesh.errors import Code
from tests.unit.engine.graphs import Silent, context_of, folder, model

FLOAT, INT64, BYTES = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING
MANIFEST = """
name: m
kind: onnx
sequence:
  states: [{input: sum_in, output: sum_out}]
"""
CONTROLS = (
    MANIFEST
    + """  controls:
    - {input: start, signal: start, false_true: [-1, 1]}
    - {input: end, signal: end}
    - {input: ready, signal: ready}
    - {input: id, signal: id}
"""
)


def adding() -> bytes:
    """y = sum = sum + x, over two columns."""
    nodes = [helper.make_node("Add", ["x", "sum_in"], ["sum_out"]), helper.make_node("Identity", ["sum_out"], ["y"])]
    inputs = {"x": (FLOAT, ["n", 2]), "sum_in": (FLOAT, ["n", 2])}
    return model(nodes, inputs, {"y": (FLOAT, ["n", 2]), "sum_out": (FLOAT, ["n", 2])})


def telling() -> bytes:
    """What the controls are told, beside the sum."""
    nodes = [helper.make_node("Add", ["x", "sum_in"], ["sum_out"])]
    inputs = {"x": (FLOAT, ["n", 1]), "sum_in": (FLOAT, ["n", 1])}
    outputs = {"sum_out": (FLOAT, ["n", 1])}
    for name, kind in (("start", FLOAT), ("end", TensorProto.BOOL), ("ready", TensorProto.INT32), ("id", INT64)):
        inputs[name] = (kind, ["n", 1])
        outputs[f"{name}_told"] = (kind, ["n", 1])
        nodes.append(helper.make_node("Identity", [name], [f"{name}_told"]))
    return model(nodes, inputs, outputs)


def growing() -> bytes:
    """The state grows by what comes: [n, length]."""
    nodes = [
        helper.make_node("Concat", ["s", "x"], ["t"], axis=1),
        helper.make_node("ReduceSum", ["t", "one"], ["y"], keepdims=1),
    ]
    inputs = {"x": (FLOAT, ["n", 4]), "s": (FLOAT, ["n", "before"])}
    outputs = {"y": (FLOAT, ["n", 1]), "t": (FLOAT, ["n", "after"])}
    return model(nodes, inputs, outputs, {"one": np.array([1], np.int64)})


class Runs(Silent):
    """Hears how many requests were in each run."""

    def __init__(self) -> None:
        self.requests: list[int] = []

    def batch(self, ran) -> None:
        self.requests.append(ran.requests)


@pytest.fixture
def opened(tmp_path: Path):
    made = []

    def open_model(manifest: str = MANIFEST, content: bytes = b"", **section) -> SequenceModel:
        lines = "".join(f"  {key}: {value}\n" for key, value in section.items())
        parsed = parse_manifest((manifest + lines).encode(), model="m")
        place = folder(tmp_path / str(len(made)), manifest, model=content or adding())
        runs, uses = Runs(), Uses()
        it = SequenceModel(context_of(place, parsed, BatchPolicy(64, 1024), runs), parsed.sequence, uses)
        it.runs, it.uses = runs, uses
        made.append(it)
        return it

    yield open_model
    for it in made:
        it.close()


def terms(id_: str = "s", *, starts: bool = False, ends: bool = False, owner: str = "t") -> Terms:
    return Terms(owner, sequence=SequenceTerms(id_, starts, ends))


def x(*values: float) -> dict[str, np.ndarray]:
    return {"x": np.array([[value, -value] for value in values], np.float32)}


async def step(it: SequenceModel, value: float, id_: str = "s", **said) -> float:
    return float((await it.infer(x(value), terms(id_, **said))).outputs["y"][0, 0])


async def test_each_step_goes_on_from_the_one_before_and_the_caller_sees_no_state(opened):
    it = opened()
    assert [spec.name for spec in it.inputs] == ["x"]
    assert [spec.name for spec in it.outputs] == ["y"]
    answers = [await step(it, 1, starts=True), await step(it, 2), await step(it, 3, ends=True)]
    assert answers == [1, 3, 6]
    assert len(it.running) == it.running.size_bytes == it.uses.count == 0
    assert await step(it, 5, starts=True) == 5


async def test_steps_of_many_sequences_share_runs_and_each_gets_its_own(opened):
    it = opened()
    await asyncio.gather(*(step(it, number, f"s{number}", starts=True) for number in range(40)))
    it.runs.requests.clear()
    for times in (2, 3, 4):
        found = await asyncio.gather(*(step(it, number, f"s{number}") for number in range(40)))
        assert found == [times * number for number in range(40)]
    assert sum(it.runs.requests) == 120
    assert len(it.runs.requests) < 60
    assert it.uses.count == 40


async def test_steps_of_one_sequence_go_one_after_the_other_in_the_order_in_which_they_came(opened):
    it = opened()
    asked = [asyncio.create_task(step(it, value, starts=value == 1, ends=value == 30)) for value in range(1, 31)]
    again = asyncio.create_task(step(it, 100, starts=True))
    assert await asyncio.gather(*asked) == [value * (value + 1) / 2 for value in range(1, 31)]
    assert set(it.runs.requests) == {1}
    assert await again == 100


async def test_rows_of_a_sequence_go_on_side_by_side_and_their_number_stays(opened):
    it = opened()
    await it.infer(x(1, 10), terms(starts=True))
    answer = await it.infer(x(2, 20), terms())
    assert answer.outputs["y"][:, 0].tolist() == [3, 30]
    assert answer.rows == 2
    with pytest.raises(TensorError, match="holds 1 rows; all steps of this sequence have 2"):
        await it.infer(x(1), terms())
    with pytest.raises(TensorError, match="holds no rows"):
        await it.infer({"x": np.zeros((0, 2), np.float32)}, terms())
    assert (await it.infer(x(2, 20), terms())).outputs["y"][:, 0].tolist() == [5, 50]


async def test_another_tenants_sequence_of_the_same_id_is_another_one(opened):
    it = opened()
    assert await step(it, 1, starts=True) == 1
    with pytest.raises(SequenceNotFoundError):
        await step(it, 1, owner="other")
    assert await step(it, 10, starts=True, owner="other") == 10
    assert await step(it, 1) == 2


async def test_what_cannot_be_is_said(opened):
    it = opened(max_sequences=2, max_idle_s=7)
    with pytest.raises(SequenceRequiredError) as caught:
        await it.infer(x(1), Terms("t"))
    assert caught.value.violations[0].field == "parameters[sequence_id]"
    with pytest.raises(SequenceNotFoundError, match="was not asked for 7 s, or is another engine's; begin it with"):
        await step(it, 1)
    await step(it, 1, starts=True)
    with pytest.raises(SequenceExistsError, match="end it first, or begin one with another id"):
        await step(it, 1, starts=True)
    await step(it, 1, "s2", starts=True)
    with pytest.raises(SequencesFullError, match="2 sequences of m are under way") as full:
        await step(it, 1, "s3", starts=True)
    assert (full.value.code, full.value.retry_after_s) == (Code.RESOURCE_EXHAUSTED, 1.0)
    with pytest.raises(NoLabelsError):
        await it.classify([[1.0]], terms())
    with pytest.raises(TensorError, match=r"'sum_in': the model has no such input"):
        await it.infer(x(1) | {"sum_in": np.zeros((1, 2), np.float32)}, terms())
    assert await step(it, 1) == 2
    assert await step(it, 1, "s2", ends=True) == 2
    assert await step(it, 1, "s3", starts=True, ends=True) == 1
    assert len(it.running) == 1


async def test_a_step_that_fails_or_is_given_up_leaves_the_sequence_as_it_was(opened, monkeypatch):
    it = opened()
    await step(it, 1, starts=True)
    infer, held = it._graph.infer, asyncio.Event()

    async def failing(*_):
        raise InferenceFailedError("broken")

    async def waiting(*asked):
        answer = await infer(*asked)
        await held.wait()
        return answer

    monkeypatch.setattr(it._graph, "infer", failing)
    for said in ({}, {"ends": True}):
        with pytest.raises(InferenceFailedError):
            await step(it, 5, **said)
    with pytest.raises(InferenceFailedError):
        await step(it, 5, "new", starts=True)
    monkeypatch.setattr(it._graph, "infer", waiting)
    asked = asyncio.create_task(step(it, 5))
    behind = asyncio.create_task(step(it, 2))
    await asyncio.sleep(0.05)
    asked.cancel()
    await asyncio.sleep(0)
    held.set()
    assert await behind == 3
    monkeypatch.setattr(it._graph, "infer", infer)
    assert await step(it, 5, "new", starts=True) == 5


async def test_only_so_many_steps_of_one_sequence_wait(opened, monkeypatch):
    it = opened()
    held, infer = asyncio.Event(), it._graph.infer

    async def waiting(*asked):
        await held.wait()
        return await infer(*asked)

    monkeypatch.setattr(it._graph, "infer", waiting)
    asked = [asyncio.create_task(step(it, 1, starts=number == 0)) for number in range(70)]
    await asyncio.sleep(0.02)
    held.set()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert answers[:64] == list(range(1, 65))
    assert all(isinstance(answer, QueueFullError) for answer in answers[64:])
    assert await step(it, 1) == 65


async def test_a_sequence_that_nobody_asks_is_forgotten_by_itself(opened):
    it = opened(max_idle_s=0.2)
    await step(it, 1, starts=True)
    assert it.uses.count == 1
    for _ in range(100):
        if not len(it.running):
            break
        await asyncio.sleep(0.02)
    assert (len(it.running), it.running.size_bytes, it.uses.count) == (0, 0, 0)
    with pytest.raises(SequenceNotFoundError):
        await step(it, 1)


async def test_a_timer_keeps_no_model_in_memory(opened):
    running = RunningSequences("m", max_idle_s=60, max_sequences=9, max_bytes=99, held=Uses())
    async with running.step("t", SequenceTerms("s", starts=True)) as begun:
        running.keep(begun, {"s": np.zeros(3, np.int8)})
    left = weakref.ref(running)
    del running, begun
    gc.collect()
    assert left() is None


async def test_controls_are_told_where_a_step_is(opened):
    it = opened(CONTROLS, telling())
    assert [spec.name for spec in it.inputs] == ["x"]

    async def told(**said) -> list:
        answer = await it.infer({"x": np.ones((2, 1), np.float32)}, terms("7", **said))
        return [answer.outputs[f"{name}_told"][:, 0].tolist() for name in ("start", "end", "ready", "id")]

    assert await told(starts=True) == [[1, 1], [False, False], [1, 1], [7, 7]]
    assert await told() == [[-1, -1], [False, False], [1, 1], [7, 7]]
    assert await told(ends=True) == [[-1, -1], [True, True], [1, 1], [7, 7]]
    with pytest.raises(TensorError, match="takes the sequence's id as INT64, and `seven` is none"):
        await it.infer({"x": np.ones((1, 1), np.float32)}, terms("seven", starts=True))
    assert len(it.running) == 0


async def test_a_state_may_grow_up_to_the_bytes_that_all_may_have(opened):
    text = "name: m\nkind: onnx\nbatching: on\nsequence:\n  states: [{input: s, output: t, shape: [-1, 0]}]\n"
    it = opened(text, growing(), max_state_bytes=100)
    given = {"x": np.ones((1, 4), np.float32)}

    async def grow(id_: str, **said) -> float:
        return float((await it.infer(given, terms(id_, **said))).outputs["y"][0, 0])

    assert [await grow("a", starts=True), await grow("a"), await grow("a")] == [4, 8, 12]
    assert await grow("b", starts=True) == 4
    assert it.running.size_bytes == 4 * 16
    assert await grow("b") == 8
    assert await grow("b") == 12
    with pytest.raises(SequencesFullError, match="may come to 100"):
        await grow("c", starts=True)
    with pytest.raises(SequenceStateError, match="has grown to 64 bytes, and all states of m may come to 100"):
        await grow("b")
    with pytest.raises(SequenceNotFoundError):
        await grow("b")
    assert it.running.size_bytes == 48
    assert await grow("a") == 16


async def test_a_state_that_cannot_go_in_again_is_said_and_the_sequence_stays(opened):
    nodes = [
        helper.make_node("Concat", ["s", "x"], ["both"], axis=1),
        helper.make_node("Slice", ["both", "zero", "width", "axis"], ["t"]),
        helper.make_node("Identity", ["x"], ["y"]),
    ]
    row = (FLOAT, ["n", 2])
    weights = {"zero": np.array([0], np.int64), "axis": np.array([1], np.int64)}
    inputs, outputs = {"x": row, "s": row, "width": (INT64, [1])}, {"y": row, "t": (FLOAT, ["n", "any"])}
    text = "name: m\nkind: onnx\nbatching: off\nsequence:\n  states: [{input: s, output: t, initial: 2.5}]\n"
    it = opened(text, model(nodes, inputs, outputs, weights))

    async def ask(width: int, **said) -> None:
        await it.infer(x(1) | {"width": np.array([width], np.int64)}, terms(**said))

    await ask(2, starts=True)
    with pytest.raises(SequenceStateError, match=r"`t` cannot go into the next step: tensor 's': the model wants"):
        await ask(3)
    await ask(2)
    with pytest.raises(SequenceStateError):
        await ask(4, ends=True)
    await ask(2, ends=True)
    assert len(it.running) == 0


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("input: sum_in", "input: sum", "sequence.states[0].input: the graph has no `sum`; did you mean `sum_in`?"),
        ("output: sum_out", "output: z", "sequence.states[0].output: the graph has no `z`; it has y, sum_out"),
        ("output: sum_out}", "output: sum_out, shape: [-1, 3]}", "shape: `sum_in` takes [-1, 2]; write the lengths"),
        ("output: sum_out}", "output: sum_out, initial: lots}", "sequence.states[0].initial"),
        ("sum_out}]", "sum_out}, {input: x, output: y}]", "every output is a state, and nothing is left to answer"),
        ("sum_out}]", "sum_out}, {input: sum_in, output: y}]", "sequence.states[1].input: `sum_in` is fed twice"),
        ("sum_out}]", "sum_out}, {input: x, output: sum_out}]", "`sum_out` goes into two inputs"),
        ("sum_out}]", "sum_out}]\n  controls: [{input: x, signal: start}]", "a control takes one value a row"),
        ("sum_out}]", "sum_out}]\n  controls: [{input: x}]", "`sequence.controls[0].signal` is missing; add the line"),
        ("states:", "state:", "unknown key `sequence.state`; did you mean `states`?"),
        ("kind: onnx", "kind: onnx\nresponse_cache: true", "response_cache: a step's answer is another one each time"),
    ],
)
def test_a_section_that_does_not_fit_its_graph_is_refused_with_its_line(opened, old: str, new: str, said: str):
    before = threading.active_count()
    with pytest.raises(ManifestError) as caught:
        opened(MANIFEST.replace(old, new))
    assert said in caught.value.message
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("signal: end", "signal: end, false_true: [0, 2]", "sequence.controls[1].false_true: 2 is no BOOL"),
        ("signal: ready", "signal: ready, false_true: [0, 1.5]", "1.5 is no INT32"),
        ("{input: start, signal: start", "{input: start, signal: id", "`start` takes FLOAT; an id goes into"),
    ],
)
def test_controls_of_a_type_that_cannot_say_it_are_refused(opened, old: str, new: str, said: str):
    with pytest.raises(ManifestError) as caught:
        opened(CONTROLS.replace(old, new), telling())
    assert said.replace("FLOAT", "FP32") in caught.value.message
