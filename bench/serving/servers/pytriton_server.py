"""PyTriton, with its own batcher and no delay. Arguments: the gRPC port, another port."""

import sys

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig
from runtime import INPUTS, MAX_BATCH, SHAPES, Model


def bound(model):
    """What computes a batch of a model."""

    @batch
    def compute(**feeds):
        return {model.output: model.compute(feeds)}

    return compute


port, other = map(int, sys.argv[1:3])
config = TritonConfig(
    grpc_port=port, http_port=other, grpc_address="127.0.0.1", http_address="127.0.0.1", allow_metrics=False
)
with Triton(config=config) as triton:
    for name in INPUTS:
        model = Model(name)
        triton.bind(
            model_name=name,
            infer_func=bound(model),
            inputs=[Tensor(name=key, dtype=dtype, shape=SHAPES[name]) for key, dtype in model.inputs.items()],
            outputs=[Tensor(name=model.output, dtype=np.float32, shape=(model.width,))],
            config=ModelConfig(max_batch_size=MAX_BATCH, batcher=DynamicBatcher(max_queue_delay_microseconds=0)),
        )
    triton.serve()
