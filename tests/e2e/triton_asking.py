"""How tritonclient asks a platform: its address, certificate and token are the program's arguments."""

from __future__ import annotations

import sys

import numpy as np
import tritonclient.grpc as triton

ADDRESS, CA, TOKEN = sys.argv[1:]
HEADERS = {"authorization": f"Bearer {TOKEN}"}
client = triton.InferenceServerClient(ADDRESS, ssl=True, root_certificates=CA)
X = np.array([[1, 2], [3, 4]], np.float32)


def given(name: str, array: np.ndarray, datatype: str) -> triton.InferInput:
    made = triton.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array)
    return made


def texts(*values: bytes) -> np.ndarray:
    return np.array(values, np.object_)
