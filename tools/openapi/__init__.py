"""Writes the OpenAPI document of the REST side of our contracts.

Everything in it is read from descriptors; no contract is known here by name but google.rpc.Status.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from google.protobuf import descriptor_pb2

from tools.contracts import Contracts
from tools.openapi.errors import ContractError
from tools.openapi.operations import Operations
from tools.openapi.schemas import Schema, Schemas

__all__ = ["ContractError", "document", "render"]

_DESCRIPTION = """\
The REST side of the platform's gRPC API. Resources follow the API Improvement Proposals (google.aip.dev); bodies are
proto3 JSON: 64-bit integers are strings, field names are camelCase, bytes are base64. Send an access token as
`Authorization: Bearer …`. An error is a `google.rpc.Status` whose details hold one `google.rpc.ErrorInfo`."""


def render(compiled: descriptor_pb2.FileDescriptorSet, own: Iterable[str]) -> str:
    """The document as JSON text.

    Args:
        compiled: all files with all imports and with source info.
        own: names of the files that are ours.

    Raises:
        ContractError: a contract cannot be said as REST.
    """
    return json.dumps(document(Contracts(compiled, own)), indent=2, ensure_ascii=False) + "\n"


def document(contracts: Contracts) -> Schema:
    """The document as an OpenAPI 3.0 object.

    Raises:
        ContractError: as for `render`.
    """
    schemas = Schemas(contracts)
    operations = Operations(contracts, schemas)
    paths: dict[str, Schema] = {}
    tags: dict[str, str] = {}
    for method in contracts.methods():
        for path, verb, operation in operations.of(method):
            if verb in paths.setdefault(path, {}):
                other = paths[path][verb]["operationId"]
                raise ContractError(f"{method.full_name}: {verb} {path} is taken by {other}")
            paths[path][verb] = operation
            service = method.containing_service
            if tags.setdefault(service.name, contracts.comment(service)) != contracts.comment(service):
                raise ContractError(f"{service.full_name}: another package has a service of this name")
    return {
        "openapi": "3.0.3",
        "info": {"title": "Tiation", "version": "v1", "description": _DESCRIPTION},
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "tags": [{"name": name, "description": tags[name]} for name in sorted(tags)],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": schemas.components(),
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "An access token, from `TokenService.ExchangeApiKey` or `tiation token`.",
                }
            },
        },
    }
