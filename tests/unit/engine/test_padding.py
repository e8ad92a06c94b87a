"""Rows of different length in one run: everybody gets what they get alone, and what cannot be is said at load."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import TensorProto, helper

from engine.errors import ManifestError, TensorError
from engine.manifest import parse_manifest
from engine.manifest.padding import PaddingSection
from engine.servables.padding import Padding
from engine.tensor import TensorSpec
from tests.unit.engine.graphs import model, opened

SECTION = "padding: {axes: {x: 1, mask: 1}, mask: mask, cut: {each: 1}}\n"
MANIFEST = "name: m\nkind: onnx\n"


def masked_mean() -> bytes:
    """`mean`, [n], of what the mask lets through, and `each` value times three, [n, s]."""
    nodes = [
        helper.make_node("Mul", ["x", "mask"], ["seen"]),
        helper.make_node("ReduceSum", ["seen", "axes"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["mask", "axes"], ["count"], keepdims=0),
        helper.make_node("Div", ["sum", "count"], ["mean"]),
        helper.make_node("Mul", ["x", "three"], ["each"]),
    ]
    table = (TensorProto.FLOAT, ["n", "s"])
    weights = {"axes": np.array([1], np.int64), "three": np.array(3, np.float32)}
    return model(nodes, {"x": table, "mask": table}, {"mean": (TensorProto.FLOAT, ["n"]), "each": table}, weights)


def row(*values):
    return np.array([values], np.float32)


def run_lengths(made):
    """The widths of the runs that follow."""
    widths, session = [], made._graph._session
    real = session.run

    def run(feeds, *more, **named):
        widths.append(feeds["x"].shape)
        return real(feeds, *more, **named)

    session.run = run
    return widths


async def test_requests_of_different_length_share_a_run_and_come_back_as_alone(tmp_path):
    made = opened(tmp_path, MANIFEST + SECTION, m=masked_mean())
    widths = run_lengths(made)
    asked = [row(*range(1, length + 1)) for length in (2, 5, 3, 7, 4)]
    found = await asyncio.gather(*(made.infer({"x": each}) for each in asked))
    for each, answer in zip(asked, found, strict=True):
        assert answer.outputs["mean"] == pytest.approx(each.mean(axis=1))
        assert answer.outputs["each"].tolist() == (each * 3).tolist()
    assert len(widths) < 5
    assert max(widths)[0] > 1
    made.close()


async def test_a_mask_that_is_sent_counts(tmp_path):
    made = opened(tmp_path, MANIFEST + SECTION, m=masked_mean())
    answer = await made.infer({"x": row(1, 2, 30), "mask": row(1, 1, 0)})
    assert answer.outputs["mean"] == pytest.approx([1.5])
    made.close()


async def test_runs_have_the_lengths_of_buckets_and_longer_requests_are_refused(tmp_path):
    made = opened(tmp_path, MANIFEST + SECTION.replace("cut:", "buckets: [4, 8], cut:"), m=masked_mean())
    widths = run_lengths(made)
    answer = await made.infer({"x": row(1, 2, 3)})
    assert answer.outputs["each"].tolist() == [[3, 6, 9]]
    assert widths == [(1, 4)]
    with pytest.raises(TensorError, match="at most 8 are taken"):
        await made.infer({"x": np.ones((1, 9), np.float32)})
    made.close()


async def test_inputs_of_different_length_are_refused_by_name(tmp_path):
    made = opened(tmp_path, MANIFEST + SECTION, m=masked_mean())
    with pytest.raises(TensorError, match="is 2 long along axis 1, and 'x' is 3"):
        await made.infer({"x": row(1, 2, 3), "mask": row(1, 1)})
    made.close()


@pytest.mark.parametrize(
    ("section", "line"),
    [
        (
            "{axes: {x: 1, mask: 1}, values: {mask: 1}, cut: {each: 1}}",
            "`mean` of a row of 3 is another one.*name the mask",
        ),
        ("{axes: {x: 1, mask: 1}, mask: mask}", "cut it back \\(`cut: {each: 1}`\\)"),
        ("{axes: {y: 1}}", "the graph has no `y`; it has x, mask"),
        ("{axes: {x: 2}}", "axes 0 and 2 must be of any length"),
        ("{axes: {x: 1}, cut: {mean: 1}}", "`mean` has the shape"),
        ("{axes: {x: 1}, mask: mask}", "add it: `axes: {mask: 1}`"),
        ("{axes: {x: 1}, values: {mask: 1}}", "`mask` is none of `axes`"),
        ("{axes: {x: 1}, values: {x: 1.0e+300}}", "FP32, which cannot hold 1e\\+300"),
        ("{axes: {x: 1}, buckets: [8, 4]}", "write `buckets: \\[4, 8\\]`"),
        ("{axes: {}}", "name the inputs that are filled up"),
        ("{mask: mask}", "`padding.axes` is missing; add the line `axes: {input_ids: 1}`"),
        ("{axis: {x: 1}}", "did you mean `axes`"),
    ],
)
def test_what_would_change_answers_or_is_not_there_is_refused_with_the_line_to_write(tmp_path, section, line):
    with pytest.raises(ManifestError, match=line):
        opened(tmp_path, f"{MANIFEST}padding: {section}\n", m=masked_mean()).close()


def test_what_cannot_be_tried_is_off_and_said(tmp_path):
    fixed = {"x": (TensorProto.FLOAT, ["n", "s", 4096, 1024])}
    graph = model([helper.make_node("Add", ["x", "x"], ["y"])], fixed, {"y": fixed["x"]})
    made = opened(tmp_path, f"{MANIFEST}batching: on\npadding: {{axes: {{x: 1}}, cut: {{y: 1}}}}\n", m=graph)
    assert "padding: off, its rows are too large to be tried" in made.inferred
    made.close()
    off = opened(tmp_path / "off", f"{MANIFEST}batching: off\n{SECTION}", m=masked_mean())
    assert "padding: off, requests do not share runs" in off.inferred
    off.close()


def test_a_model_that_remembers_has_none():
    text = f"{MANIFEST}{SECTION}sequence: {{states: [{{input: a, output: b}}]}}\n"
    with pytest.raises(ManifestError, match="padding: a model with a `sequence`"):
        parse_manifest(text.encode(), model="m")


SHAPES = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 9)), min_size=1, max_size=6)


@settings(deadline=None)
@given(st.data(), SHAPES, st.sampled_from([(), (4, 16)]), st.sampled_from(["INT64", "FP32", "BYTES"]))
def test_what_is_joined_and_cut_is_what_went_in(data, shapes, buckets, datatype):
    specs = [TensorSpec("x", datatype, (-1, 2, -1))]
    padding = Padding(PaddingSection(axes={"x": 2}, cut={"x": 2}, buckets=buckets), specs, specs)
    dtype = {"INT64": np.int64, "FP32": np.float32, "BYTES": object}[datatype]
    elements = st.binary(max_size=3) if datatype == "BYTES" else st.integers(0, 99)
    requests = [{"x": data.draw(arrays.arrays(dtype, (rows, 2, length), elements=elements))} for rows, length in shapes]
    lengths = [padding.length(request) for request in requests]
    joined = padding.joined(requests, lengths)["x"]
    width = max(lengths)
    assert joined.shape[2] == (width if not buckets else 4 if width <= 4 else 16)
    at = 0
    for request, length in zip(requests, lengths, strict=True):
        rows = len(request["x"])
        part = joined[at : at + rows]
        assert (part[:, :, length:] == (b"" if datatype == "BYTES" else 0)).all()
        assert padding.cut({"x": part}, length)["x"].tolist() == request["x"].tolist()
        at += rows
    assert at == len(joined)


def test_the_section_is_read():
    text = MANIFEST + "padding: {axes: {ids: 1}, values: {ids: 7}, buckets: [16, 32]}\n"
    section = parse_manifest(text.encode(), model="m").padding
    assert section == PaddingSection(axes={"ids": 1}, values={"ids": 7}, buckets=(16, 32))
