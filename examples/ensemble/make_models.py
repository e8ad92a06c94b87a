"""Make the three models that the ensemble stands on: a scale, a network trained on the iris data, and the kinds' names.

.venv/bin/python examples/ensemble/make_models.py FOLDER
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_iris
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

Port = tuple[str, int, list[str | int]]


def write(
    folder: Path, name: str, nodes: Sequence[onnx.NodeProto], given: Port, made: Port, weights: Mapping[str, np.ndarray]
) -> None:
    """A model's folder: its graph and its manifest."""
    graph = helper.make_graph(
        list(nodes),
        name,
        [helper.make_tensor_value_info(*given)],
        [helper.make_tensor_value_info(*made)],
        [numpy_helper.from_array(value, key) for key, value in weights.items()],
    )
    (folder / name).mkdir(parents=True, exist_ok=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, str(folder / name / "model.onnx"))
    (folder / name / "model.yaml").write_text(f"name: {name}\nkind: onnx\n")


def main(folder: Path) -> None:
    """Train and write."""
    data = load_iris()
    scale = StandardScaler().fit(data.data)
    network = MLPClassifier((16,), max_iter=2000, random_state=7).fit(scale.transform(data.data), data.target)
    measures: Port = ("measures", TensorProto.FLOAT, ["n", 4])
    scaled: Port = ("scaled", TensorProto.FLOAT, ["n", 4])
    probabilities: Port = ("probabilities", TensorProto.FLOAT, ["n", 3])
    kind: Port = ("kind", TensorProto.STRING, ["n"])
    write(
        folder,
        "flower-scale",
        [helper.make_node("Sub", ["measures", "mean"], ["c"]), helper.make_node("Div", ["c", "std"], ["scaled"])],
        measures,
        scaled,
        {"mean": scale.mean_.astype(np.float32), "std": scale.scale_.astype(np.float32)},
    )
    write(
        folder,
        "flower-network",
        [
            helper.make_node("Gemm", ["scaled", "w0", "b0"], ["h"]),
            helper.make_node("Relu", ["h"], ["r"]),
            helper.make_node("Gemm", ["r", "w1", "b1"], ["z"]),
            helper.make_node("Softmax", ["z"], ["probabilities"], axis=1),
        ],
        scaled,
        probabilities,
        {f"w{at}": weights.astype(np.float32) for at, weights in enumerate(network.coefs_)}
        | {f"b{at}": bias.astype(np.float32) for at, bias in enumerate(network.intercepts_)},
    )
    write(
        folder,
        "flower-names",
        [
            helper.make_node("ArgMax", ["probabilities"], ["best"], axis=1, keepdims=0),
            helper.make_node("Gather", ["names", "best"], ["kind"]),
        ],
        probabilities,
        kind,
        {"names": np.array(data.target_names.tolist(), object)},
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
