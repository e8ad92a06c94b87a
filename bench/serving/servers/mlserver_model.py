"""A model of MLServer; its settings ask for adaptive batching."""

import os
import sys

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse

sys.path.insert(0, os.environ["BENCH_SERVERS"])

from runtime import Model


class Served(MLModel):
    """What MLServer asks for."""

    async def load(self):
        """Load the model."""
        self._served = Model(self.name)
        return True

    async def predict(self, payload):
        """Answer a batch."""
        feeds = {each.name: NumpyCodec.decode_input(each) for each in payload.inputs}
        output = NumpyCodec.encode_output(self._served.output, self._served.compute(feeds))
        return InferenceResponse(model_name=self.name, outputs=[output])
