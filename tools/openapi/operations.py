"""Methods with a google.api.http option as OpenAPI operations.

How a message looks as JSON is decided in `schemas.py`, how a path is read in `paths.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

from tools.contracts import Contracts
from tools.openapi import dialects
from tools.openapi.errors import ContractError
from tools.openapi.paths import Path, parse
from tools.openapi.schemas import Schema, Schemas, is_map, sentence

__all__ = ["Operations"]

_INTERNAL = 2  # tiation.mesh.v1.Access.Visibility
_HTTP_BODY = "google.api.HttpBody"
# Messages that JSON writes as one string, so that a query parameter can hold them.
_TEXT = {"google.protobuf.Duration", "google.protobuf.FieldMask", "google.protobuf.Timestamp"}


class Operations:
    """Writes the operations of one document."""

    def __init__(self, contracts: Contracts, schemas: Schemas) -> None:
        self._contracts = contracts
        self._schemas = schemas
        self._singulars = _singulars(contracts)

    def of(self, method: MethodDescriptor) -> Iterator[tuple[str, str, Schema]]:
        """Yield (path, HTTP method, operation) for each of the method's bindings; none if it is internal.

        Raises:
            ContractError: the option names a field that is not there, or a path that OpenAPI cannot say.
        """
        http = self._contracts.option(method, "google.api.http")
        access = self._contracts.option(method, "tiation.mesh.v1.access")
        if http is None or (access is not None and access.visibility == _INTERNAL):
            return
        for number, rule in enumerate([http, *http.additional_bindings], start=1):
            verb = rule.WhichOneof("pattern")
            if verb is None or verb == "custom":
                raise ContractError(f"{method.full_name}: google.api.http needs one of get, put, post, delete, patch")
            path = parse(getattr(rule, verb), self._singulars)
            operation = self._describe(method, access, number)
            operation["parameters"] = [*self._path_parameters(path), *self._query(method, rule, path)]
            if rule.body:
                operation["requestBody"] = self._body(method, rule, path)
            operation["responses"] = self._responses(method, rule)
            yield path.template, verb, operation

    def _describe(self, method: MethodDescriptor, access: Any, number: int) -> Schema:  # noqa: ANN401
        service = method.containing_service.name
        comment = self._contracts.comment(method)
        operation: Schema = {
            "operationId": f"{service}_{method.name}" + (f"_{number}" if number > 1 else ""),
            "summary": sentence(comment),
            "description": comment,
            "tags": [service],
        }
        if access is not None and access.anyone:
            operation["security"] = []
        if access is not None and access.permission:
            operation["x-tiation-permission"] = access.permission
        return operation

    def _path_parameters(self, path: Path) -> list[Schema]:
        return [
            {
                "name": parameter.name,
                "in": "path",
                "required": True,
                "description": f"Which of the `{parameter.collection}`." if parameter.collection else "",
                "schema": {"type": "string", "pattern": "^.+$" if parameter.rest else "^[^/]+$"},
            }
            for parameter in path.parameters
        ]

    def _query(self, method: MethodDescriptor, rule: Any, path: Path) -> list[Schema]:  # noqa: ANN401
        if rule.body == "*":
            return []
        taken = {*path.fields, rule.body}
        return list(self._query_fields(method.input_type, taken, "", ""))

    def _query_fields(
        self, message: Descriptor, taken: set[str], proto_prefix: str, json_prefix: str
    ) -> Iterator[Schema]:
        for field in message.fields:
            name = f"{proto_prefix}{field.name}"
            json_name = f"{json_prefix}{field.json_name}"
            if name in taken or is_map(field):
                continue
            inner = field.message_type
            if inner is None or inner.full_name in _TEXT:
                schema = self._schemas.field(field)
                parameter = {
                    "name": json_name,
                    "in": "query",
                    "description": schema.pop("description", ""),
                    "schema": schema,
                }
                if self._schemas.required(field):
                    parameter["required"] = True
                yield parameter
            elif not field.is_repeated and not inner.full_name.startswith("google.protobuf."):
                yield from self._query_fields(inner, taken, f"{name}.", f"{json_name}.")

    def _body(self, method: MethodDescriptor, rule: Any, path: Path) -> Schema:  # noqa: ANN401
        message = method.input_type
        if rule.body == "*":
            rest = [field for field in message.fields if field.name not in path.fields]
            whole = len(rest) == len(message.fields)
            if message.full_name == _HTTP_BODY:
                return {"required": True, "content": self._raw(method)}
            schema = self._schemas.reference(message) if whole else self._schemas.message(message, rest)
            required = any(self._schemas.required(field) for field in rest)
            return {"required": required, "content": {"application/json": {"schema": schema}}}
        field = _field(method, message, rule.body)
        if field.message_type is not None and field.message_type.full_name == _HTTP_BODY:
            return {"required": self._schemas.required(field), "content": self._raw(method)}
        schema = self._schemas.field(field)
        description = schema.pop("description", "")
        if set(schema) == {"allOf"}:
            schema = schema["allOf"][0]
        if rule.WhichOneof("pattern") == "patch" and field.message_type is not None:
            # A part of the resource is enough for PATCH: what Create requires, it does not.
            schema = self._schemas.message(field.message_type, field.message_type.fields)
            schema.pop("required", None)
        return {
            "description": description,
            "required": self._schemas.required(field),
            "content": {"application/json": {"schema": schema}},
        }

    def _responses(self, method: MethodDescriptor, rule: Any) -> Schema:  # noqa: ANN401
        message, dialect = method.output_type, self._dialect(method)
        status = self._contracts.pool.FindMessageTypeByName("google.rpc.Status")
        if message.full_name == _HTTP_BODY:
            content = dialects.answers(dialect, streams=method.server_streaming) if dialect else _raw()
        else:
            if rule.response_body:
                schema = self._schemas.field(_field(method, message, rule.response_body))
            else:
                schema = self._schemas.reference(message)
            media = "text/event-stream" if method.server_streaming else "application/json"
            content = {media: {"schema": schema}}
        events = method.server_streaming and not dialect
        answer = "A stream of events, each with one of these as its data." if events else "Success."
        error = dialects.error(dialect) if dialect else self._schemas.reference(status)
        return {
            "200": {"description": answer, "content": content},
            "default": {
                "description": "Any error.",
                "content": {"application/json": {"schema": error}},
            },
        }

    def _raw(self, method: MethodDescriptor) -> Schema:
        dialect = self._dialect(method)
        return dialects.body(dialect) if dialect else _raw()

    def _dialect(self, method: MethodDescriptor) -> int:
        """Whose words the method's paths speak; 0 for our own."""
        return int(self._contracts.option(method.containing_service, "tiation.mesh.v1.dialect") or 0)


def _raw() -> Schema:
    return {"*/*": {"schema": {"type": "string", "format": "binary"}}}


def _field(method: MethodDescriptor, message: Descriptor, name: str) -> FieldDescriptor:
    if name not in message.fields_by_name:
        raise ContractError(f"{method.full_name}: google.api.http names {name!r}, which {message.full_name} lacks")
    return message.fields_by_name[name]


def _singulars(contracts: Contracts) -> dict[str, str]:
    """What one thing in each collection is called, as the patterns of google.api.resource have it."""
    singulars: dict[str, str] = {}
    for message in contracts.messages():
        resource = contracts.option(message, "google.api.resource")
        for pattern in resource.pattern if resource is not None else []:
            segments = pattern.split("/")
            for collection, variable in zip(segments[::2], segments[1::2], strict=False):
                singulars.setdefault(collection, variable.strip("{}"))
    return singulars
