"""The gRPC server of a service: mTLS, health, reflection, limits, and a drain that loses no call."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from mesh.channel import MAX_MESSAGE_BYTES
from mesh.errors import Code, TiationError
from mesh.http2.server import Http2Server
from mesh.interceptor import CallInterceptor, Stages
from mesh.methods import methods_of
from mesh.service import Registration
from mesh.svid import SvidSource

__all__ = ["AddressInUseError", "MeshServer"]

_HEALTH = "grpc.health.v1.Health"


class AddressInUseError(TiationError):
    """The service cannot listen where it should."""

    code = Code.UNAVAILABLE
    reason = "ADDRESS_IN_USE"


class MeshServer:
    """Serves servicers to peers with a certificate of the mesh.

    Args:
        servicers: pairs of a generated registration function and its servicer.
        stages: what every call passes.
        svid: the service's certificate.
        reflected: full names of services that reflection shows; empty for those that it serves.
    """

    def __init__(
        self,
        servicers: Sequence[tuple[Registration, Any]],
        stages: Stages,
        svid: SvidSource,
        reflected: Sequence[str] = (),
    ) -> None:
        names = [_service_of(servicer) for _, servicer in servicers]
        served = [*names, _HEALTH, reflection.SERVICE_NAME]
        interceptor = CallInterceptor(methods_of(served), stages)
        self._server = Http2Server(interceptor, svid, MAX_MESSAGE_BYTES)
        self._names = names
        self._health = health.aio.HealthServicer()
        for register, servicer in servicers:
            register(servicer, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        shown = {*(reflected or names), _HEALTH, reflection.SERVICE_NAME}
        reflecting = reflection.aio.ReflectionServicer(sorted(shown))
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(reflecting, self._server)
        self.port = 0

    async def listen(self, address: str, *, early: bool = False) -> None:
        """Bind and serve; the health check says NOT_SERVING until `serving`, or is `early` for those who start by it.

        Raises:
            AddressInUseError: something else listens there.
        """
        try:
            if not early:  # grpc's own servicer says SERVING by itself
                await self._health.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
            self.port = await self._server.listen(address)
        except OSError:
            raise AddressInUseError(
                f"cannot listen on {address}; is something else using the port?", address=address
            ) from None

    async def serving(self) -> None:
        """Tell health checks that calls are welcome."""
        for name in ("", *self._names):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def drain(self, grace_s: float) -> None:
        """Tell health checks to look elsewhere, let calls under way finish, then stop."""
        await self._health.enter_graceful_shutdown()
        await asyncio.sleep(0)
        await self._server.stop(grace_s)


def _service_of(servicer: object) -> str:
    """The full name of the service that a servicer implements, from the generated base class's module."""
    for base in type(servicer).__mro__:
        if base.__module__.endswith("_pb2_grpc"):
            messages = __import__(base.__module__.removesuffix("_grpc"), fromlist=["DESCRIPTOR"])
            service = messages.DESCRIPTOR.services_by_name[base.__name__.removesuffix("Servicer")]
            return str(service.full_name)
    raise TypeError(f"{type(servicer).__name__} implements no generated servicer")
