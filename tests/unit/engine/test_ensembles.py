"""Ensembles: which graphs are refused and with what line, and how steps run, fail and end together."""

from __future__ import annotations

import asyncio
from random import Random

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from engine.ensembles.plan import work_out
from engine.ensembles.references import check_references
from engine.errors import (
    EngineError,
    EnsembleError,
    ManifestError,
    ModelNotFoundError,
    ModelNotReadyError,
    QueueFullError,
    StepError,
    TensorError,
)
from engine.figures import ModelFigures
from engine.manifest import parse_manifest
from engine.repository.uses import Uses
from engine.scheduler.terms import SequenceTerms, Terms
from engine.servables.base import Inference
from engine.servables.ensemble import Ensemble
from engine.tensor import TensorSpec
from mesh.errors import Code

TWO = """
name: two
kind: ensemble
steps:
  - {model: features, inputs: {text: text}}
  - {name: head, model: mlp, inputs: {x: features.out.1}}
outputs: {label: head.label}
"""
TEXT, FEATURES = TensorSpec("text", "BYTES", (-1,)), TensorSpec("out.1", "FP32", (-1, 4))
X, LABEL = TensorSpec("x", "FP32", (-1, 4)), TensorSpec("label", "INT64", (-1,))


class Member:
    """A model that is known by what it takes and gives, and computes with a function."""

    def __init__(self, inputs=(), outputs=(), work=None, *, name: str = "m", uid: str = "1") -> None:
        self.inputs, self.outputs, self.work = inputs, outputs, work
        self.servable, self.name, self.uid = self, name, uid
        self.figures = ModelFigures(name, uid)
        self.uses = Uses()
        self.asked: list[Terms] = []

    async def infer(self, tensors, terms) -> Inference:
        self.asked.append(terms)
        return Inference(await self.work(tensors), 1, 3)


def members() -> dict[str, Member]:
    async def features(tensors):
        return {"out.1": np.array([[len(text)] * 4 for text in tensors["text"]], np.float32)}

    async def head(tensors):
        return {"label": tensors["x"].sum(axis=1).astype(np.int64)}

    return {"features": Member([TEXT], [FEATURES], features), "mlp": Member([X], [LABEL], head)}


def ensemble(known: dict[str, Member], text: str = TWO) -> Ensemble:
    def find(model: str, version: str) -> Member:
        if model not in known:
            raise ModelNotFoundError("not there")
        return known[model]

    manifest = parse_manifest(text.encode(), model=text.split("name: ")[1].split(maxsplit=1)[0])
    return Ensemble(manifest, find)


def texts(*values: bytes) -> dict[str, np.ndarray]:
    return {"text": np.array(values, object)}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("features.out.1", "featurs.out", "steps[1].inputs.x: there is no step `featurs`; did you mean `features`?"),
        ("features.out.1", "features", "steps[1].inputs.x: `features` is a step; name one of its outputs"),
        ("features.out.1", "features.", "names the step and no output of it; write `features.OUTPUT`"),
        ("features.out.1", "head.label", "steps[1].inputs.x: `head.label` is the step's own output"),
        ("features.out.1", "text", "steps[0]: nobody uses what `features` gives"),
        ("text: text", "text: head.label", "each needs the one before, and none can begin"),
        ("head.label", "hed.label", "outputs.label: there is no step `hed`; did you mean `head`?"),
        ("head.label", "text", "outputs.label: `text` is no output of a step; write `label: head.…`"),
        ("name: head, model: mlp", "model: features", "steps[1]: there are two steps `features`"),
        ("outputs:", "inputs: [{name: txt, datatype: BYTES, shape: [-1]}]\noutputs:", "did you mean `txt`?"),
        ("inputs: {x: features.out.1}", "input: {}", "unknown key `steps[1].input`; did you mean `inputs`?"),
        (", inputs: {x: features.out.1}", "", "`steps[1].inputs` is missing; add the line `inputs: {x: x}`"),
        ("outputs: {label: head.label}", "", "`outputs` is missing; add the line `outputs: {y: my-model.y}`"),
    ],
)
def test_a_graph_that_is_none_is_refused_with_its_line(old: str, new: str, said: str):
    assert old in TWO
    with pytest.raises(ManifestError) as caught:
        parse_manifest(TWO.replace(old, new).encode(), model="two")
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("features.out.1", "features.out", "steps[1].inputs.x: `features` gives no `out`; did you mean `out.1`?"),
        ("{x: features", "{y: features", "steps[1].inputs.y: `mlp` has no such input; known are x"),
        ("head.label", "head.score", "outputs.label: `head` gives no `score`; known are label"),
        ("model: mlp", "model: wide", "takes FP32 [-1, 8], and `out.1` is FP32 [-1, 4]; put a step between them"),
        ("model: mlp", "model: whole", "takes INT64 [-1, 4], and `out.1` is FP32 [-1, 4]"),
        ("model: mlp", "model: flat", "takes FP32 [-1], and `out.1` is FP32 [-1, 4]"),
        ("model: mlp", "model: pair", "steps[1].inputs.z: is missing; add the line `z: …`, FP32 [-1]"),
        ("outputs:", "inputs: [{name: text, datatype: FP32, shape: [-1]}]\noutputs:", "`text` is FP32 [-1]"),
        ("outputs:", "inputs: [{name: text, datatype: WORD, shape: [-1]}]\noutputs:", "`WORD` is none; known are BOOL"),
        (
            "outputs:",
            "inputs: [{name: text, datatype: BYTES, shape: [2]}, {name: b, datatype: BYTES, shape: [1]}]\noutputs:",
            "inputs[1]: no step takes `b`",
        ),
    ],
)
def test_tensors_that_do_not_go_together_are_refused_with_their_line(old: str, new: str, said: str):
    known = members() | {
        "wide": Member([TensorSpec("x", "FP32", (-1, 8))], [LABEL]),
        "whole": Member([TensorSpec("x", "INT64", (-1, 4))], [LABEL]),
        "flat": Member([TensorSpec("x", "FP32", (-1,))], [LABEL]),
        "pair": Member([X, TensorSpec("z", "FP32", (-1,))], [LABEL]),
    }
    with pytest.raises(ManifestError) as caught:
        ensemble(known, TWO.replace(old, new))
    assert said in caught.value.message


def test_inputs_are_read_from_the_steps_and_as_narrow_as_all_of_them_want():
    text = """
name: e
kind: ensemble
steps:
  - {name: a, model: any, inputs: {x: x}}
  - {name: b, model: four, inputs: {x: x}}
outputs: {p: a.y, q: b.y}
"""
    known = {
        "any": Member([TensorSpec("x", "FP32", (-1, -1))], [TensorSpec("y", "FP32", (-1,))]),
        "four": Member([TensorSpec("x", "FP32", (-1, 4))], [TensorSpec("y", "FP32", (-1,))]),
    }
    made = ensemble(known, text)
    assert made.inputs == (TensorSpec("x", "FP32", (-1, 4)),)
    assert made.inferred == ("inputs: [{name: x, datatype: FP32, shape: [-1, 4]}]",)
    assert [spec.name for spec in made.outputs] == ["p", "q"]


wires = st.dictionaries(st.sampled_from(["a", "b"]), st.sampled_from(["x", "s0.y", "s1.y", "s2.y", "s3.y"]), min_size=1)


@given(st.lists(wires, min_size=1, max_size=4), st.lists(st.integers(0, 3), min_size=1, max_size=4))
def test_a_graph_is_taken_exactly_where_it_has_no_ring_and_no_loose_end(inputs: list[dict], outputs: list[int]):
    steps = [(f"s{at}", wires) for at, wires in enumerate(inputs)]
    after = {name: {ref.split(".")[0] for ref in wires.values() if "." in ref} for name, wires in steps}
    taken = set().union(*after.values(), {f"s{at}" for at in outputs})
    reached = {name: set(before) for name, before in after.items()}
    for _ in steps:  # the closure: whatever a step waits for, it waits for that one's too
        for name, before in reached.items():
            reached[name] = before.union(*(reached.get(each, set()) for each in before))
    good = taken == set(after) and all(name not in before for name, before in reached.items())
    try:
        check_references(steps, {f"o{at}": f"s{at}.y" for at in outputs}, [])
        accepted = True
    except ManifestError:
        accepted = False
    assert accepted == good


@st.composite
def graphs(draw):
    """Steps that add what they are given and a number of their own; the last ones' outputs are the ensemble's."""
    count = draw(st.integers(1, 7))
    steps = []
    for at in range(count):
        sources = ["x", *(f"s{before}.y" for before in range(at))]
        steps.append((f"s{at}", draw(st.lists(st.sampled_from(sources), min_size=1, max_size=3))))
    used = {source.split(".")[0] for _, sources in steps for source in sources}
    outputs = [name for name, _ in steps if name not in used or name == steps[-1][0]]
    return steps, outputs, draw(st.none() | st.integers(0, count - 1))


@given(graphs(), st.integers(0, 2**32))
def test_every_graph_computes_what_it_says_in_any_order_or_names_the_step_that_failed(drawn, seed):
    steps, outputs, failing = drawn
    random = Random(seed)  # noqa: S311 -- an order, no secret
    assume(outputs)
    began: list[str] = []

    def member(at: int, name: str, sources: list[str]) -> Member:
        async def work(tensors):
            began.append(name)
            for _ in range(random.randrange(4)):
                await asyncio.sleep(0)
            if at == failing:
                raise QueueFullError("full", retry_after_s=2.0)
            return {"y": sum(tensors.values()) + at}

        spec = TensorSpec("y", "FP32", (-1,))
        return Member([TensorSpec(f"i{n}", "FP32", (-1,)) for n in range(len(sources))], [spec], work, name=name)

    known = {name: member(at, name, sources) for at, (name, sources) in enumerate(steps)}
    lines = [
        f"- {{model: {name}, inputs: {{{', '.join(f'i{n}: {source}' for n, source in enumerate(sources))}}}}}"
        for name, sources in random.sample(steps, len(steps))
    ]
    wired = ", ".join(f"o-{name}: {name}.y" for name in outputs)
    text = "name: e\nkind: ensemble\nsteps:\n" + "\n".join(lines) + f"\noutputs: {{{wired}}}\n"
    x = np.array([1.0, 2.0], np.float32)
    values = {"x": x}
    for at, (name, sources) in enumerate(steps):
        values[f"{name}.y"] = sum(values[source] for source in sources) + at

    async def ask():
        answer = await ensemble(known, text).infer({"x": x}, Terms("t", priority=2))
        assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        return answer

    if failing is not None:
        with pytest.raises(StepError) as caught:
            asyncio.run(ask())
        assert caught.value.message == f"step `s{failing}`: full"
        assert (caught.value.code, caught.value.reason) == (Code.RESOURCE_EXHAUSTED, "QUEUE_FULL")
        assert caught.value.retry_after_s == 2.0
        return
    answer = asyncio.run(ask())
    assert {name: value.tolist() for name, value in answer.outputs.items()} == {
        f"o-{name}": values[f"{name}.y"].tolist() for name in outputs
    }
    assert sorted(began) == sorted(known)
    for name, sources in steps:
        for source in sources:
            assert "." not in source or began.index(source.split(".")[0]) < began.index(name)
    assert answer.tokens == 3 * len(steps)
    assert all(each.asked == [Terms("t", priority=2)] for each in known.values())


async def test_branches_run_beside_each_other_and_what_they_are_asked_on_is_passed_on():
    both = asyncio.Barrier(2)

    async def meet(tensors):
        async with asyncio.timeout(5):
            await both.wait()
        return {"y": tensors["x"]}

    spec = TensorSpec("x", "FP32", (-1,))
    known = {name: Member([spec], [TensorSpec("y", "FP32", (-1,))], meet) for name in ("a", "b")}
    text = "name: e\nkind: ensemble\nsteps:\n- {model: a, inputs: {x: x}}\n- {model: b, inputs: {x: x}}\n"
    made = ensemble(known, text + "outputs: {p: a.y, q: b.y}\n")
    terms = Terms("t", 1, 2.0, SequenceTerms("s", starts=True))
    await made.infer({"x": np.ones(1, np.float32)}, terms)
    assert known["a"].asked == known["b"].asked == [terms]


async def test_a_caller_who_goes_away_ends_all_steps():
    ended = []

    async def for_ever(tensors):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append(True)
            raise

    spec = TensorSpec("x", "FP32", (-1,))
    known = {name: Member([spec], [TensorSpec("y", "FP32", (-1,))], for_ever) for name in ("a", "b")}
    text = "name: e\nkind: ensemble\nsteps:\n- {model: a, inputs: {x: x}}\n- {model: b, inputs: {x: x}}\n"
    made = ensemble(known, text + "outputs: {p: a.y, q: b.y}\n")
    asked = asyncio.create_task(made.infer({"x": np.ones(1, np.float32)}))
    await asyncio.sleep(0.01)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert ended == [True, True]
    assert known["a"].figures.statistics().failures == {"CANCELED": 1}


async def test_the_ensembles_own_inputs_are_checked_before_any_step():
    known = members()
    with pytest.raises(TensorError, match=r"tensor 'text': the model wants BYTES, FP32 was sent"):
        await ensemble(known).infer({"text": np.ones(1, np.float32)})
    with pytest.raises(TensorError, match="is missing"):
        await ensemble(known).infer({})
    assert not known["features"].asked


async def test_another_version_of_a_model_answers_from_then_on_and_one_that_does_not_fit_is_named():
    known = members()
    made = ensemble(known)
    assert (await made.infer(texts(b"abc"))).outputs["label"].tolist() == [12]

    async def negative(tensors):
        return {"label": -tensors["x"].sum(axis=1).astype(np.int64)}

    known["mlp"] = Member([X], [LABEL], negative, uid="2")
    assert (await made.infer(texts(b"abc"))).outputs["label"].tolist() == [-12]
    known["mlp"] = Member([TensorSpec("x", "FP32", (-1, 8))], [LABEL], negative, uid="3")
    with pytest.raises(EnsembleError, match=r"two: model\.yaml: steps\[1\]\.inputs\.x: takes FP32 \[-1, 8\]"):
        await made.infer(texts(b"abc"))
    del known["mlp"]
    with pytest.raises(EnsembleError, match=r"steps\[1\]\.model: `mlp` is not loaded; load it first"):
        await made.infer(texts(b"abc"))


async def test_a_version_that_goes_while_it_is_asked_is_asked_again_in_the_one_that_came():
    known = members()
    made = ensemble(known)
    old = known["mlp"]

    async def going(tensors):
        known["mlp"] = Member([X], [LABEL], old.work, uid="2")
        raise ModelNotReadyError("the model is being unloaded")

    known["mlp"] = Member([X], [LABEL], going)
    assert (await made.infer(texts(b"abc"))).outputs["label"].tolist() == [12]

    async def gone(tensors):
        raise ModelNotReadyError("the model is being unloaded")

    known["mlp"] = Member([X], [LABEL], gone)
    with pytest.raises(StepError, match="step `head`: the model is being unloaded"):
        await made.infer(texts(b"abc"))


async def test_ensembles_that_come_to_stand_on_themselves_end_with_an_error():
    known: dict = {}
    text = "name: e\nkind: ensemble\nsteps:\n- {model: inner, inputs: {x: x}}\noutputs: {y: inner.y}\n"

    async def plain(tensors):
        return {"y": tensors["x"]}

    known["inner"] = Member([TensorSpec("x", "FP32", (-1,))], [TensorSpec("y", "FP32", (-1,))], plain)
    made = ensemble(known, text)

    async def itself(tensors):
        return (await made.infer(tensors)).outputs

    known["inner"] = Member(known["inner"].inputs, known["inner"].outputs, itself, uid="2")
    with pytest.raises(EngineError, match="more than four models stand above each other"):
        await made.infer({"x": np.ones(1, np.float32)})


def test_a_plan_names_versions_as_they_are_pinned():
    manifest = parse_manifest(TWO.replace("model: mlp,", "model: mlp, version: 3,").encode(), model="two")
    assert [tuple(base) for base in manifest.stands_on] == [("features", ""), ("mlp", "3")]
    known = members()
    plan = work_out(manifest, {"features": known["features"], "head": known["mlp"]})
    assert [(step.name, step.version) for step in plan.steps] == [("features", ""), ("head", "3")]
