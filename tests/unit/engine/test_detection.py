"""Object detection: real images in, boxes in their own pixels out, whatever form the graph answers in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from PIL import Image

from engine.errors import ElementError, ManifestError, NoLabelsError, TensorError
from engine.manifest import parse_manifest
from engine.runtime.onnx import onnxruntime
from engine.servables import Detector, Sought
from engine.servables.boxes import in_image, suppress
from mesh.sandbox import ImagePool, Wanted
from tests.fakes.drawings import file_of
from tests.unit.engine.graphs import context_of, folder, model
from tests.unit.engine.image_graphs import apart, chosen, one_table, squares

MANIFEST = "name: m\nkind: object-detection\nscale: [0, 1]\nmin_score: 0.7\nfill: 0\n"
LABELS = "labels: [red, green, blue]\n"
FORMS = {
    "a table, columns first": (one_table(), LABELS + "unit: pixels\n"),
    "a table, boxes first": (one_table(columns_first=False), LABELS),
    "a table with objectness": (one_table(objectness=True), LABELS + "objectness: true\n"),
    "boxes and scores": (apart(), LABELS + "box: xyxy\n"),
    "logits with a background": (
        apart(background=True),
        LABELS + "box: xyxy\nbackground: first\nscores: logits\nboxes_output: where\n",
    ),
    "chosen in the graph": (chosen(), LABELS + "box: xyxy\nunit: pixels\nbackground: first\n"),
}


def opened(where, graph: bytes, manifest: str, images: ImagePool) -> Detector:
    made = folder(where, MANIFEST + manifest, model=graph)
    parsed = parse_manifest((MANIFEST + manifest).encode(), model="m")
    return Detector(context_of(made, parsed), images)


@pytest.fixture
async def images():
    made = ImagePool()
    yield made
    await made.close()


def said(detected, at: int) -> set[tuple[str, tuple[int, ...]]]:
    found = detected.images[at]
    boxes = [tuple(round(side) for side in box) for box in found.boxes.tolist()]
    return {(detected.name(number), box) for number, box in zip(found.classes.tolist(), boxes, strict=True)}


WIDE = squares(320, 240, [("red", 40, 40, 40), ("green", 160, 80, 40), ("blue", 280, 200, 40)])
HIGH = squares(128, 256, [("blue", 32, 64, 32), ("red", 96, 224, 32)])
WIDE_BOXES = {("red", (40, 40, 80, 80)), ("green", (160, 80, 200, 120)), ("blue", (280, 200, 320, 240))}
HIGH_BOXES = {("blue", (32, 64, 64, 96)), ("red", (96, 224, 128, 256))}


@pytest.mark.parametrize("form", FORMS)
async def test_squares_are_found_where_they_are_in_images_of_every_shape(tmp_path, images, form):
    graph, manifest = FORMS[form]
    made = opened(tmp_path, graph, manifest, images)
    files = [
        file_of(WIDE),
        file_of(Image.new("RGB", (50, 50))),
        file_of(HIGH, "JPEG", quality=95),
        file_of(WIDE, "WEBP"),
    ]
    found = await made.detect(files, Sought())
    assert [said(found, at) for at in (0, 1, 2)] == [WIDE_BOXES, set(), HIGH_BOXES]
    assert said(found, 3) == WIDE_BOXES
    assert [(each.width, each.height) for each in found.images] == [(320, 240), (50, 50), (128, 256), (320, 240)]
    for each in found.images:
        assert (np.diff(each.scores) <= 0).all()
    made.close()


async def test_stretched_images_are_mapped_back_too(tmp_path, images):
    made = opened(tmp_path, one_table(), LABELS + "unit: pixels\nfit: stretch\n", images)
    image = squares(640, 320, []).copy()
    image.paste((0, 255, 0), (320, 80, 400, 120))
    assert said(await made.detect([file_of(image)], Sought()), 0) == {("green", (320, 80, 400, 120))}
    made.close()


async def test_boxes_are_those_of_the_image_as_its_camera_was_held(tmp_path, images):
    made = opened(tmp_path, one_table(), LABELS + "unit: pixels\n", images)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter clockwise
    file = file_of(WIDE.rotate(90, expand=True), "JPEG", quality=95, exif=exif)
    found = await made.detect([file], Sought())
    assert (found.images[0].width, found.images[0].height) == (320, 240)
    assert said(found, 0) == WIDE_BOXES
    made.close()


async def test_a_request_may_ask_for_more_or_fewer(tmp_path, images):
    made = opened(tmp_path, one_table(), LABELS + "unit: pixels\n", images)
    files = [file_of(squares(64, 64, [("red", 8, 8, 12), ("red", 40, 40, 8)]))]
    all_ = await made.detect(files, Sought(overlap=1.0))
    few = await made.detect(files, Sought(overlap=0.3))
    one = await made.detect(files, Sought(most=1))
    sure = await made.detect(files, Sought(min_score=0.99, overlap=1.0))
    low = await made.detect(files, Sought(min_score=0.0, overlap=1.0))
    counts = [len(each.images[0].scores) for each in (all_, few, one, sure, low)]
    assert counts[0] == counts[3] == 5  # four places in the large one, of which two are apart enough
    assert counts[1:3] == [3, 1]
    assert counts[4] > counts[0]
    made.close()


async def test_tensors_are_filled_up_to_the_image_with_most(tmp_path, images):
    made = opened(tmp_path, one_table(), LABELS + "unit: pixels\n", images)
    files = np.empty(3, object)
    files[:] = [file_of(WIDE), file_of(Image.new("RGB", (9, 9))), file_of(HIGH)]
    answer = (await made.infer({"image": files})).outputs
    assert answer["count"].tolist() == [3, 0, 2]
    assert answer["boxes"].shape == (3, 3, 4)
    assert answer["labels"][1].tolist() == [-1, -1, -1]
    assert (await made.infer({"image": np.empty(0, object)})).outputs["boxes"].shape == (0, 0, 4)
    with pytest.raises(TensorError, match="at most 256"):
        await made.infer({"image": np.full(257, b"x", object)})
    with pytest.raises(NoLabelsError, match="ask Detect"):
        await made.classify([b""])
    made.close()


async def test_the_wrong_image_of_many_is_named_by_its_place(tmp_path, images):
    made = opened(tmp_path, chosen(), LABELS + "box: xyxy\nunit: pixels\nbackground: first\n", images)
    files = [file_of(WIDE)] * 5 + [b"GIF89a"] + [file_of(WIDE)] * 3
    with pytest.raises(ElementError, match=r"^images\[5\]: is a GIF; send PNG, JPEG or WebP$"):
        await made.detect(files, Sought())
    made.close()


async def test_names_are_read_from_the_metadata_that_exporters_write(tmp_path, images):
    import onnx

    graph = onnx.ModelProto.FromString(one_table())
    graph.metadata_props.add(key="names", value="{0: 'rot', 1: \"vert\", 2: 'bleu'}")
    made = opened(tmp_path, graph.SerializeToString(), "unit: pixels\n", images)
    assert ("bleu", (280, 200, 320, 240)) in said(await made.detect([file_of(WIDE)], Sought()), 0)
    made.close()


ASKED = {
    "the box": (apart(), LABELS, "add this line to model.yaml: `box: xyxy`"),
    "which are boxes": (apart(background=True), LABELS + "box: xyxy\n", "`boxes_output: where`"),
    "the unit": (chosen(), LABELS + "box: xyxy\n", "`unit: pixels`"),
    "the number of labels": (one_table(), "labels: [a]\n", "labels: 1 names, and the graph tells 3 classes apart"),
    "the output": (one_table(), LABELS + "output: x\n", "output: the graph has no output `x`; it has table"),
    "two forms": (one_table(), LABELS + "output: table\nboxes_output: table\n", "output: is for one table"),
    "a table of scores": (apart(), LABELS + "output: confidence\n", "where [n, 4 + classes, boxes]"),
}


@pytest.mark.parametrize("case", ASKED)
def test_what_cannot_be_seen_is_asked_for_with_the_line_to_add(tmp_path, case):
    graph, manifest, words = ASKED[case]
    with pytest.raises(ManifestError) as caught:
        opened(tmp_path, graph, manifest, ImagePool())
    assert words in caught.value.message


@st.composite
def boxes_of(draw):
    count = draw(st.integers(0, 24))
    corner = st.integers(0, 12)
    boxes = []
    for _ in range(count):
        left, top = draw(corner), draw(corner)
        boxes.append((left, top, left + draw(st.integers(0, 8)), top + draw(st.integers(0, 8))))
    scores = draw(st.lists(st.integers(1, 9), min_size=count, max_size=count))
    classes = draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))
    return (
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores, np.float32) / 10,
        np.array(classes, np.int64),
    )


def slowly(boxes, scores, classes, overlap: float, across: bool, most: int) -> list[int]:
    """Non-maximum suppression as its definition says, one pair after the other."""

    def share(one, other) -> float:
        wide = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
        high = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
        areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
        union = sum(areas) - wide * high
        return wide * high / union if union > 0 else 0.0

    kept: list[int] = []
    for at in sorted(range(len(scores)), key=lambda at: (-scores[at], at)):
        rivals = [other for other in kept if across or classes[other] == classes[at]]
        if all(share(boxes[other].tolist(), boxes[at].tolist()) <= overlap for other in rivals):
            kept.append(at)
    return kept[:most]


@given(boxes_of(), st.sampled_from([0.0, 0.25, 0.45, 1.0]), st.booleans(), st.integers(1, 30))
def test_suppression_keeps_what_its_definition_keeps(given_, overlap, across, most):
    boxes, scores, classes = given_
    found = suppress(boxes, scores, classes, overlap=overlap, across_classes=across, most=most)
    assert found.tolist() == slowly(boxes, scores, classes, overlap, across, most)


def operator_session(overlap: float):
    nodes = [helper.make_node("NonMaxSuppression", ["boxes", "scores", "most", "overlap"], ["kept"])]
    inputs = {"boxes": (TensorProto.FLOAT, [1, "n", 4]), "scores": (TensorProto.FLOAT, [1, "c", "n"])}
    weights = {"most": np.array([1000], np.int64), "overlap": np.array([overlap], np.float32)}
    return onnxruntime.InferenceSession(model(nodes, inputs, {"kept": (TensorProto.INT64, ["k", 3])}, weights))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.3, 0.5]))
def test_suppression_keeps_what_the_operator_of_onnx_keeps(seed, overlap):
    random = np.random.default_rng(seed)
    at, size = random.random((300, 2)), random.random((300, 2)) * 0.4
    boxes = np.concatenate([at, at + size], axis=1).astype(np.float32)
    scores, classes = random.random(300).astype(np.float32) + 0.01, random.integers(0, 3, 300)
    table = np.where(classes == np.arange(3)[:, None], scores, -1).astype(np.float32)
    kept = operator_session(overlap).run(None, {"boxes": boxes[None], "scores": table[None]})[0]
    wanted = {int(row[2]) for row in kept if table[row[1], row[2]] > 0}
    found = suppress(boxes, scores, classes, overlap=overlap, across_classes=False, most=1000)
    assert set(found.tolist()) == wanted


@given(st.integers(1, 4000), st.integers(1, 4000), st.sampled_from(["pad", "stretch"]))
def test_the_whole_image_comes_back_as_the_whole_image(width, height, fit):
    wanted = Wanted(width=640, height=480, mode="RGB", fit=fit)
    whole = in_image(np.array([[0, 0, 640, 480]], np.float32), wanted, width, height)
    assert whole.tolist() == [[0, 0, width, height]]
    middle = in_image(np.array([[320, 240, 320, 240]], np.float32), wanted, width, height)[0]
    assert np.abs(middle[:2] - (width / 2, height / 2)).max() <= 1
