"""TokenService."""

from __future__ import annotations

from tiation.security.v1 import token_pb2 as pb
from tiation.security.v1 import token_pb2_grpc

from mesh.call import Context
from mesh.resource import tenant_of
from mesh.shelf import timestamp
from security.exchange import ApiKeyExchange

__all__ = ["TokenServicer"]


class TokenServicer(token_pb2_grpc.TokenServiceServicer):
    """Issues tokens.

    Args:
        exchange: the core.
        default_ttl_s: how long a token holds when the request does not say.
    """

    def __init__(self, exchange: ApiKeyExchange, default_ttl_s: float) -> None:
        self._exchange = exchange
        self._default_ttl_s = default_ttl_s

    async def ExchangeApiKey(self, request: pb.ExchangeApiKeyRequest, _: Context) -> pb.AccessToken:
        """A token for an API key."""
        ttl_s = request.ttl.ToTimedelta().total_seconds() if request.HasField("ttl") else self._default_ttl_s
        issued = await self._exchange.exchange(
            request.api_key, tenant=tenant_of(request.parent), role=request.role, ttl_s=ttl_s
        )
        return pb.AccessToken(token=issued.token, expire_time=timestamp(issued.expire_time), subject=issued.subject)
