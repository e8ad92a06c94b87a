"""ONNX Runtime as the engine loads it: it writes nothing at home, and its errors are told in plain words."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from engine.errors import InputRefusedError, InputTooLargeError
from engine.runtime.sessions import SessionSettings, open_session
from tests.unit.engine.graphs import model

CLONE = Path(__file__).parents[3]
RUN_A_SESSION = """
import sys
import numpy as np
import onnx
from onnx import TensorProto, helper
from pathlib import Path
from engine.runtime.sessions import SessionSettings, open_session

shape = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", shape[:1], shape[1:])
path = Path(sys.argv[1])
path.write_bytes(
    helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
)
session = open_session(path, SessionSettings())
print(session.run({"x": np.ones(1, np.float32)})["y"][0])
"""


@pytest.mark.parametrize("variable", [None, "0"], ids=["unset", "switched on by the user's shell"])
def test_a_session_leaves_nothing_in_the_home_folder(tmp_path, variable):
    home = tmp_path / "home"
    home.mkdir()
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("XDG_", "ORT_"))}
    environment |= {"HOME": str(home)} | ({"ORT_DISABLE_TELEMETRY": variable} if variable else {})
    finished = subprocess.run(
        [sys.executable, "-c", RUN_A_SESSION, str(tmp_path / "model.onnx")],
        env=environment, cwd=CLONE, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert finished.stdout == "1.0\n", finished.stderr
    assert [str(path.relative_to(home)) for path in home.rglob("*")] == []


@pytest.mark.parametrize(
    ("lengths", "kind", "said"),
    [
        ([-1, 5], InputRefusedError, "cannot compute with this input: Tensor shape.Size() must be >= 0"),
        ([2**62, 2**62], InputRefusedError, "cannot compute with this input: Integer overflow"),
        ([2**30, 2**20], InputTooLargeError, "than there is: Failed to allocate memory for requested buffer"),
    ],
)
def test_lengths_that_cannot_be_are_the_inputs_fault_and_told_without_places_in_source(tmp_path, lengths, kind, said):
    nodes = [helper.make_node("ConstantOfShape", ["x"], ["y"])]
    outputs = {"y": (TensorProto.FLOAT, ["a", "b"])}
    (tmp_path / "model.onnx").write_bytes(model(nodes, {"x": (TensorProto.INT64, [2])}, outputs, {}))
    session = open_session(tmp_path / "model.onnx", SessionSettings())
    with pytest.raises(kind) as caught:
        session.run({"x": np.array(lengths, np.int64)})
    assert said in caught.value.message
    assert not re.search(r"\.cc|\.h:|::", caught.value.message)
    session.close()
