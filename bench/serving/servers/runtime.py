"""Models as every peer loads them: the same files, the same settings of the runtime, the same pooling."""

import json
import os

import numpy as np
import onnxruntime

MODELS = json.loads(os.environ["BENCH_MODELS"])
"""Path of each model's file, by its name."""
MAX_BATCH = 32
INPUTS = {
    "tiny-mlp": {"input": np.float32},
    "all-minilm-l6-v2": {"input_ids": np.int64, "attention_mask": np.int64},
}
SHAPES = {"tiny-mlp": (16,), "all-minilm-l6-v2": (-1,)}
OUTPUTS = {"tiny-mlp": ("output", 4), "all-minilm-l6-v2": ("embedding", 384)}


class Model:
    """A model in memory."""

    def __init__(self, name):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1 if name == "tiny-mlp" else len(os.sched_getaffinity(0))
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.spin_duration_us", "100")
        self._session = onnxruntime.InferenceSession(MODELS[name], options, providers=["CPUExecutionProvider"])
        self.name = name
        self.inputs = INPUTS[name]
        self.output, self.width = OUTPUTS[name]

    def compute(self, feeds):
        """The output of a batch, float32 (rows, width); tokens are pooled as the model's manifest says."""
        value = self._session.run(None, dict(feeds))[0]
        if value.ndim == 3:
            weights = feeds["attention_mask"][:, :, None].astype(np.float32)
            value = (value * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-9)
            value = value / np.maximum(np.linalg.norm(value, axis=1, keepdims=True), 1e-12)
        return np.ascontiguousarray(value, np.float32)

    def compute_rows(self, rows):
        """The outputs of single rows of lists, as one batch padded to the longest."""
        feeds = {}
        for key, dtype in self.inputs.items():
            values = [np.asarray(row[key], dtype).reshape(-1) for row in rows]
            table = np.zeros((len(values), max(map(len, values))), dtype)
            for at, value in enumerate(values):
                table[at, : len(value)] = value
            feeds[key] = table
        return list(self.compute(feeds))
