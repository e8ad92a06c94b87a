"""ConnectionService."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import msgspec
from google.protobuf import duration_pb2, empty_pb2, json_format
from google.protobuf.struct_pb2 import Struct, Value
from tiation.integration.v1 import connection_pb2 as pb
from tiation.integration.v1 import connection_pb2_grpc

from integration.connections import Connection, ConnectionRules, Operation, Retry
from integration.errors import IntegrationError
from integration.invoke import Invoker
from integration.vault import Vault
from mesh.call import Context
from mesh.catalogue import Catalogue
from mesh.entries import Entry
from mesh.errors import InvalidError
from mesh.masks import masked_fields
from mesh.pagination import Pages
from mesh.resource import tenant_of
from mesh.shelf import Shelf

__all__ = ["ConnectionServicer"]

_CHANGEABLE = ("config", "credentials", "operations", "retry", "labels")
_DEFAULT = Operation("", {})


class ConnectionServicer(connection_pb2_grpc.ConnectionServiceServicer):
    """Keeps connections and carries out their operations.

    Args:
        catalogue: keeps them.
        pages: makes and checks page tokens.
        rules: checks them.
        vault: seals credentials.
        invoker: carries out operations.
    """

    def __init__(
        self, catalogue: Catalogue, pages: Pages, rules: ConnectionRules, vault: Vault, invoker: Invoker
    ) -> None:
        self._shelf: Shelf[Connection, pb.Connection] = Shelf(
            catalogue, pages, Connection, "connections", _show, _read, _CHANGEABLE
        )
        self._catalogue = catalogue
        self._rules = rules
        self._vault = vault
        self._invoker = invoker

    async def GetConnection(self, request: pb.GetConnectionRequest, _: Context) -> pb.Connection:
        """One connection, without its credentials."""
        return await self._shelf.get(request.name)

    async def ListConnections(self, request: pb.ListConnectionsRequest, _: Context) -> pb.ListConnectionsResponse:
        """A page of connections."""
        connections, token = await self._shelf.list(request.parent, request)
        return pb.ListConnectionsResponse(connections=connections, next_page_token=token)

    async def CreateConnection(self, request: pb.CreateConnectionRequest, _: Context) -> pb.Connection:
        """A new connection."""
        name = self._shelf.name(request.parent, request.connection_id)
        credentials = dict(request.connection.credentials)
        connection = _read(request.connection)
        if not connection.connector:
            raise InvalidError("connection.connector", "is missing; `sql` and `http` are two")
        await self._rules.check(name, connection, credentials)
        entry = await self._shelf.create(
            name,
            request.connection,
            request,
            self._sealed(name, connection, credentials),
            validate_only=request.validate_only,
        )
        return self._shelf.message(entry)

    async def UpdateConnection(self, request: pb.UpdateConnectionRequest, _: Context) -> pb.Connection:
        """A changed connection; credentials that are sent replace those of the same name, empty ones remove them."""
        sent = request.connection
        current = await self._catalogue.get(Connection, sent.name)
        fields = masked_fields(sent, request.update_mask, _CHANGEABLE)
        read = _read(sent)
        own = {field: getattr(read, field) for field in fields - {"labels", "credentials"}}
        changed = msgspec.structs.replace(current.body, **own)
        credentials = self._vault.open(tenant_of(sent.name), sent.name, current.body.sealed)
        if "credentials" in fields:
            credentials = {key: value for key, value in (credentials | dict(sent.credentials)).items() if value}
        await self._rules.check(sent.name, changed, credentials)
        body = self._sealed(sent.name, changed, credentials)

        def change(entry: Entry[Connection]) -> Entry[Connection]:
            labels = dict(sent.labels) if "labels" in fields else entry.labels
            return replace(entry, body=body, labels=labels)

        etag = sent.etag or self._shelf.message(current).etag  # what was checked is what is replaced
        updated = await self._catalogue.update(Connection, sent.name, etag, change, validate_only=request.validate_only)
        return self._shelf.message(updated)

    async def DeleteConnection(self, request: pb.DeleteConnectionRequest, _: Context) -> empty_pb2.Empty:
        """One connection less."""
        await self._shelf.delete(request.name, request.etag)
        return empty_pb2.Empty()

    async def TestConnection(self, request: pb.TestConnectionRequest, _: Context) -> pb.TestConnectionResponse:
        """Whether the system answers."""
        entry = await self._catalogue.get(Connection, request.name)
        began = time.perf_counter_ns()
        try:
            detail, works = await self._invoker.test(entry), True
        except IntegrationError as error:
            detail, works = error.message, False
        answer = pb.TestConnectionResponse(ok=works, detail=detail)
        answer.latency.FromNanoseconds(time.perf_counter_ns() - began)
        return answer

    async def Invoke(self, request: pb.InvokeRequest, context: Context) -> pb.InvokeResponse:
        """One operation carried out."""
        entry = await self._catalogue.get(Connection, request.name)
        value = json_format.MessageToDict(request.input) if request.HasField("input") else None
        patience_s = context.time_remaining()
        done = await self._invoker.invoke(entry, request.operation_id, value, request.effect_key, patience_s)
        output = Value()
        json_format.ParseDict(done.output, output)
        return pb.InvokeResponse(output=output, replayed=done.replayed, attempts=done.attempts)

    def _sealed(self, name: str, connection: Connection, credentials: dict[str, str]) -> Connection:
        return msgspec.structs.replace(
            connection,
            sealed=self._vault.seal(tenant_of(name), name, credentials),
            credential_names=tuple(sorted(credentials)),
        )


def _show(body: Connection) -> pb.Connection:
    message = pb.Connection(connector=body.connector, credential_names=body.credential_names)
    message.config.CopyFrom(_struct(body.config))
    for operation in body.operations:
        message.operations.add(
            operation_id=operation.operation_id,
            spec=_struct(operation.spec),
            effect=operation.effect,
            input=operation.input,
            output=operation.output,
            timeout=_duration(operation.timeout_s),
        )
    message.retry.max_attempts = body.retry.max_attempts
    message.retry.initial_backoff.CopyFrom(_duration(body.retry.initial_backoff_s))
    message.retry.max_backoff.CopyFrom(_duration(body.retry.max_backoff_s))
    return message


def _read(message: pb.Connection) -> Connection:
    return Connection(
        connector=message.connector,
        config=json_format.MessageToDict(message.config),
        operations=tuple(_operation(operation) for operation in message.operations),
        retry=_retry(message.retry),
    )


def _operation(message: pb.ConnectionOperation) -> Operation:
    effect = pb.ConnectionOperation.Effect.Name(message.effect)
    return Operation(
        operation_id=message.operation_id,
        spec=json_format.MessageToDict(message.spec),
        effect="UNSAFE" if effect == "EFFECT_UNSPECIFIED" else effect,
        input=message.input,
        output=message.output,
        timeout_s=_seconds(message, "timeout", _DEFAULT.timeout_s),
    )


def _retry(message: pb.RetryPolicy) -> Retry:
    default = Retry()
    return Retry(
        max_attempts=message.max_attempts or default.max_attempts,
        initial_backoff_s=_seconds(message, "initial_backoff", default.initial_backoff_s),
        max_backoff_s=_seconds(message, "max_backoff", default.max_backoff_s),
    )


def _seconds(message: Any, field: str, default: float) -> float:  # noqa: ANN401 -- any message
    return float(getattr(message, field).ToTimedelta().total_seconds()) if message.HasField(field) else default


def _duration(seconds: float) -> duration_pb2.Duration:
    duration = duration_pb2.Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration


def _struct(values: dict[str, object]) -> Struct:
    return json_format.ParseDict(values, Struct())
