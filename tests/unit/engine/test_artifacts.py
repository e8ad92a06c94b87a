"""Files that no exporter writes: whatever is wrong with them is the file's fault, and is said so."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from engine.adapters.artifact import check_artifact
from engine.errors import EngineError, ModelFileError
from engine.runtime.sessions import SessionSettings, open_session


def classifier() -> onnx.ModelProto:
    """As scikit-learn's exporter writes them: scores, a table of classes that is indexed, and a map a row."""
    nodes = [
        helper.make_node("ArgMax", ["x"], ["best"], axis=1, keepdims=0),
        helper.make_node("ArrayFeatureExtractor", ["classes", "best"], ["label"], domain="ai.onnx.ml"),
        helper.make_node("ZipMap", ["x"], ["maps"], domain="ai.onnx.ml", classlabels_int64s=[3, 13]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])
    label = helper.make_tensor_value_info("label", TensorProto.INT64, [1, "n"])
    maps = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    answers = [label, helper.make_value_info("maps", helper.make_sequence_type_proto(maps))]
    graph = helper.make_graph(nodes, "g", [x], answers, [numpy_helper.from_array(np.array([3, 13]), "classes")])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def without_inputs(made: onnx.ModelProto) -> None:
    del made.graph.node[1].input[:]


def without_outputs(made: onnx.ModelProto) -> None:
    del made.graph.node[2].output[:]


def with_three_bytes(made: onnx.ModelProto) -> None:
    made.graph.initializer[0].raw_data = b"abc"


def with_another_length(made: onnx.ModelProto) -> None:
    made.graph.initializer[0].dims[0] = 2**62


def test_the_classifier_itself_is_whole(tmp_path: Path):
    (tmp_path / "m.onnx").write_bytes(classifier().SerializeToString())
    assert check_artifact(tmp_path / "m.onnx").lists == (("3", "13"), ("3", "13"))
    assert [spec.name for spec in open_session(tmp_path / "m.onnx", SessionSettings()).outputs] == ["label", "maps"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without_inputs, "its node ArrayFeatureExtractor has no input"),
        (without_outputs, "its node ZipMap has no output"),
        (with_three_bytes, "its table 'classes' holds other values than its shape says"),
        (with_another_length, "its table 'classes' holds other values than its shape says"),
    ],
)
def test_a_graph_that_is_no_graph_is_refused_with_what_is_wrong(tmp_path: Path, change, words: str):
    made = classifier()
    change(made)
    (tmp_path / "m.onnx").write_bytes(made.SerializeToString())
    with pytest.raises(ModelFileError, match=f"m.onnx: is not a valid graph: {words}"):
        check_artifact(tmp_path / "m.onnx")


def test_a_name_that_is_no_text_is_refused(tmp_path: Path):
    content = classifier().SerializeToString().replace(b"best", b"be\xffs")
    (tmp_path / "m.onnx").write_bytes(content.replace(b"ArgMax", b"Arg\xffax"))
    with pytest.raises(ModelFileError, match="holds a name that is not UTF-8"):
        open_session(tmp_path / "m.onnx", SessionSettings())


def parts(message: Message) -> list[tuple[Message, str]]:
    """Every field that is set anywhere in a message."""
    found = []
    for field, value in message.ListFields():
        found.append((message, field.name))
        if field.type == field.TYPE_MESSAGE:
            for each in value if field.is_repeated else [value]:
                found += parts(each)
    return found


@given(data=st.data())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_in_which_anything_is_missing_or_changed_is_refused_or_read(tmp_path: Path, data):
    made = classifier()
    for _ in range(data.draw(st.integers(1, 3))):
        message, name = data.draw(st.sampled_from(parts(made)))
        value = getattr(message, name)
        if isinstance(value, bytes):
            setattr(message, name, data.draw(st.binary(max_size=17)))
        elif isinstance(value, int):
            with suppress(ValueError):  # no value of that enumeration
                setattr(message, name, data.draw(st.integers(0, 24)))
        elif hasattr(value, "__delitem__") and data.draw(st.booleans()):
            del value[data.draw(st.integers(0, len(value) - 1))]
        else:
            message.ClearField(name)
        if not parts(made):
            break
    content = bytearray(made.SerializePartialToString())
    for _ in range(data.draw(st.integers(0, 2)) if content else 0):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "m.onnx").write_bytes(content)
    try:
        check_artifact(tmp_path / "m.onnx")
    except EngineError as error:
        assert error.reason in ("MODEL_FILE_INVALID", "EXTERNAL_DATA_REFUSED")
