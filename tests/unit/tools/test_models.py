"""Preparing the models that ship: whole or not at all, once, and only if they are good; no service takes part."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tools.models import digits
from tools.models.place import SetupError, check_disk, place


def always_zero() -> bytes:
    """A classifier of digits that says 0 to everything."""
    nodes = [
        helper.make_node("ReduceMin", ["x", "axes"], ["low"], keepdims=0),
        helper.make_node("Sub", ["low", "low"], ["zero"]),
        helper.make_node("Cast", ["zero"], ["label"], to=TensorProto.INT64),
    ]
    graph = helper.make_graph(
        nodes,
        "zero",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 64])],
        [helper.make_tensor_value_info("label", TensorProto.INT64, ["n"])],
        [onnx.numpy_helper.from_array(np.array([1], np.int64), "axes")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()


def test_a_model_that_is_not_good_enough_is_not_kept_and_it_is_said_how_bad_it_is(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(digits, "_exported", lambda *_: always_zero())
    with pytest.raises(SetupError, match=r"digits: 10\.0% of the 450 held-out images .* at least 97% are needed"):
        digits.prepare_digits(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_prepared_is_prepared_once_until_what_it_depends_on_changes(tmp_path: Path):
    made = []

    def make(folder: Path) -> None:
        made.append(folder)
        (folder / "model.yaml").write_text(f"{len(made)}")

    for stamp, times in (({"a": "1"}, 1), ({"a": "1"}, 1), ({"a": "2"}, 2)):
        version = place(tmp_path, "m", stamp, make)
        assert len(made) == times
        assert (version / "model.yaml").read_text() == f"{times}"
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_what_fails_leaves_what_was_there_before(tmp_path: Path):
    place(tmp_path, "m", {"a": "1"}, lambda folder: (folder / "model.yaml").touch())

    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise SetupError("no")

    with pytest.raises(SetupError):
        place(tmp_path, "m", {"a": "2"}, fail)
    assert (tmp_path / "m" / "1" / "model.yaml").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_a_full_disk_is_said_before_anything_is_done(tmp_path: Path):
    with pytest.raises(SetupError, match="make room and run again"):
        check_disk(tmp_path, 1 << 60)


def test_no_service_loads_what_is_for_setting_up_nor_what_decodes_images():
    code = "import sys, engine.app; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "onnxruntime" in loaded
    assert not {"sklearn", "skl2onnx", "safetensors", "scipy", "PIL", "tools"} & set(loaded)
