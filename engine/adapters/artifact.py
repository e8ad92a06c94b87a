"""Checks on an ONNX file before any runtime sees it: whole, an ONNX graph, nothing outside its own folder.

It also reads what a runtime does not tell: the classes that a classifier's nodes name. Whether a runtime can run it is
found out in `engine.runtime.sessions`.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx
import onnx.numpy_helper
from google.protobuf.message import DecodeError

from engine.adapters.sizes import is_sized_by_values
from engine.errors import ExternalDataError, ModelFileError

__all__ = ["ArtifactClasses", "check_artifact"]

_MAX_BYTES = 2**31 - 1
_MAX_NAMES = 1 << 20
_NAMED = re.compile(r"(\d{1,6})\s*:\s*(?:'([^'\\]{1,256})'|\"([^\"\\]{1,256})\")")
_CLASS_ATTRIBUTES = ("classlabels_int64s", "classlabels_ints", "classlabels_strings")

_BOUNDED = frozenset(
    {
        "Abs", "Add", "ArgMax", "ArgMin", "ArrayFeatureExtractor", "AveragePool", "BatchNormalization", "Binarizer",
        "Cast", "Ceil", "Clip", "Concat", "Conv", "Cos", "Div", "Elu", "Equal", "Erf", "Exp", "Flatten", "Floor",
        "Gather", "Gelu", "Gemm", "GlobalAveragePool", "Greater", "HardSigmoid", "Identity", "LayerNormalization",
        "LeakyRelu", "Less", "LinearClassifier", "LinearRegressor", "Log", "LogSoftmax", "MatMul", "Max", "MaxPool",
        "Mean", "Min", "Mul", "Neg", "Normalizer", "Not", "Or", "PRelu", "Pow", "Reciprocal", "ReduceMax", "ReduceMean",
        "ReduceMin", "ReduceSum", "Relu", "Round", "Scaler", "Selu", "Shape", "Sigmoid", "Sign", "Sin", "Softmax",
        "Softplus", "Sqrt", "Squeeze", "Sub", "Sum", "Tanh", "Transpose", "TreeEnsembleClassifier",
        "TreeEnsembleRegressor", "Unsqueeze", "Where", "ZipMap",
    }
)  # fmt: skip
"""Operators without loops, and without outputs whose size a value says."""


@dataclass(frozen=True, slots=True)
class ArtifactClasses:
    """The classes that are written in a file.

    Attributes:
        lists: every list of them.
        zipped: those outputs that are a map a row instead of a tensor, with the maps' keys in order.
        bounded: whether what it computes grows with the size of its inputs alone, whatever values they hold.
        sized_by_values: as `engine.adapters.sizes` says.
    """

    lists: tuple[tuple[str, ...], ...]
    zipped: Mapping[str, tuple[str | int, ...]]
    bounded: bool = False
    sized_by_values: bool = False


def check_artifact(path: Path) -> ArtifactClasses:
    """Parse an ONNX file and check everything that can be seen without running it.

    Returns:
        The classes that it names.

    Raises:
        ModelFileError: missing, truncated, or not ONNX.
        ExternalDataError: its weights lie outside its folder, or past the end of their file.
    """
    model = _parse(path)
    if not model.HasField("graph") or not model.opset_import or not model.graph.output:
        raise ModelFileError(
            f"{path.name}: is truncated or no ONNX model: it has no graph with outputs", file=path.name
        )
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            _check_external(path, tensor)
    found = _classes(model.graph, path.name)
    said = tuple(names for entry in model.metadata_props if entry.key == "names" and (names := _said(entry.value)))
    bounded = not model.functions and all(node.op_type in _BOUNDED for node in model.graph.node)
    return ArtifactClasses((*said, *found.lists), found.zipped, bounded, not bounded and is_sized_by_values(model))


def _said(text: str) -> tuple[str, ...]:
    """The classes in the metadata of detectors, `{0: 'person', 1: 'bicycle'}`; nothing of another form."""
    found = {int(at): one or other for at, one, other in _NAMED.findall(text[:_MAX_NAMES])}
    return tuple(found[at] for at in range(len(found))) if set(found) == set(range(len(found))) else ()


def _classes(graph: onnx.GraphProto, file: str) -> ArtifactClasses:
    """The classes in nodes of classifiers (ai.onnx.ml), and in the tables that exporters of scikit-learn index."""
    lists: list[tuple[str | int, ...]] = []
    zipped: dict[str, tuple[str | int, ...]] = {}
    tables = {tensor.name: tensor for tensor in graph.initializer if len(tensor.dims) == 1 and tensor.dims[0] > 1}
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name in _CLASS_ATTRIBUTES and (attribute.ints or attribute.strings):
                texts = (text.decode(errors="replace") for text in attribute.strings)
                found: tuple[str | int, ...] = (*attribute.ints, *texts)
                lists.append(found)
                if node.op_type == "ZipMap":
                    zipped[_first(node.output, "output", node, file)] = found
        if node.op_type == "ArrayFeatureExtractor":
            table = tables.get(_first(node.input, "input", node, file))
            lists.append(_values(table, file) if table is not None else ())
    return ArtifactClasses(tuple(tuple(map(str, each)) for each in lists if each), zipped)


def _first(names: Sequence[str], what: str, node: onnx.NodeProto, file: str) -> str:
    if not names:
        raise ModelFileError(f"{file}: is not a valid graph: its node {node.op_type} has no {what}", file=file)
    return names[0]


def _values(tensor: onnx.TensorProto, file: str) -> tuple[str | int, ...]:
    """The numbers or texts of a table of classes; nothing where it holds something else, or lies in another file."""
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return ()
    if tensor.data_type == onnx.TensorProto.STRING:
        return tuple(text.decode(errors="replace") for text in tensor.string_data)
    if tensor.data_type not in (onnx.TensorProto.INT32, onnx.TensorProto.INT64):
        return ()
    try:
        return tuple(int(value) for value in onnx.numpy_helper.to_array(tensor))
    except ValueError:
        raise ModelFileError(
            f"{file}: is not a valid graph: its table {tensor.name[:64]!r} holds other values than its shape says",
            file=file,
        ) from None


def _parse(path: Path) -> onnx.ModelProto:
    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise ModelFileError(
                f"{path.name}: is {size} bytes; ONNX allows 2 GiB, keep the weights in a file beside it", file=path.name
            )
        model = onnx.ModelProto()
        model.ParseFromString(path.read_bytes())
    except FileNotFoundError:
        raise ModelFileError(f"{path.name}: is missing; push it together with model.yaml", file=path.name) from None
    except DecodeError:
        raise ModelFileError(
            f"{path.name}: is truncated or no ONNX model; export it again and push the whole file", file=path.name
        ) from None
    return model


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor in the file: weights, and attributes of nodes in graphs, subgraphs and functions."""
    graphs = [model.graph]
    nodes = [node for function in model.functions for node in function.node]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
            nodes.extend(graph.node)
            continue
        for attribute in nodes.pop().attribute:
            yield from attribute.tensors
            yield attribute.t
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            graphs += [attribute.g, *attribute.graphs]


def _check_external(path: Path, tensor: onnx.TensorProto) -> None:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    unsafe = (
        not location
        or "\x00" in location
        or PurePosixPath(location).is_absolute()
        or PureWindowsPath(location).drive
        or PureWindowsPath(location).root
        or ".." in PureWindowsPath(location).parts
    )
    if unsafe:
        raise _refusal(path, tensor, location, "points outside the model's folder")
    target = path.parent
    for part in PurePosixPath(location).parts:
        target /= part
        if target.is_symlink():
            raise _refusal(path, tensor, location, "is a symbolic link")
    try:
        status = target.stat()
    except OSError:
        raise _refusal(path, tensor, location, "is not among the model's files") from None
    if not stat.S_ISREG(status.st_mode):
        raise _refusal(path, tensor, location, "is not a file")
    try:
        start, length = int(entries.get("offset", 0)), int(entries.get("length", 0))
    except ValueError:
        raise _refusal(path, tensor, location, "has an offset or length that is no number") from None
    if start < 0 or length < 0 or start + length > status.st_size:
        raise _refusal(path, tensor, location, "is shorter than the model says")


def _refusal(path: Path, tensor: onnx.TensorProto, location: str, why: str) -> ExternalDataError:
    return ExternalDataError(
        f"{path.name}: the weights of {tensor.name[:64]!r} are kept in {location[:128]!r}, which {why}; "
        "put the weights into the model file or beside it",
        file=path.name,
        location=location[:128],
    )
