"""Starting runs at the orchestrator, on behalf of whoever set a webhook up."""

from __future__ import annotations

import uuid

import grpc.aio
from google.protobuf import json_format
from tiation.orchestrator.v1 import run_pb2, run_pb2_grpc

from integration.deliveries import Delivery
from mesh.channel import Channels
from mesh.resource import parent_of
from mesh.status import remote_error

__all__ = ["OrchestratorRuns"]

_CALL_S = 15.0


class OrchestratorRuns:
    """Starts runs.

    Args:
        channels: to the other services.
    """

    def __init__(self, channels: Channels) -> None:
        self._channels = channels

    async def start(self, delivery: Delivery) -> None:
        """Start a delivery's run; the same request again is answered with the run that there is.

        Raises:
            RemoteError: what the orchestrator says instead.
        """
        run_id = delivery.run.rpartition("/")[2]
        request = run_pb2.CreateRunRequest(
            parent=parent_of(delivery.run), run_id=run_id, request_id=str(uuid.uuid5(uuid.NAMESPACE_URL, delivery.key))
        )
        request.run.labels["webhook"] = delivery.webhook.rpartition("/")[2]
        if delivery.input is not None:
            json_format.ParseDict(delivery.input, request.run.input)
        stub = self._channels.stub(run_pb2_grpc.RunServiceStub, "orchestrator")
        metadata = self._channels.on_behalf("orchestrator", delivery.requester)
        try:
            await stub.CreateRun(request, metadata=metadata, timeout=_CALL_S)
        except grpc.aio.AioRpcError as error:
            raise remote_error(error) from None
