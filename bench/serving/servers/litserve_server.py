"""LitServe, with its batcher. Arguments: the port."""

import sys

import litserve
from runtime import INPUTS, MAX_BATCH, Model


class Served(litserve.LitAPI):
    """What LitServe asks for."""

    def __init__(self, name, **options):
        super().__init__(**options)
        self._name = name

    def setup(self, device):
        """Load the model."""
        self._model = Model(self._name)

    def decode_request(self, request):
        """The row as it came."""
        return request

    def batch(self, inputs):
        """Keep rows apart: they may have other lengths."""
        return inputs

    def predict(self, rows):
        """Answer a batch, or one row where none waits beside it."""
        if isinstance(rows, dict):
            return self._model.compute_rows([rows])[0]
        return self._model.compute_rows(rows)

    def unbatch(self, output):
        """Rows again."""
        return output

    def encode_response(self, output):
        """As JSON."""
        return {"output": output.tolist()}


if __name__ == "__main__":
    apis = [Served(name, max_batch_size=MAX_BATCH, batch_timeout=0.001, api_path=f"/{name}") for name in INPUTS]
    server = litserve.LitServer(apis, accelerator="cpu", workers_per_device=1, timeout=60)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="error")
