"""What ONNX Runtime's errors mean: its words as errors of ours.

Where they are caught is `engine.runtime.sessions`.
"""

from __future__ import annotations

import re

from engine.errors import (
    InferenceFailedError,
    InputRefusedError,
    InputTooLargeError,
    ModelFileError,
    ModelLoadError,
    OpsetError,
)
from engine.runtime.onnx import onnxruntime

__all__ = ["RUNTIME_ERRORS", "load_failure", "plain", "run_failure"]

_ERRORS = onnxruntime.capi.onnxruntime_pybind11_state
RUNTIME_ERRORS = (
    _ERRORS.EPFail,
    _ERRORS.Fail,
    _ERRORS.InvalidArgument,
    _ERRORS.InvalidGraph,
    _ERRORS.InvalidProtobuf,
    _ERRORS.NoModel,
    _ERRORS.NoSuchFile,
    _ERRORS.NotImplemented,
    _ERRORS.RuntimeException,
    MemoryError,
    RuntimeError,
    ValueError,
)
"""What it raises; the last where an output has more elements than an array can have."""
_INPUT_WORDS = (
    "mismatch",
    "broadcast",
    "dimension",
    "out of bounds",
    "out of data bounds",
    "invalid shape",
    "unknown category",
    "must be >= 0",
    "integer overflow",
)
"""How the runtime says that lengths or values do not go together: it calls that a failure of its own."""
_FULL_WORDS = ("allocate", "bad_alloc", "larger than max_size", "array is too big", "require more than", "arena")
"""How it says that there is not as much memory."""
_SOURCE = re.compile(r"[\w.+-]+\.(?:cc|cpp|h|hpp):\d+ (?:[^()]*::[^()]*\([^()]*\)(?: const)? |\w+ )?")
"""Where in its source the runtime found something: the file, the line, the function."""
_OPSET_WORDS = ("opset", "IR version", "not a registered function/op", "No Op registered for")


def load_failure(file: str, error: Exception) -> ModelFileError | OpsetError | ModelLoadError:
    """Why a file of this name was not opened."""
    text = plain(error)
    if any(word in text for word in _OPSET_WORDS):
        return OpsetError(
            f"{file}: needs operators that this runtime does not have ({text}); export it for opset 23 or lower",
            file=file,
        )
    if "Failed to construct locale" in text:
        return ModelLoadError(
            f"{file}: the text steps in it want a locale that this machine has not ({text[-160:]}); install it, or "
            "export them for the locale `C` (skl2onnx: options={TfidfVectorizer: {'locale': 'C'}})",
            file=file,
        )
    if isinstance(error, (_ERRORS.InvalidProtobuf, _ERRORS.InvalidGraph)):
        return ModelFileError(f"{file}: is not a valid graph: {text}", file=file)
    return ModelLoadError(f"{file}: the runtime refused it: {text}", file=file)


def run_failure(error: Exception) -> InputRefusedError | InferenceFailedError:
    """Why a run gave nothing: its inputs, or the runtime itself."""
    text = plain(error)
    if isinstance(error, MemoryError) or any(word in text for word in _FULL_WORDS):
        return InputTooLargeError(f"the model needs more memory for this input than there is: {text}")
    if isinstance(error, _ERRORS.InvalidArgument) or any(word in text.lower() for word in _INPUT_WORDS):
        return InputRefusedError(f"the model cannot compute with this input: {text}")
    return InferenceFailedError(f"the runtime failed: {text}")


def plain(error: Exception) -> str:
    """The runtime's words without its error numbers, folders, and places in its own source."""
    text = str(error).replace("\n", " ")
    text = text.rsplit("Status Message:", 1)[-1]
    text = re.sub(r"\[ONNXRuntimeError\] : \d+ : (?:FAIL : )?", "", text)
    text = re.sub(r"(/[\w.+-]+)+/([\w.+-]+)", r"\2", text)
    text = _SOURCE.sub("", text)
    return text.strip()[:400]
