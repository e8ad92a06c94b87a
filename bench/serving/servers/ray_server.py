"""Ray Serve, with its batching. Arguments: the port."""

import os
import sys
import time

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
from ray import serve
from runtime import INPUTS, MAX_BATCH
from starlette.requests import Request

QUIET = {"enable_access_log": False, "log_level": "WARNING"}


def deployment(name):
    """A model as Ray Serve runs it."""

    @serve.deployment(name=name, max_ongoing_requests=256, ray_actor_options={"num_cpus": 0.1}, logging_config=QUIET)
    class Served:
        def __init__(self):
            sys.path.insert(0, os.environ["BENCH_SERVERS"])
            from runtime import Model

            self._model = Model(name)

        @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=0.001)
        async def compute(self, rows):
            return self._model.compute_rows(rows)

        async def __call__(self, request: Request):
            return (await self.compute(await request.json())).tolist()

    return Served.bind()


ray.init(num_cpus=2, include_dashboard=False, object_store_memory=200 * 2**20, logging_level="error")
serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])}, logging_config=QUIET)
for name in INPUTS:
    serve.run(deployment(name), name=name, route_prefix=f"/{name}")
while True:
    time.sleep(3600)
