"""KServe's own server. Arguments: the gRPC port, another port."""

import sys

from kserve import InferOutput, InferResponse, Model, ModelServer
from runtime import INPUTS
from runtime import Model as Computed


class Served(Model):
    """What KServe asks for."""

    def __init__(self, name):
        super().__init__(name)
        self._computed = Computed(name)
        self.ready = True

    def load(self):
        """Nothing: it is loaded."""
        return True

    def predict(self, payload, headers=None, response_headers=None):
        """Answer a request."""
        found = self._computed.compute({each.name: each.as_numpy() for each in payload.inputs})
        output = InferOutput(name=self._computed.output, shape=list(found.shape), datatype="FP32")
        output.set_data_from_numpy(found, binary_data=True)
        return InferResponse(response_id=payload.id or "1", model_name=self.name, infer_outputs=[output])


server = ModelServer(
    grpc_port=int(sys.argv[1]), http_port=int(sys.argv[2]), workers=1, access_log_format=None,
    enable_latency_logging=False,
)  # fmt: skip
server.start([Served(name) for name in INPUTS])
