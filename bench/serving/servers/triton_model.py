"""A model of Triton's python backend, with dynamic batching and no delay."""

import os
import sys

import numpy as np
import triton_python_backend_utils as backend

sys.path.insert(0, os.environ["BENCH_SERVERS"])

from runtime import Model


class TritonPythonModel:
    """What the backend asks for."""

    def initialize(self, args):
        """Load the model."""
        self._model = Model(args["model_name"])

    def execute(self, requests):
        """Answer the requests that Triton has put together."""
        held = [
            {name: backend.get_input_tensor_by_name(request, name).as_numpy() for name in self._model.inputs}
            for request in requests
        ]
        joined = {name: np.concatenate([each[name] for each in held]) for name in self._model.inputs}
        found, answers, at = self._model.compute(joined), [], 0
        for each in held:
            rows = len(next(iter(each.values())))
            tensor = backend.Tensor(self._model.output, found[at : at + rows])
            answers.append(backend.InferenceResponse([tensor]))
            at += rows
        return answers
