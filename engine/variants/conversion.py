"""A graph in fewer bits, by what ships with ONNX Runtime.

What became of its answers is seen in `engine.variants.variant_main`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import onnx

import engine.runtime.onnx  # noqa: F401 -- before its tools, so that it reports to nobody
from engine.errors import VariantImpossibleError
from engine.variants.reports import Precision

__all__ = ["convert", "files_of", "size_of"]

_QUANTISED: Final = ("MatMul", "Gemm", "Gather")
"""Steps whose weights are brought to 8 bits. Convolutions are left: in 8 bits they are slower on a CPU, not faster."""
_MOST_BYTES = 2_000_000_000
"""A file of protobuf holds no more; larger weights would lie beside it."""


def files_of(path: Path) -> list[Path]:
    """A graph's file and those of its weights beside it."""
    model = onnx.load(path, load_external_data=False)
    names = {
        entry.value for tensor in _tensors(model.graph) for entry in tensor.external_data if entry.key == "location"
    }
    return [path, *(path.parent / name for name in sorted(names))]


def size_of(path: Path) -> int:
    """Bytes of a graph and its weights."""
    return sum(each.stat().st_size for each in files_of(path))


def convert(path: Path, target: Path, precision: Precision) -> None:
    """Write a graph in fewer bits.

    Args:
        path: of the graph.
        target: where it goes.
        precision: how it shall compute.

    Raises:
        VariantImpossibleError: it has nothing that would become smaller, or what converts it cannot.
    """
    logging.getLogger().setLevel(logging.ERROR)  # what converts it warns of what it does by itself
    try:
        (_to_int8 if precision is Precision.INT8 else _to_fp16)(path, target)
    except (VariantImpossibleError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 -- of whatever kind: the graph is a stranger's
        raise VariantImpossibleError(
            f"{path.name}: cannot be brought to {precision}: {' '.join(str(error).split())[:300]}", file=path.name
        ) from None


def _to_int8(path: Path, target: Path) -> None:
    """Weights a channel each in 8 bits with a sign; what meets them is brought to 8 bits as it comes."""
    from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: TID251 -- after the runtime itself, below it

    quantize_dynamic(
        path,
        target,
        op_types_to_quantize=list(_QUANTISED),
        per_channel=True,
        weight_type=QuantType.QInt8,
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
    )
    made = onnx.load(target, load_external_data=False)
    if not any(tensor.data_type == onnx.TensorProto.INT8 for tensor in _tensors(made.graph)):
        raise VariantImpossibleError(
            f"{path.name}: has no weights in {', '.join(_QUANTISED)} that could be brought to 8 bits", file=path.name
        )


def _to_fp16(path: Path, target: Path) -> None:
    """All that is FP32 in 16 bits, but for inputs and outputs and what would lose its meaning."""
    from onnxruntime.transformers.float16 import convert_float_to_float16  # noqa: TID251 -- as above

    model = onnx.load(path)
    if not any(tensor.data_type == onnx.TensorProto.FLOAT for tensor in _tensors(model.graph)):
        raise VariantImpossibleError(f"{path.name}: has no FP32 weights", file=path.name)
    made = convert_float_to_float16(model, keep_io_types=True)
    if made.ByteSize() > _MOST_BYTES:
        raise VariantImpossibleError(f"{path.name}: is larger than 2 GB also in 16 bits", file=path.name)
    onnx.save(made, target)


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """The constants of a graph and of those inside it."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t
            elif attribute.type == onnx.AttributeProto.GRAPH:
                yield from _tensors(attribute.g)
