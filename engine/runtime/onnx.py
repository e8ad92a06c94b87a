"""ONNX Runtime, silent: the only module that imports it, with its telemetry switched off before it is loaded.

How sessions are opened and run lives in `engine.runtime.sessions`.
"""

from __future__ import annotations

import os

# Loaded without this, the runtime writes to ~/.cache/Microsoft and reports to its maker, and its own
# `disable_telemetry_events` comes too late: the files are there once the module is.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

try:
    import onnxruntime  # noqa: TID251 -- here alone
except ImportError as error:
    raise ImportError(
        f"ONNX Runtime cannot be loaded ({error}): run `make setup`, or install the extra `cpu` or `gpu`"
    ) from error

__all__ = ["onnxruntime"]
