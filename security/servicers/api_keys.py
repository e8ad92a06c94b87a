"""ApiKeyService."""

from __future__ import annotations

from datetime import UTC

from google.protobuf import empty_pb2
from tiation.security.v1 import api_key_pb2 as pb
from tiation.security.v1 import api_key_pb2_grpc

from mesh.call import Context
from mesh.pagination import Pages
from mesh.resource import tenant_of
from mesh.shelf import Shelf, timestamp
from security.api_keys import Pepper, new_key_text
from security.directory import Directory
from security.entries import ApiKey

__all__ = ["ApiKeyServicer"]


class ApiKeyServicer(api_key_pb2_grpc.ApiKeyServiceServicer):
    """Keeps API keys.

    Args:
        directory: the core.
        pages: makes and checks page tokens.
        pepper: turns keys into what is kept of them.
    """

    def __init__(self, directory: Directory, pages: Pages, pepper: Pepper) -> None:
        self._pepper = pepper
        self._shelf = Shelf[ApiKey, pb.ApiKey](
            directory, pages, ApiKey, "apiKeys", _show, _read, ("display_name", "expire_time", "labels")
        )

    async def GetApiKey(self, request: pb.GetApiKeyRequest, _: Context) -> pb.ApiKey:
        """One key, without its secret."""
        return await self._shelf.get(request.name)

    async def ListApiKeys(self, request: pb.ListApiKeysRequest, _: Context) -> pb.ListApiKeysResponse:
        """A page of keys, without their secrets."""
        keys, token = await self._shelf.list(request.parent, request)
        return pb.ListApiKeysResponse(api_keys=keys, next_page_token=token)

    async def CreateApiKey(self, request: pb.CreateApiKeyRequest, _: Context) -> pb.ApiKey:
        """A new key, with its secret; a repeated request gets the key without it, as only its hash was kept."""
        text = new_key_text(tenant_of(request.parent), request.api_key_id)
        sent = _read(request.api_key)
        digest = self._pepper.digest(text)
        body = ApiKey(sent.principal, digest, sent.display_name, sent.expire_time)
        name = self._shelf.name(request.parent, request.api_key_id)
        entry = await self._shelf.create(name, request.api_key, request, body)
        message = self._shelf.message(entry)
        if entry.body.digest == digest:
            message.key_string = str(text)
        return message

    async def UpdateApiKey(self, request: pb.UpdateApiKeyRequest, _: Context) -> pb.ApiKey:
        """A changed key."""
        return await self._shelf.update(request.api_key, request.update_mask)

    async def DeleteApiKey(self, request: pb.DeleteApiKeyRequest, _: Context) -> empty_pb2.Empty:
        """One key less."""
        await self._shelf.delete(request.name, request.etag)
        return empty_pb2.Empty()


def _show(body: ApiKey) -> pb.ApiKey:
    message = pb.ApiKey(principal=body.principal, display_name=body.display_name)
    if body.expire_time is not None:
        message.expire_time.CopyFrom(timestamp(body.expire_time))
    return message


def _read(message: pb.ApiKey) -> ApiKey:
    expire_time = message.expire_time.ToDatetime(UTC) if message.HasField("expire_time") else None
    return ApiKey(message.principal, "", message.display_name, expire_time)
